"""The door to PostgreSQL: connections, transactions, parameters, COPY. No other psycopg2 import.

The database and the login come from libpq's PG* variables alone.
"""

import hashlib
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Protocol, TypeVar

import psycopg2
import psycopg2.errors
import psycopg2.extensions
from psycopg2 import extras, sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, AsIs

from store.errors import ConfigError, DatabaseError, LockedError, RefusedValueError

Json = extras.Json
"""A value to be stored as JSON."""

ResultT = TypeVar("ResultT")
Params = Sequence[Any] | dict[str, Any] | None
Statement = str | sql.Composable
Name = str | tuple[str, ...] | list[str] | sql.Composable
"""A name or names to quote, or a part of a statement."""

_AWAY = (psycopg2.OperationalError, psycopg2.InterfaceError)

_REFUSED = (
    psycopg2.DataError,
    psycopg2.IntegrityError,
    psycopg2.InternalError,
    ValueError,  # psycopg2's own, of texts with the character NUL
)
_UNFIT = (
    psycopg2.errors.NumericValueOutOfRange,
    psycopg2.errors.DatetimeFieldOverflow,
    psycopg2.errors.StringDataRightTruncation,
    psycopg2.errors.InvalidTextRepresentation,
    psycopg2.errors.CheckViolation,
)
"""Values that no column takes."""

_LOCK_MS = 300
_LOCK_PAUSE_S = 1.0
_CHANGE_S = 2400.0
"""Longer than any stream of the API lasts."""

_BREAK_S = 5.0
"""How long a COPY that is broken off may take to notice it."""

_PREPARED_MOST = 100
"""Statements that a connection keeps; plans of wide ones take some 100 KB each in the server."""


class ByteSink(Protocol):
    """Takes bytes, as files do that are open for writing."""

    def write(self, data: bytes, /) -> int:
        """Take some; return how many."""


class Connection(psycopg2.extensions.connection):
    """A connection, and the names of the statements that its server keeps for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As psycopg2's."""
        super().__init__(*args, **kwargs)
        self.prepared: set[str] = set()


_DSN_WORDS = {
    "PGHOST": "host",
    "PGPORT": "port",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGDATABASE": "dbname",
}


def dsn(variables: Mapping[str, str]) -> str:
    """The connection string of libpq's variables, for programs that have several logins."""
    words = {word: variables[name] for name, word in _DSN_WORDS.items() if name in variables}
    return psycopg2.extensions.make_dsn(**words)


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
            # A server that went away without a word is noticed within two minutes.
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=120_000,
            cursor_factory=extras.NamedTupleCursor,
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


@contextmanager
def savepoint(conn: Connection) -> Iterator[None]:
    """Run a block inside a transaction that may fail on its own.

    Raises:
        RefusedValueError: the database refuses a value; what the block did is undone, and the
            transaction goes on.
    """
    execute(conn, "SAVEPOINT block")
    try:
        yield
    except RefusedValueError:
        execute(conn, "ROLLBACK TO SAVEPOINT block")
        raise
    except _REFUSED as error:
        execute(conn, "ROLLBACK TO SAVEPOINT block")
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RefusedValueError(f"the database refuses it: {first}") from error
    execute(conn, "RELEASE SAVEPOINT block")


def change_tables(
    conn: Connection, change: Callable[[], ResultT], within_s: float = _CHANGE_S
) -> ResultT:
    """The result of a change of tables, made as one transaction as soon as nobody is in its way.

    A statement that waits for the lock of a table holds up all later ones that only want to read
    it. So this waits for moments alone, and tries again.

    Args:
        conn: an open connection, outside of a transaction.
        change: runs its statements on the connection; may be called several times.
        within_s: how long to try, seconds.

    Raises:
        LockedError: others held what it needs for all that time.
    """
    until = time.monotonic() + within_s
    while True:
        try:
            with transaction(conn):
                execute(conn, f"SET LOCAL lock_timeout = '{_LOCK_MS}ms'")
                return change()
        except LockedError as error:
            if time.monotonic() > until:
                raise LockedError(
                    f"tables were in use for {within_s:g} s without a pause, by a long download "
                    f"perhaps: try again later ({error})"
                ) from error
            time.sleep(_LOCK_PAUSE_S)


def execute(conn: Connection, statement: Statement, params: Params = None) -> int:
    """Run a statement and return the number of rows it touched."""
    with _translated(), conn.cursor() as cursor:
        cursor.execute(statement, params)
        return int(cursor.rowcount)


def fetch_all(conn: Connection, statement: Statement, params: Params = None) -> list[Any]:
    """Return all rows of a query as named tuples."""
    with _translated(), conn.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def fetch_prepared(
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


def fetch_one(conn: Connection, statement: Statement, params: Params = None) -> Any:
    """Return the first row of a query as a named tuple, or None."""
    with _translated(), conn.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchone()


def fetch_batches(
    conn: Connection, statement: Statement, params: Params, rows: int
) -> Iterator[list[Any]]:
    """The rows of a query in lists of some, so that neither side holds all of them.

    Each list has `statement_timeout` for itself. The transaction ends with the last list, or when
    the iterator is closed.

    Args:
        conn: an open connection, for this alone until the end.
        statement: the query.
        params: its values.
        rows: of a list.
    """
    with transaction(conn):
        cursor = sql.SQL("DECLARE batches NO SCROLL CURSOR FOR ")
        query = sql.SQL(statement) if isinstance(statement, str) else statement
        execute(conn, cursor + query, params)
        while batch := fetch_all(conn, f"FETCH {rows:d} FROM batches"):
            yield batch


def insert_many(
    conn: Connection,
    statement: Statement,
    values: Iterable[Sequence[Any]],
    template: str | None = None,
    page_size: int = 1000,
) -> None:
    """Run `INSERT ... VALUES %s` for many rows, in pages; not for signatures (see copy_binary)."""
    with _translated(), conn.cursor() as cursor:
        extras.execute_values(cursor, statement, values, template=template, page_size=page_size)


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


def copy_text(conn: Connection, query: Statement, file: ByteSink, params: Params = None) -> int:
    """Write a query's rows into a file in PostgreSQL's text COPY format; return their number."""
    with _translated(), conn.cursor() as cursor:
        select = cursor.mogrify(query, params).decode()
        cursor.copy_expert(f"COPY ({select}) TO STDOUT", file, size=1 << 20)
        return int(cursor.rowcount)


def copy_csv(
    conn: Connection,
    query: Statement,
    params: Params = None,
    *,
    header: bool = True,
    within_s: float = 1800,
) -> Generator[bytes, None, None]:
    """Stream a query's rows as CSV, in pieces of some 64 KiB, as they are taken.

    The server's COPY pushes and the caller pulls: a thread stands between them and waits for the
    caller. If the caller ends before the last row, the connection is closed.

    Args:
        conn: an open connection, for this alone until the end.
        query: the rows wanted.
        params: its values.
        header: with the columns' names first.
        within_s: for all rows, the caller's own time included, seconds.

    Raises:
        DatabaseError: the database went away, or it and the caller took too long.
    """
    with _translated(), conn.cursor() as cursor:
        select = cursor.mogrify(query, params).decode()
    outlet = _Outlet(time.monotonic() + within_s)
    statement = f"COPY ({select}) TO STDOUT WITH (FORMAT csv, HEADER {str(header).lower()})"
    pushing = threading.Thread(target=_push, args=(conn, statement, outlet), daemon=True)
    pushing.start()
    try:
        with _translated():
            yield from outlet.pieces()
    except BaseException:
        outlet.stopped.set()
        _break_off(conn, pushing)
        raise


def _break_off(conn: Connection, pushing: threading.Thread) -> None:
    """End a COPY and its connection within seconds, whatever state server and network are in."""

    def cancel() -> None:
        with suppress(*_AWAY):
            conn.cancel()

    # Cancelling opens a connection of its own, which may hang where the server does.
    threading.Thread(target=cancel, daemon=True).start()
    pushing.join(_BREAK_S)
    if pushing.is_alive():
        with suppress(OSError), socket.socket(fileno=os.dup(conn.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        pushing.join(_BREAK_S)
    if not pushing.is_alive():
        conn.close()


class _Outlet:
    """What COPY writes into, and others take out of, in pieces."""

    def __init__(self, until: float) -> None:
        self.stopped = threading.Event()
        self._until = until
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
        while not self.stopped.is_set() and time.monotonic() < self._until:
            try:
                self._ready.put(piece, timeout=0.2)
            except queue.Full:
                continue
            return
        raise BrokenPipeError("nobody takes the rows")

    def pieces(self) -> Iterator[bytes]:
        while (piece := self._next()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def _next(self) -> bytes | Exception | None:
        try:
            return self._ready.get(timeout=max(0.0, self._until - time.monotonic()))
        except queue.Empty:
            raise DatabaseError("the rows were not all there and taken in time") from None


def _push(conn: Connection, statement: str, outlet: _Outlet) -> None:
    with suppress(BrokenPipeError):
        try:
            with conn.cursor() as cursor:
                cursor.copy_expert(statement, outlet)
            outlet.flush()
            outlet.put(None)
        except psycopg2.Error as error:
            outlet.put(error)


def compose(template: str, **names: Name) -> sql.Composed:
    """Put identifiers into a statement, quoted: str and tuple as (qualified) name, list as names.

    What was composed before is put in as it is.

    Example:
        compose("SELECT {cols} FROM {table}", cols=["pid", "code"], table=("nl", "parcels"))
    """

    def quoted(name: Name) -> sql.Composable:
        if isinstance(name, sql.Composable):
            return name
        if isinstance(name, list):
            return sql.SQL(", ").join(sql.Identifier(part) for part in name)
        return sql.Identifier(*([name] if isinstance(name, str) else name))

    return sql.SQL(template).format(**{key: quoted(name) for key, name in names.items()})


def join(parts: Iterable[sql.Composable]) -> sql.Composed:
    """Composed parts of a statement with commas between them."""
    return sql.SQL(", ").join(parts)


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
    except psycopg2.errors.LockNotAvailable as error:
        raise LockedError(f"others hold a lock: {str(error).strip()}") from error
    except psycopg2.errors.QueryCanceled as error:
        raise DatabaseError(f"the database took too long: {str(error).strip()}") from error
    except psycopg2.errors.DeadlockDetected as error:
        raise DatabaseError("another transaction was in the way of this one: try again") from error
    except _UNFIT as error:
        raise RefusedValueError(
            f"the database cannot hold a value: {str(error).strip()}"
        ) from error
    except _AWAY as error:
        raise DatabaseError(f"the database went away: {str(error).strip()}") from error
