"""Simulated GRD products with their ground, and what card.make makes of them.

The one place where the two meet: neither may import the other (see `make lint`), so that what they
agree on is not one program's opinion twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from card.make import backscatter, engine, kernels
from card.make.backscatter import BackscatterPlan, BackscatterSettings
from card.make.engine import BackscatterJob
from standalone.synthetic.radar import dem as dems
from standalone.synthetic.radar.dem import SyntheticDem, write_dem
from standalone.synthetic.radar.grd import GrdScene, Target, Truth, write_grd
from standalone.synthetic.radar.orbit import Pass
from standalone.synthetic.radar.terrain import AnalyticTerrain, Site, hills
from store.grid import Grid

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

SITE = Site(32632, 458_000.0, 5_245_000.0)
FLIGHT = Pass(datetime(2024, 5, 1, 5, 34, tzinfo=UTC))
GAMMA0 = 0.1
HILLS = hills(3)

_CHUNK = 20_000
_EDGE_PX = 14
_PEAK_PX = 5


@dataclass(frozen=True)
class Simulation:
    """A product, what is true of it, and the terrain to process it with.

    Attributes:
        truth: the simulator's.
        dem: terrain model.
        geoid: grid of the geoid that its heights stand on; None for the ellipsoid.
    """

    truth: Truth
    dem: Path
    geoid: Path | None

    def job(self, into: Path | None = None, **settings: object) -> BackscatterJob:
        """CARD-BS of it, beside it."""
        home = self.truth.home.parent
        stated = str(self.geoid or dems.ELLIPSOID)
        return BackscatterJob(
            self.truth.home, self.dem, into or home / "card", stated,
            settings=BackscatterSettings(**settings),
        )  # fmt: skip

    def card(self, **settings: object) -> "MadeCard":
        """CARD-BS of it, in memory."""
        return mosaic(engine.prepare(self.job(**settings)))


@dataclass(frozen=True)
class MadeCard:
    """CARD-BS in one piece.

    Attributes:
        plan: what it was made by.
        values: float32[bands, rows, columns].
        flags: uint8[rows, columns].
        angles: uint8[rows, columns].
    """

    plan: BackscatterPlan
    values: NDArray[np.float32]
    flags: NDArray[np.uint8]
    angles: NDArray[np.uint8]

    def has(self, bit: int) -> Mask:
        """Where a bit of the mask is set."""
        return (self.flags & bit) != 0


def scene(
    terrain: AnalyticTerrain = HILLS, site: Site = SITE, flight: Pass = FLIGHT, size: int = 150,
    gamma0: Mapping[str, object] | None = None, noise_db: float | None = None, **facts: object,
) -> GrdScene:  # fmt: skip
    """A small scene of one polarisation without noise, by default."""
    return GrdScene(
        site, flight, terrain, gamma0 or {"VV": GAMMA0}, lines=size, samples=size,
        noise_db=noise_db, **facts,
    )  # fmt: skip


def simulate(folder: Path, shown: GrdScene, side_m: float = 7000.0, **dem: object) -> Simulation:
    """Write a product and its terrain model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = write_grd(folder, shown)
    path = folder / "dem.tif"
    geoid = write_dem(path, SyntheticDem(shown.site, shown.terrain, side_m, **dem))
    return Simulation(truth, path, geoid)


def mosaic(plan: BackscatterPlan) -> MadeCard:
    """All tiles of a plan, put together."""
    shape = plan.grid.height_px, plan.grid.width_px
    card = MadeCard(
        plan,
        np.full((len(plan.images), *shape), np.nan, np.float32),
        np.full(shape, kernels.BORDER, np.uint8),
        np.full(shape, 255, np.uint8),
    )
    for made in backscatter.make_tiles(plan):
        at = slice(made.tile.row0, made.tile.row1), slice(made.tile.col0, made.tile.col1)
        card.values[:, *at], card.flags[at], card.angles[at] = made.values, made.flags, made.angles
    return card


def places(grid: Grid, site: Site) -> tuple[Floats, Floats]:
    """Eastings and northings[rows, columns] of cell centres in the site's zone."""
    east = grid.west_m + grid.res_m * (np.arange(grid.width_px) + 0.5)
    north = grid.north_m - grid.res_m * (np.arange(grid.height_px) + 0.5)
    x, y = np.meshgrid(east, north)
    if grid.epsg == site.epsg:
        return x, y
    return Transformer.from_crs(grid.epsg, site.epsg, always_xy=True).transform(x, y)


def view(truth: Truth, east_m: Floats, north_m: Floats) -> tuple[Floats, Floats, Floats]:
    """Line, pixel and area seen of a square metre of the map, at places[...]."""
    raster, parts = truth.raster.short(), []
    for i in range(0, east_m.size, _CHUNK):
        at = slice(i, i + _CHUNK)
        centres, areas = truth.surface.facets(east_m.ravel()[at], north_m.ravel()[at], 1.0)
        line, pixel, ray = raster.view(centres)
        parts.append([line, pixel, np.einsum("ij,ij->i", areas, ray)])
    line, pixel, seen = (part.reshape(east_m.shape) for part in np.concatenate(parts, axis=1))
    return line, pixel, seen


def inside(truth: Truth, grid: Grid, edge_px: int = _EDGE_PX) -> Mask:
    """Cells[rows, columns] that the image shows, away from its edges."""
    shown, (east, north) = truth.scene, places(grid, truth.scene.site)
    reach_m = grid.res_m * (max(shown.lines, shown.samples) + truth.scene.terrain.relief_m / 5)
    near = np.maximum(abs(east - shown.site.east_m), abs(north - shown.site.north_m)) < reach_m
    line, pixel, _ = view(truth, east[near], north[near])
    least, most = shown.lead_px + edge_px, shown.lead_px + shown.samples - 1 - edge_px
    chosen = np.zeros(near.shape, bool)
    chosen[near] = (
        (line > edge_px) & (line < shown.lines - 1 - edge_px) & (pixel > least) & (pixel < most)
    )
    return chosen


def errors_db(card: MadeCard, truth: Truth, band: int = 0, edge_px: int = _EDGE_PX) -> Floats:
    """Errors[n] of the pixels with a value and without a flag, in dB."""
    chosen = inside(truth, card.plan.grid, edge_px) & (card.flags == 0)
    known = card.values[band][chosen].astype(np.float64)
    return 10 * np.log10(known / truth.scene.gamma0[card.plan.bands[band]])


def level_db(card: MadeCard, truth: Truth, band: int = 0) -> float:
    """Error of the mean power in dB."""
    chosen = inside(truth, card.plan.grid) & (card.flags == 0)
    mean = card.values[band][chosen].mean(dtype=np.float64)
    return float(10 * np.log10(mean / truth.scene.gamma0[card.plan.bands[band]]))


def bright_points(site: Site, reach_m: float, step_m: float = 200.0) -> tuple[Target, ...]:
    """Bright points around a site, none of them on a grid."""
    rng, at = np.random.default_rng(5), np.arange(-reach_m, reach_m + 1, step_m)
    shift = rng.uniform(-40, 40, (at.size, at.size, 2))
    return tuple(
        Target(site.east_m + x + shift[i, j, 0], site.north_m + y + shift[i, j, 1])
        for i, x in enumerate(at)
        for j, y in enumerate(at)
    )


def point_errors_px(card: MadeCard, truth: Truth) -> Floats:
    """(rows, columns) [n, 2] by which bright points lie beside their places: centres of power."""
    grid, site = card.plan.grid, truth.scene.site
    to_map = Transformer.from_crs(site.epsg, grid.epsg, always_xy=True)
    chosen, errors = inside(truth, grid), []
    for point in truth.targets:
        x, y = to_map.transform(point.east_m, point.north_m)
        row, col = (grid.north_m - y) / grid.res_m - 0.5, (x - grid.west_m) / grid.res_m - 0.5
        i, j = round(row), round(col)
        if not chosen[i, j] or card.flags[i, j]:
            continue
        near = slice(i - _PEAK_PX, i + _PEAK_PX + 1), slice(j - _PEAK_PX, j + _PEAK_PX + 1)
        power = card.values[0][near] - GAMMA0
        rows, cols = np.mgrid[near]
        errors.append([(power * at).sum() / power.sum() for at in (rows - row, cols - col)])
    return np.array(errors)
