"""Level-1 products of the synthetic Member State show its crops, beside its scenes."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from standalone.synthetic import level1
from standalone.synthetic.crops import S1_BANDS, backscatter
from standalone.synthetic.landscape import Landscape, landscape
from standalone.synthetic.state import ground_of, make_state, parcels_of
from store import products

COUNT = 60
SEED = 3


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("level1")
    make_state(folder, seed=SEED, parcels=COUNT, level1=True)
    return folder


@pytest.fixture(scope="module")
def land() -> Landscape:
    return landscape(parcels_of(SEED, COUNT), ground_of(COUNT).whole, SEED)


def test_two_detected_scenes_a_pair_their_orbits_and_a_dem(state: Path) -> None:
    homes = sorted(home.name for home in (state / "level1").glob("*.SAFE"))
    kinds = [name[7:11] for name in homes]
    assert kinds == ["GRDH", "GRDH", "SLC_", "SLC_"]
    assert [products.parse(name).relative_orbit for name in homes[:2]] == [15, 66]
    days = [datetime.strptime(name[17:25], "%Y%m%d").replace(tzinfo=UTC) for name in homes[2:]]
    assert (days[1] - days[0]).days == 12
    # The pair's first pass is that of a detected scene.
    assert len(list((state / "level1" / "orbits").glob("*.EOF"))) == 3
    assert not list((state / "scenes").rglob("measurement"))
    with rasterio.open(state / "dem" / "dem.tif") as src:
        assert src.tags()["VERTICAL_DATUM"] == "ellipsoid"
        bounds, whole = src.bounds, ground_of(COUNT).whole.bounds_m
        assert bounds.left < whole[0] < whole[2] < bounds.right
        assert bounds.bottom < whole[1] < whole[3] < bounds.top


def test_level1_is_made_only_where_wanted_and_only_once(state: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    make_state(
        state, seed=SEED, parcels=COUNT, level1=True, progress=lambda *step: steps.append(step)
    )
    assert steps == [(1, 1, "nothing to make")]


def test_a_state_made_again_without_level1_has_none_left(tmp_path: Path) -> None:
    for part in (level1.FOLDER, level1.DEM_FOLDER):
        (tmp_path / part).mkdir()
    (tmp_path / "state.json").write_text('{"seed": 1, "parcels": 1, "level1": true}')
    make_state(tmp_path, seed=1, parcels=2)
    assert not (tmp_path / level1.FOLDER).exists()
    assert not (tmp_path / level1.DEM_FOLDER).exists()


def test_fields_show_their_crop(land: Landscape) -> None:
    scene = level1.GRD_SCENES[0]
    fields = level1._gamma0(land, scene)
    day = scene.start.timetuple().tm_yday
    rows, cols = np.array([3, 20, 41]), np.array([7, 50, 90])
    east = land.grid.west_m + 10.0 * cols + 4
    north = land.grid.north_m - 10.0 * rows - 6
    levels = 10 ** (land.by_label(backscatter, day) / 10)
    for i, band in enumerate(S1_BANDS):
        expected = levels[land.label[rows, cols], i]
        np.testing.assert_array_equal(fields[band](east, north), expected)
    beyond = fields["VV"](np.array([land.grid.west_m - 5e4]), north[:1])
    assert beyond == levels[land.label[rows[0], 0], 0]
