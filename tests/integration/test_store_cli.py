"""`cbm-store` as its users run it: what it prints, and its exit status."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
from click.testing import CliRunner

from store import catalogue, db
from store.cli import main
from store.parcels import campaigns
from tests.integration.small_state import a_scene, square

PROGRAM = str(Path(sys.executable).parent / "cbm-store")
NL = ("--aoi", "nl", "--year", "2024")


def run(*arguments, stdin=""):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def succeeded(*arguments):
    ended = run(*arguments)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def failed(*arguments, status=2):
    """The one sentence of a command that must fail, without a traceback."""
    ended = run(*arguments)
    assert ended.exit_code == status, ended.stdout + ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "parcels.gpkg"
    pyogrio.raw.write(
        path,
        np.array([square(10 * k, 0).wkb for k in range(3)], dtype=object),
        [np.array(["a", "b", None], dtype=object), np.array(["Öl"] * 3, dtype=object)],
        ["id", "crop"], geometry_type="Polygon", crs="EPSG:32632", driver="GPKG",
    )  # fmt: skip
    return path


def test_migrate_says_what_it_would_apply_applies_it_and_then_nothing(empty_database):
    planned = succeeded("migrate", "--dry-run").splitlines()
    assert planned[0] == "would apply 0001_catalogue.sql"
    assert db.fetch_one(empty_database, "SELECT to_regclass('scene') AS scene").scene is None
    applied = succeeded("migrate").splitlines()
    assert [line.split()[-1] for line in applied] == [line.split()[-1] for line in planned]
    assert succeeded("migrate") == "the schema is up to date\n"
    assert succeeded("migrate", "--dry-run") == "the schema is up to date\n"


def test_a_season_from_creation_to_drop(database, file):
    made = succeeded("campaign", "create", *NL, "--buffer", "5")
    assert made == "made nl_2024: scenes from 2023-10-01 to 2024-12-31, buffer 5 m\n"
    report = succeeded("parcels", "import", file, *NL, "--id-column", "id", "--crop-column", "crop")
    assert "new               2" in report
    assert "Refused: no id: feature 3 (no id)" in report
    catalogue.register(database, [a_scene(1)])
    header, row = succeeded("campaign", "list").splitlines()
    assert header.split()[-3:] == ["parcels", "scenes", "signatures"]
    assert row.split() == [
        "nl_2024", "open", "2023-10-01", "2024-12-31", "5", "32632", "2", "1", "0",
    ]  # fmt: skip
    assert succeeded("campaign", "close", *NL) == "closed nl_2024\n"
    assert "is closed" in failed("parcels", "import", file, *NL)
    assert succeeded("campaign", "drop", *NL, "--yes") == (
        "dropped nl_2024 with 2 parcels and 0 signatures of 1 scenes\n"
    )
    assert campaigns.find_all(database) == []


def test_the_json_report_is_nothing_but_json(database, file):
    succeeded("campaign", "create", *NL)
    report = json.loads(
        succeeded("parcels", "import", file, *NL, "--id-column", "id", "--dry-run", "--json")
    )
    assert (report["read"], report["new"], report["dry_run"]) == (3, 2, True)
    assert report["refused"] == [{"fid": 3, "code": None, "reason": "no id"}]


def test_drop_asks_for_the_name_and_says_what_will_be_lost(database, file):
    succeeded("campaign", "create", *NL)
    succeeded("parcels", "import", file, *NL)
    declined = run("campaign", "drop", *NL, stdin="yes\n")
    assert declined.exit_code == 2
    assert "erases nl_2024 with 3 parcels and 0 signatures" in declined.stderr
    assert "nl_2024 stays" in declined.stderr
    assert run("campaign", "drop", *NL, stdin="").exit_code == 1
    assert campaigns.find(database, "nl", 2024)
    assert run("campaign", "drop", *NL, stdin="nl_2024\n").exit_code == 0
    assert campaigns.find_all(database) == []


def test_mistakes_end_in_one_sentence_and_status_2(database, file):
    assert "campaign create --aoi nl --year 2024" in failed("parcels", "import", file, *NL)
    assert "lower-case letters" in failed("campaign", "create", "--aoi", "N", "--year", "2024")
    succeeded("campaign", "create", *NL)
    assert "exists already" in failed("campaign", "create", *NL)
    wrong = failed("parcels", "import", file, *NL, "--id-column", "kode")
    assert wrong == "Error: the layer parcels has no column 'kode'; it has fid, id, crop\n"
    assert "there is no file" in failed("parcels", "import", "absent.gpkg", *NL)


def test_an_unmigrated_database_names_the_command(empty_database):
    assert "cbm-store migrate" in failed("campaign", "list")


def test_a_database_that_is_away_ends_in_one_sentence_and_status_1():
    env = os.environ | {"PGHOST": "127.0.0.1", "PGPORT": "1"}
    ended = subprocess.run(
        [PROGRAM, "campaign", "list"], env=env, text=True, capture_output=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: cannot connect to the database")
    assert "Traceback" not in ended.stderr


def test_a_terminal_sees_a_bar_while_features_are_read(database, file):
    succeeded("campaign", "create", *NL)
    ours, theirs = pty.openpty()
    ended = subprocess.run(
        [PROGRAM, "parcels", "import", str(file), *NL], stderr=theirs, stdout=subprocess.PIPE,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert ended.returncode == 0
    assert "Reading features" in seen
    assert "100%" in seen
    assert "read              3" in ended.stdout


@pytest.mark.parametrize("command", ["", "migrate", "campaign create", "parcels import"])
def test_help_needs_no_database(command):
    assert succeeded(*command.split(), "--help").startswith("Usage: ")


def test_help_shows_an_example_that_works(database):
    text = succeeded("campaign", "create", "--help")
    example = text.split("Example:")[1].split()
    assert example[0] == "cbm-store"
    succeeded(*example[1:])
    assert campaigns.find(database, "nl", 2024)
