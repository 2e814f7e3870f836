"""The built pages with their scripts, styles and libraries, in memory by their address."""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Self

from app.http.request import Request
from app.http.response import HTML, Response, accepts_gzip, compress, revalidate
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
    # Forms send the page that they come from; other sites get nothing.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every page: scripts, styles and data come from this service alone."""

_UNAVAILABLE = b"""<!doctype html>
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
    <p class="quiet small">If this lasts, contact the operator of this service.</p>
  </main>
</body>
</html>
"""

_STATIC = Path(__file__).parents[1] / "static"
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".woff2": "font/woff2"}


@dataclass(frozen=True)
class BuiltFile:
    """A built file.

    Attributes:
        body: its bytes.
        content_type: of the body.
    """

    body: bytes
    content_type: str

    @cached_property
    def response(self) -> Response:
        """The file as it is."""
        etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Vary": "Accept-Encoding"}
        return Response(HTTPStatus.OK, self.body, self.content_type, headers)

    @cached_property
    def compressed(self) -> Response:
        """The file in gzip, compressed once."""
        return compress(self.response)


class BuiltPages:
    """All built files, so that no address ever leads into a file system."""

    def __init__(self, folder: Path) -> None:
        """Read the files of a folder but hidden ones (Sphinx's caches); none if it is absent."""
        files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        self._files = {
            name.as_posix(): _read(path)
            for name, path in sorted(files.items())
            if not any(part.startswith(".") for part in name.parts)
        }

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:  # noqa: ARG003 - has no settings
        """The pages that were built into this package."""
        return cls(_STATIC)

    @property
    def is_empty(self) -> bool:
        """Whether there are no files at all."""
        return not self._files

    def text(self, name: str) -> str:
        """The HTML of a page, to be filled in.

        Raises:
            NotFoundError: it was not built.
        """
        return self._find(name).body.decode()

    def serve(self, name: str, request: Request) -> Response:
        """A file, or 304 if the browser's copy of it is still good.

        Raises:
            NotFoundError: there is no such file.
        """
        file = self._find(name)
        return revalidate(request, file.compressed if accepts_gzip(request) else file.response)

    def _find(self, name: str) -> BuiltFile:
        if not self._files:
            raise NotFoundError("the pages are not built here (make web); the API is")
        if name not in self._files:
            raise NotFoundError("there is no such file")
        return self._files[name]


def unavailable(refusal: Response) -> Response:
    """The same refusal for people: a page that reloads until the database is back."""
    headers = {**refusal.headers, "Cache-Control": "no-store", "Vary": "Accept"}
    return Response(refusal.status, _UNAVAILABLE, HTML, headers)


def _read(path: Path) -> BuiltFile:
    default = mimetypes.guess_type(path.name)[0] or "text/plain"
    kind = _TYPES.get(path.suffix, default)
    charset = "; charset=utf-8" if kind.startswith("text/") else ""
    return BuiltFile(path.read_bytes(), kind + charset)
