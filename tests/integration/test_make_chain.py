"""A simulated GRD, made to CARD-BS, registered, extracted: parcels have the ground's gamma0."""

import numpy as np
import pytest
import rasterio
import shapely
import shapely.affinity
from click.testing import CliRunner

from card.cli import main
from extraction.worker import Worker
from store import db
from store.config import WorkerSettings
from tests.integration.small_state import add_campaign
from tests.simulated import SITE, places, scene, simulate

FAINT = 1e-5
"""-50 dB, 26 dB below the noise: rounding of pixel values alone makes single pixels negative."""


def crops(east_m, north_m):
    """Gamma0 between 0.05 and 0.15, in patches of some hundred metres."""
    return 0.1 * (1 + 0.5 * np.sin(east_m / 130) * np.cos(north_m / 150))


def fields() -> list[shapely.Geometry]:
    """49 parcels of 0.5 to 2.5 ha about the site, turned against the grid."""
    rng, steps = np.random.default_rng(7), np.arange(-480, 481, 160)
    made = []
    for x in steps:
        for y in steps:
            width, height = rng.uniform(70, 150, 2)
            box = shapely.box(-width / 2, -height / 2, width / 2, height / 2)
            turned = shapely.affinity.rotate(box, rng.uniform(0, 90))
            made.append(shapely.affinity.translate(turned, SITE.east_m + x, SITE.north_m + y))
    return made


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    shown = scene(gamma0={"VV": crops, "VH": FAINT}, noise_db=-24.0)
    return simulate(tmp_path_factory.mktemp("chain"), shown)


def run(*words: object) -> str:
    done = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def make(product, into, *options: str) -> None:
    home = product.truth.home
    run("make", "bs", home, "--dem", product.dem, "--geoid", "ellipsoid", "--out", into, *options)


def extract(tmp_path) -> None:
    Worker(WorkerSettings(cache_dir=tmp_path / "cache", poll_s=0.05)).work(until_idle=True)


def test_parcels_over_hills_have_the_gamma0_of_the_ground(database, product, tmp_path):
    parcels = fields()
    add_campaign(database, parcels)
    make(product, tmp_path / "card")
    assert "1 added" in run("register", tmp_path / "card")
    extract(tmp_path)
    rows = db.fetch_all(database, "SELECT * FROM tt.bs ORDER BY pid")
    assert len(rows) == len(parcels)
    grid = product.card().plan.grid
    east, north = places(grid, SITE)
    errors = []
    for row, parcel in zip(rows, parcels, strict=True):
        within = shapely.contains_xy(parcel, east, north)
        assert row.vv_count == row.px == within.sum()
        errors.append(10 * np.log10(row.vv_mean / crops(east[within], north[within]).mean()))
    assert np.abs(errors).max() < 0.05
    assert np.mean(errors) == pytest.approx(0, abs=0.01)
    assert min(row.vh_min for row in rows) < 0
    assert np.mean([row.vh_mean for row in rows]) == pytest.approx(FAINT, abs=5e-6)


def as_delivered(product, folder) -> None:
    """Our product with nothing that says how it was made: CARD-BS as others deliver it."""
    make(product, folder)
    [values] = folder.glob("*/*_CARD_BS.tif")
    with rasterio.open(values, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as out:
        out.units = [""] * out.count
    for path in folder.glob("*/*.json"):
        path.unlink()
    for path in folder.glob("*/*_mask.tif"):
        path.unlink()


@pytest.mark.parametrize(
    ("other", "unit"),
    [
        (lambda product, folder: make(product, folder, "--radiometry", "gamma0_ellipsoid"),
         "gamma0_ellipsoid_linear"),
        (as_delivered, "gamma0_linear"),
    ],
    ids=["on the ellipsoid", "delivered"],
)  # fmt: skip
def test_flattened_and_other_gamma0_never_meet_in_a_campaign(
    database, product, tmp_path, other, unit
):
    add_campaign(database, fields()[:3])
    make(product, tmp_path / "card")
    run("register", tmp_path / "card")
    extract(tmp_path)
    assert db.fetch_one(database, "SELECT units FROM campaign").units == {
        "bs": "gamma0_terrain_linear"
    }
    db.execute(database, "UPDATE scene SET reference = 'earlier'")
    other(product, tmp_path / "other")
    run("register", tmp_path / "other")
    extract(tmp_path)
    units = db.fetch_all(database, "SELECT c.unit, count(b.pid) AS n FROM scene c "
                         "LEFT JOIN tt.bs b USING (obsid) GROUP BY 1 ORDER BY 1")  # fmt: skip
    assert [tuple(row) for row in units] == [(unit, 0), ("gamma0_terrain_linear", 3)]
    [refused] = db.fetch_all(database, "SELECT state, reason FROM work WHERE reason IS NOT NULL")
    assert refused.state == "dead"
    assert f"is in {unit}" in refused.reason
    assert "signatures are in gamma0_terrain_linear" in refused.reason


def test_zeros_of_clipped_values_are_data(database, product, tmp_path):
    """Many pixels of the faint band are 0 then, which others write where there are no data."""
    parcels = fields()[:9]
    add_campaign(database, parcels)
    make(product, tmp_path / "card", "--clip")
    run("register", tmp_path / "card")
    extract(tmp_path)
    rows = db.fetch_all(database, "SELECT * FROM tt.bs ORDER BY pid")
    assert len(rows) == len(parcels)
    assert all(row.vh_count == row.px for row in rows)
    assert sum(row.vh_min == 0 for row in rows) > 5
