"""P12: peak memory of a worker on the granule, and on a Sentinel-1 raster of 3 GB a band.

The worker is the real program in a process of its own. Its high-water mark (VmHWM) counts the
pages of mapped files too, which the kernel may drop at will; the gate holds with them.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from store import db
from store.catalogue import BandSource
from store.grid import Grid
from tests.benchmarks import parcels
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.granule import EPSG, GRID_10M
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import AOI, State

_S1_GRID = Grid(EPSG, 10.0, GRID_10M.west_m - 3.7, GRID_10M.north_m + 4.1, 24027, 31185)
_S1_PX = _S1_GRID.height_px * _S1_GRID.width_px
_S1_BYTES = _S1_PX * 4
_SETS = 3
_COPIES = ((0, 0), (1, 0), (0, -1), (1, -1))
_POLL_S = 0.01
_GB = 2**30


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Run one worker on each scene."""
    state = State.fresh(bench.server, "bench_memory")
    n = state.import_parcels(parcels.file(bench.folder)).size
    s2 = {
        coding: _peak(bench, state, state.register("s2", EPSG, bench.sources(coding)))
        for coding in ("jp2", "cog")
    }
    bench.say(f"P12: {_SETS} parcel sets as large")
    shared = State.fresh(bench.server, "bench_memory_sets")
    shared.import_parcels(parcels.file(bench.folder))
    _add_sets(shared, n)
    sets = {
        coding: _peak(bench, shared, shared.register("s2", EPSG, bench.sources(coding)))
        for coding in ("jp2", "cog")
    }
    bench.say("P12: a Sentinel-1 raster of 3 GB a band, and four times the parcels")
    _spread_parcels(state, n)
    s1 = _peak(bench, state, state.register("bs", EPSG, _s1_bands(bench.folder)))
    yield Result.of(
        "P12",
        f"peak memory of a worker: S2 granule ; for {_SETS} sets of 40,000 parcels ; S1 scene, two "
        "bands of 3 GB",
        [
            Figure(max(s2.values()), 0.5, False, "S2", " GB"),
            Figure(max(sets.values()), 0.5, False, "sets", " GB"),
            Figure(s1, 1, False, "S1", " GB"),
        ],
        {f"s2_{coding}_gb": peak for coding, peak in s2.items()}
        | {f"sets_{coding}_gb": peak for coding, peak in sets.items()}
        | {"s1_parcels": n * len(_COPIES), "s1_bytes_per_band": _S1_BYTES},
    )


PART = Part(frozenset({"P12"}), run)


def _peak(bench: Bench, state: State, reference: str) -> float:
    """GB that a worker used at most; its spans are not cached, the dearest case."""
    cache = bench.folder / "spans-memory"
    shutil.rmtree(cache, ignore_errors=True)
    env = os.environ | state.env | {"CBM_CACHE_DIR": str(cache), "CBM_THREADS": "1"}
    worker = subprocess.Popen(
        [sys.executable, "-c", "from extraction.cli import main; main()", "one", reference], env=env
    )
    peak_kb = 0
    while worker.poll() is None:
        peak_kb = max(peak_kb, _high_water_kb(worker.pid))
        time.sleep(_POLL_S)
    if worker.returncode:
        raise RuntimeError(f"the worker on {reference} ended with {worker.returncode}")
    bench.say(f"{reference}: {peak_kb / 2**20:.2f} GB")
    return peak_kb / 2**20


def _high_water_kb(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])
    return 0


def _spread_parcels(state: State, n: int) -> None:
    """Repeat the parcels of the tile beside and below it, under the same parcel set."""
    size_m = GRID_10M.width_px * GRID_10M.res_m
    with closing(state.connect()) as conn:
        for number, (east, north) in enumerate(_COPIES[1:], 1):
            _copy_parcels(conn, n, number, (east * size_m, north * size_m))


def _add_sets(state: State, n: int) -> None:
    """Repeat the parcels where they are, as sets of their own."""
    with closing(state.connect()) as conn:
        for number in range(1, _SETS):
            new = db.fetch_one(
                conn,
                "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
                "SELECT campaign_id, md5(random()::text), parcels, extent FROM parcel_set LIMIT 1 "
                "RETURNING id",
            )
            _copy_parcels(conn, n, number, (0.0, 0.0), new.id)


def _copy_parcels(
    conn: db.Connection,
    n: int,
    number: int,
    shift_m: tuple[float, float],
    set_id: int | None = None,
) -> None:
    """Repeat the first n parcels elsewhere, in their set or another."""
    db.execute(
        conn,
        f"""
        INSERT INTO {AOI}.parcels
        SELECT campaign_id, pid + %(step)s, coalesce(%(set)s, set_id), code || '-' || %(number)s,
               crop_name, crop_code, ST_Transform(ST_Translate(ST_Transform(geom, %(epsg)s), %(x)s,
               %(y)s), ST_SRID(geom)), geom_sha
        FROM {AOI}.parcels WHERE pid <= %(n)s""",
        {
            "step": number * n,
            "set": set_id,
            "number": number,
            "epsg": EPSG,
            "x": shift_m[0],
            "y": shift_m[1],
            "n": n,
        },
    )


def _s1_bands(folder: Path) -> Mapping[str, BandSource]:
    """VV and VH: big-endian ENVI rasters as BEAM-DIMAP has them; VH is the same file again."""
    image = folder / "s1" / "Gamma0_VV.img"
    if not image.exists():
        image.parent.mkdir(exist_ok=True)
        if shutil.disk_usage(folder).free < 2 * _S1_BYTES:
            raise RuntimeError(f"P12 needs {2 * _S1_BYTES / _GB:.0f} GB free below {folder}")
        _write_envi(image)
    return {"VV": BandSource(str(image), nodata=0.0), "VH": BandSource(str(image), nodata=0.0)}


def _write_envi(image: Path) -> None:
    """One strip of speckle, over and over."""
    rows = 512
    strip = np.random.default_rng(3).gamma(4, 0.02, (rows, _S1_GRID.width_px)).astype(">f4")
    half = image.with_suffix(".half")
    with half.open("wb") as sink:
        for top in range(0, _S1_GRID.height_px, rows):
            sink.write(strip[: _S1_GRID.height_px - top].tobytes())
    image.with_suffix(".hdr").write_text(_HEADER.format(grid=_S1_GRID, zone=EPSG % 100))
    half.replace(image)


_HEADER = """ENVI
description = {{synthetic gamma0}}
samples = {grid.width_px}
lines = {grid.height_px}
bands = 1
header offset = 0
file type = ENVI Standard
data type = 4
interleave = bsq
byte order = 1
map info = {{UTM, 1, 1, {grid.west_m}, {grid.north_m}, 10, 10, {zone}, North, WGS-84}}
"""
