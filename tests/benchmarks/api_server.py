"""The API under gunicorn as it is served, watched from outside: its processor time and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

from standalone.cluster import free_port
from tests.benchmarks.clock import server_cpu_s

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROGRAM = [sys.executable, "-c", "from app.cli import main; main()"]

USER, PASSWORD = "bench", "bench-password"

UNLIMITED = dict.fromkeys(
    ("CBM_RATE_PER_S", "CBM_RATE_BURST", "CBM_OPEN_RATE_PER_S", "CBM_OPEN_RATE_BURST"), "1e6"
)
"""Settings of an API without limits of its rate."""


class Api:
    """A running API."""

    def __init__(self, env: Mapping[str, str], log: Path, workers: int = 2) -> None:
        """Start it.

        Args:
            env: libpq's variables, and settings that differ from the defaults.
            log: where its standard error goes.
            workers: gunicorn's processes.
        """
        self._env = dict(os.environ) | dict(env)
        self.port = free_port()
        bind = f"127.0.0.1:{self.port}"
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [*_PROGRAM, "serve", "--bind", bind, "--workers", str(workers)],
                stdout=out, stderr=out, env=self._env,
            )  # fmt: skip
        self._wait(60)

    def command(self, *arguments: str, stdin: str = "") -> str:
        """Run a cbm-api command on the same database; its output."""
        done = subprocess.run(
            [*_PROGRAM, *arguments], input=stdin, capture_output=True, text=True, check=True,
            env=self._env,
        )  # fmt: skip
        return done.stdout

    def cpu_s(self) -> float:
        """Processor seconds used so far by gunicorn and its workers."""
        return sum(map(_cpu_s, self._processes()))

    def rss_mb(self) -> list[float]:
        """Resident memory of each worker, MB."""
        return [_rss_mb(pid) for pid in self._processes()[1:]]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)

    def _processes(self) -> list[int]:
        master = self._process.pid
        tasks = Path(f"/proc/{master}/task").glob("*/children")
        return [master, *(int(child) for task in tasks for child in task.read_text().split())]

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the API does not start; see its log")
            time.sleep(0.1)

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def spent_s(api: Api, postmaster: int) -> tuple[float, float]:
    """Processor seconds so far of the API's processes, and of PostgreSQL's."""
    return api.cpu_s(), server_cpu_s(postmaster)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
