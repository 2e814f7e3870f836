"""Contents of a database: connections of the superuser, counts and digests of all tables."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg2

DATABASE = os.environ.get("CBM_DATABASE", "cbm")
SOCKET = "/var/run/postgresql"

# Every table with rows of ours, leaf by leaf; what an extension brings is not ours.
TABLES = """
    SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'r'
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1"""

# The sum of the rows' hashes does not depend on their order, and equal rows count as often as
# they are there.
_DIGEST = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {} t"


@dataclass(frozen=True)
class TableDigest:
    """Content of a table.

    Attributes:
        rows: their number.
        digest: the sum of their hashes, in decimal digits.
    """

    rows: int
    digest: str


def connect(socket: str = SOCKET) -> Any:
    """A superuser's connection over a local socket."""
    conn = psycopg2.connect(
        host=socket,
        dbname=DATABASE,
        application_name="cbm-backup",
        options="-c TimeZone=UTC -c DateStyle=ISO -c extra_float_digits=1 -c statement_timeout=0",
    )
    conn.autocommit = True
    return conn


def fetch(conn: Any, statement: str) -> list[tuple[Any, ...]]:
    """All rows of a statement."""
    with conn.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def digest_tables(conn: Any) -> dict[str, TableDigest]:
    """The digest of each table, by its qualified name."""
    names = [name for name, is_leaf in fetch(conn, TABLES) if is_leaf]
    return {name: TableDigest(*fetch(conn, _DIGEST.format(name))[0]) for name in names}


def fingerprint(conn: Any) -> dict[str, Any]:
    """Counts and digests of all tables, at a single moment, and the last migration."""
    fetch(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    tables = digest_tables(conn)
    ledger = "SELECT name, applied_at FROM public.cbm_migration ORDER BY version"
    migrations = fetch(conn, ledger) if "public.cbm_migration" in tables else []
    fetch(conn, "COMMIT")
    return _summarize(tables, migrations)


def _summarize(
    tables: Mapping[str, TableDigest], migrations: Sequence[tuple[Any, ...]]
) -> dict[str, Any]:
    name, applied_at = migrations[-1] if migrations else ("none", None)
    return {
        "last_migration": name,
        "migrated_at": str(applied_at),
        "rows": sum(table.rows for table in tables.values()),
        "tables": {name: asdict(table) for name, table in tables.items()},
    }
