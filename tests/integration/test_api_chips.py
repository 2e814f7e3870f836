"""Chips and backgrounds as users meet them: gunicorn, a real PostGIS, small rasters, S3, tiles."""

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
import requests
from click.testing import CliRunner
from pyproj import Transformer
from rasterio.warp import transform_bounds

from app.cli import main
from card.find import folder as card_folder
from store import catalogue, db, objects
from store.catalogue import BandSource
from tests.beds import stac
from tests.beds.tiles import server as tiles
from tests.integration import chip_api
from tests.integration.chip_api import ANN, BOB, LAT, LON, S2_DAYS, Api, pixels, serving
from tests.integration.small_state import (
    EPSG,
    NORTH_M,
    WEST_M,
    a_scene,
    footprint,
    write_band,
    write_scene,
)

api, filled, ground = chip_api.api, chip_api.filled, chip_api.ground

# --- GeoTIFFs --------------------------------------------------------------------------------


def test_a_raw_chip_is_the_scenes_own_pixels_with_the_offset_added_once(api):
    found = api.listed("rawChipByLocation", band="B04", chipsize=400, **S2_DAYS)
    assert found["dates"] == ["20240406T101500", "20240411T101500", "20240416T101500"]
    assert [c.rsplit("/", 1)[1] for c in found["chips"]] == [
        f"S2A_MSIL2A_{date}_N0510_R022_T32TNT_{n:04}.B04.tif"
        for n, date in enumerate(found["dates"], 1)
    ]
    with api.raster(found["chips"][0]) as chip:
        assert chip.crs.to_epsg() == EPSG
        assert tuple(chip.bounds) == (WEST_M + 300, NORTH_M - 700, WEST_M + 700, NORTH_M - 300)
        assert (chip.res, chip.shape, chip.dtypes[0]) == ((10.0, 10.0), (40, 40), "int32")
        assert chip.tags()["reference"].endswith("_0001")
        assert chip.tags()["unit"] == "dn"
        values = chip.read(1)
    source = pixels(api.folder / "1_B04.tif")[30:70, 30:70].astype(int) - 1000
    np.testing.assert_array_equal(values, source)


def test_scene_classes_cover_the_same_ground_as_10_m_bands(api):
    found = api.listed("rawChipByLocation", bands="SCL", chipsize=400, **S2_DAYS)
    with api.raster(found["chips"][1]) as chip:
        assert tuple(chip.bounds) == (WEST_M + 300, NORTH_M - 700, WEST_M + 700, NORTH_M - 300)
        assert (chip.shape, chip.dtypes[0], chip.nodata) == ((20, 20), "uint8", 0)
        np.testing.assert_array_equal(chip.read(1), pixels(api.folder / "2_SCL.tif")[15:35, 15:35])


def test_a_chip_over_the_edge_keeps_its_shape_and_says_where_there_is_nothing(api):
    days = {"start_date": "2024-04-06", "end_date": "2024-04-06"}
    found = api.listed(
        "rawChipByParcelID", aoi="tt", year=2024, pid="p2", band="B04", chipsize=400, **days
    )
    with api.raster(found["chips"][0]) as chip:  # the parcel's centre is at pixel (4, 4)
        assert chip.shape == (40, 40)
        values = chip.read(1)
        assert chip.nodata == -9999
    assert (values[:16] == -9999).all()
    assert (values[:, :16] == -9999).all()
    source = pixels(api.folder / "1_B04.tif")[:24, :24].astype(int) - 1000
    np.testing.assert_array_equal(values[16:, 16:], source)


def test_a_scene_without_data_there_is_left_out(api):
    days = {"start_date": "2024-04-16", "end_date": "2024-04-26"}
    found = api.listed("rawChipByLocation", band="B04", **days)
    assert found["dates"] == ["20240416T101500", "20240426T101500"]  # not scene 4 of 21 April


def test_onlylist_names_products_without_making_chips(api):
    found = api.listed("rawChipByLocation", band="B04", onlylist=True, **S2_DAYS)
    assert [name[-5:] for name in found["chips"]] == ["_0001", "_0002", "_0003"]


def test_no_scene_on_these_days_is_an_empty_list(api):
    days = {"start_date": "2020-01-01", "end_date": "2020-02-01"}
    assert api.listed("rawChipByLocation", band="B04", **days) == {"dates": [], "chips": []}


def test_a_batch_has_every_band_of_every_product(api):
    names = [a_scene(n).reference for n in (2, 1)]
    body = {"lon": LON, "lat": LAT, "tiles": names, "bands": ["B08", "SCL"], "chipsize": 9000}
    answer = api.post("rawChipsBatch", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["dates"] == [
        f"{date}_{band}" for date in ("20240411T101500", "20240406T101500")
        for band in ("B08", "SCL")
    ]  # fmt: skip
    with api.raster(answer.json()["chips"][0]) as chip:
        assert chip.shape == (512, 512)  # 9000 m are cut down to 5120 m, as documented


def test_a_siblings_address_is_made_by_replacing_the_band_as_the_jrcs_scripts_do(api):
    names = [a_scene(1).reference]
    body = {"lon": LON, "lat": LAT, "tiles": names, "bands": ["B08"]}
    address = api.post("rawChipsBatch", body).json()["chips"][0]
    with api.raster(address.replace("B08.tif", "B04.tif")) as chip:
        assert chip.descriptions == ("B04",)
    absent = api.url + address.replace("B08.tif", "B12.tif")
    assert requests.get(absent, timeout=9).status_code == 404


def test_sentinel_1_comes_linear_in_both_polarisations(api):
    body = {"lon": LON, "lat": LAT, "dates": ["2024-05-01", "2024-05-31"], "chipsize": 400}
    found = api.post("rawS1ChipsBatch", body).json()
    assert found["dates"] == ["20240521T101500_VV", "20240521T101500_VH"]
    vv = found["chips"][0]
    with api.raster(vv) as chip:
        assert chip.dtypes[0] == "float32"
        np.testing.assert_array_equal(chip.read(1)[0, [0, 39]], np.float32([0.1, 0.01]))
    with api.raster(vv.replace("VV", "VH")) as chip:
        assert chip.read(1)[0, 0] == np.float32(0.01)
    coherence = api.post("rawS1ChipsBatch", body | {"plevel": "CARD-COH12"}).json()
    assert len(coherence["chips"]) == 2
    assert "COH12" in coherence["chips"][0]


# --- composites ------------------------------------------------------------------------------


def composites(api, **params) -> dict:
    days = {"start_date": "2024-04-26", "end_date": "2024-04-26"}
    return api.listed("chipsByLocation", format="json", **days | params)


def test_absolute_limits_scale_each_band_from_black_to_white(api):
    found = composites(api, bands="B04_B03_B11", lut="301_691_0_1000_0_1000", chipsize=400)
    image = api.image(found["chips"][0])
    assert image.shape == (40, 40, 4)
    # B04 is 1 + 10 * column: 301 at the chip's first column, 691 at its last.
    assert image[0, [0, 39], 0].tolist() == [0, 255]
    assert image[0, 20, 0] == round(200 / 390 * 255)
    assert image[[0, 39], 0, 1].tolist() == [round(0.301 * 255), round(0.691 * 255)]
    # B11 of 20 m: 500 in the upper half, 2000 in the lower, by nearest neighbour.
    assert image[[19, 20], 0, 2].tolist() == [128, 255]
    assert (image[..., 3] == 255).all()


def test_percentiles_stretch_by_default(api):
    found = composites(api, band="B04", chipsize=400)
    grey = api.image(found["chips"][0])[0, :, 0]
    values = 301 + 10.0 * np.arange(40)
    low, high = np.percentile(values, (5, 95))
    expected = np.clip((values - low) / (high - low) * 255 + 0.5, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(grey, expected)


def test_scene_classes_have_their_colours(api):
    days = {"start_date": "2024-04-06", "end_date": "2024-04-06"}
    image = api.image(composites(api, bands="SCL", chipsize=400, **days)["chips"][0])
    classes = pixels(api.folder / "1_SCL.tif")[15:35, 15:35]
    assert (image[classes == 4] == (0x00, 0xA0, 0x00, 255)).all()
    assert (image[classes == 9] == (255, 255, 255, 255)).all()
    assert (image[classes == 0][:, 3] == 0).all()


def test_backscatter_is_shown_in_db_and_gaps_are_transparent(api):
    days = {"start_date": "2024-05-01", "end_date": "2024-05-31"}
    found = composites(api, bands="VVb", lut="-20_-10_-20_-10_-20_-10", chipsize=1000, **days)
    image = api.image(found["chips"][0])
    assert image[50, [0, 99], 0].tolist() == [255, 0]  # -10 dB and -20 dB
    assert (image[:10, :, 3] == 0).all()
    assert (image[10:, :, 3] == 255).all()


def test_a_page_shows_the_chips_to_people_and_a_list_to_programs(api):
    answer = api.ask("chipsByLocation", bands="B08_B04_B04", **S2_DAYS)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "img-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.text.count("<img ") == 3
    assert "Contains modified Copernicus Sentinel data" in answer.text
    as_json = api.get(
        "/query/chipsByLocation", headers={"Accept": "application/json"},
        lon=LON, lat=LAT, bands="B08_B04_B04", **S2_DAYS,
    ).json()  # fmt: skip
    assert len(as_json["chips"]) == 3
    assert all(address in answer.text for address in as_json["chips"])


def test_the_parcels_outline_is_drawn(api):
    days = {"start_date": "2024-04-26", "end_date": "2024-04-26"}
    found = api.listed(
        "chipsByParcelID", aoi="tt", year=2024, pid="p1", bands="B04", format="json", chipsize=400,
        withGeometry=True, **days,
    )  # fmt: skip
    yellow = (api.image(found["chips"][0]) == (255, 255, 0, 255)).all(axis=2)
    rows, cols = np.nonzero(yellow)
    # The parcel's 10 x 10 pixels begin at pixel 15 of a chip of 40.
    assert [rows.min(), cols.min()] == pytest.approx([15, 15], abs=1)
    assert [rows.max(), cols.max()] == pytest.approx([25, 25], abs=1)
    assert not yellow[17:24, 17:24].any()


# --- which scene -----------------------------------------------------------------------------


def test_of_one_acquisition_the_newest_of_those_that_cover_most_is_shown(api):
    base = write_scene(api.folder / "twins", 40)
    db.execute(api.conn, "DELETE FROM work")
    catalogue.register(
        api.conn,
        [
            replace(base, reference="OLD", baseline="04.00"),
            replace(base, reference="NEW", baseline="05.11"),
            # Newest of all, but it shows the western half only.
            replace(base, reference="HALF", baseline="05.12", footprint_wkt=footprint((100, 50))),
        ],
    )
    day = f"{base.obstime:%Y-%m-%d}"
    found = api.listed("rawChipByLocation", band="B04", onlylist=True, start_date=day, end_date=day)
    assert found["chips"] == ["NEW"]


def test_where_the_best_scene_is_empty_or_broken_the_next_of_its_overpass_stands_in(api):
    base = write_scene(api.folder / "stand-in", 50)
    nothing = write_band(api.folder / "nothing.tif", np.zeros((100, 100), np.uint16), nodata=0)
    gone = BandSource(str(api.folder / "gone.tif"), nodata=0)
    empty = base.bands | {"B04": BandSource(str(nothing), nodata=0)}
    ranks = [
        replace(base, reference="BROKEN", baseline="05.12", bands=base.bands | {"B04": gone}),
        replace(base, reference="EMPTY", baseline="05.11", bands=empty),
        replace(base, reference="WHOLE", baseline="04.00"),
    ]
    catalogue.register(api.conn, ranks)
    day = f"{base.obstime:%Y-%m-%d}"
    days = {"start_date": day, "end_date": day}

    def shown(question: str, **params) -> list[str]:
        chips = api.listed(question, format="json", **params, **days)["chips"]
        return [address.rsplit("/", 1)[1].split(".")[0] for address in chips]

    assert shown("chipsByLocation", bands="B04") == ["WHOLE"]
    assert shown("chipsByLocation", bands="B08") == ["BROKEN"]
    raw = api.listed("rawChipByLocation", band="B04", chipsize=400, **days)
    with api.raster(raw["chips"][0]) as chip:
        source = pixels(api.folder / "stand-in" / "50_B04.tif")[30:70, 30:70].astype(int) - 1000
        np.testing.assert_array_equal(chip.read(1), source)


def test_a_band_that_no_scene_has_is_said_with_those_there_are(api):
    answer = api.ask("rawChipByLocation", band="B12", **S2_DAYS)
    assert answer.status_code == 404
    assert "B04, B08, SCL" in answer.json()["detail"]


def test_a_scene_whose_file_is_gone_is_left_out(api):
    scene = write_scene(api.folder / "lost", 45)
    catalogue.register(api.conn, [scene])
    Path(scene.bands["B04"].href).unlink()
    day = f"{scene.obstime:%Y-%m-%d}"
    days = {"start_date": day, "end_date": day}
    assert api.listed("rawChipByLocation", band="B04", **days)["chips"] == []
    assert len(api.listed("rawChipByLocation", band="B08", **days)["chips"]) == 1


# --- limits and refusals ---------------------------------------------------------------------


def test_more_chips_than_a_request_may_have_are_refused_with_their_number(api):
    many = [replace(a_scene(n), obstime=a_scene(n).obstime - timedelta(days=2000),
                    reference=f"MANY{n}", acquisition=f"MANY{n}") for n in range(25)]  # fmt: skip
    catalogue.register(api.conn, many)
    days = {"start_date": "2018-01-01", "end_date": "2019-12-31"}
    for question in ("chipsByLocation", "rawChipByLocation"):
        answer = api.ask(question, band="B04", **days)
        assert answer.status_code == 400
        assert "25 acquisitions" in answer.json()["detail"]
        assert "24 at most" in answer.json()["detail"]


def test_a_batch_of_more_than_36_chips_is_refused(api):
    tiles_named = [f"S2A_{n}" for n in range(13)]
    body = {"lon": LON, "lat": LAT, "tiles": tiles_named, "bands": ["B04", "B08", "SCL"]}
    answer = api.post("rawChipsBatch", body)
    assert answer.status_code == 400
    assert "36 at most" in answer.json()["detail"]


def test_a_product_that_is_not_in_the_catalogue_is_named(api):
    body = {"lon": LON, "lat": LAT, "tiles": ["S2A_NONE"], "bands": ["B04"]}
    answer = api.post("rawChipsBatch", body)
    assert (answer.status_code, "S2A_NONE" in answer.json()["detail"]) == (404, True)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"band": "B04;ls"}, "band"),
        ({"band": "../../etc/passwd"}, "band"),
        ({"band": "B04_B08"}, "one band"),
        ({"band": "B04", "plevel": "LEVEL1C"}, "plevel"),
        ({"band": "B04", "plevel": "CARD-BS"}, "no bands of CARD-BS"),
        ({"band": "B04", "chipsize": 5121}, "chipsize"),
        ({"band": "B04", "chipsize": "nan"}, "chipsize"),
        ({"band": "B04", "start_date": "2024-05-01"}, "comes after"),
        ({"band": "B04", "lut": "5_95"}, "no parameter here"),
    ],
)
def test_wrong_parameters_are_refused_by_name(api, wrong, reason):
    answer = api.ask("rawChipByLocation", **S2_DAYS | wrong)
    assert answer.status_code == 400
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("lut", ["95_5", "5", "5_101", "1_2_3_4", "a_b", "1e9_2", "5_5"])
def test_limits_that_mean_nothing_are_refused(api, lut):
    answer = api.ask("chipsByLocation", lut=lut, **S2_DAYS)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("lut")


def test_places_are_for_every_user_and_parcels_for_those_of_the_aoi(api):
    params = {"band": "B04"} | S2_DAYS
    parcel = {"aoi": "tt", "year": 2024, "pid": "p1"} | params
    assert api.ask("rawChipByLocation", auth=BOB, **params).status_code == 200
    for question in ("rawChipByParcelID", "chipsByParcelID"):
        assert api.ask(question, auth=BOB, **parcel).status_code == 403
        assert api.ask(question, auth=None, **parcel).status_code == 401
    background = {"aoi": "tt", "year": 2024, "pid": "p1"}
    assert api.ask("backgroundByParcelID", auth=BOB, **background).status_code == 403
    assert api.ask("rawChipByLocation", auth=None, **params).status_code == 401


# --- addresses -------------------------------------------------------------------------------


def test_a_changed_address_shows_nothing(api):
    found = composites(api, band="B04", chipsize=400)
    _, chips, proof, holder, subject, name = found["chips"][0].split("/")
    end = int(proof[:10], 16)
    wrong = [
        (proof[:-1] + ("0" if proof[-1] != "0" else "1"), holder, subject, name),
        (f"{end + 86400:010x}{proof[10:]}", holder, subject, name),
        (proof, holder, subject.replace("400.0", "500.0"), name),
        (proof, holder, subject.replace("c_", "c_1", 1), name),
        (proof, holder, subject, name.replace(".5_95.", ".4_95.")),
        (proof, holder, subject, name.replace(".png", ".tif")),
        (proof[10:], holder, subject, name),
        (proof, "bob", subject, name),
        (proof, "ann~tt", subject, name),
    ]
    for parts in wrong:
        answer = requests.get("/".join([api.url, chips, *parts]), timeout=9)
        assert answer.status_code == 404, parts
    # Twice, to meet both processes: they share the secret.
    for _ in range(8):
        assert api.fetch(found["chips"][0])[:4] == b"\x89PNG"


def test_without_its_users_right_an_address_shows_nothing_at_once(api):
    def run(*arguments: str) -> None:
        done = CliRunner().invoke(main, ["users", *arguments], input="right-word\n")
        assert done.exit_code == 0, done.output

    def statuses() -> list[int]:
        return [requests.get(api.url + address, timeout=9).status_code for address in addresses]

    run("add", "eve", "--aoi", "tt", "--password-stdin")
    days, eve = {"start_date": "2024-04-26", "end_date": "2024-04-26"}, ("eve", "right-word")
    parcel = {"aoi": "tt", "year": 2024, "pid": "p1"}
    of_parcel = api.listed("rawChipByParcelID", auth=eve, band="B04", **parcel, **days)["chips"]
    of_place = api.listed("rawChipByLocation", auth=eve, band="B04", **days)["chips"]
    ground = api.ask("backgroundByParcelID", auth=eve, raw=1, **parcel).text
    addresses = [*of_parcel, ground.removeprefix(api.url), *of_place]
    assert statuses() == [200, 200, 200]
    run("ungrant", "eve", "tt")
    assert statuses() == [403, 403, 200]
    run("grant", "eve", "tt")
    assert statuses() == [200, 200, 200]
    run("remove", "eve")
    assert statuses() == [403, 403, 403]
    assert composites(api, band="B04")["chips"]  # ann's own stay


def test_a_kept_image_that_was_cleared_away_is_made_again(api):
    found = composites(api, band="B03", chipsize=400)
    before = api.fetch(found["chips"][0])
    for path in api.cache.iterdir():
        if path.name not in {"secret", "tally"}:
            path.unlink()
    assert api.fetch(found["chips"][0]) == before


def test_addresses_expire(filled, tmp_path, monkeypatch):
    monkeypatch.setenv("CBM_CHIP_EXPIRY_S", "1")
    with serving(tmp_path, workers=1) as url:
        short = Api(url, filled[0], filled[1], filled[1] / "cache")
        address = composites(short, band="B04")["chips"][0]
        short.fetch(address)
        time.sleep(2.1)
        answer = requests.get(url + address, timeout=9)
    assert answer.status_code == 404
    assert "expired" in answer.json()["detail"]


def test_browsers_may_keep_an_image_until_its_address_expires(api):
    address = composites(api, band="B04")["chips"][0]
    headers = requests.get(api.url + address, timeout=9).headers
    assert headers["Content-Type"] == "image/png"
    cache, age = headers["Cache-Control"].split(", max-age=")
    assert cache == "private"
    assert 86_400 <= int(age.split(",")[0]) <= 90_000


# --- from S3, and of real scenes -------------------------------------------------------------


def test_chips_are_read_from_s3_and_the_store_may_be_away(s3, filled, tmp_path, monkeypatch):
    for name, value in s3.http.env.items():
        monkeypatch.setenv(name, value)
    local = write_scene(tmp_path, 60)
    folder = f"s3://{s3.new_bucket()}"
    bands = {}
    for band in ("B04", "B08"):
        objects.put_object(f"{folder}/{band}.tif", Path(local.bands[band].href))
        bands[band] = replace(local.bands[band], href=f"{folder}/{band}.tif")
    catalogue.register(filled[0], [replace(local, bands=bands, reference="IN_S3")])
    day = f"{local.obstime:%Y-%m-%d}"
    params = {"start_date": day, "end_date": day, "chipsize": 400}
    with serving(tmp_path, workers=1) as url:
        remote = Api(url, *filled, filled[1] / "cache")
        found = remote.listed("rawChipByLocation", band="B04", **params)
        with remote.raster(found["chips"][0]) as chip:
            source = pixels(tmp_path / "60_B04.tif")[30:70, 30:70].astype(int) - 1000
            np.testing.assert_array_equal(chip.read(1), source)
        with s3.without("http"):
            answer = remote.ask("rawChipByLocation", band="B08", **params)
            assert answer.status_code == 503
            assert "images" in answer.json()["detail"]
            assert "Retry-After" in answer.headers
            remote.fetch(found["chips"][0])  # kept
        assert len(remote.listed("rawChipByLocation", band="B08", **params)["chips"]) == 1


@pytest.mark.parametrize("named", [True, False])
def test_chips_are_read_from_web_hosts_that_are_named_and_no_others(
    filled, tmp_path, monkeypatch, named
):
    number = 70 + named
    local = write_scene(tmp_path, number)
    with ExitStack() as stack:
        archive = stack.enter_context(stac.serving(tmp_path, 0))
        host = archive.url.removeprefix("http://")
        monkeypatch.setenv("CBM_SCENE_HOSTS", host if named else "data.example")
        url = stack.enter_context(serving(tmp_path, workers=1))
        href = f"{archive.url}/assets/{number}_B04.tif"
        bands = {"B04": replace(local.bands["B04"], href=href)}
        catalogue.register(filled[0], [replace(local, bands=bands, reference=f"WEB_{number}")])
        remote, day = Api(url, *filled, filled[1] / "cache"), f"{local.obstime:%Y-%m-%d}"
        days = {"start_date": day, "end_date": day, "chipsize": 400}
        chips = remote.listed("rawChipByLocation", band="B04", **days)["chips"]
        if named:
            with remote.raster(chips[0]) as chip:
                source = pixels(tmp_path / f"{number}_B04.tif")[30:70, 30:70].astype(int) - 1000
                np.testing.assert_array_equal(chip.read(1), source)
        else:
            assert chips == []
            assert f"add {host}" in (tmp_path / "log").read_text()
    assert bool(archive.requests) == named


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_chips_of_real_scenes_are_their_own_pixels(api, shared_data):
    found = card_folder.scan(shared_data / "ch_strickhof_s2_2022" / "s2")
    catalogue.register(api.conn, found.scenes)
    lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(476_230, 5_254_550)
    params = {"lon": lon, "lat": lat, "chipsize": 640}
    params |= {"start_date": "2022-05-01", "end_date": "2022-05-31"}
    answer = api.get("/query/rawChipByLocation", band="B8A", **params).json()
    assert answer["dates"]
    for address in answer["chips"]:
        name = address.rsplit("/", 1)[1].split(".")[0]
        scene = next(s for s in found.scenes if s.reference == name)
        with rasterio.open(scene.bands["B8A"].href) as whole, api.raster(address) as chip:
            window = whole.window(*chip.bounds)
            source = whole.read(scene.bands["B8A"].index, window=window)
            np.testing.assert_array_equal(chip.read(1), source)
            assert chip.shape == (64, 64)
    shown = api.get("/query/chipsByLocation", bands="B8A_B11_B05", format="json", **params).json()
    assert len(shown["chips"]) == len(answer["chips"])
    if folder := os.environ.get("CBM_KEEP_IMAGES"):
        for address in shown["chips"]:
            (Path(folder) / address.rsplit("/", 1)[1]).write_bytes(api.fetch(address))


# --- backgrounds -----------------------------------------------------------------------------


def corners(image: np.ndarray) -> list[tuple]:
    return [tuple(int(v) for v in image[row, col, :3]) for row in (5, -6) for col in (5, -6)]


ALL_COLOURS = [tiles.RED, tiles.GREEN, tiles.BLUE, tiles.WHITE]


def background(api, question="backgroundByLocation", **params) -> str:
    """The address of a background, host-relative."""
    answer = api.ask(question, raw=1, **params)
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith(f"{api.url}/chips/")
    return answer.text.removeprefix(api.url)


@pytest.mark.parametrize("tms", ["Google", "ortho", "national"])
@pytest.mark.parametrize("extend", [200, 3000])
def test_a_background_shows_the_ground_around_the_point(api, tms, extend):
    image = api.image(background(api, tms=tms, extend=extend, chipsize=200))
    assert image.shape[:2] == (200, 200)
    assert corners(image) == ALL_COLOURS
    # The four colours meet in the middle, to a pixel.
    assert image[90, [97, 102], 0].tolist() == [200, 0]
    assert image[[97, 102], 90, 2].tolist() == [0, 200]


def test_the_client_gets_a_georeferenced_tif_by_an_absolute_address(api):
    answer = api.ask("backgroundByLocation", tms="Google", iformat="tif", chipsize=512, extend=512)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text.startswith(f"{api.url}/chips/")
    assert answer.text.endswith("/google.tif")
    with api.raster(answer.text.removeprefix(api.url)) as image:
        assert (image.crs.to_epsg(), image.count, image.shape) == (3857, 3, (512, 512))
        x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(LON, LAT)
        assert image.xy(255.5, 255.5) == pytest.approx((x, y), abs=0.01)
        assert image.tags()["TIFFTAG_COPYRIGHT"] == "The Crown"
        utm = transform_bounds(3857, EPSG, *image.bounds)
        assert utm[2] - utm[0] == pytest.approx(512, rel=0.01)  # metres on the ground


def proxied(url: str, **headers: str) -> str:
    """The address of a background, requested through a proxy that says so."""
    forwarded = {f"X-Forwarded-{name.title()}": text for name, text in headers.items()}
    params = {"lon": LON, "lat": LAT, "raw": 1}
    answer = requests.get(f"{url}/query/backgroundByLocation", params, auth=ANN, headers=forwarded)
    assert answer.status_code == 200, answer.text
    return answer.text.partition("/chips/")[0]


def test_behind_our_proxy_absolute_addresses_are_those_that_its_clients_see(api):
    assert proxied(api.url, proto="https", host="cbm.example") == "https://cbm.example"
    assert proxied(api.url, proto="https", host="cbm.example:8443") == "https://cbm.example:8443"
    assert proxied(api.url, proto="https", host="evil, cbm.example") == "https://cbm.example"
    assert proxied(api.url) == api.url


def test_a_proxy_that_is_not_ours_changes_no_address(filled, tmp_path, monkeypatch):
    monkeypatch.setenv("CBM_PROXIES", "10.9.9.9")
    with serving(tmp_path, workers=1) as url:
        assert proxied(url, proto="https", host="evil.example") == url
        path = {"PATH_INFO": "/query/info", "SCRIPT_NAME": "/query"}
        assert requests.get(f"{url}/healthz", headers=path, timeout=9).json()["status"] == "alive"


def test_info_names_the_sources_that_can_be_asked_for_the_default_first(api):
    named = api.get("/query/info").json()["aois"]["tt"]["tms"]
    assert named == ["ortho", "national", "gone", "fine"]
    assert api.ask("backgroundByLocation", tms=named[1]).status_code == 200


def test_a_page_shows_a_background_with_its_attribution(api):
    answer = api.ask("backgroundByLocation")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "The Crown" in answer.text
    assert answer.text.count("<img ") == 1


def test_a_parcels_background_has_its_outline_if_asked(api):
    parcel = {"aoi": "tt", "year": 2024, "pid": "p1", "extend": 400, "chipsize": 400}
    plain = api.image(background(api, "backgroundByParcelID", **parcel))
    outlined = api.image(background(api, "backgroundByParcelID", withGeometry=True, **parcel))
    yellow = (outlined[..., :3] == (255, 255, 0)).all(axis=2)
    assert not (plain[..., :3] == (255, 255, 0)).all(axis=2).any()
    rows, cols = np.nonzero(yellow)
    assert [rows.min(), cols.min(), rows.max(), cols.max()] == pytest.approx(
        [150, 150, 250, 250], abs=2
    )


def test_more_ground_than_a_source_has_an_image_of_is_refused_not_read(api):
    params = {"tms": "fine", "chipsize": 256}
    assert api.ask("backgroundByLocation", extend=500, **params).status_code == 404  # all is black
    answer = api.ask("backgroundByLocation", extend=5000, **params)
    assert (answer.status_code, answer.json()["detail"][:7]) == (400, "extend:")


def test_a_background_tile_that_no_zoom_has_is_not_found(api):
    assert api.get("/page/background/3/4/2").status_code in {200, 204}
    for place in ("0/1/0", "0/500000/0", "3/8/0", "3/0/8"):
        assert api.get(f"/page/background/{place}").status_code == 404, place


def test_a_source_that_is_unknown_shows_nothing_or_is_away_is_said(api):
    unknown = api.ask("backgroundByLocation", tms="Bing")
    assert (unknown.status_code, "ortho" in unknown.json()["detail"]) == (404, True)
    nothing = api.get("/query/backgroundByLocation", lon=-60, lat=-30)
    assert (nothing.status_code, "shows nothing" in nothing.json()["detail"]) == (404, True)
    away = api.ask("backgroundByLocation", tms="gone")
    assert away.status_code == 503
    assert "127.0.0.1" not in away.text
