"""Compiled loops over pixel values: exact statistics and class counts of each parcel."""

import numpy as np
from numba import njit

N_CLASSES = 12
"""Classes of Sentinel-2's scene classification, 0 (no data) to 11."""

_at = np.uintp
"""Casts an index that is never negative: numba then leaves out its check for negative ones."""

# Loops go over an index: for `for x in array`, numba steps by the array's stride, and LLVM's vector
# code of that is for a stride of one byte only.

_INTEGER_BINS = 1024
_FLOAT_BINS = 256
_SORT_BELOW = 32
_QUANTILES = (0.25, 0.5, 0.75)


@njit(nogil=True, cache=True)
def reduce_integers(values, starts, nodata, begin, end, out):  # type: ignore[no-untyped-def]
    """Statistics of the pixel values of parcels begin to end; exact 64-bit sums.

    The variance is taken about c = floor(mean): (sum d^2 - (sum d)^2 / n) / n with d = v - c, so
    that no digits are lost (shifted data; T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms
    for computing the sample variance", The American Statistician 37, 1983). As integer sums are
    exact, those of d follow from those of v.

    Args:
        values: (u)int8 or (u)int16[total]; each parcel's valid values are moved to its front.
        starts: int64[n + 1].
        nodata: value to leave out, as int32; any number outside the type's range is none.
        begin: first parcel to reduce.
        end: the one after the last.
        out: float64[n, 8], filled with count, mean, std, min, p25, p50, p75, max.
    """
    counts = np.empty(_INTEGER_BINS, np.int32)
    scratch = np.empty(_longest(starts, begin, end) + 1, values.dtype)
    for i in range(begin, end):
        v = values[starts[i] : starts[i + 1]]
        low, high, has_nodata = _extremes(v, nodata)
        if has_nodata:
            v = v[: _unequal_to_front(v, nodata)]
            low, high, has_nodata = _extremes(v, nodata)
        n = v.size
        out[i, 0] = n
        if n == 0:
            out[i, 1:] = np.nan
            continue
        total, squares = _sums(v)
        centre = total // n
        deviations = total - n * centre
        squares -= centre * (total + deviations)
        out[i, 1] = total / n
        out[i, 2] = np.sqrt(max((squares - deviations / n * deviations) / n, 0.0))
        out[i, 3], out[i, 7] = low, high
        _integer_quantiles(v, np.int32(low), np.int32(high), counts, scratch, out[i])


@njit(nogil=True, cache=True)
def reduce_floats(values, starts, nodata, begin, end, out):  # type: ignore[no-untyped-def]
    """Statistics of float pixel values; NaN and infinite ones are left out.

    Sums are in float64; the variance is that of the corrected two-pass algorithm (Chan, Golub and
    LeVeque, 1983).

    Args:
        values: float32 or float64[total]; each parcel's valid values are moved to its front.
        starts: int64[n + 1].
        nodata: value to leave out; NaN for none.
        begin: first parcel to reduce.
        end: the one after the last.
        out: float64[n, 8], filled with count, mean, std, min, p25, p50, p75, max.
    """
    counts = np.empty(_FLOAT_BINS, np.int32)
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
        for j in range(n):
            x = v[j]
            low, high = min(low, x), max(high, x)
            mean += x
        mean /= n
        deviations, squares = 0.0, 0.0
        for j in range(n):
            d = v[j] - mean
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
def _extremes(v, nodata):  # type: ignore[no-untyped-def]
    """Minimum, maximum, and whether nodata is among the values."""
    if v.size == 0:
        return 0, 0, False
    low, high, has_nodata = v[0], v[0], False
    for j in range(v.size):
        x = v[j]
        low, high = min(low, x), max(high, x)
        has_nodata |= x == nodata
    return low, high, has_nodata


@njit(nogil=True, cache=True)
def _sums(v):  # type: ignore[no-untyped-def]
    """Sum of the values, and of their squares; exact below 2^31 values of 16 bits."""
    total, squares = np.int64(0), np.int64(0)
    for j in range(v.size):
        x = np.int64(v[j])
        total += x
        squares += x * x
    return total, squares


@njit(nogil=True, cache=True)
def _unequal_to_front(v, nodata):  # type: ignore[no-untyped-def]
    n = 0
    for j in range(v.size):  # written always, kept if it counts: no branch to mispredict
        x = v[j]
        v[_at(n)] = x
        n += x != nodata
    return n


@njit(nogil=True, cache=True)
def _finite_to_front(v, nodata):  # type: ignore[no-untyped-def]
    n = 0
    for j in range(v.size):
        x = v[j]
        v[_at(n)] = x
        n += np.isfinite(x) and x != nodata
    return n


@njit(nogil=True, cache=True)
def _integer_quantiles(v, low, high, counts, scratch, row):  # type: ignore[no-untyped-def]
    """Write p25, p50, p75 (linear interpolation at rank q (n - 1)) of v into row[4:7].

    Few values are sorted. Many are counted, in bins of one value where their range allows it;
    in wider bins, only the one that a rank falls into is sorted. Exact for any distribution.

    Sources: definition 7 of R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages",
    The American Statistician 50, 1996; selection by bins after R. J. Tibshirani, "Fast computation
    of the median by successive binning", 2008.
    """
    if v.size < _SORT_BELOW:
        _sorted_quantiles(v, row)
        return
    shift = np.int32(0)
    while (high - low) >> shift >= _INTEGER_BINS:
        shift += 1
    counts[: ((high - low) >> shift) + 1] = 0
    for j in range(v.size):
        counts[_at((np.int32(v[j]) - low) >> shift)] += 1
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
    for j in range(v.size):
        x = v[j]
        scratch[_at(n)] = x
        n += ((np.int32(x) - low) >> shift) == at
    return n


@njit(nogil=True, cache=True)
def _float_quantiles(v, low, high, counts, scratch, row):  # type: ignore[no-untyped-def]
    """The same for floats; bins are equal parts of the range, and never of one value only."""
    if v.size < _SORT_BELOW:
        _sorted_quantiles(v, row)
        return
    width = high - low
    per_unit = (_FLOAT_BINS - 1) / width if width > 0 else 0.0
    if not np.isfinite(width * per_unit):  # of float64, some lie too close or too far for bins
        v.sort()
        _sorted_quantiles(v, row)
        return
    counts[:] = 0
    for j in range(v.size):
        counts[_at((v[j] - low) * per_unit)] += 1
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
    for j in range(v.size):
        x = v[j]
        scratch[_at(n)] = x
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
    """The bin a rank falls into, and the values before it."""
    while before + counts[_at(at)] <= rank:
        before += counts[_at(at)]
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
