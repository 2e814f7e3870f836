"""Parts of a body: the header Range of RFC 9110, section 14, as GDAL and browsers send it."""

import re
from dataclasses import replace
from http import HTTPStatus

from app.http.request import Request
from app.http.response import Response

_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")


def byte_range(request: Request, response: Response) -> Response:
    """The part of a response that a GET request names, or all of it.

    As the RFC allows, several ranges at once and what is no range of bytes are ignored.

    Args:
        request: with or without a header Range.
        response: a success whose body is bytes.

    Returns:
        206 with the part; 416 where it begins after the end; else the response; each says that
        parts can be had.
    """
    body = response.body
    if not isinstance(body, bytes):
        return response
    size = len(body)
    headers = {**response.headers, "Accept-Ranges": "bytes"}
    if request.method == "HEAD":
        return replace(response, headers={**headers, "Content-Length": str(size)})
    wanted = _parse(request.header("Range") or "", size)
    if wanted is None:
        return replace(response, headers=headers)
    first, last = wanted
    if first >= size:
        status, part, named = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", "*"
    else:
        status, part = HTTPStatus.PARTIAL_CONTENT, body[first : last + 1]
        named = f"{first}-{last}"
    headers["Content-Range"] = f"bytes {named}/{size}"
    return replace(response, status=status, body=part, headers=headers)


def _parse(text: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte, of which the first may lie after the end; None to ignore."""
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        count = int(last)
        return (max(size - count, 0), size - 1) if count else (size, size)
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last), size - 1) if last else size - 1
