"""Browser sessions of the pages, each a signed cookie.

The signature covers the stored password hash, too: with a new password, or without the user, a
session ends at once. The database keeps the sessions that were logged out, until they expire.
"""

import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from app.access import users
from app.access.users import User
from app.http.errors import ForbiddenError
from app.http.request import Request
from store import db
from store.config import read_variable

COOKIE = "cbm_session"
_LIFETIME_S = 12 * 3600
_COOKIE = re.compile(r"([^:]{1,64}):([0-9]{1,12}):([0-9a-f]{32}):([0-9a-f]{64})", re.ASCII)


class Sessions:
    """Signs and verifies the session cookies."""

    def __init__(self, key: bytes) -> None:
        """Sign with a key that all processes of the service have."""
        self._key = key

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Sign with CBM_SECRET_KEY; without it sessions are known to this process alone."""
        return cls((read_variable(env, "CBM_SECRET_KEY") or secrets.token_hex(32)).encode())

    def find_user(self, conn: db.Connection, request: Request) -> User | None:
        """The user whose valid session a request belongs to, or None."""
        cookie = _Cookie.parse(_cookie(request))
        if cookie is None or cookie.expires < time.time():
            return None
        stored = users.find_with_hash(conn, cookie.user_name)
        if stored is None:
            return None
        user, password_hash = stored
        expected = self._sign(cookie, password_hash)
        if not hmac.compare_digest(cookie.signature, expected):
            return None
        ended = "SELECT FROM public.ended_session WHERE id = %s"
        return user if db.fetch_one(conn, ended, (cookie.id,)) is None else None

    def begin(self, conn: db.Connection, user: User, request: Request) -> dict[str, str]:
        """The header that begins a session of a user who has just logged in."""
        _, password_hash = users.find_with_hash(conn, user.name) or (user, "")
        cookie = _Cookie(user.name, int(time.time()) + _LIFETIME_S, secrets.token_hex(16))
        signed = replace(cookie, signature=self._sign(cookie, password_hash))
        return _set_cookie(request, str(signed), _LIFETIME_S)

    def end(self, conn: db.Connection, request: Request) -> dict[str, str]:
        """End the session of a request; the header that makes a browser delete its cookie."""
        if self.find_user(conn, request) and (cookie := _Cookie.parse(_cookie(request))):
            statement = "SELECT public.cbm_end_session(%s, to_timestamp(%s))"
            db.fetch_one(conn, statement, (cookie.id, cookie.expires))
        return _set_cookie(request, "", 0)

    def _sign(self, cookie: "_Cookie", password_hash: str) -> str:
        text = f"session\0{cookie.user_name}\0{cookie.expires}\0{cookie.id}\0{password_hash}"
        return hmac.digest(self._key, text.encode(), "sha256").hex()


@dataclass(frozen=True)
class _Cookie:
    """The content of a session cookie."""

    user_name: str
    expires: int
    id: str
    signature: str = ""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        parts = _COOKIE.fullmatch(text)
        return cls(parts[1], int(parts[2]), parts[3], parts[4]) if parts else None

    def __str__(self) -> str:
        return f"{self.user_name}:{self.expires}:{self.id}:{self.signature}"


def require_same_origin(request: Request) -> None:
    """Refuse a form that was not sent from a page of this service.

    Raises:
        ForbiddenError: another site's page sent it.
    """
    origin = request.header("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        raise ForbiddenError("this form was not sent from a page of this service")


def _cookie(request: Request) -> str:
    for pair in (request.header("Cookie") or "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _set_cookie(request: Request, value: str, max_age_s: int) -> dict[str, str]:
    secure = "; Secure" if request.scheme == "https" else ""
    attributes = f"Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
    return {"Set-Cookie": f"{COOKIE}={value}; {attributes}"}
