"""The program of backups against a real database; pgBackRest itself runs on the bed of hosts."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from cbm_backup import repository, wait
from cbm_backup.database import digest_tables, fetch, fingerprint
from cbm_backup.drill import _mark
from cbm_backup.errors import BackupError

from store import db

INFO = [
    {
        "backup": [
            {
                "label": "20260501-010000F",
                "type": "full",
                "timestamp": {"stop": 1777597300},
                "info": {"repository": {"delta": 1000}},
            },
            {
                "label": "20260502-010000I",
                "type": "incr",
                "timestamp": {"stop": 1777683700},
                "info": {"repository": {"delta": 34}},
            },
        ]
    }
]


@pytest.fixture
def conn(database: db.Connection) -> Iterator[Any]:
    """As the program connects: autocommit."""
    connection = psycopg2.connect(dbname=os.environ["PGDATABASE"])
    connection.autocommit = True
    yield connection
    connection.close()


def test_a_digest_changes_with_a_row_and_not_with_the_order(conn: Any) -> None:
    fetch(conn, "CREATE TABLE public.t (a int, b text)")
    fetch(conn, "INSERT INTO t VALUES (1, 'x'), (2, NULL), (2, NULL)")
    first = digest_tables(conn)["public.t"]
    assert first.rows == 3
    fetch(conn, "TRUNCATE t")
    fetch(conn, "INSERT INTO t VALUES (2, NULL), (1, 'x'), (2, NULL)")
    assert digest_tables(conn)["public.t"] == first
    fetch(conn, "UPDATE t SET b = 'y' WHERE a = 1")
    changed = digest_tables(conn)["public.t"]
    assert changed.rows == 3
    assert changed.digest != first.digest


def test_a_fingerprint_names_the_last_migration_and_counts_all_rows(conn: Any) -> None:
    found = fingerprint(conn)
    names = [path.name for path in Path(db.__file__).with_name("sql").glob("[0-9]*.sql")]
    assert found["last_migration"] in (max(names), max(names).removesuffix(".sql"))
    assert found["rows"] == sum(table["rows"] for table in found["tables"].values())
    assert found["tables"]["public.cbm_migration"]["rows"] == len(names)


def test_the_point_of_a_drill_keeps_writers_out_and_excludes_their_later_rows(
    conn: Any, database: db.Connection
) -> None:
    fetch(conn, "CREATE TABLE public.t (a int)")
    writer = psycopg2.connect(dbname=os.environ["PGDATABASE"])
    reader = psycopg2.connect(dbname=os.environ["PGDATABASE"])
    reader.autocommit = True
    fetch(writer, "INSERT INTO t VALUES (1)")
    with pytest.raises(psycopg2.errors.LockNotAvailable):
        _mark(conn, reader, "busy")
    fetch(conn, "ROLLBACK")
    writer.commit()
    assert _mark(conn, reader, "free")
    fetch(writer, "INSERT INTO t VALUES (2)")
    writer.commit()
    assert digest_tables(reader)["public.t"].rows == 1
    writer.close()
    reader.close()


def test_gauges_have_the_newest_backups_times(tmp_path: Path, monkeypatch: Any) -> None:
    program = tmp_path / "pgbackrest"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps(INFO)}\nE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(repository, "METRICS", tmp_path)
    assert repository.publish() == {"label": "20260502-010000I", "type": "incr", "bytes": 34}
    lines = (tmp_path / "backup.prom").read_text().splitlines()
    assert "cbm_backup_last_success_seconds 1777683700" in lines
    assert "cbm_backup_last_full_success_seconds 1777597300" in lines
    assert "cbm_backup_stored_bytes 1034" in lines


def test_a_failure_of_pgbackrest_is_passed_on(tmp_path: Path, monkeypatch: Any) -> None:
    program = tmp_path / "pgbackrest"
    program.write_text("#!/bin/sh\necho 'ERROR: [055]: unable to load info file' >&2; exit 55\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BackupError, match=r"pgbackrest backup: .*unable to load info file"):
        repository.back_up("full")


def test_waiting_ends_with_the_given_message() -> None:
    wait.wait_until(lambda: True, 0, "never shown")
    with pytest.raises(BackupError, match="no luck"):
        wait.wait_until(lambda: False, 0, "no luck")
