"""A dump of one aoi: all that the database knows of it, as a script for psql."""

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from store import db, schema
from store.errors import ConfigError, DatabaseError, NotFoundError

_HEAD = """\
-- Everything of {aoi}: campaigns, parcels, scenes, work, signatures, markers.
-- Load it as the owner's login into a database that `cbm-store migrate` of the same version (schema
-- {version}) has just made: zcat FILE | psql --single-transaction --set ON_ERROR_STOP=1
DO $$ BEGIN
    IF EXISTS (SELECT FROM public.scene) OR EXISTS (SELECT FROM public.aoi) THEN
        RAISE EXCEPTION 'this database has scenes or campaigns already, whose keys are those of the dump: load it into a new one';
    END IF;
END $$;
"""  # noqa: E501

# In the order in which they refer to one another.
_ROWS = {
    "aoi": "code = %(aoi)s",
    "campaign": "aoi = %(aoi)s",
    "parcel_set": "campaign_id IN (SELECT id FROM public.campaign WHERE aoi = %(aoi)s)",
    "scene": """obsid IN (
        SELECT w.obsid FROM public.work w
        JOIN public.parcel_set p ON p.id = w.set_id
        JOIN public.campaign c ON c.id = p.campaign_id WHERE c.aoi = %(aoi)s)""",
    "work": """set_id IN (
        SELECT p.id FROM public.parcel_set p
        JOIN public.campaign c ON c.id = p.campaign_id WHERE c.aoi = %(aoi)s)""",
    "marker": "campaign_id IN (SELECT id FROM public.campaign WHERE aoi = %(aoi)s)",
}
"""Tables of schema public -> which of their rows concern an aoi."""

_COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""

_SEQUENCES = {"scene": "obsid", "campaign": "id", "parcel_set": "id"}


@dataclass(frozen=True)
class DumpReport:
    """The contents of a dump.

    Attributes:
        rows: of the tables in schema public, by name.
        size_bytes: of the file.
    """

    rows: dict[str, int]
    size_bytes: int

    def __str__(self) -> str:
        """One line for people."""
        held = ", ".join(f"{count:,} {name}" for name, count in self.rows.items())
        return f"{self.size_bytes / 1e6:,.1f} MB: {held}, and all parcels and signatures"


def dump_aoi(
    conn: db.Connection, aoi: str, file: Path, progress: Callable[[str], None] = lambda _: None
) -> DumpReport:
    """Write all of an aoi, as it is at one moment, into a gzipped script for psql.

    Signatures and work may be written meanwhile. The file appears when it is complete; its reader
    is the caller alone. What belongs to no aoi is not in it: users, tokens, weather.

    Args:
        conn: a connection of the owner role.
        aoi: Member State or region.
        file: to write; one that is there is replaced.
        progress: is called with the name of each part.

    Raises:
        NotFoundError: there is no such aoi.
        ConfigError: pg_dump is missing.
        DatabaseError: pg_dump fails.
    """
    program = _find_pg_dump()
    if db.fetch_one(conn, "SELECT FROM public.aoi WHERE code = %s", (aoi,)) is None:
        raise NotFoundError(f"there is no aoi {aoi}: cbm-store campaign list says which there are")
    part = file.with_name(f".{file.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as raw:
            rows = _write(conn, aoi, program, raw, progress)
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return DumpReport(rows, file.stat().st_size)


def _find_pg_dump() -> str:
    program = shutil.which("pg_dump")
    if program is None:
        raise ConfigError(
            "pg_dump is missing here, as it is in the appliance's containers: run this on the "
            "database's host (sudo -u postgres /opt/cbm/store/bin/cbm-store dump ...), or install "
            "the client programs of the server's PostgreSQL"
        )
    return program


def _write(
    conn: db.Connection, aoi: str, program: str, out: IO[bytes], progress: Callable[[str], None]
) -> dict[str, int]:
    with db.transaction(conn):
        db.execute(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        snapshot = db.fetch_one(conn, "SELECT pg_export_snapshot() AS id").id
        rows = {}
        with gzip.open(out, "wb", 6) as packed:
            packed.write(_HEAD.format(aoi=aoi, version=schema.migrations()[-1].version).encode())
            for table, condition in _ROWS.items():
                progress(table)
                rows[table] = _write_rows(conn, aoi, table, condition, packed)
        progress("parcels and signatures")
        out.flush()
        _write_schema(program, aoi, snapshot, out)
    return rows


def _write_rows(conn: db.Connection, aoi: str, table: str, condition: str, out: db.ByteSink) -> int:
    name = ("public", table)
    columns = [row.attname for row in db.fetch_all(conn, _COLUMNS, (f"public.{table}",))]
    select = db.compose(
        "SELECT {columns} FROM {table} WHERE " + condition, columns=columns, table=name
    )
    start = db.compose("COPY {table} ({columns}) FROM stdin;", columns=columns, table=name)
    out.write(b"\n" + start.as_string(conn).encode() + b"\n")
    count = db.copy_text(conn, select, out, {"aoi": aoi})
    out.write(b"\\.\n")
    if key := _SEQUENCES.get(table):
        sequence = f"pg_get_serial_sequence('public.{table}', '{key}')"
        statement = (
            f"SELECT setval({sequence}, max({key})) FROM public.{table} HAVING count(*) > 0;"
        )
        out.write(statement.encode() + b"\n")
    return count


def _write_schema(program: str, aoi: str, snapshot: str, out: IO[bytes]) -> None:
    """The aoi's own schema, by pg_dump at the moment of a snapshot."""
    options = [f"--schema={aoi}", f"--snapshot={snapshot}", "--compress=6", "--no-password"]
    # Its gzip member follows ours; together they are one gzip file.
    done = subprocess.run(  # noqa: S603 - the aoi is one of the table's, whose names are checked
        [program, *options], stdout=out, stderr=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise DatabaseError(f"pg_dump failed: {done.stderr.decode(errors='replace').strip()}")
