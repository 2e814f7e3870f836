"""Compiled loops over map cells and radar pixels.

A tile's geometry comes as a lattice (see card.make.lattice): at nodes every `step` cells, each
quantity is a quadratic of the normalised height; between nodes it is bilinear. Rows and columns
of a tile are cells; `row_shift` and `col_shift` are where its first cell lies after the first
node.
"""

import numpy as np
from numba import njit

_compiled = njit(nogil=True, cache=True, error_model="numpy")
_inlined = njit(nogil=True, cache=True, error_model="numpy", inline="always")
_at = np.uintp
"""Casts an index that is never negative: numba then leaves out its check for negative ones."""

LINE, SLANT, UP, EAST, NORTH = range(5)
"""Quantities at a node: line (pixels), slant range less its middle (in halves of its interval),
and the triple products that make the area of a cell seen along the look direction."""

LAYOVER, SHADOW, BORDER, NO_HEIGHT = 1, 2, 4, 8
"""Bits of the mask band."""


@_compiled
def trace_row(nodes, first, last, step, row_shift, col_shift, row, heights, out):  # type: ignore[no-untyped-def]
    """Quantities first to last (excluded) of one row of cells.

    Args:
        nodes: float64[node rows, node columns, 5, 3], the coefficients.
        first: first quantity.
        last: the one after the last.
        step: cells between nodes.
        row_shift: see above.
        col_shift: see above.
        row: the row of cells.
        heights: float32[n], the row's heights, normalised as the coefficients want.
        out: float64[5, n], filled.
    """
    at = row + row_shift
    i = at // step
    v = (at - i * step) / step
    n = heights.size
    for j in range(col_shift // step, (n - 1 + col_shift) // step + 1):
        begin = max(0, j * step - col_shift)
        end = min(n, (j + 1) * step - col_shift)
        u0 = (begin + col_shift - j * step) / step
        for q in range(first, last):
            a0 = nodes[i, j, q, 0] + v * (nodes[i + 1, j, q, 0] - nodes[i, j, q, 0])
            a1 = nodes[i, j, q, 1] + v * (nodes[i + 1, j, q, 1] - nodes[i, j, q, 1])
            a2 = nodes[i, j, q, 2] + v * (nodes[i + 1, j, q, 2] - nodes[i, j, q, 2])
            k = j + 1
            b0 = nodes[i, k, q, 0] + v * (nodes[i + 1, k, q, 0] - nodes[i, k, q, 0]) - a0
            b1 = nodes[i, k, q, 1] + v * (nodes[i + 1, k, q, 1] - nodes[i, k, q, 1]) - a1
            b2 = nodes[i, k, q, 2] + v * (nodes[i + 1, k, q, 2] - nodes[i, k, q, 2]) - a2
            for c in range(begin, end):
                u = u0 + (c - begin) / step
                h = heights[c]
                out[q, c] = (a0 + u * b0) + h * ((a1 + u * b1) + h * (a2 + u * b2))


@_compiled
def to_pixels(lines, slants, updates, coefficients, nearest, out):  # type: ignore[no-untyped-def]
    """Pixels of one row from its lines and normalised slant ranges.

    Args:
        lines: float64[n].
        slants: float64[n], as PixelConversions wants them.
        updates: float64[k], lines of the updates.
        coefficients: float64[k, 6].
        nearest: take the nearest update instead of mixing two.
        out: float64[n], filled.
    """
    k = 0
    last = updates.size - 2
    for c in range(lines.size):
        line, x = lines[c], slants[c]
        if last < 0:
            out[c] = _polynomial(coefficients[0], x)
            continue
        while k < last and line >= updates[k + 1]:
            k += 1
        while k > 0 and line < updates[k]:
            k -= 1
        weight = (line - updates[k]) / (updates[k + 1] - updates[k])
        weight = min(max(weight, 0.0), 1.0)
        if nearest:
            weight = np.round(weight)
        a = _polynomial(coefficients[k], x)
        out[c] = a + weight * (_polynomial(coefficients[k + 1], x) - a)


@_compiled
def _polynomial(p, x):  # type: ignore[no-untyped-def]
    return p[0] + x * (p[1] + x * (p[2] + x * (p[3] + x * (p[4] + x * p[5]))))


@_compiled
def scatter_areas(  # type: ignore[no-untyped-def]
    heights, scaled, nodes, step, row_shift, col_shift, updates, coefficients, nearest,
    res_m, turn, line0, pixel0, areas, status, shadow,
):  # fmt: skip
    """Spread the area of each map facet, as seen along the look direction, over radar pixels.

    Small 2011 (IEEE TGRS 49, 3081), equations 6 to 12: a facet between four cell centres is cut
    into parts of less than a pixel, and each part shared by the four pixels around it.

    Args:
        heights: float32[rows, columns], metres; NaN where unknown.
        scaled: float32[rows, columns], the same normalised.
        nodes: see above.
        step: see above.
        row_shift: see above.
        col_shift: see above.
        updates: see to_pixels.
        coefficients: see to_pixels.
        nearest: see to_pixels.
        res_m: size of a cell.
        turn: sign of the Jacobian from the map to the radar image on level ground.
        line0: line of the first row of `areas`.
        pixel0: pixel of its first column.
        areas: float32[lines, pixels], square metres, added to.
        status: uint8[lines, pixels], LAYOVER is set where a facet is folded.
        shadow: uint8[rows, columns], 1 is set where the facet south-east of a cell is turned away.
    """
    rows, columns = heights.shape
    lines, samples = areas.shape
    above = np.empty((5, columns))
    below = np.empty((5, columns))
    pixels_above = np.empty(columns)
    pixels_below = np.empty(columns)
    trace_row(nodes, LINE, NORTH + 1, step, row_shift, col_shift, 0, scaled[0], below)
    to_pixels(below[LINE], below[SLANT], updates, coefficients, nearest, pixels_below)
    for r in range(rows - 1):
        above, below = below, above
        pixels_above, pixels_below = pixels_below, pixels_above
        trace_row(nodes, LINE, NORTH + 1, step, row_shift, col_shift, r + 1, scaled[r + 1], below)
        to_pixels(below[LINE], below[SLANT], updates, coefficients, nearest, pixels_below)
        for c in range(columns - 1):
            h00, h01 = heights[r, c], heights[r, c + 1]
            h10, h11 = heights[r + 1, c], heights[r + 1, c + 1]
            east = (h01 - h00 + h11 - h10) / (2 * res_m)
            north = (h00 - h10 + h01 - h11) / (2 * res_m)
            area = above[UP, c] + east * above[EAST, c] + north * above[NORTH, c]
            if not area > 0:
                if area <= 0:
                    shadow[r, c] = 1
                continue
            l00, p00 = above[LINE, c] - line0, pixels_above[c] - pixel0
            lc, pc = above[LINE, c + 1] - line0 - l00, pixels_above[c + 1] - pixel0 - p00
            lr, pr = below[LINE, c] - line0 - l00, pixels_below[c] - pixel0 - p00
            ld = below[LINE, c + 1] - line0 - l00 - lc - lr
            pd = pixels_below[c + 1] - pixel0 - p00 - pc - pr
            folded = ((pc + pd / 2) * (lr + ld / 2) - (pr + pd / 2) * (lc + ld / 2)) * turn < 0
            wide = max(abs(lc), abs(pc), abs(lc + ld), abs(pc + pd))
            tall = max(abs(lr), abs(pr), abs(lr + ld), abs(pr + pd))
            reach = wide + tall + 1
            if l00 < -reach or p00 < -reach or l00 > lines + reach or p00 > samples + reach:
                continue
            inside = l00 > reach and p00 > reach and l00 < lines - reach and p00 < samples - reach
            cuts_c, cuts_r = int(1.5 * wide) + 1, int(1.5 * tall) + 1
            part = np.float32(area * res_m * res_m / (cuts_c * cuts_r))
            step_c, step_r = 1 / cuts_c, 1 / cuts_r
            for kr in range(cuts_r):
                v = (kr + 0.5) * step_r
                line0_r, line_c = l00 + v * lr, lc + v * ld
                pixel0_r, pixel_c = p00 + v * pr, pc + v * pd
                for kc in range(cuts_c):
                    u = (kc + 0.5) * step_c
                    line, pixel = line0_r + u * line_c, pixel0_r + u * pixel_c
                    if inside or (0 <= line < lines - 1 and 0 <= pixel < samples - 1):
                        _share(line, pixel, part, folded, areas, status)


@_inlined
def _share(line, pixel, part, folded, areas, status):  # type: ignore[no-untyped-def]
    i, j = _at(line), _at(pixel)
    v, u = np.float32(line - i), np.float32(pixel - j)
    lower = part * v
    upper = part - lower
    right_upper, right_lower = upper * u, lower * u
    areas[i, j] += upper - right_upper
    areas[i, j + _at(1)] += right_upper
    areas[i + _at(1), j] += lower - right_lower
    areas[i + _at(1), j + _at(1)] += right_lower
    if folded:
        status[_at(line + 0.5), _at(pixel + 0.5)] |= LAYOVER


@_compiled
def smooth(areas):  # type: ignore[no-untyped-def]
    """Smooth areas float32[lines, pixels] in place by [1 2 1]/4 along both axes; edges stay."""
    lines, pixels = areas.shape
    for i in range(lines):
        left = areas[i, 0]
        for j in range(1, pixels - 1):
            here = areas[i, j]
            areas[i, j] = 0.25 * (left + areas[i, j + 1]) + 0.5 * here
            left = here
    before = areas[0].copy()
    here_row = np.empty(pixels, areas.dtype)
    for i in range(1, lines - 1):
        here_row[:] = areas[i]
        for j in range(pixels):
            areas[i, j] = 0.25 * (before[j] + areas[i + 1, j]) + 0.5 * here_row[j]
        before, here_row = here_row, before


@_compiled
def to_ratios(areas, reference_m2, least, status):  # type: ignore[no-untyped-def]
    """Turn areas float32[lines, pixels] into what beta0 is to be multiplied with, in place.

    Args:
        areas: square metres seen along the look direction.
        reference_m2: float64[pixels], the area that beta0 refers to.
        least: share of it below which a pixel has no data.
        status: uint8[lines, pixels], SHADOW is set there.
    """
    for i in range(areas.shape[0]):
        for j in range(areas.shape[1]):
            if areas[i, j] < least * reference_m2[j]:
                areas[i, j] = np.nan
                status[i, j] |= SHADOW
            else:
                areas[i, j] = reference_m2[j] / areas[i, j]


@_compiled
def calibrate(  # type: ignore[no-untyped-def]
    dn, table, table_index, table_weight, noise, noise_index, noise_weight, noise_factors,
    ratios, status, clip, out,
):  # fmt: skip
    """Squared pixel values less the noise, over the squared table, times the ratios.

    A pixel of value 0 is data where it stands alone among others, as speckle does; where more than
    3 of the 9 about it are 0 there is no data (from IPF 2.90 the border is filled with 0).

    Args:
        dn: uint16[lines, pixels].
        table: see LookupTable.window; so are the next two and the noise's three.
        table_index: int64[lines].
        table_weight: float32[lines].
        noise: float32[k, pixels].
        noise_index: int64[lines].
        noise_weight: float32[lines].
        noise_factors: float32[lines, pixels].
        ratios: float32[lines, pixels].
        status: uint8[lines, pixels]; where BORDER is set there is no data, and it is set where
            there is none.
        clip: negative values become 0.
        out: float32[lines, pixels], filled; NaN is no data.
    """
    lines, pixels = dn.shape
    for i in range(lines):
        t0, t1 = table[table_index[i]], table[table_index[i] + 1]
        n0, n1 = noise[noise_index[i]], noise[noise_index[i] + 1]
        tw, nw = table_weight[i], noise_weight[i]
        for j in range(pixels):
            if dn[i, j] == 0 and _zeros_about(dn, i, j) > 3:
                status[i, j] |= BORDER
            if status[i, j] & BORDER:
                out[i, j] = np.nan
                continue
            divisor = t0[j] + tw * (t1[j] - t0[j])
            floor = (n0[j] + nw * (n1[j] - n0[j])) * noise_factors[i, j]
            value = np.float32(dn[i, j])
            value = (value * value - floor) / (divisor * divisor) * ratios[i, j]
            out[i, j] = max(value, np.float32(0)) if clip else value


@_compiled
def _zeros_about(dn, i, j):  # type: ignore[no-untyped-def]
    count = 0
    for a in range(max(i - 1, 0), min(i + 2, dn.shape[0])):
        for b in range(max(j - 1, 0), min(j + 2, dn.shape[1])):
            count += dn[a, b] == 0
    return count


@_compiled
def gather(  # type: ignore[no-untyped-def]
    heights, scaled, nodes, step, row_shift, col_shift, updates, coefficients, nearest,
    res_m, line0, pixel0, images, status, out, flags, angles,
):  # fmt: skip
    """Bring radar images to the map, bilinearly at each cell's centre.

    Args:
        heights: float32[rows + 2, columns + 2], the tile's with the cells around it.
        scaled: the same normalised.
        nodes: see above; so are the next eight.
        step: see above.
        row_shift: of the first row of `heights`.
        col_shift: of its first column.
        updates: see to_pixels.
        coefficients: see to_pixels.
        nearest: see to_pixels.
        res_m: size of a cell.
        line0: line of the images' first row.
        pixel0: pixel of their first column.
        images: float32[bands, lines, pixels].
        status: uint8[lines, pixels], bits of the mask.
        out: float32[bands, rows, columns], filled.
        flags: uint8[rows, columns], bits are set.
        angles: uint8[rows, columns], filled with the local incidence angle in degrees; 255 where
            the height is unknown.
    """
    bands, rows, columns = out.shape
    traced = np.empty((5, columns + 2))
    pixels = np.empty(columns + 2)
    for r in range(rows):
        trace_row(nodes, LINE, NORTH + 1, step, row_shift, col_shift, r + 1, scaled[r + 1], traced)
        to_pixels(traced[LINE], traced[SLANT], updates, coefficients, nearest, pixels)
        for c in range(columns):
            out[:, r, c] = np.nan
            angles[r, c] = 255
            line, pixel = traced[LINE, c + 1] - line0, pixels[c + 1] - pixel0
            if np.isnan(line) or np.isnan(pixel):
                flags[r, c] |= NO_HEIGHT
                continue
            angles[r, c] = _incidence_deg(heights, traced, r + 1, c + 1, res_m)
            i, j = int(np.floor(line)), int(np.floor(pixel))
            if i < 0 or j < 0 or i >= images.shape[1] - 1 or j >= images.shape[2] - 1:
                flags[r, c] |= BORDER
                continue
            flags[r, c] |= status[i, j] | status[i, j + 1] | status[i + 1, j] | status[i + 1, j + 1]
            v, u = line - i, pixel - j
            for b in range(bands):
                upper = images[b, i, j] + u * (images[b, i, j + 1] - images[b, i, j])
                lower = images[b, i + 1, j] + u * (images[b, i + 1, j + 1] - images[b, i + 1, j])
                out[b, r, c] = upper + v * (lower - upper)


@_inlined
def _incidence_deg(heights, traced, r, c, res_m):  # type: ignore[no-untyped-def]
    """Local incidence angle in whole degrees; 255 where a height beside is missing."""
    east = (heights[r, c + 1] - heights[r, c - 1]) / (2 * res_m)
    north = (heights[r - 1, c] - heights[r + 1, c]) / (2 * res_m)
    seen = traced[UP, c] + east * traced[EAST, c] + north * traced[NORTH, c]
    cosine = seen / np.sqrt(1 + east * east + north * north)
    if np.isnan(cosine):
        return 255
    return int(np.degrees(np.arccos(min(max(cosine, 0.0), 1.0))) + 0.5)


@_compiled
def cast_shadows(heights, away_row, away_col, drop_m, shadow):  # type: ignore[no-untyped-def]
    """Add the ground behind what is turned away: rays graze the crest and go on to the ground.

    Args:
        heights: float32[rows, columns], metres.
        away_row: rows per step away from the radar; the longer of the two is 1 or -1.
        away_col: columns per step.
        drop_m: by how much a ray falls in a step.
        shadow: uint8[rows, columns], 1 where ground is turned away; 1 is added behind it.
    """
    rows, columns = heights.shape
    own = shadow.copy()
    for r in range(rows):
        for c in range(columns):
            if own[r, c]:
                ray = heights[r, c]
                for k in range(1, rows + columns):
                    i, j = int(np.round(r + k * away_row)), int(np.round(c + k * away_col))
                    ray -= drop_m
                    if i < 0 or j < 0 or i >= rows or j >= columns or not heights[i, j] < ray:
                        break
                    shadow[i, j] = 1


@_compiled
def resample_heights(source, cols, rows, offsets, step, row_shift, col_shift, out):  # type: ignore[no-untyped-def]
    """Heights at cell centres by cubic convolution (Keys 1981, a = -1/2) of a terrain model.

    Beside missing heights the nearest one within a pixel is taken.

    Args:
        source: float32[n, m], metres; NaN where missing.
        cols: float64[node rows, node columns], where nodes lie in `source`; pixel centres are
            whole numbers.
        rows: the same.
        offsets: float64[same], metres to be added.
        step: see above; so are the next two.
        row_shift: see above.
        col_shift: see above.
        out: float32[rows, columns], filled; NaN where missing.
    """
    height, width = out.shape
    wx = np.empty(4)
    wy = np.empty(4)
    for r in range(height):
        at = r + row_shift
        i = at // step
        v = (at - i * step) / step
        for c in range(width):
            at = c + col_shift
            j = at // step
            u = (at - j * step) / step
            x = _bilinear(cols, i, j, u, v)
            y = _bilinear(rows, i, j, u, v)
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            _keys(x - x0, wx)
            _keys(y - y0, wy)
            total = 0.0
            if x0 < 1 or y0 < 1 or x0 >= source.shape[1] - 2 or y0 >= source.shape[0] - 2:
                total = np.nan
            else:
                for a in range(4):
                    line = source[y0 - 1 + a]
                    total += wy[a] * (
                        wx[0] * line[x0 - 1] + wx[1] * line[x0]
                        + wx[2] * line[x0 + 1] + wx[3] * line[x0 + 2]
                    )  # fmt: skip
            if np.isnan(total):
                a, b = int(np.round(y)), int(np.round(x))
                inside = 0 <= a < source.shape[0] and 0 <= b < source.shape[1]
                total = source[a, b] if inside else np.nan
            out[r, c] = total + _bilinear(offsets, i, j, u, v)


@_inlined
def _bilinear(values, i, j, u, v):  # type: ignore[no-untyped-def]
    upper = values[i, j] + u * (values[i, j + 1] - values[i, j])
    lower = values[i + 1, j] + u * (values[i + 1, j + 1] - values[i + 1, j])
    return upper + v * (lower - upper)


@_inlined
def _keys(x, weights):  # type: ignore[no-untyped-def]
    weights[0] = ((-0.5 * x + 1.0) * x - 0.5) * x
    weights[1] = (1.5 * x - 2.5) * x * x + 1.0
    weights[2] = ((-1.5 * x + 2.0) * x + 0.5) * x
    weights[3] = (0.5 * x - 0.5) * x * x
