"""Compiled loops over the samples of a burst and of its partner, for coherence.

Offsets, phases and turns are planes over a column block of the reference burst, (lines, samples);
NaN in them is what has no ground or no partner, and goes through every sum to the result.
"""

import numpy as np
from numba import njit

from card.make.kernels import LINE, SLANT, trace_row

_compiled = njit(nogil=True, cache=True, error_model="numpy")
_inlined = njit(nogil=True, cache=True, error_model="numpy", inline="always")
_at = np.uintp

WINDOW_LINES, WINDOW_SAMPLES, EVERY_SAMPLE = 3, 10, 4
"""Window of a coherence, and the step along range from window to window; along azimuth it is 1."""

CENTRE_SAMPLE = (WINDOW_SAMPLES - 1) / 2
"""Of the first window; windows begin at samples 0, 4, 8 ..."""

TAPS, PHASES = 8, 512
"""Samples that a resampled one is made of, and positions between two samples."""

REACH = TAPS // 2
"""Samples on each side that a resampled one is made of."""


@_compiled
def rasterise(  # type: ignore[no-untyped-def]
    scaled, nodes, partner_nodes, step, row_shift, col_shift, spans, ranges, partner_ranges,
    line0s, sample0, wavenumber, lines, samples, phases,
):  # fmt: skip
    """Bring offsets from burst to partner, and the paths' difference, from map cells to samples.

    Each square between four cell centres is two triangles in the burst, linear inside.

    Args:
        scaled: float32[rows, columns], normalised heights of map cells; NaN where unknown.
        nodes: lattice of the reference, see card.make.kernels; so are the next four.
        partner_nodes: lattice of the partner on the same nodes.
        step: cells between nodes.
        row_shift: of the first cell.
        col_shift: of the first cell.
        spans: int64[node rows - 1, 2], first cell and the one after the last that may lie in the
            block, for the rows of cells after each row of nodes.
        ranges: float64[4] of the reference, see `to_sample`.
        partner_ranges: the same of the partner.
        line0s: float64[2], lines at which burst and partner begin, of their images' lattices.
        sample0: first sample of the block.
        wavenumber: 4 pi / wavelength, radians per metre.
        lines: float32[lines, samples], set to the partner's line less the burst's.
        samples: float32[lines, samples], set to the partner's sample less the burst's.
        phases: float32[lines, samples], set to the phase of the paths' difference, reduced.
    """
    rows, columns = scaled.shape
    above = np.empty((columns, 5))
    below = np.empty((columns, 5))
    traced = np.empty((5, columns))
    for i in range(spans.shape[0]):
        start, stop = spans[i]
        first, last = max(i * step - row_shift, 0), min((i + 1) * step - row_shift, rows - 1)
        if stop - start < 2 or last <= first:
            continue
        part = slice(start, stop)
        for r in range(first, last + 1):
            above, below = below, above
            heights, shift = scaled[r, part], col_shift + start
            trace_row(nodes, LINE, SLANT + 1, step, row_shift, shift, r, heights, traced)
            for c in range(stop - start):
                slant_m = ranges[0] + traced[SLANT, c] * ranges[1]
                below[c, 0] = traced[LINE, c] - line0s[0]
                below[c, 1] = (slant_m - ranges[2]) / ranges[3] - sample0
                below[c, 4] = -slant_m
            trace_row(partner_nodes, LINE, SLANT + 1, step, row_shift, shift, r, heights, traced)
            for c in range(stop - start):
                slant_m = partner_ranges[0] + traced[SLANT, c] * partner_ranges[1]
                sample = (slant_m - partner_ranges[2]) / partner_ranges[3]
                below[c, 2] = traced[LINE, c] - line0s[1] - below[c, 0]
                below[c, 3] = sample - sample0 - below[c, 1]
                below[c, 4] = (below[c, 4] + slant_m) * wavenumber
            if r > first:
                for c in range(stop - start - 1):
                    _fill(above[c], above[c + 1], below[c], lines, samples, phases)
                    _fill(above[c + 1], below[c + 1], below[c], lines, samples, phases)


@_inlined
def _crossing(y, ya, xa, yb, xb):  # type: ignore[no-untyped-def]
    """Where an edge crosses a line; the same number from both triangles beside it."""
    if ya > yb:
        ya, xa, yb, xb = yb, xb, ya, xa
    if y < ya or y > yb:
        return np.nan
    return xa if ya == yb else xa + (y - ya) * ((xb - xa) / (yb - ya))


@_compiled
def _fill(a, b, c, lines, samples, phases):  # type: ignore[no-untyped-def]
    """Fill a triangle of corners (line, sample, offset of lines, of samples, phase)."""
    y0, x0, y1, x1, y2, x2 = a[0], a[1], b[0], b[1], c[0], c[1]
    height, width = lines.shape
    low, high = max(min(y0, y1, y2), 0.0), min(max(y0, y1, y2), height - 1.0)
    if not (low <= high and max(x0, x1, x2) >= 0 and min(x0, x1, x2) <= width - 1):
        return
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if not abs(area) > 1e-6:
        return
    by_x1, by_x2 = (y2 - y0) / area, -(y1 - y0) / area
    by_y1, by_y2 = -(x2 - x0) / area, (x1 - x0) / area
    l1, s1, p1 = b[2] - a[2], b[3] - a[3], b[4] - a[4]
    l2, s2, p2 = c[2] - a[2], c[3] - a[3], c[4] - a[4]
    for i in range(int(np.ceil(low)), int(np.floor(high)) + 1):
        y = float(i)
        left, right = np.inf, -np.inf
        for x in (
            _crossing(y, y0, x0, y1, x1), _crossing(y, y1, x1, y2, x2), _crossing(y, y0, x0, y2, x2)
        ):  # fmt: skip
            if x < left:  # noqa: PLR1730 -- never where x is NaN
                left = x
            if x > right:  # noqa: PLR1730
                right = x
        for j in range(int(np.ceil(max(left, 0.0))), int(np.floor(min(right, width - 1.0))) + 1):
            u = (j - x0) * by_x1 + (i - y0) * by_y1
            v = (j - x0) * by_x2 + (i - y0) * by_y2
            lines[i, j] = a[2] + u * l1 + v * l2
            samples[i, j] = a[3] + u * s1 + v * s2
            phases[i, j] = (a[4] + u * p1 + v * p2) % (2 * np.pi)


@_compiled
def deramp(image, phases, steps, bends):  # type: ignore[no-untyped-def]
    """Turn the samples of each column by a phase that is quadratic along the lines, in place.

    Args:
        image: complex64[lines, samples].
        phases: float64[samples], radians at the first line.
        steps: float64[samples], from the first line to the second.
        bends: float64[samples], by how much the step grows from line to line.
    """
    count = image.shape[1]
    real, imag = np.cos(phases), np.sin(phases)
    step_real, step_imag = np.cos(steps), np.sin(steps)
    bend_real, bend_imag = np.cos(bends), np.sin(bends)
    for i in range(image.shape[0]):
        row = image[i]
        for j in range(count):
            re, im, s_re, s_im = real[j], imag[j], step_real[j], step_imag[j]
            a, b = row[j].real, row[j].imag
            row[j] = complex(np.float32(a * re - b * im), np.float32(a * im + b * re))
            real[j], imag[j] = re * s_re - im * s_im, re * s_im + im * s_re
            step_real[j] = s_re * bend_real[j] - s_im * bend_imag[j]
            step_imag[j] = s_re * bend_imag[j] + s_im * bend_real[j]


@_compiled
def turns(  # type: ignore[no-untyped-def]
    lines, samples, phases, sample0, rates, centres_s, dopplers, half_s, interval_s, valid,
    partner_valid, out,
):  # fmt: skip
    """What resampled values of the partner are multiplied with: re-ramp and paths' difference.

    Args:
        lines: see rasterise; so are the next three.
        samples: see there.
        phases: see there.
        sample0: first sample of the block.
        rates: float64[partner's samples], Hz/s; see card.make.coherence.Ramp.
        centres_s: float64[partner's samples].
        dopplers: float64[partner's samples], Hz.
        half_s: time from the partner's first line to its middle.
        interval_s: time from line to line of the partner.
        valid: int64[4], first and last line, first and last sample of the burst that count.
        partner_valid: the same of the partner.
        out: complex64[lines, samples]; NaN where either has no sample.
    """
    top, bottom = partner_valid[0] + REACH - 1, partner_valid[1] - REACH + 1
    left, right = partner_valid[2] + REACH - 1, partner_valid[3] - REACH + 1
    nothing = complex(np.float32(np.nan), np.float32(np.nan))
    for i in range(lines.shape[0]):
        for j in range(lines.shape[1]):
            line, sample = i + float(lines[i, j]), sample0 + j + float(samples[i, j])
            inside = valid[0] <= i <= valid[1] and valid[2] <= sample0 + j <= valid[3]
            if not (inside and top <= line < bottom and left <= sample < right):
                out[i, j] = nothing
                continue
            k = _at(sample)
            u = sample - k
            n = k + _at(1)
            rate = rates[k] + u * (rates[n] - rates[k])
            doppler = dopplers[k] + u * (dopplers[n] - dopplers[k])
            centre = centres_s[k] + u * (centres_s[n] - centres_s[k])
            t = line * interval_s - half_s - centre
            cycles = t * (0.5 * rate * t + doppler)
            angle = np.float32((cycles - np.floor(cycles)) * 2 * np.pi + phases[i, j])
            out[i, j] = complex(np.cos(angle), np.sin(angle))


@_compiled
def resample_range(image, sample0, samples, shift, table, out):  # type: ignore[no-untyped-def]
    """Resample the partner along range, to the samples of the reference.

    Args:
        image: complex64[partner's lines, any], a part of the partner's burst.
        sample0: sample at which that part begins, counted from the block's first.
        samples: see rasterise.
        shift: whole lines from the burst's lines to the partner's.
        table: float32[PHASES + 1, TAPS], weights.
        out: complex64[partner's lines, samples]; NaN where the part does not reach.
    """
    lines, width = samples.shape
    for k in range(image.shape[0]):
        offsets = samples[min(max(k - shift, 0), lines - 1)]
        row = image[k]
        for j in range(width):
            x = j + float(offsets[j]) - sample0
            if not (REACH - 1 <= x < row.size - REACH):
                out[k, j] = complex(np.float32(np.nan), np.float32(np.nan))
                continue
            n = _at(x)
            weights = table[_at((x - n) * PHASES + 0.5)]
            n -= _at(REACH - 1)
            re, im = np.float32(0), np.float32(0)
            for t in range(TAPS):
                value = row[n + _at(t)]
                re += weights[t] * value.real
                im += weights[t] * value.imag
            out[k, j] = complex(re, im)


@_compiled
def correlate(first, second, lines, turn, table, out):  # type: ignore[no-untyped-def]
    """Coherence in windows of 3 lines and 10 samples, at every line and 4th sample.

    Args:
        first: complex64[lines, samples], the reference.
        second: complex64[partner's lines, samples], the partner resampled along range.
        lines: see rasterise.
        turn: see turns.
        table: see resample_range.
        out: float32[lines, windows], filled; NaN where a window is not whole.
    """
    count, width = first.shape
    windows = out.shape[1]
    row = np.empty((4, width), np.float32)
    sums = np.zeros((WINDOW_LINES, 4, windows), np.float32)
    out[0], out[count - 1] = np.nan, np.nan
    for i in range(count):
        _multiply(i, first[i], second, lines[i], turn[i], table, row)
        newest = sums[i % WINDOW_LINES]
        for q in range(4):
            for k in range(windows):
                total = np.float32(0)
                for j in range(EVERY_SAMPLE * k, EVERY_SAMPLE * k + WINDOW_SAMPLES):
                    total += row[q, j]
                newest[q, k] = total
        if i >= WINDOW_LINES - 1:
            for k in range(windows):
                re, im, one, two = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                for m in range(WINDOW_LINES):
                    re += sums[m, 0, k]
                    im += sums[m, 1, k]
                    one += sums[m, 2, k]
                    two += sums[m, 3, k]
                out[i - 1, k] = np.sqrt((re * re + im * im) / (one * two))


@_compiled
def _multiply(i, first, second, lines, turn, table, row):  # type: ignore[no-untyped-def]
    """Real and imaginary part of first x conj(second) and both powers, along one line.

    The second is resampled along azimuth on the way.
    """
    for j in range(first.size):
        t = turn[j]
        if np.isnan(t.real):
            row[:, j] = np.nan
            continue
        y = i + float(lines[j])
        n = _at(y)
        weights = table[_at((y - n) * PHASES + 0.5)]
        n -= _at(REACH - 1)
        re, im = np.float32(0), np.float32(0)
        for k in range(TAPS):
            value = second[n + _at(k), j]
            re += weights[k] * value.real
            im += weights[k] * value.imag
        b_re, b_im = re * t.real - im * t.imag, re * t.imag + im * t.real
        a = first[j]
        row[0, j] = a.real * b_re + a.imag * b_im
        row[1, j] = a.imag * b_re - a.real * b_im
        row[2, j] = a.real * a.real + a.imag * a.imag
        row[3, j] = b_re * b_re + b_im * b_im


@_compiled
def gather_burst(  # type: ignore[no-untyped-def]
    scaled, nodes, step, row_shift, col_shift, ranges, line0, image, valid, spacings_m, depths, out,
):  # fmt: skip
    """Bring a burst's coherence to the map where it lies farther from its edge than others did.

    Args:
        scaled: float32[rows, columns], normalised heights.
        nodes: lattice of the reference.
        step: cells between nodes.
        row_shift: of the first cell.
        col_shift: of the first cell.
        ranges: float64[4], see rasterise.
        line0: line at which the burst begins.
        image: float32[bands, lines, windows], see correlate.
        valid: int64[4], see turns.
        spacings_m: float64[2], metres on the ground from line to line and sample to sample.
        depths: float32[rows, columns], metres from the edge of what `out` holds; 0 where nothing.
        out: float32[bands, rows, columns].
    """
    rows, columns = scaled.shape
    traced = np.empty((5, columns))
    for r in range(rows):
        trace_row(nodes, LINE, SLANT + 1, step, row_shift, col_shift, r, scaled[r], traced)
        for c in range(columns):
            line = traced[LINE, c] - line0
            sample = (ranges[0] + traced[SLANT, c] * ranges[1] - ranges[2]) / ranges[3]
            depth = min(
                min(line - valid[0], valid[1] - line) * spacings_m[0],
                min(sample - valid[2], valid[3] - sample) * spacings_m[1],
            )
            if not depth > depths[r, c]:
                continue
            x = (sample - CENTRE_SAMPLE) / EVERY_SAMPLE
            i, j = int(np.floor(line)), int(np.floor(x))
            if i < 0 or j < 0 or i >= image.shape[1] - 1 or j >= image.shape[2] - 1:
                continue
            v, u = np.float32(line - i), np.float32(x - j)
            total = np.float32(0)
            for b in range(image.shape[0]):
                total += image[b, i, j] + image[b, i, j + 1]
                total += image[b, i + 1, j] + image[b, i + 1, j + 1]
            if np.isnan(total):
                continue
            depths[r, c] = depth
            for b in range(image.shape[0]):
                upper = image[b, i, j] + u * (image[b, i, j + 1] - image[b, i, j])
                lower = image[b, i + 1, j] + u * (image[b, i + 1, j + 1] - image[b, i + 1, j])
                out[b, r, c] = upper + v * (lower - upper)
