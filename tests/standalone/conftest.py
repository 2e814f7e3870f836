"""Demos for the tests of one module each, which may stop and kill them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standalone.demo import PARCELS, Demo, new_demo


@pytest.fixture(scope="module")
def synthetic() -> Iterator[Demo]:
    for demo in new_demo():
        yield demo.up(f"--synthetic-parcels={PARCELS}")


@pytest.fixture(scope="module")
def strickhof(shared_data: Path) -> Iterator[Demo]:
    place = shared_data / "ch_strickhof_s2_2022"
    for demo in new_demo():
        yield demo.up(
            f"--data={place / 's2'}",
            f"--parcels={place / 'parcels' / 'ZH_Polygons_2020_ESCH_EPSG32632.shp'}",
            "--id=GIS_ID",
        )
