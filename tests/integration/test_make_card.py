"""`cbm-card make bs`: a GRD goes in, a folder comes out that the catalogue's readers take."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from card.cli import main
from card.find import folder
from card.make import engine, item, kernels
from card.make.backscatter import BackscatterSettings
from card.make.engine import BackscatterJob, OwnEngine
from store import raster
from store.errors import ConflictError, SceneError
from tests import grd

NAME = f"{grd.NAME}_CARD_BS"


def even(corner: grd.Corner):
    return np.sqrt(0.1 * corner.gamma**2 + corner.noise)


@pytest.fixture(scope="module")
def inputs(shared_data, tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("inputs")
    return {
        "safe": grd.make(shared_data, place, even),
        "dem": grd.terrain(place / "dem.tif", lambda lon, lat: 300 + 100 * np.sin(lon * 300)),
    }


def job(inputs, into: Path, **changes) -> BackscatterJob:
    return BackscatterJob(inputs["safe"], inputs["dem"], into, **changes)


def make(inputs, into: Path, **changes) -> Path:
    return OwnEngine().make(job(inputs, into, **changes), lambda done, total: None)


@pytest.fixture(scope="module")
def made(inputs, tmp_path_factory) -> Path:
    return make(inputs, tmp_path_factory.mktemp("card"))


def digests(place: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()}


def test_the_product_is_a_scene_that_needs_no_description(made):
    found = folder.scan(made.parent)
    assert (found.problems, found.others) == ((), 0)
    (scene,) = found.scenes
    assert (scene.reference, scene.kind, scene.unit) == (NAME, "bs", "gamma0_terrain_linear")
    assert (scene.platform, scene.relative_orbit) == ("S1B", 22)
    assert (scene.orbit_direction, scene.acquisition) == ("descending", "S1B_030148")
    assert scene.obstime.isoformat().startswith("2021-12-23T05:11:22")
    assert list(scene.bands) == ["VV", "VH", "MASK"]
    assert {band.nodata for band in scene.bands.values()} == {None}  # NaN


def kill_while_replacing(place: Path, at: int) -> None:
    """Replace a product in a process that dies just before its rename number `at`."""
    renames = 0
    original = Path.rename

    def rename(self, target):
        nonlocal renames
        renames += 1
        if renames == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, target)

    def replace():
        Path.rename = rename
        with item.temporary_folder(place.parent, place.name) as folder:
            (folder / "made").write_text("new")
            shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            item.publish(folder, place, replace=True)

    process = multiprocessing.get_context("fork").Process(target=replace)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("at", [1, 2, 3])
def test_what_a_kill_inside_a_replacement_left_is_swept_and_nothing_is_lost(tmp_path, at):
    place = tmp_path / NAME
    place.mkdir()
    (place / "made").write_text("old")
    kill_while_replacing(place, at)
    assert list(tmp_path.glob(".*"))
    item.sweep(tmp_path, NAME)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (place / "made").read_text() == ("new" if at == 3 else "old")


def test_what_a_living_process_makes_is_not_swept(tmp_path):
    with item.temporary_folder(tmp_path, NAME) as folder:
        item.sweep(tmp_path, NAME)
        assert folder.is_dir()


def test_the_same_without_its_item(made, tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / f"{NAME}.tif").symlink_to(made / f"{NAME}.tif")
    (scene,) = folder.scan(tmp_path).scenes
    assert (scene.unit, scene.orbit_direction) == ("gamma0_terrain_linear", "descending")
    assert list(scene.bands) == ["VV", "VH"]


def test_extraction_opens_its_bands_on_the_zones_lattice(made):
    (scene,) = folder.scan(made.parent).scenes
    with raster.gdal_env():
        for name, source in scene.bands.items():
            with raster.open_band(source.href, source.index) as band:
                assert band.grid.lattice.key == "32633_10.0m_0.0_0.0"
                dtype = np.dtype("uint8" if name == "MASK" else "float32")
                assert (band.dtype, band.block_shape_px) == (dtype, (512, 512))
                values = band.read(600, 1400, 600, 1400)
                low, high = (-0.01, 0.01) if name == "MASK" else (0.08, 0.12)
                assert low < np.nanmean(values) < high


def test_files_are_cogs_and_the_item_states_their_checksums(made):
    stated = json.loads((made / f"{NAME}.json").read_text())
    for asset in stated["assets"].values():
        path = made / asset["href"]
        assert asset["file:checksum"] == f"1220{hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert asset["file:size"] == path.stat().st_size
        with rasterio.open(path) as src:
            assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert src.compression.name == "zstd"
            assert src.overviews(1)
            assert asset["proj:shape"] == list(src.shape)
            assert asset["proj:transform"] == list(src.transform)[:6]
    assert sorted(path.name for path in made.iterdir()) == [
        f"{NAME}.json", f"{NAME}.tif", f"{NAME}_mask.tif",
    ]  # fmt: skip


def test_the_item_says_how_it_was_made(made):
    item = json.loads((made / f"{NAME}.json").read_text())["properties"]
    assert item["sat:orbit_state"] == "descending"
    assert (item["sat:relative_orbit"], item["sat:absolute_orbit"]) == (22, 30148)
    assert (item["sar:polarizations"], item["cbm:ipf"]) == (["VV", "VH"], "3.40")
    assert (item["cbm:source"], item["cbm:orbit_file"]) == (grd.NAME, "annotation")
    assert (item["cbm:dem"], item["cbm:noise"]) == ("dem", "removed")
    assert item["cbm:orbit_residual_m"] < 0.001
    assert item["cbm:negative_pixels"] == {"VV": 0, "VH": 0}
    assert item["cbm:valid_pixels"]["VV"] == pytest.approx(2006 * 1307 * 1.015, rel=0.02)
    assert item["processing:software"].keys() == {"cbm-appliance"}


def test_the_mask_says_why_there_is_no_value_and_how_steep_the_view_is(made):
    with rasterio.open(made / f"{NAME}.tif") as src, rasterio.open(made / f"{NAME}_mask.tif") as m:
        values, (flags, angles) = src.read(1), m.read()
        assert m.descriptions == ("mask", "local_incidence_angle")
    assert (flags[np.isnan(values)] != 0).all()
    assert (flags[~np.isnan(values)] == 0).all()
    assert (flags == kernels.BORDER).sum() > 1e6
    known = angles[~np.isnan(values)]
    assert 5 < known.min() < 20 < known.mean() < 40 < known.max() < 65


def test_c15_a_rerun_gives_the_same_bytes(inputs, made, tmp_path):
    assert digests(make(inputs, tmp_path)) == digests(made)


def test_a_product_that_is_there_is_not_made_again(inputs, made, monkeypatch):
    monkeypatch.setattr(engine.backscatter, "make_tiles", lambda plan: pytest.fail("made again"))
    assert make(inputs, made.parent) == made


def test_a_product_of_other_inputs_is_kept_unless_it_is_to_be_replaced(inputs, tmp_path):
    place = make(inputs, tmp_path)
    before = digests(place)
    clip = BackscatterSettings(clip=True)
    with pytest.raises(ConflictError, match="negative_values was 'kept' and is 'clipped'"):
        make(inputs, tmp_path, settings=clip)
    assert digests(place) == before
    assert make(inputs, tmp_path, settings=clip, replace=True) == place
    assert digests(place) != before
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_run_that_fails_leaves_nothing(inputs, tmp_path):
    nowhere = grd.terrain(tmp_path / "nan.tif", lambda lon, lat: np.nan * lon)
    with pytest.raises(SceneError, match="no pixel of it lies on known terrain"):
        make({**inputs, "dem": nowhere}, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_product_in_the_making_is_no_scene(made, tmp_path):
    with item.temporary_folder(tmp_path, NAME) as hidden:
        (hidden / f"{NAME}.tif").symlink_to(made / f"{NAME}.tif")
        assert folder.scan(tmp_path).scenes == ()
    assert list(tmp_path.iterdir()) == []


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["make", "bs", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_makes_it_and_says_where(inputs, made, tmp_path):
    code, output = run(inputs["safe"], "--dem", inputs["dem"], "--out", tmp_path)
    assert code == 0, output
    assert f"{tmp_path / NAME}\n" in output
    assert f"cbm-card register {tmp_path}" in output
    assert digests(tmp_path / NAME) == digests(made)


def test_a_dry_run_names_all_inputs_and_writes_nothing(inputs, tmp_path):
    archive = tmp_path / "archive" / "SAR" / "IW_GRDH_1S" / "2021" / "12" / "23"
    archive.mkdir(parents=True)
    (archive / f"{grd.NAME}.SAFE").symlink_to(inputs["safe"])
    out = tmp_path / "out"
    code, output = run(
        grd.NAME, "--products", tmp_path / "archive", "--dem", inputs["dem"], "--out", out,
        "--dry-run",
    )  # fmt: skip
    assert code == 0, output
    for text in ("IPF 3.40", "VV, VH", "annotation, residual", "dem, 1 files", "EPSG:32633, 10 m",
                 "none: heights are above the ellipsoid", f"{out / NAME} (new)"):  # fmt: skip
        assert text in output
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((grd.NAME,), "there is no S1B_IW_GRDH_1SDV_20211223T051122"),
        (("harvest",), "'harvest' is not a known product name"),
    ],
)
def test_a_product_that_is_not_there_is_said_in_a_sentence(inputs, words, why):
    code, output = run(*words, "--dem", inputs["dem"])
    assert code == 2
    assert why in output


def test_a_wrong_geoid_is_said_before_anything_is_made(inputs):
    code, output = run(inputs["safe"], "--dem", inputs["dem"], "--geoid", "x.gtx")
    assert code == 2
    assert "heights above ellipsoid, so --geoid x.gtx is wrong" in output
