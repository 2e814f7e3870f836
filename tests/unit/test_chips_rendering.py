"""The pixels of a chip, and its values as an image."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from pyproj import Transformer

from app.chips.chip_request import ChipRequest
from app.chips.image_jobs import ChipJob
from app.chips.layers import _add_offset
from app.chips.rendering import DEFAULT_LUT, Lut
from app.chips.scenes import ChipScene
from app.chips.window import ChipWindow, chip_grid
from store.catalogue import BandSource
from store.errors import SceneError
from store.grid import Grid
from tests.integration.small_state import NORTH_M, WEST_M, write_band

OBSTIME = datetime(2024, 5, 1, tzinfo=UTC)
TILE = Grid(32632, 10.0, 499_980.0, 5_300_040.0, 10_980, 10_980)


def window(x: float, y: float, size_m: float) -> ChipWindow:
    lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(x, y)
    return ChipWindow(lon, lat, size_m)


def test_a_chip_lies_on_the_tiles_20_m_pixels_nearest_to_its_centre():
    grid = chip_grid(window(550_007, 5_250_004, 1280), TILE, 20.0)
    assert (grid.west_m, grid.north_m) == (549_360, 5_250_640)
    assert (grid.height_px, grid.width_px, grid.res_m) == (128, 128, 10.0)
    coarse = Grid(32632, 20.0, 499_980.0, 5_300_040.0, 5490, 5490)
    other = chip_grid(window(550_007, 5_250_004, 1280), coarse, 20.0)
    assert other.bounds_m == grid.bounds_m


@pytest.mark.parametrize(("size_m", "px"), [(20, 2), (1280, 128), (1289, 128), (5120, 512)])
def test_a_chip_is_as_large_as_asked_to_a_pixel_of_20_m(size_m, px):
    assert chip_grid(window(550_000, 5_250_000, size_m), TILE, 20.0).width_px == px


def test_a_place_beyond_the_zone_has_no_grid():
    assert chip_grid(ChipWindow(0, 91, 1280), TILE, 20.0) is None
    with pytest.raises(SceneError, match="too many"):
        chip_grid(window(550_000, 5_250_000, 5120), Grid(32632, 0.5, 0, 0, 9, 9), 20.0)


def test_an_offset_is_added_without_loss_even_to_saturated_and_dark_pixels():
    values = np.array([[0, 1, 65_535]], np.uint16)
    shifted, _, nodata = _add_offset(values, values != 0, 0, -1000.0)
    assert shifted.tolist() == [[-9999, -999, 64_535]]
    assert (shifted.dtype, nodata) == (np.int32, -9999)


def test_an_offset_of_reflectances_gives_floats_with_nan():
    values = np.array([[0.0, 0.25]], np.float32)
    shifted, _, nodata = _add_offset(values, values != 0, 0, -0.1)
    assert np.isnan(shifted[0, 0])
    assert shifted[0, 1] == pytest.approx(0.15)
    assert np.isnan(nodata)
    assert shifted.dtype == np.float32


@pytest.mark.parametrize("text", ["5_95", "0_2000_0_2000_0_4000", "-20_-5_-25.5_-10_0_1"])
def test_limits_are_written_as_they_were_read(text):
    assert Lut.parse(text).text == text


def test_the_clients_none_means_the_default():
    assert Lut.parse("None").text == "5_95"


def shown(folder, values: np.ndarray, band: str = "B08", **facts) -> np.ndarray:
    """What is opaque in the image of a scene with one band of 100 x 100 pixels: bool[row, col]."""
    source = BandSource(str(write_band(folder / f"{band}.tif", values, **facts)))
    scene = ChipScene(1, "S2A", OBSTIME, "A", "reflectance", "05.10", None, {band: source})
    at = window(WEST_M + 500, NORTH_M - 500, 1000)
    request = ChipRequest(1, at, (band,), DEFAULT_LUT)
    image = Image.open(io.BytesIO(ChipJob(request, scene).make()))
    return np.asarray(image.convert("RGBA"))[..., 3] > 0


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("facts", [{}, {"nodata": 0}, {"nodata": np.nan}])
def test_pixels_that_are_no_numbers_are_transparent_and_the_others_are_not(tmp_path, odd, facts):
    values = np.linspace(0.1, 0.5, 10_000, dtype=np.float32).reshape(100, 100)
    values[20:40, 30:60] = odd
    assert np.array_equal(shown(tmp_path, values, **facts), np.isfinite(values))


@pytest.mark.parametrize("facts", [{}, {"nodata": 0}, {"nodata": 255}])
def test_classes_that_do_not_exist_and_nodata_are_transparent(tmp_path, facts):
    classes = np.full((100, 100), 4, np.uint8)
    classes[:10], classes[10:20], classes[20:30] = 0, 200, 255
    expected = np.zeros((100, 100), bool)
    expected[30:] = True
    assert np.array_equal(shown(tmp_path, classes, "SCL", **facts), expected)
