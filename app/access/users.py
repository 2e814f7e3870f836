"""Users of the API: passwords as argon2 hashes in the database, rights per aoi and role."""

import re
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher

from app.http.errors import ForbiddenError
from store import db
from store.errors import CallerError, ConflictError, NotFoundError

HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
"""argon2id at the minimum of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
"""As the table api_user checks it."""

_MIN_PASSWORD = 8

ROLES = ("reader", "operator")
"""Roles in an aoi: operators also see why its extraction failed, and what the appliance costs."""


@dataclass(frozen=True)
class User:
    """An authenticated user and the rights.

    Attributes:
        name: as in api_user.
        aois: those the user may query.
        operated: those of them whose operator the user is.
        token_id: of the token that authenticated the user; None for a password.
        id: key in api_user, which no other user ever has; 0 for nobody.
    """

    name: str
    aois: frozenset[str]
    operated: frozenset[str] = frozenset()
    token_id: str | None = None
    id: int = 0

    def require(self, aoi: str) -> None:
        """Refuse users without a right to an aoi.

        Raises:
            ForbiddenError: the user has none.
        """
        if aoi not in self.aois:
            raise ForbiddenError(f"user {self.name} has no right to aoi {aoi}")


_USERS = """
    SELECT id, name, password_hash,
           array(SELECT aoi FROM public.api_grant WHERE user_name = name) AS aois,
           array(SELECT aoi FROM public.api_grant
                 WHERE user_name = name AND role = 'operator') AS operated
    FROM public.api_user"""


def is_name(text: str) -> bool:
    """Whether a text can be a user's name."""
    return _NAME.fullmatch(text) is not None


def find_with_hash(conn: db.Connection, name: str) -> tuple[User, str] | None:
    """A user and the stored password hash; None if there is no such user."""
    if not is_name(name):
        return None
    row = db.fetch_one(conn, _USERS + " WHERE name = %s", (name,))
    return (_user(row), row.password_hash) if row else None


def has_right(conn: db.Connection, user_id: int, aoi: str) -> bool:
    """Whether a user exists and may query an aoi; '' for none in particular."""
    statement = """
        SELECT 1 FROM public.api_user WHERE id = %(id)s AND (%(aoi)s = '' OR EXISTS (
            SELECT FROM public.api_grant WHERE user_name = name AND aoi = %(aoi)s))"""
    return db.fetch_one(conn, statement, {"id": user_id, "aoi": aoi}) is not None


def fetch_all(conn: db.Connection) -> list[User]:
    """All users by name."""
    return [_user(row) for row in db.fetch_all(conn, _USERS + " ORDER BY name")]


def _user(row: Any) -> User:
    return User(row.name, frozenset(row.aois), frozenset(row.operated), id=row.id)


def add(conn: db.Connection, name: str, password: str, aois: tuple[str, ...] = ()) -> None:
    """Make a user with rights.

    Raises:
        CallerError: the name or the password cannot be used.
        ConflictError: the user exists.
        NotFoundError: an aoi does not exist; no user was made.
    """
    if not is_name(name):
        raise CallerError(
            f"{name!r} cannot be a user's name: up to 64 letters, digits and . _ @ -, "
            "beginning with a letter or digit"
        )
    with db.transaction(conn):
        inserted = db.execute(
            conn,
            "INSERT INTO public.api_user (name, password_hash) VALUES (%s, %s) "
            "ON CONFLICT DO NOTHING",
            (name, _hash(password)),
        )
        if not inserted:
            raise ConflictError(f"user {name} exists; to change the password: users password")
        for aoi in aois:
            grant(conn, name, aoi)


def change_password(conn: db.Connection, name: str, password: str) -> None:
    """Give a user another password; it counts at once.

    Raises:
        CallerError: the password cannot be used.
        NotFoundError: there is no such user.
    """
    changed = db.execute(
        conn,
        "UPDATE public.api_user SET password_hash = %s WHERE name = %s",
        (_hash(password), name),
    )
    if not changed:
        raise NotFoundError(f"there is no user {name}")


def grant(conn: db.Connection, name: str, aoi: str, role: str = ROLES[0]) -> None:
    """Give a user the right to an aoi, in a role; granting again changes the role.

    Raises:
        NotFoundError: there is no such user or aoi.
    """
    if not db.fetch_one(conn, "SELECT 1 FROM public.api_user WHERE name = %s", (name,)):
        raise NotFoundError(f"there is no user {name}")
    if not db.fetch_one(conn, "SELECT 1 FROM public.aoi WHERE code = %s", (aoi,)):
        raise NotFoundError(
            f"there is no aoi {aoi}: it comes with its first campaign (cbm-store campaign create)"
        )
    db.execute(
        conn,
        "INSERT INTO public.api_grant (user_name, aoi, role) VALUES (%s, %s, %s) "
        "ON CONFLICT (user_name, aoi) DO UPDATE SET role = excluded.role",
        (name, aoi, role),
    )


def ungrant(conn: db.Connection, name: str, aoi: str) -> None:
    """Take a user's right to an aoi; it counts at once.

    Raises:
        NotFoundError: the user has no such right.
    """
    statement = "DELETE FROM public.api_grant WHERE user_name = %s AND aoi = %s"
    if not db.execute(conn, statement, (name, aoi)):
        raise NotFoundError(f"user {name} has no right to aoi {aoi}")


def remove(conn: db.Connection, name: str) -> None:
    """Remove a user with all rights and tokens; the access log of past requests stays.

    Raises:
        NotFoundError: there is no such user.
    """
    if not db.execute(conn, "DELETE FROM public.api_user WHERE name = %s", (name,)):
        raise NotFoundError(f"there is no user {name}")


def _hash(password: str) -> str:
    if len(password) < _MIN_PASSWORD:
        raise CallerError(f"the password is shorter than {_MIN_PASSWORD} characters")
    return HASHER.hash(password)
