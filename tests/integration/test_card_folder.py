"""Folders of scenes: real ones, and every layout that people keep rasters in."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from card.find.folder import scan
from card.find.scan_result import ScanResult
from store.errors import CallerError

L2A = "S2B_MSIL2A_20220725T101559_N0400_R065_T32TMT_20220725T132135"
GRD = "S1A_IW_GRDH_1SDV_20220305T053012_20220305T053037_042175_05066C_1A2B"
COH = "S1A_20220305T053012__1A__20220221T053012_20220221T053037_CARD-COH12"
S2_BANDS = {"B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12", "SCL"}
DN = {"raster:offset": -0.1, "raster:scale": 0.0001}


def raster(path: Path, names: tuple[str | None, ...] = (None,), dtype: str = "float32") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = {".jp2": "JP2OpenJPEG", ".img": "ENVI"}.get(path.suffix, "GTiff")
    with rasterio.open(
        path, "w", driver=driver, width=4, height=4, count=len(names), dtype=dtype,
        crs="EPSG:32632", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5200000),
    ) as out:  # fmt: skip
        out.write(np.ones((len(names), 4, 4), dtype))
        if any(names):
            out.descriptions = names
    return path


def item(path: Path, assets: dict | None = None, **properties) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({
        "type": "Feature", "stac_version": "1.1.0", "id": path.stem, "geometry": None,
        "properties": properties, "assets": assets or {}, "links": [],
    }))  # fmt: skip
    return path


def why(found: ScanResult) -> str:
    """The reason of the only problem."""
    assert not found.scenes
    assert len(found.problems) == 1, found.problems
    return found.problems[0].why


def test_29_real_dates_need_no_description(shared_data):
    found = scan(shared_data / "ch_strickhof_s2_2022/s2")
    assert (len(found.scenes), found.problems, found.others) == (29, (), 0)
    assert {(s.kind, s.unit, s.scale, s.epsg) for s in found.scenes} == {
        ("s2", "reflectance", None, 32632)
    }
    for scene in found.scenes:
        assert set(scene.bands) == S2_BANDS
        assert {b.nodata for n, b in scene.bands.items() if n != "SCL"} == {0.0}
        assert {b.offset for b in scene.bands.values()} == {0.0}
        with rasterio.open(scene.bands["B8A"].href) as src:
            assert src.descriptions[scene.bands["B8A"].index - 1] == "B8A"
    assert Counter(s.relative_orbit for s in found.scenes).keys() == {65, 108}
    assert [s.obstime for s in found.scenes] == sorted(s.obstime for s in found.scenes)


def test_a_raster_without_outline_is_outlined_by_its_bounds(shared_data):
    scene = scan(shared_data / "ch_strickhof_s2_2022/s2").scenes[0]
    outline = shapely.from_wkt(scene.footprint_wkt)
    assert outline.contains(shapely.Point(8.68, 47.44))
    assert outline.area == pytest.approx(0.0119 * 0.0081, rel=0.02)  # 900 m by 900 m at 47 N


def test_real_items_beside_local_files_make_three_scenes(shared_data):
    found = scan(shared_data / "s2_l2a_products_120m")
    assert [s.tile for s in found.scenes] == ["33TWL", "33TWM", "33TWM"]
    assert found.problems == ()
    for scene in found.scenes:
        assert set(scene.bands) == {"B02", "B03", "B04", "B08", "SCL"}
        assert {b.offset for b in scene.bands.values()} == {0.0}
        assert (scene.unit, scene.scale, scene.baseline) == ("dn", 0.0001, "05.09")
    assert found.scenes[0].acquisition == found.scenes[1].acquisition


def test_real_sentinel1_mosaics_need_a_description(shared_data, tmp_path):
    folder = shared_data / "be_flanders_s1_s2/2023/s1-grd-sigma0-asc"
    found = scan(folder)
    assert not found.scenes
    assert len(found.problems) == 2
    for fact in ("properties.platform", "properties.datetime", "sigma0_linear", "which band"):
        assert all(fact in problem.why for problem in found.problems)
    assert "s1-grd-sigma0-asc_2023-03-13_2023-03-19_VV-VH_last.json" in found.problems[0].why
    assert found.others == 2  # notes on how the mosaics were made


@pytest.mark.parametrize("year", ["2023", "2024"])
def test_real_sentinel1_mosaics_are_scenes_once_described(shared_data, tmp_path, year):
    folder = shared_data / "be_flanders_s1_s2" / year
    mosaics = sorted(folder.glob("s1-*/*.tif"))
    for path in mosaics:
        item(
            tmp_path / f"{path.stem}.json",
            datetime=f"{path.stem.split('_')[1]}T00:00:00Z",
            platform="sentinel-1a",
            unit="sigma0_linear",
            bands=[{"name": "VV"}, {"name": "VH"}],
            **{"sat:orbit_state": "ascending" if "asc" in path.stem else "descending"},
        )
    found = scan(folder, describe=tmp_path)
    assert len(found.scenes) == len(mosaics) == 4
    assert {(s.kind, s.unit, s.platform) for s in found.scenes} == {("bs", "sigma0_linear", "S1A")}
    assert {b.nodata for s in found.scenes for b in s.bands.values()} == {None}
    assert len({s.acquisition for s in found.scenes}) == 4
    assert all("s2-agri" in problem.what for problem in found.problems)


def test_integer_reflectance_is_asked_for_its_offset_and_then_used(shared_data, tmp_path):
    source = shared_data / "be_flanders_s1_s2/2024/s2-agri-weekly"
    path = tmp_path / "week11.tif"
    shutil.copy(next(source.glob("*03-11*_mean.tif")), path)
    known = {"datetime": "2024-03-11T00:00:00Z", "platform": "sentinel-2a"}
    item(tmp_path / "week11.json", **known)
    reason = why(scan(tmp_path))
    assert "BOA_ADD_OFFSET of B02/B03/B04/B08/B11/B12" in reason
    assert "raster:scale" in reason
    item(tmp_path / "week11.json", **known, **{"raster:offset": 0, "raster:scale": 0.0001})
    [scene] = scan(tmp_path).scenes
    assert (scene.unit, scene.scale, scene.bands["B11"].nodata) == ("dn", 0.0001, 65535)


@pytest.mark.parametrize("at", [f"{L2A}_{{}}_10m.jp2", f"{L2A}/T32TMT_{{}}_10m.jp2",
                                f"{L2A}.d/R10m/{{}}.tif", f"{L2A}/IMG/{{}}.tif"])  # fmt: skip
def test_one_file_per_band_is_one_scene_wherever_the_name_stands(tmp_path, at):
    for band in ("B04", "B08"):
        raster(tmp_path / at.format(band), dtype="uint16")
    assert "BOA_ADD_OFFSET of B04/B08" in why(scan(tmp_path))
    item(tmp_path / f"{L2A}.json", **DN)
    [scene] = scan(tmp_path).scenes
    assert scene.reference == L2A
    assert {n: b.offset for n, b in scene.bands.items()} == {"B04": -1000, "B08": -1000}


def test_the_finest_of_several_files_of_a_band_is_used(tmp_path):
    fine = raster(tmp_path / L2A / "B04_10m.tif")
    coarse = tmp_path / L2A / "A_B04_20m.tif"
    with rasterio.open(fine) as src:
        profile = src.profile | {"transform": rasterio.Affine(20, 0, 500000, 0, -20, 5200000)}
    with rasterio.open(coarse, "w", **profile) as out:
        out.write(np.ones((1, 4, 4), "float32"))
    [scene] = scan(tmp_path).scenes
    assert scene.bands["B04"].href == str(fine)


def test_bands_that_no_kind_has_are_left_out(tmp_path):
    raster(tmp_path / f"{L2A}.tif", ("B01", "B04", "AOT", "SCL"))
    [scene] = scan(tmp_path).scenes
    assert {name: band.index for name, band in scene.bands.items()} == {"B04": 2, "SCL": 4}


def test_a_scene_class_band_alone_is_no_scene(tmp_path):
    raster(tmp_path / f"{L2A}.tif", ("SCL",))
    assert "which band is which" in why(scan(tmp_path))


def test_card_bs_as_geotiff_is_gamma0_by_its_product_type(tmp_path):
    raster(tmp_path / f"{GRD}_CARD_BS/VV.tif")
    raster(tmp_path / f"{GRD}_CARD_BS/VH.tif")
    [scene] = scan(tmp_path).scenes
    assert (scene.reference, scene.unit) == (f"{GRD}_CARD_BS", "gamma0_linear")
    assert scene.acquisition == "S1A_042175"


def test_own_backscatter_from_a_grd_is_asked_for_its_unit(tmp_path):
    raster(tmp_path / f"{GRD}.tif", ("VV", "VH"))
    assert "unit of VV/VH" in why(scan(tmp_path))
    (tmp_path / f"{GRD}.tif").unlink()
    raster(tmp_path / f"{GRD}.tif", ("Sigma0_VV", "Sigma0_VH"))
    assert scan(tmp_path).scenes[0].unit == "sigma0_linear"


def test_coherence_bands_are_vv_and_vh_in_the_products_own_order(tmp_path):
    raster(tmp_path / COH / f"{COH}.tif", (None, None))
    [scene] = scan(tmp_path).scenes
    assert (scene.kind, scene.unit) == ("c12", "coherence")
    assert {name: band.index for name, band in scene.bands.items()} == {"VV": 1, "VH": 2}


def test_dimap_products_are_found_in_the_layout_of_the_archive(tmp_path):
    raster(tmp_path / f"{GRD}_CARD_BS" / f"{GRD}_CARD_BS.data" / "Gamma0_VV.img")
    (tmp_path / f"{GRD}_CARD_BS" / f"{GRD}_CARD_BS.dim").touch()
    found = scan(tmp_path)
    assert [scene.reference for scene in found.scenes] == [f"{GRD}_CARD_BS"]
    assert found.problems == ()


def test_snap_says_by_its_operators_whether_gamma0_is_flattened(tmp_path):
    home = tmp_path / f"{GRD}_CARD_BS"
    for band in ("Gamma0_VV", "Gamma0_VH_db"):
        raster(home / f"{GRD}_CARD_BS.data" / f"{band}.img")
    operators = ("Calibration", "Terrain-Flattening", "Terrain-Correction")
    nodes = "".join(
        f'<MDElem name="node.{n}"><MDATTR name="operator">{operator}</MDATTR></MDElem>'
        for n, operator in enumerate(operators)
    )
    header = home / f"{GRD}_CARD_BS.dim"
    header.write_text(f'<x><MDElem name="Processing_Graph">{nodes}</MDElem></x>')
    assert "units" in why(scan(tmp_path))
    (home / f"{GRD}_CARD_BS.data" / "Gamma0_VH_db.img").unlink()
    assert scan(tmp_path).scenes[0].unit == "gamma0_terrain_linear"
    header.write_text(header.read_text().replace("Terrain-Flattening", "Speckle-Filter"))
    assert scan(tmp_path).scenes[0].unit == "gamma0_linear"


def test_raw_products_and_archives_are_problems_with_a_reason(tmp_path):
    (tmp_path / f"{GRD}.SAFE/measurement").mkdir(parents=True)
    (tmp_path / f"{L2A}.SAFE.zip").touch()
    raster(tmp_path / f"{L2A.replace('L2A', 'L1C')}.tif")
    raster(tmp_path / f"{L2A.replace('L2A', 'L1C')}_B04.tif")
    reasons = {problem.why for problem in scan(tmp_path).problems}
    assert len(reasons) == 3
    for part in ("GRD is not analysis-ready", "unpack it", "Level-1C"):
        assert any(part in reason for reason in reasons)


def test_one_product_in_two_places_is_one_scene_and_a_problem(tmp_path):
    raster(tmp_path / "a" / f"{L2A}.tif", ("B04",))
    raster(tmp_path / "b" / f"{L2A}.tif", ("B04",))
    found = scan(tmp_path)
    assert len(found.scenes) == 1
    assert "found twice" in found.problems[0].why


def test_a_cog_twin_is_a_scene_of_its_own(tmp_path):
    raster(tmp_path / f"{L2A}.tif", ("B04",))
    raster(tmp_path / f"{L2A}_COG.tif", ("B04",))
    found = scan(tmp_path)
    assert [scene.reference for scene in found.scenes] == [L2A, f"{L2A}_COG"]
    assert len({scene.acquisition for scene in found.scenes}) == 1


def test_the_only_item_in_a_folder_describes_its_only_scene(tmp_path):
    raster(tmp_path / "may" / "B04.tif", dtype="uint16")
    item(tmp_path / "may" / "about.json", datetime="2022-05-01T10:00:00Z",
         platform="sentinel-2b", **DN)  # fmt: skip
    [scene] = scan(tmp_path).scenes
    assert (scene.reference, scene.platform) == ("about", "S2B")


def test_descriptions_in_a_folder_of_their_own_mirror_the_files(tmp_path):
    for month in ("may", "june"):
        raster(tmp_path / "data" / month / "B04.tif", dtype="uint16")
        item(tmp_path / "items" / month / f"{month}.json", {"red": {"href": "B04.tif"}},
             datetime=f"2022-0{5 + (month == 'june')}-01T10:00:00Z", platform="sentinel-2b",
             **DN)  # fmt: skip
    found = scan(tmp_path / "data", tmp_path / "items")
    assert [(s.reference, Path(s.bands["B04"].href).parent.name) for s in found.scenes] == [
        ("may", "may"),
        ("june", "june"),
    ]


def test_a_description_of_nothing_is_a_problem(tmp_path):
    raster(tmp_path / "data" / f"{L2A}.tif", ("B04",))
    item(tmp_path / "items" / "other.json", {"red": {"href": "https://example.org/B04.tif"}})
    found = scan(tmp_path / "data", tmp_path / "items")
    assert len(found.scenes) == 1
    assert "describes no file" in found.problems[0].why


def test_broken_files_are_problems_and_strangers_are_counted(tmp_path):
    raster(tmp_path / f"{L2A}.tif", ("B04",))
    (tmp_path / "broken.tif").write_bytes(b"II*\0 not a tiff")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "notes.json").write_text('{"type": "Collection"}')
    (tmp_path / "readme.txt").touch()
    found = scan(tmp_path)
    assert len(found.scenes) == 1
    assert {Path(problem.what).name for problem in found.problems} == {"broken.tif", "broken.json"}
    assert found.others == 2


def test_the_folder_may_be_a_product_itself(tmp_path):
    folder = tmp_path / f"{GRD}_CARD_BS"
    raster(folder / "VV.tif")
    assert [scene.reference for scene in scan(folder).scenes] == [f"{GRD}_CARD_BS"]


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(CallerError, match="is not a folder"):
        scan(tmp_path / "gone")
    with pytest.raises(CallerError, match="is not a folder"):
        scan(tmp_path, tmp_path / "gone")


def test_relative_folders_give_absolute_paths(tmp_path, monkeypatch):
    raster(tmp_path / "data" / f"{L2A}.tif", ("B04",))
    monkeypatch.chdir(tmp_path)
    [scene] = scan(Path("data")).scenes
    assert scene.bands["B04"].href == str(tmp_path / "data" / f"{L2A}.tif")
