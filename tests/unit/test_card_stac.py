"""STAC Items: what providers' real items and hand-written ones say becomes the scene."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from card.find import stac
from store.catalogue import BandSource
from store.errors import MissingFactError, ProductNameError, SceneError
from store.grid import Grid
from store.raster import open_band
from tests.hostile_files import ADDRESSES_OF_ITEMS

OUTLINE = {"type": "Polygon", "coordinates": [[[3, 51], [5, 51], [5, 52], [3, 52], [3, 51]]]}


@pytest.fixture
def cdse(shared_data):
    path = shared_data / "catalogue/cdse_stac/item_S2A_MSIL2A_20241107_N0511_T32VKR.json"
    return json.loads(path.read_text())


@pytest.fixture
def earthsearch(shared_data):
    path = shared_data / "catalogue/earthsearch_items_baselines/S2B_33TWN_20220130_0_L2A.json"
    return json.loads(path.read_text())


def described(**properties):
    """A small item that describes a Sentinel-1 mosaic."""
    known = {"datetime": "2024-03-04T00:00:00Z", "platform": "sentinel-1a", "unit": "sigma0_linear"}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "week10",
        "geometry": OUTLINE,
        "properties": {**known, "proj:code": "EPSG:32631", **properties},
        "assets": {"data": {"href": "week10.tif", "bands": [{"name": "VV"}, {"name": "VH"}]}},
    }


def raster(path: Path, bands: int = 1, dtype: str = "float32", **more) -> Path:
    profile = {
        "driver": "GTiff", "width": 4, "height": 4, "count": bands, "dtype": dtype,
        "crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5700000), **more,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as out:
        out.write(np.ones((bands, 4, 4), dtype))
    return path


def test_a_cdse_item_gives_the_archives_jp2_and_their_offset(cdse):
    scene = stac.scene_from_item(cdse, "https://stac.example/v1/")
    assert scene.reference == cdse["id"]
    assert (scene.unit, scene.scale, scene.epsg, scene.tile) == ("dn", 0.0001, 32632, "32VKR")
    assert {b.offset for n, b in scene.bands.items() if n != "SCL"} == {-1000.0}
    assert len(scene.bands) == 11
    granule = scene.bands["B04"].href.split("/IMG_DATA/")[0]
    assert granule.startswith("s3://eodata/Sentinel-2/MSI/L2A/2024/11/07/S2A_MSIL2A_20241107")
    assert scene.bands["B04"].href.endswith("R10m/T32VKR_20241107T113311_B04_10m.jp2")
    assert scene.bands["SCL"] == BandSource(
        f"{granule}/IMG_DATA/R20m/T32VKR_20241107T113311_SCL_20m.jp2"
    )
    assert (scene.orbit_direction, scene.relative_orbit) == ("descending", 80)
    assert (scene.baseline, scene.cloud_cover_pct) == ("05.11", 100.0)
    assert scene.produced_at == datetime(2024, 11, 7, 12, 39, 48, tzinfo=UTC)


def test_an_earth_search_item_gives_cogs_with_the_offset_applied(earthsearch):
    scene = stac.scene_from_item(earthsearch, "https://stac.example/v1/")
    assert scene.reference == "S2B_MSIL2A_20220130T100139_N0400_R122_T33TWN_20220130T115938"
    assert scene.bands["B8A"].href.endswith("S2B_33TWN_20220130_0_L2A/B8A.tif")
    assert {band.offset for band in scene.bands.values()} == {0.0}
    assert scene.obstime == datetime(2022, 1, 30, 10, 1, 39, tzinfo=UTC)


def test_an_offset_that_was_not_applied_is_applied(earthsearch):
    earthsearch["properties"]["earthsearch:boa_offset_applied"] = False
    bands = stac.scene_from_item(earthsearch).bands
    assert bands["B04"].offset == -1000.0
    assert bands["SCL"].offset == 0.0


def test_applied_offsets_are_the_cogs_and_not_the_archives_jp2(earthsearch):
    for key in [k for k in earthsearch["assets"] if not k.endswith("-jp2")]:
        del earthsearch["assets"][key]
    bands = stac.scene_from_item(earthsearch).bands
    assert bands["B04"] == BandSource(
        "s3://sentinel-s2-l2a/tiles/33/T/WN/2022/1/30/0/B04.jp2",
        1,
        -1000.0,
        0.0,
        nodata_stated=True,
    )


def test_a_missing_offset_of_integers_is_asked_for_by_name(earthsearch):
    del earthsearch["properties"]["earthsearch:boa_offset_applied"]
    for asset in earthsearch["assets"].values():
        for band in asset.get("raster:bands", []):
            band.pop("offset", None)
    with pytest.raises(MissingFactError) as error:
        stac.scene_from_item(earthsearch)
    assert "BOA_ADD_OFFSET of B02/B03/B04" in str(error.value)
    assert "raster:offset" in str(error.value)
    assert "earthsearch:boa_offset_applied" in str(error.value)


def test_a_baseline_proves_no_offset(earthsearch):
    for asset in earthsearch["assets"].values():
        for band in asset.get("raster:bands", []):
            band["offset"] = 0
    earthsearch["properties"]["earthsearch:boa_offset_applied"] = False
    scene = stac.scene_from_item(earthsearch)
    assert (scene.baseline, scene.bands["B04"].offset) == ("04.00", 0.0)


def test_scenes_of_both_providers_agree_on_the_overpass(cdse, earthsearch):
    earthsearch["properties"]["s2:product_uri"] = f"{cdse['id']}.SAFE"
    one, other = stac.scene_from_item(cdse), stac.scene_from_item(earthsearch)
    for fact in ("reference", "acquisition", "obstime", "tile", "baseline", "relative_orbit"):
        assert getattr(one, fact) == getattr(other, fact)


def test_an_item_without_a_product_name_gets_its_overpass_from_the_datatake(cdse):
    cdse["id"] = "mine"
    scene = stac.scene_from_item(cdse)
    assert (scene.reference, scene.platform, scene.kind) == ("mine", "S2A", "s2")
    assert scene.acquisition == "S2A_20241107T113311_R080"


def test_a_sentinel1_item_with_an_orbit_gets_its_overpass_from_it():
    item = described(**{"sat:absolute_orbit": 52345})
    item["assets"]["data"]["href"] = "https://example.org/week10.tif"
    assert stac.scene_from_item(item).acquisition == "S1A_052345"


def test_the_two_directions_of_one_day_are_two_overpasses():
    item = described(**{"sat:orbit_state": "ascending"})
    item["assets"]["data"]["href"] = "https://example.org/week10.tif"
    up = stac.scene_from_item(item)
    item["properties"]["sat:orbit_state"] = "descending"
    down = stac.scene_from_item(item)
    assert up.orbit_direction == "ascending"
    assert up.acquisition != down.acquisition


def test_an_item_describes_the_file_beside_it(tmp_path):
    path = raster(tmp_path / "week10.tif", 2, nodata=float("nan"))
    scene = stac.scene_from_item(described(), tmp_path)
    assert (scene.kind, scene.unit, scene.platform) == ("bs", "sigma0_linear", "S1A")
    assert scene.bands == {
        "VV": BandSource(str(path), 1, 0.0, None),
        "VH": BandSource(str(path), 2, 0.0, None),
    }
    assert shapely.from_wkt(scene.footprint_wkt).bounds == (3, 51, 5, 52)


def test_a_remote_asset_of_the_same_name_is_read_beside_the_item(tmp_path):
    path = raster(tmp_path / "week10.tif", 2)
    item = described()
    item["assets"]["data"]["href"] = "https://example.org/far/week10.tif?token=1"
    assert stac.scene_from_item(item, tmp_path).bands["VV"].href == str(path)


def test_relative_addresses_are_relative_to_the_item():
    scene = stac.scene_from_item(described(), "https://example.org/a/week10.json")
    assert scene.bands["VH"] == BandSource("https://example.org/a/week10.tif", 2, 0.0, 0.0)


def test_a_bands_own_statement_counts_more_than_the_properties():
    item = described(nodata=-1)
    item["assets"]["data"]["bands"][1]["nodata"] = -99
    bands = stac.scene_from_item(item, "https://example.org/x.json").bands
    assert (bands["VV"].nodata, bands["VH"].nodata) == (-1.0, -99.0)


def test_an_items_nodata_corrects_the_files(tmp_path):
    raster(tmp_path / "week10.tif", 2, nodata=float("nan"))
    scene = stac.scene_from_item(described(nodata=32767), tmp_path)
    assert scene.bands["VV"].nodata == 32767


def test_the_files_crs_counts_more_than_the_items(tmp_path):
    raster(tmp_path / "week10.tif", 2, crs="EPSG:32632")
    assert stac.scene_from_item(described(), tmp_path).epsg == 32632


def test_what_no_one_says_is_asked_for_all_at_once():
    item = described()
    item["properties"] = {}
    item["geometry"] = None
    with pytest.raises(MissingFactError) as error:
        stac.scene_from_item(item, "https://example.org/x.json")
    for fact in ("properties.platform", "properties.datetime", "properties.proj:code", "geometry",
                 "sigma0_linear, gamma0_db, gamma0_terrain_db, gamma0_ellipsoid_db"):  # fmt: skip
        assert fact in str(error.value)
    assert str(error.value).startswith("item week10: ")


def test_an_unknown_unit_is_a_missing_one():
    with pytest.raises(MissingFactError, match="unit, and with it the CARD kind"):
        stac.scene_from_item(described(unit="dB"), "https://example.org/x.json")


def test_an_unnamed_band_order_is_asked_for(tmp_path):
    raster(tmp_path / "week10.tif", 2)
    item = described()
    del item["assets"]["data"]["bands"]
    with pytest.raises(MissingFactError, match="which band is which"):
        stac.scene_from_item(item, tmp_path)


def test_coherence_needs_its_days(tmp_path):
    raster(tmp_path / "week10.tif", 2)
    with pytest.raises(MissingFactError, match="CARD-COH1, CARD-COH6 or CARD-COH12"):
        stac.scene_from_item(described(unit="coherence"), tmp_path)
    item = described(unit="coherence", **{"product:type": "CARD-COH12"})
    scene = stac.scene_from_item(item, tmp_path)
    assert (scene.kind, scene.unit) == ("c12", "coherence")


def test_coded_radar_values_are_made_physical_once():
    item = described(**{"raster:scale": 0.01, "raster:offset": 2})
    scene = stac.scene_from_item(item, "https://example.org/x.json")
    assert {(band.offset, band.factor) for band in scene.bands.values()} == {(200.0, 0.01)}
    assert (scene.unit, scene.scale) == ("sigma0_linear", None)


@pytest.mark.parametrize("number", [0, -1, "nan", "inf", "-inf"])
@pytest.mark.parametrize("what", ["scale", "offset"])
@pytest.mark.parametrize("unit", ["sigma0_linear", "sigma0_db"])
def test_a_scale_or_offset_that_is_none_is_refused_by_name(number, what, unit):
    item = described(unit=unit, **{f"raster:{what}": number})
    if what == "offset" and number in (0, -1):
        assert stac.scene_from_item(item, "https://example.org/x.json").bands["VV"].offset == number
        return
    with pytest.raises(SceneError, match=f"VV is stated to have the {what} {number}"):
        stac.scene_from_item(item, "https://example.org/x.json")


def test_bands_of_different_units_are_refused():
    item = described()
    item["assets"]["data"]["bands"][1]["unit"] = "sigma0_db"
    with pytest.raises(SceneError, match=r"different units \(VV: sigma0_linear, VH: sigma0_db\)"):
        stac.scene_from_item(item, "https://example.org/x.json")


def test_a_band_count_that_is_not_the_files_is_refused(tmp_path):
    raster(tmp_path / "week10.tif", 3)
    with pytest.raises(SceneError, match="described with 2 bands, but has 3"):
        stac.scene_from_item(described(), tmp_path)


def test_float_reflectance_is_used_as_delivered(tmp_path, earthsearch):
    for band in ("B04", "SCL"):
        raster(tmp_path / f"{band}.tif")
    item = copy.deepcopy(earthsearch)
    item["properties"]["earthsearch:boa_offset_applied"] = False
    scene = stac.scene_from_item(item, tmp_path)
    assert set(scene.bands) == {"B04", "SCL"}
    assert (scene.unit, scene.scale, scene.bands["B04"].offset) == ("reflectance", None, 0.0)


def test_thinned_files_without_crs_are_laid_where_the_item_says(shared_data):
    folder = shared_data / "s2_l2a_products_120m/S2A_33TWM_20230815_0_L2A"
    item = json.loads((folder / f"{folder.name}.json").read_text())
    scene = stac.scene_from_item(item, folder)
    assert set(scene.bands) == {"B02", "B03", "B04", "B08", "SCL"}
    red = scene.bands["B04"]
    with open_band(red.href, red.index, red.extent) as band:
        assert band.grid == Grid(32633, 120.0, 499_980.0, 5_200_020.0, 915, 915)


def test_a_file_that_nobody_can_place_is_refused(shared_data):
    folder = shared_data / "s2_l2a_products_120m/S2A_33TWM_20230815_0_L2A"
    item = json.loads((folder / f"{folder.name}.json").read_text())
    del item["assets"]["red"]["proj:transform"]
    with pytest.raises(MissingFactError, match=r"B04\.tif: not georeferenced.*proj:bbox"):
        stac.scene_from_item(item, folder)


def test_level_1c_is_refused(earthsearch):
    earthsearch["properties"]["s2:product_uri"] = None
    earthsearch["properties"]["s2:product_type"] = "S2MSI1C"
    with pytest.raises(SceneError, match="Level-1C"):
        stac.scene_from_item(earthsearch)
    earthsearch["id"] = "S2A_MSIL1C_20150904T105046_N0500_R051_T31VED_20231009T083312"
    with pytest.raises(ProductNameError, match="Level-1C"):
        stac.scene_from_item(earthsearch)


@pytest.mark.parametrize(
    "damage",
    [
        {"properties": {"datetime": "yesterday"}},
        {"geometry": {"type": "Polygon", "coordinates": "here"}},
        {"assets": {"vv": {"href": "https://example.org/vv.tif", "raster:bands": [3]}}},
        {"assets": []},
    ],
)
def test_a_damaged_item_is_refused_in_one_sentence(damage):
    with pytest.raises(SceneError, match="item week10: "):
        stac.scene_from_item({**described(), **damage}, "https://example.org/x.json")


def test_every_recorded_item_becomes_a_scene(shared_data):
    catalogue = shared_data / "catalogue"
    items = [json.loads(p.read_text()) for p in catalogue.glob("earthsearch_items_baselines/*")]
    for page in ("earthsearch_paging/page1.json", "earthsearch_paging/page2.json",
                 "cdse_stac/search_sentinel-2-l2a_20200701_20200705_bbox9_47.json"):  # fmt: skip
        items += json.loads((catalogue / page).read_text())["response"]["features"]
    scenes = [stac.scene_from_item(item, "https://example.org/") for item in items]
    assert len(scenes) == 6 + 16 + 4
    assert all(len(scene.bands) == 11 and scene.scale == 0.0001 for scene in scenes)


# Where an item may lead


@pytest.mark.parametrize("href", ADDRESSES_OF_ITEMS)
def test_a_remote_item_leads_to_no_local_file_and_no_inner_address(href, tmp_path):
    item = described()
    item["assets"]["data"]["href"] = href
    with pytest.raises(SceneError, match="asset data lies at"):
        stac.scene_from_item(item, "s3://bucket/x.json")
    with pytest.raises(SceneError):
        stac.scene_from_item(item, tmp_path)


def test_an_item_may_lead_back_to_the_api_it_comes_from():
    item = described()
    item["assets"]["data"]["href"] = "week10.tif"
    scene = stac.scene_from_item(item, "http://127.0.0.1:8000/items/week10")
    assert scene.bands["VV"].href == "http://127.0.0.1:8000/items/week10.tif"


# What an item says of a file's place


def test_a_transform_in_gdals_order_is_named(shared_data):
    folder = shared_data / "field_reports/scenes/transform_gdal_order"
    item = json.loads(next(folder.glob("*.json")).read_text())
    with pytest.raises(SceneError, match=r"proj:transform .* another order"):
        stac.scene_from_item(item, folder)


def test_properties_of_older_items_are_understood():
    name = "S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857"
    item = described(platform="sentinel-2a", **{
        "sentinel2:product_uri": f"{name}.SAFE",
        "sentinel2:processing_baseline": "02.12",
        "sentinel2:generation_time": "2020-10-07T16:08:57Z",
        "sentinel:boa_offset_applied": True,
    })  # fmt: skip
    item["assets"] = {"B04": {"href": "https://example.org/B04.jp2", "data_type": "uint16",
                              "raster:scale": 0.0001}}  # fmt: skip
    scene = stac.scene_from_item(item, "https://example.org/x.json")
    assert scene.reference == name
    assert (scene.tile, scene.baseline, scene.relative_orbit) == ("07HFE", "02.12", 13)
