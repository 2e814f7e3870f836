"""Spans: the pixels of each parcel on a lattice; built once, kept, used for every scene.

The rule: a pixel belongs to a parcel when its centre is inside. A parcel without any pixel centre
takes the pixels it touches, and is flagged. Parcels may overlap: each keeps its own pixels.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from enum import IntFlag
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import rasterize

from extraction.kernels import polygons as polygon_kernels
from extraction.kernels import spans as span_kernels
from store.grid import Grid, Lattice

_log = logging.getLogger("cbm.spans")

_FORMAT = "3"
"""Changes whenever the same parcels would give other spans."""

_KEPT_PARCELS = 100_000
"""Some 30 MB of outlines: more than a granule has."""


class Rule(IntFlag):
    """The rule by which a parcel's pixels were chosen, other than by their centres."""

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
class ReadPlan:
    """The reads of a raster, block by block, and the places of each parcel's values.

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

Outlines = tuple[npt.NDArray[np.int32], Sequence[bytes]]
"""Some parcels in a CRS: pids (int32[n], ascending), and n (multi)polygons as little-endian WKB."""


@dataclass(frozen=True)
class _Rings:
    """Polygons as plain arrays: vertices (float64[v, 2]), ends of rings, rings of parcels."""

    xy: npt.NDArray[np.float64]
    ring_ends: npt.NDArray[np.int64]
    parcel_rings: npt.NDArray[np.int64]

    @classmethod
    def of(cls, wkb: Sequence[bytes]) -> "_Rings":
        data = np.frombuffer(b"".join(wkb), np.uint8)
        starts = np.concatenate([[0], np.cumsum([len(each) for each in wkb], dtype=np.int64)])
        rings = cls(*polygon_kernels.read_wkb(data, starts))
        if not rings.ring_ends.size:
            raise ValueError("parcels must be polygons in little-endian WKB")
        return rings

    def spans(self, lattice: Lattice) -> Spans:
        """The pixels whose centre is inside."""
        return polygon_kernels.scan_polygons(  # type: ignore[no-any-return]
            (self.xy[:, 0] - lattice.x0_m) / lattice.res_m,
            (lattice.y0_m - self.xy[:, 1]) / lattice.res_m,
            self.ring_ends,
            self.parcel_rings,
        )


def build(outlines: Iterable[Outlines], lattice: Lattice, buffer_m: float = 0.0) -> SpanIndex:
    """Find the pixels of parcels on a lattice in their CRS, some thousands at a time.

    A parcel that the buffer leaves without a pixel centre is used whole; one that has none even so
    takes the pixels it touches.

    Args:
        outlines: parts of a parcel set, at least one, by ascending pids; used one by one.
        lattice: where the pixels lie.
        buffer_m: inward buffer in metres.
    """
    parts = [(pids, *_spans(wkb, lattice, buffer_m)) for pids, wkb in outlines]
    pids, rules, starts, *columns = map(list, zip(*parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(each) for each in starts]))])
    row, first, last = map(np.concatenate, columns)
    px, bounds = span_kernels.span_bounds(offsets, row, first, last)
    own, rule = np.concatenate(pids).astype(np.int32), np.concatenate(rules)
    return SpanIndex(own, offsets, row, first, last, px, bounds, rule)


def _spans(
    wkb: Sequence[bytes], lattice: Lattice, buffer_m: float
) -> tuple[npt.NDArray[np.uint8], *Spans]:
    """Rules and spans of some parcels."""
    rules = np.zeros(len(wkb), np.uint8)
    whole = _Rings.of(wkb).spans(lattice)
    spans = _Rings.of(_shrunk(wkb, buffer_m)).spans(lattice) if buffer_m else whole
    if buffer_m:
        spans = _fill_gaps(spans, whole, rules, Rule.UNBUFFERED)
    empty = np.flatnonzero(np.diff(spans[0]) == 0)
    if empty.size:
        spans = _fill_gaps(spans, _touched(wkb, empty, lattice), rules, Rule.TOUCHED)
    return rules, *spans


def plan_reads(
    index: SpanIndex,
    grid: Grid,
    block_shape_px: tuple[int, int],
    members: npt.NDArray[np.int64] | None = None,
) -> ReadPlan:
    """Lay out the reading of a raster for the parcels on it (or for some of them)."""
    members = index.members(grid) if members is None else members
    cut = span_kernels.plan_pieces(
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
    return ReadPlan(members[there], kept, *cut[1:])


class SpanCache:
    """Span indices on disk, by content; safe to share between processes and to delete.

    An entry is a folder of arrays and a list of their digests, which are compared at an entry's
    first use: pages that were never written to disk at a power cut read as zeros. Where nothing
    can be written, indices are simply not kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Keep at most about max_bytes in a folder, which is made."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._verified: dict[str, tuple[tuple[int, int], ...]] = {}
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, digest: str, lattice: Lattice, buffer_m: float) -> SpanIndex | None:
        """Return the memory-mapped index, or None when it is not there."""
        entry = self._entry(digest, lattice, buffer_m)
        try:
            if not entry.is_dir():
                return None
            self._verify(entry)
            arrays = [np.load(entry / f"{f.name}.npy", mmap_mode="r") for f in fields(SpanIndex)]
            os.utime(entry)
        except (OSError, ValueError, EOFError) as error:  # damaged, or removed meanwhile
            _log.warning("event=cache_entry_dropped entry=%s reason=%s", entry.name, error)
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return SpanIndex(*arrays)

    def put(self, digest: str, lattice: Lattice, buffer_m: float, index: SpanIndex) -> None:
        """Keep an index: all of it or nothing, also beside other processes; a failure is logged."""
        entry = self._entry(digest, lattice, buffer_m)
        partial: Path | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._folder))
            _write(partial, index)
            partial.rename(entry)
            _sync(self._folder)
        except OSError as error:
            if not entry.is_dir():
                _log.warning("event=cache_not_written entry=%s reason=%s", entry.name, error)
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            self._shrink(keep=entry)

    def _verify(self, entry: Path) -> None:
        """Compare an entry with its digests, unless it is as at the last comparison.

        Raises:
            ValueError: a file is not as it was written.
        """
        stats = [path.stat() for path in sorted(entry.iterdir())]
        state = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
        if self._verified.get(entry.name) == state:
            return
        for name, digest in json.loads((entry / _DIGESTS).read_text()).items():
            if _digest(entry / name) != digest:
                raise ValueError(f"{name} is not as it was written")
        self._verified[entry.name] = state

    def _entry(self, digest: str, lattice: Lattice, buffer_m: float) -> Path:
        return self._folder / f"{digest}_{lattice.key}_{buffer_m!r}_v{_FORMAT}"

    def _shrink(self, keep: Path) -> None:
        total = 0
        for size, entry in _newest_first(self._folder):
            total += size
            if total > self._max_bytes and entry != keep:
                shutil.rmtree(entry, ignore_errors=True)


_DIGESTS = "digests.json"


def _write(folder: Path, index: SpanIndex) -> None:
    """Write an index and its digests, through to the disk."""
    digests = {}
    for f in fields(SpanIndex):
        path = folder / f"{f.name}.npy"
        np.save(path, getattr(index, f.name))
        digests[path.name] = _digest(path)
        _sync(path)
    (folder / _DIGESTS).write_text(json.dumps(digests))
    _sync(folder / _DIGESTS)
    _sync(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ParcelSpans:
    """The spans of one parcel set on any lattice: from the cache, or built and put there."""

    def __init__(
        self,
        cache: SpanCache,
        digest: str,
        buffer_m: float,
        read_outlines: Callable[[int], Iterable[Outlines]],
    ) -> None:
        """Read and build nothing yet.

        Args:
            cache: of span indices.
            digest: of the set's pids and geometries.
            buffer_m: inward buffer, metres.
            read_outlines: the set's parcels in the CRS of an EPSG code, in parts. Those of a small
                set are kept for the next lattice; a whole country's, which take more memory than
                all else of a worker, are read again.
        """
        self._cache = cache
        self._digest = digest
        self._buffer_m = buffer_m
        self._read_outlines = read_outlines
        self._kept: dict[int, list[Outlines]] = {}
        self._indices: dict[Lattice, SpanIndex] = {}

    def on(self, lattice: Lattice) -> SpanIndex:
        """The spans on a lattice."""
        if lattice not in self._indices:
            self._indices[lattice] = self._load(lattice)
        return self._indices[lattice]

    def _load(self, lattice: Lattice) -> SpanIndex:
        index = self._cache.get(self._digest, lattice, self._buffer_m)
        if index is None:
            index = build(self._outlines(lattice.epsg), lattice, self._buffer_m)
            self._cache.put(self._digest, lattice, self._buffer_m, index)
        return index

    def _outlines(self, epsg: int) -> Iterator[Outlines]:
        """The set's parcels in parts, which are kept if there are few."""
        if epsg in self._kept:
            yield from self._kept[epsg]
            return
        parts: list[Outlines] = []
        count = 0
        for part in self._read_outlines(epsg):
            yield part
            count += len(part[0])
            if count <= _KEPT_PARCELS:
                parts.append(part)
            else:
                parts.clear()
        if count <= _KEPT_PARCELS:
            self._kept = {epsg: parts}


class JointSpans:
    """The spans of several parcel sets, one behind the other, as if they were one set.

    The sets may be of several campaigns, and so hold the same pid. The first raster decides how
    many of them are joined.
    """

    def __init__(self, sets: Sequence[ParcelSpans], max_parcels: int) -> None:
        """Join one or more sets; nothing is read or built yet.

        Args:
            sets: to be joined.
            max_parcels: sets follow the first only up to so many parcels on a raster.
        """
        self._sets, self._max_parcels = sets, max_parcels
        self._indices: dict[Grid, SpanIndex] = {}
        self.ends: tuple[int, ...] = ()
        """Positions where each set begins, and the end of the last; known after `on`."""

    def on(self, grid: Grid) -> SpanIndex:
        """The spans of the parcels on a raster, none of the others; pids ascend within each set.

        Raises:
            RuntimeError: a set has another number of parcels than on the lattice before.
        """
        if grid not in self._indices:
            if not self.ends:
                self._sets = self._fitting(grid)
            indices = [each.on(grid.lattice) for each in self._sets]
            ends = (0, *accumulate(index.pids.size for index in indices))
            if self.ends and ends != self.ends:
                raise RuntimeError(f"parcel sets of {self.ends} parcels have become {ends}")
            self.ends = ends
            self._indices[grid] = _joined(indices, grid)
        return self._indices[grid]

    def _fitting(self, grid: Grid) -> Sequence[ParcelSpans]:
        """The sets that are joined; a single one is not counted."""
        if len(self._sets) == 1:
            return self._sets
        parcels = 0
        for number, each in enumerate(self._sets):
            parcels += each.on(grid.lattice).members(grid).size
            if number and parcels > self._max_parcels:
                return self._sets[:number]
        return self._sets


def _joined(indices: Sequence[SpanIndex], grid: Grid) -> SpanIndex:
    if len(indices) == 1:
        return indices[0]
    # Copied into memory, unlike an index of the cache: so no more than the raster needs.
    indices = [_on_raster(index, grid) for index in indices]
    arrays = {
        f.name: np.concatenate([getattr(index, f.name) for index in indices])
        for f in fields(SpanIndex)
        if f.name != "offsets"
    }
    counts = np.concatenate([np.diff(index.offsets) for index in indices])
    return SpanIndex(offsets=np.concatenate([[0], np.cumsum(counts)]), **arrays)


def _on_raster(index: SpanIndex, grid: Grid) -> SpanIndex:
    """The index without the spans of the parcels that are not on a raster."""
    members = index.members(grid)
    begin, counts = index.offsets[members], np.diff(index.offsets)[members]
    total = np.cumsum(counts)
    at = np.repeat(begin - (total - counts), counts) + np.arange(total[-1] if total.size else 0)
    kept = np.zeros(index.pids.size, np.int64)
    kept[members] = counts
    return replace(
        index,
        offsets=np.concatenate([[0], np.cumsum(kept)]),
        row=index.row[at],
        first=index.first[at],
        last=index.last[at],
    )


def _newest_first(folder: Path) -> list[tuple[int, Path]]:
    """Bytes and path of each entry; others may come and go meanwhile."""
    entries = []
    for entry in folder.iterdir():
        with suppress(OSError):
            size = sum(f.stat().st_size for f in entry.iterdir())
            entries.append((entry.stat().st_mtime, size, entry))
    return [(size, entry) for _, size, entry in sorted(entries, reverse=True)]


def _shrunk(wkb: Sequence[bytes], buffer_m: float) -> list[bytes]:
    geometries = shapely.from_wkb(np.asarray(wkb, dtype=object))
    return list(shapely.to_wkb(shapely.buffer(geometries, -buffer_m), byte_order=1))


def _touched(wkb: Sequence[bytes], which: npt.NDArray[np.int64], lattice: Lattice) -> Spans:
    """Spans of all pixels that the chosen parcels touch, as GDAL has it; none for the others."""
    geometries = shapely.from_wkb(np.array([wkb[i] for i in which], dtype=object))
    parts, owner = shapely.get_parts(geometries, return_index=True)
    touched = [
        np.insert(_touched_pixels(part, lattice), 0, place, axis=1)
        for part, place in zip(parts, owner, strict=True)
    ]
    # Parts of one parcel may touch the same pixel.
    pixels = np.unique(np.concatenate(touched), axis=0)
    counts = np.zeros(len(wkb) + 1, np.int64)
    np.add.at(counts, which[pixels[:, 0]] + 1, 1)
    first = pixels[:, 2].astype(np.int32)
    return np.cumsum(counts), pixels[:, 1].astype(np.int32), first, first + 1


def _touched_pixels(polygon: shapely.Polygon, lattice: Lattice) -> npt.NDArray[np.int64]:
    """int64[m, 2]: row and column of the pixels that a polygon touches."""
    west, south, east, north = polygon.bounds
    col = int((west - lattice.x0_m) // lattice.res_m)
    row = int((lattice.y0_m - north) // lattice.res_m)
    width = int((east - lattice.x0_m) // lattice.res_m) - col + 1
    height = int((lattice.y0_m - south) // lattice.res_m) - row + 1
    corner = lattice.x0_m + col * lattice.res_m, lattice.y0_m - row * lattice.res_m
    transform = Affine(lattice.res_m, 0, corner[0], 0, -lattice.res_m, corner[1])
    mask = rasterize([polygon], out_shape=(height, width), transform=transform, all_touched=True)
    if not mask.any():
        mask[0, 0] = 1  # a sliver along pixel edges: the pixel its corner lies in
    pixels: npt.NDArray[np.int64] = np.argwhere(mask) + np.array([row, col])
    return pixels


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
