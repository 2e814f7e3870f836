"""The life of a request: authentication, rate limits, handler, errors, metrics, access log."""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any, Self
from urllib.parse import quote

from app.access.access_log import AccessLog, AccessLogEntry
from app.access.authenticator import Authenticator, claimed_name
from app.access.rate_limits import LIMITS_FILE, Allowance, RateLimits, TokenBuckets
from app.access.sessions import Sessions
from app.access.users import User
from app.chips.image_service import ImageService
from app.http import metrics, turns
from app.http.errors import (
    BusyError,
    TooManyError,
    UnauthenticatedError,
    headers_of,
    status_of,
)
from app.http.request import Request
from app.http.response import ByteStream, Response, error_response, redirect
from app.pages.site import unavailable
from app.query.bulk import MAX_STREAM_S
from app.routes.route import (
    ANONYMOUS,
    API_HEADERS,
    LOGIN,
    Access,
    AppResource,
    RequestContext,
    Route,
)
from app.settings import ApiSettings
from store import db
from store.errors import DatabaseError, ObjectStoreError

_log = logging.getLogger(__name__)

_GENERAL = {
    HTTPStatus.SERVICE_UNAVAILABLE: "the database is away or too busy; try again shortly",
    HTTPStatus.INTERNAL_SERVER_ERROR: "an unexpected error",
}
"""Details of failures whose own message is for the operator's log only."""

_IMAGES_AWAY = "the storage of the images does not answer, or not in time; try again shortly"


@dataclass
class RequestLog:
    """A request under way, with everything to be logged of it.

    Attributes:
        request: of HTTP.
        at: its arrival, UTC.
        began: the same on the monotonic clock, seconds.
        route: None if no route has the address.
        user: once authenticated.
    """

    request: Request
    route: Route[Any] | None = None
    user: User | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.perf_counter)


class MeteredPool(db.Pool):
    """A pool that counts the connections in use."""

    @contextmanager
    def connection(self) -> Iterator[db.Connection]:
        """Borrow a connection for a block; as db.Pool."""
        with super().connection() as conn, metrics.CONNECTIONS_IN_USE.track_inprogress():
            yield conn


class Service:
    """Answers requests from a pool of connections; safe to use by many threads."""

    def __init__(self, settings: ApiSettings, resources: Sequence[AppResource]) -> None:
        """A service on the database of PG*, to which nothing is sent yet."""

        def connect() -> db.Connection:
            """Connect with the rights of role cbm_api only."""
            conn = db.connect("cbm-api", statement_timeout_s=settings.statement_timeout_s)
            db.execute(conn, "SET ROLE cbm_api")
            return conn

        self._pool = MeteredPool(settings.connections, connect)
        self._proxies = settings.proxies
        self._limits = _rate_limits(settings)
        self._resources: dict[type[Any], Any] = {type(each): each for each in resources}
        self._authenticator = Authenticator(self._limits)
        self._access_log = AccessLog(self._pool, settings.audit_days)
        self._streams = StreamPlaces(settings.max_streams)

    def respond(
        self, request: Request, route: Route[Any], path_params: Mapping[str, str]
    ) -> Response:
        """The response of a route; it is logged when its last byte is sent.

        Args:
            request: of HTTP.
            route: of the request's path and method.
            path_params: texts of the parameters in the path, by name.
        """
        log = RequestLog(request.behind_proxy(self._proxies), route)
        return self._finish(log, self._handle(log, route, path_params))

    def refuse(self, request: Request, error: Exception) -> Response:
        """The response to a request that no route has; it is logged as others are."""
        log = RequestLog(request.behind_proxy(self._proxies))
        return self._finish(log, _refusal(error))

    def close(self) -> None:
        """Free the resources; write what the access log still holds."""
        self._resources[ImageService].close()
        self._access_log.close()

    def _handle(
        self, log: RequestLog, route: Route[Any], path_params: Mapping[str, str]
    ) -> Response:
        """The response of the route's handler, or that of an error."""
        try:
            log.user = user = self._authenticate(route, log.request)
            params = route.read(log.request, path_params)
            context = RequestContext(
                log.request, user, params, self._authenticator, self._pool, self._resources
            )
            response = route.handler(context)
            if isinstance(response.body, bytes):
                return response
            return replace(response, body=self._start_stream(log, response.body))
        except UnauthenticatedError as error:
            return _unauthenticated(log, error)
        except Exception as error:
            response = _refusal(error)
            if response.status is HTTPStatus.SERVICE_UNAVAILABLE and _wants_page(log):
                return unavailable(response)
            return response

    def _start_stream(self, log: RequestLog, body: ByteStream) -> "_LoggedStream":
        """A body whose first piece is there.

        Raises:
            TooManyError: the user reads as many streams as one may.
            BusyError: too many streams are open.
        """
        user_name = log.user.name if log.user else ""
        self._streams.take(user_name)
        try:
            return _LoggedStream(body, lambda: self._streams.give_back(user_name))
        except BaseException:
            self._streams.give_back(user_name)
            raise

    def _finish(self, log: RequestLog, response: Response) -> Response:
        """The response with its route's headers; logs it, a stream at its end."""
        headers = log.route.headers if log.route else API_HEADERS
        response = replace(response, headers={**headers, **response.headers})
        if isinstance(response.body, _LoggedStream):
            response.body.on_end = lambda failed: self._record(
                log, HTTPStatus.INTERNAL_SERVER_ERROR if failed else response.status
            )
        else:
            self._record(log, response.status)
        return response

    def _authenticate(self, route: Route[Any], request: Request) -> User:
        """The user of a request; the one place that keeps anybody out before anything is read.

        Raises:
            UnauthenticatedError: the credentials are missing or wrong.
            TooManyError: too many requests, or too many failed logins.
        """
        if route.access is Access.PUBLIC:
            if route.rate_limited:
                self._limits.count_address(request.remote)
            return ANONYMOUS
        try:
            with self._pool.connection() as conn:
                user = self._resources[Sessions].find_user(
                    conn, request
                ) or self._authenticator.authenticate(conn, request.authorization, request.remote)
        except UnauthenticatedError:
            self._limits.count_failure(request.remote)
            raise
        turns.go_on_as(user.name)
        self._limits.count_user(user.name)
        return user

    def _record(self, log: RequestLog, status: HTTPStatus) -> None:
        """Count and log a request that is over; the one place where it is done.

        Args:
            log: of the request.
            status: of the response; 500 when its body was cut.
        """
        request, route, user = log.request, log.route, log.user
        duration_s = time.perf_counter() - log.began
        metrics.count_request(route.path if route else "", request.method, status, duration_s)
        if route and not route.logged:
            return
        name = user.name if user else claimed_name(request.authorization)
        outcome = request.method, request.path, request.query, status, duration_s * 1000
        token_id = user.token_id if user else None
        entry = AccessLogEntry(log.at, name or None, *outcome, token_id, request.remote)
        self._access_log.record(entry)


class StreamPlaces:
    """The streams that may be open at once; half of them for one user."""

    def __init__(self, most: int) -> None:
        """All are free."""
        self._most = most
        self._per_user = max(1, most // 2)
        self._open: Counter[str] = Counter()
        self._lock = Lock()

    def take(self, user_name: str) -> None:
        """Take a place.

        Raises:
            TooManyError: the user has a half of them.
            BusyError: all are taken.
        """
        with self._lock:
            if self._open[user_name] >= self._per_user:
                raise TooManyError(
                    f"{self._per_user} streams of user {user_name} are open already: read them to "
                    "their end",
                    retry_after_s=5,
                )
            if self._open.total() >= self._most:
                raise BusyError("as many streams are open as may be at once")
            self._open[user_name] += 1

    def give_back(self, user_name: str) -> None:
        """Give a place back."""
        with self._lock:
            self._open -= Counter([user_name])


class _LoggedStream:
    """A streamed body that reports its end, and has one, however slow its reader is.

    Attributes:
        on_end: called once, with whether it failed.
    """

    on_end: Callable[[bool], None]

    def __init__(self, body: ByteStream, give_back: Callable[[], None]) -> None:
        """Wait for the first piece: an error until then still becomes a response of its own."""
        self._body = body
        self._give_back = give_back
        self._until = time.monotonic() + MAX_STREAM_S
        self._first = next(body, b"")
        self._failed = False
        self._is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._first:
            piece, self._first = self._first, b""
            return piece
        try:
            if time.monotonic() > self._until:
                raise DatabaseError(f"a stream was not read within {MAX_STREAM_S} s")
            return next(self._body)
        except StopIteration:
            raise
        except Exception:
            self._failed = True
            _log.exception("a stream was cut")
            raise

    def close(self) -> None:
        """Every server calls this at the end, whatever the end was."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._body.close()
        except Exception:
            self._failed = True
            _log.exception("a stream did not close")
        finally:
            self._give_back()
            self.on_end(self._failed)


def _rate_limits(settings: ApiSettings) -> RateLimits:
    file = settings.run_dir and settings.run_dir / LIMITS_FILE
    return RateLimits(
        TokenBuckets(file),
        per_user=Allowance(settings.rate_per_s, settings.rate_burst),
        per_address=Allowance(settings.open_rate_per_s, settings.open_rate_burst),
    )


def _unauthenticated(log: RequestLog, error: UnauthenticatedError) -> Response:
    request = log.request
    if log.route and log.route.access is Access.PAGE:
        onward = quote(f"{request.path}?{request.query}" if request.query else request.path)
        return redirect(f"{LOGIN}?next={onward}")
    response = _refusal(error)
    if request.header("X-Requested-With"):
        # From a page's script: with a challenge the browser would show a password box of its own.
        return replace(response, headers={})
    return response


def _wants_page(log: RequestLog) -> bool:
    """Whether a person waits for a page in a browser."""
    is_page = log.route is not None and log.route.is_page
    return is_page and "text/html" in (log.request.header("Accept") or "").lower()


def _refusal(error: Exception) -> Response:
    status = status_of(error)
    headers = headers_of(error, status)
    if status not in _GENERAL or isinstance(error, BusyError):
        return error_response(status, str(error), headers)
    number = secrets.token_hex(4)
    _log.error("error %s: %s", number, error, exc_info=status == 500)
    detail = _IMAGES_AWAY if isinstance(error, ObjectStoreError) else _GENERAL[status]
    return error_response(status, f"{detail} (number {number} in the log)", headers)
