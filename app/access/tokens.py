"""API tokens: credentials of scripts instead of a password; each can be revoked alone."""

import hashlib
import hmac
import re
import secrets
from datetime import timedelta
from typing import Any

from store import db
from store.errors import CallerError, NotFoundError

_TOKEN = re.compile(r"cbm_([0-9a-f]{8})_([A-Za-z0-9_-]{43})", re.ASCII)
_DAYS = re.compile(r"([1-9][0-9]{0,3})d", re.ASCII)
_MAX_NOTE = 100


def parse_lifetime(text: str) -> timedelta | None:
    """The lifetime of a token from days such as 90d; None for never.

    Raises:
        CallerError: it is neither.
    """
    if text == "never":
        return None
    days = _DAYS.fullmatch(text)
    if not days:
        raise CallerError(f"{text!r} is neither a number of days such as 90d nor never")
    return timedelta(days=int(days[1]))


def create(conn: db.Connection, user_name: str, lifetime: timedelta | None, note: str) -> str:
    """Make a token of a user.

    Args:
        conn: a connection with the owner's rights.
        user_name: whose rights it shall have.
        lifetime: from now on; None for ever.
        note: its purpose, up to 100 printable characters.

    Returns:
        Its text, which cannot be read again.

    Raises:
        CallerError: the note cannot be used.
        NotFoundError: there is no such user.
    """
    if len(note) > _MAX_NOTE or not (note.isprintable() or not note):
        raise CallerError(f"the note is not up to {_MAX_NOTE} printable characters")
    public, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    inserted = db.execute(
        conn,
        "INSERT INTO public.api_token (id, user_name, secret_sha256, note, expires_at) "
        "SELECT %s, name, %s, %s, now() + %s FROM public.api_user WHERE name = %s",
        (public, _digest(secret), note, lifetime, user_name),
    )
    if not inserted:
        raise NotFoundError(f"there is no user {user_name}")
    return f"cbm_{public}_{secret}"


def claimed_id(text: str) -> str | None:
    """The public part of a text in the form of a token, valid or not; None of any other text."""
    parts = _TOKEN.fullmatch(text)
    return parts[1] if parts else None


def verify(conn: db.Connection, text: str) -> tuple[str, str] | None:
    """Id and user of a valid token that has not expired; None for any other text."""
    parts = _TOKEN.fullmatch(text)
    if not parts:
        return None
    row = db.fetch_one(
        conn,
        "SELECT id, user_name, secret_sha256 FROM public.api_token "
        "WHERE id = %s AND (expires_at IS NULL OR expires_at > now())",
        (parts[1],),
    )
    if row is None or not hmac.compare_digest(bytes(row.secret_sha256), _digest(parts[2])):
        return None
    return row.id, row.user_name


def fetch_all(conn: db.Connection, user_name: str | None) -> list[Any]:
    """All tokens, or those of one user, expired ones too, by user and age.

    Args:
        conn: a connection with the owner's rights.
        user_name: only of this user; None for all.

    Returns:
        Rows with id (the public part), user_name, note, expires_at (UTC; None for never).
    """
    return db.fetch_all(
        conn,
        "SELECT id, user_name, note, expires_at FROM public.api_token "
        "WHERE %(name)s::text IS NULL OR user_name = %(name)s ORDER BY user_name, created_at",
        {"name": user_name},
    )


def revoke(conn: db.Connection, public: str) -> None:
    """End a token; it counts at once.

    Raises:
        NotFoundError: there is no token of this id.
    """
    if not db.execute(conn, "DELETE FROM public.api_token WHERE id = %s", (public,)):
        raise NotFoundError(f"there is no token {public} (cbm-api tokens list)")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
