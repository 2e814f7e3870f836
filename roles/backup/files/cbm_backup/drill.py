"""The drill: the newest backup is restored beside the live database, and all tables compared."""

import contextlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors

from cbm_backup.database import TABLES, TableDigest, connect, digest_tables, fetch
from cbm_backup.errors import BackupError
from cbm_backup.repository import pgbackrest, publish, write_gauges
from cbm_backup.wait import wait_until

RESULT = Path("/var/lib/cbm/backup/drill.json")

# A standby refuses to start with lower values than those of the server whose WAL it replays.
_AT_LEAST = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)


@dataclass(frozen=True)
class DatabaseSnapshot:
    """Content of the database at a point of its WAL.

    Attributes:
        point: name of the restore point.
        segment: WAL file it is in.
        tables: by qualified name.
    """

    point: str
    segment: str
    tables: Mapping[str, TableDigest]


def take_snapshot(point: str) -> DatabaseSnapshot:
    """Mark a point in the WAL, and digest the database's content at exactly that point.

    For an instant all writers are kept out: one session holds the locks and writes the mark, while
    another takes the snapshot that the digests are then computed from, while writers go on.

    Args:
        point: name of the mark.

    Raises:
        BackupError: writers left no gap for some minutes.
    """
    lock, read = connect(), connect()
    for attempt in range(30):
        try:
            segment = _mark(lock, read, point)
            return DatabaseSnapshot(point, segment, digest_tables(read))
        except psycopg2.errors.LockNotAvailable:
            fetch(lock, "ROLLBACK")
            time.sleep(2 + attempt % 7)
    raise BackupError("no moment without long writers in five minutes: try again later")


def _mark(lock: Any, read: Any, point: str) -> str:
    fetch(lock, "BEGIN")
    fetch(lock, "SET LOCAL lock_timeout = '3s'")
    for name, _ in fetch(lock, TABLES):
        fetch(lock, f"LOCK TABLE ONLY {name} IN SHARE MODE")
    fetch(read, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    fetch(read, "SELECT pg_current_snapshot()")
    segment = fetch(lock, f"SELECT pg_walfile_name(pg_create_restore_point('{point}'))")[0][0]
    fetch(lock, "COMMIT")
    return str(segment)


def run_drill(scratch: Path) -> dict[str, Any]:
    """Restore the newest backup up to now beside the live database, and compare all tables.

    Args:
        scratch: folder that is created for it, and removed.

    Raises:
        BackupError: it cannot be restored, or a table differs.
    """
    began = time.time()
    point = f"cbm_drill_{int(began)}"
    snapshot = take_snapshot(point)
    live = connect()
    _wait_until_archived(live, snapshot.segment)
    with _scratch_folder(live, scratch):
        pgbackrest(
            f"--pg1-path={scratch / 'data'}",
            "--type=name",
            f"--target={point}",
            "--target-action=pause",
            "--archive-mode=off",
            "restore",
        )
        with _server(live, scratch) as conn:
            restored = digest_tables(conn)
        _check_pages(live, scratch / "data")
    differing = sorted(
        name
        for name in snapshot.tables.keys() | restored.keys()
        if snapshot.tables.get(name) != restored.get(name)
    )
    result = {
        "point": point,
        "backup": publish()["label"],
        "seconds": round(time.time() - began, 1),
        "tables": len(restored),
        "rows": sum(table.rows for table in restored.values()),
        "differing": differing,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    if differing:
        raise BackupError(
            f"the restored database differs from the live one in {', '.join(differing)}: {RESULT}"
        )
    write_gauges(
        "drill.prom",
        {
            "cbm_drill_last_success_seconds": (
                time.time(),
                "End of the last restore drill that found all equal",
            ),
            "cbm_drill_duration_seconds": (time.time() - began, "Duration of the drill"),
            "cbm_drill_rows": (
                sum(table.rows for table in restored.values()),
                "Rows that it compared",
            ),
        },
    )
    return result


def _wait_until_archived(live: Any, segment: str) -> None:
    """Wait until a WAL file is in the repository."""
    fetch(live, "SELECT pg_switch_wal()")
    # Names of one timeline sort as they were written.
    done = f"SELECT coalesce(last_archived_wal >= '{segment}', false) FROM pg_stat_archiver"
    wait_until(
        lambda: bool(fetch(live, done)[0][0]), 600, "the WAL is not archived: see pg_stat_archiver"
    )


@contextlib.contextmanager
def _scratch_folder(live: Any, scratch: Path) -> Iterator[None]:
    """A folder for a copy of the database, for the length of a block."""
    shutil.rmtree(scratch, ignore_errors=True)
    needed = sum(
        int(size) for (size,) in fetch(live, "SELECT pg_database_size(oid) FROM pg_database")
    ) + (1 << 29)
    free = shutil.disk_usage(scratch.parent).free
    if free < needed:
        raise BackupError(
            f"{scratch} needs {needed >> 20} MB and has {free >> 20}: enlarge the volume, "
            "or set backup_scratch"
        )
    scratch.mkdir(mode=0o700)
    try:
        (scratch / "data").mkdir(mode=0o700)
        yield
    finally:
        shutil.rmtree(scratch)


@contextlib.contextmanager
def _server(live: Any, scratch: Path) -> Iterator[Any]:
    """A small server on the restored files, on a socket in their folder, paused at the point."""
    settings = {name: fetch(live, f"SHOW {name}")[0][0] for name in _AT_LEAST} | {
        "listen_addresses": "",
        "unix_socket_directories": str(scratch),
        "unix_socket_permissions": "0700",
        "hba_file": str(scratch / "hba"),
        "ident_file": str(scratch / "ident"),
        "shared_buffers": "64MB",
        "huge_pages": "off",
        "jit": "off",
        "max_parallel_workers": "2",
        "hot_standby": "on",
        "archive_mode": "off",
    }
    (scratch / "hba").write_text("local all postgres peer\n")
    (scratch / "ident").write_text("")
    (scratch / "conf").write_text(
        "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    )
    program = f"{_programs(live)}/postgres"
    with (scratch / "log").open("wb") as log:
        server = subprocess.Popen(  # noqa: S603 - no shell
            [program, "-D", scratch / "data", "-c", f"config_file={scratch / 'conf'}"],
            stdout=log,
            stderr=log,
        )
    try:
        with contextlib.closing(_wait_until_paused(server, scratch)) as conn:
            yield conn
    finally:
        server.send_signal(signal.SIGINT)  # cuts off who is connected, and leaves whole files
        server.wait()


def _programs(live: Any) -> Path:
    """The folder of the server's programs."""
    version = int(fetch(live, "SHOW server_version_num")[0][0]) // 10000
    return Path(f"/usr/lib/postgresql/{version}/bin")


def _wait_until_paused(server: "subprocess.Popen[bytes]", scratch: Path) -> Any:
    """A connection as soon as the server has replayed all WAL up to the restore point."""
    conn: Any = None

    def paused() -> bool:
        nonlocal conn
        if server.poll() is not None:
            tail = (scratch / "log").read_text(errors="replace")[-2000:]
            raise BackupError(f"the restored server ended:\n{tail}")
        with contextlib.suppress(psycopg2.OperationalError):
            conn = conn or connect(str(scratch))
            return bool(fetch(conn, "SELECT pg_get_wal_replay_pause_state() = 'paused'")[0][0])
        return False

    wait_until(paused, 6 * 3600, "the restored server did not reach the restore point")
    return conn


def _check_pages(live: Any, data: Path) -> None:
    """Check every page of the restored files against its own checksum."""
    result = subprocess.run(  # noqa: S603 - no shell
        [_programs(live) / "pg_checksums", "--check", "-D", data],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BackupError(f"restored pages are damaged: {(result.stdout + result.stderr).strip()}")
