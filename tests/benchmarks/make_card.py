"""C7, C8, C15, C16: CARD-BS beside sarsen, in memory, made twice."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from card.make import backscatter, item
from card.make.backscatter import BackscatterPlan
from tests.benchmarks import make_scene
from tests.benchmarks.clock import Way
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.make_scene import SmallScene
from tests.benchmarks.results import Figure, Result

_PEER = "sarsen==0.9.6"
_ROUNDS = 2
_EDGE_PX = 5
_MB = 2**20

# Runs in the peer's own environment. Its import is not counted, nor is ours.
_SARSEN = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from sarsen import Sentinel1SarProduct, terrain_correction
safe, dem, out, radiometry = sys.argv[1:]
began = time.process_time()
product = Sentinel1SarProduct(safe, "IW/VV")
kind = None if radiometry == "geometric" else radiometry
terrain_correction(product, dem, out, correct_radiometry=kind, interp_method="linear")
print(json.dumps(time.process_time() - began))
"""

_MEMORY = """
import sys
from pathlib import Path
from tests.benchmarks import make_scene
from card.make import backscatter
def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
plan = make_scene.real_size(Path(sys.argv[1]))
begin = kilobytes("VmRSS")
for _ in backscatter.make_tiles(plan):
    pass
print(kilobytes("VmHWM") - begin)
"""


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Make the scenes, then measure."""
    if wanted & {"C7", "C15", "C16"}:
        bench.say("a Sentinel-1 scene of 1.44 million cells")
        scene = make_scene.small(bench.folder)
        measures = {"C7": _speed, "C15": _rerun, "C16": _geometry}
        yield from (measures[goal](bench, scene) for goal in measures if goal in wanted)
    if "C8" in wanted:
        yield _memory(bench)


PART = Part(frozenset({"C7", "C8", "C15", "C16"}), run)


def _speed(bench: Bench, scene: SmallScene) -> Result:
    plan = make_scene.small_plan(scene)
    _write(plan, bench.folder)  # compiles
    peer, out = _peer(bench), bench.folder / "s1-theirs.tif"
    theirs: list[float] = []
    ways = {
        "ours": Way(lambda _: _write(plan, bench.folder), uses_server=False),
        "sarsen": Way(
            lambda _: theirs.append(_sarsen(peer, scene, out, "gamma_bilinear")), uses_server=False
        ),
    }
    ours = bench.turns(ways, _ROUNDS)["ours"].cpu_s
    cells = scene.grid.height_px * scene.grid.width_px
    return Result.of(
        "C7",
        "CARD-BS of one polarisation, file to file, vs sarsen gamma_bilinear, CPU",
        [Figure(min(theirs) / ours, 20, at_least=True)],
        {
            "ours_mpx_per_s": cells / ours / 1e6,
            "sarsen_mpx_per_s": cells / min(theirs) / 1e6,
            "cells": cells,
        },
    )


def _rerun(bench: Bench, scene: SmallScene) -> Result:
    plan = make_scene.small_plan(scene)
    first, second = (_digest(_write(plan, bench.folder)) for _ in range(2))
    return Result.of(
        "C15",
        "a rerun gives identical bytes: files that differ",
        [Figure(float(first != second), 0, False, "", "")],
    )


def _geometry(bench: Bench, scene: SmallScene) -> Result:
    """Beta0 on the map by both programs; the shift is what explains the difference best."""
    ours = _values(make_scene.geometric(make_scene.small_plan(scene)))
    out = bench.folder / "s1-theirs.tif"
    _sarsen(_peer(bench), scene, out, "geometric")
    with rasterio.open(out) as src:
        theirs = src.read(1).astype(np.float64)[:: -1 if src.transform.e > 0 else 1]
    inner = (slice(_EDGE_PX, -_EDGE_PX),) * 2
    slopes = [part[inner].ravel() for part in np.gradient(theirs)]
    shift, *_ = np.linalg.lstsq(np.stack(slopes, 1), (ours - theirs)[inner].ravel(), rcond=None)
    decibel = 10 * np.log10(ours / theirs)[inner]
    return Result.of(
        "C16",
        "geometric correction against sarsen's: difference, std ; shift",
        [
            Figure(float(decibel.std()), 0.01, False, "", " dB"),
            Figure(float(np.hypot(*shift)), 0.01, False, "", " px"),
        ],
        {"mean_db": float(decibel.mean())},
    )


def _memory(bench: Bench) -> Result:
    bench.say("C8: a Sentinel-1 product of real size")
    make_scene.real_size(bench.folder)
    command = [sys.executable, "-c", _MEMORY, str(bench.folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Result.of(
        "C8",
        "memory above import, product of real size, tiles of 1024 px, both polarisations",
        [Figure(int(done.stdout) * 1024 / _MB, 500, False, "", " MB")],
    )


def _write(plan: BackscatterPlan, folder: Path) -> Path:
    into = folder / "s1-card"
    shutil.rmtree(into, ignore_errors=True)
    return item.write(plan, backscatter.make_tiles(plan), into)


def _values(plan: BackscatterPlan) -> NDArray[np.float64]:
    values = np.full((plan.grid.height_px, plan.grid.width_px), np.nan)
    for made in backscatter.make_tiles(plan):
        tile = made.tile
        values[tile.row0 : tile.row1, tile.col0 : tile.col1] = made.values[0]
    return values


def _digest(place: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()}


def _peer(bench: Bench) -> Path:
    """Python of an environment with sarsen, made once."""
    place = bench.folder / "sarsen"
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        bench.say(f"installing {_PEER} into an environment of its own")
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", _PEER], check=True)
        (place / "installed").touch()
    return python


def _sarsen(python: Path, scene: SmallScene, out: Path, radiometry: str) -> float:
    """CPU seconds that sarsen took."""
    out.unlink(missing_ok=True)
    done = subprocess.run(
        [python, "-c", _SARSEN, scene.safe, scene.dem, out, radiometry],
        check=True, stdout=subprocess.PIPE, text=True, cwd=out.parent,
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))
