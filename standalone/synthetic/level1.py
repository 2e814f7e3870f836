"""Sentinel-1 Level-1 products over hills of the synthetic Member State, and their DEM.

They show the same crops as the state's CARD, so that what a processor makes of them can be
compared with parcels; small, since every facet of the ground is reckoned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from standalone.synthetic.crops import S1_BANDS, Cover, Floats, backscatter, shares
from standalone.synthetic.landscape import Landscape
from standalone.synthetic.radar.dem import SyntheticDem, write_dem
from standalone.synthetic.radar.eof import write_orbit_file
from standalone.synthetic.radar.grd import GrdScene, write_grd
from standalone.synthetic.radar.orbit import ASCENDING, Pass
from standalone.synthetic.radar.projection import Floats as Places
from standalone.synthetic.radar.slc import SlcPair, write_slc_pair
from standalone.synthetic.radar.terrain import Site, hills
from standalone.synthetic.sentinel1 import SEASON, RadarScene
from store.grid import Grid

FOLDER = "level1"
DEM_FOLDER = "dem"
DEM_FILE = "dem.tif"

GRD_SCENES = tuple(s for s in SEASON if f"{s.start:%m-%d}" in {"05-10", "06-07"})
"""One scene of each orbit, on days of the state's CARD."""

SLC_SCENE = next(s for s in GRD_SCENES if s.direction == ASCENDING)
"""First date of the pair; the second is 12 days later."""

_LARGEST_PX = 500
_EDGE_PX = 40
_DEM_MARGIN_M = 3000.0
_IPF = "003.71"
_INCIDENCE_DEG = {"ASCENDING": 36.5, "DESCENDING": 41.0}
_BARE, _CLOSED, _VH_LESS = 0.78, 0.25, 0.08
_PIXEL_M = 10.0
_STEP_M = 5.0  # a third of the time of 2.5; what it adds to a pixel's spread is far below speckle
_INCOHERENT = ("forest", "water")


@dataclass(frozen=True, eq=False)
class LabelField:
    """A function of place: each label of a landscape has one value; beyond its edge, the nearest.

    Attributes:
        land: where the labels lie.
        values: (k,) by label.
    """

    land: Landscape
    values: Floats

    def __call__(self, east_m: Places, north_m: Places) -> Places:
        """Values at places."""
        grid = self.land.grid
        row = ((grid.north_m - north_m) // grid.res_m).astype(int)
        col = ((east_m - grid.west_m) // grid.res_m).astype(int)
        label = self.land.label[
            np.clip(row, 0, grid.height_px - 1), np.clip(col, 0, grid.width_px - 1)
        ]
        return np.asarray(self.values[label])


def steps(folder: Path, land: Landscape, seed: int) -> list[tuple[str, Callable[[], object]]]:
    """What is to be made: what it is called, and how it is made.

    Args:
        folder: of the state.
        land: its ground, 10 m.
        seed: of everything that is random.
    """
    dem = SyntheticDem(site_of(land.grid), hills(seed), _side_m(land.grid))
    return [
        ("DEM", partial(write_dem, folder / DEM_FOLDER / DEM_FILE, dem)),
        *(
            (
                f"Sentinel-1 GRD {scene.start:%Y-%m-%d}",
                partial(_write_grd, folder / FOLDER, land, scene, seed),
            )
            for scene in GRD_SCENES
        ),
        ("Sentinel-1 SLC pair", partial(_write_pair, folder / FOLDER, land, seed)),
    ]


def site_of(grid: Grid) -> Site:
    """Middle of the ground."""
    west, south, east, north = grid.bounds_m
    return Site(grid.epsg, (west + east) / 2, (south + north) / 2)


def pass_of(scene: RadarScene) -> Pass:
    """The overpass of a scene of the state."""
    incidence = _INCIDENCE_DEG[scene.direction]
    return Pass(scene.start, scene.direction, incidence, "S1A", scene.absolute_orbit)


def _write_grd(folder: Path, land: Landscape, scene: RadarScene, seed: int) -> None:
    size = min(_LARGEST_PX, land.grid.height_px + _EDGE_PX)
    truth = write_grd(
        folder,
        GrdScene(
            site_of(land.grid),
            pass_of(scene),
            hills(seed),
            gamma0=_gamma0(land, scene),
            lines=size,
            samples=size,
            ipf=_IPF,
            speckle=True,
            step_m=_STEP_M,
            seed=seed,
        ),
    )
    write_orbit_file(folder / "orbits", truth.scene.flight, truth.raster.orbit)


def _write_pair(folder: Path, land: Landscape, seed: int) -> None:
    day = SLC_SCENE.start.timetuple().tm_yday + 6
    bare = land.by_label(_bareness, day)[:, 0]
    levels = _CLOSED + (_BARE - _CLOSED) * bare
    coherence = {
        band: LabelField(land, levels - less)
        for band, less in zip(S1_BANDS, (0, _VH_LESS), strict=True)
    }
    pair = SlcPair(
        site_of(land.grid),
        pass_of(SLC_SCENE),
        hills(seed),
        coherence,
        gamma0=_gamma0(land, SLC_SCENE),
        ipf=_IPF,
        seed=seed,
    )
    truth = write_slc_pair(folder, pair)
    for flight, strips in zip(truth.flights, truth.strips, strict=True):
        write_orbit_file(folder / "orbits", flight, strips[0].raster.orbit)


def _gamma0(land: Landscape, scene: RadarScene) -> dict[str, LabelField]:
    """Backscatter of the day by band, linear power."""
    levels = land.by_label(backscatter, scene.start.timetuple().tm_yday)
    power = 10 ** (levels / 10)
    return {band: LabelField(land, power[:, i]) for i, band in enumerate(S1_BANDS)}


def _bareness(cover: Cover, day: Floats, vigour: Floats) -> Floats:
    """Share of the ground that green leaves leave free, (n, 1); forests and water leave none."""
    green, _ = shares(cover, day, vigour)
    return np.asarray((1 - green)[:, None] * (cover.name not in _INCOHERENT))


def _side_m(grid: Grid) -> float:
    """Width of the area that all products and the relief around them need."""
    side = min(_LARGEST_PX, grid.height_px + _EDGE_PX) * _PIXEL_M
    return max(1.5 * side, 10_000.0) + _DEM_MARGIN_M
