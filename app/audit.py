"""A row per request, written behind the request's back: it neither waits for it nor fails by it.

Rows wait in memory, while the database is away too, up to a bound; a process that is killed loses
those that were waiting (normally those of the last moments). Once a day each process also forgets
what is older than the setting.
"""

import logging
import queue
import threading
import time
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from app import metrics
from store import db
from store.errors import CbmError, DatabaseError

_log = logging.getLogger(__name__)

_WAITING_MOST = 10_000
_ROWS_AT_ONCE = 500
_PAUSE_S = 1.0
_LONGEST_TEXT = 2000
_PRUNE_EVERY_S = 86400.0


@dataclass(frozen=True)
class Entry:
    """What is kept of one request.

    Attributes:
        at: when it came, UTC.
        user_name: as given; with status 401 nobody has proved it.
        method: of HTTP.
        path: without the query.
        query: as sent, percent-encoded.
        status: of the reply.
        took_ms: from request to reply, milliseconds.
        token_id: the token that proved who asked.
        address: where it came from.
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


class Audit:
    """The rows that wait, and the thread that writes them."""

    def __init__(self, pool: db.Pool, days: int) -> None:
        """Start the thread; it needs one of the pool's connections now and then.

        Args:
            pool: where from.
            days: how long rows are kept.
        """
        self._pool = pool
        self._days = days
        self._prune_at = time.monotonic()
        self._waiting: queue.Queue[Entry] = queue.Queue(_WAITING_MOST)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def record(self, entry: Entry) -> None:
        """Have an entry written soon; when too many wait, it is dropped and the log says so."""
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            metrics.AUDIT_LOST.inc()
            _log.error("audit row dropped, %d are waiting: %s", _WAITING_MOST, entry)

    def close(self, wait_s: float = 5) -> None:
        """Write what is waiting, if the database lets us within some seconds."""
        self._closing.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        batch: list[Entry] = []
        while batch or not self._waiting.empty() or not self._closing.is_set():
            batch = batch or self._next_batch()
            metrics.AUDIT_WAITING.set(len(batch) + self._waiting.qsize())
            try:
                self._write(batch)
            except DatabaseError as error:
                _log.warning("audit rows wait for the database: %s", error)
                if self._closing.wait(_PAUSE_S):
                    return
                continue
            except Exception:
                metrics.AUDIT_LOST.inc(len(batch))
                _log.exception("%d audit rows lost", len(batch))
            batch = []
            self._prune()

    def _next_batch(self) -> list[Entry]:
        try:
            batch = [self._waiting.get(timeout=_PAUSE_S)]
        except queue.Empty:
            return []
        while len(batch) < _ROWS_AT_ONCE and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch

    def _write(self, batch: list[Entry]) -> None:
        if batch:
            with self._pool.connection() as conn:
                db.insert_many(
                    conn,
                    "INSERT INTO public.api_audit "
                    "(at, user_name, method, path, query, status, took_ms, token_id, address) "
                    "VALUES %s",
                    [_printable(entry) for entry in batch],
                )

    def _prune(self) -> None:
        """Forget old rows, at the start and then once a day; a failure waits for the next day."""
        if time.monotonic() < self._prune_at or self._closing.is_set():
            return
        self._prune_at = time.monotonic() + _PRUNE_EVERY_S
        try:
            with self._pool.connection() as conn:
                forgotten = prune(conn, self._days)
        except CbmError as error:
            _log.warning("old audit rows stay: %s", error)
        else:
            _log.info("forgot %d audit rows older than %d days", forgotten, self._days)


def prune(conn: db.Connection, days: int) -> int:
    """Forget rows older than some days, in small transactions; how many there were."""
    forgotten, last = 0, -1
    while last:
        last = db.one(conn, "SELECT public.cbm_prune_audit(%s) AS n", (days,)).n
        forgotten += last
    return forgotten


def newest(
    conn: db.Connection, user_name: str | None, status: int | None, days: int, most: int
) -> list[Any]:
    """The newest rows, oldest first.

    Args:
        conn: a connection with the owner's rights.
        user_name: only of this user; None for all.
        status: only with this status; None for all.
        days: how far back.
        most: rows.
    """
    return db.rows(
        conn,
        "SELECT * FROM (SELECT * FROM public.api_audit "
        "WHERE at > now() - make_interval(days => %(days)s) "
        "AND (%(user)s::text IS NULL OR user_name = %(user)s) "
        "AND (%(status)s::int IS NULL OR status = %(status)s) "
        "ORDER BY at DESC LIMIT %(most)s) AS found ORDER BY at",
        {"days": days, "user": user_name, "status": status, "most": most},
    )


def _printable(entry: Entry) -> tuple[object, ...]:
    """The values of a row; a text that PostgreSQL would refuse (NUL) must not cost the row."""
    return tuple(
        value.replace("\0", "\\0")[:_LONGEST_TEXT] if isinstance(value, str) else value
        for value in astuple(entry)
    )
