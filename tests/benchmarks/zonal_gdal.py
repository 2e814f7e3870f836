"""P20: the zonal stage beside `gdal raster zonal-stats` (GDAL 3.11 and later), one band.

The program is part of libgdal, which pyogrio's wheel brings along; it is called there by GDAL's C
API for algorithms, in a process of its own. It has neither percentiles nor a count by class, reads
the pixels from an uncompressed file in the system's cache and writes a CSV; ours has all eight
statistics, its pixels and spans in memory.
"""

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import rasterio

from tests.benchmarks import granule, ours
from tests.benchmarks.clock import Way
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.granule import EPSG, GRID_10M
from tests.benchmarks.results import Figure, Result

_STRATEGIES = ("feature", "raster")
_STATISTICS = ("count", "mean", "stdev", "min", "max")
_TRIES = 3


def run(bench: Bench, _: frozenset[str]) -> Iterator[Result]:
    """Write the inputs, then run both."""
    raster, zones = _raster(bench), _zones(bench)
    index = bench.index_of(GRID_10M)
    decoded = [ours.recorded(bench.sources("cog")["B04"], bench.index_of)]
    mine = bench.turns({"ours": Way(lambda _: ours.reduce_bands(index, decoded))}, 4)["ours"].cpu_s
    theirs = {
        strategy: min(_child(raster, zones, strategy) for _ in range(_TRIES))
        for strategy in _STRATEGIES
    }
    yield Result.of(
        "P20",
        f"zonal stage vs gdal raster zonal-stats {pyogrio.__gdal_version_string__}, which has no "
        "percentiles",
        [Figure(min(theirs.values()) / mine, 25, at_least=True)],
        {"ours_cpu_s": mine, **{f"gdal_{name}_cpu_s": each for name, each in theirs.items()}},
    )


PART = Part(frozenset({"P20"}), run)


def _raster(bench: Bench) -> Path:
    path = bench.folder / "zonal.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=GRID_10M.width_px, height=GRID_10M.height_px, count=1,
        dtype="uint16", crs=f"EPSG:{EPSG}", transform=granule.affine(GRID_10M), nodata=0,
    ) as out:  # fmt: skip
        out.write(bench.granule.read("B04"), 1)
    return path


def _zones(bench: Bench) -> Path:
    path = bench.folder / "zonal.gpkg"
    path.unlink(missing_ok=True)
    pyogrio.raw.write(
        path, np.array(bench.wkb, dtype=object), [bench.pids], ["pid"],
        geometry_type="MultiPolygon", crs=f"EPSG:{EPSG}", driver="GPKG",
    )  # fmt: skip
    return path


def _child(raster: Path, zones: Path, strategy: str) -> float:
    """The CPU seconds of GDAL's run, without its start."""
    files = (raster, zones, raster.with_suffix(".csv"))
    files[-1].unlink(missing_ok=True)
    command = [sys.executable, "-m", __name__, *map(str, files), strategy]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _run_gdal(raster: str, zones: str, out: str, strategy: str) -> float:
    gdal = ctypes.CDLL(str(next(Path(pyogrio.__file__).parents[1].glob("pyogrio.libs/libgdal*"))))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("GDALAllRegister", None, []),
        ("GDALGetGlobalAlgorithmRegistry", pointer, []),
        ("GDALAlgorithmRegistryInstantiateAlg", pointer, [pointer, text]),
        ("GDALAlgorithmInstantiateSubAlgorithm", pointer, [pointer, text]),
        ("GDALAlgorithmParseCommandLineArguments", ctypes.c_bool, [pointer, pointer]),
        ("GDALAlgorithmRun", ctypes.c_bool, [pointer, pointer, pointer]),
        ("GDALAlgorithmFinalize", ctypes.c_bool, [pointer]),
        ("CSLAddString", pointer, [pointer, text]),
        ("CPLGetLastErrorMsg", text, []),
    ):
        function = getattr(gdal, name)
        function.restype, function.argtypes = result, arguments
    gdal.GDALAllRegister()
    registry = gdal.GDALGetGlobalAlgorithmRegistry()
    group = gdal.GDALAlgorithmRegistryInstantiateAlg(registry, b"raster")
    algorithm = gdal.GDALAlgorithmInstantiateSubAlgorithm(group, b"zonal-stats")
    words = ["--zones", zones, "--include-field", "pid", "--strategy", strategy]
    words += [word for name in _STATISTICS for word in ("--stat", name)]
    listed = None
    for word in (*words, raster, out):
        listed = gdal.CSLAddString(listed, word.encode())
    began = time.process_time()
    done = (
        gdal.GDALAlgorithmParseCommandLineArguments(algorithm, listed)
        and gdal.GDALAlgorithmRun(algorithm, None, None)
        and gdal.GDALAlgorithmFinalize(algorithm)
    )
    spent = time.process_time() - began
    if not done:
        raise RuntimeError(f"gdal raster zonal-stats: {gdal.CPLGetLastErrorMsg().decode()}")
    return spent


if __name__ == "__main__":
    print(_run_gdal(*sys.argv[1:]))
