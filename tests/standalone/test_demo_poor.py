"""A demo of scenes that fail or lack bands ends with what there is: reasons, settings, the API."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from tests.standalone.demo import Demo, new_demo

pytestmark = pytest.mark.full

PRODUCT = "S2B_MSIL2A_202407{:02}T101559_N0510_R065_T32TMT_202407{:02}T132135"
SIZE, WINDOW = 3000, slice(400, 600)
"""The reports' parcels lie in the window, which a sample of so large a raster passes over."""


def write_scene(folder: Path, day: int, band: str, in_window: float) -> None:
    pixels = np.full((SIZE, SIZE), 0.2, np.float32)
    pixels[WINDOW, WINDOW] = in_window
    path = folder / PRODUCT.format(day, day) / f"{band}.tif"
    path.parent.mkdir(parents=True)
    place = Affine(10, 0, 495_000, 0, -10, 5_211_000)
    with rasterio.open(
        path, "w", driver="GTiff", width=SIZE, height=SIZE, count=1, dtype="float32", tiled=True,
        crs="EPSG:32632", transform=place, nodata=float("nan"), compress="zstd",
    ) as out:  # fmt: skip
        out.write(pixels, 1)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    yield from new_demo()


def test_scenes_that_fail_or_lack_red_leave_reasons_and_a_demo(
    demo: Demo, shared_data: Path, tmp_path: Path
) -> None:
    parcels = shared_data / "field_reports/scenes/scene_parcels.gpkg"
    options = (f"--data={tmp_path}", f"--parcels={parcels}", "--id=id")
    write_scene(tmp_path, 5, "B08", 1e20)
    printed = demo.up(*options).printed
    assert "1 scenes failed (cbm-extract status lists them):" in printed
    assert "1e+20 is no value of reflectance" in printed
    assert "No parcel has a signature" in printed
    assert demo.env["CBM_PID"] in "ABC"
    curl = next(line for line in printed.splitlines() if "curl" in line)
    assert '"pid":["A"]' in demo.shell(curl).stdout

    again = demo.up(*options).printed
    assert "nothing left to do: 1 of 1 scenes failed before" in again
    assert "all done already" not in again

    write_scene(tmp_path, 10, "B08", 0.3)
    printed = demo.up(*options).printed
    assert "No picture: no parcel has B04 with B08 or B8A" in printed
    curl = next(line for line in printed.splitlines() if "curl" in line)
    assert "tstype=s2" in curl
    assert '"B08"' in demo.shell(curl).stdout
