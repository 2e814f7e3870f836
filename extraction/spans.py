"""Spans: which pixels of a lattice belong to each parcel; built once, kept, used for every scene.

The rule: a pixel belongs to a parcel when its centre is inside. A parcel without any pixel centre
takes the pixels it touches, and is flagged. Parcels may overlap: each keeps its own pixels.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntFlag
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from extraction import kernels
from store.grid import Grid, Lattice

_FORMAT = "1"
"""Changes whenever the same parcels would give other spans."""


class Rule(IntFlag):
    """How a parcel's pixels were chosen, where not by their centres."""

    CENTRE = 0
    TOUCHED = 1
    """No pixel centre inside: the pixels the parcel touches."""
    UNBUFFERED = 4
    """The inward buffer left no pixel centre: the whole parcel is used."""


@dataclass(frozen=True)
class SpanIndex:
    """The pixels of n parcels on one lattice.

    Attributes:
        pids: int32[n], ascending.
        offsets: int64[n + 1]; spans offsets[i] to offsets[i + 1] are parcel i's.
        row: int32[m], lattice row of each span.
        first: int32[m], its first column.
        last: int32[m], the column after its last.
        px: int32[n], pixels of each parcel.
        bounds: int32[n, 4], row0, row1, col0, col1 of each parcel, ends excluded.
        rules: uint8[n], Rule of each parcel.
    """

    pids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    row: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    last: npt.NDArray[np.int32]
    px: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.int32]
    rules: npt.NDArray[np.uint8]

    def members(self, grid: Grid) -> npt.NDArray[np.int64]:
        """Positions of the parcels whose extent meets a raster on this lattice."""
        row, col = grid.offset
        r0, r1, c0, c1 = self.bounds.T
        return np.flatnonzero(
            (r1 > row)
            & (r0 < row + grid.height_px)
            & (c1 > col)
            & (c0 < col + grid.width_px)
            & (self.px > 0)
        )


@dataclass(frozen=True)
class Plan:
    """What to read of a raster, block by block, and where each parcel's values go.

    Attributes:
        members: int64[k], positions in the index of the parcels with a pixel on the raster.
        starts: int64[k + 1], each parcel's place in the flat buffer of values.
        block_ends: int64[blocks + 1], pieces of each block, row-major.
        row, col, length: int32[p], where each piece begins on the raster and its pixels.
        place: int64[p], where its values go.
    """

    members: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    block_ends: npt.NDArray[np.int64]
    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    length: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64]

    @property
    def inside_px(self) -> npt.NDArray[np.int64]:
        """int64[k], pixels of each member on the raster."""
        return np.diff(self.starts)


Spans = tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]
]
"""offsets, row, first, last, as in SpanIndex."""


@dataclass(frozen=True)
class _Rings:
    """Polygons as plain arrays: vertices (float64[v, 2]), where rings end, whose rings they are."""

    xy: npt.NDArray[np.float64]
    ring_ends: npt.NDArray[np.int64]
    parcel_rings: npt.NDArray[np.int64]

    @classmethod
    def of(cls, wkb: Sequence[bytes]) -> "_Rings":
        data = np.frombuffer(b"".join(wkb), np.uint8)
        starts = np.concatenate([[0], np.cumsum([len(each) for each in wkb], dtype=np.int64)])
        rings = cls(*kernels.read_wkb(data, starts))
        if not rings.ring_ends.size:
            raise ValueError("parcels must be polygons in little-endian WKB")
        return rings

    def spans(self, lattice: Lattice) -> Spans:
        """The pixels whose centre is inside."""
        return kernels.scan_polygons(  # type: ignore[no-any-return]
            (self.xy[:, 0] - lattice.x0_m) / lattice.res_m,
            (lattice.y0_m - self.xy[:, 1]) / lattice.res_m,
            self.ring_ends,
            self.parcel_rings,
        )


@dataclass(frozen=True)
class Outlines:
    """Parcels in one CRS, taken apart once for all lattices in it."""

    _pids: npt.NDArray[np.int32]
    _wkb: Sequence[bytes]
    _whole: _Rings
    _buffered: _Rings | None

    @classmethod
    def of(
        cls, pids: npt.NDArray[np.int32], wkb: Sequence[bytes], buffer_m: float = 0.0
    ) -> "Outlines":
        """Take parcels apart.

        Args:
            pids: int32[n], ascending.
            wkb: n (multi)polygons, little-endian.
            buffer_m: inward buffer in metres.
        """
        buffered = _Rings.of(_shrunk(wkb, buffer_m)) if buffer_m else None
        return cls(np.asarray(pids, np.int32), wkb, _Rings.of(wkb), buffered)

    def on(self, lattice: Lattice) -> SpanIndex:
        """Find the parcels' pixels on a lattice in their CRS.

        A parcel that the buffer leaves without a pixel centre is used whole; one that has none
        even so takes the pixels it touches.
        """
        rules = np.zeros(self._pids.size, np.uint8)
        spans = (self._buffered or self._whole).spans(lattice)
        if self._buffered:
            spans = _fill_gaps(spans, self._whole.spans(lattice), rules, Rule.UNBUFFERED)
        empty = np.flatnonzero(np.diff(spans[0]) == 0)
        if empty.size:
            touched = _touched(self._wkb, empty, lattice)
            spans = _fill_gaps(spans, touched, rules, Rule.TOUCHED)
        px, bounds = kernels.span_bounds(*spans)
        return SpanIndex(self._pids, *spans, px, bounds, rules)


def plan(
    index: SpanIndex,
    grid: Grid,
    block_shape_px: tuple[int, int],
    members: npt.NDArray[np.int64] | None = None,
) -> Plan:
    """Lay out the reading of a raster for the parcels on it (or for some of them)."""
    members = index.members(grid) if members is None else members
    cut = kernels.plan_pieces(
        members,
        index.offsets,
        index.row,
        index.first,
        index.last,
        *grid.offset,
        grid.height_px,
        grid.width_px,
        *block_shape_px,
    )
    starts = cut[0]
    there = np.diff(starts) > 0
    kept = np.concatenate([[0], starts[1:][there]])
    return Plan(members[there], kept, *cut[1:])


class SpanCache:
    """Span indices on disk, by content; safe to share between processes and to delete."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Keep at most about max_bytes in a folder, which is made."""
        self._folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, digest: str, lattice: Lattice, buffer_m: float) -> SpanIndex | None:
        """Return the memory-mapped index, or None when it is not there."""
        entry = self._entry(digest, lattice, buffer_m)
        try:
            arrays = [np.load(entry / f"{f.name}.npy", mmap_mode="r") for f in fields(SpanIndex)]
            os.utime(entry)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return SpanIndex(*arrays)

    def put(self, digest: str, lattice: Lattice, buffer_m: float, index: SpanIndex) -> None:
        """Keep an index: all of it or nothing, whoever else does the same."""
        entry = self._entry(digest, lattice, buffer_m)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._folder))
        for f in fields(SpanIndex):
            np.save(partial / f"{f.name}.npy", getattr(index, f.name))
        try:
            partial.rename(entry)
        except OSError:
            shutil.rmtree(partial)
        self._shrink(keep=entry)

    def _entry(self, digest: str, lattice: Lattice, buffer_m: float) -> Path:
        return self._folder / f"{digest}_{lattice.key}_{buffer_m:g}_v{_FORMAT}"

    def _shrink(self, keep: Path) -> None:
        entries = sorted(
            (e for e in self._folder.iterdir() if e.is_dir()),
            key=lambda e: e.stat().st_mtime,
            reverse=True,
        )
        total = 0
        for entry in entries:
            total += sum(f.stat().st_size for f in entry.iterdir())
            if total > self._max_bytes and entry != keep:
                shutil.rmtree(entry, ignore_errors=True)


def _shrunk(wkb: Sequence[bytes], buffer_m: float) -> list[bytes]:
    geometries = shapely.from_wkb(np.asarray(wkb, dtype=object))
    return list(shapely.to_wkb(shapely.buffer(geometries, -buffer_m), byte_order=1))


def _touched(wkb: Sequence[bytes], which: npt.NDArray[np.int64], lattice: Lattice) -> Spans:
    """Spans of all pixels that the chosen parcels touch; none for the others."""
    geometries = shapely.from_wkb(np.array([wkb[i] for i in which], dtype=object))
    west, south, east, north = shapely.bounds(geometries).T
    col0 = np.floor((west - lattice.x0_m) / lattice.res_m).astype(np.int64)
    row0 = np.floor((lattice.y0_m - north) / lattice.res_m).astype(np.int64)
    width = np.floor((east - lattice.x0_m) / lattice.res_m).astype(np.int64) - col0 + 1
    height = np.floor((lattice.y0_m - south) / lattice.res_m).astype(np.int64) - row0 + 1
    size = width * height
    owner = np.repeat(np.arange(which.size), size)
    place = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    col, row = col0[owner] + place % width[owner], row0[owner] + place // width[owner]
    x, y = lattice.x0_m + col * lattice.res_m, lattice.y0_m - row * lattice.res_m
    hit = shapely.intersects(
        shapely.box(x, y - lattice.res_m, x + lattice.res_m, y), geometries[owner]
    )
    counts = np.zeros(len(wkb) + 1, np.int64)
    np.add.at(counts, which[owner[hit]] + 1, 1)
    first = col[hit].astype(np.int32)
    return np.cumsum(counts), row[hit].astype(np.int32), first, first + 1


def _fill_gaps(spans: Spans, more: Spans, rules: npt.NDArray[np.uint8], rule: Rule) -> Spans:
    """Give the parcels without spans those of `more`, and note the rule."""
    own, other = np.diff(spans[0]), np.diff(more[0])
    gaps = (own == 0) & (other > 0)
    rules[gaps] |= np.uint8(rule)
    counts = np.where(gaps, other, own)
    order_key = np.concatenate(
        [
            np.repeat(np.arange(own.size), own),
            np.repeat(np.arange(own.size), np.where(gaps, other, 0)),
        ]
    )
    take = np.repeat(gaps, other)
    order = np.argsort(order_key, kind="stable")
    merged = [np.concatenate([a, b[take]])[order] for a, b in zip(spans[1:], more[1:], strict=True)]
    return np.concatenate([[0], np.cumsum(counts)]), merged[0], merged[1], merged[2]
