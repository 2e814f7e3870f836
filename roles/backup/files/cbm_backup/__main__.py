"""The command cbm-backup; its results are printed as JSON."""

import argparse
import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2

from cbm_backup.database import connect, fetch, fingerprint
from cbm_backup.drill import RESULT, run_drill
from cbm_backup.errors import BackupError
from cbm_backup.repository import back_up, publish
from cbm_backup.wait import wait_until

LOCK = RESULT.with_name("lock")


def wait_until_promoted() -> dict[str, Any]:
    """Wait until a restored server has recovered; returns the WAL file that it writes.

    Raises:
        BackupError: it ended before; its last lines say why.
    """
    unit = os.environ["CBM_POSTGRESQL_UNIT"]

    def is_writing() -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            return not fetch(connect(), "SELECT pg_is_in_recovery()")[0][0]
        state = subprocess.run(  # noqa: S603 - no shell
            ["systemctl", "is-active", unit],  # noqa: S607 - the host's own
            capture_output=True,
            text=True,
            check=False,
        )
        if state.stdout.strip() not in ("active", "activating", "reloading"):
            raise BackupError(
                f"{unit} ended before the point in time was reached; its log says why"
            )
        return False

    wait_until(is_writing, 24 * 3600, "the server has not recovered within a day")
    return {"wal": fetch(connect(), "SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]}


@contextlib.contextmanager
def _exclusive() -> Iterator[None]:
    """A single backup or drill at a time."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cbm-backup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="make a backup").add_argument("kind", choices=["full", "incr"])
    commands.add_parser(
        "drill", help="restore the newest backup beside the live database, and compare"
    ).add_argument("scratch", type=Path, help="folder with room for the database")
    commands.add_parser("publish", help="write the gauges of the newest backups")
    commands.add_parser("fingerprint", help="print counts and digests of all tables")
    commands.add_parser("promoted", help="wait until a restored server writes")
    return parser


def _run(options: argparse.Namespace) -> dict[str, Any]:
    if options.command == "fingerprint":
        return fingerprint(connect())
    if options.command == "promoted":
        return wait_until_promoted()
    with _exclusive():
        if options.command == "run":
            return back_up(options.kind)
        return run_drill(options.scratch) if options.command == "drill" else publish()


def main() -> int:
    """Run the command; returns the exit code."""
    try:
        result = _run(_parser().parse_args())
    except (BackupError, psycopg2.Error, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
