"""The compiled loops: polygons to spans, spans to pixel values, pixel values to statistics.

Nobody else imports numba. Kernels hold no lock (nogil), know nothing of files or databases, and
work on plain arrays; `extraction.spans` and `extraction.reduction` give them meaning.
"""

import numpy as np
from numba import njit

N_CLASSES = 12
"""Classes of Sentinel-2's scene classification, 0 (no data) to 11."""

_BINS = 256
_SORT_BELOW = 64
_QUANTILES = (0.25, 0.5, 0.75)


@njit(nogil=True, cache=True)
def scan_polygons(cols, rows, ring_ends, parcel_rings):  # type: ignore[no-untyped-def]
    """Turn polygons into spans of the pixels whose centre is inside (even-odd rule).

    The rule of GDAL's polygon fill (alg/llrasterize.cpp): row r is crossed at r + 0.5; an edge
    counts where y_low <= r + 0.5 < y_high; between two crossings a and b the pixels
    floor(a + 0.5) <= col < floor(b + 0.5) are inside.

    Args:
        cols: float64[v], vertices in pixels eastwards from the lattice's origin.
        rows: float64[v], the same southwards.
        ring_ends: int64[r + 1], first vertex of each ring, closed rings.
        parcel_rings: int64[n + 1], first ring of each parcel.

    Returns:
        (offsets int64[n + 1], row int32[m], first int32[m], last int32[m]): the spans of parcel i
        are offsets[i] to offsets[i + 1]; `last` is excluded.
    """
    n = parcel_rings.size - 1
    offsets = np.zeros(n + 1, np.int64)
    capacity = max(1024, 4 * cols.size)
    span_row = np.empty(capacity, np.int32)
    span_first = np.empty(capacity, np.int32)
    span_last = np.empty(capacity, np.int32)
    m = 0
    crossings = np.empty(64)
    for i in range(n):
        low, high = np.inf, -np.inf
        begin, end = ring_ends[parcel_rings[i]], ring_ends[parcel_rings[i + 1]]
        for v in range(begin, end):
            low, high = min(low, rows[v]), max(high, rows[v])
        if end - begin > crossings.size:
            crossings = np.empty(2 * (end - begin))
        top = np.int64(np.floor(low)) if end > begin else 0
        bottom = np.int64(np.floor(high)) + 1 if end > begin else 0
        for row in range(top, bottom):
            k = _crossings(
                cols, rows, ring_ends, parcel_rings[i], parcel_rings[i + 1], row + 0.5, crossings
            )
            for pair in range(0, k - 1, 2):
                first = np.int64(np.floor(crossings[pair] + 0.5))
                last = np.int64(np.floor(crossings[pair + 1] + 0.5))
                if last <= first:
                    continue
                if m > offsets[i] and span_row[m - 1] == row and first < span_last[m - 1]:
                    first = np.int64(span_last[m - 1])
                    if last <= first:
                        continue
                if m == capacity:
                    capacity *= 2
                    span_row = _grown(span_row, capacity)
                    span_first = _grown(span_first, capacity)
                    span_last = _grown(span_last, capacity)
                span_row[m], span_first[m], span_last[m] = row, first, last
                m += 1
        offsets[i + 1] = m
    return offsets, span_row[:m].copy(), span_first[:m].copy(), span_last[:m].copy()


@njit(nogil=True, cache=True)
def _grown(array, capacity):  # type: ignore[no-untyped-def]
    larger = np.empty(capacity, array.dtype)
    larger[: array.size] = array
    return larger


@njit(nogil=True, cache=True)
def _crossings(cols, rows, ring_ends, ring0, ring1, y, out):  # type: ignore[no-untyped-def]
    """Sorted columns where the rings cross row coordinate y; returns how many."""
    k = 0
    for ring in range(ring0, ring1):
        for v in range(ring_ends[ring], ring_ends[ring + 1] - 1):
            x1, y1, x2, y2 = cols[v], rows[v], cols[v + 1], rows[v + 1]
            if y1 == y2:
                continue
            if y1 > y2:
                x1, y1, x2, y2 = x2, y2, x1, y1
            if y1 <= y < y2:
                x = (y - y1) * (x2 - x1) / (y2 - y1) + x1
                j = k
                while j > 0 and out[j - 1] > x:
                    out[j] = out[j - 1]
                    j -= 1
                out[j] = x
                k += 1
    return k


@njit(nogil=True, cache=True)
def span_bounds(offsets, span_row, span_first, span_last):  # type: ignore[no-untyped-def]
    """Pixels and extent of each parcel.

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
            base = (row // block_height) * across
            for column in range(first // block_width, (last - 1) // block_width + 1):
                per_block[base + column + 1] += 1
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
            base = (row // block_height) * across
            for column in range(first // block_width, (last - 1) // block_width + 1):
                a = max(first, column * block_width)
                b = min(last, (column + 1) * block_width)
                p = cursor[base + column]
                cursor[base + column] += 1
                piece_row[p], piece_col[p] = row, a
                piece_length[p], piece_place[p] = b - a, place
                place += b - a
    return starts, block_ends, piece_row, piece_col, piece_length, piece_place


@njit(nogil=True, cache=True)
def gather(block, row0, col0, piece_row, piece_col, piece_length, piece_place, begin, end, out):  # type: ignore[no-untyped-def]
    """Copy the pixels of pieces begin to end from a block at raster (row0, col0) into `out`."""
    for p in range(begin, end):
        row, col, place = piece_row[p] - row0, piece_col[p] - col0, piece_place[p]
        for j in range(piece_length[p]):
            out[place + j] = block[row, col + j]


@njit(nogil=True, cache=True)
def reduce_integers(values, starts, nodata, begin, end, out):  # type: ignore[no-untyped-def]
    """Statistics of the pixel values of parcels begin to end; exact 64-bit sums.

    The variance is taken about c = int(mean): (sum d^2 - (sum d)^2 / n) / n with d = v - c, so
    that no digits are lost.

    Args:
        values: uint8, int16 or uint16[total]; each parcel's valid values are moved to its front.
        starts: int64[n + 1].
        nodata: value to leave out, as int64; any number outside the type's range is none.
        begin: first parcel to reduce.
        end: the one after the last.
        out: float64[n, 8], filled with count, mean, std, min, p25, p50, p75, max.
    """
    counts = np.empty(_BINS, np.int64)
    scratch = np.empty(_longest(starts, begin, end))
    for i in range(begin, end):
        a = starts[i]
        n = 0
        total = np.int64(0)
        low, high = np.int64(2**62), np.int64(-(2**62))
        for j in range(a, starts[i + 1]):
            v = np.int64(values[j])
            if v != nodata:
                values[a + n] = values[j]
                n += 1
                total += v
                low, high = min(low, v), max(high, v)
        out[i, 0] = n
        if n == 0:
            out[i, 1:] = np.nan
            continue
        centre = np.int64(total / n)
        deviations, squares = np.int64(0), np.int64(0)
        for j in range(a, a + n):
            d = np.int64(values[j]) - centre
            deviations += d
            squares += d * d
        variance = (squares - deviations / n * deviations) / n
        out[i, 1] = total / n
        out[i, 2] = np.sqrt(max(variance, 0.0))
        out[i, 3], out[i, 7] = low, high
        exact = high - low < _BINS
        per_unit = 1.0 if exact else (_BINS - 1) / (high - low)
        _quantiles(values[a : a + n], low, per_unit, exact, counts, scratch, out[i])


@njit(nogil=True, cache=True)
def reduce_floats(values, starts, nodata, begin, end, out):  # type: ignore[no-untyped-def]
    """The same for float32 or float64 values: sums in float64, variance in a second pass.

    NaN and infinite values are left out, and `nodata` unless it is NaN.
    """
    counts = np.empty(_BINS, np.int64)
    scratch = np.empty(_longest(starts, begin, end))
    for i in range(begin, end):
        a = starts[i]
        n = 0
        total = 0.0
        low, high = np.inf, -np.inf
        for j in range(a, starts[i + 1]):
            v = np.float64(values[j])
            if np.isfinite(v) and v != nodata:
                values[a + n] = values[j]
                n += 1
                total += v
                low, high = min(low, v), max(high, v)
        out[i, 0] = n
        if n == 0:
            out[i, 1:] = np.nan
            continue
        mean = total / n
        deviations, squares = 0.0, 0.0
        for j in range(a, a + n):
            d = np.float64(values[j]) - mean
            deviations += d
            squares += d * d
        variance = (squares - deviations / n * deviations) / n
        out[i, 1] = mean + deviations / n
        out[i, 2] = np.sqrt(max(variance, 0.0))
        out[i, 3], out[i, 7] = low, high
        per_unit = (_BINS - 1) / (high - low) if high > low else 0.0
        _quantiles(values[a : a + n], low, per_unit, high == low, counts, scratch, out[i])


@njit(nogil=True, cache=True)
def _longest(starts, begin, end):  # type: ignore[no-untyped-def]
    longest = np.int64(0)
    for i in range(begin, end):
        longest = max(longest, starts[i + 1] - starts[i])
    return longest


@njit(nogil=True, cache=True)
def _quantiles(v, low, per_unit, exact, counts, scratch, row):  # type: ignore[no-untyped-def]
    """Write p25, p50, p75 (linear interpolation at rank q (n - 1)) of v into row[4:7].

    Few values are sorted. Many are counted into 256 bins of 1 / per_unit from their minimum, and
    only the bin a rank falls into is sorted: exact for any distribution. `exact` says that a bin
    holds one value only.
    """
    n = v.size
    if n < _SORT_BELOW:
        _insertion_sort(v)
    else:
        counts[:] = 0
        for j in range(n):
            counts[np.int64((v[j] - low) * per_unit)] += 1
    for q in range(3):
        rank = _QUANTILES[q] * (n - 1)
        lower = np.int64(rank)
        upper = lower + 1 if rank > lower else lower
        if n < _SORT_BELOW:
            below, above = np.float64(v[lower]), np.float64(v[upper])
        else:
            below, above = _ranked(v, lower, upper, low, per_unit, exact, counts, scratch)
        row[4 + q] = _between(below, above, rank - lower)


@njit(nogil=True, cache=True)
def _ranked(v, lower, upper, low, per_unit, exact, counts, scratch):  # type: ignore[no-untyped-def]
    """The values of ranks lower and upper (the same or the next one) of binned values."""
    before, at = np.int64(0), 0
    while before + counts[at] <= lower:
        before += counts[at]
        at += 1
    following = at
    while (following == at and before + counts[at] <= upper) or counts[following] == 0:
        following += 1
    if exact:
        return np.float64(low + at), np.float64(low + following)
    m = _bin_values(v, at, low, per_unit, scratch)
    values = scratch[:m]
    values.sort()
    below = values[lower - before]
    if following == at:
        return below, values[upper - before]
    m = _bin_values(v, following, low, per_unit, scratch)
    return below, scratch[:m].min()


@njit(nogil=True, cache=True)
def _bin_values(v, at, low, per_unit, scratch):  # type: ignore[no-untyped-def]
    m = 0
    for j in range(v.size):
        if np.int64((v[j] - low) * per_unit) == at:
            scratch[m] = v[j]
            m += 1
    return m


@njit(nogil=True, cache=True)
def _insertion_sort(v):  # type: ignore[no-untyped-def]
    for j in range(1, v.size):
        x = v[j]
        k = j
        while k > 0 and v[k - 1] > x:
            v[k] = v[k - 1]
            k -= 1
        v[k] = x


@njit(nogil=True, cache=True)
def _between(below, above, fraction):  # type: ignore[no-untyped-def]
    """Linear interpolation, rounded as numpy's percentile does."""
    if fraction >= 0.5:
        return above - (above - below) * (1.0 - fraction)
    return below + (above - below) * fraction


@njit(nogil=True, cache=True)
def count_classes(values, starts, out):  # type: ignore[no-untyped-def]
    """Count the pixels of each class 0 to 11 per parcel; other values are not classes.

    Args:
        values: integers[total].
        starts: int64[n + 1].
        out: int64[n, 12], added to.
    """
    for i in range(starts.size - 1):
        for j in range(starts[i], starts[i + 1]):
            if 0 <= values[j] < N_CLASSES:
                out[i, values[j]] += 1
