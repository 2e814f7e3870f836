"""`cbm-card` as its users run it, with a real database."""

import json
import shutil
import zipfile

import pytest
from click.testing import CliRunner

from card.cli import main
from standalone.cli import main as standalone
from store import db
from tests.beds.recorded_stac import serving


def run(*arguments: object, program=main) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    result = CliRunner().invoke(program, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def strickhof(shared_data):
    return shared_data / "ch_strickhof_s2_2022/s2"


def test_a_real_folder_is_registered_once(database, strickhof):
    status, out, _ = run("register", strickhof)
    assert status == 0
    assert "29 scenes (29 s2), 0 problems, 0 other files." in out
    assert "Registered: 29 added, 0 changed, 0 known already" in out
    assert db.fetch_one(database, "SELECT count(*) AS n FROM scene").n == 29
    assert "0 added, 0 changed, 29 known already" in run("register", strickhof)[1]


def test_what_is_registered_is_what_the_files_say(database, strickhof):
    run("register", strickhof)
    row = db.fetch_one(
        database,
        "SELECT *, ST_Area(footprint::geography) AS area_m2 FROM scene "
        "WHERE reference = 'S2B_MSIL2A_20220725T101559_N0400_R065_T32TMT_20220725T132135'",
    )
    assert (row.kind, row.unit, row.scale, row.epsg) == ("s2", "reflectance", None, 32632)
    assert (row.platform, row.acquisition) == ("S2B", "S2B_20220725T101559_R065")
    assert row.absent == ["B08"]
    assert row.area_m2 == pytest.approx(900 * 900, rel=0.002)
    assert row.bands["SCL"]["index"] == 10


def test_a_dry_run_registers_nothing(database, strickhof):
    status, out, _ = run("register", strickhof, "--dry-run")
    assert (status, "Registered" in out, "29 scenes" in out) == (0, False, True)
    assert db.fetch_one(database, "SELECT count(*) AS n FROM scene").n == 0


def test_problems_are_listed_beside_what_was_registered(database, strickhof, tmp_path):
    shutil.copy(next(strickhof.glob("*.tiff")), tmp_path)
    (tmp_path / "broken.tif").touch()
    status, out, _ = run("register", tmp_path)
    assert status == 0
    assert f"PROBLEM  {tmp_path / 'broken.tif'}: not a readable raster" in out
    assert "1 added" in out


def test_json_tells_the_same(database, shared_data):
    folder = shared_data / "s2_l2a_products_120m"
    status, out, _ = run("register", folder, "--json")
    report = json.loads(out)
    assert status == 0
    assert [scene["tile"] for scene in report["scenes"]] == ["33TWL", "33TWM", "33TWM"]
    assert (report["problems"], report["others"]) == ([], 4)
    assert report["registered"]["added"] == 3


def test_level1_products_become_inputs(database, shared_data, tmp_path):
    for path in (shared_data / "s1_metadata").glob("S1A_IW_GRDH_*.zip"):
        zipfile.ZipFile(path).extractall(tmp_path)
    status, out, _ = run("register", tmp_path)
    assert status == 0
    assert "2 Level-1 products, not analysis-ready: make CARD from them" in out
    assert "Registered inputs: 2 added, 0 changed, 0 known already." in out
    rows = db.fetch_all(database, "SELECT * FROM input_product ORDER BY sensing_start")
    assert [(row.level, row.orbit_number, row.relative_orbit) for row in rows] == [
        ("GRD", 4739, 117), ("GRD", 4739, 117),
    ]  # fmt: skip
    again = json.loads(run("register", tmp_path, "--json")[1])
    assert again["registered_inputs"] == {"added": 0, "changed": 0, "unchanged": 2}
    assert db.fetch_one(database, "SELECT count(*) AS n FROM scene").n == 0


def test_the_sources_are_listed():
    status, out, _ = run("sources")
    assert (status, out.count("\n")) == (0, 6)
    assert "cdse-odata       odata      s2,bs,c6,c12,grd,slc" in out


def test_a_folder_without_scenes_is_an_error_with_the_reasons(shared_data):
    status, out, err = run("register", shared_data / "be_flanders_s1_s2/2023/s1-grd-sigma0-asc")
    assert status != 0
    assert out.count("PROBLEM") == 2
    assert "no scene found in" in err


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path):
    status, out, err = run("register", tmp_path / "gone")
    assert (status, out) == (2, "")
    assert err == f"Error: {tmp_path / 'gone'} is not a folder\n"


def test_a_stac_search_is_registered(database, shared_data):
    folder = shared_data / "catalogue/earthsearch_paging"
    pages = [json.loads((folder / f"page{n}.json").read_text())["response"] for n in (1, 2, 3)]
    with serving(*pages) as api:
        status, out, _ = run("sync", "--stac", api.url, "--collection", "sentinel-2-l2a",
                             "--bbox", "9,47,10,48", "--start", "2020-03-01",
                             "--end", "2020-03-05")  # fmt: skip
    assert (status, "Registered: 16 added" in out) == (0, True)
    assert api.requests[0]["datetime"] == "2020-03-01T00:00:00Z/2020-03-06T00:00:00Z"
    twins = db.fetch_all(
        database, "SELECT acquisition, tile, count(*) AS n FROM scene GROUP BY 1, 2"
    )
    assert {(twin.n) for twin in twins} == {2}
    assert len(twins) == 8


def test_a_search_that_finds_nothing_is_an_error(shared_data):
    path = shared_data / "catalogue/cdse_stac/search_empty_result.json"
    with serving(json.loads(path.read_text())["response"]) as api:
        status, _, err = run("sync", f"--stac={api.url}", "--collection=x",
                             "--bbox=-9,47,-8,48", "--start=2020-03-01",
                             "--end=2020-03-05")  # fmt: skip
    assert status != 0
    assert "no scene found in x of" in err


def test_a_senseless_box_is_one_sentence():
    status, _, err = run("sync", "--stac=http://127.0.0.1:1", "--collection=x", "--bbox=9,47",
                         "--start=2020-03-01", "--end=2020-03-05")  # fmt: skip
    assert status == 2
    assert "'9,47' is not W,S,E,N in degrees" in err


def test_a_synthetic_state_is_read_as_it_was_made(tmp_path):
    assert (
        run("synthesize", tmp_path / "state", "--parcels", "20", "--seed", "3", program=standalone)[
            0
        ]
        == 0
    )
    status, out, _ = run("register", tmp_path / "state", "--dry-run", "--json")
    report = json.loads(out)
    assert (status, report["problems"]) == (0, [])
    s2 = [scene for scene in report["scenes"] if scene["kind"] == "s2"]
    s1 = [scene for scene in report["scenes"] if scene["kind"] == "bs"]
    assert {scene["unit"] for scene in s1} == {"gamma0_terrain_linear"}
    assert {scene["bands"]["VV"]["href"][-4:] for scene in s1} == {".img", ".tif"}
    offsets = {(scene["baseline"] >= "04.00", scene["bands"]["B04"]["offset"]) for scene in s2}
    assert offsets == {(True, -1000.0), (False, 0.0)}
