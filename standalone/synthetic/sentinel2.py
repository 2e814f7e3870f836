"""A season of Sentinel-2 over the synthetic Member State, as L2A products in SAFE layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import from_origin

from standalone.synthetic import safe
from standalone.synthetic.crops import COVERS, S2_BANDS, reflectance
from standalone.synthetic.landscape import Landscape, Raster, smooth_noise, stream
from standalone.synthetic.safe import SafeProduct
from store.grid import Grid

Classes = NDArray[np.uint8]

BANDS_10M = ("B02", "B03", "B04", "B08")
BANDS_20M = ("B05", "B11")


@dataclass(frozen=True)
class Overpass:
    """One pass of a satellite.

    Attributes:
        platform: S2A or S2B.
        start: start of sensing, UTC.
        relative_orbit: 65 or 108, as over the real tiles.
        cloud_share: of the ground, 0..1.
        baselines: the processing baselines its products are delivered in, oldest first.
    """

    platform: str
    start: datetime
    relative_orbit: int
    cloud_share: float
    baselines: tuple[str, ...]


def _pass(date: str, platform: str, orbit: int, cloud: float, *baselines: str) -> Overpass:
    time = {65: "10:16:01", 108: "10:30:31"}[orbit]
    return Overpass(
        platform,
        datetime.fromisoformat(f"{date}T{time}+00:00").astimezone(UTC),
        orbit,
        cloud,
        baselines,
    )


SEASON = (
    _pass("2024-03-06", "S2B", 65, 0.08, "05.10"),
    _pass("2024-03-24", "S2A", 108, 0.35, "05.10"),
    _pass("2024-04-10", "S2A", 65, 0.00, "03.01"),
    _pass("2024-04-28", "S2B", 108, 0.12, "05.10"),
    _pass("2024-05-10", "S2A", 65, 0.55, "05.10"),
    _pass("2024-05-23", "S2A", 108, 0.10, "05.10"),
    _pass("2024-06-04", "S2B", 65, 0.02, "05.10"),
    _pass("2024-06-17", "S2B", 108, 0.30, "05.10"),
    _pass("2024-06-29", "S2A", 65, 0.00, "03.01", "05.10"),
    _pass("2024-07-12", "S2A", 108, 0.85, "05.10"),
    _pass("2024-07-24", "S2B", 65, 0.10, "05.11"),
    _pass("2024-08-08", "S2A", 65, 0.05, "05.11"),
    _pass("2024-08-26", "S2B", 108, 0.20, "05.11"),
    _pass("2024-09-12", "S2B", 65, 0.00, "05.11"),
    _pass("2024-10-07", "S2A", 65, 0.40, "05.11"),
)
"""Dates on which these satellites and orbits really passed; clouds and baselines are invented.

10 April is delivered only in a baseline without BOA_ADD_OFFSET; 29 June in that and in a newer
one. That such a baseline is too old for 2024 is meant: the offset is the product's to say.
"""

_EDGE_ORBIT = 108
_EDGE_AT = 0.72
_EDGE_SLOPE = 0.21
_OLD_BIAS = 1.04
_PROCESSING = timedelta(hours=4, minutes=12)
_REPROCESSING = timedelta(days=131, hours=7)
_TEXTURE = (-0.05, -0.04, -0.07, -0.03, 0.06, -0.03)
_NOISE = 0.025
_CLOUD = (0.62, 0.60, 0.60, 0.61, 0.64, 0.42)
_CIRRUS = (0.30, 0.29, 0.28, 0.28, 0.27, 0.10)
_SHADOW_LEFT = (0.55, 0.48, 0.42, 0.38, 0.34, 0.30)
_SHADOW_20M = (9, 14)
_HIDDEN, _CLOUDY, _SHADED, _VEILED, _GREEN_NDVI = 0.65, 0.15, 0.3, 0.25, 0.42
_WATER = [cover.name for cover in COVERS].index("water")


@dataclass(frozen=True, eq=False)
class Sky:
    """What is between sensor and ground, (height, width) at 20 m, shares in 0..1.

    Attributes:
        cloud: opaque cloud.
        shadow: of those clouds.
        cirrus: thin cloud.
    """

    cloud: Raster
    shadow: Raster
    cirrus: Raster


@dataclass(frozen=True, eq=False)
class View:
    """One overpass over the whole landscape.

    Attributes:
        bands: reflectance by band name, 10 m or 20 m.
        scl: scene classes at 20 m, 0 where the swath has ended.
        swath: polygon that is seen, metres.
    """

    bands: dict[str, Raster]
    scl: Classes
    swath: shapely.Polygon


def products(overpass: Overpass, windows: dict[str, Grid]) -> Iterator[SafeProduct]:
    """The products an overpass is delivered in: each tile's window in each baseline."""
    for number, baseline in enumerate(overpass.baselines):
        made = overpass.start + _PROCESSING + number * _REPROCESSING
        for tile, grid in windows.items():
            yield SafeProduct(
                overpass.platform,
                overpass.start,
                overpass.relative_orbit,
                tile,
                baseline,
                made,
                grid,
            )


def view(land: Landscape, overpass: Overpass, seed: int) -> View:
    """What an overpass sees of a landscape whose height and width are even numbers of pixels."""
    name = f"s2 {overpass.start:%Y-%m-%d}"
    height, width = (n // 2 for n in land.label.shape)
    sky = _sky(stream(seed, name, "sky"), (height, width), overpass.cloud_share)
    clear = _ground(land, overpass, stream(seed, name, "noise"))
    seen = {band: _through(sky, clear[band], i) for i, band in enumerate(S2_BANDS)}
    inside, swath = _swath(land.grid, overpass.relative_orbit)
    scl = np.where(inside, _classes(land, sky, clear), 0).astype(np.uint8)
    bands = {band: _halved(seen[band]) if band in BANDS_20M else seen[band] for band in S2_BANDS}
    return View(bands, scl, swath)


def write_product(folder: Path, product: SafeProduct, seen: View, whole: Grid) -> Path:
    """Cut a product's window out of a view and write it as a SAFE folder.

    Args:
        folder: where the .SAFE folder goes.
        product: what to write; its grid lies within `whole`.
        seen: the view.
        whole: grid of the view, 10 m.

    Returns:
        The .SAFE folder.
    """
    home = folder / f"{product.name}.SAFE"
    images = []
    for band in (*BANDS_10M, *BANDS_20M, "SCL"):
        res = 10 if band in BANDS_10M else 20
        image = seen.scl if band == "SCL" else _dn(seen.bands[band], seen.scl, product)
        images.append(product.image(band, res))
        path = home / f"{images[-1]}.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        window = _window(product.grid, whole, res)
        write_jp2(path, image[window], _coarser(product.grid, res))
    counts = np.bincount(seen.scl[_window(product.grid, whole, 20)].ravel(), minlength=12)
    valid = max(int(counts[1:].sum()), 1)
    shares = {c: 100 * int(n) / valid for c, n in enumerate(counts) if c}
    shares[0] = 100 * int(counts[0]) / int(counts.sum())
    footprint = shapely.clip_by_rect(seen.swath, *product.grid.bounds_m)
    safe.write_metadata(home, product, images, footprint, shares)
    return home


def write_jp2(path: Path, image: NDArray[np.uint16] | Classes, grid: Grid) -> None:
    """Write one band as lossless JPEG 2000 in tiles of 1024 pixels, as ESA's products are."""
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        height=grid.height_px,
        width=grid.width_px,
        count=1,
        dtype=image.dtype,
        crs=f"EPSG:{grid.epsg}",
        transform=from_origin(grid.west_m, grid.north_m, grid.res_m, grid.res_m),
        QUALITY="100",
        REVERSIBLE="YES",
        BLOCKXSIZE="1024",
        BLOCKYSIZE="1024",
        RESOLUTIONS="5",
    ) as out:
        out.write(image, 1)


def _sky(rng: np.random.Generator, shape: tuple[int, int], share: float) -> Sky:
    """Clouds, their shadows to the north-west (the sun stands in the south-east), and cirrus."""
    down, right = _SHADOW_20M
    height, width = shape
    field = smooth_noise(rng, (height + down, width + right), 70)
    veil = smooth_noise(rng, shape, 160)
    if share <= 0:
        nothing = np.zeros(shape, dtype=np.float32)
        return Sky(nothing, nothing, nothing)
    cloud = np.clip((field - np.quantile(field, 1 - share)) / 0.35, 0, 1)
    cirrus = np.clip((veil - np.quantile(veil, 1 - share / 2)) / 1.5, 0, 0.4)
    return Sky(cloud[:height, :width], cloud[down:, right:], cirrus)


def _ground(land: Landscape, overpass: Overpass, rng: np.random.Generator) -> dict[str, Raster]:
    """Reflectance at 10 m without clouds, by band."""
    table = land.by_label(reflectance, overpass.start.timetuple().tm_yday).astype(np.float32)
    haze = rng.normal(0, 0.003)
    bands = {}
    for i, band in enumerate(S2_BANDS):
        noise = rng.standard_normal(land.label.shape, dtype=np.float32)
        bands[band] = table[land.label, i] * (1 + _TEXTURE[i] * land.texture + _NOISE * noise)
        bands[band] += np.float32(haze + 0.002) + np.float32(0.0015) * noise[::-1]
    return bands


def _through(sky: Sky, ground: Raster, band: int) -> Raster:
    """The ground of one band as seen through the sky."""
    cloud, shadow, cirrus = (
        a.repeat(2, axis=0).repeat(2, axis=1) for a in (sky.cloud, sky.shadow, sky.cirrus)
    )
    lit = ground * (1 - shadow * (1 - _SHADOW_LEFT[band]))
    veiled = lit + cirrus * (_CIRRUS[band] - lit)
    relief = 0.85 + 0.3 * cloud
    return np.asarray(veiled + cloud * (_CLOUD[band] * relief - veiled), dtype=np.float32)


def _classes(land: Landscape, sky: Sky, clear: dict[str, Raster]) -> Classes:
    """Scene classes at 20 m as ESA numbers them; thin edges of clouds pass for unclassified."""
    red, infrared = _halved(clear["B04"]), _halved(clear["B08"])
    green = (infrared - red) / (infrared + red) > _GREEN_NDVI
    water = land.cover[land.label[::2, ::2]] == _WATER
    rules = [
        (sky.cloud > _HIDDEN, 9),
        (sky.cloud > _CLOUDY, 8),
        (sky.cirrus > _VEILED, 10),
        (sky.shadow > _SHADED, 3),
        (sky.cloud > 0, 7),
        (water, 6),
        (green, 4),
    ]
    conditions, values = zip(*rules, strict=True)
    return np.asarray(np.select(conditions, values, default=5), dtype=np.uint8)


def _swath(grid: Grid, orbit: int) -> tuple[NDArray[np.bool_], shapely.Polygon]:
    """Which 20 m pixels an orbit sees, and the ground it sees as a polygon.

    The edge orbit's swath ends within the landscape, on a slant from north-east to south-west.
    """
    west, south, east, north = grid.bounds_m
    top = west + (east - west) * _EDGE_AT + (north - south) * _EDGE_SLOPE / 2
    shape = (grid.height_px // 2, grid.width_px // 2)
    if orbit != _EDGE_ORBIT:
        return np.ones(shape, dtype=np.bool_), shapely.box(*grid.bounds_m)
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    inside = west + 20 * cols + 10 <= top - _EDGE_SLOPE * (20 * rows + 10)
    bottom = top - _EDGE_SLOPE * (north - south)
    return inside, shapely.Polygon([(west, north), (top, north), (bottom, south), (west, south)])


def _dn(reflectances: Raster, scl: Classes, product: SafeProduct) -> NDArray[np.uint16]:
    """Digital numbers: reflectance * 10 000 - offset, at least 1; 0 where there are no data."""
    bias = 1.0 if product.offset_dn else _OLD_BIAS
    dn = np.rint(reflectances * (bias * safe.QUANTIFICATION)) - product.offset_dn
    times = len(dn) // len(scl)
    ended = (scl == 0).repeat(times, axis=0).repeat(times, axis=1)
    return np.where(ended, 0, np.clip(dn, 1, 2**15 - 1)).astype(np.uint16)


def _halved(raster: Raster) -> Raster:
    """Mean of 2 x 2 pixels: 10 m to 20 m."""
    height, width = raster.shape
    return np.asarray(raster.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)))


def _window(part: Grid, whole: Grid, res_m: int) -> tuple[slice, slice]:
    row = round((whole.north_m - part.north_m) / res_m)
    col = round((part.west_m - whole.west_m) / res_m)
    grid = _coarser(part, res_m)
    return slice(row, row + grid.height_px), slice(col, col + grid.width_px)


def _coarser(grid: Grid, res_m: int) -> Grid:
    height, width = (round(n * grid.res_m / res_m) for n in (grid.height_px, grid.width_px))
    return Grid(grid.epsg, res_m, grid.west_m, grid.north_m, height, width)
