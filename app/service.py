"""The life of a request, whatever brings it: who asks, what, the answer or the error, the audit."""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import Any, Self
from urllib.parse import quote

from app import metrics, pages, replies
from app.audit import Audit, Entry
from app.errors import UnauthenticatedError, headers_of, status_of
from app.limits import Limits
from app.replies import Pieces, Reply
from app.request import Request
from app.route import API_HEADERS, LOGIN, NOBODY, Call, Part, Route, Table, Who
from app.sessions import Sessions
from app.settings import ApiSettings
from app.users import Gate, User, claimed_name
from store import db
from store.errors import DatabaseError, ObjectStoreError

_log = logging.getLogger(__name__)

_GENERAL = {
    HTTPStatus.SERVICE_UNAVAILABLE: "the database is away or too busy; try again shortly",
    HTTPStatus.INTERNAL_SERVER_ERROR: "an unexpected error",
}
"""What is said of failures whose own message is for the operator's log only."""

_IMAGES_AWAY = "the place where the images lie does not answer, or not in time; try again shortly"


@dataclass
class Exchange:
    """A request under way, and what became known of it.

    Attributes:
        request: as it came.
        at: when, UTC.
        began: the same on the clock that measures, seconds.
        route: the one that it means, once found.
        user: who asks, once proved.
    """

    request: Request
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.perf_counter)
    route: Route | None = None
    user: User | None = None


class Service:
    """Answers requests from a pool of connections; safe to use by many threads."""

    def __init__(
        self, settings: ApiSettings, pool: db.Pool, routes: Sequence[Route], parts: Sequence[Part]
    ) -> None:
        """Nothing is asked of the database yet."""
        self._pool = pool
        self._proxies = settings.proxies
        self._limits = Limits.of(settings)
        self._table = Table(routes)
        self._parts: dict[type[Any], Any] = {type(part): part for part in parts}
        self._gate = Gate(self._limits)
        self._audit = Audit(pool, settings.audit_days)
        # Readers may be slow: half of the threads and connections stay for short answers.
        self._streams = BoundedSemaphore(max(1, settings.threads // 2))

    @classmethod
    def of(
        cls, settings: ApiSettings, routes: Sequence[Route], parts: Sequence[Part] = ()
    ) -> "Service":
        """A service on the database that PG* leads to, with the rights of role cbm_api only."""

        def connect() -> db.Connection:
            conn = db.connect("cbm-api", statement_timeout_s=settings.statement_timeout_s)
            db.execute(conn, "SET ROLE cbm_api")
            return conn

        # One more than there are threads, for the audit.
        return cls(settings, metrics.Pool(settings.threads + 1, connect), routes, parts)

    def respond(self, request: Request) -> Reply:
        """Answer a request, and note it when the last byte is sent."""
        exchange = Exchange(request.forwarded(self._proxies))
        reply = self._guarded(exchange)
        headers = exchange.route.headers if exchange.route else API_HEADERS
        reply = replace(reply, headers={**headers, **reply.headers})
        if isinstance(reply.body, _Streamed):
            reply.body.ended = lambda failed: self._ended(
                exchange, HTTPStatus.INTERNAL_SERVER_ERROR if failed else reply.status
            )
        else:
            self._note(exchange, reply.status)
        return reply

    def _guarded(self, exchange: Exchange) -> Reply:
        """The answer, or the reply that its error deserves."""
        try:
            reply = self._answer(exchange)
            if isinstance(reply.body, bytes):
                return reply
            return replace(reply, body=self._begun(reply.body))
        except UnauthenticatedError as error:
            return _unauthenticated(exchange, error)
        except Exception as error:
            reply = _refusal(error)
            if reply.status is HTTPStatus.SERVICE_UNAVAILABLE and _looks(exchange):
                return pages.away(reply)
            return reply

    def _begun(self, body: Pieces) -> "_Streamed":
        """A body whose first piece is there.

        Raises:
            DatabaseError: too many are on their way already.
        """
        if not self._streams.acquire(blocking=False):
            raise DatabaseError("as many streams are on their way as may be at once")
        try:
            return _Streamed(body)
        except BaseException:
            self._streams.release()
            raise

    def _ended(self, exchange: Exchange, status: HTTPStatus) -> None:
        self._streams.release()
        self._note(exchange, status)

    def _answer(self, exchange: Exchange) -> Reply:
        request = exchange.request
        found = self._table.find(request.method, request.path)
        exchange.route = found.route
        exchange.user = self._admit(found.route, request)
        asked = found.route.read(request, found.in_path)
        call = Call(request, exchange.user, asked, self._gate, self._pool, self._parts)
        return found.route.answer(call)

    def _admit(self, route: Route, request: Request) -> User:
        """Find out who asks; the one place where somebody is kept out before anything is read.

        Raises:
            UnauthenticatedError: nobody that is known.
            TooManyError: somebody who asks too often, or guesses.
        """
        if route.who is Who.ANYONE:
            if route.counted:
                self._limits.count_open(request.remote)
            return NOBODY
        try:
            with self._pool.connection() as conn:
                user = self._parts[Sessions].user_of(conn, request) or self._gate.admit(
                    conn, request.authorization, request.remote
                )
        except UnauthenticatedError:
            self._limits.count_open(request.remote)
            raise
        self._limits.count(user.name)
        return user

    def _note(self, exchange: Exchange, status: HTTPStatus) -> None:
        """Remember a request that is over; the one place where it is done.

        Args:
            exchange: all that is known of it.
            status: of the reply; 500 when its body was cut.
        """
        asked, route, user = exchange.request, exchange.route, exchange.user
        took_s = time.perf_counter() - exchange.began
        metrics.count(route.path if route else "", asked.method, status, took_s)
        if route and not route.audited:
            return
        name = user.name if user else claimed_name(asked.authorization)
        answered = (asked.method, asked.path, asked.query, status, took_s * 1000)
        token_id = user.token_id if user else None
        self._audit.record(Entry(exchange.at, name or None, *answered, token_id, asked.remote))

    def close(self) -> None:
        """Let go of what the parts hold; write what the audit still holds."""
        for part in self._parts.values():
            part.close()
        self._audit.close()


class _Streamed:
    """A body on its way, whose end is told.

    Attributes:
        ended: called once, with whether it failed.
    """

    ended: Callable[[bool], None]

    def __init__(self, body: Pieces) -> None:
        """Wait for the first piece: an error until then is still an answer of its own."""
        self._body = body
        self._first = next(body, b"")
        self._failed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._first:
            piece, self._first = self._first, b""
            return piece
        try:
            return next(self._body)
        except StopIteration:
            raise
        except Exception:
            self._failed = True
            _log.exception("an answer was cut")
            raise

    def close(self) -> None:
        """Every server calls this at the end, whatever the end was."""
        self._body.close()
        self.ended(self._failed)


def _unauthenticated(exchange: Exchange, error: UnauthenticatedError) -> Reply:
    asked = exchange.request
    if exchange.route and exchange.route.who is Who.PAGE:
        onward = quote(f"{asked.path}?{asked.query}" if asked.query else asked.path)
        return replies.as_redirect(f"{LOGIN}?next={onward}")
    reply = _refusal(error)
    if asked.header("X-Requested-With"):
        # A page's script asks: with a challenge the browser would show a password box of its own.
        return replace(reply, headers={})
    return reply


def _looks(exchange: Exchange) -> bool:
    """Whether a person waits for a page in a browser."""
    is_page = exchange.route is not None and exchange.route.is_page
    return is_page and "text/html" in (exchange.request.header("Accept") or "").lower()


def _refusal(error: Exception) -> Reply:
    status = status_of(error)
    headers = headers_of(error, status)
    if status not in _GENERAL:
        return replies.as_error(status, str(error), headers)
    number = secrets.token_hex(4)
    _log.error("error %s: %s", number, error, exc_info=status == 500)
    said = _IMAGES_AWAY if isinstance(error, ObjectStoreError) else _GENERAL[status]
    return replies.as_error(status, f"{said} (number {number} in the log)", headers)
