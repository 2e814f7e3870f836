"""C1 to C4, C9 and C14: CARD-BS of simulated products, whose ground is known."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from standalone.synthetic.radar.grd import GrdScene
from standalone.synthetic.radar.orbit import ASCENDING
from standalone.synthetic.radar.terrain import AnalyticTerrain, hills, mountains
from tests import simulated
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result
from tests.simulated import FLIGHT, SITE, Simulation

_SIZE_PX = 420
_SEEDS = (3, 11)
_POINTS_REACH_M = 1600.0
_DARK_DB = -26.0


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Simulate the scenes that the goals need, then measure."""
    measures = {
        "C1": _hills,
        "C2": _mountains,
        "C3": _level,
        "C4": _points,
        "C9": _tiles,
        "C14": _dark,
    }
    for goal, measure in measures.items():
        if goal in wanted:
            bench.say(f"{goal}: simulating Sentinel-1 products")
            yield measure(bench.folder)


PART = Part(frozenset({"C1", "C2", "C3", "C4", "C9", "C14"}), run)


def _simulate(folder: Path, shown: GrdScene) -> Simulation:
    place = folder / "s1-simulated"
    shutil.rmtree(place, ignore_errors=True)
    return simulated.simulate(place, shown, side_m=14_000.0)


def _hills(folder: Path) -> Result:
    stds: dict[int, list[float]] = {}
    for response_px in (2, 1, 3):
        for seed in _SEEDS if response_px == 2 else _SEEDS[:1]:
            shown = simulated.scene(
                hills(seed), size=_SIZE_PX, noise_db=-24.0, response_px=response_px
            )
            plain = _simulate(folder, shown)
            errors = simulated.errors_db(plain.card(), plain.truth)
            stds.setdefault(response_px, []).append(float(errors.std()))
    return Result.of(
        "C1",
        "flatness of hills, pixels' std, response fits the smoothing ; does not",
        [
            Figure(max(stds[2]), 0.05, False, "", " dB"),
            Figure(max(stds[1] + stds[3]), 0.2, False, "", " dB"),
        ],
        {"std_db_by_response_px": stds},
    )


def _mountains(folder: Path) -> Result:
    errors, layover = [], []
    for seed in _SEEDS:
        plain = _simulate(folder, simulated.scene(mountains(seed), size=_SIZE_PX, noise_db=-24.0))
        card = plain.card()
        errors.append(simulated.errors_db(card, plain.truth))
        chosen = simulated.inside(plain.truth, card.plan.grid)
        layover.append(float((card.flags[chosen] != 0).mean()))
    all_errors = np.concatenate(errors)
    return Result.of(
        "C2",
        "flatness of mountains outside the mask, pixels' std",
        [Figure(float(all_errors.std()), 0.2, False, "", " dB")],
        {"flagged_share": layover, "worst_db": float(np.abs(all_errors).max())},
    )


def _level(folder: Path) -> Result:
    """Of hills and of level ground, near and far, both directions: the worst of all."""
    levels = {}
    for name, flight in (
        ("near", replace(FLIGHT, incidence_deg=31.0)),
        ("far", replace(FLIGHT, incidence_deg=45.5)),
        ("ascending", replace(FLIGHT, direction=ASCENDING)),
    ):
        for ground, terrain in (("level", AnalyticTerrain(300.0)), ("hills", hills(3))):
            shown = simulated.scene(terrain, flight=flight, size=240, noise_db=-24.0)
            plain = _simulate(folder, shown)
            levels[f"{ground} {name}"] = simulated.level_db(plain.card(), plain.truth)
    return Result.of(
        "C3",
        "level of mean power against the known gamma0, worst of six scenes",
        [Figure(max(map(abs, levels.values())), 0.05, False, "", " dB")],
        {"level_db": levels},
    )


def _points(folder: Path) -> Result:
    errors = []
    scene = partial(
        simulated.scene, size=_SIZE_PX, targets=simulated.bright_points(SITE, _POINTS_REACH_M)
    )
    for shown in (scene(), scene(flight=replace(FLIGHT, direction=ASCENDING))):
        plain = _simulate(folder, shown)
        errors.append(simulated.point_errors_px(plain.card(), plain.truth))
    both = np.concatenate(errors)
    return Result.of(
        "C4",
        f"geolocation of {len(both)} bright points on hills, rms ; worst",
        [
            Figure(float(np.sqrt((both**2).mean(axis=0)).max()), 0.1, False, "", " px"),
            Figure(float(np.abs(both).max()), 0.5, False, "", " px"),
        ],
        {"mean_px": both.mean(axis=0).tolist()},
    )


def _tiles(folder: Path) -> Result:
    plain = _simulate(folder, simulated.scene(mountains(3), size=_SIZE_PX))
    whole, small = (plain.card(tile_px=size).values[0] for size in (4096, 128))
    return Result.of(
        "C9",
        "tiles of 128 px against the whole scene in one, mountains: worst",
        [Figure(float(np.nanmax(np.abs(10 * np.log10(small / whole)))), 0.05, False, "", " dB")],
        {"no_data_differs": int((np.isnan(small) != np.isnan(whole)).sum())},
    )


def _dark(folder: Path) -> Result:
    """Three draws of speckle on a large dark field, noise 2 dB above it."""
    levels, negative = [], []
    for seed in range(3):
        shown = simulated.scene(
            AnalyticTerrain(300.0), gamma0={"VH": 10 ** (_DARK_DB / 10)}, noise_db=-24.0,
            speckle=True, size=640, step_m=5.0, seed=seed,
        )  # fmt: skip
        plain = _simulate(folder, shown)
        card = plain.card()
        levels.append(simulated.level_db(card, plain.truth))
        chosen = simulated.inside(plain.truth, card.plan.grid)
        negative.append(float((card.values[0][chosen] < 0).mean()))
    return Result.of(
        "C14",
        f"noise removal: level of a field of {_DARK_DB:g} dB with speckle, worst of three",
        [Figure(max(map(abs, levels)), 0.2, False, "", " dB")],
        {"level_db": levels, "negative_share": negative},
    )
