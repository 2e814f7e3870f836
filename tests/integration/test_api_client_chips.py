"""Chips and backgrounds as the JRC's published client fetches them, without credentials."""

import csv

import rasterio

from tests.integration import chip_api, published_client
from tests.integration.chip_api import LAT, LON, S2_DAYS

api, filled, ground = chip_api.api, chip_api.filled, chip_api.ground
client, folder, python = published_client.client, published_client.folder, published_client.python


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
