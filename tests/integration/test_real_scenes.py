"""Real Sentinel scenes and real parcels, against rasterstats."""

import os

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterstats import zonal_stats

from card.find import folder
from extraction.worker import Worker
from store import catalogue, db
from store.config import WorkerSettings
from store.parcels import campaigns
from store.parcels.importing import import_parcels

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
TOUCHED = 1


pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture
def strickhof(database, shared_data, tmp_path, monkeypatch):
    """29 Sentinel-2 dates over 281 declared parcels near Zurich, extracted."""
    monkeypatch.setenv("CBM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CBM_POLL_S", "0.1")
    place = shared_data / "ch_strickhof_s2_2022"
    campaign = campaigns.create(database, "ch", 2022)
    import_parcels(
        database,
        campaign,
        place / "parcels" / "ZH_Polygons_2020_ESCH_EPSG32632.shp",
        id_column="GIS_ID",
    )
    found = folder.scan(place / "s2")
    assert not found.problems
    catalogue.register(database, found.scenes)
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 29
    return database


def test_real_scenes_agree_with_rasterstats(strickhof, capsys):
    """count, min, max equal; mean, std, percentiles to 1e-6, for all parcels by pixel centres."""
    geometries = {
        row.pid: bytes(row.wkb)
        for row in db.fetch_all(strickhof, "SELECT pid, ST_AsBinary(geom) AS wkb FROM ch.parcels")
    }
    scenes = db.fetch_all(strickhof, "SELECT obsid, reference, bands FROM scene ORDER BY obsid")
    compared, by_touch = 0, set()
    for scene in scenes:
        rows = db.fetch_all(
            strickhof, "SELECT * FROM ch.s2 WHERE obsid = %s ORDER BY pid", (scene.obsid,)
        )
        by_touch |= {row.pid for row in rows if row.flags & TOUCHED}
        rows = [row for row in rows if not row.flags & TOUCHED]
        for band in ("B04", "B8A"):
            compared += compare(scene.bands[band], band, rows, geometries)
    assert compared > 29 * 2 * 60
    with capsys.disabled():
        print(f"\n{compared} series values agree with rasterstats; by touch: pids {by_touch}")


def compare(source, band, rows, geometries):
    with rasterio.open(source["href"]) as raster:
        pixels, transform = raster.read(source["index"]).astype(np.float64), raster.transform
    theirs = zonal_stats(
        [geometries[row.pid] for row in rows],
        np.where(pixels == 0, np.nan, pixels),
        affine=transform,
        nodata=np.nan,
        stats="count mean std min max percentile_25 percentile_50 percentile_75",
    )
    for row, other in zip(rows, theirs, strict=True):
        ours = {name: getattr(row, f"{band.lower()}_{name}") for name in
                ("count", "mean", "std", "min", "max", "p25", "p50", "p75")}  # fmt: skip
        assert ours["count"] == other["count"], (band, row.pid)
        if not ours["count"]:
            assert ours["mean"] is None
            continue
        assert ours["min"] == pytest.approx(other["min"], rel=1e-7)
        assert ours["max"] == pytest.approx(other["max"], rel=1e-7)
        assert ours["mean"] == pytest.approx(other["mean"], rel=1e-6)
        assert ours["std"] == pytest.approx(other["std"], rel=1e-6, abs=1e-8)
        for name, percentile in (("p25", 25), ("p50", 50), ("p75", 75)):
            assert ours[name] == pytest.approx(other[f"percentile_{percentile}"], rel=1e-6)
    return len(rows)


def test_every_real_parcel_is_accounted_for(strickhof):
    for row in db.fetch_all(strickhof, "SELECT * FROM work"):
        assert row.signatures + row.outside + row.nodata == 281
        assert row.signatures > 80


def test_winter_wheat_greens_in_may_and_ripens_in_july(strickhof, shared_data):
    """NDVI of the Bramenwies field: 0.26 on 5 March, 0.89 on 14 May, 0.27 on 25 July."""
    field = db.fetch_one(
        strickhof,
        """SELECT pid FROM ch.parcels
           WHERE ST_Contains(geom, ST_Transform(ST_SetSRID(ST_Point(%s, %s), 4326), 32632))""",
        bramenwies(shared_data),
    )
    series = {
        f"{row.obstime:%m-%d}": (row.nir - row.red) / (row.nir + row.red)
        for row in db.fetch_all(
            strickhof,
            """SELECT obstime, b8a_mean AS nir, b04_mean AS red FROM ch.s2 JOIN scene USING (obsid)
               WHERE pid = %s AND b04_count > 0""",
            (field.pid,),
        )
    }
    assert series["03-05"] == pytest.approx(0.26, abs=0.05)
    assert series["05-14"] == pytest.approx(0.89, abs=0.05)
    assert series["07-25"] == pytest.approx(0.27, abs=0.05)


def bramenwies(shared_data):
    """Longitude and latitude of a point in the field."""
    path = shared_data / "ch_strickhof_s2_2022" / "parcels" / "Bramenwies.shp"
    point = shapely.point_on_surface(shapely.from_wkb(pyogrio.raw.read(path)[2])[0])
    return point.x, point.y
