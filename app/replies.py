"""What a request is answered with: status, headers and body."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, Self
from urllib.parse import quote

from app.columns import Columns
from app.tables import ENDINGS, MEDIA_TYPES


class Pieces(Protocol):
    """A body piece by piece; a generator is one."""

    def __iter__(self) -> Self:
        """Itself."""

    def __next__(self) -> bytes:
        """The next piece."""

    def close(self) -> None:
        """No further piece is wanted."""


@dataclass(frozen=True)
class Reply:
    """An answer, ready to be sent.

    Attributes:
        status: of HTTP.
        body: bytes, or their generator for what is too much for the memory: its first piece is
            waited for before the status is sent; if it fails later, the connection is cut.
        content_type: of the body.
        headers: others than the content type.
    """

    status: HTTPStatus
    body: bytes | Pieces
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(content: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """A successful answer in JSON.

    Raises:
        ValueError: the content holds NaN or an infinity, which JSON does not have.
    """
    return Reply(HTTPStatus.OK, _json(content), headers=headers or {})


def as_csv(table: Columns, name: str) -> Reply:
    """A successful answer as a CSV file to keep; objects in it are JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow(_json(cell).decode() if isinstance(cell, dict) else cell for cell in row)
    return as_file(text.getvalue().encode(), "csv", name)


def as_file(body: bytes | Pieces, form: str, name: str) -> Reply:
    """A successful answer as a file to keep.

    Args:
        body: bytes, or their generator.
        form: csv, arrow or parquet.
        name: of the file, without its ending.
    """
    name = f"{name}.{ENDINGS[form]}"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    disposition = f"attachment; filename={plain}; filename*=UTF-8''{quote(name, safe='')}"
    return Reply(HTTPStatus.OK, body, MEDIA_TYPES[form], {"Content-Disposition": disposition})


def as_error(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> Reply:
    """A failure, as {"error": the status in words, "detail": what and why}."""
    return Reply(status, _json({"error": status.phrase, "detail": detail}), headers=headers or {})


def as_redirect(address: str) -> Reply:
    """Go there, with GET."""
    return Reply(HTTPStatus.SEE_OTHER, b"", "text/plain", {"Location": address})


def _json(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
