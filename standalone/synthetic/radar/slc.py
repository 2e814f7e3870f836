"""Pairs of IW SLC products: bursts as sums of the responses of scatterers on the ground.

Every scatterer has a Doppler of its own, found where its history meets the beam that sweeps
ahead within the burst (TOPS); two passes see it with amplitudes of a known coherence.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from standalone.synthetic.radar import annotation as annotations
from standalone.synthetic.radar import product
from standalone.synthetic.radar.annotation import (
    FREQUENCY_HZ,
    RANGE_RATE_HZ,
    STEERING_DEG_S,
    AnnotationWriter,
    BurstRecord,
    RangeRecord,
)
from standalone.synthetic.radar.geometry import (
    GridPoint,
    Raster,
    SlantRange,
    geolocation_grid,
    ground_speed,
    jittered_cells,
    place,
    spread,
)
from standalone.synthetic.radar.orbit import C_M_S, FlownOrbit, Pass, fly, zero_doppler
from standalone.synthetic.radar.product import SLC, AnnotationLut, Block, BlockLut, Level1Product
from standalone.synthetic.radar.projection import Floats, Ints
from standalone.synthetic.radar.terrain import (
    AnalyticTerrain,
    Field,
    Level,
    Site,
    Surface,
    evaluate,
)

Complexes = NDArray[np.complex64]

LINE_S = 2.055556299999998e-03
"""Time from line to line of IW SLC, as annotated in real products."""

SAMPLE_M = C_M_S / 2 / RANGE_RATE_HZ
"""Slant range from sample to sample."""

WAVELENGTH_M = C_M_S / FREQUENCY_HZ

AMPLITUDE = 237.0
"""Level of betaNought of SLC, as in real products."""

_AZIMUTH = (327.0 * LINE_S, 0.70)
_RANGE = (56.5e6 / RANGE_RATE_HZ, 0.75)
_HALF_PX = 10
_TABLE_PX = 2048
_TILE_PX = 8
_CHUNK = 2500
_SWATH_OVERLAP = 100
_SWATH_DELAY = 0.34
_BEAM_CYCLE_S = 2.758273
_PREAMBLE_S = 2.299849
_ORBIT_S = 12 * 86400 / 175
_CENTROID_SLOPE = -5.0e3
_FIRST_ID_IPF = (3, 40)


@dataclass(frozen=True)
class SlcPair:
    """What a pair of SLC products shows, and how.

    Attributes:
        site: middle of the sub-swaths.
        flight: the first overpass.
        terrain: heights.
        coherence: by polarisation, 0..1: a constant or a function of place.
        gamma0: by polarisation (VV, VH), linear power.
        swaths: neighbouring sub-swaths, such as IW1 and IW2.
        bursts: in each sub-swath.
        lines: of a burst.
        samples: of a sub-swath.
        overlap_lines: valid lines that two bursts share.
        edge: lines and samples at each edge of a burst that are not valid.
        baseline_m: perpendicular baseline at the site.
        days: from the first to the second overpass, a multiple of 12.
        line_shift: by how many lines the second's bursts begin later on the ground.
        doppler_hz: Doppler centroid at mid-burst; 2 000 stands for a burst's edge.
        noise_db: thermal noise in beta0, dB; None for none (noise takes coherence away).
        ipf: version of ESA's processor; burst ids are annotated from 003.40.
        seed: of everything that is random.
    """

    site: Site
    flight: Pass
    terrain: AnalyticTerrain
    coherence: Mapping[str, Field]
    gamma0: Mapping[str, Field] = field(default_factory=lambda: {"VV": 0.1, "VH": 0.02})
    swaths: tuple[str, ...] = ("IW2",)
    bursts: int = 2
    lines: int = 300
    samples: int = 1200
    overlap_lines: int = 30
    edge: int = 10
    baseline_m: float = 60.0
    days: int = 12
    line_shift: float = 0.3
    doppler_hz: float = 20.0
    noise_db: float | None = None
    ipf: str = "003.61"
    seed: int = 1

    @property
    def period_lines(self) -> int:
        """Lines from the begin of a burst to that of the next."""
        return self.lines - 2 * self.edge - self.overlap_lines


@dataclass(frozen=True, eq=False)
class Sweep:
    """Doppler of a burst: what the beam's steering makes of a scatterer's history.

    Attributes:
        middle_s: zero-Doppler time of the burst's middle line.
        near_m: slant range for which that time is exact: of the first valid sample.
        steering_hz_s: Doppler rate of the steering.
        fm_rate: Doppler rate of scatterers.
        centroid: Doppler centroid at mid-burst.
    """

    middle_s: float
    near_m: float
    steering_hz_s: float
    fm_rate: RangeRecord
    centroid: RangeRecord

    def doppler(self, t_s: Floats, slant_m: Floats) -> Floats:
        """Doppler at which scatterers are seen, Hz.

        Args:
            t_s: their zero-Doppler times.
            slant_m: their slant ranges.
        """
        near = np.array([self.near_m])
        sensed = self.middle_s + (self.centroid.at(near) / self.fm_rate.at(near))[0]
        rate, centre = self.fm_rate.at(slant_m), self.centroid.at(slant_m)
        # The history rate (t - t_s) meets the beam centre + steering (t - sensed) at this time.
        meets = (rate * t_s + centre - self.steering_hz_s * sensed) / (rate - self.steering_hz_s)
        return np.asarray(rate * (meets - t_s))

    def rate(self, slant_m: float) -> float:
        """How fast the Doppler changes along the burst's lines, Hz/s."""
        steps = self.doppler(self.middle_s + np.array([0.0, 1.0]), np.full(2, slant_m))
        return float(steps[1] - steps[0])


@dataclass(frozen=True, eq=False)
class Strip:
    """One sub-swath of one overpass.

    Attributes:
        swath: IW1 .. IW3.
        raster: of all its bursts together; lines count on through their overlaps.
        starts: line of that raster at which each burst begins.
        sweeps: Doppler of each burst.
    """

    swath: str
    raster: Raster[SlantRange]
    starts: tuple[int, ...]
    sweeps: tuple[Sweep, ...]


@dataclass(frozen=True, eq=False)
class PairTruth:
    """What a processor should find in a pair.

    Attributes:
        homes: the two .SAFE folders.
        pair: what was simulated.
        flights: the two overpasses.
        baseline_m: perpendicular baseline at the site.
        strips: for each overpass its sub-swaths: exact geometry and Doppler.
        surface: the ground.
    """

    homes: tuple[Path, Path]
    pair: SlcPair
    flights: tuple[Pass, Pass]
    baseline_m: float
    strips: tuple[tuple[Strip, ...], tuple[Strip, ...]]
    surface: Surface


@dataclass(frozen=True, eq=False)
class Scatterers:
    """Points on the ground that send echoes.

    Attributes:
        points: (n, 3) Earth-centred.
        amplitudes: (overpasses, polarisations, n) complex.
    """

    points: Floats
    amplitudes: Complexes


def write_slc_pair(folder: Path, pair: SlcPair) -> PairTruth:
    """Write two SLC products of one track into a folder.

    Args:
        folder: gets the .SAFE folders.
        pair: what they show.

    Returns:
        What is true of them.

    Raises:
        ValueError: the site cannot be seen so, or the area is too large.
    """
    first = fly(pair.flight, *pair.site.geographic())
    second, baseline = _second_orbit(pair, first)
    later = replace(
        pair.flight,
        time=second.epoch,
        absolute_orbit=pair.flight.absolute_orbit + 175 * pair.days // 12,
    )
    strips = _strips(pair, first, 0.0), _strips(pair, second, pair.line_shift)
    surface = Surface(pair.site, pair.terrain, _reach_m(pair))
    scatterers = _scatterers(pair, strips[0], surface)
    homes = tuple(
        _write_product(folder, pair, number, flight, strips[number], scatterers)
        for number, flight in enumerate((pair.flight, later))
    )
    return PairTruth((homes[0], homes[1]), pair, (pair.flight, later), baseline, strips, surface)


def respond(
    line: Floats,
    sample: Floats,
    phase: Floats,
    turn: Floats,
    amplitudes: Complexes,
    shape: tuple[int, int],
) -> Complexes:
    """Sum of the responses of scatterers.

    A response is band-limited both ways (Hamming windows of 327 Hz and 56.5 MHz, tapered to
    10 lines and samples) and turns along the lines with its own Doppler.

    Args:
        line: (n,) fractional lines.
        sample: (n,) fractional samples.
        phase: (n,) of each response's peak, radians.
        turn: (n,) of the phase from line to line, radians.
        amplitudes: (k, n) complex.
        shape: lines and samples of the image.

    Returns:
        (k, lines, samples) complex.
    """
    image = np.zeros((len(amplitudes), *(_padded(n) for n in shape)), dtype=np.complex64)
    rows, cols = ((np.floor(a).astype(np.int64) + _HALF_PX) // _TILE_PX for a in (line, sample))
    size = _TILE_PX + 2 * _HALF_PX
    tiles_down, tiles_across = ((n + 2 * _HALF_PX) // _TILE_PX + 1 for n in shape)
    kept = (rows >= 0) & (rows < tiles_down) & (cols >= 0) & (cols < tiles_across)
    order = np.flatnonzero(kept)
    order = order[np.argsort(rows[order] * tiles_across + cols[order], kind="stable")]
    numbers = rows[order] * tiles_across + cols[order]
    for row in range(tiles_down):
        limits = np.searchsorted(numbers, row * tiles_across + np.arange(tiles_across + 1))
        part = order[limits[0] : limits[-1]]
        down = line[part] + 2 * _HALF_PX - row * _TILE_PX
        along = _along(down, phase[part], turn[part], size)
        across = _window(sample[part] + 2 * _HALF_PX - cols[part] * _TILE_PX, size, _RANGE)
        sums = np.stack([along * a[part, None] for a in amplitudes], axis=1)
        for col, (begin, end) in enumerate(pairwise((limits - limits[0]).tolist())):
            # Real and imaginary parts are neighbouring columns: one real product of matrices.
            both = sums[begin:end].reshape(end - begin, len(image) * size).view(np.float32)
            block = (both.T @ across[begin:end]).reshape(len(image), size, 2, size)
            where = np.s_[:, row * _TILE_PX :, col * _TILE_PX :]
            image[where][:, :size, :size] += block[:, :, 0] + 1j * block[:, :, 1]
    edge = 2 * _HALF_PX
    return image[:, edge : edge + shape[0], edge : edge + shape[1]]


def _padded(count: int) -> int:
    """Height or width that holds the tiles around an image."""
    return ((count + 2 * _HALF_PX) // _TILE_PX + 1) * _TILE_PX + 2 * _HALF_PX


def _along(down: Floats, phase: Floats, turn: Floats, size: int) -> Complexes:
    """Responses along the lines, (n, size): window times the turning phase."""
    window = _window(down, size, _AZIMUTH)
    value = np.exp(1j * (phase - turn * down))
    step = np.exp(1j * turn)
    out = np.empty((len(down), size), dtype=np.complex64)
    for i in range(size):
        out[:, i] = window[:, i] * value
        value = value * step
    return out


def _window(at: Floats, size: int, band: tuple[float, float]) -> NDArray[np.float32]:
    """A band's response at whole pixels 0 .. size, for peaks at fractional ones, (n, size)."""
    table = _response(*band)
    steps = np.rint((np.arange(size) - at[:, None] + _HALF_PX) * _TABLE_PX).astype(np.int32)
    return table[np.clip(steps, 0, len(table) - 1)]


@cache
def _response(width: float, window: float) -> NDArray[np.float32]:
    """Table of a tapered Hamming response of energy 1; 0 at both ends.

    Args:
        width: of the band, cycles per pixel.
        window: Hamming coefficient.
    """
    x = np.arange(-_HALF_PX * _TABLE_PX, _HALF_PX * _TABLE_PX + 1) / _TABLE_PX
    sides = np.sinc(width * x - 1) + np.sinc(width * x + 1)
    shape = window * np.sinc(width * x) + (1 - window) / 2 * sides
    shape *= np.cos(np.pi * x / (2 * _HALF_PX)) ** 2
    return np.asarray(shape / np.sqrt((shape**2).sum() / _TABLE_PX), dtype=np.float32)


def _second_orbit(pair: SlcPair, first: FlownOrbit) -> tuple[FlownOrbit, float]:
    """Orbit of the second overpass and the perpendicular baseline, metres."""
    point = Level(pair.site, pair.terrain.base_m).middle()

    def baseline(angle: float) -> float:
        places = []
        for orbit in (first, first.turn(angle)):
            position, velocity = orbit.state(zero_doppler(orbit, point))
            places.append(position[0])
        ray = point[0] - places[0]
        across = np.cross(ray, velocity[0])
        return float((places[1] - places[0]) @ across / np.linalg.norm(across))

    small = 1e-6
    angle = small * pair.baseline_m / baseline(small)
    turned = first.turn(angle)
    second = replace(turned, epoch=first.epoch + timedelta(days=pair.days))
    return second, abs(baseline(angle))


def _strips(pair: SlcPair, orbit: FlownOrbit, line_shift: float) -> tuple[Strip, ...]:
    """Sub-swaths of an overpass; the near ranges are those of the first overpass."""
    level = Level(pair.site, pair.terrain.base_m)
    point = level.middle()
    passed = float(zero_doppler(orbit, point)[0])
    home = fly(pair.flight, *pair.site.geographic())
    slant = float(np.linalg.norm(home.state(np.zeros(1), 0)[0][0] - point[0]))
    extent = (pair.bursts - 1) * pair.period_lines + pair.lines
    strips = []
    for i, swath in enumerate(pair.swaths):
        shift = (i - (len(pair.swaths) - 1) / 2) * (pair.samples - _SWATH_OVERLAP)
        near = slant + (shift - pair.samples / 2) * SAMPLE_M
        late = line_shift + (_SWATH_DELAY * i * pair.period_lines) // 1
        first_s = round(passed + (late - extent / 2) * LINE_S, 6)
        raster = Raster(orbit, first_s, LINE_S, SlantRange(near, SAMPLE_M), extent, pair.samples)
        starts = tuple(b * pair.period_lines for b in range(pair.bursts))
        sweeps = tuple(_sweep(pair, swath, raster, level, start) for start in starts)
        strips.append(Strip(swath, raster, starts, sweeps))
    return tuple(strips)


def _sweep(
    pair: SlcPair, swath: str, raster: Raster[SlantRange], level: Level, start: int
) -> Sweep:
    """Doppler of the burst that begins at a line of the raster."""
    # ESA's note on deramping takes half of the burst's lines, not half of their intervals.
    middle = raster.first_s + (start + pair.lines / 2) * LINE_S
    near = raster.axis.near_m
    speed = float(np.linalg.norm(raster.orbit.state(np.array([middle]))[1]))
    t0 = 2 * near / C_M_S
    return Sweep(
        middle_s=middle,
        near_m=near + pair.edge * SAMPLE_M,
        steering_hz_s=2 * speed / WAVELENGTH_M * np.radians(STEERING_DEG_S[swath]),
        fm_rate=RangeRecord(middle, t0, _fm_rate(raster, level, start + pair.lines / 2)),
        centroid=RangeRecord(middle, t0, np.array([pair.doppler_hz, _CENTROID_SLOPE, 0.0])),
    )


def _fm_rate(raster: Raster[SlantRange], level: Level, line: float) -> Floats:
    """Polynomial (3,) of slant range time: Doppler rate of points on the ground, Hz/s.

    The range of a point changes by r'' = (V^2 - (P - S) . A) / r while it is abeam.
    """
    samples = np.linspace(0, raster.samples - 1, 5)
    lines = np.full(len(samples), line)
    points, _ = level.points(*place(raster, level, lines, samples))
    position, velocity, acceleration = raster.orbit.state(raster.time(lines), 2)
    ray = points - position
    slant = np.linalg.norm(ray, axis=1)
    bend = (np.square(velocity).sum(axis=1) - (ray * acceleration).sum(axis=1)) / slant
    time = 2 * (slant - raster.axis.near_m) / C_M_S
    fitted = np.polynomial.Polynomial.fit(time, -2 * bend / WAVELENGTH_M, 2)
    return np.asarray(fitted.convert().coef, dtype=np.float64)


def _scatterers(pair: SlcPair, strips: Sequence[Strip], surface: Surface) -> Scatterers:
    """One scatterer for about every pixel of all sub-swaths, jittered."""
    rng = np.random.default_rng([pair.seed, 0x51C])
    rasters = [strip.raster for strip in strips]
    near = rasters[0].axis.near_m
    width = round((rasters[-1].axis.near_m - near) / SAMPLE_M) + pair.samples
    orbit, first = rasters[0].orbit, min(r.first_s for r in rasters)
    height = round((max(r.last_s for r in rasters) - first) / LINE_S) + 1
    whole = Raster(orbit, first, LINE_S, SlantRange(near, SAMPLE_M), height, width)
    points, powers, places = [], [], []
    for east, north, cell in _places(pair, whole.short(), rng):
        centres, areas = surface.facets(east, north, cell)
        ray = whole.short().view(centres)[2]
        seen = np.maximum(np.einsum("ij,ij->i", areas, ray), 0)
        points.append(centres)
        powers.append([seen * evaluate(f, east, north) for f in pair.gamma0.values()])
        places.append([evaluate(pair.coherence[name], east, north) for name in pair.gamma0])
    area = SAMPLE_M * LINE_S * ground_speed(orbit, points[0][:1])
    power, coherence = (np.concatenate(parts, axis=1) for parts in (powers, places))
    one, other = (_gaussian(rng, power.shape) for _ in range(2))
    two = coherence * one + np.sqrt(1 - coherence**2) * other
    level = AMPLITUDE * np.sqrt(power / area)
    return Scatterers(np.concatenate(points), np.asarray([level * one, level * two], np.complex64))


def _places(
    pair: SlcPair, whole: Raster[SlantRange], rng: np.random.Generator
) -> Iterator[tuple[Floats, Floats, float]]:
    """Jittered places, one a pixel, with margins: eastings, northings, and area of each cell."""
    level = Level(pair.site, pair.terrain.base_m)
    middle = (whole.lines - 1) / 2, (whole.samples - 1) / 2
    half = (
        0.51 * whole.lines + 2 * _HALF_PX,
        0.51 * whole.samples + 2 * _HALF_PX + pair.terrain.relief_m / SAMPLE_M,
    )
    return jittered_cells(whole, level, middle, half, 1.0, rng)


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> Complexes:
    """Circular complex Gaussian numbers of mean power 1."""
    both = rng.standard_normal((2, *shape), dtype=np.float32) / np.float32(np.sqrt(2))
    return np.asarray(both[0] + 1j * both[1], dtype=np.complex64)


def _reach_m(pair: SlcPair) -> float:
    """Half the side of the square that holds all sub-swaths' ground."""
    lines = pair.bursts * pair.lines * 15.0
    view = np.radians(pair.flight.incidence_deg - 4)
    width = len(pair.swaths) * pair.samples * SAMPLE_M / np.sin(view)
    return float(0.75 * max(lines, width) + 3 * pair.terrain.relief_m / np.tan(view) + 500)


def _write_product(
    folder: Path,
    pair: SlcPair,
    number: int,
    flight: Pass,
    strips: Sequence[Strip],
    scatterers: Scatterers,
) -> Path:
    """Write the product of one overpass, and return its folder."""
    rasters = [strip.raster for strip in strips]
    start, stop = min(r.first_s for r in rasters), max(r.last_s for r in rasters)
    names = tuple(pair.gamma0)
    made = Level1Product(flight, SLC, pair.ipf, names, rasters[0].orbit, start, stop)
    home = folder / f"{made.name}.SAFE"
    for i, strip in enumerate(strips):
        images = _images(pair, strip, scatterers, number)
        grid = _grid(pair, strip)
        for j, name in enumerate(names):
            image_number = 1 + i + j * len(strips)
            _write_image(home, pair, made, strip, (name, image_number), images[j], grid)
    product.write_manifest(home, made, grid)
    return home


def _images(pair: SlcPair, strip: Strip, scatterers: Scatterers, number: int) -> Complexes:
    """DN of all bursts below one another, (polarisations, bursts * lines, samples)."""
    raster = strip.raster.short()
    chunks = np.array_split(scatterers.points, len(scatterers.points) // _CHUNK + 1)
    parts = [np.stack(raster.rays(part)[:2]) for part in chunks]
    line, slant = np.concatenate(parts, axis=1)
    sample = (slant - raster.axis.near_m) / SAMPLE_M
    rng = np.random.default_rng([pair.seed, 0x7015E, number, int(strip.swath[-1])])
    bursts = []
    for start, sweep in zip(strip.starts, strip.sweeps, strict=True):
        near = np.abs(line - start - pair.lines / 2) < pair.lines / 2 + _HALF_PX
        doppler = sweep.doppler(raster.time(line[near]), slant[near])
        image = respond(
            line[near] - start,
            sample[near],
            -4 * np.pi / WAVELENGTH_M * slant[near],
            2 * np.pi * LINE_S * doppler,
            scatterers.amplitudes[number][:, near],
            (pair.lines, pair.samples),
        )
        if pair.noise_db is not None:
            image += AMPLITUDE * 10 ** (pair.noise_db / 20) * _gaussian(rng, image.shape)
        outside = np.ones(image.shape[1:], dtype=bool)
        outside[pair.edge : -pair.edge, pair.edge : -pair.edge] = False
        image[:, outside] = 0
        bursts.append(image)
    return np.concatenate(bursts, axis=1)


def _grid(pair: SlcPair, strip: Strip) -> list[GridPoint]:
    """Geolocation grid: each burst's first line, and the last line."""
    lines = [*strip.starts, strip.raster.lines - 1]
    labels = [*(b * pair.lines for b in range(pair.bursts)), pair.bursts * pair.lines - 1]
    label = dict(zip(lines, labels, strict=True))
    level = Level(pair.site, pair.terrain.base_m)
    points = geolocation_grid(strip.raster, level, lines, spread(pair.samples - 1, 20))
    return [replace(p, line=label[p.line]) for p in points]


def _write_image(
    home: Path,
    pair: SlcPair,
    made: Level1Product,
    strip: Strip,
    which: tuple[str, int],
    image: Complexes,
    grid: list[GridPoint],
) -> None:
    """Write the files of one polarisation of one sub-swath."""
    name, number = which
    span = (strip.raster.first_s, strip.raster.last_s)
    stem = made.file_name(strip.swath, name, number, span)
    offset = product.write_slc_tiff(home / "measurement" / f"{stem}.tiff", image, grid)
    middle = Level(pair.site, pair.terrain.base_m).middle()
    annotation = AnnotationWriter(
        product=made,
        polarisation=name,
        swath=strip.swath,
        number=number,
        raster=strip.raster,
        vectors=strip.raster.orbit,
        grid=grid,
        near_m=strip.raster.axis.near_m,
        spacing_m=(SAMPLE_M, LINE_S * ground_speed(strip.raster.orbit, middle)),
        fm_rates=_surrounded([s.fm_rate for s in strip.sweeps], pair),
        centroids=_surrounded([s.centroid for s in strip.sweeps], pair),
        bursts=_bursts(pair, made, strip, offset),
    )
    annotations.write(home, annotation, *_tables(pair, strip, image.shape))


def _surrounded(rows: list[RangeRecord], pair: SlcPair) -> list[RangeRecord]:
    """Polynomials of the bursts, with copies a burst before the first and after the last."""
    period = pair.period_lines * LINE_S
    before, after = rows[0], rows[-1]
    return [
        replace(before, t_s=before.t_s - period),
        *rows,
        replace(after, t_s=after.t_s + period),
    ]


def _bursts(pair: SlcPair, made: Level1Product, strip: Strip, offset: int) -> list[BurstRecord]:
    valid = np.zeros(pair.lines, dtype=bool)
    valid[pair.edge : -pair.edge] = True
    first = np.where(valid, pair.edge, -1)
    last = np.where(valid, pair.samples - pair.edge - 1, -1)
    node, relative = strip.raster.orbit.node_s, made.flight.relative_orbit
    # Source of the id: Sentinel-1 burst id map, ESA 2022: beam cycles since the cycle's begin.
    since = strip.sweeps[0].middle_s - node + (relative - 1) * _ORBIT_S
    number = 1 + int((since - _PREAMBLE_S) // _BEAM_CYCLE_S)
    annotated = product.version(pair.ipf) >= _FIRST_ID_IPF
    bursts = []
    for i, (start, sweep) in enumerate(zip(strip.starts, strip.sweeps, strict=True)):
        dwell = pair.lines * LINE_S * sweep.rate(sweep.near_m) / sweep.steering_hz_s
        bursts.append(
            BurstRecord(
                first_s=strip.raster.first_s + start * LINE_S,
                sensing_s=sweep.middle_s - dwell / 2,
                byte_offset=offset + 4 * i * pair.lines * pair.samples,
                first_valid=first,
                last_valid=last,
                number=number + i if annotated else 0,
                absolute=made.flight.absolute_orbit * 2148 + number + i,
            )
        )
    return bursts


def _tables(
    pair: SlcPair, strip: Strip, shape: tuple[int, ...]
) -> tuple[AnnotationLut, AnnotationLut, list[BlockLut]]:
    """Tables of betaNought and noise of a sub-swath."""
    lines, pixels = np.array([0, shape[0] - 1]), np.array(spread(pair.samples - 1, 30))
    flat = np.ones((len(lines), len(pixels)))
    level = 0.0 if pair.noise_db is None else AMPLITUDE**2 * 10 ** (pair.noise_db / 10)
    block = Block(strip.swath, 0, 0, shape[0] - 1, pair.samples - 1)
    along: Ints = np.array(spread(shape[0] - 1, 40))
    return (
        AnnotationLut(lines, pixels, AMPLITUDE * flat),
        AnnotationLut(lines, pixels, level * flat),
        [BlockLut(block, along, np.ones(len(along)))],
    )
