"""A route: what may be asked at an address, by whom, and which answers to expect."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

from app.errors import MediaTypeError, MethodError, ParameterError
from app.parameters import Parameter, members, pairs, values
from app.replies import Reply
from app.request import Request
from app.users import Gate, User
from store import db
from store.errors import NotFoundError


class Who(Enum):
    """Who may ask."""

    USER = "user"
    """Whoever proves to be a user: HTTP Basic, a token, or the session of a page."""
    PAGE = "page"
    """The same, but those who do not are sent to the page where one logs in."""
    ANYONE = "anyone"
    """Everybody: the route asks for nothing, or checks a signature itself."""


NOBODY = User("", frozenset())
"""Who asks where anyone may; has no right to any aoi."""

API_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Attribution": "Contains modified Copernicus Sentinel data",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer that is not a page: parcels are personal data."""

LOGIN = "/login"
"""Where people without a session are sent from a page."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


class Part(Protocol):
    """Something a process keeps between requests for its routes, such as a cache."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Make it from the process's environment variables."""

    def close(self) -> None:
        """Let go of what it holds; the process ends."""


_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Call:
    """A request that was let in, as the function that answers it sees it.

    Attributes:
        request: as it came.
        user: who asks; NOBODY where anyone may.
        asked: a value for every parameter of the route.
        gate: proves passwords.
        pool: the database.
        parts: what the process keeps, by class.
    """

    request: Request
    user: User
    asked: Mapping[str, Any]
    gate: Gate
    pool: db.Pool
    parts: Mapping[type[Any], Any]

    def connection(self) -> AbstractContextManager[db.Connection]:
        """Borrow a connection for a block: short blocks, one at a time.

        A reply whose body is a generator borrows again in that generator; it goes back when the
        last byte is sent, or when the client has gone.
        """
        return self.pool.connection()

    def part(self, cls: type[_Part]) -> _Part:
        """What the process keeps of a class that an area's PARTS names."""
        found: _Part = self.parts[cls]
        return found


@dataclass(frozen=True)
class Answer:
    """One form that a successful answer of a route may have.

    Attributes:
        media_type: of the body.
        schema: its JSON schema; binary by default.
        example: a body; None shows none.
        meaning: a few words.
        status: of HTTP.
    """

    media_type: str
    schema: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "string", "format": "binary"}
    )
    example: Any = None
    meaning: str = "the answer"
    status: int = 200


@dataclass(frozen=True)
class Route:
    """A question that may be asked.

    Attributes:
        path: of its address; `{name}` stands for the text of a parameter without slashes.
        meaning: one sentence for the documentation.
        parameters: all that it knows: in the path, in the query (GET), in the body (POST).
        answer: from the call to the reply.
        method: GET (which answers HEAD, too) or POST.
        who: may ask.
        answers: documented forms of a successful answer.
        headers: sent with every answer, unless the reply has its own of that name.
        takes: media type of a POST's body: JSON (an object) or FORM.
        body_most: bytes of a body that are accepted.
        tail: whether the last parameter in the path takes all the rest, slashes included.
        audited: whether requests leave a row in the audit.
        counted: whether requests of ANYONE count for the rate of their address.
        tag: the group it is documented in.
    """

    path: str
    meaning: str
    parameters: tuple[Parameter, ...]
    answer: Callable[[Call], Reply]
    method: str = "GET"
    who: Who = Who.USER
    answers: tuple[Answer, ...] = (Answer(JSON, {"type": "object"}),)
    headers: Mapping[str, str] = field(default_factory=lambda: API_HEADERS)
    takes: str = JSON
    body_most: int = 1 << 20
    tail: bool = False
    audited: bool = True
    counted: bool = True
    tag: str = "query"

    @property
    def is_page(self) -> bool:
        """Whether people look at it in a browser: then they are told of outages by a page, too."""
        return self.who is Who.PAGE or self.path == LOGIN

    @cached_property
    def in_path(self) -> tuple[str, ...]:
        """Names of the parameters that stand in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What its paths look like."""
        parts = re.split(r"\{\w+\}", self.path)
        gaps = ["([^/]+)"] * len(self.in_path)
        if self.tail:
            gaps[-1] = "(.+)"
        texts = [re.escape(part) for part in parts]
        return re.compile(texts[0] + "".join(g + t for g, t in zip(gaps, texts[1:], strict=True)))

    def read(self, request: Request, in_path: Mapping[str, str]) -> dict[str, Any]:
        """The values of all parameters.

        Raises:
            ParameterError: the request does not fit the parameters; names the one.
            TooLargeError: the body is too long.
            MediaTypeError: the body is not of the type that is taken.
        """
        if self.method == "GET":
            return values(pairs(request.query), self.parameters, in_path)
        if request.query:
            raise ParameterError("parameters of a POST come in its body, not in the address")
        given_type = (request.header("Content-Type") or "").partition(";")[0].strip().lower()
        if given_type != self.takes:
            raise MediaTypeError(f"the body must be {self.takes}, not {given_type or 'of no type'}")
        body = request.body(self.body_most)
        given = members(body) if self.takes == JSON else pairs(body.decode("latin-1"))
        return values(given, self.parameters, in_path)


@dataclass(frozen=True)
class Found:
    """A route that fits a request, and the texts that its path holds."""

    route: Route
    in_path: Mapping[str, str]


class Table:
    """All routes, to find the one that a request means."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Later routes never hide earlier ones, nor do patterns hide plain paths."""
        self._plain: dict[str, list[Route]] = {}
        self._patterns = [route for route in routes if route.in_path]
        for route in routes:
            if not route.in_path:
                self._plain.setdefault(route.path, []).append(route)

    def find(self, method: str, path: str) -> Found:
        """The route of a method and a path.

        Raises:
            NotFoundError: there is no such path.
            MethodError: the path knows other methods only.
        """
        allowed: list[str] = []
        for found in self._at(path):
            if found.route.method == ("GET" if method == "HEAD" else method):
                return found
            allowed += ["GET", "HEAD"] if found.route.method == "GET" else [found.route.method]
        if allowed:
            raise MethodError(method, allowed)
        raise NotFoundError("there is no such address")

    def _at(self, path: str) -> Iterator[Found]:
        if path in self._plain:
            yield from (Found(route, {}) for route in self._plain[path])
            return
        for route in self._patterns:
            if match := route.pattern.fullmatch(path):
                yield Found(route, dict(zip(route.in_path, match.groups(), strict=True)))
