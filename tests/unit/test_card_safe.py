"""SAFE and BEAM-DIMAP products: what their own metadata say becomes the scene."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from card.find import dimap, safe
from store.catalogue import BandSource
from store.errors import MissingFactError, ProductNameError, SceneError
from tests.unit.safe_folders import IMAGES, N0400, safe_folder

N0212 = "S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857"
N0509 = "S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825"
BS = "S1A_IW_GRDH_1SDV_20220305T053012_20220305T053037_042175_05066C_1A2B_CARD_BS"


def raster(path: Path, driver: str, dtype: str = "uint16", epsg: int = 32633) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver=driver, width=4, height=4, count=1, dtype=dtype, crs=f"EPSG:{epsg}",
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 5200000),
    ) as out:  # fmt: skip
        out.write(np.ones((1, 4, 4), dtype))
    return path


def test_offsets_and_scale_come_from_the_metadata(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    scene = safe.read(safe_folder(metadata, tmp_path, N0400, IMAGES))
    assert (scene.reference, scene.kind, scene.unit, scene.scale) == (N0400, "s2", "dn", 0.0001)
    assert set(scene.bands) == {"B04", "B05", "B8A", "SCL"}
    assert scene.bands["B04"].offset == scene.bands["B8A"].offset == -1000
    assert scene.bands["B04"].nodata == 0
    assert (scene.bands["SCL"].offset, scene.bands["SCL"].nodata) == (0, None)
    assert (scene.baseline, scene.orbit_direction) == ("04.00", "ascending")
    assert scene.cloud_cover_pct == pytest.approx(98.944211)
    assert scene.epsg == 32633


def test_a_product_without_offsets_has_none(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0212}.SAFE"
    scene = safe.read(safe_folder(metadata, tmp_path, N0212, IMAGES))
    assert {band.offset for band in scene.bands.values()} == {0}
    assert scene.epsg == 32707


def test_offsets_follow_the_band_ids_and_not_the_date(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    folder = safe_folder(metadata, tmp_path, N0400, IMAGES)
    xml = folder / safe.METADATA
    text = xml.read_text()
    text = text.replace('"3">-1000', '"3">-700').replace('"8">-1000', '"8">-800')
    xml.write_text(text)
    bands = safe.read(folder).bands
    assert [bands[b].offset for b in ("B04", "B05", "B8A")] == [-700, -1000, -800]


def test_the_finest_image_of_a_band_is_used(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    scene = safe.read(safe_folder(metadata, tmp_path, N0400, IMAGES))
    assert scene.bands["B04"].href.endswith("R10m/T_B04_10m.jp2")
    assert scene.bands["SCL"].href.endswith("R20m/T_SCL_20m.jp2")
    assert all(Path(band.href).is_absolute() for band in scene.bands.values())


def test_a_footprint_across_the_antimeridian_is_cut_there(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0509}.SAFE"
    scene = safe.read(safe_folder(metadata, tmp_path, N0509, IMAGES))
    parts = shapely.get_parts(shapely.from_wkt(scene.footprint_wkt))
    east, west = sorted(part.bounds for part in parts)
    assert (east[0], east[2]) == (-180, pytest.approx(-179.71545))
    assert (west[0], west[2]) == (pytest.approx(179.23921, abs=1e-5), 180)


def test_metadata_without_an_outline_leave_it_to_the_raster(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    folder = safe_folder(metadata, tmp_path, N0400, IMAGES)
    xml = folder / safe.METADATA
    xml.write_text(xml.read_text().replace("EXT_POS_LIST", "OTHER_LIST"))
    west, south, east, north = shapely.from_wkt(safe.read(folder).footprint_wkt).bounds
    assert (west, south, east, north) == pytest.approx((15, 79.14, 20.74, 80.17), abs=0.01)


def test_a_cog_twin_keeps_its_name_and_shares_the_acquisition(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    twin = safe.read(safe_folder(metadata, tmp_path, f"{N0400}_COG", IMAGES))
    original = safe.read(safe_folder(metadata, tmp_path, N0400, IMAGES))
    assert twin.reference == f"{N0400}_COG"
    assert twin.acquisition == original.acquisition == "S2B_20220413T150759_R025"


def test_a_renamed_folder_is_known_by_its_metadata(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    assert safe.read(safe_folder(metadata, tmp_path, "april", IMAGES)).reference == N0400


def test_a_product_without_images_is_refused(shared_data):
    with pytest.raises(SceneError, match="no image in GRANULE"):
        safe.read(shared_data / "s2_metadata" / f"{N0400}.SAFE")


def test_broken_metadata_are_refused(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    folder = safe_folder(metadata, tmp_path, N0400, IMAGES)
    (folder / safe.METADATA).write_text("<n1:Level-2A_User_Product")
    with pytest.raises(SceneError, match=r"MTD_MSIL2A\.xml: not readable XML"):
        safe.read(folder)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        (N0400, MissingFactError, r"MTD_MSIL2A\.xml is missing"),
        (N0400.replace("L2A", "L1C"), ProductNameError, "Level-1C"),
        (BS.removesuffix("_CARD_BS"), ProductNameError, "GRD is not analysis-ready.*CARD-BS"),
        ("holiday", ProductNameError, "not a known product name"),
    ],
)
def test_other_safe_folders_are_refused_with_the_reason(tmp_path, name, error, says):
    folder = tmp_path / f"{name}.SAFE"
    folder.mkdir()
    with pytest.raises(error, match=says):
        safe.read(folder)


def test_a_dimap_product_is_gamma0_by_its_band_names(tmp_path):
    data = tmp_path / BS / f"{BS}.data"
    for band in ("VV", "VH"):
        raster(data / f"Gamma0_{band}.img", "ENVI", "float32", 32632)
    (data / "tie_point_grids").mkdir()
    scene = dimap.read(data)
    assert (scene.reference, scene.kind, scene.unit, scene.scale) == (
        BS,
        "bs",
        "gamma0_linear",
        None,
    )
    assert scene.bands["VH"] == BandSource(str(data / "Gamma0_VH.img"), 1, 0.0, 0.0)
    assert (scene.acquisition, scene.epsg) == ("S1A_042175", 32632)


def test_a_dimap_band_in_decibel_says_so(tmp_path):
    data = tmp_path / f"{BS}.data"
    raster(data / "Sigma0_VV_db.img", "ENVI", "float32")
    scene = dimap.read(data)
    assert (scene.unit, set(scene.bands)) == ("sigma0_db", {"VV"})
    assert scene.bands["VV"].nodata is None


def test_snaps_automatic_utm_has_an_epsg_code(tmp_path):
    data = tmp_path / f"{BS}.data"
    image = raster(data / "Gamma0_VV.img", "ENVI", "float32", 32632)
    header = image.with_suffix(".hdr")
    lines = [x for x in header.read_text().splitlines() if "coordinate system" not in x]
    wkt = (
        'PROJCS["WGS 84 / Auto UTM",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,'
        '298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
        'PROJECTION["Transverse_Mercator"],PARAMETER["central_meridian",9],'
        'PARAMETER["latitude_of_origin",0],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["m",1]]'
    )
    header.write_text("\n".join([*lines, f"coordinate system string = {{{wkt}}}", ""]))
    assert dimap.read(data).epsg == 32632


def test_a_dimap_product_without_images_or_name_is_refused(tmp_path):
    (tmp_path / f"{BS}.data").mkdir()
    with pytest.raises(SceneError, match=r"no \.img of VV or VH"):
        dimap.read(tmp_path / f"{BS}.data")
    (tmp_path / "x.data").mkdir()
    with pytest.raises(ProductNameError, match="no product name"):
        dimap.read(tmp_path / "x.data")


# Written otherwise than ESA does, or damaged


def test_metadata_are_found_whatever_the_case_of_their_names(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    folder = safe_folder(metadata, tmp_path, N0400, IMAGES)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
    lower = folder.rename(tmp_path / f"{N0400}.safe")
    scene = safe.read(lower)
    assert (scene.reference, scene.epsg) == (N0400, 32633)
    assert set(scene.bands) == {"B04", "B05", "B8A", "SCL"}


def test_an_outline_with_heights_is_the_same_outline(shared_data, tmp_path):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    flat = safe.read(safe_folder(metadata, tmp_path / "flat", N0400, IMAGES))
    folder = safe_folder(metadata, tmp_path / "high", N0400, IMAGES)
    xml = folder / safe.METADATA
    text = xml.read_text()
    numbers = re.search(r"<EXT_POS_LIST>([^<]*)<", text)[1].split()
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    high = " ".join(f"{lat} {lon} 123.5" for lat, lon in pairs)
    xml.write_text(re.sub(r"<EXT_POS_LIST>[^<]*<", f"<EXT_POS_LIST>{high}<", text))
    assert safe.read(folder).footprint_wkt == flat.footprint_wkt


@pytest.mark.parametrize("ring", ["119 -15 118 -15 118 -14 119 -15", "0 0 1 0 1 1 0 0",
                                  "nan nan nan nan nan nan nan nan", "1 2"])  # fmt: skip
def test_an_outline_that_cannot_be_is_taken_from_the_images(shared_data, tmp_path, ring):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    folder = safe_folder(metadata, tmp_path, N0400, IMAGES)
    xml = folder / safe.METADATA
    xml.write_text(re.sub(r"<EXT_POS_LIST>[^<]*<", f"<EXT_POS_LIST>{ring}<", xml.read_text()))
    outline = shapely.from_wkt(safe.read(folder).footprint_wkt)
    assert outline.contains(shapely.Point(17.5, 79.6))


@pytest.mark.parametrize("gone", ['<BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET>', "all"])
def test_an_offset_that_is_gone_is_asked_for_and_not_taken_for_zero(shared_data, tmp_path, gone):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    folder = safe_folder(metadata, tmp_path, N0400, IMAGES)
    xml = folder / safe.METADATA
    every = re.findall("<BOA_ADD_OFFSET .*?</BOA_ADD_OFFSET>", xml.read_text())
    text = xml.read_text()
    for element in every if gone == "all" else [gone]:
        assert element in text
        text = text.replace(element, "")
    xml.write_text(text)
    with pytest.raises(MissingFactError, match="BOA_ADD_OFFSET of B04"):
        safe.read(folder)


@pytest.mark.parametrize(("old", "new"), [
    ('"3">-1000', '"3">minus'), ('band_id="3"', 'band_id="33"'), ('band_id="3"', 'band_id="-1"'),
    ('unit="none">10000', 'unit="none">0'), ('unit="none">10000', 'unit="none">nan'),
])  # fmt: skip
def test_metadata_that_make_no_sense_are_the_scenes_fault(shared_data, tmp_path, old, new):
    metadata = shared_data / "s2_metadata" / f"{N0400}.SAFE"
    folder = safe_folder(metadata, tmp_path, N0400, IMAGES)
    xml = folder / safe.METADATA
    assert old in xml.read_text()
    xml.write_text(xml.read_text().replace(old, new))
    with pytest.raises(SceneError):
        safe.read(folder)


def test_snaps_header_states_no_data_scale_and_offset(tmp_path):
    data = tmp_path / f"{BS}.data"
    raster(data / "Gamma0_VV.img", "ENVI", "float32")
    (tmp_path / f"{BS}.dim").write_text(
        "<Dimap_Document><Spectral_Band_Info><BAND_NAME>Gamma0_VV</BAND_NAME>"
        "<SCALING_FACTOR>0.5</SCALING_FACTOR><SCALING_OFFSET>0.25</SCALING_OFFSET>"
        "<NO_DATA_VALUE_USED>true</NO_DATA_VALUE_USED><NO_DATA_VALUE>-1.0</NO_DATA_VALUE>"
        "</Spectral_Band_Info></Dimap_Document>"
    )
    band = dimap.read(data).bands["VV"]
    assert (band.offset, band.factor, band.nodata, band.nodata_stated) == (0.5, 0.5, -1.0, True)
