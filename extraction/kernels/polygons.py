"""Compiled loops over outlines: WKB to rings, rings to the spans of a lattice."""

import numpy as np
from numba import njit


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
        at, parts = _first_polygon(data, starts[i])
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
        at, parts = _first_polygon(data, starts[i])
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
def _first_polygon(data, at):  # type: ignore[no-untyped-def]
    """Place of a geometry's first polygon, and number of polygons; -1 for other types."""
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
                    span_row = _grow(span_row, capacity)
                    span_first = _grow(span_first, capacity)
                    span_last = _grow(span_last, capacity)
                span_row[m], span_first[m], span_last[m] = row, first, last
                m += 1
        offsets[i + 1] = m
    return offsets, span_row[:m].copy(), span_first[:m].copy(), span_last[:m].copy()


@njit(nogil=True, cache=True)
def _grow(array, capacity):  # type: ignore[no-untyped-def]
    larger = np.empty(capacity, array.dtype)
    larger[: array.size] = array
    return larger


@njit(nogil=True, cache=True)
def _crossings(cols, rows, ring_ends, ring0, ring1, y, out):  # type: ignore[no-untyped-def]
    """Write the sorted columns where the rings cross row coordinate y; the number of them."""
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
