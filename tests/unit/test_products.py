"""Product names: what they say, where the products lie, which of them are one overpass."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store import products
from store.errors import ProductNameError

L2A = "S2A_MSIL2A_20230815T095031_N0509_R079_T33TWL_20230815T155057"
GRD = "S1A_IW_GRDH_1SDV_20240820T003107_20240820T003132_055289_06BD9B_5392"
BS = "S1A_IW_GRDH_1SSH_20141030T050838_20141030T050903_003054_0037DF_0750_CARD_BS"
SLC = "S1A_IW_SLC__1SDV_20141012T232927_20141012T232957_002803_003287_0018"
COH = "S1A_20141023T025837__1A__20141018T025020_20141018T025048_CARD-COH6"


def test_an_s2_name_says_all_it_holds():
    product = products.parse(f"{L2A}.SAFE")
    assert product == products.Product(
        reference=L2A,
        kind="s2",
        level="L2A",
        platform="S2A",
        sensing_start=datetime(2023, 8, 15, 9, 50, 31, tzinfo=UTC),
        product_type="L2A",
        discriminator="20230815T155057",
        acquisition="S2A_20230815T095031_R079",
        baseline="05.09",
        relative_orbit=79,
        tile="33TWL",
        produced_at=datetime(2023, 8, 15, 15, 50, 57, tzinfo=UTC),
    )


def test_an_s1_card_name_says_all_it_holds():
    product = products.parse(BS)
    assert (product.kind, product.level, product.is_card) == ("bs", "CARD-BS", True)
    assert (product.platform, product.orbit_number, product.relative_orbit) == ("S1A", 3054, 7)
    assert (product.acquisition, product.discriminator) == ("S1A_003054", "0750")


@pytest.mark.parametrize(("days", "kind"), [("1", "c1d"), ("6", "c6"), ("12", "c12")])
def test_coherence_names_tell_their_days(days, kind):
    product = products.parse(COH.replace("COH6", f"COH{days}"))
    assert (product.kind, product.level) == (kind, f"CARD-COH{days}")
    assert product.sensing_start == datetime(2014, 10, 23, 2, 58, 37, tzinfo=UTC)


def test_a_grd_is_recognised_as_raw():
    product = products.parse(f"/eodata/Sentinel-1/SAR/GRD/2024/08/20/{GRD}.SAFE")
    assert (product.reference, product.kind, product.is_card) == (GRD, "bs", False)


@pytest.mark.parametrize("platform", ["S2A", "S2B", "S2C", "S2D"])
def test_every_sentinel2_is_known(platform):
    assert products.parse(L2A.replace("S2A", platform, 1)).platform == platform


@pytest.mark.parametrize("platform", ["S1A", "S1B", "S1C", "S1D"])
def test_every_sentinel1_is_known(platform):
    assert products.parse(GRD.replace("S1A", platform, 1)).platform == platform


@pytest.mark.parametrize("name", [L2A, GRD])
def test_a_cog_twin_is_another_scene_of_the_same_acquisition(name):
    twin, original = products.parse(f"{name}_COG.SAFE"), products.parse(f"{name}.SAFE")
    assert twin.cog
    assert twin.reference == f"{name}_COG"
    assert original.reference == name
    assert twin.acquisition == original.acquisition


def test_tiles_and_reprocessings_of_one_overpass_share_its_acquisition():
    names = [
        "S2A_MSIL2A_20200305T103021_N0500_R108_T32TMT_20230630T022413.SAFE",
        "S2A_MSIL2A_20200305T103021_N0214_R108_T32TNT_20200305T132101.SAFE",
    ]
    assert {products.parse(name).acquisition for name in names} == {"S2A_20200305T103021_R108"}


def test_slices_of_one_pass_share_its_acquisition(shared_data):
    names = [p.stem for p in (shared_data / "s1_metadata").glob("*_20150222T*.zip")]
    assert len(names) == 2
    assert {products.parse(name).acquisition for name in names} == {"S1A_004739"}


def test_a_name_is_found_inside_a_file_name():
    product = products.find(f"{L2A}_SRF")
    assert product is not None
    assert product.reference == L2A
    assert products.find("s2-agri_2023-03-13_mean") is None
    assert products.find(f"x{L2A}") is None


@pytest.mark.parametrize(
    "name",
    ["", "nonsense", "S2E" + L2A[3:], L2A[:-1], f"{L2A}_SRF", L2A.replace("T33TWL", "T3TWL")],
)
def test_an_unknown_name_is_refused_with_what_was_expected(name):
    with pytest.raises(ProductNameError, match="expected an S2A-D MSIL2A"):
        products.parse(name)


def test_an_slc_is_an_input():
    product = products.parse(f"{SLC}.SAFE")
    assert (product.level, product.product_type, product.is_card) == ("SLC", "IW_SLC__1S", False)
    assert product.sensing_stop == datetime(2014, 10, 12, 23, 29, 57, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (L2A.replace("L2A", "L1C"), r"Level-1C.*get its MSIL2A"),
        (SLC.replace("SLC_", "OCN_"), "OCN.*get its GRD or SLC"),
        (SLC.replace("SLC_", "RAW_"), "RAW.*get its GRD or SLC"),
    ],
)
def test_levels_that_lead_to_no_card_are_refused(name, reason):
    with pytest.raises(ProductNameError, match=reason):
        products.parse(name)


@pytest.mark.parametrize(
    ("platform", "day", "orbit", "relative"),
    [
        ("S1A", "20260101", 62567, 20),
        ("S1C", "20260101", 5702, 106),
        ("S1C", "20260623", 8271, 50),  # (8271 - 172) mod 175 + 1
        ("S1C", "20260624", 8286, 138),  # (8286 - 99) mod 175 + 1
        ("S1D", "20260624", 3192, 1),
        ("S1D", "20260623", 3191, 175),
    ],
)
def test_relative_orbits_follow_the_satellites_manoeuvres(platform, day, orbit, relative):
    name = f"{platform}_IW_GRDH_1SDV_{day}T001052_{day}T001117_{orbit:06}_00B654_ABF9"
    assert products.parse(name).relative_orbit == relative


def test_a_date_that_does_not_exist_is_refused():
    with pytest.raises(ProductNameError, match="20231315T095031"):
        products.parse(L2A.replace("20230815T095031", "20231315T095031"))


def test_keys_of_both_archive_layouts():
    def prefixes(name):
        return products.key_prefixes(products.parse(name))

    assert prefixes(L2A) == (f"Sentinel-2/MSI/L2A/2023/08/15/{L2A}.SAFE/",)
    reprocessed = "S2A_MSIL2A_20200703T103031_N0500_R108_T32TMT_20230613T212700"
    assert prefixes(reprocessed) == (
        f"Sentinel-2/MSI/L2A_N0500/2020/07/03/{reprocessed}.SAFE/",
        f"Sentinel-2/MSI/L2A/2020/07/03/{reprocessed}.SAFE/",
    )
    assert prefixes(GRD) == (
        f"Sentinel-1/SAR/IW_GRDH_1S/2024/08/20/{GRD}.SAFE/",
        f"Sentinel-1/SAR/GRD/2024/08/20/{GRD}.SAFE/",
    )
    assert prefixes(SLC) == (
        f"Sentinel-1/SAR/IW_SLC__1S/2014/10/12/{SLC}.SAFE/",
        f"Sentinel-1/SAR/SLC/2014/10/12/{SLC}.SAFE/",
    )
    assert prefixes(f"{GRD}_COG") == (f"Sentinel-1/SAR/IW_GRDH_1S-COG/2024/08/20/{GRD}_COG.SAFE/",)
    assert prefixes(BS) == (f"Sentinel-1/SAR/CARD-BS/2014/10/30/{BS}/",)
    assert prefixes(COH) == (f"Sentinel-1/SAR/CARD-COH6/2014/10/23/{COH}/",)


def _recorded_paths(catalogue: Path) -> set[str]:
    text = "".join(path.read_text() for path in catalogue.rglob("*.json"))
    found = re.findall(r"/eodata/(Sentinel-[12]/(?:MSI|SAR)/[\w-]+/\d{4}/\d\d/\d\d/[\w.-]+)", text)
    return {path.removesuffix(".zip") for path in found}


def test_every_recorded_product_is_known_and_lies_where_its_name_says(shared_data):
    paths = _recorded_paths(shared_data / "catalogue")
    known = [path for path in paths if "L1C" not in path]
    assert len(known) > 30
    for path in known:
        product = products.parse(path)
        assert any(f"{path}/" == prefix for prefix in products.key_prefixes(product)), path
    for path in paths - set(known):
        with pytest.raises(ProductNameError, match="not analysis-ready"):
            products.parse(path)


def test_relative_orbits_follow_from_absolute_ones(shared_data):
    checked = set()
    for path in (shared_data / "catalogue/cdse_odata").glob("*.json"):
        for entry in json.loads(path.read_text())["value"]:
            listed = {a["Name"]: a["Value"] for a in entry["Attributes"]}
            product = products.parse(entry["Name"])
            assert product.orbit_number == listed["orbitNumber"]
            assert product.relative_orbit == listed["relativeOrbitNumber"]
            checked.add(product.platform)
    assert checked >= {"S1A", "S1C"}


def test_baselines_and_tiles_agree_with_the_items_that_state_them(shared_data):
    items = [
        json.loads(p.read_text())
        for p in (shared_data / "catalogue/earthsearch_items_baselines").glob("*.json")
    ]
    assert len(items) == 6
    for properties in (item["properties"] for item in items):
        product = products.parse(properties["s2:product_uri"])
        assert product.baseline == properties["s2:processing_baseline"]
        assert f"MGRS-{product.tile}" == properties["grid:code"]


def test_names_of_safe_folders_are_known(shared_data):
    folders = list((shared_data / "s2_metadata").glob("*.SAFE"))
    assert {products.parse(f.name).baseline for f in folders} == {"02.12", "04.00", "05.09"}
