"""Scenes whose files tell of their numbers in unusual places, or wrongly, after public reports."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint

from card.find import folder, rasters, safe
from card.find.scan_result import ScanResult
from extraction.worker import Worker
from store import catalogue, db, queue
from store.config import WorkerSettings
from store.errors import ConfigError, NotFoundError, SceneError
from store.parcels import campaigns
from store.parcels.importing import import_parcels
from tests.integration.small_state import (
    a_scene,
    add_campaign,
    square,
    write_band,
    write_scene,
)
from tests.unit.safe_folders import IMAGES, N0400, safe_folder

L2A = "S2B_MSIL2A_20220725T101559_N0400_R065_T32TMT_20220725T132135"
COH = "S1A_20220305T053012__1A__20220221T053012_20220221T053037_CARD-COH12"
GRD = "S1A_IW_GRDH_1SDV_20240501T171550_20240501T171615_053683_06855A_1234"
OFFSET = {"raster:scale": 0.0001, "raster:offset": -0.1}


@pytest.fixture
def series(database, shared_data, tmp_path, monkeypatch) -> Callable[[Path], dict[str, tuple]]:
    """Registers a folder, extracts it, and gives (count, mean) of one band by parcel code."""
    monkeypatch.setenv("CBM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CBM_POLL_S", "0.1")
    monkeypatch.setenv("CBM_RETRY_S", "0")
    campaign = campaigns.create(database, "fr", 2024)
    parcels = shared_data / "field_reports/scenes/scene_parcels.gpkg"
    import_parcels(database, campaign, parcels, id_column="id")

    def extract(place: Path, band: str) -> dict[str, tuple]:
        found = folder.scan(place)
        assert not found.problems
        catalogue.register(database, found.scenes)
        assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 1
        table = found.scenes[0].kind
        rows = db.fetch_all(
            database,
            f"SELECT code, {band}_count AS count, {band}_mean AS mean "
            f"FROM fr.{table} JOIN fr.parcels USING (pid)",
        )
        return {row.code: (row.count, row.mean) for row in rows}

    return extract


def why(found: ScanResult) -> str:
    """The reason of the only problem."""
    assert not found.scenes
    assert len(found.problems) == 1, found.problems
    return found.problems[0].why


def near(count: int, mean: float) -> tuple:
    return count, pytest.approx(mean, abs=0.005)


# The reports


def test_no_data_that_only_snaps_header_states_is_left_out(series, shared_data):
    found = series(shared_data / "field_reports/scenes/dimap_db", "vv")
    assert found == {"A": near(100, -11.932), "B": near(50, -12.117)}


def test_coded_decibels_are_decibels(series, shared_data):
    found = series(shared_data / "field_reports/scenes/coded_db", "vv")
    assert found == {"A": near(100, -11.933), "B": near(50, -12.117)}


def test_scale_and_offset_of_the_file_itself_are_used(series, shared_data):
    place = shared_data / "field_reports/scenes/own_scale_offset"
    [scene] = folder.scan(place).scenes
    assert (scene.unit, scene.scale) == ("dn", 0.0001)
    with rasterio.open(next(place.glob("*.tif"))) as raster:
        inside = raster.read(1)[:, 30:].astype(float) - 1000
    found = series(place, "b04")
    assert {code: count for code, (count, _) in found.items()} == {"A": 100, "B": 50}
    assert inside.min() <= found["A"][1] <= inside.max()


def test_no_data_of_signed_integers_is_asked_for(shared_data):
    reason = why(folder.scan(shared_data / "field_reports/scenes/maja"))
    assert "no-data value of B04/B08" in reason
    assert "raster:bands nodata" in reason


def test_no_data_of_signed_integers_is_used_once_stated(series, shared_data, tmp_path):
    place = next((shared_data / "field_reports/scenes/maja").iterdir())
    for path in place.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    item = json.loads((tmp_path / f"{place.name}.json").read_text())
    for asset in item["assets"].values():
        asset["raster:bands"][0]["nodata"] = -10000
    (tmp_path / f"{place.name}.json").write_text(json.dumps(item))
    assert series(tmp_path, "b04") == {"A": near(100, 1503.06), "B": near(50, 1501.76)}


def test_degrees_are_refused_at_registration_with_what_to_do(shared_data):
    reason = why(folder.scan(shared_data / "field_reports/scenes/degrees"))
    assert "reproject it" in reason
    assert "gdalwarp" in reason


def test_gdals_order_of_a_transform_is_named_at_registration(shared_data):
    reason = why(folder.scan(shared_data / "field_reports/scenes/transform_gdal_order"))
    assert "proj:transform" in reason


def test_no_power_in_decibels_is_no_data(series, shared_data):
    found = series(shared_data / "field_reports/scenes/minus_inf", "vv")
    assert found == {"A": near(95, -11.938), "B": near(45, -12.123)}


# Their kinds


def raster(path: Path, pixels: np.ndarray, names: tuple[str | None, ...] = (None,), **more) -> Path:
    """Write pixels, the same in each band."""
    scales, offsets = more.pop("scales", None), more.pop("offsets", None)
    profile = {
        "driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1],
        "count": len(names), "dtype": pixels.dtype, "crs": "EPSG:32632",
        "transform": Affine(10, 0, 500000, 0, -10, 5200000),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile | more) as out:
        out.write(np.stack([pixels] * len(names)))
        out.descriptions = names
        if scales:
            out.scales, out.offsets = scales, offsets
    return path


def item(path: Path, **properties) -> None:
    path.write_text(json.dumps({
        "type": "Feature", "stac_version": "1.1.0", "id": path.stem, "geometry": None,
        "properties": properties, "assets": {}, "links": [],
    }))  # fmt: skip


def half(value: float, fill: float, dtype: str, size: int = 40) -> np.ndarray:
    """A raster whose left half is a fill value, and whose right half varies around a value."""
    pixels = np.full((size, size), fill)
    spread = np.linspace(0.9, 1.1, size * size).reshape(size, size) * value
    pixels[:, size // 2 :] = spread[:, size // 2 :]
    return pixels.astype(dtype)


@pytest.mark.parametrize("fill", [1e20, -10000.0, 0.0, -3.4028234663852886e38, 65535.0, -9999.0,
                                  32767.0, 9.96921e36])  # fmt: skip
@pytest.mark.parametrize(("name", "value"), [
    (f"{L2A}_B04", 0.2), (f"{GRD}_Gamma0_VV_db", -12.0), (f"{GRD}_Gamma0_VV", 0.05),
    (f"{COH}_VV", 0.4)])  # fmt: skip
def test_fill_under_a_wrong_tag_is_named_and_not_served(tmp_path, name, value, fill):
    raster(tmp_path / f"{name}.tif", half(value, fill, "float32"), nodata=float("nan"))
    reason = why(folder.scan(tmp_path))
    assert f"{fill:g}" in reason
    assert "raster:bands" in reason


@pytest.mark.parametrize("tag", [70000, -9999, 0.5, float("nan"), float("inf")])
def test_no_data_that_pixels_cannot_have_is_asked_for(tmp_path, tag):
    raster(tmp_path / f"{L2A}_B04.tif", half(3000, 0, "uint16"))
    item(tmp_path / f"{L2A}.json", nodata=str(tag), **OFFSET)
    reason = why(folder.scan(tmp_path))
    assert f"{tag:g} is stated, which uint16 cannot hold" in reason


def test_digital_numbers_in_floats_are_no_reflectance(tmp_path):
    raster(tmp_path / f"{L2A}_B04.tif", half(5912, np.nan, "float32"))
    assert "is no value of reflectance" in why(folder.scan(tmp_path))
    item(tmp_path / f"{L2A}.json", **OFFSET)
    [scene] = folder.scan(tmp_path).scenes
    assert (scene.unit, scene.scale, scene.bands["B04"].offset) == ("dn", 0.0001, -1000)


@pytest.mark.parametrize(("unit", "value"), [
    ("gamma0_db", -1193.0), ("gamma0_linear", -11.9), ("gamma0_linear", 300.0),
    ("coherence", 1.2), ("coherence", 120.0)])  # fmt: skip
def test_values_of_another_unit_are_named_at_registration(tmp_path, unit, value):
    product = COH if unit == "coherence" else GRD
    raster(tmp_path / f"{product}.tif", half(value, np.nan, "float32"), ("VV", "VH"))
    item(tmp_path / f"{product}.json", unit=unit)
    assert unit in why(folder.scan(tmp_path))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_of_the_file_that_is_none_is_refused(tmp_path, scale):
    pixels = half(-1200, -9999, "int16")
    raster(
        tmp_path / f"{GRD}_Gamma0_VV_db.tif", pixels, nodata=-9999, scales=[scale], offsets=[0.0]
    )
    found = folder.scan(tmp_path)
    assert not found.scenes
    assert "scale" in found.problems[0].why


def test_a_band_of_another_place_is_refused_at_registration(tmp_path):
    pixels = half(0.2, np.nan, "float32")
    raster(tmp_path / L2A / "B04.tif", pixels)
    raster(tmp_path / L2A / "B08.tif", pixels[:20])
    assert "B08 covers other ground than B04" in why(folder.scan(tmp_path))
    raster(tmp_path / L2A / "B08.tif", pixels, crs="EPSG:32633")
    assert "differ in CRS" in why(folder.scan(tmp_path))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [(np.full((40, 40), 200, np.uint8), "200"), (np.full((40, 40), np.nan, np.float32), "no data")],
)
def test_scene_classes_that_are_none_are_refused_at_registration(tmp_path, pixels, message):
    raster(tmp_path / L2A / "B04.tif", half(0.2, np.nan, "float32"))
    raster(tmp_path / L2A / "SCL.tif", pixels)
    reason = why(folder.scan(tmp_path))
    assert "SCL" in reason
    assert message in reason


def test_pixels_marked_by_a_mask_are_asked_for_their_value(tmp_path):
    path = raster(tmp_path / f"{L2A}_B04.tif", half(0.2, 0.21, "float32"))
    with rasterio.open(path, "r+") as out, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        out.write_mask(np.eye(40, dtype=bool))
    assert "marked by a mask" in why(folder.scan(tmp_path))


@pytest.mark.parametrize("word", ["dB", "[dB]", "decibel", "intensity_db"])
def test_decibels_are_known_by_the_unit_of_the_file(tmp_path, word):
    path = raster(tmp_path / f"{GRD}_Gamma0_VV.tif", half(-12, np.nan, "float32"))
    with rasterio.open(path, "r+") as out:
        out.units = (word,)
    [scene] = folder.scan(tmp_path).scenes
    assert scene.unit == "gamma0_db"


def test_amplitudes_are_named(tmp_path):
    path = raster(tmp_path / f"{GRD}_Sigma0_VV.tif", half(0.2, np.nan, "float32"))
    with rasterio.open(path, "r+") as out:
        out.units = ("amplitude",)
    assert "amplitudes" in why(folder.scan(tmp_path))


def changed_header(shared_data: Path, place: Path, **changes: str) -> Path:
    """The report's DIMAP product with other entries for its bands in the header."""
    for path in (shared_data / "field_reports/scenes/dimap_db").rglob("*"):
        if path.is_file():
            copy = place / path.relative_to(shared_data / "field_reports/scenes/dimap_db")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    [header] = place.glob("*.dim")
    text = header.read_text().replace("<NO_DATA_VALUE>0.0</NO_DATA_VALUE>", "{}")
    text = text.replace("<NO_DATA_VALUE_USED>true</NO_DATA_VALUE_USED>", "")
    entries = "".join(f"<{tag}>{value}</{tag}>" for tag, value in changes.items())
    header.write_text(text.replace("{}", entries))
    return place


NAN = {"NO_DATA_VALUE_USED": "true", "NO_DATA_VALUE": "NaN"}


def test_zeros_under_nan_in_snaps_header_are_named(shared_data, tmp_path):
    reason = why(folder.scan(changed_header(shared_data, tmp_path, **NAN)))
    assert 'whether 0 means "no data" in VV' in reason


def test_a_mask_in_snaps_header_is_named(shared_data, tmp_path):
    place = changed_header(shared_data, tmp_path, VALID_MASK_TERM="Gamma0_VV_db &lt; 0")
    assert "marked by a mask" in why(folder.scan(place))


def test_the_unit_in_snaps_header_counts_where_the_name_says_less(shared_data, tmp_path):
    stated = {"NO_DATA_VALUE_USED": "true", "NO_DATA_VALUE": "0.0"}
    place = changed_header(shared_data, tmp_path, PHYSICAL_UNIT="intensity_db", **stated)
    for path in place.rglob("Gamma0_*"):
        path.rename(path.with_name(path.name.replace("_db", "")))
    [header] = place.glob("*.dim")
    header.write_text(header.read_text().replace("_db</BAND_NAME>", "</BAND_NAME>"))
    [scene] = folder.scan(place).scenes
    assert (scene.unit, scene.bands["VV"].nodata) == ("gamma0_db", 0)


@pytest.mark.parametrize(("dtype", "fill"), [("uint8", 255), ("int16", -32768), ("float32", -1)])
def test_no_data_of_scene_classes_is_that_of_their_tag(series, tmp_path, dtype, fill):
    bands = {"B04": half(0.2, np.nan, "float32"), "SCL": half(4, fill, dtype)}
    bands["SCL"][:, 20:] = 4
    place = {"transform": Affine(10, 0, 500_000, 0, -10, 5_206_000)}
    tags = {"B04": float("nan"), "SCL": fill}
    for name, pixels in bands.items():
        wide = np.kron(pixels, np.ones((2, 2), pixels.dtype))  # over all parcels of the reports
        raster(tmp_path / L2A.replace("2022", "2024") / f"{name}.tif", wide, nodata=tags[name],
               **place)  # fmt: skip
    found = series(tmp_path, "b04")
    assert found["A"][0] == 100


@pytest.mark.parametrize("placed", [
    {"proj:bbox": [8.99, 46.99, 9.02, 47.02]},
    {"proj:bbox": [5205400, 500000, 5206000, 500600]},
    {"proj:transform": [10, 0, 5206000, 0, -10, 500000]},
    {"proj:transform": [1e-4, 0, 9, 0, -1e-4, 47]},
    {"proj:transform": [10, 0, 500000, 0, -10, 5206000], "proj:code": "EPSG:32733"},
])  # fmt: skip
def test_a_place_outside_the_items_own_outline_is_named_at_registration(
    shared_data, tmp_path, placed
):
    for path in (shared_data / "field_reports/scenes/transform_gdal_order").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    [path] = tmp_path.glob("*.json")
    described = json.loads(path.read_text())
    for asset in described["assets"].values():
        del asset["proj:transform"]
        asset.update(placed)
    path.write_text(json.dumps(described))
    reason = why(folder.scan(tmp_path))
    assert "proj:bbox or proj:transform" in reason
    assert "outside the item's geometry" in reason


@pytest.mark.parametrize("name", [
    "SENTINEL2A_20240505-102601-000_L2A_T32TMT_C_V3-1_MTD_ALL.xml",
    "sentinel2a_20240505-102601-000_l2a_t32tmt_c_v3-1_mtd_all.xml",
    "S2A_OPER_SSC_L2VALD_32TMT____20240505.HDR",
])  # fmt: skip
def test_a_maja_product_is_named_as_not_supported_with_what_to_do(shared_data, tmp_path, name):
    [source] = (shared_data / "field_reports/scenes/maja").iterdir()
    place = tmp_path / source.name
    place.mkdir()
    (place / name).write_text("<Muscate_Metadata_Document/>")
    assert "MAJA product: not supported" in why(folder.scan(tmp_path))
    for path in source.glob("*.tif"):
        (place / path.name).write_bytes(path.read_bytes())
    reason = why(folder.scan(tmp_path))
    assert "MAJA product: not supported" in reason
    assert "nodata -10000" in reason
    (place / name).unlink()
    assert "MAJA product: not supported" in why(folder.scan(tmp_path))


def test_a_tile_in_the_layout_of_aws_is_named_as_not_supported(shared_data, tmp_path):
    [tile] = (shared_data / "s2_metadata").glob("*_T34VEL")
    for path in tile.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    raster(tmp_path / "R10m" / "B04.tif", half(3000, 0, "uint16"), nodata=0)
    reason = why(folder.scan(tmp_path))
    assert "layout of the AWS archives: not supported" in reason
    assert "SAFE" in reason


# What stands beside a band and is another thing


@pytest.mark.parametrize("name", [
    "Beta0_VV", "Amplitude_VV", "Intensity_VV", "incidenceAngle_VV", "Phase_VV", "i_VV",
    "VV_std", "VV_mask", "np-vv", "VV-cloudmask",
])  # fmt: skip
def test_another_quantity_of_a_band_is_not_the_band(tmp_path, name):
    assert rasters.band_name(name) is None
    raster(tmp_path / f"{GRD}_CARD_BS.data" / f"{name}.img", half(0.05, 0.0, "float32"),
           driver="ENVI")  # fmt: skip
    reason = why(folder.scan(tmp_path))
    assert "calibrated (Gamma0_VV or Sigma0_VV; there are " + name in reason
    raster(tmp_path / f"{GRD}_CARD_BS.data" / "Gamma0_VV.img", half(0.05, 0.0, "float32"),
           driver="ENVI")  # fmt: skip
    [scene] = folder.scan(tmp_path).scenes
    assert Path(scene.bands["VV"].href).name == "Gamma0_VV.img"


@pytest.mark.parametrize("name", [
    "Gamma0_VV_db", "S2B_MSIL2A_20240725T101559_N0400_R065_T30STD_20240725T132135_B04_10m",
    "s1a-iw-nrb-20240501t171550-053683-06855a-32tmt-vv-g-lin", "B8A - Narrow NIR (865 nm)",
])  # fmt: skip
def test_names_that_hold_such_letters_by_chance_are_bands(name):
    assert rasters.band_name(name) in {"VV", "B04", "B8A"}


def test_the_deviation_of_a_band_in_the_same_file_is_not_taken_for_it(tmp_path):
    raster(tmp_path / f"{L2A}.tif", half(0.2, np.nan, "float32"), ("B04", "B04_std"))
    [scene] = folder.scan(tmp_path).scenes
    assert scene.bands["B04"].index == 1


@pytest.mark.parametrize("names", [("part1_B04.tif", "part2_B04.tif"), ("B04.tif", "old/B04.tif")])
def test_two_files_of_one_band_are_named(tmp_path, names):
    for name in names:
        raster(tmp_path / L2A / name, half(0.2, np.nan, "float32"))
    reason = why(folder.scan(tmp_path))
    assert all(name in reason for name in names)
    assert "nothing says which is meant" in reason


def test_one_band_twice_in_a_file_is_named(tmp_path):
    raster(tmp_path / f"{L2A}.tif", half(0.2, np.nan, "float32"), ("B04", "B04"))
    assert "(band 1) and in" in why(folder.scan(tmp_path))


def test_two_formats_of_one_file_are_one_band(tmp_path):
    pixels = half(3000, 0.0, "uint16")
    for suffix, driver in (("tif", "GTiff"), ("jp2", "JP2OpenJPEG")):
        raster(tmp_path / L2A / f"B04.{suffix}", pixels, driver=driver)
    item(tmp_path / f"{L2A}.json", platform="sentinel-2b", **OFFSET)
    assert [*folder.scan(tmp_path).scenes[0].bands] == ["B04"]


def test_two_granules_in_one_product_are_named(shared_data, tmp_path):
    place = safe_folder(shared_data / "s2_metadata" / f"{N0400}.SAFE", tmp_path, N0400, IMAGES[:1])
    [granule] = (place / "GRANULE").iterdir()
    shutil.copytree(granule, granule.with_name(f"{granule.name}_second"))
    assert "nothing says which is meant" in why(folder.scan(tmp_path))


# Units that only the product makes complete, and those of other quantities


@pytest.mark.parametrize("place", ["file", "item", "sidecar"])
def test_decibels_are_those_of_what_the_product_holds(tmp_path, place):
    path = raster(tmp_path / f"{GRD}_CARD_BS_VV.tif", half(-12, np.nan, "float32"))
    if place == "file":
        with rasterio.open(path, "r+") as out:
            out.units = ("dB",)
    elif place == "item":
        item(tmp_path / f"{GRD}_CARD_BS.json", unit="dB")
    else:
        path.with_name(f"{path.name}.aux.xml").write_text(
            '<PAMDataset><PAMRasterBand band="1"><UnitType>dB</UnitType></PAMRasterBand>'
            "</PAMDataset>"
        )
    [scene] = folder.scan(tmp_path).scenes
    assert scene.unit == "gamma0_db"


@pytest.mark.parametrize("unit", ["amplitude", "radians", "degrees", "percent", "beta0"])
@pytest.mark.parametrize("in_item", [False, True])
def test_a_stated_unit_of_another_quantity_is_named(tmp_path, unit, in_item):
    path = raster(tmp_path / f"{GRD}_CARD_BS_VV.tif", half(0.3, np.nan, "float32"))
    if in_item:
        item(tmp_path / f"{GRD}_CARD_BS.json", unit=unit)
    else:
        with rasterio.open(path, "r+") as out:
            out.units = (unit,)
    assert f"another quantity ({unit})" in why(folder.scan(tmp_path))


# Masks


def masked(path: Path, pixels: np.ndarray, valid: np.ndarray, *, internal: bool) -> None:
    profile = {"driver": "GTiff", "count": 1, "dtype": pixels.dtype, "nodata": -1}
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_200_000)}
    height, width = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
        rasterio.open(path, "w", height=height, width=width, **profile, **place) as out,
    ):
        out.write(pixels, 1)
        out.write_mask(valid)


@pytest.mark.parametrize("internal", [True, False])
def test_a_mask_that_leaves_out_more_than_the_no_data_value_is_named(tmp_path, internal):
    pixels = half(0.2, -1.0, "float32")
    path, valid = tmp_path / f"{L2A}_B04.tif", pixels != -1
    masked(path, pixels, valid, internal=internal)
    assert len(folder.scan(tmp_path).scenes) == 1
    valid[10:20] = False
    masked(path, pixels, valid, internal=internal)
    assert "marked by a mask" in why(folder.scan(tmp_path))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_an_alpha_band_is_a_mask_of_any_type(tmp_path, dtype):
    pixels = half(3000, 3000.0, dtype)
    raster(tmp_path / f"{L2A}.tif", pixels, ("B04", "alpha"), alpha="YES")
    item(tmp_path / f"{L2A}.json", **OFFSET)
    assert "marked by a mask" in why(folder.scan(tmp_path))


# Places


@pytest.mark.parametrize("described", [False, True])
def test_ground_control_points_are_named_also_where_an_item_knows_a_place(tmp_path, described):
    points = [GroundControlPoint(r, c, 500_000 + 10 * c, 5_200_000 - 10 * r)
              for r in (0, 40) for c in (0, 40)]  # fmt: skip
    pixels = half(0.2, np.nan, "float32")
    with rasterio.open(
        tmp_path / f"{L2A}_B04.tif", "w", driver="GTiff", width=40, height=40, count=1,
        dtype="float32", gcps=points, crs="EPSG:32632",
    ) as out:  # fmt: skip
        out.write(pixels, 1)
    if described:
        box = [500_000, 5_199_600, 500_400, 5_200_000]
        place = {"proj:code": "EPSG:32632", "proj:bbox": box}
        item(tmp_path / f"{L2A}.json", **place)
    assert "ground control points alone: warp it" in why(folder.scan(tmp_path))


def test_a_tile_in_the_crs_of_another_zone_is_named(tmp_path):
    pixels = half(0.2, np.nan, "float32")
    raster(tmp_path / f"{L2A}_B04.tif", pixels, crs="EPSG:32633")
    assert "which is in EPSG:32632, but the files say EPSG:32633" in why(folder.scan(tmp_path))
    inside = Affine(10, 0, 45_000, 0, -10, 5_230_000)  # the same ground, warped to that zone
    raster(tmp_path / f"{L2A}_B04.tif", pixels, crs="EPSG:32633", transform=inside)
    assert len(folder.scan(tmp_path).scenes) == 1


# No scene is passed over


@pytest.mark.parametrize("name", [
    f"{L2A}.SAFE.zip", f"{L2A}.tar", f"{L2A}.tar.gz", f"{L2A}.tgz", f"{L2A}.SAFE.7z",
    f"{L2A}_B04.tif.gz"])  # fmt: skip
def test_a_packed_product_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert "an archive: unpack it" in why(folder.scan(tmp_path))


@pytest.mark.parametrize("name", [f"{L2A}.nc", f"{GRD}_CARD_BS.h5", f"{L2A}_B04.dat"])
def test_a_product_in_a_format_that_is_not_read_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert "a format that is not read" in why(folder.scan(tmp_path))


def test_a_product_in_a_folder_of_zarr_is_named(tmp_path):
    (tmp_path / f"{L2A}.zarr").mkdir()
    (tmp_path / f"{L2A}.zarr" / ".zgroup").write_text("{}")
    assert "a format that is not read" in why(folder.scan(tmp_path))


def test_a_link_to_a_product_is_followed_and_another_one_is_named(shared_data, tmp_path):
    source = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    product = safe_folder(source, tmp_path / "archive", N0400, IMAGES[:1])
    here = tmp_path / "here"
    here.mkdir()
    (here / product.name).symlink_to(product)
    assert [scene.reference for scene in folder.scan(here).scenes] == [N0400]
    (here / product.name).unlink()
    (here / "2022").symlink_to(product.parent)
    assert f"register that ({product.parent})" in why(folder.scan(here))


def test_links_that_lead_back_end_and_give_each_scene_once(tmp_path):
    raster(tmp_path / L2A / "B04.tif", half(0.2, np.nan, "float32"))
    for name in (f"{L2A}_again", "elsewhere/" + L2A):
        link = tmp_path / L2A / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path)
    found = folder.scan(tmp_path)
    assert (len(found.scenes), found.problems) == (1, ())


@pytest.mark.parametrize("baseline", ["04.00", "05.10", ""])
def test_metadata_that_lost_their_offsets_are_asked_for_them(shared_data, tmp_path, baseline):
    place = safe_folder(shared_data / "s2_metadata" / f"{N0400}.SAFE", tmp_path, N0400, IMAGES[:1])
    text = (place / safe.METADATA).read_text()
    text = re.sub("(<PROCESSING_BASELINE>).*?<", rf"\g<1>{baseline}<", text)
    (place / safe.METADATA).unlink()
    (place / safe.METADATA).write_text(
        re.sub("<BOA_ADD_OFFSET_VALUES_LIST>.*</BOA_ADD_OFFSET_VALUES_LIST>", "", text, flags=re.S)
    )
    assert "BOA_ADD_OFFSET of B04" in why(folder.scan(tmp_path))


# What only extraction sees: files that were not at hand at registration


@pytest.fixture
def state(database, tmp_path, monkeypatch):
    """A campaign of two parcels, a worker that waits for nothing."""
    monkeypatch.setenv("CBM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CBM_POLL_S", "0.1")
    monkeypatch.setenv("CBM_RETRY_S", "0")
    add_campaign(database, [square(0, 0, 4), square(10, 10, 6)])
    return database


def reason_of(conn, scene) -> str:
    """Why the only piece of work went to dead letter at the first try."""
    catalogue.register(conn, [scene])
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 0
    row = db.fetch_one(conn, "SELECT state, failures, reason FROM work")
    assert (row.state, row.failures) == ("dead", 1)
    assert not db.fetch_all(conn, "SELECT FROM tt.s2 UNION ALL SELECT FROM tt.bs")
    return row.reason


def test_an_impossible_value_fails_the_scene_naming_value_parcel_and_remedy(state, tmp_path):
    pixels = np.full((100, 100), 0.2, np.float32)
    pixels[12, 12] = 1e20
    path = write_band(tmp_path / "B04.tif", pixels)
    source = catalogue.BandSource(str(path))
    scene = a_scene(0, {"B04": source}, unit="reflectance", scale=None)
    reason = reason_of(state, scene)
    for part in ("1e+20", "parcel p2", "state it as nodata", "B04"):
        assert part in reason


def test_zeros_under_another_tag_fail_the_scene(state, tmp_path):
    pixels = np.full((100, 100), 0.05, np.float32)
    pixels[10:16, 10:14] = 0
    path = write_band(tmp_path / "VV.tif", pixels, nodata=float("nan"))
    bands = {"VV": catalogue.BandSource(str(path), nodata=0.0)}
    scene = a_scene(0, bands, kind="bs", unit="gamma0_linear", scale=None)
    assert "many pixels of parcels are 0" in reason_of(state, scene)


def test_the_files_own_tag_counts_more_than_custom(state, tmp_path):
    pixels = np.full((100, 100), -9999, np.float32)
    pixels[10:14] = 0.05
    path = write_band(tmp_path / "VV.tif", pixels, nodata=-9999)
    bands = {"VV": catalogue.BandSource(str(path), nodata=0.0)}
    catalogue.register(state, [a_scene(0, bands, kind="bs", unit="gamma0_linear", scale=None)])
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 1
    [row] = db.fetch_all(state, "SELECT pid, vv_count, vv_mean FROM tt.bs")
    assert row == (2, 24, pytest.approx(0.05))


def test_saturated_pixels_of_level_2a_are_no_values(state, tmp_path):
    pixels = np.full((100, 100), 3000, np.uint16)
    pixels[12, 12], pixels[13, 13] = 65535, 0
    path = write_band(tmp_path / "B04.tif", pixels)
    source = catalogue.BandSource(str(path), offset=-1000, nodata=0.0, nodata_stated=True)
    catalogue.register(state, [a_scene(0, {"B04": source})])
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 1
    row = db.fetch_one(state, "SELECT b04_count, b04_max FROM tt.s2 WHERE pid = 2")
    assert row == (34, 2000)


def test_a_band_in_another_crs_than_its_scene_fails_the_scene(state, tmp_path):
    path = write_band(tmp_path / "B04.tif", np.full((100, 100), 3000, np.uint16))
    scene = a_scene(0, {"B04": catalogue.BandSource(str(path), nodata=0)}, epsg=32633)
    assert "warp its bands to one CRS" in reason_of(state, scene)


def test_scene_classes_that_are_none_fail_the_scene(state, tmp_path):
    pixels = {"B04": np.full((100, 100), 3000, np.uint16), "SCL": np.full((100, 100), 200, "u1")}
    paths = {name: write_band(tmp_path / f"{name}.tif", pixels[name]) for name in pixels}
    sources = {name: catalogue.BandSource(str(path), nodata=0) for name, path in paths.items()}
    assert "no scene class" in reason_of(state, a_scene(0, sources))


def test_a_parcel_cut_by_the_edge_of_any_band_is_flagged(state, tmp_path):
    whole = np.full((100, 100), 3000, np.uint16)
    paths = {"B04": write_band(tmp_path / "B04.tif", whole),
             "B08": write_band(tmp_path / "B08.tif", whole[:12])}  # fmt: skip
    sources = {name: catalogue.BandSource(str(path), nodata=0) for name, path in paths.items()}
    catalogue.register(state, [a_scene(0, sources)])
    Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True)
    rows = db.fetch_all(state, "SELECT flags, b08_count FROM tt.s2 ORDER BY pid")
    assert rows == [(0, 16), (8, 12)]


@pytest.mark.parametrize("nodata", [70000.0, -9999.0])
def test_no_data_that_pixels_cannot_have_fails_the_scene(state, tmp_path, nodata):
    path = write_band(tmp_path / "B04.tif", np.full((100, 100), 3000, np.uint16))
    source = catalogue.BandSource(str(path), nodata=nodata, nodata_stated=True)
    assert "cannot hold" in reason_of(state, a_scene(0, {"B04": source}))


def test_one_scene_shows_the_same_error(state, tmp_path):
    path = write_band(tmp_path / "B04.tif", np.full((100, 100), 1e20, np.float32))
    scene = a_scene(0, {"B04": catalogue.BandSource(str(path))}, unit="reflectance", scale=None)
    catalogue.register(state, [scene])
    with pytest.raises(SceneError, match="parcel p1"):
        Worker(WorkerSettings.from_env(os.environ)).work_on(scene.reference)


# Never lost


@pytest.mark.parametrize("name", ["B08", "SCL"])
def test_a_file_missing_for_a_moment_is_waited_for_then_named_and_caught_up(state, tmp_path, name):
    scene = write_scene(tmp_path, 0)
    path = Path(scene.bands[name].href)
    path.rename(tmp_path / "away")
    catalogue.register(state, [scene])
    worker = Worker(WorkerSettings.from_env(os.environ))
    assert worker.work(until_idle=True) == 1
    [row] = queue.failures(state)
    assert (row.state, str(path) in row.reason) == ("done", True)
    assert name in db.fetch_one(state, "SELECT absent FROM scene").absent
    assert catalogue.register(state, [scene]).queued == 0
    (tmp_path / "away").rename(path)
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 1
    assert not queue.failures(state)
    assert name not in db.fetch_one(state, "SELECT absent FROM scene").absent
    hists = db.fetch_one(state, "SELECT count(*) AS n FROM tt.hists").n
    assert (hists, db.fetch_one(state, "SELECT min(b08_count) AS n FROM tt.s2").n) == (2, 16)


def test_a_file_that_a_local_item_names_and_that_comes_later_is_caught_up(series, tmp_path,
                                                                           database):  # fmt: skip
    path = tmp_path / f"{L2A.replace('2022', '2024')}.json"
    place = {"transform": Affine(10, 0, 500_000, 0, -10, 5_206_000)}
    _, infrared = (
        raster(tmp_path / f"{name}.tif", half(3000, 0, "uint16", 80), nodata=0, **place)
        for name in ("B04", "B08")
    )
    item(path, platform="sentinel-2b", datetime="2024-07-25T10:15:59Z", **OFFSET)
    described = json.loads(path.read_text())
    described["assets"] = {n: {"href": f"./{n}.tif"} for n in ("B04", "B08", "AOT")}
    path.write_text(json.dumps(described))
    away = infrared.rename(tmp_path / "away")
    [scene] = folder.scan(tmp_path).scenes
    assert (scene.bands["B08"].href, scene.bands["B08"].offset) == (str(infrared), -1000)
    assert series(tmp_path, "b04")["A"][0] == 100
    [row] = queue.failures(database)
    assert (row.state, str(infrared) in row.reason) == ("done", True)
    away.rename(infrared)
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 1
    assert not queue.failures(database)
    assert db.fetch_one(database, "SELECT max(b08_count) AS n FROM fr.s2").n == 100


def test_an_item_whose_files_are_all_missing_names_them(tmp_path):
    item(tmp_path / f"{L2A}.json", platform="sentinel-2b", **OFFSET)
    path = tmp_path / f"{L2A}.json"
    described = json.loads(path.read_text())
    described["assets"] = {"B04": {"href": "red.tif"}}
    path.write_text(json.dumps(described))
    assert "are not there (red.tif): copy them and register again" in why(folder.scan(tmp_path))


def test_registering_again_queues_what_was_done_without_a_file_that_is_there_now(state, tmp_path):
    scene = write_scene(tmp_path, 0)
    path = Path(scene.bands["B08"].href)
    path.rename(tmp_path / "away")
    catalogue.register(state, [scene])
    Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True)
    (tmp_path / "away").rename(path)
    report = catalogue.register(state, [scene])
    assert (report.unchanged, report.queued) == (1, 1)


def test_dead_work_stays_dead_when_nothing_changed(state, tmp_path):
    path = write_band(tmp_path / "B04.tif", np.full((100, 100), 1e20, np.float32))
    source = {"B04": catalogue.BandSource(str(path))}
    scene = a_scene(0, source, unit="reflectance", scale=None, cloud_cover_pct=12.34567)
    reason_of(state, scene)
    report = catalogue.register(state, [scene])
    assert (report.unchanged, report.changed, report.queued) == (1, 0, 0)
    assert db.fetch_one(state, "SELECT state FROM work").state == "dead"


def test_a_scene_that_the_database_refuses_is_named_and_the_others_registered(state):
    bad = [
        a_scene(1, reference="nul\0"),
        a_scene(2, epsg=999999),
        a_scene(3, relative_orbit=10**12),
        a_scene(4, footprint_wkt="MULTIPOLYGON(((0 0, 1 1)))"),
        a_scene(5, kind="s2", orbit_direction="sideways"),
        a_scene(6, cloud_cover_pct=1e300),
    ]
    report = catalogue.register(state, [a_scene(0), *bad, a_scene(7)])
    assert [reference for reference, _ in report.refused] == [scene.reference for scene in bad]
    assert "not known to the database's PostGIS" in report.refused[1][1]
    assert (report.added, report.queued) == (2, 2)


def test_what_the_settings_refuse_stops_the_worker_and_blames_no_scene(state, tmp_path):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    db.execute(state, "DROP VIEW tt.sigs_2024; DROP VIEW tt.preferred, tt.preferred_s2")
    db.execute(state, "ALTER TABLE tt.hists RENAME TO elsewhere")
    with pytest.raises(ConfigError):
        Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True)
    row = db.fetch_one(state, "SELECT state, failures, lost_leases, reason FROM work")
    assert (row.state, row.failures, row.lost_leases) == ("pending", 0, 0)
    assert row.reason


def test_done_work_is_redone_when_told_to(state, tmp_path):
    scenes = [write_scene(tmp_path, number) for number in range(2)]
    catalogue.register(state, scenes)
    Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True)
    assert queue.redo(state, [scenes[0].reference], dry_run=True) == 1
    assert queue.open_work(state) == 0
    assert queue.redo(state, [scenes[0].reference]) == 1
    assert queue.redo(state, None) == 1
    with pytest.raises(NotFoundError, match="no scene x in the catalogue"):
        queue.redo(state, ["x"])
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 2


def test_a_local_processors_run_is_no_newest_baseline(state, tmp_path):
    pixels = np.full((100, 100), 3000, np.uint16)
    scenes = [
        a_scene(
            0,
            {"B04": catalogue.BandSource(str(write_band(tmp_path / f"{n}.tif", pixels)), nodata=0)},
            reference=f"of_{baseline}",
            baseline=baseline,
        )
        for n, baseline in enumerate(("04.00", "99.99", "05.10", "", "05.09"))
    ]
    catalogue.register(state, scenes)
    Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True)
    rows = db.fetch_all(state, "SELECT DISTINCT reference FROM tt.preferred_s2")
    assert [row.reference for row in rows] == ["of_05.10"]
