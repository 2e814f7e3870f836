"""What a request is answered with: status, headers and body."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from app.columns import Columns


@dataclass(frozen=True)
class Reply:
    """An answer, ready to be sent.

    Attributes:
        status: of HTTP.
        body: bytes.
        content_type: of the body.
        headers: others than the content type.
    """

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(content: Any) -> Reply:
    """A successful answer in JSON.

    Raises:
        ValueError: the content holds NaN or an infinity, which JSON does not have.
    """
    return Reply(HTTPStatus.OK, _json(content))


def as_csv(table: Columns, filename: str) -> Reply:
    """A successful answer as a CSV file to keep; objects in it are JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow(_json(cell).decode() if isinstance(cell, dict) else cell for cell in row)
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in filename)
    disposition = f"attachment; filename={plain}; filename*=UTF-8''{quote(filename, safe='')}"
    return Reply(
        HTTPStatus.OK,
        text.getvalue().encode(),
        "text/csv; charset=utf-8",
        {"Content-Disposition": disposition},
    )


def as_error(status: HTTPStatus, detail: str) -> Reply:
    """A failure, as {"error": the status in words, "detail": what and why}."""
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="CbM", charset="UTF-8"'
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "5"
    return Reply(status, _json({"error": status.phrase, "detail": detail}), headers=headers)


def _json(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
