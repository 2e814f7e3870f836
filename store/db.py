"""The door to PostgreSQL: connections, transactions, parameters, COPY. No other psycopg2 import.

Where the database is and who asks comes from libpq's PG* variables alone.
"""

import hashlib
import queue
import select
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, AsIs
from psycopg2.extras import Json, NamedTupleCursor, execute_values

from store.errors import ConfigError, DatabaseError

__all__ = [
    "Connection",
    "Json",
    "Params",
    "Pool",
    "compose",
    "connect",
    "copy_binary",
    "copy_csv",
    "execute",
    "insert_many",
    "one",
    "prepared_rows",
    "rows",
    "transaction",
]

Params = Sequence[Any] | dict[str, Any] | None
Statement = str | sql.Composable

_AWAY = (psycopg2.OperationalError, psycopg2.InterfaceError)

_PREPARED_MOST = 100
"""Statements that a connection keeps; plans of wide ones take some 100 KB each in the server."""


class Connection(psycopg2.extensions.connection):
    """A connection, and the names of the statements that its server keeps for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As psycopg2's."""
        super().__init__(*args, **kwargs)
        self.prepared: set[str] = set()


def connect(application: str, dsn: str = "", statement_timeout_s: float = 0) -> Connection:
    """Open a connection in autocommit mode, with UTC as its time zone.

    Args:
        application: name shown in pg_stat_activity.
        dsn: libpq connection string; empty takes everything from PG*.
        statement_timeout_s: upper bound of one statement in seconds; 0 is none.

    Raises:
        DatabaseError: the server does not answer, or refuses us.
    """
    options = f"-c TimeZone=UTC -c statement_timeout={int(statement_timeout_s * 1000)}"
    try:
        conn = psycopg2.connect(
            dsn,
            application_name=application,
            options=options,
            connect_timeout=10,
            client_encoding="UTF8",
            keepalives_idle=30,
            cursor_factory=NamedTupleCursor,
            connection_factory=Connection,
        )
    except _AWAY as error:
        raise DatabaseError(f"cannot connect to the database: {str(error).strip()}") from error
    conn.autocommit = True
    return conn


class Pool:
    """A bounded number of connections for threads to borrow; each is opened when first needed.

    A connection that broke, or that the server closed while it lay idle, is replaced: after a
    restart of the database no borrower meets a dead one. (psycopg2's own pool opens its
    connections at once, so a program could not start before the database, and does not wait.)
    """

    def __init__(self, size: int, connect: Callable[[], Connection], wait_s: float = 5) -> None:
        """Open nothing yet.

        Args:
            size: connections at most.
            connect: opens one.
            wait_s: longest wait for one to come back, seconds.
        """
        self._connect = connect
        self._wait_s = wait_s
        self._idle: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Borrow a connection for a block.

        Raises:
            DatabaseError: none came back in time, or none can be opened.
        """
        try:
            conn = self._idle.get(timeout=self._wait_s)
        except queue.Empty:
            raise DatabaseError(
                f"all database connections are busy for {self._wait_s:g} s"
            ) from None
        try:
            if conn is None or not _usable(conn):
                conn = self._connect()
            yield conn
        finally:
            self._idle.put(conn)


def _usable(conn: Connection) -> bool:
    """Whether a connection is idle and its server silent: one that hung up left an end of file."""
    if not conn.closed and conn.info.transaction_status == TRANSACTION_STATUS_IDLE:
        socket = select.poll()
        socket.register(conn.fileno(), select.POLLIN)
        if not socket.poll(0):
            return True
    conn.close()
    return False


@contextmanager
def transaction(conn: Connection) -> Iterator[None]:
    """Run a block as one transaction: all of it, or nothing.

    Raises:
        DatabaseError: the connection was lost; the transaction is rolled back by the server.
    """
    with _translated():
        execute(conn, "BEGIN")
        try:
            yield
        except BaseException:
            if not conn.closed:
                try:
                    execute(conn, "ROLLBACK")
                except DatabaseError:
                    conn.close()
            raise
        execute(conn, "COMMIT")


def execute(conn: Connection, statement: Statement, params: Params = None) -> int:
    """Run a statement and return the number of rows it touched."""
    with _translated(), conn.cursor() as cursor:
        cursor.execute(statement, params)
        return int(cursor.rowcount)


def rows(conn: Connection, statement: Statement, params: Params = None) -> list[Any]:
    """Return all rows of a query as named tuples."""
    with _translated(), conn.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def prepared_rows(
    conn: Connection, statement: Statement, types: Mapping[str, str], params: Mapping[str, Any]
) -> list[Any]:
    """Return all rows of a query whose plan the server keeps for this connection.

    For wide queries of few rows, whose planning costs more than their work. They need a session
    of their own: no pooler that lends one by transactions.

    Args:
        conn: an open connection.
        statement: the query, with named parameters.
        types: SQL types of those parameters that differ from call to call.
        params: values of all; the others' become part of the plan.
    """
    places = {name: AsIs(f"${number}") for number, name in enumerate(types, 1)}
    with _translated(), conn.cursor() as cursor:
        text = cursor.mogrify(statement, {**params, **places})
        name = f"q{hashlib.sha256(text).hexdigest()[:32]}"
        if name not in conn.prepared:
            if len(conn.prepared) >= _PREPARED_MOST:
                cursor.execute("DEALLOCATE ALL")
                conn.prepared.clear()
            cursor.execute(f"PREPARE {name} ({', '.join(types.values())}) AS ".encode() + text)
            conn.prepared.add(name)
        values = ", ".join(f"%({given})s" for given in types)
        cursor.execute(f"EXECUTE {name} ({values})", params)
        return list(cursor.fetchall())


def one(conn: Connection, statement: Statement, params: Params = None) -> Any:
    """Return the first row of a query as a named tuple, or None."""
    with _translated(), conn.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone()


def insert_many(
    conn: Connection,
    statement: Statement,
    values: Sequence[Sequence[Any]],
    template: str | None = None,
    page_size: int = 1000,
) -> None:
    """Run `INSERT ... VALUES %s` for many rows, in pages; not for signatures (see copy_binary)."""
    with _translated(), conn.cursor() as cursor:
        execute_values(cursor, statement, values, template=template, page_size=page_size)


def copy_binary(
    conn: Connection, table: tuple[str, ...], columns: Sequence[str], data: IO[bytes]
) -> int:
    """Stream rows in PostgreSQL's binary COPY format into a table.

    Args:
        conn: an open connection, inside a transaction.
        table: qualified table name, such as ("nl", "s2").
        columns: the columns the rows hold, in order.
        data: readable stream: COPY header, rows, trailer.

    Returns:
        The number of rows written.
    """
    statement = compose(
        "COPY {table} ({columns}) FROM STDIN WITH (FORMAT binary)",
        table=table,
        columns=list(columns),
    )
    with _translated(), conn.cursor() as cursor:
        cursor.copy_expert(statement, data, size=1 << 20)
        return int(cursor.rowcount)


def copy_csv(
    conn: Connection, query: Statement, params: Params = None, *, header: bool = True
) -> Generator[bytes, None, None]:
    """Stream a query's rows as CSV, in pieces of some 64 KiB, as they are taken.

    The server's COPY pushes, whoever iterates pulls: a thread stands between them and waits when
    nobody pulls. Ended before the last row, the connection is closed.

    Args:
        conn: an open connection, for this alone until the end.
        query: the rows wanted.
        params: its values.
        header: with the columns' names first.

    Raises:
        DatabaseError: the database went away, or took too long.
    """
    with _translated(), conn.cursor() as cursor:
        select = cursor.mogrify(query, params).decode()
    outlet = _Outlet()
    statement = f"COPY ({select}) TO STDOUT WITH (FORMAT csv, HEADER {str(header).lower()})"
    pushing = threading.Thread(target=_push, args=(conn, statement, outlet), daemon=True)
    pushing.start()
    try:
        with _translated():
            yield from outlet.pieces()
    except BaseException:
        outlet.stopped.set()
        with suppress(*_AWAY):
            conn.cancel()
        pushing.join()
        conn.close()
        raise


class _Outlet:
    """What COPY writes into, and others take out of, in pieces."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._piece = bytearray()
        self._ready: queue.Queue[bytes | Exception | None] = queue.Queue(8)

    def write(self, row: bytes) -> int:
        self._piece += row
        if len(self._piece) >= 1 << 16:
            self.flush()
        return len(row)

    def flush(self) -> None:
        piece, self._piece = bytes(self._piece), bytearray()
        self.put(piece)

    def put(self, piece: bytes | Exception | None) -> None:
        """Wait for a place, unless nobody takes any more."""
        while not self.stopped.is_set():
            try:
                self._ready.put(piece, timeout=0.2)
            except queue.Full:
                continue
            return
        raise BrokenPipeError("nobody takes the rows")

    def pieces(self) -> Iterator[bytes]:
        while (piece := self._ready.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def _push(conn: Connection, statement: str, outlet: _Outlet) -> None:
    with suppress(BrokenPipeError):
        try:
            with conn.cursor() as cursor:
                cursor.copy_expert(statement, outlet)
            outlet.flush()
            outlet.put(None)
        except psycopg2.Error as error:
            outlet.put(error)


def compose(template: str, **names: str | tuple[str, ...] | list[str]) -> sql.Composed:
    """Put identifiers into a statement, quoted: str and tuple as (qualified) name, list as names.

    Example:
        compose("SELECT {cols} FROM {table}", cols=["pid", "code"], table=("nl", "parcels"))
    """

    def quoted(name: str | tuple[str, ...] | list[str]) -> sql.Composable:
        if isinstance(name, list):
            return sql.SQL(", ").join(sql.Identifier(part) for part in name)
        return sql.Identifier(*([name] if isinstance(name, str) else name))

    return sql.SQL(template).format(**{key: quoted(name) for key, name in names.items()})


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as error:
        raise ConfigError(f"the database refuses this role: {str(error).strip()}") from error
    except psycopg2.errors.UndefinedTable as error:
        raise ConfigError(
            f"{str(error).strip().splitlines()[0]}: "
            "has the schema been applied (cbm-store migrate)?"
        ) from error
    except (psycopg2.errors.QueryCanceled, psycopg2.errors.LockNotAvailable) as error:
        raise DatabaseError(f"the database took too long: {str(error).strip()}") from error
    except psycopg2.errors.DeadlockDetected as error:
        raise DatabaseError("another transaction was in the way of this one: try again") from error
    except _AWAY as error:
        raise DatabaseError(f"the database went away: {str(error).strip()}") from error
