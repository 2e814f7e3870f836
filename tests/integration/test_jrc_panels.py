"""The JRC's published client in a person's hands: panels `get` and `view`, `show`, PDF report."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from store import db
from tests.integration import jrc_state, published_client
from tests.integration.jrc_state import PASSWORD, SCENES, USER, MemberState

pytestmark = pytest.mark.full

python = published_client.python

DRIVER = Path(__file__).with_name("jrc_panels.py")
LAYERS = ["TileLayer", "Polygon", "Popup", "ImageOverlay"]
CHIPS = 5
"""Scenes of the days that the driver requests."""


@pytest.fixture(scope="module")
def state(cluster, template, tmp_path_factory) -> Iterator[MemberState]:
    with jrc_state.served(cluster, template, tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the person works."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def seen(python, state, folder) -> dict:
    """What the driver saw."""
    done = subprocess.run(
        [python, "-W", "ignore", DRIVER, state.jrc, USER, PASSWORD, "103", "101", "102"],
        cwd=folder, env=os.environ | {"MPLBACKEND": "Agg"}, check=False, text=True,
        capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def means(state) -> dict[str, list[float]]:
    """The stored means of parcel 101 by the JRC's name of the band, in order of time."""
    rows = db.fetch_all(
        state.conn,
        "SELECT s.band, array_agg(s.mean ORDER BY d.obstime) AS means "
        "FROM tt.sigs_2024 s JOIN dias_catalogue d ON d.id = s.obsid "
        "WHERE s.pid = 1 GROUP BY s.band, d.card",
    )
    return {row.band: row.means for row in rows}


def test_the_get_panel_saves_series_and_chips_of_each_parcel(seen, folder):
    for pid in ("101", "102"):
        parcel = folder / "temp" / "tt" / "2024" / pid
        assert json.loads((parcel / "info.json").read_text())["pid"] == [pid]
        series = {path.name for path in parcel.glob("time_series_*.csv")}
        assert series == {f"time_series_{kind}.csv" for kind in ("s2", "bs", "c6")}
        for band in ("B02", "B03", "B04", "B08", "B11", "SCL"):
            chips = list((parcel / "chip_images").glob(f"*.{band}.tif"))
            assert len(chips) == CHIPS, band


def test_the_chips_that_it_saves_are_as_delivered(state, seen, folder):
    [chip] = (folder / "temp/tt/2024/101/chip_images").glob("*_20240401T101500_*.B04.tif")
    with rasterio.open(chip) as got, rasterio.open(state.folder / "1_B04.tif") as scene:
        window = scene.window(*got.bounds)
        np.testing.assert_array_equal(got.read(1), scene.read(1, window=window))


def test_the_view_panel_plots_the_stored_means(seen, means):
    ndvi, s2, bs, c6 = (figure["lines"] for figure in seen["view"]["series"])
    red, nir = np.array(means["B04"]), np.array(means["B08"])
    assert ndvi["All observations"] == pytest.approx((nir - red) / (nir + red), rel=1e-5)
    assert len(ndvi["Cloud free"]) == SCENES - 1
    assert s2["B4"] == pytest.approx(means["B04"], rel=1e-5)
    assert bs["VV mean"] == pytest.approx(10 * np.log10(means["VVb"]), rel=1e-5)
    assert c6["VH mean"] == pytest.approx(means["VHc"], rel=1e-5)


def test_the_view_panel_shows_information_images_and_a_map(seen):
    view = seen["view"]
    [information] = view["information"]
    assert (information["images"], information["outlines"]) == (1, 1)
    names = [figure["name"].partition(" (")[0] for figure in view["images"]]
    assert names[:4] == ["True color", "False color 1", "False color 2", "NDVI"]
    assert len(names) == 4 + 6
    assert {figure["images"] for figure in view["images"]} == {CHIPS}
    assert {figure["outlines"] for figure in view["images"][:4]} == {CHIPS}
    assert view["map"] == LAYERS


def test_what_the_example_notebook_shows_is_shown(seen, means):
    drawn = {name: (f["images"], f["outlines"], f["lines"]) for name, f in seen["show"].items()}
    assert drawn["parcel"][:2] == (1, 1)
    assert drawn["background"][:2] == (4, 4)
    for name in ("true color", "ndvi chips"):
        assert drawn[name][0] == CHIPS, name
    for name in ("ndvi", "peers", "among peers"):
        lines = [line for label, line in drawn[name][2].items() if not label.startswith("_")]
        assert lines, name
        assert all(0.3 < value < 0.85 for line in lines for value in line), name
    assert set(drawn["s2"][2]) >= {"B02", "B03", "B04", "B08"}
    for name in ("bs", "c6", "radar of peers"):
        assert any("VV" in label for label in drawn[name][2]), name


def test_the_report_holds_all_its_figures(seen, folder):
    report = (folder / "report_tt_2024_103.pdf").read_bytes()
    assert seen["report"].startswith("Report generated")
    assert (report[:5], report.count(b"/Subtype /Image")) == (b"%PDF-", 7)
