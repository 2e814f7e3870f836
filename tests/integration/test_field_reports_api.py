"""Parcels of the field reports over HTTP: the API gives each parcel that the import takes."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio import warp

from card.find import folder
from store import catalogue, db
from store.parcels import campaigns, codes
from store.parcels.importing import import_parcels
from tests.integration.small_api import SmallApi, serving

ONE_CODE = """
    UPDATE nl.parcels SET code = %s
    WHERE pid = 1 AND campaign_id = (SELECT id FROM campaign WHERE year = 2020)"""


@pytest.fixture(scope="module")
def api(cluster, template, shared_data, tmp_path_factory) -> Iterator[SmallApi]:
    """Campaigns nl 2020 of strange_ids.gpkg, nl 2021 of code_only.gpkg; the scene minus_inf."""
    reports = shared_data / "field_reports/parcels"

    def fill(conn: db.Connection) -> None:
        strange = campaigns.create(conn, "nl", 2020)
        import_parcels(conn, strange, reports / "strange_ids.gpkg", id_column="id")
        france = campaigns.create(conn, "nl", 2021)
        import_parcels(conn, france, reports / "code_only.gpkg", id_column="ID_PARCEL",
                       crop_code_column="CODE_CULTU")  # fmt: skip
        catalogue.register(conn, folder.scan(shared_data / "field_reports/scenes/minus_inf").scenes)

    with serving(cluster, template, tmp_path_factory.mktemp("api"), fill) as served:
        yield served


def ask(api: SmallApi, route: str, year: int, pid: str, **more: object):
    params = {"aoi": "nl", "year": year, "pid": pid, **more}
    return api.get(f"/query/{route}", params=params)


def test_every_id_that_the_import_takes_can_be_asked_for(api):
    rows = db.fetch_all(api.conn, "SELECT code FROM nl.parcels_2020")
    assert len(rows) == 4
    for (code,) in rows:
        assert ask(api, "parcelByID", 2020, code).json()["pid"] == [code]
        assert ask(api, "parcelPeers", 2020, code).status_code == 200
        series = ask(api, "parcelTimeSeries", 2020, code, tstype="s2", band="B04")
        assert series.status_code == 200, (code, series.text)


@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(code=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=105))
def test_any_id_without_a_flaw_can_be_asked_for(api, code):
    good = codes.flaw(code) is None and code.strip(" ") == code
    if good:
        db.execute(api.conn, ONE_CODE, (code,))
    answer = ask(api, "parcelByID", 2020, code)
    if good:
        assert answer.json()["pid"] == [code]
    else:
        assert answer.status_code in (200, 400, 404)


def test_peers_are_by_crop_code_where_there_are_no_names(api):
    near = ask(api, "parcelPeers", 2021, "101", distance=5000).json()
    assert near["pids"] == ["102", "103"]
    db.execute(api.conn, "UPDATE nl.parcels SET crop_name = 'wheat' WHERE code = '102'")
    assert ask(api, "parcelPeers", 2021, "101", distance=5000).json()["pids"] == ["103"]


@pytest.mark.parametrize("lut", ["5_95", "1_99", "-20_-5_-20_-5_-20_-5", "None"])
def test_a_chip_of_decibels_shows_greys_and_where_there_is_no_power_nothing(api, shared_data, lut):
    [file] = (shared_data / "field_reports/scenes/minus_inf").glob("*_VV_db.tif")
    with rasterio.open(file) as raster:
        values = raster.read(1)
        lon, lat = warp.transform(raster.crs, 4326, [500_300], [5_205_700])
    answer = api.get("/query/chipsByLocation", params={
        "lon": lon[0], "lat": lat[0], "bands": "VVb", "lut": lut, "chipsize": 600,
        "start_date": "2024-06-01", "end_date": "2024-07-31", "format": "json"})  # fmt: skip
    [address] = answer.json()["chips"]
    with Image.open(io.BytesIO(api.get(address, auth=None).content)) as image:
        pixels = np.asarray(image.convert("RGBA"))
    assert pixels.shape[:2] == values.shape
    valid = np.isfinite(values)
    assert (pixels[..., 3] == np.where(valid, 255, 0)).all()
    assert np.unique(pixels[valid][:, 0]).size > 20
