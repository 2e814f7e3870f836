"""Applying the numbered SQL files, each once, each in one transaction."""

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

from store import db
from store.errors import ConflictError

_NUMBERED = re.compile(r"\d{4}_.*\.sql$")

_LEDGER = """
    CREATE TABLE IF NOT EXISTS public.cbm_migration (
        version integer PRIMARY KEY,
        name text NOT NULL,
        sha256 text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )"""


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file.

    Attributes:
        version: the number its name begins with.
        name: file name.
        text: the statements.
    """

    version: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Digest of the statements; a file that was applied may never change."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this version of the software, in order."""
    files = sorted(
        (f for f in resources.files("store.sql").iterdir() if _NUMBERED.match(f.name)),
        key=lambda f: f.name,
    )
    return [Migration(int(f.name.split("_")[0]), f.name, f.read_text()) for f in files]


def migrate(conn: db.Connection, upto: int | None = None) -> list[Migration]:
    """Bring a database to this version of the schema; applied migrations are left alone.

    Args:
        conn: a superuser's connection (PostGIS needs one) in autocommit mode.
        upto: stop after this version; None applies all.

    Returns:
        The migrations applied now.

    Raises:
        ConflictError: the database was made by a newer version of the software, or an applied
            file was changed since.
    """

    def apply() -> list[Migration]:
        applied_now = []
        db.execute(conn, "SELECT pg_advisory_xact_lock(hashtext('cbm_migrate'))")
        db.execute(conn, _LEDGER)
        for migration in pending(conn):
            if upto is not None and migration.version > upto:
                break
            db.execute(conn, migration.text)
            db.execute(
                conn,
                "INSERT INTO public.cbm_migration (version, name, sha256) VALUES (%s, %s, %s)",
                (migration.version, migration.name, migration.sha256),
            )
            applied_now.append(migration)
        return applied_now

    return db.change_tables(conn, apply)


def pending(conn: db.Connection) -> list[Migration]:
    """The migrations that a database lacks, in order.

    Raises:
        ConflictError: as `migrate`.
    """
    known = migrations()
    if db.fetch_one(conn, "SELECT to_regclass('public.cbm_migration') AS ledger").ledger is None:
        return known
    rows = db.fetch_all(conn, "SELECT version, sha256 FROM public.cbm_migration")
    applied = {row.version: row.sha256 for row in rows}
    _refuse_strangers(applied, known)
    return [migration for migration in known if migration.version not in applied]


def _refuse_strangers(applied: dict[int, str], known: list[Migration]) -> None:
    ours = {migration.version: migration.sha256 for migration in known}
    for version, digest in sorted(applied.items()):
        if version not in ours:
            raise ConflictError(
                f"the database has migration {version}, which this version of the "
                "software does not know: use the newer version"
            )
        if ours[version] != digest:
            raise ConflictError(
                f"migration {version} was changed after it was applied: restore the released file"
            )
