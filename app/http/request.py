"""An HTTP request, independent of the web framework."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from app.http.errors import BodyError, SlowRequestError, TooLargeError

_DISCARDED_MIB = 16


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        method: in capitals.
        path: percent-decoded.
        query: the query string as sent.
        headers: by name in capitals.
        stream: the body, which ends with it.
        remote: address of the client, as the server sees it.
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
        """The header of HTTP Basic credentials and tokens."""
        return self.header("Authorization")

    def behind_proxy(self, proxies: frozenset[str]) -> "Request":
        """The request with client address, scheme and host as a trusted proxy received them.

        Anyone may write the X-Forwarded headers; a proxy appends what it saw itself, so only the
        last entry of a request from a trusted proxy counts.

        Args:
            proxies: addresses of the trusted proxies.
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

    def body(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            TooLargeError: it is longer than `max_bytes`.
            SlowRequestError: it does not arrive in time.
            BodyError: it breaks off, or its chunks are broken.
        """
        body = self._read(max_bytes + 1)
        if len(body) > max_bytes:
            # Closing with a body unread may cut our response off; the proxy lets 10 MB through.
            for _ in range(_DISCARDED_MIB):
                if not self._read(1 << 20):
                    break
            raise TooLargeError(f"the body is longer than the {max_bytes} bytes accepted here")
        return body

    def _read(self, size: int) -> bytes:
        try:
            return self.stream.read(size)
        except OSError as error:
            raise SlowRequestError("the body did not arrive in time") from error
        except Exception as error:
            # The server's stream has errors of its own, all about what the client sent.
            raise BodyError(f"the body cannot be read: {error}"[:200]) from error
