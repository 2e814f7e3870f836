"""Compiled loops over spans: their extents, cutting them by blocks, gathering their pixels."""

import numpy as np
from numba import njit

_at = np.uintp
"""Casts an index that is never negative: numba then leaves out its check for negative ones."""


@njit(nogil=True, cache=True)
def span_bounds(offsets, span_row, span_first, span_last):  # type: ignore[no-untyped-def]
    """Pixels and extent of each parcel.

    Args:
        offsets: int64[n + 1], with the next three as scan_polygons returns them.
        span_row: int32[m].
        span_first: int32[m].
        span_last: int32[m].

    Returns:
        (px int32[n], bounds int32[n, 4]): bounds as row0, row1, col0, col1, ends excluded;
        all 0 for a parcel without spans.
    """
    n = offsets.size - 1
    px = np.zeros(n, np.int32)
    bounds = np.zeros((n, 4), np.int32)
    for i in range(n):
        if offsets[i] == offsets[i + 1]:
            continue
        r0, r1, c0, c1 = 2**31 - 1, -(2**31), 2**31 - 1, -(2**31)
        for s in range(offsets[i], offsets[i + 1]):
            px[i] += span_last[s] - span_first[s]
            r0, r1 = min(r0, span_row[s]), max(r1, span_row[s] + 1)
            c0, c1 = min(c0, span_first[s]), max(c1, span_last[s])
        bounds[i, 0], bounds[i, 1], bounds[i, 2], bounds[i, 3] = r0, r1, c0, c1
    return px, bounds


@njit(nogil=True, cache=True)
def plan_pieces(  # type: ignore[no-untyped-def]
    parcels,
    offsets,
    span_row,
    span_first,
    span_last,
    grid_row,
    grid_col,
    height,
    width,
    block_height,
    block_width,
):
    """Cut the spans of some parcels at a raster's edges and blocks, ordered by block.

    Args:
        parcels: int64[k], positions of the parcels in the index.
        offsets: int64[n + 1], with the next three as scan_polygons returns them.
        span_row: int32[m].
        span_first: int32[m].
        span_last: int32[m].
        grid_row: lattice row of the raster's first row.
        grid_col: lattice column of its first column.
        height: rows of the raster.
        width: its columns.
        block_height: rows of a block.
        block_width: its columns.

    Returns:
        (starts int64[k + 1], block_ends int64[blocks + 1], row int32[p], col int32[p],
        length int32[p], place int64[p]): pixel values of parcel i go to starts[i] to
        starts[i + 1] of one flat buffer; piece p of block b (block_ends[b] <= p <
        block_ends[b + 1]) copies `length` pixels at (row, col) of the raster to `place`.
    """
    across = (width + block_width - 1) // block_width
    down = (height + block_height - 1) // block_height
    base_of = np.arange(height) // block_height * across
    column_of = np.arange(width) // block_width
    per_block = np.zeros(across * down + 1, np.int64)
    starts = np.zeros(parcels.size + 1, np.int64)
    for k in range(parcels.size):
        inside = 0
        for s in range(offsets[parcels[k]], offsets[parcels[k] + 1]):
            row = span_row[s] - grid_row
            first = max(span_first[s] - grid_col, 0)
            last = min(span_last[s] - grid_col, width)
            if row < 0 or row >= height or first >= last:
                continue
            inside += last - first
            base = base_of[_at(row)]
            for column in range(column_of[_at(first)], column_of[_at(last - 1)] + 1):
                per_block[_at(base + column + 1)] += 1
        starts[k + 1] = starts[k] + inside
    block_ends = np.cumsum(per_block)
    total = block_ends[-1]
    piece_row = np.empty(total, np.int32)
    piece_col = np.empty(total, np.int32)
    piece_length = np.empty(total, np.int32)
    piece_place = np.empty(total, np.int64)
    cursor = block_ends[:-1].copy()
    for k in range(parcels.size):
        place = starts[k]
        for s in range(offsets[parcels[k]], offsets[parcels[k] + 1]):
            row = span_row[s] - grid_row
            first = max(span_first[s] - grid_col, 0)
            last = min(span_last[s] - grid_col, width)
            if row < 0 or row >= height or first >= last:
                continue
            base = base_of[_at(row)]
            for column in range(column_of[_at(first)], column_of[_at(last - 1)] + 1):
                a = max(first, column * block_width)
                b = min(last, (column + 1) * block_width)
                p = _at(cursor[_at(base + column)])
                cursor[_at(base + column)] += 1
                piece_row[p], piece_col[p] = row, a
                piece_length[p], piece_place[p] = b - a, place
                place += b - a
    return starts, block_ends, piece_row, piece_col, piece_length, piece_place


@njit(nogil=True, cache=True)
def gather(block, row0, col0, piece_row, piece_col, piece_length, piece_place, begin, end, out):  # type: ignore[no-untyped-def]
    """Copy the pixels of some pieces from a block of a raster into the parcels' flat buffer.

    Args:
        block: [rows, cols] pixels, C-contiguous.
        row0: row of its first pixel on the raster.
        col0: column of its first pixel.
        piece_row: int32[p], with the next three as plan_pieces returns them.
        piece_col: int32[p].
        piece_length: int32[p].
        piece_place: int64[p].
        begin: first piece to copy.
        end: the one after the last.
        out: [starts[-1]] values of the block's type, filled.
    """
    flat = block.reshape(block.size)
    width = block.shape[1]
    for p in range(begin, end):
        source = _at((piece_row[p] - row0) * width + piece_col[p] - col0)
        place = _at(piece_place[p])
        for j in range(_at(piece_length[p])):
            out[place + j] = flat[source + j]
