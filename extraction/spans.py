"""Spans: which pixels of a lattice belong to each parcel; built once, kept, used for every scene.

The rule: a pixel belongs to a parcel when its centre is inside. A parcel without any pixel centre
takes the pixels it touches, and is flagged. Parcels may overlap: each keeps its own pixels.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from enum import IntFlag
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import rasterize

from extraction import kernels
from store.grid import Grid, Lattice

_log = logging.getLogger("cbm.spans")

_FORMAT = "2"
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

_CHUNK = 20_000
"""Parcels whose outlines are held at once; their WKB is some megabytes."""


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


def build(
    pids: npt.NDArray[np.int32], wkb: Sequence[bytes], lattice: Lattice, buffer_m: float = 0.0
) -> SpanIndex:
    """Find the pixels of parcels on a lattice in their CRS, some thousands at a time.

    A parcel that the buffer leaves without a pixel centre is used whole; one that has none even so
    takes the pixels it touches.

    Args:
        pids: int32[n], ascending.
        wkb: n (multi)polygons, little-endian.
        lattice: where the pixels lie.
        buffer_m: inward buffer in metres.
    """
    rules = np.zeros(len(pids), np.uint8)
    chunks = [
        _spans(wkb[first : first + _CHUNK], lattice, buffer_m, rules[first : first + _CHUNK])
        for first in range(0, max(len(wkb), 1), _CHUNK)
    ]
    counts = np.concatenate([np.diff(chunk[0]) for chunk in chunks])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    row, first, last = (np.concatenate([chunk[k] for chunk in chunks]) for k in (1, 2, 3))
    px, bounds = kernels.span_bounds(offsets, row, first, last)
    return SpanIndex(np.asarray(pids, np.int32), offsets, row, first, last, px, bounds, rules)


def _spans(
    wkb: Sequence[bytes], lattice: Lattice, buffer_m: float, rules: npt.NDArray[np.uint8]
) -> Spans:
    """Spans of some parcels; their rules are filled in."""
    whole = _Rings.of(wkb).spans(lattice)
    spans = _Rings.of(_shrunk(wkb, buffer_m)).spans(lattice) if buffer_m else whole
    if buffer_m:
        spans = _fill_gaps(spans, whole, rules, Rule.UNBUFFERED)
    empty = np.flatnonzero(np.diff(spans[0]) == 0)
    if empty.size:
        spans = _fill_gaps(spans, _touched(wkb, empty, lattice), rules, Rule.TOUCHED)
    return spans


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
        if not entry.is_dir():
            return None
        try:
            arrays = [np.load(entry / f"{f.name}.npy", mmap_mode="r") for f in fields(SpanIndex)]
            os.utime(entry)
        except (OSError, ValueError, EOFError) as error:  # damaged, or removed meanwhile
            _log.warning("event=cache_entry_dropped entry=%s reason=%s", entry.name, error)
            shutil.rmtree(entry, ignore_errors=True)
            return None
        return SpanIndex(*arrays)

    def put(self, digest: str, lattice: Lattice, buffer_m: float, index: SpanIndex) -> None:
        """Keep an index: all of it or nothing, whoever else does the same; a cache may fail."""
        entry = self._entry(digest, lattice, buffer_m)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._folder))
        try:
            for f in fields(SpanIndex):
                np.save(partial / f"{f.name}.npy", getattr(index, f.name))
            partial.rename(entry)
        except OSError as error:
            if not entry.is_dir():
                _log.warning("event=cache_not_written entry=%s reason=%s", entry.name, error)
            shutil.rmtree(partial, ignore_errors=True)
        self._shrink(keep=entry)

    def _entry(self, digest: str, lattice: Lattice, buffer_m: float) -> Path:
        return self._folder / f"{digest}_{lattice.key}_{buffer_m:g}_v{_FORMAT}"

    def _shrink(self, keep: Path) -> None:
        total = 0
        for size, entry in _newest_first(self._folder):
            total += size
            if total > self._max_bytes and entry != keep:
                shutil.rmtree(entry, ignore_errors=True)


def _newest_first(folder: Path) -> list[tuple[int, Path]]:
    """Bytes and path of each entry; others may come and go meanwhile."""
    found = []
    for entry in folder.iterdir():
        with suppress(OSError):
            size = sum(f.stat().st_size for f in entry.iterdir())
            found.append((entry.stat().st_mtime, size, entry))
    return [(size, entry) for _, size, entry in sorted(found, reverse=True)]


def _shrunk(wkb: Sequence[bytes], buffer_m: float) -> list[bytes]:
    geometries = shapely.from_wkb(np.asarray(wkb, dtype=object))
    return list(shapely.to_wkb(shapely.buffer(geometries, -buffer_m), byte_order=1))


def _touched(wkb: Sequence[bytes], which: npt.NDArray[np.int64], lattice: Lattice) -> Spans:
    """Spans of all pixels that the chosen parcels touch, as GDAL has it; none for the others."""
    geometries = shapely.from_wkb(np.array([wkb[i] for i in which], dtype=object))
    parts, owner = shapely.get_parts(geometries, return_index=True)
    found = [
        np.insert(_touched_pixels(part, lattice), 0, place, axis=1)
        for part, place in zip(parts, owner, strict=True)
    ]
    # Parts of one parcel may touch the same pixel.
    pixels = np.unique(np.concatenate(found), axis=0)
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
