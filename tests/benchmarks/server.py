"""The benchmark's own PostgreSQL cluster, as durable as production's; cold starts."""

import os
import subprocess
from contextlib import closing
from pathlib import Path

from standalone import cluster as standalone
from store import db, schema

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")


class Server:
    """A running cluster below the benchmark's folder."""

    def __init__(self, folder: Path) -> None:
        """Make the cluster if it is not there, and start it."""
        self._cluster = standalone.make(folder)
        self._cluster.start()

    @property
    def postmaster(self) -> int:
        """pid of the server's first process, the parent of all others."""
        return int((self._cluster.data / "postmaster.pid").read_text().split()[0])

    def env(self, name: str) -> dict[str, str]:
        """libpq's variables for one of its databases, as superuser."""
        return self._cluster.environment(name)

    def connect(self, name: str) -> db.Connection:
        """Connect to one of its databases as superuser."""
        return db.connect("bench", db.dsn(self.env(name)))

    def fresh(self, name: str) -> None:
        """Make a new database, with the product's schema."""
        self.drop(name)
        with closing(self.connect("postgres")) as admin:
            db.execute(admin, db.compose("CREATE DATABASE {name}", name=name))
        with closing(self.connect(name)) as made:
            schema.migrate(made)

    def drop(self, name: str) -> None:
        """Drop a database if it is there, and give its space back."""
        with closing(self.connect("postgres")) as admin:
            db.execute(admin, db.compose("DROP DATABASE IF EXISTS {name} (FORCE)", name=name))
            db.execute(admin, "CHECKPOINT")

    def restart_cold(self) -> str:
        """Restart the server with neither its own nor the system's cache of its files.

        Returns:
            How the system's cache was dropped.
        """
        self._cluster.stop()
        how = _forget(self._cluster.data)
        self._cluster.start()
        return how

    def stop(self) -> None:
        """Stop the cluster; its data stay."""
        self._cluster.stop()


def _forget(data: Path) -> str:
    """Drop the system's cached pages of a stopped cluster's files."""
    subprocess.run(["sync"], check=True)
    if os.access(_DROP_CACHES, os.W_OK):
        _DROP_CACHES.write_text("3\n")
        return "drop_caches"
    for path in data.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return "posix_fadvise"
