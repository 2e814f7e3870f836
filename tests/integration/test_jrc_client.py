"""The JRC's published client, unchanged, with the address of the JRC's contract."""

import csv
from dataclasses import replace

import pytest
import rasterio

from tests.integration import chip_api, published_client
from tests.integration.chip_api import LAT, LON, S2_DAYS

root, filled, ground = chip_api.api, chip_api.filled, chip_api.ground
client, folder, python = published_client.client, published_client.folder, published_client.python


@pytest.fixture(scope="module")
def api(root):
    """The API of the chips' tests, by the address that the client is given."""
    return replace(root, url=f"{root.url}/jrc")


def test_raw_chips_are_saved_as_delivered(client, folder):
    client("chip_images.by_location", LON, LAT, *S2_DAYS.values(), "B04", 400)
    [chips] = (folder / "temp").glob("*/chip_images")
    with (chips / "images_list.B04.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 3
    for row in listed:
        with rasterio.open(chips / row["chips"].rpartition("/")[2]) as chip:
            assert (chip.shape, chip.dtypes[0]) == ((40, 40), "uint16")


def test_a_parcel_is_found_by_its_id_and_an_unknown_one_is_none(client):
    assert client("parcel_info.by_pid", "tt", 2024, "p1")["pid"] == ["p1"]
    assert client("parcel_info.by_pid", "tt", 2024, "nobody") is None
    assert client("parcel_info.by_location", "tt", 2024, LON + 1, LAT) is None


def test_the_series_of_an_unknown_parcel_is_empty(client):
    series = client("time_series.by_pid", "tt", 2024, "nobody", "s2")
    assert series["date_part"] == []


def test_a_background_is_saved(client, folder):
    client("background.by_location", "tt", 2024, LON, LAT, 64, 256)
    [background] = [p for p in (folder / "temp").glob("tt/2024/*/backgrounds/*") if p.suffix]
    with rasterio.open(background) as image:
        assert (image.width, image.height) == (64, 64)
