"""Our way, through the product's own code: decoded windows kept in memory stand in for decoding."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from extraction import reduction, spans
from extraction.reduction import Band
from extraction.spans import SpanIndex
from store import raster
from store.catalogue import BandSource
from store.grid import Grid

Window = tuple[int, int, int, int]
"""row0, row1, col0, col1, ends excluded."""


@dataclass(frozen=True)
class Replay:
    """A band whose windows were decoded before; a Band like the reader it stands for.

    Attributes:
        grid: where its pixels lie.
        dtype: type of its pixels.
        block_shape_px: blocks of the file.
        windows: what was read of it, by window.
    """

    grid: Grid
    dtype: np.dtype[Any]
    block_shape_px: tuple[int, int]
    windows: dict[Window, NDArray[Any]] = field(default_factory=dict)

    def read(self, row0: int, row1: int, col0: int, col1: int) -> NDArray[Any]:
        """Pixels of a window that was read before."""
        return self.windows[row0, row1, col0, col1]


class _Recorder:
    """Reads through to a real band and keeps what it saw."""

    def __init__(self, band: Band) -> None:
        self._band = band
        self.grid, self.dtype, self.block_shape_px = band.grid, band.dtype, band.block_shape_px
        self.seen = Replay(band.grid, band.dtype, band.block_shape_px)

    def read(self, row0: int, row1: int, col0: int, col1: int) -> NDArray[Any]:
        window = self._band.read(row0, row1, col0, col1)
        self.seen.windows[row0, row1, col0, col1] = window.copy()
        return window


@contextmanager
def recording(replays: dict[str, Replay]) -> Iterator[None]:
    """Let the engine work as always, and keep what it reads of each file, by href."""
    real = raster.open_band

    @contextmanager
    def open_band(href: str, *rest: Any, **named: Any) -> Iterator[_Recorder]:
        with real(href, *rest, **named) as reader:
            recorder = _Recorder(reader)
            replays[href] = recorder.seen
            yield recorder

    with mock.patch.object(raster, "open_band", open_band):
        yield


@contextmanager
def replaying(replays: Mapping[str, Replay]) -> Iterator[None]:
    """Let the engine work as always but for decoding: files give what was read of them before."""
    with mock.patch.object(raster, "open_band", lambda href, *_: nullcontext(replays[href])):
        yield


def recorded(source: BandSource, index_of: Callable[[Grid], SpanIndex]) -> Replay:
    """Decode once what the engine reads of a band for some parcels."""
    replays: dict[str, Replay] = {}
    with recording(replays), raster.gdal_env(), raster.open_band(source.href) as band:
        reduction.read_values(band, spans.plan(index_of(band.grid), band.grid, band.block_shape_px))
    return replays[source.href]


def decode(replays: Mapping[str, Replay]) -> None:
    """Read the same windows of the files again through the same readers, and nothing else."""
    with raster.gdal_env():
        for href, replay in replays.items():
            with raster.open_band(href) as band:
                for window in replay.windows:
                    band.read(*window)


def without_pixels(replays: Mapping[str, Replay]) -> dict[str, Replay]:
    """The windows alone, which is all that `decode` asks for."""
    nothing = np.empty((0, 0))
    return {
        href: Replay(
            seen.grid, seen.dtype, seen.block_shape_px, dict.fromkeys(seen.windows, nothing)
        )
        for href, seen in replays.items()
    }


def reduce_bands(index: SpanIndex, bands: list[Replay]) -> list[NDArray[np.float64]]:
    """The zonal stage over bands of one grid: plan, gather, statistics; nodata is 0."""
    plan = spans.plan(index, bands[0].grid, bands[0].block_shape_px)
    return [
        reduction.reduce_values(reduction.read_values(band, plan), plan.starts, 0.0)
        for band in bands
    ]


def pids_on(index: SpanIndex, band: Replay) -> NDArray[np.int32]:
    """The parcels, in order, that reduce_bands has rows for."""
    return index.pids[spans.plan(index, band.grid, band.block_shape_px).members]
