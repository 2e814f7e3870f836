"""The private cluster: made completely or again, private to its owner, alive after a kill -9."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from standalone import cluster as standalone
from standalone.database import LOGINS, Database
from store import db

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kept() -> Iterator[standalone.Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="cbm-test-"))
    folder.chmod(0o711)
    yield standalone.make(folder)
    standalone.remove(folder)


def query(cluster: standalone.Cluster, sql: str, **env: str) -> str:
    run = subprocess.run(
        [cluster.bindir / "psql", "-XtAc", sql],
        env=cluster.environment() | env,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or run.stderr.strip()


def server_pid(cluster: standalone.Cluster) -> int:
    return int((cluster.data / "postmaster.pid").read_text().splitlines()[0])


def test_a_database_of_a_test_is_migrated_and_has_the_schemas_privileges(
    database: db.Connection,
) -> None:
    assert db.fetch_one(database, "SELECT count(*) FROM public.scene").count == 0
    may = db.fetch_one(
        database,
        "SELECT has_database_privilege('cbm_owner', current_database(), 'CREATE') AS owner,"
        " has_database_privilege('cbm_api', current_database(), 'CREATE') AS api",
    )
    assert (may.owner, may.api) == (True, False)


def test_environment_leads_a_client_to_the_test_database(database: db.Connection) -> None:
    assert database.info.dbname == os.environ["PGDATABASE"]
    assert database.info.port == int(os.environ["PGPORT"])


def test_starting_twice_keeps_the_server_and_its_port(kept: standalone.Cluster) -> None:
    port = kept.start()
    pid = server_pid(kept)
    assert standalone.make(kept.folder).start() == port
    assert server_pid(kept) == pid


def test_port_of_last_time_is_taken_again(kept: standalone.Cluster) -> None:
    port = kept.start()
    kept.stop()
    assert kept.port() is None
    assert kept.start() == port


def test_another_port_is_taken_when_the_last_one_is_in_use(kept: standalone.Cluster) -> None:
    port = kept.start()
    kept.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        assert kept.start() != port
    assert query(kept, "SELECT 1") == "1"


def test_server_listens_on_loopback_only_and_asks_for_the_password(
    kept: standalone.Cluster,
) -> None:
    kept.start()
    assert query(kept, "SHOW listen_addresses") == "127.0.0.1"
    assert query(kept, "SHOW unix_socket_directories") == ""
    assert "password authentication failed" in query(kept, "SELECT 1", PGPASSWORD="guess")
    assert (kept.home / "password").stat().st_mode & 0o777 == 0o600
    assert kept.home.stat().st_mode & 0o777 == 0o700


def test_data_survive_a_kill_9_of_the_server(kept: standalone.Cluster) -> None:
    kept.start()
    query(kept, "CREATE TABLE kept (n int)")
    query(kept, "INSERT INTO kept VALUES (7)")
    os.kill(server_pid(kept), signal.SIGKILL)
    kept.start()
    assert query(kept, "SELECT n FROM kept") == "7"


def test_half_made_cluster_is_replaced_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="cbm-test-"))
    folder.chmod(0o711)
    half = folder / "server" / "data"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15\n")
    try:
        cluster = standalone.make(folder, durable=False)
        cluster.start()
        assert query(cluster, "SELECT 1") == "1"
        assert "half-made cluster" in caplog.text
    finally:
        standalone.remove(folder)
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has an account that may be locked out")
def test_data_lie_elsewhere_when_the_servers_account_cannot_reach_the_folder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parent = Path(tempfile.mkdtemp(prefix="cbm-test-"))  # mode 0700
    try:
        cluster = standalone.make(parent / "cluster", durable=False)
        assert cluster.home.parent == Path("/var/lib/cbm-standalone")
        assert str(cluster.home) in caplog.text
        cluster.start()
        assert query(cluster, "SELECT 1") == "1"
        assert standalone.find(parent / "cluster") == cluster
        standalone.remove(parent / "cluster")
        assert not cluster.home.exists()
    finally:
        shutil.rmtree(parent)


def test_marker_without_data_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps({"home": "server"}))
    with pytest.raises(standalone.ClusterError, match=r"are gone.*make demo-clean"):
        standalone.make(tmp_path)


def test_damaged_marker_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(standalone.ClusterError, match=r"is damaged.*make demo-clean"):
        standalone.make(tmp_path)


def test_logins_of_the_demo_have_the_limits_that_those_of_the_appliance_have(kept):
    kept.start()
    database = Database(kept, dict.fromkeys(LOGINS, "a-word"))
    database.make()
    database.make()
    role = ROOT / "roles/postgis"
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    limits = yaml.safe_load((role / "vars/main.yml").read_text())["__postgis_limits"]
    for login in LOGINS:
        for setting, none in (("statement_timeout", "0"), ("temp_file_limit", "-1")):
            value = limits.get(login, {}).get(setting, none)
            value = defaults.get(value.strip("{ }"), value)
            shown = query(kept, f"SHOW {setting}", **database.settings(login))
            assert f"SET\n{shown}" == query(kept, f"SET {setting} = '{value}'; SHOW {setting}")
    refused = query(kept, "SET temp_file_limit = -1", **database.settings("analyst"))
    assert "permission denied" in refused
