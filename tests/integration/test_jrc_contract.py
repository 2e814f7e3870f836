"""The JRC's contract below /jrc: what its scripts, which can change only their host, rely on."""

import numpy as np
import pytest
import rasterio
import requests

from tests.integration import chip_api
from tests.integration.chip_api import ANN, LAT, LON, S2_DAYS, pixels
from tests.integration.small_state import a_scene

api, filled, ground = chip_api.api, chip_api.filled, chip_api.ground

SCENE = a_scene(1).reference
PLACE = {"lon": LON, "lat": LAT}


def ask(api, name: str, **params) -> dict:
    answer = api.get(f"/jrc/query/{name}", **params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(api, name: str, **body) -> dict:
    address = f"{api.url}/jrc/query/{name}"
    answer = requests.post(address, json=PLACE | body, auth=ANN, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def raster(api, address: str):
    """As the calendar view opens a chip: host and prefix, then the address."""
    answer = requests.get(f"{api.url}/jrc{address}", auth=ANN, timeout=60)
    assert answer.status_code == 200, answer.text
    with rasterio.MemoryFile(answer.content) as file, file.open() as chip:
        return chip.read(1), chip.profile, chip.tags()


@pytest.mark.parametrize("band", ["B04", "B4"])
def test_a_raw_chip_has_the_values_of_the_file(api, band):
    found = ask(api, "rawChipByLocation", band=band, chipsize="400", **PLACE, **S2_DAYS)
    values, profile, _ = raster(api, found["chips"][0])
    assert (profile["dtype"], profile["nodata"]) == ("uint16", 0)
    np.testing.assert_array_equal(values, pixels(api.folder / "1_B04.tif")[30:70, 30:70])


def test_an_address_has_three_parts_of_which_the_last_is_the_products_name(api):
    found = post(api, "rawChipsBatch", tiles=[SCENE], bands=["B08", "SC"], chipsize=400)
    assert [date[-4:] for date in found["dates"]] == ["_B08", "_SCL"]
    for address, band in zip(found["chips"], ("B08", "SCL"), strict=True):
        start, *parts = address.split("/")
        assert (start, len(parts)) == ("", 3)
        assert parts[2] == f"{SCENE}.{band}.tif"
        assert parts[2].split("_")[2] == "20240406T101500"
        assert requests.get(f"{api.url}/jrc{address}", timeout=60).status_code == 200
    forged = found["chips"][0].replace("400.0", "500.0")
    assert requests.get(f"{api.url}/jrc{forged}", timeout=60).status_code == 404


def test_no_tiles_and_no_bands_are_empty_lists(api):
    nothing = {"dates": [], "chips": []}
    assert post(api, "rawChipsBatch", tiles=[], bands=["B08"], chipsize=400) == nothing
    assert post(api, "rawChipsBatch", tiles=[SCENE], bands=[], chipsize=400) == nothing


def test_what_is_not_there_is_an_empty_list_so_that_no_script_repeats_for_ever(api):
    of_parcel = {"aoi": "tt", "year": 2024, "pid": "nobody"}
    nothing = {"dates": [], "chips": []}
    assert ask(api, "rawChipByParcelID", band="B04", **of_parcel, **S2_DAYS) == nothing
    assert ask(api, "rawChipByLocation", band="B12", **PLACE, **S2_DAYS) == nothing
    assert post(api, "rawChipsBatch", tiles=["S2_UNKNOWN"], bands=["B08"]) == nothing
    assert ask(api, "parcelById", **of_parcel)["pid"] == []
    assert ask(api, "parcelByLocation", aoi="tt", year=2024, lon=LON + 1, lat=LAT)["pid"] == []
    series = ask(api, "parcelTimeSeries", **of_parcel)
    assert {"date_part", "band", "mean", "hist"} <= series.keys()
    assert not any(series.values())
    answer = api.get("/jrc/query/parcelTimeSeries", tsformat="csv", **of_parcel)
    assert answer.text.splitlines()[0].startswith("date_part,band,count")
    assert api.get("/jrc/query/parcelByID", aoi="tt", year=1999, pid="p1").status_code == 404


@pytest.mark.parametrize(("size", "px"), [("99999", 512), ("1", 2)])
def test_sizes_are_cut_to_what_is_possible(api, size, px):
    found = ask(api, "rawChipByLocation", band="B04", chipsize=size, **PLACE, **S2_DAYS)
    assert raster(api, found["chips"][0])[0].shape == (px, px)


def test_old_names_of_routes_hold(api):
    parcel = {"aoi": "tt", "year": 2024, "pid": "p1"}
    assert ask(api, "parcelById", **parcel)["pid"] == ["p1"]
    for name, params in (
        ("chipByLocation", PLACE | S2_DAYS | {"bands": "B8_B4_B4"}),
        ("backgroundByParcelId", parcel),
    ):
        answer = api.get(f"/jrc/query/{name}", **params)
        assert (answer.status_code, answer.headers["Content-Type"][:9]) == (200, "text/html")


@pytest.mark.parametrize("tms", ["Google", "bing", "ESRI", "ags", "osm"])
def test_the_jrcs_names_of_backgrounds_mean_the_operators_own(api, tms):
    params = {"tms": tms, "iformat": "tif", "chipsize": 64}
    answer = api.get("/jrc/query/backgroundByLocation", **PLACE, **params)
    assert (answer.status_code, answer.text[-8:]) == (200, f"/{tms.lower()}.tif"[-8:])
    with rasterio.open(f"/vsicurl/{answer.text}") as image:
        assert (image.width, image.count) == (64, 3)


def test_another_name_of_a_background_is_unknown_below_the_prefix_too(api):
    answer = api.get("/jrc/query/backgroundByLocation", tms="nowhere", **PLACE)
    assert (answer.status_code, "no source" in answer.json()["detail"]) == (404, True)


def test_the_prefix_lets_in_whom_our_routes_do(api):
    for name, params in (("info", {}), ("parcelById", {"aoi": "tt", "year": 2024, "pid": "p1"})):
        assert api.get(f"/jrc/query/{name}", auth=None, **params).status_code == 401
    refused = api.get("/jrc/query/parcelById", aoi="zz", year=2024, pid="p1")
    assert refused.status_code in {403, 404}


# --- our own routes --------------------------------------------------------------------------


def test_raw_chips_have_one_dtype_unless_they_are_wanted_as_delivered(api):
    found = api.listed("rawChipByLocation", band="B04", offset="delivered", **S2_DAYS)
    with api.raster(found["chips"][0]) as chip:
        assert (chip.dtypes[0], chip.nodata) == ("uint16", 0)
    days = {"start_date": "2024-04-26", "end_date": "2024-04-26"}
    for band, dtype in (("B04", "int32"), ("B11", "int32")):
        found = api.listed("rawChipByLocation", band=band, **days)
        with api.raster(found["chips"][0]) as chip:
            assert (chip.dtypes[0], chip.nodata) == (dtype, -9999)


@pytest.fixture(scope="module")
def image(api) -> tuple[str, bytes]:
    found = api.listed("rawChipByLocation", band="B04", chipsize=2000, **S2_DAYS)
    return api.url + found["chips"][0], api.fetch(found["chips"][0])


@pytest.mark.parametrize(
    ("wanted", "part", "answered"),
    [
        ("bytes=0-99", slice(0, 100), "0-99"),
        ("bytes=100-", slice(100, None), "100-{last}"),
        ("bytes=-50", slice(-50, None), "{tail}-{last}"),
        ("bytes=10-99999999", slice(10, None), "10-{last}"),
    ],
)
def test_a_part_of_an_image_can_be_fetched(image, wanted, part, answered):
    address, whole = image
    answer = requests.get(address, headers={"Range": wanted}, timeout=60)
    size = len(whole)
    range_ = answered.format(last=size - 1, tail=size - 50)
    assert (answer.status_code, answer.headers["Content-Range"]) == (206, f"bytes {range_}/{size}")
    assert answer.content == whole[part]


def test_ranges_that_make_no_sense_are_ignored_or_refused(image):
    address, whole = image
    for wanted in ("bytes=9-1", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=x-"):
        answer = requests.get(address, headers={"Range": wanted}, timeout=60)
        assert (answer.status_code, answer.content) == (200, whole), wanted
        assert answer.headers["Accept-Ranges"] == "bytes"
    answer = requests.get(address, headers={"Range": f"bytes={len(whole)}-"}, timeout=60)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{len(whole)}")
    head = requests.head(address, headers={"Range": "bytes=0-99"}, timeout=60)
    assert (head.status_code, int(head.headers["Content-Length"])) == (200, len(whole))


def test_gdal_opens_an_address_in_place(image):
    address, whole = image
    with rasterio.MemoryFile(whole) as file, file.open() as local:
        values = local.read(1)
    with rasterio.open(f"/vsicurl/{address}") as remote:
        np.testing.assert_array_equal(remote.read(1), values)
