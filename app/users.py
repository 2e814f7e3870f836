"""Users of the API: passwords as argon2 hashes in the database, rights per aoi."""

import binascii
import hmac
import re
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import ForbiddenError, UnauthenticatedError
from store import db
from store.errors import CallerError, ConflictError, NotFoundError

# argon2id at the minimum of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
"""As the table api_user checks it."""

_REMEMBERED_S = 60.0
_REMEMBERED_MOST = 1000
_SHORTEST_PASSWORD = 8


@dataclass(frozen=True)
class User:
    """Who asks.

    Attributes:
        name: as in api_user.
        aois: those the user may ask about.
    """

    name: str
    aois: frozenset[str]

    def require(self, aoi: str) -> None:
        """Let only those pass who may ask about an aoi.

        Raises:
            ForbiddenError: the user may not.
        """
        if aoi not in self.aois:
            raise ForbiddenError(f"user {self.name} has no right to aoi {aoi}")


def credentials(authorization: str | None) -> tuple[str, str]:
    """Name and password out of an Authorization header of the kind Basic.

    Raises:
        UnauthenticatedError: there is none, or it cannot be read.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        raise UnauthenticatedError("this needs a name and a password (HTTP Basic)")
    try:
        raw = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise UnauthenticatedError("the Authorization header is not base64") from None
    name, _, password = _decoded(raw).partition(":")
    return name, password


def claimed_name(authorization: str | None) -> str | None:
    """The user name that a request gives, proved or not; None if it gives none."""
    try:
        name, _ = credentials(authorization)
    except UnauthenticatedError:
        return None
    return name if _NAME.fullmatch(name) else None


def _decoded(raw: bytes) -> str:
    """Clients differ: curl and browsers send UTF-8, Python's requests sends Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


class Gate:
    """Lets known users in.

    argon2 costs tens of milliseconds by design, so a password once found right is remembered in
    the process for a minute: as a keyed hash, bound to the stored hash, so that a new password, a
    removed user or a changed right counts at once.
    """

    def __init__(self) -> None:
        """Make a key of this process, and the hash that stands for users who do not exist."""
        self._key = secrets.token_bytes(32)
        self._nobody = _HASHER.hash(secrets.token_hex())
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._lock = Lock()

    def admit(self, conn: db.Connection, authorization: str | None) -> User:
        """Find out who asks; takes as long for unknown users as for wrong passwords.

        Raises:
            UnauthenticatedError: no credentials, or wrong ones.
        """
        name, password = credentials(authorization)
        row = _find(conn, name)
        if not self._verify(row.password_hash if row else self._nobody, password):
            raise UnauthenticatedError("the name or the password is wrong")
        return User(name, frozenset(row.aois))

    def _verify(self, stored: str, password: str) -> bool:
        proof = hmac.digest(self._key, f"{stored}\0{password}".encode(), "sha256")
        now = time.monotonic()
        with self._lock:
            if self._right.get(proof, now) > now:
                return True
        try:
            _HASHER.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
        with self._lock:
            self._right[proof] = now + _REMEMBERED_S
            self._right.move_to_end(proof)
            while len(self._right) > _REMEMBERED_MOST:
                self._right.popitem(last=False)
        return True


def _find(conn: db.Connection, name: str) -> Any:
    if not _NAME.fullmatch(name):
        return None
    return db.one(
        conn,
        "SELECT password_hash, array(SELECT aoi FROM public.api_grant WHERE user_name = name) "
        "AS aois FROM public.api_user WHERE name = %s",
        (name,),
    )


def everybody(conn: db.Connection) -> list[User]:
    """All users by name."""
    found = db.rows(
        conn,
        "SELECT name, array(SELECT aoi FROM public.api_grant WHERE user_name = name) AS aois "
        "FROM public.api_user ORDER BY name",
    )
    return [User(row.name, frozenset(row.aois)) for row in found]


def add(conn: db.Connection, name: str, password: str, aois: tuple[str, ...] = ()) -> None:
    """Make a user with rights.

    Raises:
        CallerError: the name or the password cannot be used.
        ConflictError: the user exists.
        NotFoundError: an aoi does not exist; no user was made.
    """
    if not _NAME.fullmatch(name):
        raise CallerError(
            f"{name!r} cannot be a user's name: up to 64 letters, digits and . _ @ -, "
            "beginning with a letter or digit"
        )
    with db.transaction(conn):
        made = db.execute(
            conn,
            "INSERT INTO public.api_user (name, password_hash) VALUES (%s, %s) "
            "ON CONFLICT DO NOTHING",
            (name, _hashed(password)),
        )
        if not made:
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
        (_hashed(password), name),
    )
    if not changed:
        raise NotFoundError(f"there is no user {name}")


def grant(conn: db.Connection, name: str, aoi: str) -> None:
    """Let a user ask about an aoi; granting twice changes nothing.

    Raises:
        NotFoundError: there is no such user or aoi.
    """
    if not db.one(conn, "SELECT 1 FROM public.api_user WHERE name = %s", (name,)):
        raise NotFoundError(f"there is no user {name}")
    if not db.one(conn, "SELECT 1 FROM public.aoi WHERE code = %s", (aoi,)):
        raise NotFoundError(
            f"there is no aoi {aoi}: it comes with its first campaign (cbm-store campaign create)"
        )
    db.execute(
        conn,
        "INSERT INTO public.api_grant (user_name, aoi) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (name, aoi),
    )


def remove(conn: db.Connection, name: str) -> None:
    """Remove a user with all rights; what was written about past requests stays.

    Raises:
        NotFoundError: there is no such user.
    """
    if not db.execute(conn, "DELETE FROM public.api_user WHERE name = %s", (name,)):
        raise NotFoundError(f"there is no user {name}")


def _hashed(password: str) -> str:
    if len(password) < _SHORTEST_PASSWORD:
        raise CallerError(f"the password is shorter than {_SHORTEST_PASSWORD} characters")
    return _HASHER.hash(password)
