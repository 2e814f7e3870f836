"""C5, C6, C10: our geometry of Sentinel-1 against what ESA's processor says of real products."""

from collections.abc import Iterator

import numpy as np
from pyproj import Transformer

from card.make import annotation, geometry, kernels, lattice, orbit
from card.make.annotation import Annotation
from card.make.orbit import Orbit
from store.grid import Grid
from tests.benchmarks import make_scene
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result

_INTERVAL_M = 15e3
_SIZE_PX = 900
_STEP_PX = 32


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Measure on every real annotation of an IW product from IPF 2.90."""
    images = [
        annotation.read(path)
        for path in sorted(make_scene.metadata(bench.folder).glob("*/annotation/s1*.xml"))
    ]
    recent = [image for image in images if image.mode == "IW" and image.epoch.year > 2015]
    grds = [image for image in recent if image.product_type == "GRD"]
    if "C5" in wanted:
        yield _grids(recent)
    if "C6" in wanted:
        yield _ground_range(grds)
    if "C10" in wanted:
        yield _lattice(grds[0])


PART = Part(frozenset({"C5", "C6", "C10"}), run)


def _fit(image: Annotation) -> Orbit:
    return orbit.fit(image.vectors, 0.0, image.last_s)


def _grids(images: list[Annotation]) -> Result:
    lines, metres = {}, {}
    for image in images:
        grid = image.grid
        places = geometry.to_earth_fixed(grid.lon_deg, grid.lat_deg, grid.height_m)
        t_s, slant_m, _ = geometry.look(_fit(image), places)
        name = image.path.stem
        lines[name] = float(np.abs((t_s - grid.t_s) / image.line_interval_s).max())
        stated_m = grid.slant_time_s * annotation.SPEED_OF_LIGHT_M_S / 2
        metres[name] = float(np.abs(slant_m - stated_m).max())
    return Result.of(
        "C5",
        f"real geolocation grids, {len(images)} images: worst in azimuth ; in range",
        [
            Figure(max(lines.values()), 0.05, False, "", " line"),
            Figure(max(metres.values()), 0.05, False, "", " m"),
        ],
        {"lines": lines, "metres": metres},
    )


def _ground_range(images: list[Annotation]) -> Result:
    worst = 0.0
    for image in images:
        grid = image.grid
        slant_m = grid.slant_time_s * annotation.SPEED_OF_LIGHT_M_S / 2
        for low in np.arange(slant_m.min(), slant_m.max(), _INTERVAL_M):
            near = (slant_m >= low) & (slant_m < low + _INTERVAL_M)
            to_pixels = geometry.pixel_conversions(image, low, low + _INTERVAL_M, nearest=True)
            pixels = to_pixels.pixels(grid.t_s[near] / image.line_interval_s, slant_m[near])
            worst = max(worst, float(np.abs(pixels - grid.pixel[near]).max(initial=0)))
    return Result.of(
        "C6",
        "ground range by inverted grsr, nearest update, real grids: worst",
        [Figure(worst, 0.01, False, "", " px")],
    )


def _lattice(image: Annotation) -> Result:
    """The lattice at cells all over the scene, 2000 m of relief, against solving each cell."""
    fitted, worst = _fit(image), 0.0
    to_map = Transformer.from_crs(4326, make_scene.EPSG, always_xy=True)
    for point in range(0, image.grid.lon_deg.size, 7):
        x, y = to_map.transform(image.grid.lon_deg[point], image.grid.lat_deg[point])
        grid = Grid(make_scene.EPSG, 10.0, x // 10 * 10, y // 10 * 10, _SIZE_PX, _SIZE_PX)
        worst = max(worst, _worst_px(image, fitted, grid))
    return Result.of(
        "C10",
        "geometry lattice of 32 px against solving every cell, 2 km of relief: worst",
        [Figure(worst, 0.05, False, "", " px")],
    )


def _worst_px(image: Annotation, fitted: Orbit, grid: Grid) -> float:
    along = np.arange(_SIZE_PX)
    heights = 1000 + 1000 * np.sin(along[:, None] / 40) * np.cos(along / 55)
    nodes = lattice.NodeGrid(grid, _STEP_PX, 0, 0, heights.shape)
    built = lattice.build(nodes, image, fitted, 0.0, 2000.0)
    scaled = built.scaled(heights.astype(np.float32))
    rows = np.arange(0, _SIZE_PX, 31)
    lon, lat = Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform(
        *np.meshgrid(grid.west_m + 10 * (along + 0.5), grid.north_m - 10 * (rows + 0.5))
    )
    t_s, slant_m, _ = geometry.look(fitted, geometry.to_earth_fixed(lon, lat, heights[rows]))
    line = t_s / image.line_interval_s
    exact = geometry.pixel_conversions(image, slant_m.min(), slant_m.max())
    pixel = exact.pixels(line, slant_m)
    traced, pixels, worst = np.empty((5, _SIZE_PX)), np.empty(_SIZE_PX), 0.0
    to_pixels = built.conversions.lines, built.conversions.coefficients_px, False
    for k, row in enumerate(rows):
        kernels.trace_row(built.coefficients, 0, 2, _STEP_PX, 0, 0, row, scaled[row], traced)
        kernels.to_pixels(traced[0], traced[1], *to_pixels, pixels)
        off = np.hypot(traced[0] - line[k], pixels - pixel[k])
        worst = max(worst, float(off.max()))
    return worst
