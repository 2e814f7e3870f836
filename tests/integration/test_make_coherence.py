"""CARD-COH of simulated pairs: the known coherence comes out, the reader and the worker take it."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner

from card.cli import main
from card.find import folder
from card.make import burst_kernels, coherence, coherence_item, engine
from card.make.coherence import CoherenceSettings
from card.make.engine import OwnEngine
from extraction.worker import Worker
from standalone.synthetic.radar.eof import write_orbit_file
from store import catalogue, db, raster
from store.config import WorkerSettings
from store.errors import ConflictError, SceneError
from tests import simulated_slc
from tests.integration.small_state import add_campaign
from tests.simulated_slc import PAIR, SITE, SimulatedPair

NAME = "S1A_20240513T053359__1A__20240501T053359_20240501T053400_CARD-COH12"


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> SimulatedPair:
    """Two sub-swaths of two bursts."""
    return simulated_slc.simulate(
        tmp_path_factory.mktemp("pair"), replace(PAIR, swaths=("IW1", "IW2"), samples=600)
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> SimulatedPair:
    """One burst, 500 m apart: there the topographic phase turns much within a window."""
    shown = replace(
        PAIR, bursts=1, lines=160, samples=500, baseline_m=500.0,
        coherence={"VV": 0.95}, gamma0={"VV": 0.1},
    )  # fmt: skip
    return simulated_slc.simulate(tmp_path_factory.mktemp("small"), shown)


def make(pair: SimulatedPair, into: Path, steps: list[tuple[int, int]] | None = None, **facts):
    seen = [] if steps is None else steps
    return OwnEngine().make(pair.job(into, **facts), lambda *step: seen.append(step))


@pytest.fixture(scope="module")
def made(pair, tmp_path_factory) -> Path:
    return make(pair, tmp_path_factory.mktemp("card"))


def digests(place: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()}


def stated(place: Path) -> dict:
    return json.loads((place / f"{place.name}.json").read_text())["properties"]


def test_c11_known_coherence_comes_out_as_theory_says(pair, made):
    """Over both sub-swaths and the overlaps of their bursts; no level is corrected."""
    plan = engine.prepare_coherence(pair.job(made.parent))
    with rasterio.open(made / f"{NAME}.tif") as src:
        values = src.read()
        assert src.descriptions == ("VV", "VH")
        assert src.shape == (plan.grid.height_px, plan.grid.width_px)
    means = simulated_slc.stripe_means(plan, values[0])
    for level, mean in means.items():
        assert mean == pytest.approx(simulated_slc.expected(level), abs=0.02), level
    assert np.nanmean(values[1]) == pytest.approx(simulated_slc.expected(0.95), abs=0.005)
    assert np.nanmin(values) >= 0
    assert np.nanmax(values) <= 1.0005
    assert (np.isnan(values[0]) == np.isnan(values[1])).all()


@pytest.mark.parametrize("level", [0.0, 0.4, 0.95])
def test_theory_is_what_drawing_lots_gives(level):
    rng = np.random.default_rng(1)

    def draw():
        return rng.normal(size=(40_000, 14)) + 1j * rng.normal(size=(40_000, 14))

    one = draw()
    two = level * one + np.sqrt(1 - level**2) * draw()
    powers = (np.square(np.abs(each)).sum(axis=1) for each in (one, two))
    lots = np.abs((one * two.conj()).sum(axis=1)) / np.sqrt(np.prod(list(powers), axis=0))
    assert simulated_slc.expected(level, 14) == pytest.approx(lots.mean(), abs=0.002)
    assert simulated_slc.looks() == pytest.approx(14, abs=0.5)


def test_bursts_and_sub_swaths_join_without_a_gap(pair, made):
    """Within the outline there is no pixel without a value."""
    with rasterio.open(made / f"{NAME}.tif") as src:
        known = ~np.isnan(src.read(1))
    rows, columns = np.nonzero(known)
    hull = shapely.convex_hull(shapely.multipoints(np.stack([columns, rows], axis=1)))
    swaths = 2  # beside the first sub-swath's begin and the second's end there is a step
    assert known.sum() > (0.93 - 0.03 * swaths) * hull.area
    inner = known[rows.min() + 60 : rows.max() - 60]
    filled = np.array([np.diff(np.flatnonzero(row)[[0, -1]])[0] + 1 for row in inner])
    assert (filled == inner.sum(axis=1)).all()


def test_c12_without_its_topographic_phase_coherence_falls(small, tmp_path, monkeypatch):
    plan = engine.prepare_coherence(small.job(tmp_path))
    right = np.nanmean(simulated_slc.mosaic(plan, tmp_path))
    assert right > 0.85  # scatterers of one pixel themselves differ in range at such a baseline
    whole = burst_kernels.rasterise

    def flat(*arguments):
        whole(*arguments)
        phases = arguments[-1]
        phases[~np.isnan(phases)] = 0

    monkeypatch.setattr(burst_kernels, "rasterise", flat)
    assert np.nanmean(simulated_slc.mosaic(plan, tmp_path)) < 0.75 * right


def test_blocks_and_tiles_leave_no_trace(small, tmp_path):
    settings = CoherenceSettings(block_windows=17, tile_px=128)
    plans = [
        engine.prepare_coherence(small.job(tmp_path, settings=each))
        for each in (CoherenceSettings(), settings)
    ]
    one, other = (simulated_slc.mosaic(plan, tmp_path) for plan in plans)
    assert (np.isnan(one) == np.isnan(other)).mean() > 0.999
    assert np.nanmax(np.abs(one - other)) < 0.01


def test_the_product_is_a_scene_that_needs_no_description(made):
    found = folder.scan(made.parent)
    assert (found.problems, found.others) == ((), 0)
    (scene,) = found.scenes
    assert (scene.reference, scene.kind, scene.unit) == (NAME, "c12", "coherence")
    assert (scene.platform, scene.orbit_direction) == ("S1A", "descending")
    assert scene.relative_orbit is not None
    assert scene.obstime.isoformat().startswith("2024-05-13T05:33:59")
    assert list(scene.bands) == ["VV", "VH"]


def test_the_same_without_its_item(made, tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / f"{NAME}.tif").symlink_to(made / f"{NAME}.tif")
    (scene,) = folder.scan(tmp_path).scenes
    assert (scene.kind, scene.unit, scene.orbit_direction) == ("c12", "coherence", "descending")


def test_the_worker_makes_signatures_of_it(made, database, tmp_path, monkeypatch):
    east, north = SITE.east_m, SITE.north_m
    parcel = shapely.box(east - 300, north - 300, east + 300, north + 300)
    add_campaign(database, [parcel])
    monkeypatch.setenv("CBM_CACHE_DIR", str(tmp_path / "cache"))
    catalogue.register(database, folder.scan(made.parent).scenes)
    with raster.gdal_env(), raster.open_band(str(made / f"{NAME}.tif"), 1) as band:
        assert band.grid.lattice.key == "32632_20.0m_0.0_0.0"
    assert Worker(WorkerSettings.from_env(os.environ)).work(True) == 1
    row = db.fetch_one(database, "SELECT * FROM tt.c12")
    assert row.vv_count == 900
    assert row.vv_mean == pytest.approx(simulated_slc.expected(0.6), abs=0.02)
    assert row.vh_mean == pytest.approx(simulated_slc.expected(0.95), abs=0.01)


def test_the_item_says_how_it_was_made(pair, made):
    item = stated(made)
    assert (item["product:type"], item["sar:polarizations"]) == ("CARD-COH12", ["VV", "VH"])
    assert (item["cbm:source"], item["cbm:pair"]) == (pair.later.stem, [pair.earlier.stem])
    assert item["cbm:temporal_baseline_days"] == 12
    assert abs(item["cbm:perpendicular_baseline_m"]) == pytest.approx(60, abs=0.2)
    assert len(item["cbm:bursts"]) == 4
    assert (item["cbm:bursts_missed"], item["cbm:warnings"]) == ([], [])
    assert item["cbm:azimuth_shift_lines"] == pytest.approx(0.3, abs=0.01)
    assert (item["cbm:window"], item["gsd"]) == ([3, 10], 20.0)
    assert (item["cbm:orbit_file"], item["cbm:dem"]) == ("annotation", "dem")
    assert item["cbm:bias"] == "not corrected"
    assert sorted(path.name for path in made.iterdir()) == [f"{NAME}.json", f"{NAME}.tif"]
    with rasterio.open(made / f"{NAME}.tif") as src:
        assert src.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert src.compression.name == "zstd"


def test_a_rerun_gives_the_same_bytes_and_the_same_inputs_are_not_made_again(small, tmp_path):
    steps: list[tuple[int, int]] = []
    one, other = (make(small, tmp_path / name, steps) for name in ("one", "other"))
    assert digests(one) == digests(other)
    half = len(steps) // 2
    assert steps[:half] == [(k + 1, half) for k in range(half)]
    assert make(small, tmp_path / "one", steps) == one
    assert len(steps) == 2 * half
    with pytest.raises(ConflictError, match=r"gsd was 20\.0 and is 10\.0"):
        make(small, tmp_path / "one", settings=CoherenceSettings(res_m=10.0))
    assert make(small, tmp_path / "one", settings=CoherenceSettings(res_m=10.0), replace=True)
    assert stated(one)["gsd"] == 10
    assert [path.name for path in (tmp_path / "one").iterdir()] == [one.name]


def test_what_has_no_partner_is_listed_and_the_rest_is_made(pair, made, tmp_path):
    """The earlier pass without its IW2."""
    half = tmp_path / pair.earlier.name
    shutil.copytree(pair.earlier, half)
    for path in [*half.glob("**/*-iw2-*")]:
        path.unlink()
    place = OwnEngine().make(replace(pair.job(tmp_path), pair=(half,)), lambda *_: None)
    item, whole = stated(place), stated(made)
    assert all(name.startswith("IW1") for name in item["cbm:bursts"])
    assert item["cbm:bursts_missed"] == [n for n in whole["cbm:bursts"] if n.startswith("IW2")]
    assert 0.3 < item["cbm:valid_pixels"]["VV"] / whole["cbm:valid_pixels"]["VV"] < 0.7


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read as a raster"),
        (lambda path: path.write_bytes(path.read_bytes()[:50_000]), "is damaged"),
    ],
)
def test_broken_pixels_are_refused_with_the_files_name_and_leave_nothing(
    small, tmp_path, damage, why
):
    safe = tmp_path / small.later.name
    shutil.copytree(small.later, safe)
    image = next(safe.glob("measurement/*.tiff"))
    damage(image)
    with pytest.raises(SceneError, match=why) as error:
        make(small, tmp_path / "out", source=safe)
    assert image.name in str(error.value)
    assert list((tmp_path / "out").glob("*")) == []


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["make", "coh", *map(str, words)])
    return done.exit_code, done.output


def test_the_command_makes_it_and_a_dry_run_says_what_it_would(small, tmp_path):
    words = (small.later, small.earlier, "--dem", small.dem, "--geoid", "ellipsoid",
             "--out", tmp_path / "out")  # fmt: skip
    code, output = run(*words, "--dry-run")
    assert code == 0, output
    for text in (small.later.stem, small.earlier.stem, "12 days, ", "500.0 m perpendicular",
                 "1 pairs, 0.30 lines apart", "EPSG:32632, 20 m", f"{NAME} (new)"):  # fmt: skip
        assert text in output
    assert not (tmp_path / "out").exists()
    code, output = run(*words)
    assert code == 0, output
    assert f"{tmp_path / 'out' / NAME}\n" in output
    assert (tmp_path / "out" / NAME / f"{NAME}.tif").is_file()


def test_each_pass_takes_the_orbit_file_that_reaches_over_it(small, tmp_path):
    (strip,), flight = small.truth.strips[1], small.truth.flights[1]
    path = write_orbit_file(tmp_path, flight, strip.raster.orbit)
    plan = engine.prepare_coherence(small.job(tmp_path, orbits=tmp_path))
    item = coherence_item.inputs(plan)
    assert (item["cbm:orbit_file"], item["cbm:pair_orbit_file"]) == (path.name, "annotation")
    assert plan.passes.pairs[0].image.orbit.residual_m < 0.01


@pytest.mark.parametrize(
    ("turned", "why"),
    [(True, "is the earlier pass: name the later one first"), (False, "0 days apart")],
)
def test_products_that_are_no_pair_are_said_in_a_sentence(small, turned, why):
    words = (small.earlier, small.later) if turned else (small.later, small.later)
    code, output = run(*words, "--dem", small.dem, "--geoid", "ellipsoid")
    assert code == 2
    assert why in output


def test_scratch_is_gone_after_a_run_that_was_left(small, tmp_path):
    plan = engine.prepare_coherence(small.job(tmp_path))
    tiles = coherence.make_tiles(plan, tmp_path)
    next(tiles)
    assert list(tmp_path.iterdir()) == []  # the file has no name: a kill leaves nothing
    tiles.close()
