"""The access log: a database row per request, written in the background.

No request waits for its row, nor fails by it. Rows wait in memory, while the database is away too,
up to a bound; a process that is killed loses those that were waiting (normally those of the last
moments). Once a day each process also deletes the rows that are older than the setting.
"""

import logging
import queue
import threading
import time
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from app.http import metrics
from store import db
from store.errors import CbmError, DatabaseError

_log = logging.getLogger(__name__)

_MAX_WAITING = 10_000
_ROWS_AT_ONCE = 500
_PAUSE_S = 1.0
_MAX_TEXT = 2000
_PRUNE_EVERY_S = 86400.0


@dataclass(frozen=True)
class AccessLogEntry:
    """The row of one request.

    Attributes:
        at: arrival of the request, UTC.
        user_name: as sent; unproved with status 401.
        method: of HTTP.
        path: without the query.
        query: as sent, percent-encoded.
        status: of the response.
        took_ms: from request to response, milliseconds.
        token_id: of the token that authenticated the user.
        address: of the client.
    """

    at: datetime
    user_name: str | None
    method: str
    path: str
    query: str
    status: int
    took_ms: float
    token_id: str | None = None
    address: str | None = None


class AccessLog:
    """The rows that wait, and the thread that writes them."""

    def __init__(self, pool: db.Pool, days: int) -> None:
        """Start the thread; it needs one of the pool's connections now and then.

        Args:
            pool: of connections.
            days: how long rows are kept.
        """
        self._pool = pool
        self._days = days
        self._prune_at = time.monotonic()
        self._waiting: queue.Queue[AccessLogEntry] = queue.Queue(_MAX_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def record(self, entry: AccessLogEntry) -> None:
        """Queue an entry to be written; when too many wait, it is dropped and logged."""
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            metrics.ACCESS_LOG_LOST.inc()
            _log.error("access log row dropped, %d are waiting: %s", _MAX_WAITING, entry)

    def close(self, wait_s: float = 5) -> None:
        """Write the rows that wait, if the database takes them within some seconds."""
        self._closing.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        batch: list[AccessLogEntry] = []
        while batch or not self._waiting.empty() or not self._closing.is_set():
            batch = batch or self._next_batch()
            metrics.ACCESS_LOG_WAITING.set(len(batch) + self._waiting.qsize())
            try:
                self._write(batch)
            except DatabaseError as error:
                _log.warning("access log rows wait for the database: %s", error)
                if self._closing.wait(_PAUSE_S):
                    return
                continue
            except Exception:
                metrics.ACCESS_LOG_LOST.inc(len(batch))
                _log.exception("%d access log rows lost", len(batch))
            batch = []
            self._prune()

    def _next_batch(self) -> list[AccessLogEntry]:
        try:
            batch = [self._waiting.get(timeout=_PAUSE_S)]
        except queue.Empty:
            return []
        while len(batch) < _ROWS_AT_ONCE and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch

    def _write(self, batch: list[AccessLogEntry]) -> None:
        if batch:
            with self._pool.connection() as conn:
                db.insert_many(
                    conn,
                    "INSERT INTO public.api_audit "
                    "(at, user_name, method, path, query, status, took_ms, token_id, address) "
                    "VALUES %s",
                    [_storable(entry) for entry in batch],
                )

    def _prune(self) -> None:
        """Delete old rows, at the start and then once a day; a failure waits for the next day."""
        if time.monotonic() < self._prune_at or self._closing.is_set():
            return
        self._prune_at = time.monotonic() + _PRUNE_EVERY_S
        try:
            with self._pool.connection() as conn:
                deleted = prune(conn, self._days)
        except CbmError as error:
            _log.warning("old access log rows stay: %s", error)
        else:
            _log.info("deleted %d access log rows older than %d days", deleted, self._days)


def prune(conn: db.Connection, days: int) -> int:
    """Delete rows older than some days, in small transactions.

    Returns:
        The number of rows.
    """
    deleted, last = 0, -1
    while last:
        last = db.fetch_one(conn, "SELECT public.cbm_prune_audit(%s) AS n", (days,)).n
        deleted += last
    return deleted


def fetch_newest(
    conn: db.Connection, user_name: str | None, status: int | None, days: int, limit: int
) -> list[Any]:
    """The newest rows, oldest first.

    Args:
        conn: a connection with the owner's rights.
        user_name: only of this user; None for all.
        status: only with this status; None for all.
        days: how far back.
        limit: number of rows.
    """
    return db.fetch_all(
        conn,
        "SELECT * FROM (SELECT * FROM public.api_audit "
        "WHERE at > now() - make_interval(days => %(days)s) "
        "AND (%(user)s::text IS NULL OR user_name = %(user)s) "
        "AND (%(status)s::int IS NULL OR status = %(status)s) "
        "ORDER BY at DESC LIMIT %(limit)s) AS newest ORDER BY at",
        {"days": days, "user": user_name, "status": status, "limit": limit},
    )


def _storable(entry: AccessLogEntry) -> tuple[object, ...]:
    """The values of a row; a text that PostgreSQL would refuse (NUL) must not cost the row."""
    return tuple(
        value.replace("\0", "\\0")[:_MAX_TEXT] if isinstance(value, str) else value
        for value in astuple(entry)
    )
