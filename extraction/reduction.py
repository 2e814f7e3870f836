"""Reducing one band: read each block once, keep the parcels' pixels, compute their statistics.

No band is ever held whole: a block's pixels are copied to their parcels while it is hot.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from extraction.kernels import spans as span_kernels
from extraction.kernels import statistics
from extraction.spans import ReadPlan
from store.errors import SceneError
from store.grid import Grid

_NEVER = 2**30
"""A number that no 16-bit pixel has: stands for "no nodata value"."""

_EXACT_TYPES = ("uint8", "int8", "uint16", "int16")


class OpenBand(Protocol):
    """What is needed of an open band (see store.raster.BandReader)."""

    @property
    def grid(self) -> Grid:
        """Where its pixels lie."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its pixels."""

    @property
    def block_shape_px(self) -> tuple[int, int]:
        """(rows, columns) of the blocks it is cheaply read in."""

    def read(self, row0: int, row1: int, col0: int, col1: int) -> npt.NDArray[Any]:
        """Pixels of a window, ends excluded."""


def read_values(
    band: OpenBand,
    plan: ReadPlan,
    checkpoint: Callable[[], None] = lambda: None,
) -> npt.NDArray[Any]:
    """Read the pixels of all parcels of a plan.

    Args:
        band: an open band on the plan's raster.
        plan: what to read.
        checkpoint: called before each block; may raise to stop.

    Returns:
        values[starts[-1]], of the band's type; parcel i's are starts[i] to starts[i + 1].
    """
    values = np.empty(int(plan.starts[-1]), band.dtype)
    ends = plan.block_ends
    for block in np.flatnonzero(np.diff(ends)):
        checkpoint()
        pieces = slice(ends[block], ends[block + 1])
        row, col, length = plan.row[pieces], plan.col[pieces], plan.length[pieces]
        row0, col0 = int(row.min()), int(col.min())
        window = band.read(row0, int(row.max()) + 1, col0, int((col + length).max()))
        span_kernels.gather(
            window,
            row0,
            col0,
            plan.row,
            plan.col,
            plan.length,
            plan.place,
            ends[block],
            ends[block + 1],
            values,
        )
    return values


def reduce_values(
    values: npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
    nodata: float | None = None,
    threads: int = 1,
) -> npt.NDArray[np.float64]:
    """Compute the statistics of each parcel's values.

    Args:
        values: integers or floats; reordered in place.
        starts: int64[k + 1], as in ReadPlan.
        nodata: value to leave out; NaN and infinities are always left out.
        threads: kernels at work at once.

    Returns:
        float64[k, 8]: count, mean, std, min, p25, p50, p75, max; NaN but for the count where
        count is 0. std is the population's; percentiles are interpolated linearly.
    """
    table = np.empty((starts.size - 1, 8))
    reduce, missing = _kernel(values.dtype, nodata)
    if reduce is statistics.reduce_floats and values.dtype.kind != "f":
        values = values.astype(np.float64)
    edges = np.linspace(0, starts.size - 1, threads + 1).astype(int)
    if threads == 1:
        reduce(values, starts, missing, 0, starts.size - 1, table)
        return table
    with ThreadPoolExecutor(threads) as pool:
        for done in [
            pool.submit(reduce, values, starts, missing, a, b, table) for a, b in pairwise(edges)
        ]:
            done.result()
    return table


def _kernel(dtype: np.dtype[Any], nodata: float | None) -> tuple[Any, Any]:
    """The kernel for a pixel type, and the nodata value as it wants it."""
    if dtype.name in _EXACT_TYPES:
        if nodata is None or not abs(nodata) < _NEVER or nodata != int(nodata):
            nodata = _NEVER
        return statistics.reduce_integers, np.int32(nodata)
    if nodata is None:
        return statistics.reduce_floats, np.nan
    # Compare as the pixels are stored: -3.4e38 as float32 is another number than as float64.
    return statistics.reduce_floats, np.float64(dtype.type(nodata) if dtype.kind == "f" else nodata)


def count_bits(values: npt.NDArray[Any], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count each parcel's pixels with bit 0 and with bit 1 set: int64[k, 2]."""
    if values.dtype.kind != "u":
        raise SceneError(f"a mask of {values.dtype} pixels has no bits: give one of bytes")
    counts = np.zeros((starts.size - 1, 2), np.int64)
    for bit in range(2):
        total = np.concatenate([[0], np.cumsum(values >> bit & 1, dtype=np.int64)])
        counts[:, bit] = total[starts[1:]] - total[starts[:-1]]
    return counts


def count_classes(
    values: npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Count each parcel's pixels by Sentinel-2 scene class: int64[k, 12]."""
    histogram = np.zeros((starts.size - 1, statistics.N_CLASSES), np.int64)
    whole = values if values.dtype.kind in "iu" else np.nan_to_num(values, nan=-1).astype(np.int64)
    statistics.count_classes(whole, starts, histogram)
    return histogram
