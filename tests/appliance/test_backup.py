"""Backups are encrypted, the drill compares all of one, a lost host comes back as it was."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from tests.appliance import s3_door
from tests.appliance.conftest import ROOT, Appliance
from tests.appliance.way_in import WayIn
from tests.beds.hosts.lab import Lab


@pytest.fixture(scope="module")
def database(appliance: Appliance) -> Host:
    return appliance.host("backup")


def fingerprint(database: Host) -> dict[str, Any]:
    """Counts and digests of all tables."""
    output = database.check_output("runuser -u postgres -- /usr/local/sbin/cbm-backup fingerprint")
    return dict(json.loads(output))


def test_backup_now_is_published_and_encrypted(appliance: Appliance, database: Host) -> None:
    began = time.time() - 1
    appliance.play("backup.yml")
    published = database.file("/var/lib/cbm/metrics/backup.prom").content_string
    ended = re.search(r"^cbm_backup_last_success_seconds (\d+)", published, re.MULTILINE)
    assert ended
    assert int(ended[1]) >= int(began)
    [stanza] = json.loads(
        database.check_output("runuser -u postgres -- pgbackrest --stanza=cbm --output=json info")
    )
    assert stanza["cipher"] == "aes-256-cbc"


def test_secrets_of_the_repository_are_kept(appliance: Appliance, database: Host) -> None:
    settings = database.file("/etc/pgbackrest.conf")
    assert (settings.user, settings.group, settings.mode) == ("root", "postgres", 0o640)
    assert appliance.secret("backup_cipher") in settings.content_string
    assert appliance.secret("backup_cipher") not in database.check_output("journalctl --no-pager")


def test_wal_of_a_write_is_archived_within_the_timeout(appliance: Appliance) -> None:
    appliance.sql("CREATE TABLE IF NOT EXISTS pulse (x int); INSERT INTO pulse VALUES (1)")
    segment = appliance.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    deadline = time.monotonic() + 120
    archived = f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver"
    while appliance.sql(archived) != "t":
        assert time.monotonic() < deadline, f"{segment} is not archived after two minutes"
        time.sleep(2)
    appliance.sql("DROP TABLE pulse")


def test_drill_restores_and_finds_all_equal(appliance: Appliance, database: Host) -> None:
    output = appliance.play("drill.yml")
    result = json.loads(database.file("/var/lib/cbm/backup/drill.json").content_string)
    assert result["differing"] == []
    assert result["tables"] == len(fingerprint(database)["tables"])
    assert result["point"] in output
    assert (
        "cbm_drill_last_success_seconds"
        in database.file("/var/lib/cbm/metrics/drill.prom").content_string
    )
    assert not database.file("/var/lib/postgresql/drill").exists


def test_restore_only_says_what_it_would_do(appliance: Appliance) -> None:
    before = appliance.sql("SELECT pg_postmaster_start_time()")
    output = appliance.play("restore.yml")
    assert "Nothing is done yet" in output
    assert "The current data are kept, in /var/lib/postgresql" in output
    assert appliance.sql("SELECT pg_postmaster_start_time()") == before


def test_restore_refuses_what_cannot_be(appliance: Appliance) -> None:
    with pytest.raises(AssertionError, match="no backup that ended before 2001-01-01"):
        appliance.play("restore.yml", "-e", json.dumps({"restore_to": "2001-01-01 00:00:00+00"}))
    with pytest.raises(AssertionError, match="write latest, or a moment"):
        appliance.play("restore.yml", "-e", json.dumps({"restore_to": "2026-05-01 12:00"}))


@pytest.fixture
def places(appliance: Appliance) -> None:
    """No row of an earlier run is left where these tests write theirs."""
    appliance.sql("DELETE FROM aoi WHERE code IN ('keep', 'later', 'firsta', 'secondb')")


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("places")
def test_a_mistake_is_taken_back_in_place(appliance: Appliance, database: Host) -> None:
    """To a moment before it, on the same host; and from there on to the last write."""
    appliance.play("backup.yml")
    appliance.sql("INSERT INTO aoi (code) VALUES ('keep')")
    then = fingerprint(database)
    time.sleep(1.5)
    target = json.dumps({"restore_to": appliance.sql("SELECT now()")})
    time.sleep(1.5)
    appliance.sql("DELETE FROM aoi WHERE code = 'keep'")
    _await_archived(appliance)

    output = appliance.play("restore.yml", "-e", target, "-e", "yes=true")
    kept = re.search(r"The current data are kept, in (/var/lib/postgresql/\S+)\.", output)
    assert kept
    assert database.file(kept[1]).is_directory
    assert fingerprint(database)["tables"] == then["tables"]

    appliance.sql("INSERT INTO aoi (code) VALUES ('later')")
    later = fingerprint(database)
    _await_archived(appliance)
    appliance.play("restore.yml", "-e", "yes=true", "-e", "restore_keep=false")
    assert fingerprint(database)["tables"] == later["tables"]
    assert WayIn.of(appliance).ask("/readyz").status == 200


@pytest.fixture
def away(appliance: Appliance, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Options that send the backups to a bucket, which outlives the host; not itself for ever."""
    [address] = {str(appliance.variables(n)["cbm_address"]) for n in appliance.names("backup")}
    gateway = f"{address.rsplit('.', 1)[0]}.1"
    secrets = appliance.inventory.parent / "secrets"
    with s3_door.bucket(gateway, secrets, tmp_path) as bucket:
        (secrets / "backup_s3").write_text(bucket.secret)
        options = {
            "backup_s3_endpoint": bucket.endpoint,
            "backup_s3_bucket": bucket.name,
            "backup_s3_key_id": bucket.key_id,
        }
        yield "-e", json.dumps(options)
    _converge_backups(appliance, tmp_path)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("places")
def test_lost_host_comes_back_as_of_a_moment(
    appliance: Appliance, away: tuple[str, str], tmp_path: Path
) -> None:
    """Backup, write A, note the time, write B, destroy host and data: A is there, B is not."""
    name = appliance.names("backup")[0]
    _converge_backups(appliance, tmp_path, *away)
    database = appliance.host("backup")
    appliance.sql("INSERT INTO aoi (code) VALUES ('firsta')")
    then = fingerprint(database)
    time.sleep(1.5)
    moment = appliance.sql("SELECT now()")
    time.sleep(1.5)
    appliance.sql("INSERT INTO aoi (code) VALUES ('secondb')")
    assert fingerprint(database)["tables"] != then["tables"]
    _await_archived(appliance)

    _destroy(appliance, name)
    database = appliance.host("backup")
    assert database.run("ls /var/lib/postgresql/*/main").failed

    target = json.dumps({"restore_to": moment})
    began = time.monotonic()
    output = appliance.play("restore.yml", *away, "-e", target, "-e", "yes=true")
    print(f"restored to a fresh host in {time.monotonic() - began:.0f} s")

    assert "There are no data yet" in output
    assert "The last migration then was" in output
    found = fingerprint(database)
    assert found["tables"] == then["tables"]
    assert (
        appliance.sql("SELECT string_agg(code, ',') FROM aoi WHERE code IN ('firsta', 'secondb')")
        == "firsta"
    )
    appliance.play("drill.yml")


def _await_archived(appliance: Appliance) -> None:
    """All that was written until now is in the repository."""
    appliance.sql("SELECT pg_switch_wal()")
    last = appliance.sql("SELECT pg_walfile_name(pg_current_wal_lsn() - 16777216)")
    for _ in range(60):
        if appliance.sql(f"SELECT last_archived_wal >= '{last}' FROM pg_stat_archiver") == "t":
            return
        time.sleep(1)
    pytest.fail(f"{last} was not archived in a minute")


def _converge_backups(appliance: Appliance, folder: Path, *options: str) -> None:
    """Where backups go, from now on; that of before may be gone."""
    play = folder / "backup.yml"
    play.write_text(
        yaml.safe_dump(
            [
                {
                    "name": "Send backups elsewhere",
                    "hosts": "backup",
                    "vars_files": [str(ROOT / "playbooks" / "group_vars" / "all.yml")],
                    "roles": [{"role": "backup"}],
                }
            ]
        )
    )
    appliance.play(str(play), *options)


def _destroy(appliance: Appliance, name: str) -> None:
    """Remove a host of the bed with all it had; make a bare one of its name."""
    folder = appliance.inventory.parents[1]
    address = str(appliance.variables(name)["cbm_address"])
    container = f"{folder.name}-{name}"
    subprocess.run(
        ["docker", "rm", "--force", "--volumes", container], check=True, capture_output=True
    )
    subprocess.run(
        ["docker", "volume", "rm", f"{container}-docker", f"{container}-containerd"],
        check=True,
        capture_output=True,
    )
    assert os.environ.get("HOSTS_CACHE", str(folder.parent)) == str(folder.parent)
    Lab(folder.name, address.rsplit(".", 1)[0]).up(name)
