"""How gunicorn serves the API: the limits it keeps itself, and what it does when processes end.

gunicorn reads this module as its configuration; `cbm-api serve` names it.
"""

import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from app.limits import LIMITS, Buckets

# A polygon in the address is the longest that is asked; gunicorn takes no longer line than this.
limit_request_line = 8190
limit_request_fields = 50
limit_request_field_size = 8190

worker_class = "gthread"
graceful_timeout = 20
keepalive = 5
control_socket_disable = True

# Which proxies are believed is one setting, CBM_PROXIES (Request.forwarded). gunicorn on its own
# believes every program of this host, even where the path of a request is concerned.
forwarded_allow_ips = ""

_RUN_DIR = "CBM_RUN_DIR"
_METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


# glibc learns to keep large blocks that were freed, in a heap per thread: 19 MiB of argon2 in every
# thread that ever checked a password. From this size on a block goes back to the system at once.
_RETURNED_BYTES = 1 << 20


def prepare() -> None:
    """Put into the environment what gunicorn is to start with; makes the run's shared folder."""
    folder = Path(tempfile.mkdtemp(prefix="cbm-api-"))
    (folder / "metrics").mkdir()
    Buckets.lay(folder / LIMITS)
    os.environ[_RUN_DIR] = str(folder)
    os.environ[_METRICS_DIR] = str(folder / "metrics")
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(_RETURNED_BYTES))
    # Without a key of the operator's, sessions last as long as the run.
    os.environ.setdefault("CBM_SECRET_KEY", secrets.token_hex(32))


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Forget what a worker that ended had in use; what it counted stays."""
    from prometheus_client import multiprocess  # noqa: PLC0415 - looks for its folder on import

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:  # noqa: ARG001 - gunicorn's hook
    """Remove the run's folder."""
    shutil.rmtree(os.environ[_RUN_DIR], ignore_errors=True)
