"""HTTP responses: JSON, files, errors, redirects; compression and revalidation."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Protocol, Self
from urllib.parse import quote

from app.http.request import Request

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
PNG = "image/png"
TIFF = "image/tiff"

_MIN_COMPRESSED_BYTES = 1024


class ByteStream(Protocol):
    """A body in pieces; a generator is one."""

    def __iter__(self) -> Self:
        """Itself."""

    def __next__(self) -> bytes:
        """The next piece."""

    def close(self) -> None:
        """Free what the rest of the stream holds."""


@dataclass(frozen=True)
class Response:
    """An HTTP response, ready to be sent.

    Attributes:
        status: of HTTP.
        body: bytes, or a stream of what is too much for the memory: its first piece is computed
            before the status is sent; if it fails later, the connection is cut.
        content_type: of the body.
        headers: others than the content type.
    """

    status: HTTPStatus
    body: bytes | ByteStream
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(content: Any) -> Response:
    """A success in JSON.

    Raises:
        ValueError: the content holds NaN or an infinity, which JSON does not have.
    """
    return Response(HTTPStatus.OK, to_json(content))


def file_response(body: bytes | ByteStream, content_type: str, name: str) -> Response:
    """A success as a file that browsers save under a name."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    disposition = f"attachment; filename={plain}; filename*=UTF-8''{quote(name, safe='')}"
    return Response(HTTPStatus.OK, body, content_type, {"Content-Disposition": disposition})


def error_response(
    status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A failure, as {"error": the status in words, "detail": what and why}."""
    content = {"error": status.phrase, "detail": detail}
    return Response(status, to_json(content), headers=headers or {})


def redirect(address: str, headers: Mapping[str, str] | None = None) -> Response:
    """A redirect that is followed with GET."""
    return Response(
        HTTPStatus.SEE_OTHER, b"", "text/plain", {"Location": address, **(headers or {})}
    )


def to_json(content: Any) -> bytes:
    """Compact JSON in UTF-8; a ValueError for NaN and infinities."""
    return json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def compress(response: Response) -> Response:
    """The same response with its body in gzip, where that is shorter."""
    body = response.body
    if not isinstance(body, bytes) or len(body) < _MIN_COMPRESSED_BYTES:
        return response
    packed = gzip.compress(body, compresslevel=6, mtime=0)
    if len(packed) >= len(body):
        return response
    headers = {**response.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return replace(response, body=packed, headers=headers)


def accepts_gzip(request: Request) -> bool:
    """Whether the client can read gzip."""
    return "gzip" in (request.header("Accept-Encoding") or "")


def revalidate(request: Request, response: Response) -> Response:
    """The response, or 304 if the client's copy has the same ETag."""
    if request.header("If-None-Match") != response.headers["ETag"]:
        return response
    return Response(HTTPStatus.NOT_MODIFIED, b"", response.content_type, response.headers)
