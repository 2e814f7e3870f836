"""Our way, through the product's own code: decoded windows kept in memory stand in for decoding."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from extraction import reduction, spans
from extraction.codestream import UnsuitedError
from extraction.ranges import Sources
from extraction.reduction import OpenBand
from extraction.spans import ReadPlan, SpanIndex
from extraction.thinning import SceneThinning
from store import raster
from store.catalogue import BandSource
from store.grid import Grid

Window = tuple[int, int, int, int]
"""row0, row1, col0, col1, ends excluded."""

_NOTHING = np.empty((0, 0))


@dataclass(frozen=True)
class Replay:
    """A band whose windows were decoded before; an OpenBand like the reader it stands for.

    Attributes:
        grid: where its pixels lie.
        dtype: type of its pixels.
        block_shape_px: blocks of the file.
        windows: what was read of it, by window.
        driver: none, so that nothing is read past `read`.
        nodata: what the file says of its pixels without data.
        masked: whether a mask says which they are.
    """

    grid: Grid
    dtype: np.dtype[Any]
    block_shape_px: tuple[int, int]
    windows: dict[Window, NDArray[Any]] = field(default_factory=dict)
    driver: str = ""
    nodata: float | None = None
    masked: bool = False

    def read(self, row0: int, row1: int, col0: int, col1: int) -> NDArray[Any]:
        """Pixels of a window that was read before."""
        return self.windows[row0, row1, col0, col1]


class _Recorder:
    """Reads through to a real band and keeps what it saw; only where, on demand."""

    def __init__(self, band: OpenBand, keep: bool) -> None:
        self._band, self._keep = band, keep
        self.driver = ""  # so that nothing is read past it
        self.grid, self.dtype, self.block_shape_px = band.grid, band.dtype, band.block_shape_px
        self.nodata, self.masked = band.nodata, band.masked
        self.seen = Replay(
            band.grid, band.dtype, band.block_shape_px, nodata=band.nodata, masked=band.masked
        )

    def read(self, row0: int, row1: int, col0: int, col1: int) -> NDArray[Any]:
        window = self._band.read(row0, row1, col0, col1)
        self.seen.windows[row0, row1, col0, col1] = window.copy() if self._keep else _NOTHING
        return window


@contextmanager
def recording(replays: dict[str, Replay], *, keep: bool = True) -> Iterator[None]:
    """Let the engine work as always, and keep what it reads of each file, by href.

    Without `keep` only the windows are noted, which is all that `decode` asks for.
    """
    real = raster.open_band

    @contextmanager
    def open_band(href: str, *rest: Any, **named: Any) -> Iterator[_Recorder]:
        with real(href, *rest, **named) as reader:
            recorder = _Recorder(reader, keep)
            replays[href] = recorder.seen
            yield recorder

    with mock.patch.object(raster, "open_band", open_band):
        yield


@contextmanager
def replaying(replays: Mapping[str, Replay]) -> Iterator[None]:
    """Let the engine work as always but for decoding: files give what was read of them before."""
    with mock.patch.object(raster, "open_band", lambda href, *_: nullcontext(replays[href])):
        yield


def decode_all(hrefs: Iterable[str]) -> None:
    """Read every block of the files through the same readers, and nothing else."""
    with raster.gdal_env():
        for href in hrefs:
            with raster.open_band(href) as band:
                for window in _blocks(band):
                    band.read(*window)


@contextmanager
def decoding_all() -> Iterator[None]:
    """Let the engine work as always, but have the blocks it skips decoded, too."""
    real = raster.open_band

    @contextmanager
    def open_band(href: str, *rest: Any, **named: Any) -> Iterator[_Recorder]:
        with real(href, *rest, **named) as reader:
            recorder = _Recorder(reader, keep=False)
            yield recorder
            rows, cols = reader.block_shape_px
            seen = {(window[0] // rows, window[2] // cols) for window in recorder.seen.windows}
            for window in _blocks(reader):
                if (window[0] // rows, window[2] // cols) not in seen:
                    reader.read(*window)

    with mock.patch.object(raster, "open_band", open_band):
        yield


def _blocks(band: OpenBand) -> Iterator[Window]:
    height, width = band.grid.height_px, band.grid.width_px
    rows, cols = band.block_shape_px
    for top in range(0, height, rows):
        for left in range(0, width, cols):
            yield top, min(top + rows, height), left, min(left + cols, width)


def recorded(source: BandSource, index_of: Callable[[Grid], SpanIndex]) -> Replay:
    """Decode once what the engine reads of a band for some parcels."""
    replays: dict[str, Replay] = {}
    with recording(replays), raster.gdal_env(), raster.open_band(source.href) as band:
        reduction.read_values(
            band, spans.plan_reads(index_of(band.grid), band.grid, band.block_shape_px)
        )
    return replays[source.href]


def read_needed(plans: Mapping[str, ReadPlan]) -> None:
    """Decode what plans need of files by href, as the engine does, and nothing else.

    Choosing and thinning code blocks is part of it.
    """
    with raster.gdal_env(), SceneThinning(Sources(), "bench", {}) as thinning:
        for href, plan in plans.items():
            with raster.open_band(href) as reader:
                windows = list(_windows(plan))
                if band := thinning.open(href, reader, plan):
                    with closing(band), suppress(UnsuitedError):
                        _read(band, windows)
                        continue
                _read(reader, windows)


def _read(band: OpenBand, windows: Iterable[Window]) -> None:
    for window in windows:
        band.read(*window)


def _windows(plan: ReadPlan) -> Iterator[Window]:
    """What reduction.read_values reads."""
    for block in np.flatnonzero(np.diff(plan.block_ends)):
        pieces = slice(plan.block_ends[block], plan.block_ends[block + 1])
        row, col = plan.row[pieces], plan.col[pieces]
        last = col + plan.length[pieces]
        yield int(row.min()), int(row.max()) + 1, int(col.min()), int(last.max())


def decode(replays: Mapping[str, Replay]) -> None:
    """Read the same windows of the files again through the same readers, and nothing else."""
    with raster.gdal_env():
        for href, replay in replays.items():
            with raster.open_band(href) as band:
                for window in replay.windows:
                    band.read(*window)


def reduce_bands(index: SpanIndex, bands: list[Replay]) -> list[NDArray[np.float64]]:
    """The zonal stage over bands of one grid: plan, gather, statistics; nodata is 0."""
    plan = spans.plan_reads(index, bands[0].grid, bands[0].block_shape_px)
    return [
        reduction.reduce_values(reduction.read_values(band, plan), plan.starts, 0.0)
        for band in bands
    ]


def pids_on(index: SpanIndex, band: Replay) -> NDArray[np.int32]:
    """The parcels, in order, that reduce_bands has rows for."""
    return index.pids[spans.plan_reads(index, band.grid, band.block_shape_px).members]
