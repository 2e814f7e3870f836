"""A synthetic state is made once, wholly, equally, and never over anything else."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio

from card.find.folder import scan
from standalone.synthetic.state import AOI, YEAR, make_state
from store.errors import CallerError, ConflictError

COUNT = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    make_state(folder, seed=3, parcels=COUNT)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Of every raster's decoded pixels and the parcels' geometries and columns."""
    found = {}
    for path in sorted((folder / "scenes").rglob("*")):
        if path.suffix in {".jp2", ".tif", ".img"}:
            with rasterio.open(path) as src:
                pixels = src.read().tobytes() + str(src.transform).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(pixels).hexdigest()
    _, _, wkb, columns = pyogrio.raw.read(folder / "parcels.gpkg")
    found["parcels"] = hashlib.sha256(b"".join(wkb) + repr(np.array(columns)).encode()).hexdigest()
    return found


def changed(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_equal_seeds_make_equal_pixels_and_parcels(made: Path, tmp_path: Path) -> None:
    make_state(tmp_path / "new", seed=3, parcels=COUNT)
    first, second = digests(made), digests(tmp_path / "new")
    assert len(first) == 32 * 7 + 4 * 2 + 4 + 1
    assert first == second


def test_a_finished_state_is_left_alone(made: Path) -> None:
    before, steps = changed(made), []
    make_state(made, seed=3, parcels=COUNT, progress=lambda *step: steps.append(step))
    assert changed(made) == before
    assert steps == [(1, 1, "nothing to make")]


def test_another_seed_or_an_interruption_makes_it_anew(made: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop_halfway(done: int, total: int, _what: str) -> None:
        if done > total // 2:
            raise StopError

    folder = tmp_path / "state"
    with pytest.raises(StopError):
        make_state(folder, seed=4, parcels=COUNT, progress=stop_halfway)
    assert not json.loads((folder / "state.json").read_text())["finished"]
    (folder / "scenes" / "left over").mkdir()
    steps: list[tuple[int, int, str]] = []
    make_state(folder, seed=3, parcels=COUNT, progress=lambda *step: steps.append(step))
    assert digests(folder) == digests(made)
    assert not (folder / "scenes" / "left over").exists()
    assert [done for done, _, _ in steps] == list(range(len(steps)))
    assert steps[-1][0] == steps[-1][1]


def test_a_state_whose_parcels_were_taken_away_is_made_anew(tmp_path: Path) -> None:
    make_state(tmp_path, seed=3, parcels=1)
    (tmp_path / "parcels.gpkg").unlink()
    make_state(tmp_path, seed=3, parcels=1)
    assert (tmp_path / "parcels.gpkg").exists()


def test_a_folder_with_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "mine.tif").write_text("precious")
    with pytest.raises(ConflictError, match="something other than a synthetic state"):
        make_state(tmp_path, parcels=COUNT)
    assert [p.name for p in tmp_path.rglob("*")] == ["scenes", "mine.tif"]


@pytest.mark.parametrize("count", [0, -3, 9000])
def test_a_number_of_parcels_that_no_window_holds_is_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="1 to 86"):
        make_state(tmp_path / "new", parcels=count)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CallerError, match="cannot write a synthetic state to"):
        make_state(tmp_path / "file" / "state", parcels=COUNT)


def test_every_scene_is_read_as_what_it_is(made: Path) -> None:
    found = scan(made / "scenes")
    assert not found.problems
    assert len(found.scenes) == 40
    assert {scene.obstime.year for scene in found.scenes} == {YEAR}
    optical = [scene for scene in found.scenes if scene.kind == "s2"]
    radar = [scene for scene in found.scenes if scene.kind == "bs"]
    assert {scene.tile for scene in optical} == {"32TMT", "32TNT"}
    assert {scene.bands["B04"].offset for scene in optical} == {0, -1000}
    assert {tuple(scene.bands) for scene in radar} == {("VV", "VH")}
    assert {scene.unit for scene in radar} == {"gamma0_terrain_linear"}
    twice = [scene for scene in optical if scene.acquisition == "S2A_20240629T101601_R065"]
    assert sorted(scene.baseline for scene in twice) == ["03.01", "03.01", "05.10", "05.10"]


def test_its_region_is_a_valid_code() -> None:
    assert AOI == "demo"
