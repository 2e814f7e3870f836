"""Sources of a demo: a missing option is named, and two sources never mix."""

from pathlib import Path
from typing import Any

import pytest

from standalone.programs import DemoError
from standalone.sources import DemoOptions, choose_source, remember

HERE = Path(__file__)
STAC = {
    "stac": "http://127.0.0.1:9",
    "collection": "s2",
    "bbox": "-9.5,38,-9,39",
    "start": "2024-03-01",
    "end": "2024-03-31",
}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data": Path("/nowhere"), "parcels": HERE}, "DATA=/nowhere is not a folder"),
        ({"data": HERE.parent}, "add PARCELS=FILE"),
        ({"data": HERE.parent, "parcels": Path("/no.shp")}, "PARCELS=/no.shp is not there"),
        (
            {"data": HERE.parent, "parcels": HERE, "describe": HERE},
            "is not a folder",
        ),
        ({"parcels": HERE}, "PARCELS= needs scenes"),
        ({"stac": "http://x"}, "STAC= needs COLLECTION=, BBOX=, START=, END= as well"),
        ({**STAC}, "add PARCELS=FILE"),
        ({**STAC, "data": HERE.parent}, "exclude one another"),
    ],
)
def test_a_missing_option_is_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DemoError, match=sentence):
        choose_source(DemoOptions(**options), Path("/demo"))


def test_without_options_it_is_a_synthetic_state_in_the_demos_folder() -> None:
    source = choose_source(DemoOptions(), Path("/demo"))
    assert source.prepare[1:3] == ("synthesize", "/demo/data")
    assert source.parcels == Path("/demo/data/parcels.gpkg")
    assert (source.aoi, source.year) == ("demo", None)


def test_columns_of_a_parcel_file_reach_the_import() -> None:
    options = DemoOptions(data=HERE.parent, parcels=HERE, id_column="GIS_ID", crop_column="NUTZUNG")
    source = choose_source(options, Path("/demo"))
    assert (source.id_column, source.crop_column) == ("GIS_ID", "NUTZUNG")
    assert source.crop_code_column is None


def test_bbox_in_the_west_is_not_taken_for_an_option() -> None:
    source = choose_source(DemoOptions(**STAC, parcels=HERE), Path("/demo"))
    assert "--bbox=-9.5,38,-9,39" in source.register


def test_same_source_with_another_column_goes_on(tmp_path: Path) -> None:
    remember(tmp_path, choose_source(DemoOptions(data=HERE.parent, parcels=HERE), tmp_path))
    remember(
        tmp_path,
        choose_source(DemoOptions(data=HERE.parent, parcels=HERE, id_column="x"), tmp_path),
    )


def test_another_source_is_refused_with_what_to_do(tmp_path: Path) -> None:
    remember(tmp_path, choose_source(DemoOptions(), tmp_path))
    with pytest.raises(DemoError, match=r"synthetic Member State.*make demo-clean"):
        remember(tmp_path, choose_source(DemoOptions(data=HERE.parent, parcels=HERE), tmp_path))
