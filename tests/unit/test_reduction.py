"""Numbers: by hand on small rasters, and against a slow, obviously right twin on random ones."""

from dataclasses import dataclass

import numpy as np
import pytest
import shapely

from extraction import reduction, spans
from store.grid import Grid

GRID = Grid(32632, 10.0, 0.0, 0.0, 60, 80)


@dataclass(frozen=True)
class ArrayBand:
    """A band in memory that refuses windows beyond one block and counts what is read."""

    pixels: np.ndarray
    grid: Grid = GRID
    block_shape_px: tuple[int, int] = (16, 32)

    @property
    def dtype(self):
        return self.pixels.dtype

    def read(self, row0, row1, col0, col1):
        height, width = self.block_shape_px
        assert row0 // height == (row1 - 1) // height
        assert col0 // width == (col1 - 1) // width
        assert 0 <= row0 < row1 <= self.grid.height_px
        assert 0 <= col0 < col1 <= self.grid.width_px
        return np.ascontiguousarray(self.pixels[row0:row1, col0:col1])


def planned(*geometries, band):
    pids = np.arange(len(geometries), dtype=np.int32)
    index = spans.build([(pids, [g.wkb for g in geometries])], GRID.lattice)
    return index, spans.plan_reads(index, band.grid, band.block_shape_px)


def reduced(*geometries, pixels, nodata=None, threads=1):
    band = ArrayBand(pixels)
    _, plan = planned(*geometries, band=band)
    values = reduction.read_values(band, plan)
    return reduction.reduce_values(values, plan.starts, nodata, threads)


def by_numpy(values):
    """The twin: eight statistics of a list of valid values."""
    values = values.astype(np.float64)
    if not values.size:
        return [0, *[np.nan] * 7]
    quantiles = np.percentile(values, [25, 50, 75])
    return [values.size, values.mean(), values.std(), values.min(), *quantiles, values.max()]


def test_four_pixels_by_hand():
    pixels = np.zeros((60, 80), np.uint16)
    pixels[0:2, 0:2] = [[10, 20], [30, 60]]
    table = reduced(shapely.box(0, -20, 20, 0), pixels=pixels)
    np.testing.assert_allclose(table[0], [4, 30, np.sqrt(350), 10, 17.5, 25, 37.5, 60], rtol=1e-15)


@pytest.mark.parametrize(("dtype", "low"), [(np.uint16, 65534), (np.int16, -32768)])
def test_std_of_integers_far_from_zero_loses_no_digit(dtype, low):
    pixels = np.full((60, 80), low, dtype)
    pixels[::2] += 1
    table = reduced(shapely.box(0, -600, 800, 0), pixels=pixels)
    assert table[0, :3].tolist() == [4800, low + 0.5, 0.5]


@pytest.mark.parametrize(("low", "high"), [(0, 1e-310), (-1.7e308, 1.7e308)])
def test_quantiles_of_float64_too_close_or_too_far_apart_for_bins(low, high):
    pixels = np.full((60, 80), high)
    pixels[:4] = low
    table = reduced(shapely.box(0, -100, 100, 0), pixels=pixels)
    assert table[0, 3:].tolist() == [low, low, high, high, high]


def test_nodata_counts_for_nothing_and_a_parcel_of_it_has_count_0():
    pixels = np.zeros((60, 80), np.uint16)
    pixels[0, 0] = 7
    table = reduced(
        shapely.box(0, -20, 20, 0), shapely.box(100, -120, 120, -100), pixels=pixels, nodata=0
    )
    np.testing.assert_array_equal(table[0], [1, 7, 0, 7, 7, 7, 7, 7])
    assert table[1, 0] == 0
    assert np.isnan(table[1, 1:]).all()


def test_nan_and_infinity_count_for_nothing():
    pixels = np.full((60, 80), np.nan, np.float32)
    pixels[0, 0:3] = [0.5, np.inf, -99]
    table = reduced(shapely.box(0, -20, 30, 0), pixels=pixels, nodata=-99)
    np.testing.assert_array_equal(table[0, [0, 1, 3, 7]], [1, 0.5, 0.5, 0.5])


def test_a_nodata_value_that_the_type_cannot_hold_removes_nothing():
    pixels = np.full((60, 80), 5, np.uint16)
    assert reduced(shapely.box(0, -20, 20, 0), pixels=pixels, nodata=-9999)[0, 0] == 4
    assert reduced(shapely.box(0, -20, 20, 0), pixels=pixels, nodata=np.nan)[0, 0] == 4


def test_a_float32_nodata_tag_is_compared_as_float32():
    pixels = np.full((60, 80), np.float32(-3.4e38))
    pixels[0, 0] = 1
    assert reduced(shapely.box(0, -20, 20, 0), pixels=pixels, nodata=-3.4e38)[0, 0] == 1


def test_overlapping_parcels_both_see_the_shared_pixels():
    pixels = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    table = reduced(shapely.box(0, -50, 50, 0), shapely.box(30, -50, 80, 0), pixels=pixels)
    assert table[0, 7] == 4 * 80 + 4
    assert table[1, 3] == 3


def test_parcels_across_blocks_and_off_the_raster_use_what_is_there():
    pixels = np.arange(4800, dtype=np.uint16).reshape(60, 80)
    across = shapely.box(100, -400, 600, -100)
    off = shapely.box(700, -700, 900, -500)
    table = reduced(across, off, pixels=pixels)
    np.testing.assert_allclose(table[0], by_numpy(pixels[10:40, 10:60].ravel()), rtol=1e-13)
    np.testing.assert_allclose(table[1], by_numpy(pixels[50:60, 70:80].ravel()), rtol=1e-13)


def test_a_raster_without_any_parcel_reads_nothing():
    band = ArrayBand(np.zeros((60, 80), np.uint16))
    _, plan = planned(shapely.box(5000, -5100, 5100, -5000), band=band)
    assert plan.members.size == 0
    assert reduction.read_values(band, plan).size == 0


def random_parcels(rng, n):
    centres = rng.uniform([0, -600], [800, 0], (n, 2))
    shapes = []
    for x, y in centres:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        radius = rng.uniform(3, 90, angles.size)
        ring = np.c_[x + radius * np.cos(angles), y + radius * np.sin(angles)]
        shapes.append(shapely.make_valid(shapely.Polygon(ring)))
    return [s for s in shapes if "Polygon" in s.geom_type]


RASTERS = {
    "uint16 smooth": lambda rng: rng.integers(3000, 3200, (60, 80)).astype(np.uint16),
    "uint16 wide": lambda rng: rng.integers(0, 65536, (60, 80)).astype(np.uint16),
    "uint16 with holes": lambda rng: (
        rng.integers(1, 9000, (60, 80)) * (rng.random((60, 80)) < 0.7)
    ).astype(np.uint16),
    "uint16 outliers": lambda rng: np.where(rng.random((60, 80)) < 0.01, 65535, 100).astype(
        np.uint16
    ),
    "int16": lambda rng: rng.integers(-2000, 2000, (60, 80)).astype(np.int16),
    "uint8": lambda rng: rng.integers(0, 255, (60, 80)).astype(np.uint8),
    "int32": lambda rng: rng.integers(-(2**31), 2**31, (60, 80)).astype(np.int32),
    "float32": lambda rng: rng.lognormal(-3, 1, (60, 80)).astype(np.float32),
    "float32 with nan": lambda rng: np.where(
        rng.random((60, 80)) < 0.2, np.nan, rng.normal(-12, 3, (60, 80))
    ).astype(np.float32),
    "float64 constant": lambda _: np.full((60, 80), 0.1),
}


@pytest.mark.parametrize("name", RASTERS)
@pytest.mark.parametrize("threads", [1, 3])
def test_random_rasters_and_polygons_agree_with_the_slow_twin(name, threads):
    rng = np.random.default_rng(len(name) + threads)
    pixels = RASTERS[name](rng)
    parcels = random_parcels(rng, 150)
    band = ArrayBand(pixels)
    index, plan = planned(*parcels, band=band)
    values = reduction.read_values(band, plan)
    table = reduction.reduce_values(values, plan.starts, 0, threads)
    assert plan.members.size > 100
    for i, member in enumerate(plan.members):
        own = np.concatenate(
            [
                pixels[index.row[s], max(index.first[s], 0) : max(min(index.last[s], 80), 0)]
                for s in range(index.offsets[member], index.offsets[member + 1])
                if 0 <= index.row[s] < 60
            ]
        )
        valid = own[np.isfinite(own) & (own != 0)]
        np.testing.assert_allclose(table[i], by_numpy(valid), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(table[i, [0, 3, 7]], np.array(by_numpy(valid))[[0, 3, 7]])


def test_scene_classes_are_counted_and_other_values_ignored():
    pixels = np.full((60, 80), 4, np.uint8)
    pixels[0, 0:4] = [0, 9, 9, 12]
    band = ArrayBand(pixels)
    _, plan = planned(shapely.box(0, -20, 50, 0), band=band)
    counts = reduction.count_classes(reduction.read_values(band, plan), plan.starts)
    assert counts[0].tolist() == [1, 0, 0, 0, 6, 0, 0, 0, 0, 2, 0, 0]


def test_scene_classes_stored_as_float_are_counted_alike():
    pixels = np.full((60, 80), 4, np.float32)
    pixels[0, 0:2] = [np.nan, 9]
    band = ArrayBand(pixels)
    _, plan = planned(shapely.box(0, -20, 20, 0), band=band)
    counts = reduction.count_classes(reduction.read_values(band, plan), plan.starts)
    assert counts[0].tolist() == [0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0]


def test_reading_stops_where_the_checkpoint_says_so():
    band = ArrayBand(np.zeros((60, 80), np.uint16))
    _, plan = planned(shapely.box(0, -600, 800, 0), band=band)

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        reduction.read_values(band, plan, stop)
