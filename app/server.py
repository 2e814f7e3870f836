"""Configuration of gunicorn: its limits, and its hooks at the end of processes.

`cbm-api serve` names this module to gunicorn.
"""

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from app.access.rate_limits import LIMITS_FILE, TokenBuckets
from store.errors import ConfigError

# The longest addresses have a polygon; gunicorn accepts no longer line than this.
limit_request_line = 8190
limit_request_fields = 50
limit_request_field_size = 8190

worker_class = "app.worker.LaneWorker"
graceful_timeout = 20
keepalive = 5
control_socket_disable = True

# Which proxies are believed is one setting, CBM_PROXIES (Request.behind_proxy). gunicorn by itself
# believes every program of this host, even where the path of a request is concerned.
forwarded_allow_ips = ""

_RUN_DIR = "CBM_RUN_DIR"
_METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


# glibc learns to keep large blocks that were freed, in a heap per thread: 19 MiB of argon2 in every
# thread that ever checked a password. From this size on a block goes back to the system at once.
_RETURNED_BYTES = 1 << 20

_RUN_BYTES = 32 << 20

_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def prepare() -> None:
    """Complete the environment for gunicorn, and make the run's shared folder.

    Raises:
        ConfigError: there is no room for it.
    """
    folder = _make_run_dir()
    (folder / "metrics").mkdir()
    TokenBuckets.create(folder / LIMITS_FILE)
    os.environ[_RUN_DIR] = str(folder)
    os.environ[_METRICS_DIR] = str(folder / "metrics")
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(_RETURNED_BYTES))
    if not (os.environ.get("CBM_SECRET_KEY") or os.environ.get("CBM_SECRET_KEY_FILE")):
        # Without a key of the operator's, sessions last as long as the run.
        os.environ["CBM_SECRET_KEY"] = secrets.token_hex(32)
    _move_secrets(folder)


def _move_secrets(folder: Path) -> None:
    """Move secrets of the environment into files that only this user can read.

    gunicorn begins by exec with what is left: the environment that a process began with stays
    readable in /proc, whatever the process deletes of it later.
    """
    for name in ("CBM_SECRET_KEY", "CBM_METRICS_TOKEN"):
        if secret := os.environ.pop(name, ""):
            os.environ[f"{name}_FILE"] = _write_secret(folder / name.lower(), secret)
    if password := os.environ.pop("PGPASSWORD", ""):
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        os.environ["PGPASSFILE"] = _write_secret(folder / "pgpass", f"*:*:*:*:{escaped}")
    keys = {name: os.environ.pop(name, "") for name in _AWS_KEYS}
    if any(keys.values()):
        lines = [f"{name.lower()} = {key}" for name, key in keys.items() if key]
        profile = os.environ.get("AWS_PROFILE") or "default"
        text = "\n".join([f"[{profile}]", *lines])
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = _write_secret(folder / "credentials", text)


def _write_secret(file: Path, text: str) -> str:
    file.touch(0o600)
    file.write_text(f"{text}\n")
    return str(file)


def _make_run_dir() -> Path:
    """A new folder below TMPDIR, with room for the counters that the processes map into memory.

    Raises:
        ConfigError: there is no room.
    """
    parent = tempfile.gettempdir()
    try:
        free = shutil.disk_usage(parent).free
        if free < _RUN_BYTES:
            raise OSError(f"{free >> 20} MiB are free, and {_RUN_BYTES >> 20} MiB are needed")
        return Path(tempfile.mkdtemp(prefix="cbm-api-"))
    except OSError as error:
        raise ConfigError(
            f"{parent} has no room for the files of a run: {error}; free some, or set TMPDIR"
        ) from None


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Delete the live gauges of a worker that ended; its counters stay."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - looks for its folder on import

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Remove the run's folder."""
    shutil.rmtree(os.environ[_RUN_DIR], ignore_errors=True)
