"""`cbm-store dump`: an aoi as a whole, of one moment, that a new database takes in."""

import gzip
import subprocess
from contextlib import closing

import pytest
from click.testing import CliRunner, Result

from store import db
from store.cli import main
from tests.integration import small_state
from tests.integration.jrc_statements import STATEMENTS, fill

VIEWS = ("tt.parcels_2024", "tt.sigs_2024", "tt.hists_2024", "tt.preferred", "dias_catalogue")


@pytest.fixture
def state(database):
    """Campaign tt 2024 with its signatures and a marker; another aoi, a scene of nobody."""
    fill(database, 30)
    db.execute(database, "SELECT cbm_enqueue()")
    db.execute(database, "UPDATE work SET state = 'done', signatures = 30 WHERE obsid < 3")
    db.execute(
        database,
        "INSERT INTO marker (campaign_id, code, marker, date_start, practice) "
        "VALUES (1, 'p7', 'mowing', '2024-05-01', E'two\\nlines\\t\\\\.')",
    )
    small_state.add_campaign(database, [small_state.square(0, 0)], aoi="uu", year=2020)
    db.execute(
        database,
        "INSERT INTO scene (reference, kind, platform, obstime, acquisition, unit, epsg, "
        "footprint, bands, software) SELECT 'S2_OF_NOBODY', kind, platform, '2019-01-01', 'x', "
        "unit, epsg, footprint, bands, software FROM scene WHERE obsid = 1",
    )
    return database


def dump(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dump", *arguments])


def contents(conn) -> dict[str, list]:
    return {
        view: sorted(map(str, db.fetch_all(conn, f"SELECT * FROM {view}"))) for view in VIEWS
    } | {
        table: sorted(map(str, db.fetch_all(conn, f"SELECT * FROM {table} WHERE campaign_id = 1")))
        for table in ("parcel_set", "marker")
    }


def test_a_dump_loaded_into_a_new_database_is_the_same_aoi(
    cluster, template, state, tmp_path, monkeypatch
):
    file = tmp_path / "tt.sql.gz"
    done = dump("TT", str(file))
    assert done.exit_code == 0, done.output
    assert "6 scene" in done.output
    assert file.stat().st_mode & 0o077 == 0
    db.execute(state, "DELETE FROM scene WHERE reference = 'S2_OF_NOBODY'")
    wanted = contents(state)
    admin = db.connect("test", db.dsn(cluster.environment("postgres")))
    db.execute(admin, db.compose("CREATE DATABASE loaded TEMPLATE {t}", t=template))
    db.execute(admin, "GRANT CREATE ON DATABASE loaded TO cbm_owner")
    try:
        assert load(cluster, file).returncode == 0
        with closing(db.connect("test", db.dsn(cluster.environment("loaded")))) as conn:
            assert contents(conn) == wanted
            assert db.fetch_all(conn, "SELECT code FROM aoi") == [("tt",)]
            assert not db.fetch_all(conn, "SELECT FROM pg_namespace WHERE nspname = 'uu'")
            assert len(db.fetch_all(conn, STATEMENTS["by code"])) == 12
            db.fetch_one(conn, "SELECT cbm_make_campaign('tt', 2025, '', '2025-01-01', "
                               "'2025-12-31', 0::real)")  # fmt: skip
        again = load(cluster, file)
        assert again.returncode == 3
        assert "load it into a new one" in again.stderr
    finally:
        db.execute(admin, "DROP DATABASE loaded WITH (FORCE)")
        admin.close()


def load(cluster, file) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["psql", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--quiet"],
        input=gzip.decompress(file.read_bytes()).decode(), text=True, capture_output=True,
        env=cluster.environment("loaded") | {"PATH": "/usr/bin"}, check=False, timeout=100,
    )  # fmt: skip


def test_the_owners_login_may_dump(state, tmp_path, monkeypatch):
    db.execute(state, "CREATE ROLE dump_owner LOGIN PASSWORD 'own' IN ROLE cbm_owner")
    try:
        monkeypatch.setenv("PGUSER", "dump_owner")
        monkeypatch.setenv("PGPASSWORD", "own")
        done = dump("tt", str(tmp_path / "tt.sql.gz"))
        assert done.exit_code == 0, done.output
    finally:
        db.execute(state, "DROP ROLE dump_owner")


def test_an_unknown_aoi_or_a_failure_leaves_no_file(state, tmp_path, monkeypatch):
    file = tmp_path / "dump" / "x.sql.gz"
    file.parent.mkdir()
    unknown = dump("zz", str(file))
    assert unknown.exit_code == 2
    assert "there is no aoi zz" in unknown.output
    failing = tmp_path / "bin" / "pg_dump"
    failing.parent.mkdir()
    failing.write_text("#!/bin/sh\necho 'server version mismatch' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{failing.parent}:/usr/bin:/bin")
    failed = dump("tt", str(file))
    assert (failed.exit_code != 0, "server version mismatch" in failed.output) == (True, True)
    assert not list(file.parent.iterdir())


def test_where_pg_dump_is_missing_it_says_where_to_run_before_it_writes(
    state, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "/nowhere")
    missing = dump("tt", str(tmp_path / "x.sql.gz"))
    assert missing.exit_code != 0
    assert "pg_dump is missing here" in missing.output
    assert "on the database's host" in missing.output
    assert "scene ..." not in missing.output
    assert not list(tmp_path.iterdir())
