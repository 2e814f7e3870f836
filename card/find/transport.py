"""HTTP as catalogues need it: https alone, bounded in time, size and attempts."""

import ipaddress
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError

from card.find.sign_in import SignIn
from store.errors import CallerError, ConfigError, WorldError

_log = logging.getLogger(__name__)

_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_ATTEMPTS = 6
_SILENCES = 2
"""A server that is silent for half a minute is rarely quicker the sixth time."""
_LONGEST_PAUSE_S = 120.0
_REDIRECTS = 5
_BRIEF = 200
_T = TypeVar("_T")


@dataclass(frozen=True)
class ArchiveRequest:
    """A request that changes nothing at the server, so that it may be repeated.

    Attributes:
        url: without query parameters of `params`.
        params: query parameters.
        body: sent as JSON by POST; None is a GET.
    """

    url: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """Equal for equal requests."""
        return json.dumps([self.url, dict(self.params), self.body], sort_keys=True, default=str)


@dataclass(frozen=True)
class Transport:
    """Sends requests, again where the server stumbles.

    Attributes:
        sign_in: puts a token on requests to its hosts; None sends none.
        timeout_s: longest silence of a server, seconds.
        response_s: longest time of one response, seconds.
        most_bytes: largest response that is kept in memory.
        attempts: of each request; 1 for those that would do something twice.
        pause: waits so many seconds between attempts.
    """

    sign_in: SignIn | None = None
    timeout_s: float = 30.0
    response_s: float = 600.0
    most_bytes: int = 64 << 20
    attempts: int = _ATTEMPTS
    pause: Callable[[float], None] = time.sleep
    session: requests.Session = field(default_factory=requests.Session)

    def get_json(self, request: ArchiveRequest) -> Any:
        """The parsed JSON of a response; one that was cut short is fetched again.

        Raises:
            CallerError: the server refuses the request.
            ConfigError: the server refuses who signs in, or the address is not https.
            WorldError: no sound response after all attempts.
        """
        return self._repeat(request, _parse_json)

    def get_bytes(self, request: ArchiveRequest) -> bytes:
        """The bytes of a response; errors as `get_json`."""
        return self._repeat(request, bytes)

    def get_file(self, request: ArchiveRequest, path: Path, most_bytes: int) -> None:
        """Write the bytes of a response to a file; errors as `get_json`.

        Args:
            request: what to fetch.
            path: written from its beginning at each attempt.
            most_bytes: largest file.
        """

        def save(response: requests.Response) -> None:
            with path.open("wb") as out:
                for piece in self._pieces(response, most_bytes):
                    out.write(piece)

        self._repeat(request, lambda _: None, save)

    def _repeat(
        self,
        request: ArchiveRequest,
        parse: Callable[[Any], _T],
        read: Callable[[requests.Response], Any] | None = None,
    ) -> _T:
        host, silences, trouble = _host(request.url), 0, ""
        for attempt in range(self.attempts):
            wait_s = 0.5 * 2**attempt
            try:
                return parse(self._fetch(request, read or self._content))
            except _StumbleError as stumble:
                trouble, wait_s = str(stumble), stumble.wait_s or wait_s
            except requests.Timeout:
                trouble, silences = f"silent for {self.timeout_s:g} s", silences + 1
            except (requests.RequestException, HTTPError, OSError) as error:
                trouble = brief(error)
            except (ValueError, RecursionError) as error:
                trouble = f"no JSON, or not all of it: {brief(error)}"
            if silences >= _SILENCES or attempt + 1 == self.attempts:
                break
            if wait_s > _LONGEST_PAUSE_S:
                raise WorldError(f"{host} wants a pause of {wait_s:.0f} s ({trouble}): try later")
            _log.info("host=%s attempt=%d pause_s=%.1f %s", host, attempt + 1, wait_s, trouble)
            self.pause(wait_s)
        raise WorldError(f"{host} does not answer soundly after {attempt + 1} attempts: {trouble}")

    def _fetch(self, request: ArchiveRequest, read: Callable[[requests.Response], Any]) -> Any:
        url, renewed = request.url, False
        params: Mapping[str, Any] = request.params
        for _ in range(_REDIRECTS + 1):
            check_address(url)
            with self._send(request, url, params) as response:
                if response.is_redirect:
                    url, params = urljoin(url, response.headers["Location"]), {}
                    continue
                if response.status_code == 401 and self._signs(url) and not renewed:
                    renewed = True
                    self.sign_in.forget()  # type: ignore[union-attr]
                    continue
                self._refuse_failure(response, url)
                return read(response)
        raise WorldError(f"{_host(request.url)} redirects more than {_REDIRECTS} times")

    def _send(
        self, request: ArchiveRequest, url: str, params: Mapping[str, Any]
    ) -> requests.Response:
        method = "GET" if request.body is None else "POST"
        headers = {"Accept": "application/json, */*;q=0.5"}
        if self.sign_in and self._signs(url):
            headers["Authorization"] = f"Bearer {self.sign_in.token()}"
        return self.session.request(
            method,
            url,
            params=dict(params),
            json=request.body,
            headers=headers,
            auth=_as_it_is,
            timeout=self.timeout_s,
            stream=True,
            allow_redirects=False,
        )

    def _signs(self, url: str) -> bool:
        return self.sign_in is not None and self.sign_in.covers(url)

    def _refuse_failure(self, response: requests.Response, url: str) -> None:
        status = response.status_code
        if status < 300:
            return
        status_line = f"HTTP {status} {response.reason or ''}".strip()
        if status in _TRY_AGAIN:
            raise _StumbleError(status_line, _retry_after_s(response))
        text = brief(response.raw.read(_BRIEF * 4, decode_content=True).decode("utf-8", "replace"))
        detail = f"{status_line}{': ' if text else ''}{text}"
        if status in (401, 403):
            raise ConfigError(
                f"{_host(url)} refuses us ({detail}): "
                + ("the account has no right to it" if self._signs(url) else "it wants a sign-in")
            )
        raise CallerError(f"{_host(url)} refuses the request: {detail}")

    def _content(self, response: requests.Response) -> bytes:
        return b"".join(self._pieces(response, self.most_bytes))

    def _pieces(self, response: requests.Response, most_bytes: int) -> Iterator[bytes]:
        size, deadline = 0, time.monotonic() + self.response_s
        for piece in response.iter_content(1 << 16):
            size += len(piece)
            if size > most_bytes:
                raise WorldError(
                    f"{_host(response.url)} sends more than {most_bytes >> 20} MB: "
                    "is the address right?"
                )
            if time.monotonic() > deadline:
                raise _StumbleError(f"no end of a response within {self.response_s:g} s", None)
            yield piece


class _StumbleError(Exception):
    """A response that another attempt may mend."""

    def __init__(self, text: str, wait_s: float | None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


def _parse_json(content: bytes) -> Any:
    """The parsed text, without the characters that no database or terminal takes.

    JSON may hold NUL and halves of surrogate pairs, as escapes.
    """
    parsed = json.loads(content)
    if b"\\u0000" in content or b"\\ud" in content.lower():
        text = json.dumps(parsed, ensure_ascii=False).replace("\\u0000", "")
        parsed = json.loads(text.encode("utf-8", "replace"))
    return parsed


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep ~/.netrc out: requests would put its password in the place of our token."""
    return request


def check_address(url: str) -> None:
    """Refuse all but https, and http to this machine itself.

    Raises:
        ConfigError: it is something else.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        raise ConfigError(f"{url!r} is no address: {error}") from error
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and is_loopback(host):
        return
    raise ConfigError(f"{url!r} is not an https:// address")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_host(url: str, other: str) -> bool:
    """Whether two addresses lead to one server."""
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.netloc) == (two.scheme, two.netloc)


def brief(text: object) -> str:
    """The first line of a text, which may be a server's whole page."""
    return (str(text).strip().splitlines() or [type(text).__name__])[0][:_BRIEF]


def _host(url: str) -> str:
    return urlsplit(url)._replace(path="", query="", fragment="").geturl()


def _retry_after_s(response: requests.Response) -> float | None:
    """The pause that a server wishes: in seconds, or until a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None
