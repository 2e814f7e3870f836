"""A Member State of a few squares and scenes, for tests of the queue, the writer and the worker."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from store import db
from store.catalogue import BandSource, Scene

EPSG = 32632
WEST_M, NORTH_M = 500_000.0, 5_250_000.0


def square(row: int, col: int, size: int = 2) -> shapely.Geometry:
    """Square of whole 10 m pixels, its upper left at pixel (row, col) of the test rasters."""
    x, y = WEST_M + 10 * col, NORTH_M - 10 * row
    return shapely.box(x, y - 10 * size, x + 10 * size, y)


def footprint(shape_px: tuple[int, int]) -> str:
    """MULTIPOLYGON in EPSG:4326 around a test raster."""
    box = shapely.box(
        WEST_M, NORTH_M - 10 * shape_px[0], WEST_M + 10 * shape_px[1], NORTH_M
    ).segmentize(100)
    to_wgs84 = Transformer.from_crs(EPSG, 4326, always_xy=True)
    return shapely.MultiPolygon([shapely.transform(box, to_wgs84.transform, interleaved=False)]).wkt


def add_campaign(conn, geometries, aoi="tt", year=2024) -> int:
    """Make a campaign with one parcel set of these geometries, coded p1, p2 ..."""
    campaign = db.fetch_one(
        conn,
        "SELECT cbm_make_campaign(%s, %s, '', %s, %s, 0) AS id",
        (aoi, year, f"{year - 1}-10-01", f"{year}-12-31"),
    ).id
    box = shapely.box(5, 40, 15, 55).wkt
    set_id = db.fetch_one(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "VALUES (%s, md5(random()::text), %s, ST_GeomFromText(%s, 4326)) RETURNING id",
        (campaign, len(geometries), box),
    ).id
    for pid, geometry in enumerate(geometries, 1):
        db.execute(
            conn,
            db.compose(
                "INSERT INTO {parcels} VALUES (%s, %s, %s, %s, 'maize', '01', "
                "ST_Multi(ST_GeomFromText(%s, 32632)), %s)",
                parcels=(aoi, "parcels"),
            ),
            (campaign, pid, set_id, f"p{pid}", geometry.wkt, bytes(16)),
        )
    db.execute(
        conn,
        "UPDATE campaign SET srid = 32632, next_pid = %s WHERE id = %s",
        (len(geometries) + 1, campaign),
    )
    return campaign


def a_scene(number: int, bands=None, **facts) -> Scene:
    """Scene number n: five days after number n - 1."""
    start = datetime(2024, 4, 1, 10, 15, tzinfo=UTC) + timedelta(days=5 * number)
    known = {
        "reference": f"S2A_MSIL2A_{start:%Y%m%dT%H%M%S}_N0510_R022_T32TNT_{number:04}",
        "kind": "s2",
        "platform": "S2A",
        "obstime": start,
        "acquisition": f"S2A_{start:%Y%m%dT%H%M%S}_R022",
        "unit": "dn",
        "scale": 0.0001,
        "epsg": EPSG,
        "footprint_wkt": footprint((100, 100)),
        "bands": bands or {"B04": BandSource("/nowhere/B04.tif", nodata=0)},
        "baseline": "05.10",
    }
    return Scene(**known | facts)


def write_band(path: Path, pixels: np.ndarray, res_m: float = 10.0, **profile) -> Path:
    """Write a one-band tiled GeoTIFF at the test rasters' upper left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=pixels.shape[0],
        width=pixels.shape[1],
        count=1,
        dtype=pixels.dtype,
        crs=EPSG,
        transform=Affine(res_m, 0, WEST_M, 0, -res_m, NORTH_M),
        tiled=True,
        blockxsize=64,
        blockysize=64,
        **profile,
    ) as raster:
        raster.write(pixels, 1)
    return path


def write_scene(folder: Path, number: int, offset: float = -1000.0, seed: int = 0) -> Scene:
    """Write B04 and B08 at 10 m and SCL at 20 m of random pixels; the scene that has them."""
    rng = np.random.default_rng(1000 * seed + number)
    sources = {}
    for band in ("B04", "B08"):
        pixels = rng.integers(1, 9000, (100, 100)).astype(np.uint16)
        path = write_band(folder / f"{number}_{band}.tif", pixels, nodata=0)
        sources[band] = BandSource(str(path), offset=offset, nodata=0)
    classes = rng.integers(0, 12, (50, 50)).astype(np.uint8)
    path = write_band(folder / f"{number}_SCL.tif", classes, res_m=20.0)
    sources["SCL"] = BandSource(str(path))
    return a_scene(number, sources)
