"""CARD-BS: gamma0 of a Sentinel-1 IW GRD on the map, tile by tile.

Small 2011 (IEEE TGRS 49, 3081): beta0 less the thermal noise, divided by the area that the terrain
shows each radar pixel, brought to the map. Each tile stands alone, so tiles may be made in any
order, and memory is that of one tile.
"""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError
from rasterio.windows import Window
from shapely.geometry.base import BaseGeometry

from card.make import annotation, dem, geometry, kernels, lattice
from card.make.annotation import Annotation, Calibration, Noise
from card.make.datasets import open_measurement
from card.make.dem import Dem, Heights, Terrain
from card.make.lattice import GeometryLattice, NodeGrid
from card.make.orbit import Orbit
from card.make.products import Channel, Level1, refuse_lost
from store import raster
from store.errors import CallerError, SceneError
from store.grid import Grid

Radiometry = Literal["gamma0", "gamma0_ellipsoid"]

_NOISE_OF_BORDER_IPF = (2, 90)
"""From here on the border is filled with 0."""
_COARSE_PX = 8
_FOOTPRINT_BUFFER_M = 3000.0
"""Heights shift ground by a kilometre or two against the grid of the annotation."""
_MIN_MARGIN_PX = 16
_MAX_MARGIN_PX = 2048
_NODE_RELIEF, _NODE_SLACK_M = 1.1, 30.0
"""By how much the relief of all cells may exceed that of the nodes, which are averages."""
_WINDOW_MARGIN_PX = 3
"""Smoothing, bilinear reading and the zeros about a pixel reach one pixel each."""
_AREA_MARGIN_PX = 2
"""Around a radar window: facets beside it share, and smoothing reaches one pixel."""
_KEPT_BITS = 11
"""Of the mantissa: an error of 0.001 dB, for two thirds of the bytes."""


class OutputSettings(Protocol):
    """What an output grid is laid out by."""

    @property
    def res_m(self) -> float:
        """Pixel size."""
        ...

    @property
    def epsg(self) -> int | None:
        """CRS of the output; None is the UTM zone of the scene's centre."""
        ...


@dataclass(frozen=True)
class BackscatterSettings:
    """How CARD-BS is made.

    Attributes:
        radiometry: gamma0 flattened by the terrain, or gamma0 on the ellipsoid as the JRC's.
        res_m: pixel size.
        epsg: CRS of the output; None is the UTM zone of the scene's centre.
        smoothing: smooth the area image by [1 2 1]/4, as wide as IW GRDH's response.
        nearest_update: take the nearest ground range polynomial, not a mix of two.
        clip: negative values become 0; they are kept by default, as means of fields need them.
        least_area: share of the reference area below which a pixel has no data.
        border_db: beta0 below which the edge of old products (before IPF 2.90) is no data.
        tile_px: size of a tile.
        step_px: cells between nodes of the geometry.
    """

    radiometry: Radiometry = "gamma0"
    res_m: float = 10.0
    epsg: int | None = None
    smoothing: bool = True
    nearest_update: bool = False
    clip: bool = False
    least_area: float = 0.05
    border_db: float = -30.0
    tile_px: int = 1024
    step_px: int = 32


@dataclass(frozen=True)
class RadarImage:
    """One polarisation of a GRD, its metadata read.

    Attributes:
        polarisation: VV or VH.
        measurement: its pixels.
        annotation: its geometry.
        calibration: its tables.
        noise: its noise.
    """

    polarisation: str
    measurement: Path
    annotation: Annotation
    calibration: Calibration
    noise: Noise


@dataclass(frozen=True)
class Tile:
    """A rectangle of the output grid, ends excluded."""

    row0: int
    row1: int
    col0: int
    col1: int


@dataclass(frozen=True)
class BackscatterTile:
    """What was made of a tile.

    Attributes:
        tile: where it lies.
        values: float32[bands, rows, columns]; NaN is no data.
        flags: uint8[rows, columns], bits of card.make.kernels.
        angles: uint8[rows, columns], local incidence angle in degrees; 255 is unknown.
    """

    tile: Tile
    values: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    angles: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BackscatterPlan:
    """All that CARD-BS of a product is made of.

    Attributes:
        product: the GRD.
        images: its polarisations.
        orbit: over its lines.
        dem: the terrain, its part that is needed.
        settings: how.
        grid: the output grid.
        tiles: that meet the scene, in the order they are made.
    """

    product: Level1
    images: tuple[RadarImage, ...]
    orbit: Orbit
    dem: Dem
    settings: BackscatterSettings
    grid: Grid
    tiles: tuple[Tile, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands, VV first."""
        return tuple(image.polarisation for image in self.images)

    @cached_property
    def signal(self) -> npt.NDArray[np.bool_] | None:
        """Where the image is no border noise, in cells of 8 pixels; None where 0 marks it."""
        if self.product.ipf >= _NOISE_OF_BORDER_IPF:
            return None
        masks = [signal_cells(image, self.settings.border_db) for image in self.images]
        return np.asarray(np.logical_and.reduce(masks))


def read_images(product: Level1) -> tuple[RadarImage, ...]:
    """Read the metadata of a GRD's polarisations.

    Raises:
        SceneError: it is no GRD, or its files lack something.
        MissingFactError: pixels were not delivered.
    """
    if product.type != "GRD":
        raise SceneError(f"{product.folder}: CARD-BS is made of a GRD, not of an {product.type}")
    present = {channel.polarisation for channel in product.channels if channel.measurement}
    stated = {*product.polarisations, *(channel.polarisation for channel in product.channels)}
    refuse_lost(product, stated - present)
    return tuple(
        _read_image(channel, channel.measurement, product.ipf)
        for channel in product.channels
        if channel.measurement
    )


def footprint(images: tuple[RadarImage, ...]) -> list[tuple[float, float]]:
    """The outline of a scene: (longitude, latitude) of its grid's outer points, in order."""
    grid = images[0].annotation.grid
    lines, pixels = np.unique(grid.line), np.unique(grid.pixel)
    places = {
        (line, pixel): (float(lon), float(lat))
        for line, pixel, lon, lat in zip(
            grid.line, grid.pixel, grid.lon_deg, grid.lat_deg, strict=True
        )
    }
    top = [(lines[0], pixel) for pixel in pixels]
    right = [(line, pixels[-1]) for line in lines]
    bottom = [(lines[-1], pixel) for pixel in pixels[::-1]]
    left = [(line, pixels[0]) for line in lines[::-1]]
    ring = dict.fromkeys(key for side in (top, right, bottom, left) for key in side)
    return [places[key] for key in ring if key in places]


def output_grid(
    outline: list[tuple[float, float]], settings: OutputSettings
) -> tuple[Grid, BaseGeometry]:
    """The output grid of a scene, and its outline there.

    Raises:
        CallerError: the CRS of the settings is not a projected one in metres.
    """
    lon = np.array([point[0] for point in outline])
    lat = np.array([point[1] for point in outline])
    epsg = settings.epsg or _utm_zone(float(lon.mean()), float(lat.mean()))
    _refuse_unless_metric(epsg)
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
    shape = shapely.Polygon(list(zip(x, y, strict=True))).buffer(_FOOTPRINT_BUFFER_M)
    res = settings.res_m
    west, south, east, north = (
        f(bound / res) * res
        for f, bound in zip((np.floor, np.floor, np.ceil, np.ceil), shape.bounds, strict=True)
    )
    grid = Grid(
        epsg,
        res,
        float(west),
        float(north),
        round((north - south) / res),
        round((east - west) / res),
    )
    return grid, shape


def plan(
    product: Level1, images: tuple[RadarImage, ...], orbit: Orbit, terrain: Dem,
    settings: BackscatterSettings = BackscatterSettings(),
) -> BackscatterPlan:  # fmt: skip
    """Lay out the making of a product: output grid and tiles."""
    grid, shape = output_grid(footprint(images), settings)
    return BackscatterPlan(
        product,
        images,
        orbit,
        terrain,
        settings,
        grid,
        tuple(meeting_tiles(grid, shape, settings.tile_px)),
    )


@dataclass(frozen=True)
class OpenInputs:
    """The files of a plan, open for one thread, within `store.raster.gdal_env`.

    Attributes:
        terrain: the terrain model.
        measurements: a raster for each image.
    """

    terrain: Terrain
    measurements: tuple[Any, ...]


@contextmanager
def open_inputs(order: BackscatterPlan) -> Iterator[OpenInputs]:
    """Open what tiles are made from.

    Raises:
        SceneError: a file cannot be read, or is not what its annotation says.
    """
    # Uncompressed strips are read where a window lies, not whole.
    with raster.gdal_env({"GTIFF_DIRECT_IO": "YES"}), ExitStack() as stack:
        terrain = stack.enter_context(dem.open_terrain(order.dem))
        yield OpenInputs(
            terrain, tuple(stack.enter_context(_open_pixels(image)) for image in order.images)
        )


def make_tiles(order: BackscatterPlan) -> Generator[BackscatterTile, None, None]:
    """Make all tiles, one after the other.

    Raises:
        SceneError: pixels or heights cannot be read.
    """
    with open_inputs(order) as inputs:
        for tile in order.tiles:
            yield make_tile(order, tile, inputs)


def make_tile(order: BackscatterPlan, tile: Tile, inputs: OpenInputs) -> BackscatterTile:
    """Make one tile.

    Raises:
        SceneError: pixels or heights cannot be read.
    """
    blank = _blank(order, tile)
    ground = _ground(order, tile, inputs.terrain)
    if ground is None:
        blank.flags[:] = kernels.NO_HEIGHT
        return blank
    window = _radar_window(order, ground)
    if window is None:
        missing = np.isnan(ground.inner(0))
        blank.flags[:] = np.where(missing, kernels.NO_HEIGHT, kernels.BORDER)
        return blank
    ratios, status = _area_ratios(order, ground, window, blank.flags)
    images = _calibrated(order, inputs, window, ratios, status)
    _gather(order, ground, window, images, status, blank)
    return replace(blank, values=round_mantissa(blank.values))


def round_mantissa(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Values rounded to 11 bits of mantissa, half away from zero; NaN stays."""
    dropped = np.uint32(23 - _KEPT_BITS)
    bits = values.view(np.uint32) + (np.uint32(1) << (dropped - np.uint32(1)))
    bits &= ~((np.uint32(1) << dropped) - np.uint32(1))
    return np.where(np.isnan(values), np.float32(np.nan), bits.view(np.float32))


@dataclass(frozen=True)
class _Ground:
    """A tile's terrain with a margin around it, and the geometry over both.

    `margin` is (rows, columns); heights are float32[rows + 2 margins, columns + 2 margins].
    """

    tile: Tile
    margin: tuple[int, int]
    heights: Heights
    geometry: GeometryLattice

    def inner(self, around: int) -> Heights:
        """The heights of the tile and some cells around it."""
        return self.cut(self.heights, around)

    def shift(self, around: int) -> tuple[int, int]:
        """From the first node to the first cell of `inner`."""
        rows, columns = self.geometry.nodes.shift
        return rows + self.margin[0] - around, columns + self.margin[1] - around

    def cut(self, values: npt.NDArray[Any], around: int = 0) -> npt.NDArray[Any]:
        """The part of values on all cells that lies on the tile and some cells around it."""
        rows, columns = (margin - around for margin in self.margin)
        height, width = values.shape
        return np.ascontiguousarray(values[rows : height - rows, columns : width - columns])


@dataclass(frozen=True)
class _RadarWindow:
    """A rectangle of the radar image, ends excluded."""

    line0: int
    line1: int
    pixel0: int
    pixel1: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.line1 - self.line0, self.pixel1 - self.pixel0


def _ground(order: BackscatterPlan, tile: Tile, terrain: Terrain) -> _Ground | None:
    """A tile's terrain; None where the model has no height.

    Ground in layover with the tile lies up to relief / tan(incidence) away along the look
    direction: the margin grows until the relief within it asks for no more.
    """
    margin = _likely_margin(order, tile, terrain)
    while True:
        nodes = _nodes(order, tile, margin)
        heights = terrain.heights(
            order.grid, nodes.east_m, nodes.north_m, nodes.step, nodes.shift, nodes.shape
        )
        rows, columns = margin
        if np.isnan(heights[rows:-rows, columns:-columns]).all():
            return None
        low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
        built = _lattice(order, nodes, low, high)
        needed = _margin(built, high - low, order.grid.res_m)
        if needed[0] <= rows and needed[1] <= columns:
            return _Ground(tile, margin, heights, built)
        margin = max(needed[0], rows), max(needed[1], columns)


def _likely_margin(order: BackscatterPlan, tile: Tile, terrain: Terrain) -> tuple[int, int]:
    """The margin that heights at the nodes alone ask for, which are read for next to nothing."""
    margin = (_MIN_MARGIN_PX, _MIN_MARGIN_PX)
    looks = _lattice(order, _nodes(order, tile, (0, 0)), 0.0, 0.0)
    while True:
        nodes = _nodes(order, tile, margin)
        shape = nodes.north_m.size - 1, nodes.east_m.size - 1
        heights = terrain.heights(order.grid, nodes.east_m, nodes.north_m, 1, (0, 0), shape)
        if np.isnan(heights).all():
            return margin
        relief_m = float(np.nanmax(heights) - np.nanmin(heights))
        needed = _margin(looks, _NODE_RELIEF * relief_m + _NODE_SLACK_M, order.grid.res_m)
        if needed[0] <= margin[0] and needed[1] <= margin[1]:
            return margin
        margin = max(needed[0], margin[0]), max(needed[1], margin[1])


def _lattice(
    order: BackscatterPlan, nodes: NodeGrid, low_m: float, high_m: float
) -> GeometryLattice:
    return lattice.build(
        nodes, order.images[0].annotation, order.orbit, low_m, high_m,
        nearest=order.settings.nearest_update,
    )  # fmt: skip


def _nodes(order: BackscatterPlan, tile: Tile, margin: tuple[int, int]) -> NodeGrid:
    rows, columns = margin
    shape = tile.row1 - tile.row0 + 2 * rows, tile.col1 - tile.col0 + 2 * columns
    return NodeGrid(
        order.grid, order.settings.step_px, tile.row0 - rows, tile.col0 - columns, shape
    )


def _margin(built: GeometryLattice, relief_m: float, res_m: float) -> tuple[int, int]:
    """(rows, columns) that relief shifts ground by, in steps of the least margin."""
    east, north, up = built.looks
    across = np.hypot(east, north)
    shift_px = relief_m * (up / across).max() / res_m
    parts = np.abs(north / across).max(), np.abs(east / across).max()
    steps = [int(np.ceil((shift_px * part + 4) / _MIN_MARGIN_PX)) for part in parts]
    rows, columns = (min(max(step, 1) * _MIN_MARGIN_PX, _MAX_MARGIN_PX) for step in steps)
    return rows, columns


def _radar_window(order: BackscatterPlan, ground: _Ground) -> _RadarWindow | None:
    """The part of the radar image that a tile is read from; None if it is beside the image."""
    described = order.images[0].annotation
    heights = ground.inner(0)
    bounds = ground.geometry.bounds(
        _nodes(order, ground.tile, (0, 0)), float(np.nanmin(heights)), float(np.nanmax(heights))
    )
    line0, line1 = _interval(bounds[0], bounds[1], described.lines)
    pixel0, pixel1 = _interval(bounds[2], bounds[3], described.samples)
    least = 2 * _WINDOW_MARGIN_PX
    if line1 - line0 < least or pixel1 - pixel0 < least:
        return None
    return _RadarWindow(line0, line1, pixel0, pixel1)


def _interval(low: float, high: float, size: int) -> tuple[int, int]:
    start = max(int(np.floor(low)) - _WINDOW_MARGIN_PX, 0)
    return start, min(int(np.ceil(high)) + _WINDOW_MARGIN_PX + 1, size)


def _area_ratios(
    order: BackscatterPlan, ground: _Ground, window: _RadarWindow, flags: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """What beta0 (or gamma0) is multiplied with, and the bits of the mask, by radar pixel.

    Sets the bit of shadow on the map.
    """
    settings, built = order.settings, ground.geometry
    around = _AREA_MARGIN_PX
    areas = np.zeros([size + 2 * around for size in window.shape], np.float32)
    folds = np.zeros(areas.shape, np.uint8)
    shadow = np.zeros(ground.heights.shape, np.uint8)
    kernels.scatter_areas(
        ground.heights, built.scaled(ground.heights), built.coefficients, built.nodes.step,
        *built.nodes.shift, built.conversions.lines, built.conversions.coefficients_px,
        built.conversions.nearest, settings.res_m, built.turn, window.line0 - around,
        window.pixel0 - around, areas, folds, shadow,
    )  # fmt: skip
    if shadow.any():
        kernels.cast_shadows(ground.heights, *_ray(built, settings.res_m), shadow)
    flags |= ground.cut(shadow) * np.uint8(kernels.SHADOW)
    inner = (slice(around, -around), slice(around, -around))
    status = np.ascontiguousarray(folds[inner])
    if settings.radiometry == "gamma0_ellipsoid":
        return np.ones(window.shape, np.float32), status
    if settings.smoothing:
        kernels.smooth(areas)
    pixels = np.arange(window.pixel0, window.pixel1, dtype=np.float64)
    line = (window.line0 + window.line1) / 2
    reference_m2 = geometry.slant_spacing_m(
        order.images[0].annotation, line, pixels
    ) * built.azimuth_spacing_m(pixels)
    ratios = np.ascontiguousarray(areas[inner])
    kernels.to_ratios(ratios, reference_m2, settings.least_area, status)
    return ratios, status


def _ray(built: GeometryLattice, res_m: float) -> tuple[float, float, float]:
    """(rows, columns) of a step away from the radar, and by how much a ray falls in it."""
    east, north, up = (float(part.mean()) for part in built.looks)
    longer = max(abs(east), abs(north))
    return north / longer, -east / longer, up / longer * res_m


def _calibrated(
    order: BackscatterPlan, inputs: OpenInputs, window: _RadarWindow,
    ratios: npt.NDArray[np.float32], status: npt.NDArray[np.uint8],
) -> npt.NDArray[np.float32]:  # fmt: skip
    """The images float32[bands, lines, pixels] of a window; sets the bit of the border."""
    where = (window.line0, window.line1, window.pixel0, window.pixel1)
    if order.signal is not None:
        lines, pixels = (np.arange(a, b) // _COARSE_PX for a, b in (where[:2], where[2:]))
        status[~order.signal[np.ix_(lines, pixels)]] |= kernels.BORDER
    images = np.empty((len(order.images), *window.shape), np.float32)
    for image, measurement, out in zip(order.images, inputs.measurements, images, strict=True):
        tables = image.calibration
        flat = order.settings.radiometry == "gamma0_ellipsoid"
        kernels.calibrate(
            _read_pixels(image, measurement, window),
            *(tables.gamma if flat else tables.beta).window(*where),
            *image.noise.range.window(*where), image.noise.factors(*where),
            ratios, status, order.settings.clip, out,
        )  # fmt: skip
    return images


def _gather(
    order: BackscatterPlan, ground: _Ground, window: _RadarWindow,
    images: npt.NDArray[np.float32], status: npt.NDArray[np.uint8], made: BackscatterTile,
) -> None:  # fmt: skip
    built, heights = ground.geometry, ground.inner(1)
    kernels.gather(
        heights, built.scaled(heights), built.coefficients, built.nodes.step, *ground.shift(1),
        built.conversions.lines, built.conversions.coefficients_px, built.conversions.nearest,
        order.settings.res_m, window.line0, window.pixel0, images, status,
        made.values, made.flags, made.angles,
    )  # fmt: skip


def _blank(order: BackscatterPlan, tile: Tile) -> BackscatterTile:
    shape = tile.row1 - tile.row0, tile.col1 - tile.col0
    return BackscatterTile(
        tile,
        np.full((len(order.images), *shape), np.nan, np.float32),
        np.zeros(shape, np.uint8),
        np.full(shape, 255, np.uint8),
    )


def _read_image(channel: Channel, measurement: Path, ipf: tuple[int, int]) -> RadarImage:
    tables = annotation.read_calibration(channel.calibration)
    return RadarImage(
        channel.polarisation, measurement, annotation.read(channel.annotation), tables,
        annotation.read_noise(channel.noise, ipf, tables.dn),
    )  # fmt: skip


def _open_pixels(image: RadarImage) -> AbstractContextManager[Any]:
    return open_measurement(image.measurement, image.annotation, "uint16", "uint16")


def _read_pixels(image: RadarImage, dataset: Any, window: _RadarWindow) -> npt.NDArray[np.uint16]:
    height, width = window.shape
    try:
        pixels: npt.NDArray[np.uint16] = dataset.read(
            1, window=Window(window.pixel0, window.line0, width, height)
        )
    except RasterioError as error:
        raise SceneError(f"{image.measurement} is damaged: {error}") from error
    return pixels


def signal_cells(image: RadarImage, border_db: float) -> npt.NDArray[np.bool_]:
    """Where an image is no border noise: bool[lines / 8, samples / 8], rounded up.

    ESA's note MPC-0243 cuts from each edge what is below a threshold; here the mean of 8 x 8
    pixels, which speckle does not disturb, and the cells next to what is cut as well.
    """
    described = image.annotation
    samples = -(-described.samples // _COARSE_PX)
    rows = []
    with raster.gdal_env(), _open_pixels(image) as dataset:
        for line0 in range(0, described.lines, _COARSE_PX):
            line1 = min(line0 + _COARSE_PX, described.lines)
            window = _RadarWindow(line0, line1, 0, described.samples)
            power = np.square(_read_pixels(image, dataset, window), dtype=np.float32).mean(axis=0)
            padded = np.pad(power, (0, samples * _COARSE_PX - power.size), "edge")
            rows.append(padded.reshape(samples, _COARSE_PX).mean(axis=1))
    table = image.calibration.beta
    least = (10 ** (border_db / 10)) * float(table.values.mean()) ** 2
    bright = np.array(rows) >= least
    signal = np.ones_like(bright)
    for axis in (0, 1):
        for flipped in (False, True):
            view = np.flip(bright, axis) if flipped else bright
            reached = np.logical_or.accumulate(view, axis=axis)
            signal &= np.flip(reached, axis) if flipped else reached
    beside = np.pad(signal, 1, constant_values=True)
    around = [beside[a : a + signal.shape[0], b : b + signal.shape[1]]
              for a in range(3) for b in range(3)]  # fmt: skip
    return np.asarray(np.logical_and.reduce(around))


def _refuse_unless_metric(epsg: int) -> None:
    try:
        crs = CRS.from_epsg(epsg)
    except CRSError:
        crs = None
    if crs is None or not crs.is_projected or crs.axis_info[0].unit_name != "metre":
        raise CallerError(f"EPSG:{epsg} is not a projected CRS in metres")


def _utm_zone(lon_deg: float, lat_deg: float) -> int:
    """EPSG code of the UTM zone of a place."""
    zone = int((lon_deg + 180) % 360 // 6) + 1
    return (32600 if lat_deg >= 0 else 32700) + zone


def all_tiles(grid: Grid, size_px: int) -> Iterator[Tile]:
    """The tiles of a grid, row by row."""
    for row in range(0, grid.height_px, size_px):
        for col in range(0, grid.width_px, size_px):
            bottom, right = min(row + size_px, grid.height_px), min(col + size_px, grid.width_px)
            yield Tile(row, bottom, col, right)


def meeting_tiles(grid: Grid, shape: BaseGeometry, size_px: int) -> Iterator[Tile]:
    """The tiles that meet an outline."""
    shapely.prepare(shape)
    for tile in all_tiles(grid, size_px):
        west, east = (grid.west_m + col * grid.res_m for col in (tile.col0, tile.col1))
        north, south = (grid.north_m - row * grid.res_m for row in (tile.row0, tile.row1))
        if shape.intersects(shapely.box(west, south, east, north)):
            yield tile
