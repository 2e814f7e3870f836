"""Level-1 products of Sentinel-1: real manifests, and what no CARD is made from."""

import json
import re
import zipfile
from datetime import UTC, datetime

import pytest
import shapely

from card.find import folder, level1
from card.find.tile import tile_corner, tile_footprint
from store import products
from store.errors import SceneError

SLC = "S1A_IW_SLC__1SDV_20230904T063730_20230904T063757_050174_0609E3_DAA1"


def unpacked(shared_data, into, name: str):
    """A real product without its measurements."""
    path = next((shared_data / "s1_metadata").glob(f"{name}*.zip"))
    zipfile.ZipFile(path).extractall(into)
    return next(into.glob("*.SAFE"))


def test_a_manifest_says_more_than_the_name(shared_data, tmp_path):
    made = level1.read(unpacked(shared_data, tmp_path, SLC))
    assert (made.reference, made.level, made.platform) == (SLC, "SLC", "S1A")
    assert made.sensing_start == datetime(2023, 9, 4, 6, 37, 30, 213065, UTC)
    assert (made.orbit_number, made.relative_orbit) == (50174, 52)
    assert made.orbit_direction == "descending"
    west, _, _, north = shapely.from_wkt(made.footprint_wkt).bounds
    assert (west, north) == pytest.approx((-10.860316, 32.194736))
    assert made.href == str(tmp_path / f"{SLC}.SAFE")


def test_every_real_product_is_an_input_or_refused_with_the_reason(shared_data, tmp_path):
    paths = list((shared_data / "s1_metadata").glob("*.zip"))
    for path in paths:
        zipfile.ZipFile(path).extractall(tmp_path)
    found = folder.scan(tmp_path)
    assert len(found.inputs) == len(paths) - 1
    assert {one.level for one in found.inputs} == {"GRD", "SLC"}
    [problem] = found.problems
    assert "mode EW; CARD is made from IW products" in problem.why
    by_name = {one.reference: one for one in found.inputs}
    for one in found.inputs:  # the name's relative orbit, reckoned, is the manifest's
        assert products.parse(one.reference).relative_orbit == one.relative_orbit
    assert by_name[SLC].relative_orbit == 52


@pytest.mark.parametrize(
    "manifest", [b"", b"<a>", b"<a/>", b"\xff\xfe", b"<a><startTime>x</startTime></a>"]
)
def test_a_broken_manifest_is_a_scene_error(manifest):
    with pytest.raises(SceneError, match="not a Level-1 manifest"):
        level1.of_manifest(products.parse(SLC), "s3://x", manifest)


@pytest.mark.parametrize("letters", ["HH", "DH", "SH", "HV", "VH"])
def test_polarisations_without_vv_are_refused(letters):
    with pytest.raises(SceneError, match=f"polarisation {letters}"):
        level1.refuse_unfit(products.parse(SLC.replace("1SDV", f"1S{letters}")))


def test_a_tile_begins_where_real_metadata_say(shared_data):
    paths = [*(shared_data / "s2_metadata").rglob("MTD_TL.xml"),
             *(shared_data / "s2_metadata").rglob("metadata.xml"),
             *(shared_data / "s2_l2a_products_120m").rglob("granule_metadata.xml")]  # fmt: skip
    checked = set()
    for path in paths:
        text = path.read_text()
        tile = re.search(r"_T(\d\d[A-Z]{3})_", text)[1]
        epsg, x, y = (
            int(re.search(rf"<{tag}>(?:EPSG:)?(\d+)<", text)[1])
            for tag in ("HORIZONTAL_CS_CODE", "ULX", "ULY")
        )
        assert tile_corner(tile) == (epsg, x, y)
        checked.add(tile)
    assert checked >= {"01KAB", "07HFE", "33XWJ", "33TWM"}


def test_every_recorded_tile_holds_its_footprint(shared_data):
    page = json.loads((shared_data / "catalogue/earthsearch_paging/page1.json").read_text())
    for item in page["response"]["features"]:
        outline = tile_footprint(item["properties"]["grid:code"].removeprefix("MGRS-"))
        assert outline.buffer(0.02).contains(shapely.from_geojson(json.dumps(item["geometry"])))


@pytest.mark.parametrize("tile", ["00AAA", "61TMT", "32IMT", "32TAT", "32TMW"])
def test_a_name_outside_the_grid_has_no_outline(tile):
    assert tile_footprint(tile) is None
