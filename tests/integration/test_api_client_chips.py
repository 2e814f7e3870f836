"""Chips and backgrounds as the JRC's published client fetches them, without credentials."""

import csv

import rasterio

from tests.integration import test_api_chips, test_api_client
from tests.integration.test_api_chips import LAT, LON, S2_DAYS

api, filled, ground = test_api_chips.api, test_api_chips.filled, test_api_chips.ground
client, folder, python = test_api_client.client, test_api_client.folder, test_api_client.python


def test_raw_chips_at_a_place_are_saved_as_rasters_with_their_list(client, folder):
    client("chip_images.by_location", LON, LAT, *S2_DAYS.values(), "B04", 400)
    [chips] = (folder / "temp").glob("*/chip_images")
    with (chips / "images_list.B04.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert listed
    for row in listed:
        with rasterio.open(chips / row["chips"].rpartition("/")[2]) as chip:
            assert (chip.width, chip.height) == (40, 40)


def test_the_background_google_is_the_operators_own(client, folder):
    client("background.by_location", "tt", 2024, LON, LAT, 64, 256)
    [background] = [p for p in (folder / "temp").glob("tt/2024/*/backgrounds/*") if p.suffix]
    with rasterio.open(background) as image:
        assert (image.width, image.height) == (64, 64)
