"""The 40,000 parcels of the benchmark, made once and kept, and how typical they are."""

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from standalone.synthetic import parcels as synthetic
from tests.benchmarks import parcel_set
from tests.benchmarks.granule import GRID_10M

_SEED = 1
_TOLERANCE = 0.10

_TYPICAL = {
    "parcels": 40_000,
    "mean_ha": 2.42,
    "median_ha": 1.03,
    "share_below_0.3_ha": 0.203,
    "pixels": 9.48e6,
    "pixels_mean": 237,
    "pixels_median": 100,
    "cells_1024_touched": 0.54,
}
"""A sparse, clustered Dutch granule; "pixels" are of 10 m, "cells" squares of 1024 of them."""


@dataclass(frozen=True)
class _Files:
    """Where a parcel set is kept."""

    wkb: Path
    summary: Path
    file: Path


def load(folder: Path, say: Callable[[str], None]) -> list[bytes]:
    """The parcels as WKB in the granule's CRS; says how they compare with a typical granule's."""
    files = _files(folder)
    if not files.summary.exists():
        say("making 40,000 parcels")
        _make(files)
    _compare(json.loads(files.summary.read_text()), say)
    return [wkb.as_py() for wkb in pq.read_table(files.wkb)["wkb"]]


def file(folder: Path) -> Path:
    """The same parcels as the file an agency would deliver, in another CRS."""
    return _files(folder).file


def key() -> str:
    """Names the parcel set: changes with the generator's text and the seed."""
    text = f"{_SEED}\n{inspect.getsource(synthetic)}{inspect.getsource(parcel_set)}"
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _files(folder: Path) -> _Files:
    name = f"parcels-{key()}"
    return _Files(folder / f"{name}.parquet", folder / f"{name}.json", folder / f"{name}.gpkg")


def _make(files: _Files) -> None:
    """The summary is written last: with it, the set is complete."""
    made = parcel_set.benchmark_set(_SEED)
    pq.write_table(pa.table({"wkb": shapely.to_wkb(made.geometry)}), files.wkb)
    files.file.unlink(missing_ok=True)
    synthetic.write_geopackage(made, files.file)
    files.summary.write_text(json.dumps(parcel_set.summary(made, GRID_10M)))


def _compare(found: dict[str, float], say: Callable[[str], None]) -> None:
    say("the parcel set beside a typical sparse granule (within 10 % unless marked):")
    for name, typical in _TYPICAL.items():
        off = found[name] / typical - 1
        mark = "" if abs(off) <= _TOLERANCE else "  <- MORE THAN 10 % OFF"
        say(f"  {name:20} {found[name]:12,.4g} typical {typical:12,.4g} {off:+7.1%}{mark}")
