"""Sessions of the pages: who logged in with this browser, in a signed cookie.

Nothing is kept on the server. The signature covers the stored password hash, too: with a new
password, or without the user, a session ends at once.
"""

import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Self

from app import users
from app.errors import ForbiddenError
from app.request import Request
from app.users import User
from store import db

COOKIE = "cbm_session"
_LASTS_S = 12 * 3600


class Sessions:
    """Gives and reads the cookies of browsers that logged in."""

    def __init__(self, key: bytes) -> None:
        """Sign with a key that all processes of the service have."""
        self._key = key

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Sign with CBM_SECRET_KEY; without one, sessions are known to this process alone."""
        return cls((env.get("CBM_SECRET_KEY") or secrets.token_hex(32)).encode())

    def close(self) -> None:
        """Nothing is held."""

    def user_of(self, conn: db.Connection, request: Request) -> User | None:
        """The user whose session a request belongs to; None if it has none that is good."""
        name, expires, signature = _parts(_cookie(request))
        if not signature or int(expires) < time.time():
            return None
        known = users.known(conn, name)
        if known is None:
            return None
        user, password_hash = known
        right = self._signature(name, expires, password_hash)
        return user if hmac.compare_digest(signature, right) else None

    def begin(self, conn: db.Connection, user: User, request: Request) -> dict[str, str]:
        """The header that begins a session of a user who has just proved who it is."""
        _, password_hash = users.known(conn, user.name) or (user, "")
        expires = str(int(time.time()) + _LASTS_S)
        signature = self._signature(user.name, expires, password_hash)
        return _set_cookie(request, f"{user.name}:{expires}:{signature}", _LASTS_S)

    def _signature(self, name: str, expires: str, password_hash: str) -> str:
        text = f"session\0{name}\0{expires}\0{password_hash}"
        return hmac.digest(self._key, text.encode(), "sha256").hex()


def end(request: Request) -> dict[str, str]:
    """The header that makes a browser forget its session."""
    return _set_cookie(request, "", 0)


def require_own_page(request: Request) -> None:
    """Let a form pass only if it was sent from one of our own pages.

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


def _parts(value: str) -> tuple[str, str, str]:
    """Name, expiry and signature of a cookie; three times nothing if it is none of ours."""
    name, _, rest = value.partition(":")
    expires, _, signature = rest.partition(":")
    if not (expires.isascii() and expires.isdigit() and signature.isascii() and signature):
        return "", "", ""
    return name, expires[:12], signature


def _set_cookie(request: Request, value: str, lasts_s: int) -> dict[str, str]:
    secure = "; Secure" if request.scheme == "https" else ""
    attributes = f"Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{secure}"
    return {"Set-Cookie": f"{COOKIE}={value}; {attributes}"}
