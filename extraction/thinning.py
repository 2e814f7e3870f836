"""Reading the pixels of parcels from no more of a file than they need, fetched ahead of decoding.

Of JPEG 2000 files as Sentinel-2 has them, their code blocks (see `extraction.codestream`); of
remote TIFF files, their tiles (see `extraction.tiff`). Whatever cannot be read in this way, for
whatever reason, raises UnsuitedError, and is read as any raster.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from extraction import codestream, reduction, tiff
from extraction.codestream import Coding, Header, TileParts, UnsuitedError
from extraction.ranges import ByteSource, Sources
from extraction.spans import ReadPlan
from store import raster
from store.errors import CbmError, ReplacedError, SceneError

_log = logging.getLogger("cbm.thinning")

_WORTH_BELOW = 0.9
"""Share of the code blocks needed from which a local file is rather read as ever."""

_FETCH_BYTES = 16 * 2**20
"""Tiles that are neighbours in the file are fetched at once up to this; one more lies in wait."""

_GAP_BYTES = 64 * 2**10
"""Bytes between two tiles that are fetched along rather than by one more request."""

_Batch = tuple[frozenset[int], bytes]
_Chosen = Mapping[int, npt.NDArray[np.bool_]]


class ThinningFlawError(SceneError):
    """Pixels of a thinned tile differ from those of the whole tile."""


class ThinnedBand:
    """A reduction.Band that only gives the pixels of the plan it was opened for; others are wrong.

    Its blocks are read in the plan's order, each once.
    """

    def __init__(
        self, reader: raster.BandReader, batches: Iterator[_Batch], pool: ThreadPoolExecutor
    ) -> None:
        """Begin to fetch; see SceneThinning.open."""
        self.grid, self.dtype, self.block_shape_px = (
            reader.grid,
            reader.dtype,
            reader.block_shape_px,
        )
        self._reader, self._batches, self._pool = reader, batches, pool
        self._open = ExitStack()
        self._numbers: frozenset[int] = frozenset()
        self._next: Future[_Batch | None] = pool.submit(next, batches, None)

    def read(self, row0: int, row1: int, col0: int, col1: int) -> npt.NDArray[Any]:
        """Pixels of a window within a block, ends excluded.

        Raises:
            UnsuitedError: the file cannot be read in this way.
            ReplacedError: it was replaced meanwhile.
        """
        rows, columns = self.block_shape_px
        number = row0 // rows * -(-self.grid.width_px // columns) + col0 // columns
        while number not in self._numbers:
            self._advance()
        try:
            return self._band.read(row0, row1, col0, col1)
        except SceneError as error:
            raise UnsuitedError(str(error)) from error

    def _advance(self) -> None:
        """Open the next batch, and have the one after it fetched."""
        self._open.close()
        try:
            batch = self._next.result()
            if batch is None:
                raise UnsuitedError("a block that was not planned")
            self._next = self._pool.submit(next, self._batches, None)
            self._numbers, file = batch
            self._band = self._open.enter_context(raster.open_copy(self._reader, file))
        except (UnsuitedError, ReplacedError):  # an open reader mixes a file with its successor
            raise
        except CbmError as error:  # reading as ever tells whose fault it is
            raise UnsuitedError(str(error)) from error

    def close(self) -> None:
        """Free what is open; waits for a fetch under way."""
        self._open.close()
        self._next.cancel()
        self._pool.submit(self._batches.close).result()  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Sample:
    """Pixels of one block as a thinned file gave them."""

    href: str
    reader: raster.BandReader
    number: int
    plan: ReadPlan
    values: npt.NDArray[Any]


class SceneThinning(AbstractContextManager["SceneThinning"]):
    """The thinned bands of one scene; a context.

    Attributes:
        tile_parts: where tiles lie in remote files, by href: those that were known, and those
            found out.
    """

    def __init__(self, sources: Sources, reference: str, known: Mapping[str, TileParts]) -> None:
        """Prepare; nothing is opened yet.

        Args:
            sources: opens files.
            reference: of the scene; decides which tile is checked.
            known: tile_parts of an earlier reading of the scene.
        """
        self.tile_parts = dict(known)
        self._sources = sources
        self._draw = int.from_bytes(hashlib.sha256(reference.encode()).digest()[:8], "big")
        self._pool = ThreadPoolExecutor(1, "fetch")
        self._headers: dict[str, Header] = {}
        self._chosen: dict[tuple[Coding, int], tuple[ReadPlan, _Chosen]] = {}
        self._samples: list[_Sample] = []

    def __exit__(self, *_error: object) -> None:
        """End the fetching thread."""
        self._pool.shutdown(cancel_futures=True)

    def open(self, href: str, reader: raster.BandReader, plan: ReadPlan) -> ThinnedBand | None:
        """Begin to fetch what a plan needs of a band; its reading tells whether that can be.

        None where nothing can be saved, or nothing is needed.
        """
        if not plan.row.size:
            return None
        if reader.driver.startswith("JP2"):
            return ThinnedBand(reader, self._batches(href, reader, plan), self._pool)
        if reader.driver == "GTiff" and not href.startswith("/"):
            return ThinnedBand(reader, self._tiff_batches(href, reader, plan), self._pool)
        return None

    def _batches(self, href: str, reader: raster.BandReader, plan: ReadPlan) -> Iterator[_Batch]:
        """Small files of some of the tiles each, in the plan's order."""
        source = self._sources.open(href)
        header = codestream.read_header(source)
        columns, rows = header.coding.tile_px
        height, width = header.coding.shape_px
        _check(header.coding.shape_px, (min(rows, height), min(columns, width)), reader)
        chosen = self._choose(header.coding, plan)
        thin = _share(chosen) < _WORTH_BELOW
        if not thin and not source.remote:
            raise UnsuitedError("nearly all its code blocks are needed")
        parts = self._find_tile_parts(href, header, source)
        self._headers[href] = header
        for run in _runs(parts, list(chosen)):
            tiles = _fetch(source, parts, run)
            yield frozenset(run), codestream.assemble(header, tiles, chosen if thin else None)

    def _tiff_batches(
        self, href: str, reader: raster.BandReader, plan: ReadPlan
    ) -> Iterator[_Batch]:
        """The same of a TIFF file, whose tiles are copied as they are."""
        source = self._sources.open(href)
        header = tiff.read_header(source)
        _check(header.shape_px, header.tile_px, reader)
        needed = np.flatnonzero(np.diff(plan.block_ends)).tolist()
        if not all(header.parts.lengths[number] for number in needed):
            raise UnsuitedError("a tile without pixels, which is not in the file")
        for run in _runs(header.parts, needed):
            yield frozenset(run), tiff.assemble(header, _fetch(source, header.parts, run))

    def _choose(self, coding: Coding, plan: ReadPlan) -> _Chosen:
        """The code blocks that a plan needs; bands that are coded alike share them."""
        key = coding, id(plan)
        if key not in self._chosen:
            self._chosen[key] = plan, codestream.choose_blocks(coding, plan)
        return self._chosen[key][1]

    def _find_tile_parts(self, href: str, header: Header, source: ByteSource) -> TileParts:
        tiles = header.coding.tiles[0] * header.coding.tiles[1]
        if not source.remote:
            return codestream.find_tile_parts(header, source)
        known = self.tile_parts.pop(href, None)
        if known is None or len(known.starts) != tiles or min(known.starts) != header.first:
            known = codestream.find_tile_parts(header, source)
        self.tile_parts[href] = known
        return known

    def keep_sample(
        self, href: str, reader: raster.BandReader, plan: ReadPlan, values: npt.NDArray[Any]
    ) -> None:
        """Keep what was read of one block, drawn by the scene's hash, for `check`.

        Tiles of a TIFF need none: they are decoded as they are.
        """
        if href not in self._headers:
            return
        blocks = np.flatnonzero(np.diff(plan.block_ends))
        number = int(blocks[self._draw % blocks.size])
        only, at = _block_plan(plan, number)
        self._samples.append(_Sample(href, reader, number, only, values[at]))

    def forget(self, href: str) -> None:
        """Where tiles were thought to lie in a file that could not be read so."""
        self.tile_parts.pop(href, None)

    def check(self) -> None:
        """Decode one of the tiles whole, and compare pixel by pixel: a canary.

        Raises:
            ThinningFlawError: they differ.
            UnsuitedError: the tile could not be read again.
        """
        if not self._samples:
            return
        sample = self._samples[self._draw // 2**32 % len(self._samples)]
        try:
            whole = self._read_whole(sample)
        except CbmError as error:
            raise UnsuitedError(f"no tile could be compared: {error}") from error
        wrong = int((whole != sample.values).sum())
        if wrong:
            raise ThinningFlawError(
                f"{wrong} of {whole.size} pixels of tile {sample.number} of {sample.href} differ "
                "when it is decoded whole"
            )

    def _read_whole(self, sample: _Sample) -> npt.NDArray[Any]:
        """The sample's pixels, of the tile as it is in the file."""
        source, header = self._sources.open(sample.href), self._headers[sample.href]
        parts = self._find_tile_parts(sample.href, header, source)
        tiles = _fetch(source, parts, [sample.number])
        with raster.open_copy(sample.reader, codestream.assemble(header, tiles, None)) as band:
            return reduction.read_values(band, sample.plan)


def _check(shape_px: tuple[int, int], tile_px: tuple[int, int], reader: raster.BandReader) -> None:
    if (shape_px, tile_px) != (
        (reader.grid.height_px, reader.grid.width_px),
        reader.block_shape_px,
    ):
        raise UnsuitedError("its blocks are not its tiles")


def _share(chosen: _Chosen) -> float:
    return sum(int(each.sum()) for each in chosen.values()) / max(
        sum(each.size for each in chosen.values()), 1
    )


def _runs(parts: TileParts, numbers: list[int]) -> Iterator[list[int]]:
    """Tiles that are fetched at once: neighbours in the file, in the order given."""
    run: list[int] = []
    for number in numbers:
        start, length = parts.starts[number], parts.lengths[number]
        if run:
            end = parts.starts[run[-1]] + parts.lengths[run[-1]]
            near = 0 <= start - end <= _GAP_BYTES
            if not near or start + length - parts.starts[run[0]] > _FETCH_BYTES:
                yield run
                run = []
        run.append(number)
    if run:
        yield run


def _fetch(source: ByteSource, parts: TileParts, run: list[int]) -> dict[int, bytes]:
    """The tile-parts of a run."""
    start = parts.starts[run[0]]
    data = source.read(start, parts.starts[run[-1]] + parts.lengths[run[-1]] - start)
    return {number: data[parts.starts[number] - start :][: parts.lengths[number]] for number in run}


def _block_plan(plan: ReadPlan, number: int) -> tuple[ReadPlan, npt.NDArray[np.int64]]:
    """One block of a plan as a plan of its own, and where its values are in the whole plan's."""
    pieces = slice(plan.block_ends[number], plan.block_ends[number + 1])
    length = plan.length[pieces].astype(np.int64)
    place = np.cumsum(length) - length
    total = int(length.sum())
    at = np.repeat(plan.place[pieces] - place, length) + np.arange(total)
    only = ReadPlan(
        np.zeros(1, np.int64),
        np.array([0, total]),
        np.array([0, length.size]),
        plan.row[pieces],
        plan.col[pieces],
        plan.length[pieces],
        place,
    )
    return only, at
