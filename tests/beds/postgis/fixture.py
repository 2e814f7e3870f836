"""A real PostGIS for the tests: one throwaway cluster per session, one database per test."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from standalone import cluster as standalone
from store import db, schema

TEMPLATE = "cbm_template"


@pytest.fixture(scope="session")
def cluster() -> Iterator[standalone.Cluster]:
    """A running cluster without fsync, removed with all its data after the session."""
    folder = Path(tempfile.mkdtemp(prefix="cbm-test-"))
    folder.chmod(0o711)  # the server's own account must get through
    try:
        made = standalone.make(folder, durable=False)
        made.start()
        yield made
    finally:
        standalone.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(cluster: standalone.Cluster) -> str:
    """The name of a migrated, empty database to copy."""
    admin = _connect(cluster, "postgres")
    db.execute(admin, db.compose("CREATE DATABASE {name}", name=TEMPLATE))
    migrated = _connect(cluster, TEMPLATE)
    schema.migrate(migrated)
    migrated.close()
    admin.close()
    return TEMPLATE


_serial = itertools.count(1)


@pytest.fixture
def empty_database(
    cluster: standalone.Cluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[db.Connection]:
    """A superuser's connection to a database without our schema; PG* lead to it."""
    yield from _database(cluster, "template1", monkeypatch)


@pytest.fixture
def database(
    cluster: standalone.Cluster, template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[db.Connection]:
    """A superuser's connection to a fresh migrated database of this test; PG* lead to it."""
    yield from _database(cluster, template, monkeypatch)


def _database(
    cluster: standalone.Cluster, template: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[db.Connection]:
    name = f"test_{next(_serial)}"
    admin = _connect(cluster, "postgres")
    db.execute(
        admin, db.compose("CREATE DATABASE {name} TEMPLATE {source}", name=name, source=template)
    )
    # A copy does not take the database's own privileges along, which the migrations set.
    db.execute(
        admin,
        "UPDATE pg_database SET datacl = "
        "(SELECT datacl FROM pg_database WHERE datname = %s) WHERE datname = %s",
        (template, name),
    )
    for key in [key for key in os.environ if key.startswith("PG")]:
        monkeypatch.delenv(key)
    for key, value in cluster.environment(name).items():
        monkeypatch.setenv(key, value)
    conn = db.connect("test")
    try:
        yield conn
    finally:
        conn.close()
        db.execute(admin, db.compose("DROP DATABASE {name} WITH (FORCE)", name=name))
        admin.close()


def _connect(cluster: standalone.Cluster, dbname: str) -> db.Connection:
    return db.connect("test", db.dsn(cluster.environment(dbname)))
