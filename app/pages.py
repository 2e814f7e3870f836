"""The pages and what browsers load for them: built files, kept in memory by their address."""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Self

from app.replies import Reply
from app.request import Request
from store.errors import NotFoundError

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; worker-src 'self'; "
        "font-src 'self'; img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Forms say which page they come from; other sites are told nothing.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every page: scripts, styles and data come from this service alone."""

HTML = "text/html; charset=utf-8"

_AWAY = b"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <meta http-equiv="refresh" content="5">
  <title>Back shortly</title>
  <link rel="stylesheet" href="/static/style.css">
</head>
<body class="door">
  <main class="door-card" role="alert">
    <img src="/static/icon.svg" alt="" width="40" height="40">
    <h1>Back shortly</h1>
    <p>The database is away or too busy. This page tries again by itself every five seconds.</p>
    <p class="quiet small">If this lasts, tell the operator of this service.</p>
  </main>
</body>
</html>
"""

_BUILT = Path(__file__).parent / "static"
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".woff2": "font/woff2"}
_SMALLEST_SQUEEZED = 1024


@dataclass(frozen=True)
class File:
    """A built file.

    Attributes:
        body: its bytes.
        content_type: of the body.
    """

    body: bytes
    content_type: str

    @cached_property
    def reply(self) -> Reply:
        """The answer that is the file."""
        etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Vary": "Accept-Encoding"}
        return Reply(HTTPStatus.OK, self.body, self.content_type, headers)

    @cached_property
    def squeezed(self) -> Reply:
        """The same with its body compressed, once."""
        return squeeze(self.reply)


class Pages:
    """All built files, so that no address ever leads into a file system."""

    def __init__(self, folder: Path) -> None:
        """Read every file of a folder; an absent one has none."""
        found = [path for path in folder.rglob("*") if path.is_file()]
        self._files = {path.relative_to(folder).as_posix(): _read(path) for path in found}

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:  # noqa: ARG003 - nothing to be set
        """The pages as they were built into this package."""
        return cls(_BUILT)

    def close(self) -> None:
        """Nothing is held."""

    def text(self, name: str) -> str:
        """A page to be filled in.

        Raises:
            NotFoundError: it was not built.
        """
        return self._find(name).body.decode()

    def answer(self, name: str, request: Request) -> Reply:
        """A file as an answer, or that the browser's copy of it is still good.

        Raises:
            NotFoundError: there is no such file.
        """
        file = self._find(name)
        return fresh(request, file.squeezed if takes_gzip(request) else file.reply)

    def _find(self, name: str) -> File:
        if not self._files:
            raise NotFoundError("the pages are not built here (make web); the API is")
        if name not in self._files:
            raise NotFoundError("there is no such file")
        return self._files[name]


def away(refusal: Reply) -> Reply:
    """The same refusal for people: a page that asks again until the database is back."""
    headers = {**refusal.headers, "Cache-Control": "no-store", "Vary": "Accept"}
    return Reply(refusal.status, _AWAY, HTML, headers)


def _read(path: Path) -> File:
    guessed = mimetypes.guess_type(path.name)[0] or "text/plain"
    kind = _TYPES.get(path.suffix, guessed)
    charset = "; charset=utf-8" if kind.startswith("text/") else ""
    return File(path.read_bytes(), kind + charset)


def takes_gzip(request: Request) -> bool:
    """Whether who asks can unpack gzip."""
    return "gzip" in (request.header("Accept-Encoding") or "")


def squeeze(reply: Reply) -> Reply:
    """The same answer compressed, where that is worth it."""
    body = reply.body
    if not isinstance(body, bytes) or len(body) < _SMALLEST_SQUEEZED:
        return reply
    packed = gzip.compress(body, compresslevel=6, mtime=0)
    headers = {**reply.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return replace(reply, body=packed, headers=headers) if len(packed) < len(body) else reply


def fresh(request: Request, reply: Reply) -> Reply:
    """The answer, or 304 if the browser has it already."""
    if request.header("If-None-Match") != reply.headers["ETag"]:
        return reply
    return Reply(HTTPStatus.NOT_MODIFIED, b"", reply.content_type, reply.headers)
