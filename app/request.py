"""What a request brings, whichever framework took it in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from app.errors import TooLargeError

_DROPPED_MIB = 16


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: of HTTP, in capitals.
        path: percent-decoded.
        query: the query string as sent.
        headers: by name in capitals.
        stream: where the body is read from; ends with it.
        remote: address of who asks, as the server sees it.
        scheme: http or https, as the server sees it.
        host: with the port, as the client wrote it.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    stream: BinaryIO
    remote: str = ""
    scheme: str = "http"
    host: str = ""

    def header(self, name: str) -> str | None:
        """A header's value, or None."""
        return self.headers.get(name.upper())

    @property
    def authorization(self) -> str | None:
        """The header that HTTP Basic and tokens come in."""
        return self.header("Authorization")

    def forwarded(self, proxies: frozenset[str]) -> "Request":
        """The request as it came to our own proxy, if it was one of ours that passed it on.

        Anyone may write the headers that tell; a proxy appends what it saw itself.

        Args:
            proxies: addresses of our proxies.
        """
        if self.remote not in proxies:
            return self
        scheme = self._last("X-Forwarded-Proto").lower()
        return replace(
            self,
            remote=self._last("X-Forwarded-For")[:64] or self.remote,
            scheme=scheme if scheme in ("http", "https") else self.scheme,
            host=self._last("X-Forwarded-Host")[:255] or self.host,
        )

    def _last(self, header: str) -> str:
        return (self.header(header) or "").rpartition(",")[2].strip()

    def body(self, most: int) -> bytes:
        """The whole body.

        Args:
            most: bytes that are accepted.

        Raises:
            TooLargeError: it is longer.
        """
        body = self.stream.read(most + 1)
        if len(body) > most:
            # Closing with a body unread may cut the own answer off; the proxy lets 10 MB through.
            for _ in range(_DROPPED_MIB):
                if not self.stream.read(1 << 20):
                    break
            raise TooLargeError(f"the body is longer than the {most} bytes that are accepted here")
        return body
