"""What card's readers find in the synthetic Member State, product by product."""

from collections import Counter

import pytest

from card.find import folder
from standalone.synthetic import state


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("state")
    state.make_state(place, parcels=60)
    return folder.scan(place / state.SCENES_FOLDER)


def test_every_synthetic_product_becomes_a_scene(found):
    assert not found.problems
    assert Counter(scene.kind for scene in found.scenes) == {"s2": 32, "bs": 8}


def test_offsets_follow_the_products_own_metadata(found):
    offsets = {
        (scene.baseline, scene.bands["B04"].offset) for scene in found.scenes if scene.kind == "s2"
    }
    assert offsets == {("03.01", 0.0), ("05.10", -1000.0), ("05.11", -1000.0)}


def test_radar_scenes_of_both_layouts_know_unit_and_orbit_direction(found):
    radar = [scene for scene in found.scenes if scene.kind == "bs"]
    assert {scene.unit for scene in radar} == {"gamma0_terrain_linear"}
    assert {
        (scene.bands["VV"].href.rsplit(".", 1)[1], scene.orbit_direction) for scene in radar
    } == {
        ("img", "ascending"), ("img", "descending"), ("tif", "ascending"), ("tif", "descending"),
    }  # fmt: skip


def test_tiles_of_one_overpass_share_their_acquisition(found):
    tiles = {}
    for scene in found.scenes:
        if scene.kind == "s2":
            tiles.setdefault(scene.acquisition, set()).add(scene.tile)
    assert set(map(frozenset, tiles.values())) == {frozenset({"32TMT", "32TNT"})}
