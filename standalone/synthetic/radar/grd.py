"""IW GRDH products of a known ground: every facet's energy, spread over the pixels around it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from standalone.synthetic.radar import annotation as annotations
from standalone.synthetic.radar import product
from standalone.synthetic.radar.annotation import AnnotationWriter
from standalone.synthetic.radar.geometry import (
    LINEAR,
    GridPoint,
    GroundRange,
    Raster,
    geolocation_grid,
    ground_speed,
    jittered_cells,
    spread,
)
from standalone.synthetic.radar.orbit import FlownOrbit, Pass, fly
from standalone.synthetic.radar.product import GRD, AnnotationLut, Block, BlockLut, Level1Product
from standalone.synthetic.radar.projection import Floats, Ints
from standalone.synthetic.radar.terrain import (
    AnalyticTerrain,
    Field,
    Level,
    Site,
    Surface,
    evaluate,
)

SPACING_M = 10.0
"""Pixel spacing of IW GRDH, both ways."""

LOOKS = 4.4
"""Equivalent number of looks of IW GRDH."""

AMPLITUDE = 474.0
"""Level of betaNought, as in real products: beta0 = (DN^2 - noise) / betaNought^2."""

_KNOISE = 75088.7
_PIXEL_STEP = 40
_NOISE_LINE_STEP = 10
_UPDATE_LEAD_S = 1.3
_PAD_PX = 4
_EDGE_PX = 8
_BORDER_DN = 9.0


@dataclass(frozen=True)
class Target:
    """A bright point on the ground.

    Attributes:
        east_m: easting.
        north_m: northing.
        rcs_m2: radar cross-section; 20 000 stands 20 dB above farmland.
    """

    east_m: float
    north_m: float
    rcs_m2: float = 20_000.0


@dataclass(frozen=True)
class GrdScene:
    """What a GRD product shows, and how.

    Attributes:
        site: middle of the image.
        flight: the overpass.
        terrain: heights.
        gamma0: by polarisation (VV, VH), linear power: a constant or a function of place.
        lines: height of the image.
        samples: width of the image.
        ipf: version of ESA's processor: before 002.90 the layout is the old one (one noise
            vector, orbit vectors every second, conversions of degree 4, border not cleared).
        speckle: multiply by gamma noise of 4.4 looks, each pixel for itself.
        noise_db: thermal noise in beta0, dB; None for none.
        annotate_noise: False writes zeros into the noise tables, as real IPF 002.36 does.
        targets: bright points.
        response_px: half width of the triangular response, pixels.
        step_m: distance of the points the ground is made of.
        border_px: lines and columns without signal at each edge.
        lead_px: columns without signal before the image, as in a piece of a wider swath.
        update_s: time between updates of the ground range conversion.
        update_heights_m: terrain heights of the updates, in turn; empty for the terrain's base.
        update_rule: between updates, LINEAR or NEAREST.
        orbit_shift_m: error of the annotated orbit along the track.
        ramp: relative change of betaNought from the first to the last line and pixel.
        seed: of everything that is random.
    """

    site: Site
    flight: Pass
    terrain: AnalyticTerrain
    gamma0: Mapping[str, Field] = field(default_factory=lambda: {"VV": 0.1, "VH": 0.02})
    lines: int = 300
    samples: int = 300
    ipf: str = "003.40"
    speckle: bool = False
    noise_db: float | None = -24.0
    annotate_noise: bool = True
    targets: tuple[Target, ...] = ()
    response_px: int = 2
    step_m: float = 2.5
    border_px: int = 0
    lead_px: int = 0
    update_s: float = 1.0
    update_heights_m: tuple[float, ...] = ()
    update_rule: str = LINEAR
    orbit_shift_m: float = 0.0
    ramp: float = 0.0
    seed: int = 1


@dataclass(frozen=True)
class KnownPoint:
    """Where a bright point is, and where it appears.

    Attributes:
        east_m: easting.
        north_m: northing.
        height_m: above the ellipsoid.
        line: fractional line.
        pixel: fractional pixel, counted from the file's first column.
        rcs_m2: radar cross-section.
    """

    east_m: float
    north_m: float
    height_m: float
    line: float
    pixel: float
    rcs_m2: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What a processor should find in a product.

    Attributes:
        home: the .SAFE folder.
        scene: what was simulated.
        raster: exact geometry of the image; `raster.locate` takes Earth-centred points.
        surface: the ground; `surface.points` gives Earth-centred points.
        targets: bright points.
        noise_dn2: by polarisation, thermal noise in DN^2, (lines, samples).
    """

    home: Path
    scene: GrdScene
    raster: Raster[GroundRange]
    surface: Surface
    targets: tuple[KnownPoint, ...]
    noise_dn2: Mapping[str, Floats]


def write_grd(folder: Path, scene: GrdScene) -> Truth:
    """Write a GRD product into a folder.

    Args:
        folder: gets the .SAFE folder.
        scene: what it shows.

    Returns:
        What is true of it.

    Raises:
        ValueError: the site cannot be seen so, or the area is too large.
    """
    orbit = fly(scene.flight, *scene.site.geographic())
    raster = image_raster(scene, orbit)
    surface = Surface(scene.site, scene.terrain, _reach_m(scene))
    energy = image_energy(scene, raster, surface)
    made = Level1Product(
        scene.flight, GRD, scene.ipf, tuple(scene.gamma0), orbit, raster.first_s, raster.last_s
    )
    home = folder / f"{made.name}.SAFE"
    across = scene.lead_px + scene.samples
    grid = geolocation_grid(
        raster,
        Level(scene.site, scene.terrain.base_m),
        spread(scene.lines - 1, 9),
        spread(across - 1, 20),
    )
    area = slant_area(scene, raster)
    noise = {}
    for number, name in enumerate(scene.gamma0, start=1):
        annotation = _annotate(scene, made, name, number, raster, grid)
        noise[name] = _write_image(home, scene, annotation, energy[name] / area)
    product.write_manifest(home, made, grid)
    return Truth(home, scene, raster, surface, _known(scene, raster, surface), noise)


def image_energy(
    scene: GrdScene, raster: Raster[GroundRange], surface: Surface
) -> dict[str, Floats]:
    """Radar cross-section that falls into each pixel, m2, by polarisation.

    The columns are the scene's own, without its lead.
    """
    quick, names = raster.short(), list(scene.gamma0)
    shape = (scene.lines + 2 * _PAD_PX, scene.samples + 2 * _PAD_PX)
    images = np.zeros((len(names), *shape))
    for east, north, cell in _points(scene, quick):
        centres, areas = surface.facets(east, north, cell)
        line, pixel, ray = quick.view(centres)
        seen = np.maximum(np.einsum("ij,ij->i", areas, ray), 0)  # 0 is turned away: self-shadow
        weights = [seen * evaluate(scene.gamma0[name], east, north) for name in names]
        deposit(images, line + _PAD_PX, pixel + _PAD_PX - scene.lead_px, weights, scene.response_px)
    for point in _known(scene, quick, surface):
        at = (point.line + _PAD_PX, point.pixel + _PAD_PX - scene.lead_px)
        rcs = [np.array([point.rcs_m2])] * len(names)
        deposit(images, np.array([at[0]]), np.array([at[1]]), rcs, scene.response_px)
    inside = (slice(_PAD_PX, -_PAD_PX), slice(_PAD_PX, -_PAD_PX))
    return {name: images[i][inside] for i, name in enumerate(names)}


def slant_area(scene: GrdScene, raster: Raster[GroundRange]) -> Floats:
    """Area of each pixel in slant range, m2, (lines, samples): what beta0 is the power per."""
    pixel = scene.lead_px + np.arange(scene.samples, dtype=np.float64)
    times = raster.time(np.arange(scene.lines))
    slope = np.stack([raster.axis.slope(pixel, np.full(len(pixel), t)) for t in times])
    return np.asarray(slope * SPACING_M**2)


def deposit(
    images: Floats, line: Floats, pixel: Floats, weights: list[Floats], half_px: int
) -> None:
    """Add points to images, each spread by a triangle both ways; what falls outside is lost.

    Args:
        images: (k, lines, samples).
        line: (n,) fractional lines.
        pixel: (n,) fractional pixels.
        weights: k times (n,).
        half_px: half width of the triangle, a whole number, so that the weights sum up to 1.
    """
    _, lines, samples = images.shape
    inside = (line > half_px) & (line < lines - half_px - 1)
    inside &= (pixel > half_px) & (pixel < samples - half_px - 1)
    if not inside.any():
        return
    line, pixel = line[inside], pixel[inside]
    kept = [w[inside] for w in weights]
    rows, cols = np.floor(line).astype(np.int64), np.floor(pixel).astype(np.int64)
    top, height = int(rows.min()) - half_px, int(np.ptp(rows)) + 2 * half_px + 1
    left, width = int(cols.min()) - half_px, int(np.ptp(cols)) + 2 * half_px + 1
    base = (rows - top) * width + cols - left
    steps = range(1 - half_px, half_px + 1)
    down = [(half_px - np.abs(line - rows - i)) / half_px**2 for i in steps]
    across = [(half_px - np.abs(pixel - cols - j)) / half_px**2 for j in steps]
    for image, weight in zip(images, kept, strict=True):
        part = np.zeros(height * width)
        for i, down_weight in zip(steps, down, strict=True):
            scaled = weight * down_weight
            for j, across_weight in zip(steps, across, strict=True):
                at = base + (i * width + j)
                part += np.bincount(at, scaled * across_weight, minlength=len(part))
        image[top : top + height, left : left + width] += part.reshape(height, width)


def image_raster(scene: GrdScene, orbit: FlownOrbit) -> Raster[GroundRange]:
    """Lines and pixels of a scene, with the site in the middle of the part that has signal."""
    level = Level(scene.site, scene.terrain.base_m)
    point = level.middle()
    position = orbit.state(np.zeros(1), 0)[0]
    radius = float(np.linalg.norm(point)) - level.height_m
    line_s = SPACING_M / ground_speed(orbit, point)
    first_s = round(-(scene.lines // 2) * line_s, 6)
    span = (first_s, first_s + (scene.lines - 1) * line_s)
    axis = _ground_range(scene, orbit, span, radius, float(np.linalg.norm(point - position)))
    return Raster(orbit, first_s, line_s, axis, scene.lines, scene.lead_px + scene.samples)


def _ground_range(
    scene: GrdScene, orbit: FlownOrbit, span_s: tuple[float, float], radius: float, slant_m: float
) -> GroundRange:
    """The conversion whose middle pixel sees the site; updates begin before the first line."""
    first = round(span_s[0] - min(_UPDATE_LEAD_S, 1.3 * scene.update_s), 6)
    count = int((span_s[1] - first) / scene.update_s) + 2
    times = first + scene.update_s * np.arange(count)
    heights = scene.update_heights_m or (scene.terrain.base_m,)
    radii = radius + np.resize(heights, count)
    distances = np.linalg.norm(orbit.state(times, 0)[0], axis=1)
    middle = np.array([-(scene.lead_px + scene.samples // 2)], dtype=np.float64)
    # Seen from the site, the near edge lies half an image (and the lead) towards the satellite.
    now = np.zeros(1)
    base = np.array([radius + scene.terrain.base_m])
    distance = np.linalg.norm(orbit.state(now, 0)[0], axis=1)
    near = float(GroundRange(now, base, distance, slant_m, SPACING_M).slant(middle, now)[0])
    return GroundRange(times, radii, distances, near, SPACING_M, scene.update_rule)


def _reach_m(scene: GrdScene) -> float:
    """Half the side of the square that holds the image's ground with its margins."""
    half = SPACING_M * (max(scene.lines, scene.samples) / 2 + _EDGE_PX)
    return 1.5 * half + 3 * _relief_margin_m(scene)


def _relief_margin_m(scene: GrdScene) -> float:
    """How far relief moves ground towards the satellite, or away from it."""
    view = np.radians(scene.flight.incidence_deg - 2)
    return float(scene.terrain.relief_m / np.tan(view))


def _points(scene: GrdScene, raster: Raster[GroundRange]) -> Iterator[tuple[Floats, Floats, float]]:
    """Jittered points of the image's ground and its margins: eastings, northings, cell area."""
    edge = _EDGE_PX + scene.response_px
    relief_px = _relief_margin_m(scene) / SPACING_M
    middle = (scene.lines - 1) / 2, scene.lead_px + (scene.samples - 1) / 2
    half = (
        scene.lines / 2 + edge + 0.003 * scene.samples,
        scene.samples / 2 + edge + relief_px + 0.003 * scene.lines,
    )
    level = Level(scene.site, scene.terrain.base_m)
    rng = np.random.default_rng([scene.seed, 0x5EED])
    return jittered_cells(raster, level, middle, half, scene.step_m / SPACING_M, rng)


def _known(
    scene: GrdScene, raster: Raster[GroundRange], surface: Surface
) -> tuple[KnownPoint, ...]:
    if not scene.targets:
        return ()
    east, north, rcs = (
        np.array([getattr(t, name) for t in scene.targets])
        for name in ("east_m", "north_m", "rcs_m2")
    )
    line, pixel = raster.locate(surface.points(east, north)[0])
    height = scene.terrain.height(east, north)
    rows = np.stack([east, north, height, line, pixel, rcs], axis=1)
    return tuple(KnownPoint(*row) for row in rows.tolist())


def _annotate(
    scene: GrdScene,
    made: Level1Product,
    name: str,
    number: int,
    raster: Raster[GroundRange],
    grid: list[GridPoint],
) -> AnnotationWriter:
    return AnnotationWriter(
        product=made,
        polarisation=name,
        swath="IW",
        number=number,
        raster=raster,
        vectors=_shifted(raster.orbit, scene.orbit_shift_m),
        grid=grid,
        near_m=raster.axis.near_m,
        spacing_m=(SPACING_M, SPACING_M),
        blocks=_blocks(scene),
    )


def _shifted(orbit: FlownOrbit, along_m: float) -> FlownOrbit:
    """An orbit that is ahead of the true one."""
    if not along_m:
        return orbit
    speed = float(np.linalg.norm(orbit.state(np.zeros(1))[1]))
    first, last = orbit.span_s
    late = along_m / speed
    return replace(orbit, span_s=(first - late, last - late))


def _blocks(scene: GrdScene) -> list[Block]:
    """Two sub-swaths, whose limit moves by some samples half-way down, as in real products."""
    last_line, last_sample = scene.lines - 1, scene.lead_px + scene.samples - 1
    middle, limit = scene.lines // 2, scene.lead_px + scene.samples // 2
    parts = []
    for first, last, shift in ((0, middle - 1, 0), (middle, last_line, 5)):
        parts.append(Block("IW1", first, 0, last, limit + shift))
        parts.append(Block("IW2", first, limit + shift + 1, last, last_sample))
    return parts


def _write_image(
    home: Path, scene: GrdScene, annotation: AnnotationWriter, beta0: Floats
) -> Floats:
    """Write the files of one polarisation, and return its noise in DN^2."""
    beta = _beta_lut(scene)
    across, along, noise = _noise(scene, annotation.product.denoised, beta)
    pixels = _pixels(scene, annotation, beta0, beta, noise)
    measurement = home / "measurement" / f"{annotation.file_name}.tiff"
    product.write_grd_tiff(measurement, pixels, annotation.grid)
    annotations.write(home, annotation, beta, across, along)
    return noise


def _pixels(
    scene: GrdScene, annotation: AnnotationWriter, beta0: Floats, beta: AnnotationLut, noise: Floats
) -> NDArray[np.uint16]:
    """DN, (lines, lead + samples) uint16."""
    lead = scene.lead_px
    shape = (scene.lines, lead + scene.samples)
    amplitude = beta.raster(*shape)[:, lead:]
    power = beta0 * amplitude**2 + noise[:, lead:]
    rng = np.random.default_rng([scene.seed, 0x59EC, annotation.number])
    if scene.speckle:
        power = power * rng.standard_gamma(LOOKS, power.shape) / LOOKS
    dn = np.zeros(shape)
    dn[:, lead:] = np.rint(np.sqrt(power))
    if scene.border_px or lead:
        _clear_border(scene, annotation.product.denoised, dn, rng)
    return np.clip(dn, 0, 65535).astype(np.uint16)


def _clear_border(scene: GrdScene, cleared: bool, dn: Floats, rng: np.random.Generator) -> None:
    """Take the signal off the edges: 0 since IPF 2.90, low values before."""
    edge = scene.border_px
    outside = np.ones(dn.shape, dtype=bool)
    outside[edge : len(dn) - edge, scene.lead_px + edge : dn.shape[1] - edge] = False
    dn[outside] = 0 if cleared else np.rint(rng.rayleigh(_BORDER_DN, int(outside.sum())))


def _beta_lut(scene: GrdScene) -> AnnotationLut:
    samples = scene.lead_px + scene.samples
    lines = np.array([0, scene.lines // 2, scene.lines - 1])
    pixels = _steps(samples - 1, _PIXEL_STEP)
    down, across = lines[:, None] / lines[-1], pixels[None, :] / pixels[-1]
    return AnnotationLut(lines, pixels, AMPLITUDE * (1 + scene.ramp * (down + across) / 2))


def _noise(
    scene: GrdScene, denoised: bool, beta: AnnotationLut
) -> tuple[AnnotationLut, list[BlockLut], Floats]:
    """Annotated noise tables (range, azimuth), and the noise they mean, (lines, samples) DN^2."""
    level = 0.0 if scene.noise_db is None else AMPLITUDE**2 * 10 ** (scene.noise_db / 10)
    samples = scene.lead_px + scene.samples
    side = 2 * beta.pixels / max(beta.pixels[-1], 1) - 1
    drift = np.array([0.98, 1.0, 1.03])[:, None]
    across = AnnotationLut(
        beta.lines, beta.pixels, level * drift * (0.85 + 0.45 * side**2)[None, :]
    )
    noise = across.raster(scene.lines, samples)
    along = []
    for block in _blocks(scene) if denoised else ():
        lines = block.first_line + _steps(block.last_line - block.first_line, _NOISE_LINE_STEP)
        shift = 0.0 if block.swath == "IW1" else 0.8
        values = 1.05 + 0.12 * np.cos(2 * np.pi * lines / 97 + shift)
        along.append(BlockLut(block, lines, values))
        rows = np.arange(block.first_line, block.last_line + 1)
        part = (slice(rows[0], rows[-1] + 1), slice(block.first_sample, block.last_sample + 1))
        noise[part] *= np.interp(rows, lines, values)[:, None]
    return _as_annotated(scene, across), along, noise


def _as_annotated(scene: GrdScene, across: AnnotationLut) -> AnnotationLut:
    """Range table in the units of the processor's version (ESA's note MPC-0243, section 3)."""
    scale, ipf = 1.0, product.version(scene.ipf)
    if ipf <= (2, 50):
        scale = _KNOISE * (AMPLITUDE if ipf < (2, 34) else AMPLITUDE**2)
    factor = 1 / scale if scene.annotate_noise else 0.0
    return AnnotationLut(across.lines, across.pixels, across.values * factor)


def _steps(last: int, step: int) -> Ints:
    return np.unique(np.append(np.arange(0, last, step), last))
