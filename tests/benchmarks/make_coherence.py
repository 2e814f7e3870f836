"""C11, C12, C13: CARD-COH against known coherence, its resampler, its speed on a real burst."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from card.make import annotation, burst_kernels, coherence, engine, products
from card.make.burst_pairs import BurstPair
from card.make.coherence import CoherencePlan
from card.make.engine import CoherenceJob
from tests import grd, simulated_slc
from tests.benchmarks import make_scene
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result

_LATER = "S1A_IW_SLC__1SDV_20230916T063730_20230916T063757_050349_060FCD_6814"
_EARLIER = "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1"
_BURST = 4
_ROUNDS = 3
_IW1_BANDS = {"range": (56.5e6 / 64.345e6, 0.75), "azimuth": (327.0 * 2.0555563e-3, 0.70)}
"""Widths in cycles per pixel and Hamming coefficients of the widest sub-swath."""

# Runs in a process of its own, for its memory.
_SPEED = """
import json, sys, time
from pathlib import Path
import numpy as np
from card.make import coherence
from tests.benchmarks import make_coherence
def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
plan, pair = make_coherence.real_size(Path(sys.argv[1]))
described = pair.image.annotation
samples = described.lines_per_burst * described.samples
shape = 2, described.lines_per_burst, coherence.window_count(described.samples)
begin, spent = kilobytes("VmRSS"), []
out = np.memmap(sys.argv[1] + "/s1-burst.scratch", np.float32, "w+", 0, shape).view(np.ndarray)
for _ in range(int(sys.argv[2])):
    with coherence.open_inputs(plan) as inputs:
        began = time.process_time()
        inputs.correlate(pair, out)
        spent.append(time.process_time() - began)
mapped = out.nbytes // 1024
print(json.dumps({"ns": min(spent) / samples / 2 * 1e9, "samples": samples,
                  "kb": kilobytes("VmHWM") - begin - mapped}))
"""


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Measure the wanted ones."""
    if "C11" in wanted:
        bench.say("C11: a simulated Sentinel-1 SLC pair of two bursts")
        yield _known(bench)
    if "C12" in wanted:
        yield _resampler()
    if "C13" in wanted:
        bench.say("C13: a burst of real size of a real pair")
        yield _speed(bench)


PART = Part(frozenset({"C11", "C12", "C13"}), run)


def _known(bench: Bench) -> Result:
    place = bench.folder / "s1-slc"
    shutil.rmtree(place, ignore_errors=True)
    shown = simulated_slc.simulate(place, replace(simulated_slc.PAIR, lines=400, samples=1600))
    plan = engine.prepare_coherence(shown.job(place))
    values = simulated_slc.mosaic(plan, place)
    means = simulated_slc.stripe_means(plan, values[0]) | {0.95: float(np.nanmean(values[1]))}
    theory = {level: simulated_slc.expected(level) for level in means}
    return Result.of(
        "C11",
        "mean coherence of simulated SLC against theory, levels 0.2 to 0.95: worst",
        [Figure(max(abs(means[level] - theory[level]) for level in means), 0.02, False, "", "")],
        {"means": means, "theory": theory, "looks": simulated_slc.looks()},
    )


def _resampler() -> Result:
    """Coherence of resampled speckle with the same speckle shifted exactly, both axes."""
    kept = {axis: _kept(*band) for axis, band in _IW1_BANDS.items()}
    loss = 100 * (1 - kept["range"] * kept["azimuth"])
    return Result.of(
        "C12",
        "coherence lost by the resampler, widest band, against exact shifts",
        [Figure(loss, 0.5, False, "", " %")],
        {"kept": kept},
    )


def _kept(width: float, window: float) -> float:
    rng = np.random.default_rng(4)
    rows, samples = 256, 1024
    cycles = np.fft.fftfreq(samples)
    shape = (window + (1 - window) * np.cos(2 * np.pi * cycles / width)) * (
        np.abs(cycles) < width / 2
    )
    spectrum = shape * (rng.normal(size=(rows, samples)) + 1j * rng.normal(size=(rows, samples)))
    shifts = rng.uniform(0, 1, (rows, 1))
    image = np.fft.ifft(spectrum).astype(np.complex64)
    exact = np.fft.ifft(spectrum * np.exp(2j * np.pi * cycles * shifts))
    moved = np.empty_like(image)
    offsets = np.broadcast_to(shifts.astype(np.float32), (rows, samples)).copy()
    burst_kernels.resample_range(image, 0, offsets, 0, coherence.kaiser_table(), moved)
    inner = (slice(None), slice(8, -8))
    return _coherence(exact[inner], moved[inner])


def _coherence(one: NDArray[np.complexfloating], two: NDArray[np.complexfloating]) -> float:
    powers = np.vdot(one, one).real * np.vdot(two, two).real
    return float(abs(np.vdot(one, two)) / np.sqrt(powers))


def _speed(bench: Bench) -> Result:
    real_size(bench.folder)
    done = subprocess.run(
        [sys.executable, "-c", _SPEED, str(bench.folder), str(_ROUNDS)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    (bench.folder / "s1-burst.scratch").unlink()
    measured = json.loads(done.stdout.splitlines()[-1])
    return Result.of(
        "C13",
        "coherence of a burst of real size, both polarisations, each ; memory above import",
        [
            Figure(measured["ns"], 125, False, "", " ns per sample"),
            Figure(measured["kb"] / 1024, 400, False, "", " MB"),
        ],
        {"samples": measured["samples"]},
    )


def real_size(folder: Path) -> tuple[CoherencePlan, BurstPair]:
    """A real pair's annotations, speckle on hills in one burst of IW1; the plan and that burst."""
    place = folder / "s1-slc-full"
    if not place.is_dir():
        half = place.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        _make_full(half)
        half.replace(place)
    job = CoherenceJob(
        place / f"{_LATER}.SAFE", (place / f"{_EARLIER}.SAFE",), place / "dem.tif", folder
    )
    plan = engine.prepare_coherence(job)
    images = [pair for pair in plan.passes.pairs if pair.image.annotation.swath == "IW1"]
    return plan, images[_BURST]


def _make_full(place: Path) -> None:
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    rng = np.random.default_rng(0)
    for name in (_LATER, _EARLIER):
        safe = grd.unpack(make_scene.SHARED, place, name)
        (safe / "measurement").mkdir()
        for channel in products.read(safe).channels:
            _write_burst(safe, annotation.read(channel.annotation), rng)
    grd.terrain(
        place / "dem.tif", lambda lon, lat: 400 + 300 * np.sin(lon * 40) * np.cos(lat * 50),
        -11.0, 32.7, 3.5, 1 / 1200,
    )  # fmt: skip


def _write_burst(safe: Path, described: annotation.Annotation, rng: np.random.Generator) -> None:
    """A measurement file in which one burst of IW1 has pixels, and the rest no place."""
    with rasterio.open(
        safe / "measurement" / f"{described.path.stem}.tiff", "w", driver="GTiff",
        dtype="complex_int16", count=1, height=described.lines, width=described.samples,
        sparse_ok=True,
    ) as out:  # fmt: skip
        if described.swath == "IW1":
            lines = described.lines_per_burst
            parts = (60 * rng.normal(size=(2, lines, described.samples))).round()
            window = Window(0, _BURST * lines, described.samples, lines)
            out.write((parts[0] + 1j * parts[1]).astype(np.complex64), 1, window=window)
