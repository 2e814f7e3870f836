"""The life of a request, whatever brings it: who asks, what, the answer or the error, the audit."""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from app import replies
from app.audit import Audit, Entry
from app.errors import status_of
from app.parameters import Parameter, parse
from app.replies import Reply
from app.settings import ApiSettings
from app.users import Gate, User, claimed_name
from store import db

_log = logging.getLogger(__name__)

_GENERAL = {
    HTTPStatus.SERVICE_UNAVAILABLE: "the database is away or too busy; try again shortly",
    HTTPStatus.INTERNAL_SERVER_ERROR: "an unexpected error",
}
"""What is said of failures whose own message is for the operator's log only."""


@dataclass(frozen=True)
class Route:
    """A question that users may ask.

    Attributes:
        path: of its address.
        meaning: one sentence for the documentation.
        parameters: all that it knows.
        answer: from connection, user and parameter values to the reply.
    """

    path: str
    meaning: str
    parameters: tuple[Parameter, ...]
    answer: Callable[[db.Connection, User, Mapping[str, Any]], Reply]


class Service:
    """Answers requests from a pool of connections; safe to use by many threads."""

    def __init__(self, pool: db.Pool) -> None:
        """Nothing is asked of the database yet."""
        self._pool = pool
        self._gate = Gate()
        self._audit = Audit(pool)

    @classmethod
    def of(cls, settings: ApiSettings) -> "Service":
        """A service on the database that PG* leads to, with the rights of role cbm_api only."""

        def connect() -> db.Connection:
            conn = db.connect("cbm-api", statement_timeout_s=settings.statement_timeout_s)
            db.execute(conn, "SET ROLE cbm_api")
            return conn

        # One more than there are threads, for the audit.
        return cls(db.Pool(settings.threads + 1, connect))

    def respond(self, route: Route, method: str, query: str, authorization: str | None) -> Reply:
        """Answer one request to a route, and note it.

        Args:
            route: what is asked.
            method: of HTTP, for the audit.
            query: the query string as sent.
            authorization: the header of that name.
        """
        at, began = datetime.now(UTC), time.perf_counter()
        reply = _guarded(lambda: self._answer(route, query, authorization))
        took_ms = (time.perf_counter() - began) * 1000
        name = claimed_name(authorization)
        self._audit.record(Entry(at, name, method, route.path, query, reply.status, took_ms))
        return reply

    def _answer(self, route: Route, query: str, authorization: str | None) -> Reply:
        with self._pool.connection() as conn:
            user = self._gate.admit(conn, authorization)
            return route.answer(conn, user, parse(query, route.parameters))

    def alive(self) -> Reply:
        """Whether the process answers at all."""
        return replies.as_json({"status": "alive"})

    def ready(self) -> Reply:
        """Whether the database answers and lets us read."""
        return _guarded(self._ask_database)

    def _ask_database(self) -> Reply:
        with self._pool.connection() as conn:
            db.one(conn, "SELECT FROM public.campaign LIMIT 1")
        return replies.as_json({"status": "ready"})

    def close(self) -> None:
        """Write what the audit still holds."""
        self._audit.close()


def _guarded(answer: Callable[[], Reply]) -> Reply:
    """The answer, or the reply that its error deserves."""
    try:
        return answer()
    except Exception as error:
        status = status_of(error)
        if status not in _GENERAL:
            return replies.as_error(status, str(error))
        number = secrets.token_hex(4)
        _log.error("error %s: %s", number, error, exc_info=status == 500)
        return replies.as_error(status, f"{_GENERAL[status]} (number {number} in the log)")
