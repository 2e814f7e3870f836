"""The compiled loops: polygons to spans, spans to pixel values, pixel values to statistics.

Nobody else imports numba. Kernels hold no lock (nogil), know nothing of files or databases, and
work on plain arrays; `extraction.spans` and `extraction.reduction` give them meaning.
"""

import numpy as np
from numba import njit

N_CLASSES = 12
"""Classes of Sentinel-2's scene classification, 0 (no data) to 11."""

_at = np.uintp
"""Casts an index that is never negative: numba then leaves out its check for negative ones."""

_INTEGER_BINS = 1024
_STEP = 32
_FLOAT_BINS = 256
_SORT_BELOW = 32
_QUANTILES = (0.25, 0.5, 0.75)


@njit(nogil=True, cache=True)
def read_wkb(data, starts):  # type: ignore[no-untyped-def]
    """Take polygons apart: little-endian WKB (OGC 06-103r4, section 8), Polygon or MultiPolygon.

    Args:
        data: uint8[bytes], one geometry after the other.
        starts: int64[n + 1], where each begins.

    Returns:
        (xy float64[v, 2], ring_ends int64[r + 1], parcel_rings int64[n + 1]), as scan_polygons
        takes them; ring_ends is empty if a geometry is of another type.
    """
    n = starts.size - 1
    parcel_rings = np.zeros(n + 1, np.int64)
    vertices, rings = 0, 0
    for i in range(n):
        at, parts = _opened(data, starts[i])
        if parts < 0:
            return np.empty((0, 2)), np.empty(0, np.int64), parcel_rings
        for _ in range(parts):
            ring_count = _uint32(data, at + 5)
            at += 9
            for _ in range(ring_count):
                size = _uint32(data, at)
                at += 4 + 16 * size
                vertices += size
                rings += 1
        parcel_rings[i + 1] = rings
    xy = np.empty((vertices, 2))
    flat = xy.reshape(2 * vertices)
    ring_ends = np.zeros(rings + 1, np.int64)
    ring = 0
    for i in range(n):
        at, parts = _opened(data, starts[i])
        for _ in range(parts):
            ring_count = _uint32(data, at + 5)
            at += 9
            for _ in range(ring_count):
                size = _uint32(data, at)
                begin = ring_ends[ring]
                values = data[at + 4 : at + 4 + 16 * size].view(np.float64)
                flat[2 * begin : 2 * (begin + size)] = values
                at += 4 + 16 * size
                ring += 1
                ring_ends[ring] = begin + size
    return xy, ring_ends, parcel_rings


@njit(nogil=True, cache=True)
def _opened(data, at):  # type: ignore[no-untyped-def]
    """Where the first polygon of a geometry begins, and how many there are; -1 for other types."""
    kind = _uint32(data, at + 1)
    if data[at] == 1 and kind == 3:
        return at, 1
    if data[at] == 1 and kind == 6:
        return at + 9, _uint32(data, at + 5)
    return at, -1


@njit(nogil=True, cache=True)
def _uint32(data, at):  # type: ignore[no-untyped-def]
    value = np.int64(0)
    for k in range(4):
        value |= np.int64(data[at + k]) << (8 * k)
    return value


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
    """Copy the pixels of pieces begin to end from a block at raster (row0, col0) into `out`."""
    flat = block.reshape(block.size)
    width = block.shape[1]
    for p in range(begin, end):
        source = _at((piece_row[p] - row0) * width + piece_col[p] - col0)
        place = _at(piece_place[p])
        for j in range(_at(piece_length[p])):
            out[place + j] = flat[source + j]


@njit(nogil=True, cache=True)
def reduce_integers(values, starts, nodata, begin, end, out):  # type: ignore[no-untyped-def]
    """Statistics of the pixel values of parcels begin to end; exact 64-bit sums.

    The variance is taken about c = floor(mean): (sum d^2 - (sum d)^2 / n) / n with d = v - c, so
    that no digits are lost.

    Args:
        values: (u)int8 or (u)int16[total]; each parcel's valid values are moved to its front.
        starts: int64[n + 1].
        nodata: value to leave out, as int32; any number outside the type's range is none.
        begin: first parcel to reduce.
        end: the one after the last.
        out: float64[n, 8], filled with count, mean, std, min, p25, p50, p75, max.
    """
    counts = np.empty(_INTEGER_BINS + _STEP, np.int32)
    scratch = np.empty(_longest(starts, begin, end) + 1, values.dtype)
    for i in range(begin, end):
        v = values[starts[i] : starts[i + 1]]
        low, high, total, unwanted = _survey(v, nodata)
        if unwanted:
            v = v[: _unequal_to_front(v, nodata)]
            low, high, total, unwanted = _survey(v, nodata)
        n = v.size
        out[i, 0] = n
        if n == 0:
            out[i, 1:] = np.nan
            continue
        deviations, squares = _squares(v, np.int32(total // n))
        out[i, 1] = total / n
        out[i, 2] = np.sqrt(max((squares - deviations / n * deviations) / n, 0.0))
        out[i, 3], out[i, 7] = low, high
        _integer_quantiles(v, np.int32(low), np.int32(high), counts, scratch, out[i])


@njit(nogil=True, cache=True)
def reduce_floats(values, starts, nodata, begin, end, out):  # type: ignore[no-untyped-def]
    """The same for float32 or float64 values: sums in float64, variance in a second pass.

    NaN and infinite values are left out, and `nodata` unless it is NaN.
    """
    counts = np.empty(_FLOAT_BINS + _STEP, np.int32)
    scratch = np.empty(_longest(starts, begin, end) + 1, values.dtype)
    for i in range(begin, end):
        v = values[starts[i] : starts[i + 1]]
        n = _finite_to_front(v, nodata)
        out[i, 0] = n
        if n == 0:
            out[i, 1:] = np.nan
            continue
        v = v[:n]
        low, high, mean = v[0], v[0], 0.0
        for x in v:
            low, high = min(low, x), max(high, x)
            mean += x
        mean /= n
        deviations, squares = 0.0, 0.0
        for x in v:
            d = x - mean
            deviations += d
            squares += d * d
        out[i, 1] = mean + deviations / n
        out[i, 2] = np.sqrt(max((squares - deviations / n * deviations) / n, 0.0))
        out[i, 3], out[i, 7] = low, high
        _float_quantiles(v, np.float64(low), np.float64(high), counts, scratch, out[i])


@njit(nogil=True, cache=True)
def _longest(starts, begin, end):  # type: ignore[no-untyped-def]
    longest = np.int64(0)
    for i in range(begin, end):
        longest = max(longest, starts[i + 1] - starts[i])
    return longest


@njit(nogil=True, cache=True)
def _survey(v, nodata):  # type: ignore[no-untyped-def]
    """Minimum, maximum, sum, and how many are nodata, in one pass at memory speed."""
    if v.size == 0:
        return 0, 0, np.int64(0), 0
    low, high, total, unwanted = v[0], v[0], np.int64(0), 0
    for x in v:
        low, high = min(low, x), max(high, x)
        total += np.int64(x)
        unwanted += x == nodata
    return low, high, total, unwanted


@njit(nogil=True, cache=True)
def _unequal_to_front(v, nodata):  # type: ignore[no-untyped-def]
    n = 0
    for x in v:
        if x != nodata:
            v[n] = x
            n += 1
    return n


@njit(nogil=True, cache=True)
def _finite_to_front(v, nodata):  # type: ignore[no-untyped-def]
    n = 0
    for x in v:
        if np.isfinite(x) and x != nodata:
            v[n] = x
            n += 1
    return n


@njit(nogil=True, cache=True)
def _squares(v, centre):  # type: ignore[no-untyped-def]
    """Sums of deviations from a centre and of their squares."""
    deviations, squares = np.int64(0), np.int64(0)
    for x in v:
        d = np.int32(x) - centre
        deviations += d
        squares += np.int64(d) * np.int64(d)
    return deviations, squares


@njit(nogil=True, cache=True)
def _integer_quantiles(v, low, high, counts, scratch, row):  # type: ignore[no-untyped-def]
    """Write p25, p50, p75 (linear interpolation at rank q (n - 1)) of v into row[4:7].

    Few values are sorted. Many are counted, in bins of one value where their range allows it;
    in wider bins, only the one that a rank falls into is sorted. Exact for any distribution.
    """
    if v.size < _SORT_BELOW:
        _sorted_quantiles(v, row)
        return
    shift = np.int32(0)
    while (high - low) >> shift >= _INTEGER_BINS:
        shift += 1
    counts[: ((high - low) >> shift) + 1 + _STEP] = 0
    if shift == 0:
        for x in v:
            counts[_at(np.int32(x) - low)] += 1
    else:
        for x in v:
            counts[_at((np.int32(x) - low) >> shift)] += 1
    before, at = np.int64(0), 0
    for q in range(3):
        rank, lower, upper = _ranks(q, v.size)
        before, at = _advanced(counts, before, at, lower)
        following = _bin_of(upper, before, at, counts)
        if shift == 0:
            row[4 + q] = _between(low + at, low + following, rank - lower)
            continue
        values = scratch[: _integer_bin(v, at, low, shift, scratch)]
        values.sort()
        below = np.float64(values[lower - before])
        if following == at:
            above = np.float64(values[upper - before])
        else:
            size = _integer_bin(v, following, low, shift, scratch)
            above = np.float64(scratch[:size].min())
        row[4 + q] = _between(below, above, rank - lower)


@njit(nogil=True, cache=True)
def _integer_bin(v, at, low, shift, scratch):  # type: ignore[no-untyped-def]
    n = 0
    for x in v:  # written always, kept if it counts: no branch to mispredict
        scratch[n] = x
        n += ((np.int32(x) - low) >> shift) == at
    return n


@njit(nogil=True, cache=True)
def _float_quantiles(v, low, high, counts, scratch, row):  # type: ignore[no-untyped-def]
    """The same for floats; bins are equal parts of the range, and never of one value only."""
    if v.size < _SORT_BELOW:
        _sorted_quantiles(v, row)
        return
    per_unit = (_FLOAT_BINS - 1) / (high - low) if high > low else 0.0
    counts[:] = 0
    for x in v:
        counts[_at((x - low) * per_unit)] += 1
    before, at = np.int64(0), 0
    for q in range(3):
        rank, lower, upper = _ranks(q, v.size)
        before, at = _advanced(counts, before, at, lower)
        following = _bin_of(upper, before, at, counts)
        values = scratch[: _float_bin(v, at, low, per_unit, scratch)]
        values.sort()
        below = np.float64(values[lower - before])
        if following == at:
            above = np.float64(values[upper - before])
        else:
            size = _float_bin(v, following, low, per_unit, scratch)
            above = np.float64(scratch[:size].min())
        row[4 + q] = _between(below, above, rank - lower)


@njit(nogil=True, cache=True)
def _float_bin(v, at, low, per_unit, scratch):  # type: ignore[no-untyped-def]
    n = 0
    for x in v:
        scratch[n] = x
        n += np.int32((x - low) * per_unit) == at
    return n


@njit(nogil=True, cache=True)
def _ranks(q, n):  # type: ignore[no-untyped-def]
    """Rank of the quantile among n values, and the whole ranks below and above it."""
    rank = _QUANTILES[q] * (n - 1)
    lower = np.int64(rank)
    return rank, lower, lower + 1 if rank > lower else lower


@njit(nogil=True, cache=True)
def _advanced(counts, before, at, rank):  # type: ignore[no-untyped-def]
    """The bin a rank falls into, and the values before it; steps over 32 bins at a time."""
    while True:
        step = np.int32(0)
        for k in range(_STEP):
            step += counts[at + k]
        if before + step > rank:
            break
        before += step
        at += _STEP
    while before + counts[at] <= rank:
        before += counts[at]
        at += 1
    return before, at


@njit(nogil=True, cache=True)
def _bin_of(upper, before, at, counts):  # type: ignore[no-untyped-def]
    """Bin of rank `upper`, which is in bin `at` or in the next one that is not empty."""
    if before + counts[at] > upper:
        return at
    at += 1
    while counts[at] == 0:
        at += 1
    return at


@njit(nogil=True, cache=True)
def _sorted_quantiles(v, row):  # type: ignore[no-untyped-def]
    for j in range(1, v.size):
        x = v[j]
        k = j
        while k > 0 and v[k - 1] > x:
            v[k] = v[k - 1]
            k -= 1
        v[k] = x
    for q in range(3):
        rank, lower, upper = _ranks(q, v.size)
        row[4 + q] = _between(np.float64(v[lower]), np.float64(v[upper]), rank - lower)


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
