"""The route: an endpoint with its parameters, access, handler and documentation."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Generic, Protocol, Self, TypeVar

from app.access.authenticator import Authenticator
from app.access.users import User
from app.http.errors import MediaTypeError, ParameterError
from app.http.parameters import ParamsT, json_pairs, query_pairs, read_params
from app.http.request import Request
from app.http.response import JSON, Response
from app.routes.response_docs import ResponseDoc
from store import db


class Access(Enum):
    """Who may use a route."""

    USER = "user"
    """Authenticated users: by HTTP Basic, a token, or the session of a page."""
    PAGE = "page"
    """The same, but anyone else is redirected to the login."""
    PUBLIC = "public"
    """Everybody: the route needs no user, or checks a signature itself."""


class Lane(Enum):
    """The threads that answer a route: one kind of requests never holds those of another."""

    HEALTH = "health"
    """Whether the process answers at all: waits for nothing, the database included."""
    LOGIN = "login"
    """Logins and files of the pages, which are answered whatever else happens."""
    QUERY = "query"
    """Short responses from the database."""
    IMAGE = "image"
    """Images, which wait for the archive or another service."""
    STREAM = "stream"
    """Responses that may be large, and last as long as their reader."""


ANONYMOUS = User("", frozenset())
"""The user of public routes; has no right to any aoi."""

API_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Attribution": "Contains modified Copernicus Sentinel data",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of all responses but pages: parcels are personal data."""

LOGIN = "/login"
"""Address of the login page."""


class AppResource(Protocol):
    """An object that a process keeps between requests for its routes, such as a cache."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Make it from the process's environment variables."""


_Resource = TypeVar("_Resource")


@dataclass(frozen=True)
class RequestContext(Generic[ParamsT]):
    """A request that was let in, with everything its handler needs.

    Attributes:
        request: of HTTP.
        user: ANONYMOUS on public routes.
        params: validated.
        authenticator: checks passwords.
        pool: of database connections.
        resources: of the process, by class.
    """

    request: Request
    user: User
    params: ParamsT
    authenticator: Authenticator
    pool: db.Pool
    resources: Mapping[type[Any], Any]

    def connection(self) -> AbstractContextManager[db.Connection]:
        """A connection for a block: short blocks, one at a time.

        A streamed body borrows again in its generator; it goes back when the last byte is sent, or
        when the client has gone.
        """
        return self.pool.connection()

    def resource(self, cls: type[_Resource]) -> _Resource:
        """The process's resource of a class that an area's RESOURCES name."""
        resource: _Resource = self.resources[cls]
        return resource


@dataclass(frozen=True)
class Route(Generic[ParamsT]):
    """An endpoint.

    Attributes:
        path: `{name}` stands for the text of a parameter without slashes.
        summary: one sentence for the documentation.
        params: model of all parameters: in the path, in the query (GET), in the body (POST).
        handler: from the context to the response.
        method: GET (HEAD, too) or POST.
        access: who may use it.
        responses: documented forms of a success.
        headers: of every response, unless the response has its own of that name.
        consumes: media type of a POST's body: JSON (an object) or FORM.
        max_body_bytes: of a POST.
        logged: whether requests leave a row in the access log.
        rate_limited: whether requests of a public route count for the rate of their address.
        tag: the group in the documentation.
        lane: the threads that answer it.
    """

    path: str
    summary: str
    params: type[ParamsT]
    handler: Callable[[RequestContext[ParamsT]], Response]
    method: str = "GET"
    access: Access = Access.USER
    responses: tuple[ResponseDoc, ...] = ()
    headers: Mapping[str, str] = field(default_factory=lambda: API_HEADERS)
    consumes: str = JSON
    max_body_bytes: int = 1 << 20
    logged: bool = True
    rate_limited: bool = True
    tag: str = "query"
    lane: Lane = Lane.QUERY

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    @property
    def is_page(self) -> bool:
        """Whether people look at it in a browser: then an outage is a page, too."""
        return self.access is Access.PAGE or self.path == LOGIN

    @cached_property
    def path_pattern(self) -> re.Pattern[str]:
        """What the path of a request matches as a whole."""
        return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(self.path)))

    @cached_property
    def path_params(self) -> tuple[str, ...]:
        """Names of the parameters in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    def read(self, request: Request, in_path: Mapping[str, str]) -> ParamsT:
        """The parameters of a request.

        Args:
            request: of HTTP.
            in_path: texts of the parameters in the path, by name.

        Raises:
            ParameterError: a parameter cannot be used; names it.
            TooLargeError: the body is too long.
            MediaTypeError: the body has another media type.
        """
        if self.method == "GET":
            return read_params(self.params, query_pairs(request.query), in_path)
        if request.query:
            raise ParameterError("parameters of a POST come in its body, not in the address")
        media_type = (request.header("Content-Type") or "").partition(";")[0].strip().lower()
        if media_type != self.consumes:
            raise MediaTypeError(f"the body must be {self.consumes}, not {media_type or 'untyped'}")
        body = request.body(self.max_body_bytes)
        is_json = self.consumes == JSON
        pairs = json_pairs(body) if is_json else query_pairs(body.decode("latin-1"))
        return read_params(self.params, pairs, in_path)


def make_route(
    path: str,
    summary: str,
    params: type[ParamsT],
    handler: Callable[[RequestContext[ParamsT]], Response],
    *responses: ResponseDoc,
    **options: Any,
) -> Route[ParamsT]:
    """A route with some documented forms of a success; `options` are its other attributes."""
    return Route(path, summary, params, handler, responses=responses, **options)
