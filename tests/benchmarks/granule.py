"""One synthetic full-size Sentinel-2 granule, as JPEG 2000 and as zstd COG, made once and kept.

Pixels are a smooth field, plus each parcel's own mean, plus noise, under clouds and a wedge of
nodata at the orbit's edge. The noise is chosen so that the JPEG 2000 bands are as large as those
of real cloud-free products (106 to 123 MB at 10 m); coded as Sentinel-2 products are.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import from_origin

from standalone.synthetic import parcels as synthetic
from store.grid import Grid

EPSG = synthetic.EPSG
_WEST_M, _NORTH_M = (float(edge) for edge in synthetic.TILES["32TMT"])
GRID_10M = Grid(EPSG, 10.0, _WEST_M, _NORTH_M, 10980, 10980)
GRID_20M = Grid(EPSG, 20.0, _WEST_M, _NORTH_M, 5490, 5490)

SCL = "SCL"
BAND_GRIDS: Mapping[str, Grid] = {
    "B02": GRID_10M,
    "B03": GRID_10M,
    "B04": GRID_10M,
    "B08": GRID_10M,
    "B05": GRID_20M,
    "B11": GRID_20M,
    SCL: GRID_20M,
}

_VERSION = 3
_SEED = 20240613
_BASE_DN = {"B02": 600, "B03": 800, "B04": 900, "B05": 1300, "B08": 2900, "B11": 2200}
_FIELD_DN, _PARCEL_DN, _NOISE_DN = 300, 250, 45
_CLOUD_DN, _CLOUD_FIELD_DN = 6000, 1200
_CLOUDY_ABOVE, _SHADOW_BELOW = 1.1, -1.6
_STRIP_PX = 1024

_TILE_PX = {10.0: 1024, 20.0: 640}
"""Side of a JPEG 2000 tile by resolution, as gdalinfo shows it of real products."""

_JP2 = {
    "driver": "JP2OpenJPEG",
    "REVERSIBLE": "YES",
    "QUALITY": "100",
    "RESOLUTIONS": "5",
    "PROGRESSION": "LRCP",
    "PRECINCTS": ",".join(["{256,256}"] * 5),
}
_COG = {
    "driver": "COG",
    "COMPRESS": "ZSTD",
    "LEVEL": "9",
    "PREDICTOR": "2",
    "BLOCKSIZE": "512",
    "NUM_THREADS": "2",
    "BIGTIFF": "NO",
}


@dataclass(frozen=True)
class Granule:
    """The files of the granule.

    Attributes:
        jp2: by band name (six bands and SCL).
        cog: the same pixels.
    """

    jp2: Mapping[str, Path]
    cog: Mapping[str, Path]

    def read(self, band: str) -> NDArray[Any]:
        """A whole band, (row, col), from the COG."""
        with rasterio.open(self.cog[band]) as source:
            return np.asarray(source.read(1))


def tile_shape_px(grid: Grid) -> tuple[int, int]:
    """Rows and columns of a tile of the JPEG 2000 files on a grid."""
    return _TILE_PX[grid.res_m], _TILE_PX[grid.res_m]


def affine(grid: Grid) -> rasterio.Affine:
    """The grid's transform as rasterio and rasterstats take it."""
    return from_origin(grid.west_m, grid.north_m, grid.res_m, grid.res_m)


def load(
    folder: Path, parcel_key: str, wkb: Sequence[bytes], say: Callable[[str], None]
) -> Granule:
    """Open the granule below a folder; make what is missing, drop one of other parcels.

    Args:
        folder: where benchmark data are kept.
        parcel_key: names the parcel set.
        wkb: the parcels, in the granule's CRS.
        say: receives what is made.
    """
    home = folder / f"granule-{_VERSION}-{parcel_key}"
    for outdated in set(folder.glob("granule-*")) - {home}:
        shutil.rmtree(outdated)
    files = {
        suffix: {band: home / f"{band}.{suffix}" for band in BAND_GRIDS}
        for suffix in ("jp2", "tif")
    }
    missing = [
        band
        for band in BAND_GRIDS
        if not (files["jp2"][band].exists() and files["tif"][band].exists())
    ]
    home.mkdir(parents=True, exist_ok=True)
    for grid in {BAND_GRIDS[band]: None for band in missing}:
        of_pixels = labels(wkb, grid)
        for band in (each for each in missing if BAND_GRIDS[each] == grid):
            pixels = _classes(grid) if band == SCL else _band(band, grid, of_pixels)
            say(f"coding {band}, {grid.width_px} x {grid.height_px} px")
            _write(files["tif"][band], pixels, grid, _COG)
            _write(files["jp2"][band], pixels, grid, _jp2(band))
    return Granule(files["jp2"], files["tif"])


def labels(wkb: Sequence[bytes], grid: Grid) -> NDArray[np.int32]:
    """Number of the parcel (from 1) at each pixel centre, 0 for none; the last one of several."""
    shapes = zip(shapely.from_wkb(wkb), range(1, len(wkb) + 1), strict=True)
    return np.asarray(
        rasterize(shapes, (grid.height_px, grid.width_px), transform=affine(grid), dtype="int32")
    )


def _band(name: str, grid: Grid, of_pixels: NDArray[np.int32]) -> NDArray[np.uint16]:
    seed = sorted(_BASE_DN).index(name)
    draws = np.random.default_rng((_SEED, seed))
    field = _Field((_SEED, 100 + seed), knots=40)
    means = draws.normal(0, _PARCEL_DN, int(of_pixels.max()) + 1).astype(np.float32)
    means[0] = 0
    cloud = _clouds()
    pixels = np.empty(of_pixels.shape, np.uint16)
    for rows in _strips(grid):
        noise = draws.standard_normal(pixels[rows].shape, np.float32) * _NOISE_DN
        ground = _BASE_DN[name] + _FIELD_DN * field.on(grid, rows) + means[of_pixels[rows]]
        cover = cloud.on(grid, rows)
        values = np.where(cover > _CLOUDY_ABOVE, _CLOUD_DN + _CLOUD_FIELD_DN * cover, ground)
        pixels[rows] = np.clip(values + noise, 1, 2**15 - 1)
        pixels[rows][_beyond_orbit(grid, rows)] = 0
    return pixels


def _classes(grid: Grid) -> NDArray[np.uint8]:
    """Scene classes: vegetation 4, bare 5, cloud 8 and 9, cloud shadow 3, no data 0."""
    cloud, ground = _clouds(), _Field((_SEED, 200), knots=60)
    pixels = np.empty((grid.height_px, grid.width_px), np.uint8)
    for rows in _strips(grid):
        cover = cloud.on(grid, rows)
        pixels[rows] = np.where(ground.on(grid, rows) > 0, 4, 5)
        pixels[rows][cover < _SHADOW_BELOW] = 3
        pixels[rows][cover > _CLOUDY_ABOVE] = 8
        pixels[rows][cover > _CLOUDY_ABOVE + 0.4] = 9
        pixels[rows][_beyond_orbit(grid, rows)] = 0
    return pixels


class _Field:
    """A smooth random surface over the tile: unit normal knots, linear in between."""

    def __init__(self, seed: tuple[int, int], knots: int) -> None:
        self._knots = np.random.default_rng(seed).standard_normal((knots, knots), np.float32)

    def on(self, grid: Grid, rows: slice) -> NDArray[np.float32]:
        n = len(self._knots)
        across = np.linspace(0, n - 1, grid.width_px)
        down = np.linspace(0, n - 1, grid.height_px)[rows]
        upper = np.minimum(down.astype(int), n - 2)
        columns = np.stack([np.interp(across, np.arange(n), row) for row in self._knots])
        share = (down - upper)[:, None].astype(np.float32)
        columns = columns.astype(np.float32)
        return np.asarray(columns[upper] * (1 - share) + columns[upper + 1] * share)


_clouds = partial(_Field, (_SEED, 300), 25)


def _strips(grid: Grid) -> list[slice]:
    return [
        slice(top, min(top + _STRIP_PX, grid.height_px))
        for top in range(0, grid.height_px, _STRIP_PX)
    ]


def _beyond_orbit(grid: Grid, rows: slice) -> NDArray[np.bool_]:
    """The wedge in the lower left corner that the orbit did not see."""
    down = (np.arange(grid.height_px)[rows, None] + 0.5) / grid.height_px
    across = (np.arange(grid.width_px)[None] + 0.5) / grid.width_px
    return np.asarray(across + 0.02 < (down - 0.35) * 0.3)


def _jp2(band: str) -> dict[str, Any]:
    tile_px = _TILE_PX[BAND_GRIDS[band].res_m]
    nbits = {} if band == SCL else {"NBITS": "15"}
    # In lower case: rasterio drops an upper-case BLOCKXSIZE of a raster that is not tiled.
    return _JP2 | {"blockxsize": tile_px, "blockysize": tile_px} | nbits


def _write(path: Path, pixels: NDArray[Any], grid: Grid, options: Mapping[str, Any]) -> None:
    half = path.with_suffix(f".half{path.suffix}")
    with rasterio.open(
        half,
        "w",
        width=grid.width_px,
        height=grid.height_px,
        count=1,
        dtype=pixels.dtype,
        crs=f"EPSG:{grid.epsg}",
        transform=affine(grid),
        nodata=0,
        **options,
    ) as sink:
        sink.write(pixels, 1)
    if "blockxsize" in options:
        _check_tiles(half, (options["blockysize"], options["blockxsize"]))
    half.replace(path)
    half.with_name(f"{half.name}.aux.xml").unlink(missing_ok=True)


def _check_tiles(path: Path, tile_px: tuple[int, int]) -> None:
    """What a window costs depends on the tiles: other ones would be measured in silence."""
    with rasterio.open(path) as source:
        if source.block_shapes != [tile_px]:
            raise RuntimeError(f"{path} has blocks of {source.block_shapes}, not {tile_px}")
