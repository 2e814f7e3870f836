"""The repository of backups: pgBackRest, and gauges of the newest backups for Prometheus."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cbm_backup.errors import BackupError

STANZA = "cbm"
METRICS = Path("/var/lib/cbm/metrics")


def pgbackrest(*arguments: str) -> str:
    """Run pgBackRest on our stanza.

    Raises:
        BackupError: it failed; with its output.
    """
    result = subprocess.run(  # noqa: S603 - no shell
        ["pgbackrest", f"--stanza={STANZA}", *arguments],  # noqa: S607 - the host's own
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise BackupError(f"pgbackrest {arguments[-1]}: {(result.stdout + result.stderr).strip()}")
    return result.stdout


def back_up(kind: str) -> dict[str, Any]:
    """Make a full or incremental backup, and publish the gauges."""
    pgbackrest(f"--type={kind}", "backup")
    return publish()


def publish() -> dict[str, Any]:
    """Write the gauges of the newest backups."""
    [stanza] = json.loads(pgbackrest("--output=json", "info"))
    backups = stanza["backup"]
    if not backups:
        raise BackupError("the repository has no backup: run playbooks/backup.yml")
    full = [backup for backup in backups if backup["type"] == "full"]
    stored = sum(backup["info"]["repository"]["delta"] for backup in backups)
    write_gauges(
        "backup.prom",
        {
            "cbm_backup_last_success_seconds": (
                backups[-1]["timestamp"]["stop"],
                "End of the newest backup",
            ),
            "cbm_backup_last_full_success_seconds": (
                full[-1]["timestamp"]["stop"],
                "End of the newest full backup",
            ),
            "cbm_backup_count": (len(backups), "Backups in the repository"),
            "cbm_backup_stored_bytes": (stored, "Size of all backups in the repository, less WAL"),
        },
    )
    newest = backups[-1]
    return {
        "label": newest["label"],
        "type": newest["type"],
        "bytes": newest["info"]["repository"]["delta"],
    }


def write_gauges(file: str, values: Mapping[str, tuple[float, str]]) -> None:
    """Write gauges into a file that the node exporter reads.

    Args:
        file: its name.
        values: value and help text, by name.
    """
    lines = [
        f"# HELP {name} {text}.\n# TYPE {name} gauge\n{name} {value}\n"
        for name, (value, text) in values.items()
    ]
    (METRICS / file).write_text("".join(lines))
