"""The database serves members over TLS with a password, and nobody else; settings fit the host."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from tests.appliance.conftest import ROOT, Appliance


@pytest.fixture(scope="module")
def database(appliance: Appliance) -> Host:
    return appliance.host("postgis")


def psql(database: Host, appliance: Appliance, statement: str, **settings: str) -> tuple[int, str]:
    """Ask as a member would; the password comes from the operator's secrets."""
    name = appliance.names("postgis")[0]
    user = settings.get("PGUSER", "api")
    environment = {
        "CBM_TEST": "1",  # Ansible logs what it runs: lines with this are this test's own
        "PGHOST": name,
        "PGHOSTADDR": str(appliance.variables(name)["cbm_address"]),
        "PGDATABASE": "cbm",
        "PGUSER": user,
        "PGPASSWORD": appliance.secret(f"database_{user}") if user != "postgres" else "x",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/etc/cbm/tls/authority.crt",
    } | settings
    variables = " ".join(f"{key}='{value}'" for key, value in environment.items())
    ran = database.run(f'{variables} psql -XAtw -c "{statement}"')
    return ran.rc, (ran.stdout + ran.stderr).strip()


@pytest.mark.parametrize("login", ["owner", "worker", "api", "analyst", "monitor"])
def test_each_login_comes_in_over_verified_tls(
    database: Host, appliance: Appliance, login: str
) -> None:
    statement = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert psql(database, appliance, statement, PGUSER=login) == (0, f"{login}|t")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"PGPASSWORD": "wrong"}, "password authentication failed"),
        ({"PGSSLMODE": "disable"}, "pg_hba.conf rejects"),
        ({"PGUSER": "postgres"}, "pg_hba.conf rejects"),
        ({"PGDATABASE": "postgres"}, "pg_hba.conf rejects"),
        (
            {"PGUSER": "worker", "PGPORT": "6432", "PGPASSWORD": "wrong"},
            "SASL authentication failed",
        ),
        ({"PGUSER": "worker", "PGPORT": "6432", "PGSSLMODE": "disable"}, "SSL required"),
        ({"PGUSER": "owner", "PGPORT": "6432"}, "no such user"),
        ({"PGUSER": "postgres", "PGPORT": "6432"}, "no such user"),
    ],
)
def test_what_does_not_belong_is_refused(
    database: Host, appliance: Appliance, settings: dict[str, str], why: str
) -> None:
    code, output = psql(database, appliance, "SELECT 1", **settings)
    assert code != 0
    assert re.search(why, output), output


@pytest.mark.parametrize("port", [5432, 6432])
def test_a_stranger_reaches_no_port(appliance: Appliance, port: int) -> None:
    """This machine is no member: the firewall drops what it sends."""
    address = str(appliance.variables(appliance.names("postgis")[0])["cbm_address"])
    with (
        pytest.raises((TimeoutError, ConnectionError)),
        socket.create_connection((address, port), 3),
    ):
        pass


def test_an_analyst_reads_and_cannot_write(database: Host, appliance: Appliance) -> None:
    assert psql(database, appliance, "SELECT count(*) >= 0 FROM scene", PGUSER="analyst") == (
        0,
        "t",
    )
    for statement in (
        "DELETE FROM scene",
        "SET default_transaction_read_only = off; DELETE FROM scene",
        "SET default_transaction_read_only = off; CREATE TABLE mine (x int)",
        "SELECT * FROM api_user",
    ):
        code, output = psql(database, appliance, statement, PGUSER="analyst")
        assert code != 0, statement
        assert "read-only transaction" in output or "permission denied" in output


def test_statements_have_limits(database: Host, appliance: Appliance) -> None:
    shown = "SHOW statement_timeout"
    assert psql(database, appliance, shown, PGUSER="api") == (0, "1min")
    assert psql(database, appliance, shown, PGUSER="analyst") == (0, "10min")
    assert psql(database, appliance, shown, PGUSER="worker") == (0, "0")


def test_the_server_has_a_connection_for_every_thread_that_may_want_one(
    appliance: Appliance,
) -> None:
    api = appliance.host("api")
    program = "from app.settings import ApiSettings; print(ApiSettings.from_env().connections)"
    process = int(api.check_output(f"docker exec cbm-api-8000 python3 -c '{program}'"))
    workers = 2 * int(re.findall(r"--workers (\d+)", api.check_output("ps -eo args"))[0])
    assert int(appliance.sql("SHOW max_connections")) == workers * process + 20 + 50


def test_an_analyst_who_lifts_his_timeout_is_ended_all_the_same(
    database: Host, appliance: Appliance
) -> None:
    assert database.service("cbm-cancel-analysts.timer").is_running
    folder = "/run/systemd/system/cbm-cancel-analysts.service.d"
    shorter = f"mkdir -p {folder} && printf '[Service]\\nEnvironment=CBM_LONGEST=2s\\n'"
    database.check_output(f"{shorter} >{folder}/test.conf && systemctl daemon-reload")
    try:
        # Sooner than the timer.
        soon = "systemd-run --quiet --on-active=4 --timer-property=AccuracySec=100ms"
        database.check_output(f"{soon} systemctl start cbm-cancel-analysts")
        sleeps = "SET statement_timeout = 0; SELECT pg_sleep(100)"
        code, output = psql(database, appliance, sleeps, PGUSER="analyst")
    finally:
        database.check_output(f"rm -r {folder} && systemctl daemon-reload")
    assert code != 0
    assert "canceling statement due to user request" in output


def test_pgbouncer_is_no_superuser_and_knows_pooled_logins_only(database: Host) -> None:
    user = database.check_output("ps -o user= -p $(systemctl show -P MainPID pgbouncer)").strip()
    assert user == "pgbouncer"
    known = (
        "psql -XAt cbm -U pooler -c "
        "\"SELECT name, verifier ~ '^SCRAM' FROM unnest(ARRAY['worker', 'owner', 'postgres']) l, "
        'cbm_pool.verifier(l)"'
    )
    assert database.check_output(f"runuser -u pgbouncer -- {known}") == "worker|t"
    refused = database.run("runuser -u pgbouncer -- psql -XAt cbm -U pooler -c 'TABLE pg_authid'")
    assert "permission denied" in refused.stderr


def test_programs_work_through_pgbouncer(database: Host, appliance: Appliance) -> None:
    """The queue's statements, by the worker's own connection: parameters, transactions, COPY."""
    address = str(appliance.variables(appliance.names("postgis")[0])["cbm_address"])
    program = """
from store import db, queue
conns = [db.connect("test") for _ in range(30)]  # more than the pool has, at a time
for conn in conns:
    with db.transaction(conn):
        assert db.fetch_one(conn, "SHOW TimeZone").TimeZone == "UTC"
        assert db.fetch_one(
            conn, "SELECT pg_try_advisory_xact_lock(%s) AS got", (id(conn) % 99991,)
        ).got
    queue.progress(conn)
    assert queue.open_work(conn) >= 0
print(b"".join(db.copy_csv(conns[0], "SELECT %s AS n", (7,))).decode().split())
"""
    ran = database.run(
        "cd /; CBM_TEST=1 PGHOST=%s PGHOSTADDR=%s PGPORT=6432 PGDATABASE=cbm "
        "PGUSER=worker PGPASSWORD=%s "
        "PGSSLMODE=verify-full PGSSLROOTCERT=/etc/cbm/tls/authority.crt "
        "/opt/cbm/store/bin/python -c %s",
        appliance.names("postgis")[0],
        address,
        appliance.secret("database_worker"),
        program,
    )
    assert ran.stdout.strip() == "['n', '7']", ran.stderr


def test_passwords_are_in_no_log(database: Host, appliance: Appliance) -> None:
    journal = database.check_output("journalctl --no-pager; cat /var/log/postgresql/* 2>/dev/null")
    logged = "\n".join(line for line in journal.splitlines() if "CBM_TEST=" not in line)
    for login in ("owner", "worker", "api", "analyst", "monitor"):
        assert appliance.secret(f"database_{login}") not in logged


def _settings(appliance: Appliance, memory_mb: int, folder: Path) -> dict[str, str]:
    """The role's settings for another memory, rendered by Ansible with the host's variables."""
    rendered = folder / "settings.conf"
    play = folder / "render.yml"
    host = appliance.names("postgis")[0]
    facts = {"processor_vcpus": 4 if memory_mb < 8192 else 16}
    task = {
        "name": "Render",
        "ansible.builtin.template": {
            "src": str(ROOT / "roles/postgis/templates/appliance.conf.j2"),
            "dest": str(rendered),
        },
        "delegate_to": "localhost",
        "become": False,
        "vars": {"__postgis_m": memory_mb, "__postgis_cores": facts["processor_vcpus"]},
    }
    files = [
        f"{ROOT}/{path}"
        for path in (
            "playbooks/group_vars/all.yml",
            "roles/postgis/defaults/main.yml",
            "roles/postgis/vars/main.yml",
            "roles/postgis/vars/Debian-12.yml",
        )
    ]
    play.write_text(
        yaml.safe_dump(
            [
                {
                    "name": "Render",
                    "hosts": host,
                    "gather_facts": False,
                    "vars_files": files,
                    "tasks": [task],
                }
            ]
        )
    )
    appliance.play(str(play), "-e", json.dumps({"cbm_source": str(ROOT)}))
    lines = [
        line for line in rendered.read_text().splitlines() if line and not line.startswith("#")
    ]
    return dict(line.split(" = ") for line in lines)


@pytest.mark.parametrize(
    ("memory_mb", "expected"),
    [
        (1024, {"shared_buffers": "256MB", "effective_cache_size": "614MB", "work_mem": "4MB",
                "maintenance_work_mem": "64MB", "max_wal_size": "1024MB",
                "max_parallel_workers_per_gather": "2"}),
        (65536, {"shared_buffers": "16384MB", "effective_cache_size": "39321MB",
                 "work_mem": "122MB", "maintenance_work_mem": "2048MB", "max_wal_size": "16384MB",
                 "max_parallel_workers_per_gather": "4"}),
    ],
)  # fmt: skip
def test_settings_follow_the_memory(
    appliance: Appliance, tmp_path: Path, memory_mb: int, expected: dict[str, str]
) -> None:
    settings = _settings(appliance, memory_mb, tmp_path)
    assert {name: settings[name] for name in expected} == expected
    assert settings["huge_pages"] == "off"


def test_server_runs_with_the_computed_settings(appliance: Appliance) -> None:
    statement = (
        "SELECT count(*) FROM pg_file_settings WHERE sourcefile ~ '10-appliance' "
        "AND NOT applied AND error IS NOT NULL"
    )
    assert appliance.sql(statement) == "0"
    assert appliance.sql("SHOW data_checksums") == "on"


@contextmanager
def _loop(host: Host) -> Iterator[str]:
    """A file of the host as an empty block device."""
    host.check_output("truncate -s 256M /var/tmp/volume.img")
    for number in range(8):
        host.run(f"mknod /dev/loop{number} b 7 {number}")
    host.run("mknod /dev/loop-control c 10 237")
    device = host.check_output("losetup --find --show /var/tmp/volume.img")
    try:
        yield device
    finally:
        host.run("umount /mnt/test-volume; sed -i '/test-volume/d' /etc/fstab")
        host.run(f"losetup -d {device}; rm -f /var/tmp/volume.img")


@pytest.mark.full
def test_volume_is_formatted_once_and_foreign_ones_are_refused(
    appliance: Appliance, database: Host, tmp_path: Path
) -> None:
    """On loop devices: empty, ours, somebody else's, partitioned."""
    play = tmp_path / "volume.yml"
    play.write_text(yaml.safe_dump([{
        "name": "Mount", "hosts": appliance.names("postgis")[0], "tasks": [{
            "name": "Mount",
            "ansible.builtin.include_role": {"name": "volume"},
            "vars": {
                "volume_name": "test", "volume_mount": "/mnt/test-volume",
                "cbm_volumes": {"test": {"device": "{{ device }}", "size_gb": 1}},
            },
        }],
    }]))  # fmt: skip
    with _loop(database) as device:
        appliance.play(str(play), "-e", f"device={device}")
        database.check_output("echo kept >/mnt/test-volume/file")
        again = appliance.play(str(play), "-e", f"device={device}")
        assert re.search(r"changed=0", again)
        assert database.file("/mnt/test-volume/file").content_string.strip() == "kept"
        assert re.search(
            r"UUID=\S+ /mnt/test-volume ext4 .*nofail", database.file("/etc/fstab").content_string
        )
        database.check_output("umount /mnt/test-volume; sed -i '/test-volume/d' /etc/fstab")
        for spoil, named in (
            (f"mkfs.ext4 -q -F -L other {device}", "ext4 other"),
            (f"wipefs -qa {device}; mkswap {device}", "swap"),
            (f"wipefs -qa {device}; echo ', ,' | sfdisk -q {device}", "dos"),
        ):
            database.check_output(spoil)
            before = database.check_output(f"sha256sum {device}")
            with pytest.raises(AssertionError, match=f"holds {named}"):
                appliance.play(str(play), "-e", f"device={device}")
            assert database.check_output(f"sha256sum {device}") == before
