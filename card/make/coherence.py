"""CARD-COH: interferometric coherence of two Sentinel-1 IW SLC passes on the map, burst by burst.

Each burst of the reference is brought together with its partner of the other pass by geometry
alone (orbits and terrain): precise orbits are better than what coherence notices. Bursts are made
one after the other into a scratch file, in blocks of columns; then tiles of the map are gathered
from them, so that neither a burst nor the map is ever whole in memory.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from rasterio.errors import RasterioError
from rasterio.windows import Window

from card.make import backscatter, burst_kernels, dem, lattice
from card.make.annotation import SPEED_OF_LIGHT_M_S, Burst, RangePolynomial
from card.make.backscatter import Tile
from card.make.burst_pairs import BurstPair, PassImage, SlcPasses
from card.make.datasets import open_measurement
from card.make.dem import Dem, Heights, Terrain
from card.make.lattice import GeometryLattice, NodeGrid
from store import raster
from store.errors import SceneError
from store.grid import Grid

Floats = npt.NDArray[np.float64]
Planes = npt.NDArray[np.float32]
Samples = npt.NDArray[np.complex64]

_KAISER_BETA = 3.1
_BUFFER_M = 5000.0
"""Heights shift ground by some kilometres against the grid of the annotation."""
_SLACK_PX = 3.0
_ALL_LINES = np.iinfo(np.int32).max


@dataclass(frozen=True)
class CoherenceSettings:
    """How CARD-COH is made.

    Attributes:
        res_m: pixel size.
        epsg: CRS of the output; None is the UTM zone of the scene's centre.
        terrain_m: size of the terrain's cells by which bursts are brought together.
        block_windows: windows along range in a block; a window begins at every 4th sample.
        tile_px: size of a tile.
        step_px: cells between nodes of the geometry.
    """

    res_m: float = 20.0
    epsg: int | None = None
    terrain_m: float = 30.0
    block_windows: int = 256
    tile_px: int = 512
    step_px: int = 16


@dataclass(frozen=True)
class CoherencePlan:
    """All that CARD-COH of two passes is made of.

    Attributes:
        passes: the two passes, their bursts paired.
        dem: the terrain, its part that is needed.
        settings: how.
        grid: the output grid.
        tiles: that meet the bursts, in the order they are made.
    """

    passes: SlcPasses
    dem: Dem
    settings: CoherenceSettings
    grid: Grid
    tiles: tuple[Tile, ...]

    @property
    def steps(self) -> int:
        """How often making it reports progress: after each burst and each tile."""
        return len(self.passes.pairs) + len(self.tiles)


@dataclass(frozen=True)
class CoherenceTile:
    """What was made of a tile.

    Attributes:
        tile: where it lies.
        values: float32[bands, rows, columns], 0..1; NaN is no data.
    """

    tile: Tile
    values: Planes


@dataclass(frozen=True)
class BurstCoherence:
    """Coherence of a burst with its partner, in the burst's own lines and windows of samples.

    Attributes:
        pair: the bursts.
        values: float32[bands, lines, windows], see card.make.burst_kernels; NaN is no data.
    """

    pair: BurstPair
    values: Planes


@dataclass(frozen=True)
class Ramp:
    """The phase that steering the beam leaves along the lines of a burst, by column.

    Miranda, Definition of the TOPS SLC deramping function (ESA, COPE-GSEG-EOPG-TN-14-0025): at a
    time t from the burst's middle it is pi rate (t - centre)^2 + 2 pi doppler (t - centre).

    Attributes:
        rates: float64[samples], Hz/s.
        centres_s: float64[samples].
        dopplers: float64[samples], Hz.
        half_s: time from the first line to the burst's middle.
        interval_s: time from line to line.
    """

    rates: Floats
    centres_s: Floats
    dopplers: Floats
    half_s: float
    interval_s: float

    def deramping(self, part: slice) -> tuple[Floats, Floats, Floats]:
        """Phase of some columns at the first line, its first step and by how much that grows."""
        rates, dopplers = self.rates[part], self.dopplers[part]
        t_s = -self.half_s - self.centres_s[part]
        phases = -2 * np.pi * t_s * (rates * t_s / 2 + dopplers)
        steps = -2 * np.pi * self.interval_s * (rates * (t_s + self.interval_s / 2) + dopplers)
        return phases, steps, -2 * np.pi * rates * self.interval_s**2


def plan(passes: SlcPasses, terrain: Dem, settings: CoherenceSettings) -> CoherencePlan:
    """Lay out the making of a pair: output grid and tiles.

    Raises:
        CallerError: the CRS of the settings is not a projected one in metres.
    """
    grid, shape = backscatter.output_grid(passes.outline, settings)
    tiles = tuple(backscatter.meeting_tiles(grid, shape, settings.tile_px))
    return CoherencePlan(passes, terrain, settings, grid, tiles)


def make_tiles(
    order: CoherencePlan, scratch: Path, step: Callable[[], None] = lambda: None
) -> Iterator[CoherenceTile]:
    """Make all bursts, then all tiles, one after the other.

    Args:
        order: what is made.
        scratch: folder for a nameless file of about a byte for each sample of the reference.
        step: called after each burst and each tile.

    Raises:
        SceneError: pixels or heights cannot be read.
    """
    with open_inputs(order) as inputs, tempfile.TemporaryFile(dir=scratch) as file:
        made = []
        for pair, values in zip(order.passes.pairs, _allot(order, file), strict=True):
            inputs.correlate(pair, values)
            made.append(BurstCoherence(pair, values))
            step()
        for tile in order.tiles:
            yield make_tile(order, tile, made, inputs.terrain)
            step()


def make_tile(
    order: CoherencePlan, tile: Tile, bursts: Sequence[BurstCoherence], terrain: Terrain
) -> CoherenceTile:
    """Gather a tile: each pixel from the burst in which it lies farthest from the edge.

    Raises:
        SceneError: heights cannot be read.
    """
    shape = tile.row1 - tile.row0, tile.col1 - tile.col0
    values = np.full((len(order.passes.bands), *shape), np.nan, np.float32)
    depths = np.zeros(shape, np.float32)
    nodes = NodeGrid(order.grid, order.settings.step_px, tile.row0, tile.col0, shape)
    ground = GroundHeights.read(nodes, terrain)
    if ground is None:
        return CoherenceTile(tile, values)
    lattices: dict[PassImage, GeometryLattice] = {}
    for burst in bursts:
        image = burst.pair.image
        if image not in lattices:
            lattices[image] = ground.lattice(image)
        _gather(burst, ground, lattices[image], depths, values)
    return CoherenceTile(tile, backscatter.round_mantissa(values))


@dataclass(frozen=True)
class GroundHeights:
    """Heights on a rectangle of the map.

    Attributes:
        nodes: nodes of the geometry over it.
        heights: float32[rows, columns], metres; NaN where unknown.
    """

    nodes: NodeGrid
    heights: Heights

    @classmethod
    def read(cls, nodes: NodeGrid, terrain: Terrain) -> "GroundHeights | None":
        """Read them; None where there is none."""
        heights = terrain.heights(
            nodes.grid, nodes.east_m, nodes.north_m, nodes.step, nodes.shift, nodes.shape
        )
        return None if np.isnan(heights).all() else cls(nodes, heights)

    @cached_property
    def limits_m(self) -> tuple[float, float]:
        """Lowest and highest height."""
        return float(np.nanmin(self.heights)), float(np.nanmax(self.heights))

    def lattice(self, image: PassImage) -> GeometryLattice:
        """The geometry of an image over it."""
        return lattice.build(self.nodes, image.annotation, image.orbit, *self.limits_m)


class BurstInputs:
    """The files of a plan, open for one thread, within `store.raster.gdal_env`."""

    def __init__(self, order: CoherencePlan, terrain: Terrain, pixels: dict[Path, Any]) -> None:
        """Take the open terrain and, by path, the open measurements."""
        self.terrain = terrain
        self._order = order
        self._pixels = pixels
        self._memory: dict[str, npt.NDArray[Any]] = {}
        self._table = kaiser_table()

    def correlate(self, pair: BurstPair, out: Planes) -> None:
        """Coherence of a burst with its partner.

        Args:
            pair: the bursts.
            out: float32[bands, lines, windows], filled; NaN is no data.

        Raises:
            SceneError: pixels or heights cannot be read.
        """
        ground = GroundHeights.read(_burst_nodes(self._order, pair), self.terrain)
        if ground is None:
            out[:] = np.nan
            return
        geometry = _PairGeometry(pair, ground)
        size = self._order.settings.block_windows
        for start in range(0, out.shape[2], size):
            self._correlate_block(geometry, start, out[:, :, start : start + size])

    def _correlate_block(self, geometry: "_PairGeometry", window0: int, out: Planes) -> None:
        pair, ramp = geometry.pair, geometry.ramp
        sample0 = window0 * burst_kernels.EVERY_SAMPLE
        shape = out.shape[1], sample_count(out.shape[2])
        lines, samples, phases = (
            self._array(name, shape, np.float32) for name in ("lines", "samples", "phases")
        )
        geometry.rasterise(sample0, lines, samples, phases)
        turn = self._array("turn", shape, np.complex64)
        burst_kernels.turns(
            lines, samples, phases, sample0, ramp.rates, ramp.centres_s, ramp.dopplers,
            ramp.half_s, ramp.interval_s, valid_samples(pair.burst),
            valid_samples(pair.partner_burst), turn,
        )  # fmt: skip
        known = ~np.isnan(turn.real)
        if not known.any():
            out[:] = np.nan
            return
        reach = burst_kernels.REACH + 1
        offsets = samples[known]
        first = max(sample0 + int(np.floor(offsets.min())) - reach, 0)
        last = min(
            sample0 + shape[1] + int(np.ceil(offsets.max())) + reach,
            pair.partner.annotation.samples,
        )
        shift = round(float(lines[known].mean()))
        for band, values in enumerate(out):
            one = self._read(pair.image, pair.index, band, "first", (sample0, shape[1]))
            two = self._read(
                pair.partner, pair.partner_index, band, "second", (first, last - first)
            )
            burst_kernels.deramp(two, *ramp.deramping(slice(first, last)))
            moved = self._array("moved", (two.shape[0], shape[1]), np.complex64)
            burst_kernels.resample_range(two, first - sample0, samples, shift, self._table, moved)
            burst_kernels.correlate(one, moved, lines, turn, self._table, values)

    def _array(self, name: str, shape: tuple[int, int], dtype: Any) -> npt.NDArray[Any]:
        """Memory that is used again: first touches of fresh memory cost as much as the work."""
        size = shape[0] * shape[1]
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = np.empty(size, dtype)
        return memory[:size].reshape(shape)

    def _read(
        self, image: PassImage, burst: int, band: int, name: str, columns: tuple[int, int]
    ) -> Samples:
        """Columns (first, number) of a burst."""
        lines = image.annotation.lines_per_burst
        out: Samples = self._array(name, (lines, columns[1]), np.complex64)
        path = image.measurements[band]
        window = Window(columns[0], burst * lines, columns[1], lines)
        try:
            self._pixels[path].read(1, window=window, out=out)
        except RasterioError as error:
            raise SceneError(f"{path} is damaged: {error}") from error
        return out


class _PairGeometry:
    """How a burst and its partner lie on one terrain."""

    def __init__(self, pair: BurstPair, ground: GroundHeights) -> None:
        self.pair = pair
        self.ramp = steering_ramp(pair.partner, pair.partner_burst)
        self._ground = ground
        self._lattices = ground.lattice(pair.image), ground.lattice(pair.partner)
        self._scaled = self._lattices[0].scaled(ground.heights)
        self._line0s = np.array(
            [pair.image.line_of(pair.burst), pair.partner.line_of(pair.partner_burst)]
        )

    def rasterise(self, sample0: int, lines: Planes, samples: Planes, phases: Planes) -> None:
        """Fill the planes of a block of columns, see card.make.burst_kernels."""
        for plane in (lines, samples, phases):
            plane[:] = np.nan
        (first, second), nodes = self._lattices, self._ground.nodes
        wavelength_m = SPEED_OF_LIGHT_M_S / self.pair.image.annotation.frequency_hz
        burst_kernels.rasterise(
            self._scaled, first.coefficients, second.coefficients, nodes.step, *nodes.shift,
            self._spans(sample0, lines.shape), slant_axis(first, self.pair.image),
            slant_axis(second, self.pair.partner), self._line0s, sample0,
            4 * np.pi / wavelength_m, lines, samples, phases,
        )  # fmt: skip

    def _spans(self, sample0: int, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Which cells after each row of nodes may lie in a block, see burst_kernels.rasterise."""
        first, nodes = self._lattices[0], self._ground.nodes
        middle_m, half_m, near_m, spacing_m = slant_axis(first, self.pair.image)
        heights = np.vander([-1.0, 0.0, 1.0], 3, increasing=True).T
        line, slant = (first.coefficients[..., q, :] @ heights for q in (0, 1))
        sample = (middle_m + half_m * slant - near_m) / spacing_m - sample0
        meets = np.logical_and(*(
            (_over_cells(np.minimum, of) < size + _SLACK_PX)
            & (_over_cells(np.maximum, of) > -_SLACK_PX)
            for of, size in ((line - self._line0s[0], shape[0]), (sample, shape[1]))
        ))  # fmt: skip
        begin = meets.argmax(axis=1)
        end = meets.shape[1] - meets[:, ::-1].argmax(axis=1)
        spans = np.stack([begin, end], axis=1) * nodes.step - nodes.shift[1] + [0, 1]
        spans[~meets.any(axis=1)] = 0
        return np.asarray(np.clip(spans, 0, nodes.shape[1]))


@contextmanager
def open_inputs(order: CoherencePlan) -> Iterator[BurstInputs]:
    """Open what bursts and tiles are made from.

    Raises:
        SceneError: a file cannot be read, or is not what its annotation says.
    """
    # Uncompressed strips are read where a window lies, not whole.
    with raster.gdal_env({"GTIFF_DIRECT_IO": "YES"}), ExitStack() as stack:
        terrain = stack.enter_context(dem.open_terrain(order.dem))
        images = {side for pair in order.passes.pairs for side in (pair.image, pair.partner)}
        pixels = {
            path: stack.enter_context(
                open_measurement(path, image.annotation, "complex", "complex ones")
            )
            for image in images for path in image.measurements
        }  # fmt: skip
        yield BurstInputs(order, terrain, pixels)


def window_count(samples: int) -> int:
    """Windows along range in a number of samples."""
    return max(samples - burst_kernels.WINDOW_SAMPLES, -1) // burst_kernels.EVERY_SAMPLE + 1


def sample_count(windows: int) -> int:
    """Samples that a number of windows along range take."""
    return (windows - 1) * burst_kernels.EVERY_SAMPLE + burst_kernels.WINDOW_SAMPLES


def kaiser_table() -> Planes:
    """Weights float32[positions, taps] of a sinc in a Kaiser window; each row sums to 1."""
    taps = np.arange(burst_kernels.TAPS) - (burst_kernels.REACH - 1)
    x = taps - np.arange(burst_kernels.PHASES + 1)[:, None] / burst_kernels.PHASES
    inside = np.clip(1 - (x / burst_kernels.REACH) ** 2, 0, None)
    weights = np.sinc(x) * np.i0(_KAISER_BETA * np.sqrt(inside))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def steering_ramp(image: PassImage, burst: Burst) -> Ramp:
    """The ramp of a burst; polynomials are those annotated nearest to its middle."""
    described = image.annotation
    half_s = described.lines_per_burst / 2 * described.line_interval_s
    middle_s = burst.t_s + half_s
    slant_time_s = (
        described.near_slant_time_s + np.arange(described.samples) / described.range_sampling_hz
    )
    fm, doppler = (
        _nearest_values(polynomials, middle_s, slant_time_s)
        for polynomials in (described.fm_rates, described.doppler)
    )
    speed_m_s = float(np.linalg.norm(image.orbit.velocity_m_s(np.array(middle_s))))
    turning = np.radians(described.steering_rate_deg_s)
    steering = 2 * speed_m_s / SPEED_OF_LIGHT_M_S * described.frequency_hz * turning
    centres_s = -doppler / fm
    return Ramp(
        rates=fm * steering / (fm - steering),
        centres_s=centres_s - centres_s[described.samples // 2],
        dopplers=doppler,
        half_s=half_s,
        interval_s=described.line_interval_s,
    )


def slant_axis(built: GeometryLattice, image: PassImage) -> Floats:
    """Middle and half of a lattice's slant ranges, first range and spacing of samples, metres."""
    described, conversions = image.annotation, built.conversions
    half_light = SPEED_OF_LIGHT_M_S / 2
    return np.array([
        conversions.middle_m, conversions.half_m, described.near_slant_time_s * half_light,
        half_light / described.range_sampling_hz,
    ])  # fmt: skip


def valid_samples(burst: Burst) -> npt.NDArray[np.int64]:
    """First and last line, first and last sample of the rectangle that is valid everywhere."""
    lines = np.flatnonzero(burst.first_valid_px >= 0)
    if not lines.size:
        return np.array([0, -1, 0, -1])
    first, last = burst.first_valid_px[lines], burst.last_valid_px[lines]
    return np.array([lines[0], lines[-1], first.max(), last.min()])


def _gather(
    burst: BurstCoherence,
    ground: GroundHeights,
    built: GeometryLattice,
    depths: Planes,
    values: Planes,
) -> None:
    image, nodes = burst.pair.image, ground.nodes
    line0 = image.line_of(burst.pair.burst)
    first, last, *_ = built.bounds(nodes, *ground.limits_m)
    if last < line0 or first > line0 + image.annotation.lines_per_burst:
        return
    burst_kernels.gather_burst(
        built.scaled(ground.heights), built.coefficients, nodes.step, *nodes.shift,
        slant_axis(built, image), line0, burst.values, valid_samples(burst.pair.burst),
        np.array(image.ground_spacings_m), depths, values,
    )  # fmt: skip


def _burst_nodes(order: CoherencePlan, pair: BurstPair) -> NodeGrid:
    """Nodes over the ground of a burst, on cells of the terrain's size."""
    lon, lat = pair.image.corners(pair.burst)
    grid, size = order.grid, order.settings.terrain_m
    x, y = Transformer.from_crs(4326, grid.epsg, always_xy=True).transform(lon, lat)
    cells = Grid(grid.epsg, size, grid.west_m, grid.north_m, _ALL_LINES, _ALL_LINES)
    row0, col0 = (
        int((low - _BUFFER_M) // size)
        for low in (grid.north_m - y.max(), x.min() - grid.west_m)
    )  # fmt: skip
    height, width = (int((np.ptp(of) + 2 * _BUFFER_M) // size) + 2 for of in (y, x))
    return NodeGrid(cells, order.settings.step_px, row0, col0, (height, width))


def _over_cells(take: Any, nodes: Floats) -> Floats:
    """Minimum or maximum over the four nodes around each cell of nodes, and over heights."""
    by_row = take(nodes[:-1], nodes[1:])
    return np.asarray(take.reduce(take(by_row[:, :-1], by_row[:, 1:]), axis=-1))


def _nearest_values(
    polynomials: Sequence[RangePolynomial], t_s: float, slant_time_s: Floats
) -> Floats:
    nearest = min(polynomials, key=lambda each: abs(each.t_s - t_s))
    return np.asarray(
        np.polynomial.polynomial.polyval(slant_time_s - nearest.t0_s, nearest.coefficients)
    )


def _allot(order: CoherencePlan, file: Any) -> Iterator[Planes]:
    """A part of a file for each burst, as an array."""
    offset = 0
    for pair in order.passes.pairs:
        described = pair.image.annotation
        shape = (
            len(order.passes.bands), described.lines_per_burst, window_count(described.samples)
        )  # fmt: skip
        values = np.memmap(file, np.float32, "w+", offset, shape)
        offset += values.nbytes
        yield values.view(np.ndarray)
