"""Bytes of files by ranges, wherever bands lie: a folder, the object store or a web server."""

import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from store import objects
from store.errors import NotFoundError, ObjectStoreError, ReplacedError

_Parsed = TypeVar("_Parsed")

_HEAD_BYTES = (16 * 2**10, 2**20)
"""What is read of a file until its head is whole."""

_TIMEOUT = urllib3.Timeout(connect=5, read=30)
_RETRY = urllib3.Retry(
    total=2,
    redirect=5,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    respect_retry_after_header=False,
)
_PARTIAL, _BEYOND_THE_END = 206, 416

_PATIENCE_S = 30.0
_LEAST_BYTES_PER_S = 65_536
"""Of an answer, beyond the patience: a server that drips would hold a scene for ever."""


class ByteSource(Protocol):
    """A file whose bytes are read by ranges.

    Reading raises NotFoundError where there is no such file, ObjectStoreError where it cannot be
    reached or answers with other bytes, ReplacedError where it is not as at the first read: places
    in the one file mean nothing in the other.
    """

    @property
    def remote(self) -> bool:
        """Whether each read is a request over the network."""

    def read(self, start: int, length: int) -> bytes:
        """Up to length (>= 1) bytes from start; fewer, or none, where the file ends."""


def parse_head(source: ByteSource, parse: Callable[[bytes], _Parsed]) -> _Parsed | None:
    """What a parser makes of a file's beginning; None if no beginning was long enough.

    Args:
        source: the file.
        parse: raises struct.error or IndexError where what it is given ends too early.
    """
    for length in _HEAD_BYTES:
        head = source.read(0, length)
        try:
            return parse(head)
        except (struct.error, IndexError):
            if len(head) < length:
                break
    return None


class Sources:
    """Files by the addresses of the catalogue; keeps connections to web servers."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        """Connect to nothing yet; env's AWS_CA_BUNDLE is trusted, as by GDAL."""
        self._ca_bundle = env.get("AWS_CA_BUNDLE") or None
        self._pools: dict[str, urllib3.PoolManager] = {}

    def open(self, href: str) -> ByteSource:
        """The bytes of a file; see BandSource.href.

        Raises:
            NotFoundError: the address has no bytes of its own.
        """
        parts = urlsplit(href)
        if parts.scheme in {"http", "https"}:
            return _OneVersion(href, True, _web(self._pool(parts.scheme, parts.hostname or "")))
        if parts.scheme == "s3" or href.startswith("/"):
            return _OneVersion(href, parts.scheme == "s3", objects.get_version_range)
        raise NotFoundError(f"{href} is no file with bytes of its own")

    def _pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
        if proxy not in self._pools:
            options: Any = {"timeout": _TIMEOUT, "retries": _RETRY, "ca_certs": self._ca_bundle}
            self._pools[proxy] = (
                urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
            )
        return self._pools[proxy]


_Read = Callable[[str, int, int], tuple[bytes, str]]
"""See objects.get_version_range."""


@dataclass
class _OneVersion:
    """A file as it was at the first read."""

    href: str
    remote: bool
    read_version: _Read
    version: str = ""

    def read(self, start: int, length: int) -> bytes:
        data, version = self.read_version(self.href, start, length)
        if self.version and version and version != self.version:
            raise ReplacedError(
                f"{self.href} was replaced while it was read, and will be read again; if it was "
                "not, its servers contradict each other: set CBM_THIN=0"
            )
        self.version = self.version or version
        return data


def _web(pool: urllib3.PoolManager) -> _Read:
    """Reads ranges of web servers' files, whose version is ETag or date, and size."""

    def read(url: str, start: int, length: int) -> tuple[bytes, str]:
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        try:
            response = pool.request("GET", url, headers=headers, preload_content=False)
            if response.status == _BEYOND_THE_END:
                response.drain_conn()
                return b"", ""
            try:
                if response.status != _PARTIAL:
                    raise ObjectStoreError(f"the web server answers a range with {response.status}")
                answered = response.headers
                size = objects.check_range(url, start, length, answered.get("Content-Range"))
            except ObjectStoreError:
                response.close()  # the whole file, or none: never read it
                raise
            version = answered.get("ETag") or answered.get("Last-Modified", "")
            return _read_body(response, length), f"{version} {size}"
        except urllib3.exceptions.HTTPError as error:
            raise ObjectStoreError(f"the web server cannot be read: {error}") from error

    return read


def _read_body(response: urllib3.BaseHTTPResponse, length: int) -> bytes:
    """Up to length bytes as they were sent: what a server calls packed is not unpacked.

    Raises:
        ObjectStoreError: they come too slowly.
    """
    until = time.monotonic() + _PATIENCE_S + length / _LEAST_BYTES_PER_S
    body = bytearray()
    while piece := response.read1(length - len(body), decode_content=False):
        body += piece
        if len(body) == length:
            break
        if time.monotonic() > until:
            response.close()
            raise ObjectStoreError("the web server cannot be read: it sends too slowly")
    return bytes(body)
