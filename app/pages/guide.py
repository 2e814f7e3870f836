"""The built guide: the HTML of Sphinx, where the operator has it, open to everybody."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from app.http.request import Request
from app.http.response import HTML, Response
from app.pages.site import HEADERS, BuiltPages
from store.errors import NotFoundError

_DEFAULT = Path(__file__).parents[1] / "guide"
_INLINE = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


class GuidePages:
    """The guide's files, each page with a policy that lets its own scripts run and no other."""

    def __init__(self, folder: Path) -> None:
        """Read every file of a folder; none if it is absent."""
        self._files = BuiltPages(folder)
        self._policies: dict[str, str] = {}

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """The guide in CBM_GUIDE_DIR, else the one in this package, if any."""
        return cls(Path(env.get("CBM_GUIDE_DIR") or _DEFAULT))

    def serve(self, name: str, request: Request) -> Response:
        """A file by its path in the guide.

        Raises:
            NotFoundError: there is no such file, or no guide.
        """
        if self._files.is_empty:
            raise NotFoundError(
                "the guide is not here: make guide builds it, CBM_GUIDE_DIR names it"
            )
        response = self._files.serve(name, request)
        if response.content_type != HTML:
            return response
        if name not in self._policies:
            self._policies[name] = _policy(self._files.text(name).encode())
        headers = {**response.headers, "Content-Security-Policy": self._policies[name]}
        return replace(response, headers=headers)


def _policy(page: bytes) -> str:
    """The pages' policy, and with it the scripts inside of this page, by their digests.

    The theme's icons put a style sheet into the page, so styles inside of it are admitted.
    """
    scripts = {script[1] for script in _INLINE.finditer(page)}
    digests = sorted(b64encode(hashlib.sha256(script).digest()).decode() for script in scripts)
    admitted = "".join(f" 'sha256-{digest}'" for digest in digests)
    policy = HEADERS["Content-Security-Policy"]
    policy = policy.replace("script-src 'self'", f"script-src 'self'{admitted}")
    return policy.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
