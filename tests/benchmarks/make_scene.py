"""Sentinel-1 scenes of the benchmark: real metadata, pixels and terrain of our own."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from card.make import backscatter, dem, orbit, products
from card.make.annotation import LookupTable
from card.make.backscatter import BackscatterPlan, BackscatterSettings, RadarImage
from store.grid import Grid
from tests import grd

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
EPSG = 32633
_LOOKS = 4.4
_BAND_LINES = 256


def metadata(folder: Path) -> Path:
    """Real products without pixels, unpacked."""
    place = folder / "s1-metadata"
    if not place.is_dir():
        half = place.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        for archive in sorted((SHARED / "s1_metadata").glob("*.zip")):
            grd.unpack(SHARED, half, archive.name.split(".")[0])
        half.replace(place)
    return place


@dataclass(frozen=True)
class SmallScene:
    """A corner of a product, and terrain on a square of the map inside it.

    Attributes:
        safe: the product, one polarisation.
        dem: terrain on the square, metres of UTM.
        wide_dem: the same with ground around.
        grid: the square, 1.44 million cells.
    """

    safe: Path
    dem: Path
    wide_dem: Path
    grid: Grid


def small(folder: Path) -> SmallScene:
    """The scene on which others' programs are compared with ours."""
    place = folder / "s1-small"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    safe = grd.make(SHARED, place, _texture, polarisations=("vv",))
    whole, _ = backscatter.output_grid(backscatter.footprint(_images(safe)), BackscatterSettings())
    height, width, around = 1600, 900, 150
    row, col = (whole.height_px - height) // 2, (whole.width_px - width) // 2
    grid = Grid(EPSG, 10.0, whole.west_m + 10 * col, whole.north_m - 10 * row, height, width)
    wide = Grid(
        EPSG, 10.0, grid.west_m - 10 * around, grid.north_m + 10 * around,
        height + 2 * around, width + 2 * around,
    )  # fmt: skip
    narrow, broad = _terrain(place / "dem.tif", grid), _terrain(place / "wide.tif", wide)
    return SmallScene(safe, narrow, broad, grid)


def small_plan(scene: SmallScene, **settings: object) -> BackscatterPlan:
    """CARD-BS of the small scene, on its square alone."""
    return _plan(scene.safe, scene.wide_dem, "ellipsoid", scene.grid, **settings)


def geometric(plan: BackscatterPlan) -> BackscatterPlan:
    """The same as beta0 with the noise left in: what others call geometric correction."""
    images = tuple(
        replace(
            image,
            calibration=replace(image.calibration, gamma=image.calibration.beta),
            noise=replace(image.noise, range=_nothing(image.noise.range), blocks=()),
        )
        for image in plan.images
    )
    settings = replace(plan.settings, radiometry="gamma0_ellipsoid")
    return replace(plan, images=images, settings=settings)


def real_size(folder: Path) -> BackscatterPlan:
    """A product of real size, both polarisations, speckle on hills; every 12th tile of it."""
    place = folder / "s1-full"
    if not place.is_dir():
        half = place.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        _make_full(half)
        half.replace(place)
    safe = next(place.glob("*.SAFE"))
    plan = _plan(safe, place / "dem.tif", None, None)
    return replace(plan, tiles=plan.tiles[5::12])


def _make_full(place: Path) -> None:
    safe = grd.unpack(SHARED, place, grd.NAME)
    (safe / "measurement").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ("", "calibration/calibration-", "calibration/noise-"):
        path = next(safe.glob(f"annotation/{name}s1b*-vv-*.xml"))
        shutil.copy(
            path, path.with_name(path.name.replace("-vv-", "-vh-").replace("-001.", "-002."))
        )
    for path in sorted(safe.glob("annotation/s1b*.xml")):
        with rasterio.open(
            safe / "measurement" / f"{path.stem}.tiff", "w", driver="GTiff", dtype="uint16",
            count=1, height=16705, width=26102,
        ) as out:  # fmt: skip
            speckle = rng.gamma(_LOOKS, 1 / _LOOKS, (_BAND_LINES, 26102))
            band = (200 * np.sqrt(speckle)).astype(np.uint16)
            for line in range(0, 16705, _BAND_LINES):
                lines = min(_BAND_LINES, 16705 - line)
                out.write(band[:lines], 1, window=((line, line + lines), (0, 26102)))
    grd.terrain(
        place / "dem.tif", lambda lon, lat: 400 + 300 * np.sin(lon * 40) * np.cos(lat * 50),
        11.5, 43.2, 4.5, 1 / 1200, tiled=True, compress="zstd",
    )  # fmt: skip


def _plan(
    safe: Path, model: Path, geoid: str | None, grid: Grid | None, **settings: object
) -> BackscatterPlan:
    product, images = products.read(safe), _images(safe)
    described = images[0].annotation
    fitted = orbit.fit(described.vectors, 0.0, described.last_s)
    outline = backscatter.footprint(images)
    lon, lat = [point[0] for point in outline], [point[1] for point in outline]
    terrain = dem.find(model, geoid, (min(lon), min(lat), max(lon), max(lat)))
    plan = backscatter.plan(product, images, fitted, terrain, BackscatterSettings(**settings))
    if grid is None:
        return plan
    tiles = tuple(backscatter.all_tiles(grid, plan.settings.tile_px))
    return replace(plan, grid=grid, tiles=tiles)


def _images(safe: Path) -> tuple[RadarImage, ...]:
    return backscatter.read_images(products.read(safe))


def _nothing(table: LookupTable) -> LookupTable:
    return replace(table, values=0 * table.values)


def _texture(corner: grd.Corner) -> NDArray[np.float64]:
    y, x = np.mgrid[0 : corner.lines, 0 : corner.samples]
    fine = np.sin(x / 3.3 + y / 4.1)
    return 200 * (1 + 0.3 * np.sin(x / 7) * np.cos(y / 9) + 0.2 * fine)


def _terrain(path: Path, grid: Grid) -> Path:
    x = grid.west_m + 10 * (np.arange(grid.width_px) + 0.5)
    y = grid.north_m - 10 * (np.arange(grid.height_px) + 0.5)
    east, north = np.meshgrid(x, y)
    affine = rasterio.Affine(10, 0, grid.west_m, 0, -10, grid.north_m)
    heights = 400 + 150 * np.sin(east / 900) * np.cos(north / 1100)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=1, height=y.size, width=x.size,
        crs=f"EPSG:{grid.epsg}", transform=affine,
    ) as out:  # fmt: skip
        out.write(heights.astype(np.float32), 1)
    return path
