"""CARD-BS of simulated products: the known gamma0 comes back, in its place, from any of them."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from card.find import folder
from card.make import engine, kernels
from card.make.engine import OwnEngine
from extraction.worker import Worker
from standalone.synthetic.radar import dem as dems
from standalone.synthetic.radar.eof import write_orbit_file
from standalone.synthetic.radar.geometry import NEAREST
from standalone.synthetic.radar.orbit import ASCENDING
from standalone.synthetic.radar.terrain import AnalyticTerrain, Site, mountains
from store import catalogue, db
from store.config import WorkerSettings
from store.errors import CallerError
from store.signatures import masked_shares
from tests.integration.small_state import add_campaign
from tests.simulated import (
    FLIGHT,
    GAMMA0,
    HILLS,
    SITE,
    Simulation,
    bright_points,
    errors_db,
    inside,
    level_db,
    places,
    point_errors_px,
    scene,
    simulate,
    view,
)

UP = replace(FLIGHT, direction=ASCENDING)
SOUTH = Site(32755, 612_000.0, 6_080_000.0)
BEYOND_ITS_ZONE = Site(32632, 730_000.0, 5_245_000.0)
PORTUGAL = Site(32629, 490_000.0, 4_290_000.0)
FLAT, MOUNTAINS = AnalyticTerrain(300.0), mountains(3)
UPDATES = {"update_heights_m": (0.0, 900.0, 300.0), "update_s": 0.15}
BOTH = {"VV": GAMMA0, "VH": 10**-2.6}


@pytest.fixture(scope="module")
def hilly(tmp_path_factory) -> Simulation:
    """Hills in both polarisations, with noise and tables that change over the image."""
    shown = scene(gamma0={"VV": GAMMA0, "VH": 0.02}, noise_db=-24.0, ramp=0.1)
    return simulate(tmp_path_factory.mktemp("hilly"), shown)


@pytest.fixture(scope="module")
def steep(tmp_path_factory) -> Simulation:
    """Mountains, seen steeply enough for layover."""
    return simulate(tmp_path_factory.mktemp("steep"), scene(MOUNTAINS, size=240), 12_000.0)


@pytest.fixture(scope="module")
def shaded(tmp_path_factory) -> Simulation:
    """Mountains, seen from so low that ground is turned away."""
    shown = scene(MOUNTAINS, flight=replace(FLIGHT, incidence_deg=45.5), size=240)
    return simulate(tmp_path_factory.mktemp("shaded"), shown, 12_000.0)


SCENES = {
    "descending": {},
    "ascending": {"flight": UP},
    "near range": {"flight": replace(FLIGHT, incidence_deg=31.0)},
    "far range": {"flight": replace(FLIGHT, incidence_deg=45.5)},
    "southern hemisphere": {"site": SOUTH},
    "southern hemisphere, ascending": {"site": SOUTH, "flight": UP},
    "beyond its zone": {"site": BEYOND_ITS_ZONE},
    "equator": {"site": Site(32632, 458_000.0, 3_000.0)},
    "IPF 2.33": {"ipf": "002.33", "noise_db": -24.0},
    "IPF 2.36": {"ipf": "002.36", "noise_db": -24.0},
    "IPF 2.60": {"ipf": "002.60", "noise_db": -24.0},
    "updates of other heights": UPDATES,
    "updates of other heights, IPF 2.36": {**UPDATES, "ipf": "002.36"},
    "far from the first pixel": {"lead_px": 2000},
}


OFTEN = ("ascending", "far range", "southern hemisphere", "IPF 2.36", "updates of other heights")
"""Of the scenes, those that stand for the others where time is short."""


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(facts, id=name, marks=() if name in OFTEN else pytest.mark.full)
        for name, facts in SCENES.items()
    ],
)
def test_c1_c3_hills_are_flat_and_of_the_level_they_were_made_with(tmp_path, facts):
    plain = simulate(tmp_path, scene(**facts, step_m=4.0))
    card, truth = plain.card(), plain.truth
    errors = errors_db(card, truth)
    assert errors.size > 12_000
    assert errors.std() < 0.05
    assert np.abs(errors).max() < 0.3  # points 4 m apart add some
    assert level_db(card, truth) == pytest.approx(0, abs=0.01)
    assert not card.flags[inside(truth, card.plan.grid)].any()


@pytest.mark.parametrize(
    "facts",
    [{}, {"flight": UP}, {"site": SOUTH}, {"site": BEYOND_ITS_ZONE}, {**UPDATES, "ipf": "002.36"}],
    ids=["descending", "ascending", "southern hemisphere", "beyond its zone", "IPF 2.36"],
)
def test_c4_bright_points_lie_in_their_places(tmp_path, facts):
    site = facts.get("site", SITE)
    plain = simulate(tmp_path, scene(**facts, targets=bright_points(site, 500.0), step_m=5.0))
    card = plain.card()
    errors = point_errors_px(card, plain.truth)
    assert len(errors) >= 25
    assert np.abs(errors.mean(axis=0)).max() < 0.02
    assert np.sqrt((errors**2).mean(axis=0)).max() < 0.1
    assert np.abs(errors).max() < 0.2


def test_pixels_made_with_the_nearest_update_are_read_so(tmp_path):
    facts = {**UPDATES, "lead_px": 3000, "update_rule": NEAREST}
    facts["targets"] = bright_points(SITE, 500.0)
    plain = simulate(tmp_path, scene(FLAT, **facts, step_m=5.0))
    right, wrong = (
        point_errors_px(plain.card(nearest_update=nearest), plain.truth)
        for nearest in (True, False)
    )
    assert np.abs(np.median(right, axis=0)).max() < 0.02
    assert np.abs(wrong).max() > 1


@pytest.mark.parametrize(
    ("response_px", "smoothing", "most_db"), [(1, True, 0.2), (3, True, 0.2), (1, False, 0.2)]
)
def test_c1_a_response_that_does_not_fit_the_smoothing(tmp_path, response_px, smoothing, most_db):
    plain = simulate(tmp_path, scene(response_px=response_px, step_m=4.0))
    errors = errors_db(plain.card(smoothing=smoothing), plain.truth)
    assert errors.std() < most_db
    assert errors.mean() == pytest.approx(0, abs=0.01)


def test_c2_mountains_are_flat_outside_the_mask(steep):
    card = steep.card()
    errors = errors_db(card, steep.truth)
    assert errors.size > 12_000
    assert errors.std() < 0.05
    assert np.abs(errors).max() < 0.5
    assert errors.mean() == pytest.approx(0, abs=0.01)


def test_the_mask_holds_layover_where_places_share_a_pixel(steep):
    """Places 90 m apart in one pixel, on a 5 m grid of the simulator's ground."""
    card, truth = steep.card(), steep.truth
    reach, shown = np.arange(-2600.0, 2600.0, 5.0), truth.scene
    line, pixel, _ = view(truth, *np.meshgrid(SITE.east_m + reach, SITE.north_m + reach))
    seen = (line > 0) & (line < shown.lines - 1) & (pixel > 0) & (pixel < shown.samples - 1)
    at = np.rint(line[seen]).astype(int) * shown.samples + np.rint(pixel[seen]).astype(int)
    east = np.broadcast_to(reach, line.shape)[seen]
    least, most = np.full(shown.lines * shown.samples, np.inf), np.full(at.max() + 1, -np.inf)
    np.minimum.at(least, at, east)
    np.maximum.at(most, at, east)
    shared = np.zeros(least.size, bool)
    shared[: most.size] = most - least[: most.size] > 90
    chosen = inside(truth, card.plan.grid, 40)
    line, pixel, _ = view(truth, *places(card.plan.grid, SITE))
    rows, cols = (np.rint(part[chosen]).astype(int) for part in (line, pixel))
    layover, made = shared[rows * shown.samples + cols], card.has(kernels.LAYOVER)[chosen]
    assert 0.1 < layover.mean() < 0.5
    assert (layover & ~made).mean() < 0.01
    assert (made & ~layover).mean() < 0.02


def test_the_mask_holds_all_ground_that_is_turned_away(shaded):
    card = shaded.card()
    chosen = inside(shaded.truth, card.plan.grid)
    _, _, seen = view(shaded.truth, *places(card.plan.grid, SITE))
    away, marked = seen[chosen] < 0, card.has(kernels.SHADOW)[chosen]
    assert away.mean() > 0.001
    assert (away & ~marked).sum() < 0.1 * away.sum()  # facets lie half a cell beside centres
    assert marked.mean() < 6 * away.mean()  # what lies in the shade of it as well


@pytest.mark.full
def test_parcels_in_layover_and_shadow_have_their_shares_in_their_flags(database, shaded, tmp_path):
    """A parcel for each 70 m of the middle; what of it is masked is counted in the file."""
    steps = np.arange(-900, 901, 70)
    parcels = [
        shapely.box(x, y, x + 52, y + 52)
        for x in SITE.east_m + steps for y in SITE.north_m + steps
    ]  # fmt: skip
    add_campaign(database, parcels)
    made = OwnEngine().make(shaded.job(tmp_path / "card"), lambda *_: None)
    catalogue.register(database, folder.scan(tmp_path / "card").scenes)
    settings = WorkerSettings(cache_dir=tmp_path / "cache", poll_s=0.05)
    assert Worker(settings).work(until_idle=True) == 1
    rows = db.fetch_all(database, "SELECT pid, px, flags, vv_count FROM tt.bs ORDER BY pid")
    with rasterio.open(made / f"{made.name}_mask.tif") as file:
        mask, (east, north) = file.read(1), places(shaded.card().plan.grid, SITE)
    shares = []
    for row in rows:
        within = shapely.contains_xy(parcels[row.pid - 1], east, north)
        assert within.sum() == row.px
        own = [(mask[within] & bit > 0).mean() for bit in (kernels.LAYOVER, kernels.SHADOW)]
        found = masked_shares(row.flags)
        assert all(0 <= f - o < 1 / 31 + 1e-9 for f, o in zip(found, own, strict=True))
        shares.append(own)
    layover, shadow = np.array(shares).T
    assert len(rows) == len(parcels)
    assert (layover > 0.9).any()
    assert (shadow > 0).any()
    assert (layover + shadow == 0).mean() > 0.3


def test_c9_tiles_with_a_margin_for_the_relief_are_the_whole_scene(steep):
    whole, tiles = steep.card(tile_px=4096), steep.card(tile_px=128)
    chosen = inside(steep.truth, whole.plan.grid, 0)
    assert np.array_equal(whole.flags[chosen], tiles.flags[chosen])
    known = ~np.isnan(whole.values[0])
    assert np.array_equal(known, ~np.isnan(tiles.values[0]))
    assert np.abs(10 * np.log10(tiles.values[0][known] / whole.values[0][known])).max() < 0.02


def test_c14_noise_is_removed_and_negative_values_count(tmp_path):
    shown = scene(FLAT, gamma0=BOTH, noise_db=-24.0, speckle=True, size=320, step_m=5.0)
    plain = simulate(tmp_path, shown)
    card = plain.card()
    chosen = inside(plain.truth, card.plan.grid)
    dark = card.values[1][chosen]
    assert 0.02 < (dark < 0).mean() < 0.2
    for band in (0, 1):
        assert level_db(card, plain.truth, band) == pytest.approx(0, abs=0.05)
    clipped = plain.card(clip=True).values[1][chosen]
    assert clipped.min() == 0
    assert clipped.mean() > dark.mean()


def test_noise_that_a_product_does_not_state_is_left_in_and_said_so(tmp_path):
    shown = scene(FLAT, ipf="002.36", noise_db=-24.0, annotate_noise=False, gamma0={"VV": 0.01},
                  step_m=5.0)  # fmt: skip
    plain = simulate(tmp_path, shown)
    assert 0.9 < level_db(plain.card(), plain.truth) < 1.7
    place = OwnEngine().make(plain.job(), lambda *_: None)
    stated = json.loads((place / f"{place.name}.json").read_text())["properties"]
    assert stated["cbm:noise"] == "not removed"
    assert "not removed from VV" in stated["processing:lineage"]


@pytest.mark.parametrize("ipf", ["003.40", "002.36"])
def test_the_border_is_no_data_and_leaves_no_dark_rim(tmp_path, ipf):
    plain = simulate(tmp_path, scene(border_px=24, ipf=ipf, step_m=4.0))
    card, truth = plain.card(), plain.truth
    within, around = inside(truth, card.plan.grid, 24 + 16), ~inside(truth, card.plan.grid, 24)
    assert not np.isnan(card.values[0][within]).any()
    assert np.isnan(card.values[0][around]).all()
    assert card.has(kernels.BORDER | kernels.NO_HEIGHT)[around].all()
    known = card.values[0][~np.isnan(card.values[0])]
    assert np.abs(10 * np.log10(known / GAMMA0)).max() < 0.5


def test_heights_above_a_geoid_with_its_grid_are_ellipsoidal_ones(hilly, tmp_path):
    high = simulate(tmp_path, hilly.truth.scene, datum=dems.GEOID, grid=dems.GEOGRAPHIC)
    assert high.geoid is not None
    above, plain = high.card(), hilly.card()
    assert np.abs(errors_db(above, high.truth)).max() < 0.2
    both = (above.flags == 0) & (plain.flags == 0)
    assert (10 * np.log10(above.values[:, both] / plain.values[:, both])).std() < 0.02
    for wrong, why in (
        (dems.ELLIPSOID, "so --geoid ellipsoid is wrong"),
        (None, "name that geoid"),
    ):
        with pytest.raises(CallerError, match=why):
            engine.prepare(replace(high.job(), geoid=wrong))


def test_terrain_of_30_m_in_degrees_is_as_good(hilly, tmp_path):
    coarse = simulate(tmp_path, hilly.truth.scene, grid=dems.GEOGRAPHIC, res_m=30.0)
    assert engine.prepare(replace(coarse.job(), geoid=None)).dem.geoid is None  # it says so itself
    assert errors_db(coarse.card(), coarse.truth).std() < 0.05


def test_terrain_without_a_stated_datum_is_refused(hilly):
    with pytest.raises(CallerError, match="does not say what its heights stand on"):
        engine.prepare(replace(hilly.job(), geoid=None))


def test_an_orbit_file_corrects_a_wrong_annotation(tmp_path):
    plain = simulate(
        tmp_path, scene(FLAT, orbit_shift_m=150.0, targets=bright_points(SITE, 400.0), step_m=5.0)
    )
    orbits = tmp_path / "orbits"
    orbits.mkdir()
    path = write_orbit_file(orbits, plain.truth.scene.flight, plain.truth.raster.orbit)
    annotated, precise = plain.job(), replace(plain.job(), orbits=orbits)
    assert engine.prepare(annotated).orbit.source == "annotation"
    assert engine.prepare(precise).orbit.source == path.name
    grid = engine.prepare(precise).grid
    brightest = []
    for job in (annotated, precise):
        place = OwnEngine().make(replace(job, into=tmp_path / job.geoid / str(job.orbits is None)),
                                 lambda *_: None)  # fmt: skip
        with rasterio.open(place / f"{place.name}.tif") as src:
            values = src.read(1)
        brightest.append({tuple(at) for at in np.argwhere(values > 50 * GAMMA0)})
    known = {
        (round((grid.north_m - p.north_m) / 10 - 0.5), round((p.east_m - grid.west_m) / 10 - 0.5))
        for p in plain.truth.targets
    }
    assert len(known & brightest[1]) > 0.9 * len(known)
    assert len(known & brightest[0]) < 0.2 * len(known)


def test_gamma0_on_the_ellipsoid_is_that_of_slopes_as_they_are_seen(tmp_path):
    """By the simulator's facets: gamma0 x area seen / that of level ground, beside the tangent."""
    slope = replace(FLAT, waves=HILLS.waves[:2])  # slopes of 3 km, far wider than the response
    plain = simulate(tmp_path, scene(slope))
    card, truth = plain.card(radiometry="gamma0_ellipsoid"), plain.truth
    east, north = places(card.plan.grid, SITE)
    chosen = inside(truth, card.plan.grid)
    line, pixel, seen = view(truth, east, north)
    by_row = np.gradient(line), np.gradient(pixel)
    cells_per_px = 1 / np.abs(by_row[0][0] * by_row[1][1] - by_row[0][1] * by_row[1][0])
    level = replace(truth, surface=type(truth.surface)(SITE, FLAT, truth.surface.reach_m))
    line, pixel, flat_seen = view(level, east, north)
    by_row = np.gradient(line), np.gradient(pixel)
    flat_cells_per_px = 1 / np.abs(by_row[0][0] * by_row[1][1] - by_row[0][1] * by_row[1][0])
    expected = 10 * np.log10(seen * cells_per_px / (flat_seen * flat_cells_per_px))[chosen]
    made = 10 * np.log10(card.values[0][chosen] / GAMMA0)
    assert expected.std() > 0.5
    assert (made - expected).std() < 0.1
    assert (made - expected).mean() == pytest.approx(0, abs=0.03)


def test_a_map_that_does_not_keep_angles_has_the_same_level(tmp_path):
    plain = simulate(tmp_path, scene(AnalyticTerrain(100.0), site=PORTUGAL))
    card = plain.card(epsg=3035)
    assert card.plan.grid.epsg == 3035
    assert level_db(card, plain.truth) == pytest.approx(0, abs=0.005)


def test_the_zone_is_that_of_the_scenes_centre(tmp_path):
    assert simulate(tmp_path, scene(site=BEYOND_ITS_ZONE, step_m=10)).card().plan.grid.epsg == 32633


@pytest.mark.parametrize(
    ("radiometry", "unit"),
    [("gamma0", "gamma0_terrain_linear"), ("gamma0_ellipsoid", "gamma0_ellipsoid_linear")],
)
def test_the_catalogue_tells_both_gamma0_apart_with_and_without_the_item(
    hilly, tmp_path, radiometry, unit
):
    place = OwnEngine().make(hilly.job(tmp_path, radiometry=radiometry), lambda *_: None)
    for _ in range(2):
        (found,) = folder.scan(tmp_path).scenes
        assert (found.reference, found.unit) == (place.name, unit)
        assert {band.nodata for band in found.bands.values()} == {None}  # NaN: 0 is a value
        (place / f"{place.name}.json").unlink(missing_ok=True)


def test_c15_a_rerun_gives_identical_bytes(hilly, tmp_path):
    digests = []
    for name in ("first", "second"):
        place = OwnEngine().make(hilly.job(tmp_path / name), lambda *_: None)
        digests.append(_digests(place))
    assert digests[0] == digests[1]
    assert len(digests[0]) == 3


def _digests(place: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()}
