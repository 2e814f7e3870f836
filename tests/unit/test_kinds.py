"""The table of CARD kinds: consistent in itself, and the one definition of a clear date."""

import json
from pathlib import Path

import pytest

from store import kinds
from store.kinds import CLEAR_CLASSES, CLEAR_SHARE, KINDS, SCENE_CLASSES, SCL, clear_share
from store.units import UNITS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_names_units_and_bands_that_exist(kind):
    assert set(kind.units) <= UNITS.keys()
    assert {unit for unit in kind.levels.values() if unit} <= set(kind.units)
    assert {band for each in kind.composites for band in each.bands} <= set(kind.layers)
    assert {len(each.bands) for each in kind.composites} <= {1, 3}


def test_levels_tstypes_and_stac_types_lead_to_one_kind_each():
    for attribute in ("levels", "source_levels", "tstypes", "stac_types", "jrc_levels"):
        names = [name for kind in KINDS.values() for name in getattr(kind, attribute)]
        assert len(names) == len(set(names)), attribute
    assert kinds.kind_of_level("GRD").name == "bs"
    assert "c1" in KINDS["c12"].tstypes
    assert not any("scl" in kind.tstypes for kind in KINDS.values())


def test_decibels_are_the_logarithm_of_a_unit_of_the_table():
    for unit in UNITS.values():
        assert unit.minimum < unit.maximum
        assert unit.fill is None or unit.minimum <= unit.fill <= unit.maximum
        assert unit.in_decibels is None or unit.in_decibels in UNITS


def test_stac_names_and_band_names_lead_to_bands():
    names = kinds.bands_by_stac_name()
    assert {"red": "B04", "nir08": "B8A", "b8a": "B8A", "scl": SCL, "vv": "VV"}.items() <= (
        names.items()
    )


def test_snow_cloud_and_shadow_are_not_clear():
    assert [each.value for each in SCENE_CLASSES] == list(range(12))
    assert CLEAR_CLASSES == (2, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("histogram", "share"),
    [
        ({"4": 90, "9": 10}, 0.9),
        ({4: 1, 11: 1}, 0.5),
        ({"8": 7}, 0.0),
        ({}, None),
        (None, None),
    ],
)
def test_the_clear_share_of_a_histogram(histogram, share):
    assert clear_share(histogram) == share


def test_the_notebooks_have_the_same_classes_and_share():
    path = ROOT / "roles/jupyterhub/files/notebooks/2_ndvi.ipynb"
    source = "".join(json.loads(path.read_text())["cells"][1]["source"])
    assert f"GROUND = {json.dumps([str(value) for value in CLEAR_CLASSES])}\n" in source
    assert f"CLEAR_SHARE = {CLEAR_SHARE}\n" in source
