"""The demo's REST API: started detached, stopped by its pid file; and a client of it."""

import base64
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standalone import programs
from standalone.cluster import free_port
from standalone.programs import DemoError

USER = "demo"

_START_S = 60
_STOP_S = 30


@dataclass(frozen=True)
class ApiClient:
    """A client of the API with the login of one user.

    Attributes:
        url: the API's address.
        user: name.
        password: theirs.
    """

    url: str
    user: str
    password: str

    def get(self, path: str, **parameters: str | int) -> Any:
        """The JSON response to GET path?parameters.

        Raises:
            DemoError: the API answers with an error, or not at all.
        """
        address = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        request = urllib.request.Request(address)  # noqa: S310 - always our own http:// address
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        for last in (False, True):
            try:
                with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
                    return json.load(response)
            except urllib.error.HTTPError as error:
                detail = error.read().decode(errors="replace").strip()
                raise DemoError(f"the API refused {path}: {error.code} {detail}") from error
            except (OSError, ValueError) as error:
                # A GET may be repeated: a process of the API may have ended under the first.
                if last:
                    raise DemoError(f"the API does not answer {path}: {error}") from error
        raise AssertionError("the second try returns or raises")


def pick_port(folder: Path, wanted: int | None) -> int:
    """The API's port: the wanted one, or that of last time, or any free one.

    Raises:
        DemoError: the wanted one is in use.
    """
    if wanted is not None:
        if not _is_free(wanted):
            raise DemoError(f"port {wanted} is in use: name another (PORT=) or none")
        return wanted
    note = folder / "api.port"
    last = int(note.read_text()) if note.exists() else 0
    return last if last and _is_free(last) else free_port()


def start(folder: Path, port: int, settings: Mapping[str, str]) -> str:
    """Start the API detached and wait until it answers, the database behind it included.

    Args:
        folder: where its pid file and log lie.
        port: loopback port.
        settings: the api login's libpq variables.

    Returns:
        Its address.

    Raises:
        DemoError: it does not start; the message holds the end of its log.
    """
    log = folder / "api.log"
    url = f"http://127.0.0.1:{port}"
    command = [programs.program("cbm-api"), "serve", "--bind", f"127.0.0.1:{port}"]
    process = programs.start(command, settings, log)
    (folder / "api.pid").write_text(f"{process.pid}\n")
    (folder / "api.port").write_text(f"{port}\n")
    deadline = time.monotonic() + _START_S
    while not _is_ready(url):
        if process.poll() is not None:
            raise DemoError(f"the API does not start: {programs.last_line(log.read_text())}")
        if time.monotonic() > deadline:
            raise DemoError(f"the API is not ready after {_START_S} s: see {log}")
        time.sleep(0.1)
    return url


def stop(folder: Path) -> None:
    """Stop the API if it runs.

    Raises:
        DemoError: it does not end.
    """
    pid_file = folder / "api.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + _STOP_S
    if _is_ours(pid):
        os.kill(pid, signal.SIGTERM)
    while _is_ours(pid):
        if time.monotonic() > deadline:
            raise DemoError(f"the API (process {pid}) does not stop")
        time.sleep(0.05)
    pid_file.unlink()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 - as above
            return True
    except OSError:
        return False


def _is_ours(pid: int) -> bool:
    """Whether the process lives and is the API: pids are given out again."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    # cbm-api becomes gunicorn.
    return state != "Z" and any(name in command for name in (b"cbm-api", b"app.wsgi"))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
