"""Programs of the JRC's repository, with the changes that the guide's page names and no others.

They run where CBM_JRC_CHECKOUT names a checkout of ec-jrc/cbm; none of it is part of this project.
"""

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from store import db
from tests.integration import jrc_state, published_client
from tests.integration.jrc_state import CLOUDED, EVERY, FIRST, PASSWORD, SCENES, USER, MemberState

python = published_client.python

SYSTEM_GDAL = Path("/usr/lib/python3/dist-packages/osgeo")
INSIDE = np.s_[40:50, 40:50]
"""Pixels of parcel 101 in bands of 10 m."""

MOWN_DAY = "2024-05-11"


@pytest.fixture(scope="module")
def checkout() -> Path:
    named = os.environ.get("CBM_JRC_CHECKOUT", "")
    if not named:
        pytest.skip("CBM_JRC_CHECKOUT names no checkout of ec-jrc/cbm")
    return Path(named)


@pytest.fixture(scope="module")
def state(checkout, cluster, template, tmp_path_factory) -> Iterator[MemberState]:
    with jrc_state.served(cluster, template, tmp_path_factory.mktemp("state")) as served:
        yield served


@pytest.fixture(scope="module")
def environment(python) -> dict[str, str]:
    """What the programs run in: no display, no package index."""
    return os.environ | {
        "MPLBACKEND": "Agg",
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "TZ": "UTC",
    }


@pytest.fixture(scope="module")
def with_gdal(python, environment, tmp_path_factory) -> dict[str, str]:
    """The same with GDAL's own bindings, which no wheel has: those of Debian's python3-gdal."""
    folder = tmp_path_factory.mktemp("gdal")
    (folder / "osgeo").symlink_to(SYSTEM_GDAL)
    environment = environment | {"PYTHONPATH": str(folder)}
    tried = subprocess.run(
        [python, "-c", "from osgeo import gdal, gdal_array"],
        env=environment, check=False, capture_output=True,
    )  # fmt: skip
    if tried.returncode:
        pytest.skip("GDAL's Python bindings (python3-gdal) are not here, or of another Python")
    return environment


def change(file: Path, old: str, new: str, times: int = 1) -> None:
    """Make a change that the page names; what is to be changed is there so many times."""
    text = file.read_text()
    assert text.count(old) == times, (file.name, old)
    file.write_text(text.replace(old, new))


def run(command: list[Any], folder: Path, environment: dict[str, str], **options) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, text=True, capture_output=True,
        timeout=1500, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


# --- the example notebook ---------------------------------------------------------------------


def test_restful_examples_runs_from_its_first_cell_to_its_last(
    checkout, state, python, environment, tmp_path
):
    book = tmp_path / "RESTful_examples.ipynb"
    shutil.copy(checkout / "notebooks" / book.name, book)
    for old, new in (
        ("api_url  = 'https://cap.users.creodias.eu'", f"api_url  = '{state.jrc}'"),
        ("'USERNAME'", f"'{USER}'"),
        ("'PASSWORD'", f"'{PASSWORD}'"),
        ("aoi   = 'MS' ", "aoi   = 'tt' "),
        ("year  = '2020'", "year  = '2024'"),
        ("pid   = '123456'", "pid   = '101'"),
        ("'2020-04-05'", "'2024-04-05'"),
        ("'2020-04-25'", "'2024-05-05'"),
    ):
        change(book, old, new)
    run([python.parent / "jupyter", "nbconvert", "--execute", "--to", "notebook", "--inplace",
         book.name], tmp_path, environment | {"MPLBACKEND": ""})  # fmt: skip
    cells = json.loads(book.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert pictures == 11
    shown = json.dumps(outputs)
    assert "[Err]" not in shown
    assert "jupyter.widget-view" in shown


# --- marker detection -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detect(checkout, state, python, environment, tmp_path_factory) -> Callable[..., list[dict]]:
    """Runs the JRC's mowing detection with its example's options; the markers that it writes."""

    def detected(source: dict[str, Any], readers: list[dict[str, Any]], lower=False) -> list[dict]:
        folder = tmp_path_factory.mktemp("markers")
        shutil.copytree(checkout / "scripts/signal_marker_processing", folder, dirs_exist_ok=True)
        change(folder / "get_time_series.py", "http://cap.users.creodias.eu", state.jrc, 4)
        (folder / "parcels.txt").write_text("101\n102\n")
        options_file = folder / "notebook/config/main.json"
        text = options_file.read_text().replace("2020-04-01", "2024-03-22")
        text = text.replace("2020-10-31", "2024-06-01")
        if lower:
            for component in ("B02", "B03", "B04", "B05", "B08", "B11", "VHc", "VVc"):
                text = text.replace(f"{component}_mean", f"{component.lower()}_mean")
        options = json.loads(text) | {"parcelSource": source, "dataReaders": readers}
        options_file.write_text(json.dumps(options))
        run([python, "-W", "ignore", "main.py"], folder, environment)
        assert len(list((folder / "results").glob("*.png"))) == 2
        return rows(folder / "marker_output.csv")

    return detected


@pytest.fixture(scope="module")
def by_rest(detect) -> list[dict]:
    account = {"api_user": USER, "api_pass": PASSWORD, "ms": "tt", "year": "2024", "ptype": ""}
    kinds = {"rest_s2": "s2_bands", "rest_c6": "coh", "rest_bs": "bs"}
    cloudy = {"cloud_categories": [3, 8, 9, 10, 11]}
    return detect(
        {"type": "txt_rest", "fid_list_file": "parcels.txt", "connection_options": account},
        [
            {"type": kind, "signal": signal, "connection_options": account} | cloudy
            for kind, signal in kinds.items()
        ],
    )


@pytest.fixture(scope="module")
def by_database(detect, state) -> list[dict]:
    login = {
        "db_schema": "tt", "db_host": os.environ["PGHOST"], "db_port": os.environ["PGPORT"],
        "db_name": os.environ["PGDATABASE"], "db_user": "analyst", "db_password": "read-word",
        "fidAttribute": "code", "geomAttribute": "wkb_geometry",
    }  # fmt: skip
    tables = {
        "parcels_table": "parcels_2024", "sigs_table": "sigs_2024", "hists_table": "hists_2024",
        "sentinel_metadata_table": "dias_catalogue", "start_time": "2024-03-01",
        "end_time": "2024-06-30", "cloud_free": "False",
        "sql_additional_conditions": "tt.parcels_2024.code IN ('101', '102')",
    }  # fmt: skip
    kinds = {"db_s2": "s2_bands", "db_c6": "coh", "db_bs": "bs"}
    return detect(
        login | {"type": "db", "parcel_table": "parcels_2024",
                 "sql_conditions": "code IN ('101', '102')"},
        [login | tables | {"type": kind, "signal": name} for kind, name in kinds.items()],
        lower=True,
    )  # fmt: skip


@pytest.mark.parametrize("source", ["by_rest", "by_database"])
def test_marker_detection_finds_the_mowing_of_each_parcel(source, request):
    markers = request.getfixturevalue(source)
    drops = [row for row in markers if row["type"] == "drop"]
    assert [row["FID"] for row in drops] == ["101", "102"]
    for row in drops:
        assert row["start_data"] <= "2024-05-01" <= row["stop_date"], row


def test_marker_detection_finds_the_same_by_both_ways(by_rest, by_database):
    keys = ("FID", "signal", "type", "start_data", "main_date", "stop_date", "duration")
    found = [sorted(tuple(row[key] for key in keys) for row in r) for r in (by_rest, by_database)]
    assert found[0] == found[1]


# --- calendar view ----------------------------------------------------------------------------

EVERYTHING = """
    get_scl get_bands merge_bands lut_stretch_magic cv_lut_magic lut_stretch_dynamic cv_lut_dynamic
    stats_band graphs_band create_ndvi cv_ndvi stats_ndvi graphs_ndvi create_bsi cv_bsi stats_bsi
    graphs_bsi cv_ndvi_hist cv_red_nir_scatter get_coh stats_coh graph_coh get_bs cv_bs stats_bs
    graph_bs exclude_cirrus"""
"""What its window's button `Select all` selects."""

PICTURES = {
    "overview_jpg_half_weekly": 1,
    "overview_jpg_half_weekly_dyn": 1,
    "overview_jpg_half_weekly_ndvi": 1,
    "overview_jpg_half_weekly_bare_soil_index": 1,
    "overview_hist_half_weekly": 1,
    "overview_scatter_half_weekly_fixed_scale_cumulative": 1,
    "ndvi_graphs": 1,
    "ndvi_graphs_fixed_date_range": 1,
    "bare_soil_index_graphs": 1,
    "band_graphs": 1,
    "s1_coh6_graphs_together": 1,
    "s1_coh6_graphs_together_fixed_date_range": 1,
    "s1_bs_graphs_together": 1,
    "s1_bs_calendar_view": 4,
}


@pytest.fixture(scope="module")
def calendar(checkout, state, python, with_gdal, tmp_path_factory) -> Path:
    """What the calendar view of parcel 101 writes."""
    folder = tmp_path_factory.mktemp("calendar")
    shutil.copytree(checkout / "scripts/calendar_view_gui", folder, dirs_exist_ok=True)
    for file in ("run_calendar_view_from_jupyter.py", "utils/db_utils.py"):
        change(folder / file, "https://cap.users.creodias.eu", state.jrc)
    change(folder / "utils/lut.py", "ComputeRasterMinMax(band)", "ComputeRasterMinMax(True)")
    (folder / "parcels.geojson").write_text(parcel_file())
    options = dict.fromkeys(EVERYTHING.split(), True) | {
        "vector_file_name": "parcels.geojson", "out_tif_folder_base": str(folder / "out"),
        "parcel_id_column": "id", "crop_name_column": "crop",
        "list_of_parcel_ids_to_process": [101],
        "search_window_start_date": "2024-03-01", "search_window_end_date": "2024-06-10",
        "index_graph_start_date": "2024-03-01", "index_graph_end_date": "2024-06-10",
        "plot_title": "tt 2024", "buffer_size_meter": 50, "centroid_shift_degrees": 0.00001,
        "MS": "tt", "year": 2024, "api_user": USER, "api_pass": PASSWORD, "ptype": "",
    }  # fmt: skip
    start = (
        "import json, sys; sys.path[:0] = ['.', './utils']; "
        "import run_calendar_view_from_jupyter as view; "
        "view.run_calendar_view(**json.load(sys.stdin))"
    )
    run([python, "-W", "ignore", "-c", start], folder, with_gdal, input=json.dumps(options))
    return folder / "out"


def parcel_file() -> str:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    feature = {
        "type": "Feature",
        "properties": {"id": 101, "crop": "maize"},
        "geometry": jrc_state.PARCELS[0].__geo_interface__,
    }
    return json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]})


def clear_days() -> dict[str, int]:
    """Days without a cloud over the parcel -> the scene's number."""
    days = {}
    for number in range(SCENES):
        if number != CLOUDED:
            when = FIRST + number * EVERY
            days[f"{when:%Y-%m-%d}"] = number
    return days


def reflectance(state, number: int, band: str) -> np.ndarray:
    """DN of a scene with the offset applied."""
    with rasterio.open(state.folder / f"{number}_{band}.tif") as raster:
        return raster.read(1).astype(float) - 1000


def test_the_calendar_view_makes_all_its_pictures(calendar):
    made = {
        folder.name: len(list(folder.glob("*.jpg")))
        for folder in calendar.iterdir()
        if any(folder.glob("*.jpg"))
    }
    assert made == PICTURES


def test_the_calendar_views_ndvi_is_that_of_the_scenes(calendar, state):
    found = rows(calendar / "ndvi/101_maize_ndvi.csv")
    assert {row["acq_date"] for row in found} == set(clear_days())
    for row in found:
        number = clear_days()[row["acq_date"]]
        red, nir = (reflectance(state, number, band)[INSIDE] for band in ("B04", "B08"))
        ndvi = (nir - red) / (nir + red)
        assert float(row["ndvi_mean"]) == pytest.approx(ndvi.mean(), rel=1e-6)
        assert int(row["ndvi_count"]) == ndvi.size


def test_every_pixel_of_a_picture_of_ndvi_is_right(calendar, state):
    [picture] = calendar.glob(f"101_maize*ndvi/*{MOWN_DAY.replace('-', '')}T*.tif")
    number = clear_days()[MOWN_DAY]
    red, nir = (reflectance(state, number, band) for band in ("B04", "B08"))
    with (
        rasterio.open(picture) as got,
        rasterio.open(state.folder / f"{number}_B04.tif") as scene,
    ):
        at = scene.window(*got.bounds).round_offsets().round_lengths().toslices()
        np.testing.assert_allclose(got.read(1), ((nir - red) / (nir + red))[at], rtol=1e-6)


def test_the_calendar_views_statistics_are_the_stored_signatures(calendar, state):
    stored = {
        (row.band, row.day): row.mean
        for row in db.fetch_all(
            state.conn,
            "SELECT s.band, d.obstime::date::text AS day, s.mean FROM tt.sigs_2024 s "
            "JOIN dias_catalogue d ON d.id = s.obsid WHERE s.pid = 1",
        )
    }
    bands = rows(calendar / "band_stats/101.csv")
    assert len(bands) == SCENES - 1
    for row in bands:
        for band in ("B02", "B04", "B08", "B11"):
            mean = stored[band, row["acq_date"]] + 1000
            assert float(row[f"{band.lower()}_mean"]) == pytest.approx(mean, abs=0.01)
    for folder, kind, name in (("s1_coh6", "coh6", "c"), ("s1_bs", "bs", "b")):
        days = 0
        for file in (calendar / folder).glob("*_V[VH]_[AD].csv"):
            polarisation = file.stem.split("_")[-2]
            for row in rows(file):
                mean = stored[polarisation + name, row["acq_date"]]
                assert float(row[f"{kind}_mean"]) == pytest.approx(mean, rel=1e-5)
                days += 1
        assert days == 2 * SCENES
