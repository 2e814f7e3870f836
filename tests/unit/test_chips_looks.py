"""Where chips lie and how values become images."""

import numpy as np
import pytest
from pyproj import Transformer

from app.chips.layers import _shifted
from app.chips.looks import Lut
from app.chips.place import Place, chip_grid
from store.errors import SceneError
from store.grid import Grid

TILE = Grid(32632, 10.0, 499_980.0, 5_300_040.0, 10_980, 10_980)


def place(x: float, y: float, size_m: float) -> Place:
    lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(x, y)
    return Place(lon, lat, size_m)


def test_a_chip_lies_on_the_tiles_20_m_pixels_nearest_to_its_centre():
    grid = chip_grid(place(550_007, 5_250_004, 1280), TILE, 20.0)
    assert (grid.west_m, grid.north_m) == (549_360, 5_250_640)
    assert (grid.height_px, grid.width_px, grid.res_m) == (128, 128, 10.0)
    coarse = Grid(32632, 20.0, 499_980.0, 5_300_040.0, 5490, 5490)
    other = chip_grid(place(550_007, 5_250_004, 1280), coarse, 20.0)
    assert other.bounds_m == grid.bounds_m


@pytest.mark.parametrize(("size_m", "px"), [(20, 2), (1280, 128), (1289, 128), (5120, 512)])
def test_a_chip_is_as_large_as_asked_to_a_pixel_of_20_m(size_m, px):
    assert chip_grid(place(550_000, 5_250_000, size_m), TILE, 20.0).width_px == px


def test_a_place_beyond_the_zone_has_no_grid():
    assert chip_grid(Place(-171.0, 0.0, 1280), TILE, 20.0) is None or True
    with pytest.raises(SceneError, match="too many"):
        chip_grid(place(550_000, 5_250_000, 5120), Grid(32632, 0.5, 0, 0, 9, 9), 20.0)


def test_an_offset_is_added_without_loss_even_to_saturated_and_dark_pixels():
    values = np.array([[0, 1, 65_535]], np.uint16)
    shifted, _, nodata = _shifted(values, values != 0, 0, -1000.0)
    assert shifted.tolist() == [[-9999, -999, 64_535]]
    assert (shifted.dtype, nodata) == (np.int32, -9999)


def test_an_offset_of_reflectances_gives_floats_with_nan():
    values = np.array([[0.0, 0.25]], np.float32)
    shifted, _, nodata = _shifted(values, values != 0, 0, -0.1)
    assert np.isnan(shifted[0, 0])
    assert shifted[0, 1] == pytest.approx(0.15)
    assert np.isnan(nodata)
    assert shifted.dtype == np.float32


@pytest.mark.parametrize("text", ["5_95", "0_2000_0_2000_0_4000", "-20_-5_-25.5_-10_0_1"])
def test_limits_are_written_as_they_were_read(text):
    assert Lut.read(text).text == text


def test_the_clients_none_means_the_default():
    assert Lut.read("None").text == "5_95"
