"""The compiled loops against plain numpy that does the same another way."""

import numpy as np
import pytest

from card.make import kernels
from card.make.backscatter import round_mantissa

STEP = 8
UPDATES = np.array([-50.0, 3.0, 90.0])
# A pixel is 10 of the interval's halves away from the next: pixel = 40 + 10 x, then 1 and 3 more.
CONVERSIONS = np.array([[40.0, 10, 0, 0, 0, 0], [41.0, 10, 0, 0, 0, 0], [43.0, 10, 0, 0, 0, 0]])


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def scene(rows=20, columns=23, relief=0.3):
    """Heights, and nodes on which line and slant range are linear in row, column and height."""
    r, c = np.mgrid[0:rows, 0:columns].astype(float)
    heights = (relief * np.sin(r / 3) + relief * np.cos(c / 2)).astype(np.float32)
    node_rows, node_columns = (rows + 3) // STEP + 2, (columns + 5) // STEP + 2
    i, j = np.mgrid[0:node_rows, 0:node_columns] * float(STEP)
    nodes = np.zeros((node_rows, node_columns, 5, 3))
    nodes[..., kernels.LINE, 0] = 6.013 + 0.95 * i - 0.2 * j
    nodes[..., kernels.SLANT, 0] = -3.4 + 0.09 * j + 0.02 * i
    nodes[..., kernels.SLANT, 1] = -0.1
    nodes[..., kernels.UP, 0], nodes[..., kernels.EAST, 0] = 0.8, 0.6
    return heights, nodes


def radar(heights, nodes, shift):
    """(lines, pixels) of all cells, in numpy."""
    rows, columns = heights.shape
    r, c = np.mgrid[0:rows, 0:columns].astype(float)
    line = 6.013 + 0.95 * (r + shift[0]) - 0.2 * (c + shift[1])
    slant = -3.4 + 0.09 * (c + shift[1]) + 0.02 * (r + shift[0]) - 0.1 * heights
    pixel = 40 + 10 * slant + np.interp(line, UPDATES, [0, 1, 3])
    assert nodes[0, 0, kernels.LINE, 0] == 6.013
    return line, pixel


def test_rows_are_traced_as_the_lattice_says():
    heights, nodes = scene()
    line, pixel = radar(heights, nodes, (3, 5))
    traced, pixels = np.empty((5, heights.shape[1])), np.empty(heights.shape[1])
    for row in range(heights.shape[0]):
        kernels.trace_row(nodes, 0, 5, STEP, 3, 5, row, heights[row], traced)
        kernels.to_pixels(traced[0], traced[1], UPDATES, CONVERSIONS, False, pixels)
        assert traced[0] == pytest.approx(line[row])
        assert pixels == pytest.approx(pixel[row])


@pytest.mark.parametrize(
    ("line", "added"), [(-99, 0), (-24, 0), (-23, 1), (46, 1), (47, 3), (200, 3)]
)
def test_the_nearest_update_counts_where_none_are_mixed(line, added):
    pixels = np.empty(1)
    kernels.to_pixels(np.array([float(line)]), np.zeros(1), UPDATES, CONVERSIONS, True, pixels)
    assert pixels[0] == 40 + added


def scattered(heights, nodes, shape=(40, 60)):
    areas, status = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    shadow = np.zeros(heights.shape, np.uint8)
    kernels.scatter_areas(
        heights, heights, nodes, STEP, 3, 5, UPDATES, CONVERSIONS, False, 1.0, 1.0, 0, 0,
        areas, status, shadow,
    )  # fmt: skip
    return areas, status, shadow


def test_areas_are_those_of_facets_cut_finely():
    heights, nodes = scene()
    areas, status, shadow = scattered(heights, nodes)
    line, pixel = radar(heights, nodes, (3, 5))
    expected = np.zeros(areas.shape)
    parts = (np.arange(40) + 0.5) / 40
    v, u = np.meshgrid(parts, parts, indexing="ij")
    mix = [(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u]
    for r in range(heights.shape[0] - 1):
        for c in range(heights.shape[1] - 1):
            corners = [(r, c), (r, c + 1), (r + 1, c), (r + 1, c + 1)]
            h = [heights[at] for at in corners]
            area = 0.8 + 0.6 * (h[1] - h[0] + h[3] - h[2]) / 2
            y = sum(w * line[at] for w, at in zip(mix, corners, strict=True)).ravel()
            x = sum(w * pixel[at] for w, at in zip(mix, corners, strict=True)).ravel()
            i, j = np.floor(y).astype(int), np.floor(x).astype(int)
            for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = np.abs(1 - di - (y - i)) * np.abs(1 - dj - (x - j))
                np.add.at(expected, (i + di, j + dj), weight * area / y.size)
    assert not shadow.any()
    assert not status.any()
    assert areas.sum() == pytest.approx(expected.sum(), rel=1e-5)
    assert areas == pytest.approx(expected, abs=0.12)  # parts are up to 2/3 pixel apart
    assert np.abs(areas - expected).mean() < 0.02


def test_ground_that_leans_over_is_layover_and_what_turns_away_is_shadow():
    heights, nodes = scene(relief=0.0)
    heights[:, 10:14] += np.array([1.5, 3.0, 1.0, 0.0], np.float32)
    areas, status, shadow = scattered(heights, nodes)
    line, pixel = radar(heights, nodes, (3, 5))
    low, high = pixel[:, 9:12].min(axis=1), pixel[:, 9:12].max(axis=1)  # where it goes back
    for at in range(10, 22):
        marked = np.flatnonzero(status[at])
        assert marked.size
        assert marked.min() >= np.interp(at, line[:, 10], low) - 1
        assert marked.max() <= np.interp(at, line[:, 10], high) + 1
    assert set(np.flatnonzero(shadow.any(axis=0))) == {11}  # the facet that falls by 2 in 1
    assert (areas >= 0).all()


def test_unknown_heights_give_no_area():
    heights, nodes = scene()
    areas, *_ = scattered(np.full_like(heights, np.nan), nodes)
    assert not areas.any()


def test_smoothing_is_121_along_both_axes(rng):
    areas = rng.random((12, 15)).astype(np.float32)
    expected = areas.astype(float)
    expected[:, 1:-1] = 0.25 * (areas[:, :-2] + areas[:, 2:]) + 0.5 * areas[:, 1:-1]
    middle = expected.copy()
    expected[1:-1] = 0.25 * (middle[:-2] + middle[2:]) + 0.5 * middle[1:-1]
    kernels.smooth(areas)
    assert areas == pytest.approx(expected, rel=1e-6)


def calibrated(dn, clip=False, ratios=1.0):
    shape = dn.shape
    out, status = np.empty(shape, np.float32), np.zeros(shape, np.uint8)
    index, weight = np.zeros(shape[0], np.int64), np.linspace(0, 1, shape[0], dtype=np.float32)
    table = np.stack([np.full(shape[1], 10.0), np.full(shape[1], 20.0)]).astype(np.float32)
    noise = np.stack([np.zeros(shape[1]), np.full(shape[1], 100.0)]).astype(np.float32)
    factors = np.full(shape, 2.0, np.float32)
    kernels.calibrate(
        dn, table, index, weight, noise, index, weight, factors,
        np.full(shape, ratios, np.float32), status, clip, out,
    )  # fmt: skip
    return out, status


def test_noise_is_taken_off_and_negative_values_stay(rng):
    dn = rng.integers(1, 60, (9, 11)).astype(np.uint16)
    share = np.linspace(0, 1, 9)[:, None]
    expected = (dn.astype(float) ** 2 - 200 * share) / (10 + 10 * share) ** 2 * 0.5
    out, _ = calibrated(dn, ratios=0.5)
    assert (expected < 0).any()
    assert out == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert calibrated(dn, clip=True)[0].min() == 0


def test_zeros_alone_are_data_and_zeros_together_are_border():
    dn = np.full((9, 12), 20, np.uint16)
    dn[:, :3] = 0
    dn[5, 8] = 0
    out, status = calibrated(dn)
    assert np.isnan(out[:, :3]).all()
    assert (status[:, :3] == kernels.BORDER).all()
    assert not np.isnan(out[:, 3:]).any()
    assert out[5, 8] < 0


def test_values_are_read_bilinearly_at_cell_centres(rng):
    heights, nodes = scene()
    images = rng.random((2, 40, 60)).astype(np.float32)
    images[1, 20, 30] = np.nan
    rows, columns = heights.shape[0] - 2, heights.shape[1] - 2
    out, flags = np.empty((2, rows, columns), np.float32), np.zeros((rows, columns), np.uint8)
    angles = np.empty((rows, columns), np.uint8)
    kernels.gather(
        heights, heights, nodes, STEP, 3, 5, UPDATES, CONVERSIONS, False, 1.0, 0, 0,
        images, np.zeros((40, 60), np.uint8), out, flags, angles,
    )  # fmt: skip
    line, pixel = (part[1:-1, 1:-1] for part in radar(heights, nodes, (3, 5)))
    i, j = np.floor(line).astype(int), np.floor(pixel).astype(int)
    v, u = line - i, pixel - j
    for band in range(2):
        upper = images[band][i, j] * (1 - u) + images[band][i, j + 1] * u
        lower = images[band][i + 1, j] * (1 - u) + images[band][i + 1, j + 1] * u
        assert out[band] == pytest.approx(upper * (1 - v) + lower * v, abs=1e-5, nan_ok=True)
    assert np.isnan(out[1]).any()
    assert not flags.any()
    east = (heights[1:-1, 2:] - heights[1:-1, :-2]) / 2
    north = (heights[:-2, 1:-1] - heights[2:, 1:-1]) / 2
    cosine = (0.8 + 0.6 * east) / np.sqrt(1 + east**2 + north**2)
    assert angles == pytest.approx(np.degrees(np.arccos(cosine)), abs=0.51)


def test_what_lies_beside_the_image_or_has_no_height_is_flagged():
    heights, nodes = scene()
    heights[4, 7] = np.nan
    rows, columns = heights.shape[0] - 2, heights.shape[1] - 2
    out, flags = np.zeros((1, rows, columns), np.float32), np.zeros((rows, columns), np.uint8)
    kernels.gather(
        heights, heights, nodes, STEP, 3, 5, UPDATES, CONVERSIONS, False, 1.0, 10, 0,
        np.ones((1, 8, 60), np.float32), np.zeros((8, 60), np.uint8), out, flags,
        np.empty((rows, columns), np.uint8),
    )  # fmt: skip
    line = radar(heights, nodes, (3, 5))[0][1:-1, 1:-1]
    inside = (line >= 10) & (line < 17)
    assert flags[3, 6] == kernels.NO_HEIGHT
    inside[3, 6] = False
    assert (np.isnan(out[0]) == ~inside).all()
    assert ((flags == kernels.BORDER) == ~inside)[flags != kernels.NO_HEIGHT].all()


def test_a_shadow_ends_where_the_ground_meets_the_ray():
    heights = np.zeros((3, 30), np.float32)
    heights[:, 10] = 20.0
    shadow = np.zeros((3, 30), np.uint8)
    shadow[:, 10] = 1
    kernels.cast_shadows(heights, 0.0, 1.0, 2.5, shadow)  # falls 2.5 in a cell: 8 cells long
    assert np.flatnonzero(shadow[1]).tolist() == list(range(10, 18))


def test_heights_follow_a_parabola_that_cubic_convolution_keeps():
    y, x = np.mgrid[0:40, 0:50].astype(float)
    source = (3 + 0.5 * x + 0.02 * x * y - 0.01 * y).astype(np.float32)
    nodes = np.mgrid[0:3, 0:3].astype(float)
    cols, rows = 5 + 11.3 * nodes[1] + 1.7 * nodes[0], 6 + 9.1 * nodes[0]
    out = np.empty((12, 13), np.float32)
    kernels.resample_heights(source, cols, rows, np.full((3, 3), 48.0), STEP, 2, 1, out)
    r, c = np.mgrid[0:12, 0:13]
    at_r, at_c = (r + 2) / STEP, (c + 1) / STEP
    x, y = 5 + 11.3 * at_c + 1.7 * at_r, 6 + 9.1 * at_r
    assert out == pytest.approx(51 + 0.5 * x + 0.02 * x * y - 0.01 * y, rel=1e-5)


def test_beside_a_hole_the_nearest_height_is_taken_and_the_hole_stays():
    source = np.full((20, 20), 100.0, np.float32)
    source[10, 10] = np.nan
    cols, rows = np.meshgrid([2.0, 18.0], [2.0, 18.0])
    out = np.empty((16, 16), np.float32)
    kernels.resample_heights(source, cols, rows, np.zeros((2, 2)), 16, 0, 0, out)
    assert np.isnan(out[8, 8])
    assert np.isnan(out).sum() == 1
    assert (out[~np.isnan(out)] == 100).all()


def test_rounding_keeps_11_bits_signs_and_what_is_no_number(rng):
    values = (rng.normal(size=4000) * 10.0 ** rng.integers(-5, 3, 4000)).astype(np.float32)
    rounded = round_mantissa(values.reshape(40, 100)).ravel()
    assert np.abs(rounded / values - 1).max() <= 2.0**-12
    assert not (rounded.view(np.uint32) & 0xFFF).any()
    assert np.isnan(round_mantissa(np.array([np.nan, 0.0], np.float32))).tolist() == [True, False]
