"""Users of the API: passwords as argon2 hashes in the database, rights per aoi and role."""

import binascii
import hmac
import re
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app import tokens
from app.errors import ForbiddenError, UnauthenticatedError
from app.limits import Limits
from store import db
from store.errors import CallerError, ConflictError, NotFoundError

# argon2id at the minimum of OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
"""As the table api_user checks it."""

_REMEMBERED_S = 60.0
_REMEMBERED_MOST = 1000
_SHORTEST_PASSWORD = 8

ROLES = ("reader", "operator")
"""What a user may be for an aoi: operators also see how its extraction goes."""


@dataclass(frozen=True)
class User:
    """Who asks.

    Attributes:
        name: as in api_user.
        aois: those the user may ask about.
        operated: those of them whose extraction the user may watch.
        token_id: the token that proved who asks; None for a password.
    """

    name: str
    aois: frozenset[str]
    operated: frozenset[str] = frozenset()
    token_id: str | None = None

    def require(self, aoi: str) -> None:
        """Let only those pass who may ask about an aoi.

        Raises:
            ForbiddenError: the user may not.
        """
        if aoi not in self.aois:
            raise ForbiddenError(f"user {self.name} has no right to aoi {aoi}")

    def require_operator(self, aoi: str | None = None) -> None:
        """Let only operators of an aoi pass, or of any aoi if none is named.

        Raises:
            ForbiddenError: the user is not.
        """
        if aoi is None and not self.operated:
            raise ForbiddenError(f"user {self.name} is no operator")
        if aoi is not None and aoi not in self.operated:
            raise ForbiddenError(f"user {self.name} is no operator of aoi {aoi}")


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


def bearer(authorization: str | None) -> str | None:
    """The token out of an Authorization header of the kind Bearer; None if it is another kind."""
    scheme, _, text = (authorization or "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


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

    def __init__(self, limits: Limits) -> None:
        """Make a key of this process, and the hash that stands for users who do not exist."""
        self._limits = limits
        self._key = secrets.token_bytes(32)
        self._nobody = _HASHER.hash(secrets.token_hex())
        self._right: OrderedDict[bytes, float] = OrderedDict()
        self._lock = Lock()

    def admit(self, conn: db.Connection, authorization: str | None, address: str) -> User:
        """Find out who asks.

        Args:
            conn: an open connection.
            authorization: the header of that name: HTTP Basic, or a token as Bearer.
            address: where the request comes from.

        Raises:
            UnauthenticatedError: no credentials, or wrong ones.
            TooManyError: wrong ones came too often from there.
        """
        token = bearer(authorization)
        if token is not None:
            with self._limits.guarding(f"token {tokens.claimed_id(token)}", address):
                return _by_token(conn, token)
        return self.prove(conn, *credentials(authorization), address)

    def prove(self, conn: db.Connection, name: str, password: str, address: str) -> User:
        """Check a password; takes as long for unknown users as for wrong passwords.

        Raises:
            UnauthenticatedError: the name or the password is wrong.
            TooManyError: wrong ones came too often from this address.
        """
        with self._limits.guarding(name, address):
            row = _find(conn, name)
            if not self._verify(row.password_hash if row else self._nobody, password) or not row:
                raise UnauthenticatedError("the name or the password is wrong")
            return _user(row)

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


def _by_token(conn: db.Connection, text: str) -> User:
    known = tokens.verified(conn, text)
    row = known and _find(conn, known[1])
    if not (known and row):
        raise UnauthenticatedError("the token is unknown, revoked or expired")
    return replace(_user(row), token_id=known[0])


_USERS = """
    SELECT name, password_hash,
           array(SELECT aoi FROM public.api_grant WHERE user_name = name) AS aois,
           array(SELECT aoi FROM public.api_grant
                 WHERE user_name = name AND role = 'operator') AS operated
    FROM public.api_user"""


def _find(conn: db.Connection, name: str) -> Any:
    if not _NAME.fullmatch(name):
        return None
    return db.one(conn, _USERS + " WHERE name = %s", (name,))


def _user(row: Any) -> User:
    return User(row.name, frozenset(row.aois), frozenset(row.operated))


def known(conn: db.Connection, name: str) -> tuple[User, str] | None:
    """A user and the stored password hash; None if there is no such user."""
    row = _find(conn, name)
    return (_user(row), row.password_hash) if row else None


def still_may(conn: db.Connection, name: str, aoi: str) -> bool:
    """Whether a user exists, and may ask about an aoi; '' for none in particular."""
    statement = """
        SELECT 1 FROM public.api_user WHERE name = %(name)s AND (%(aoi)s = '' OR EXISTS (
            SELECT FROM public.api_grant WHERE user_name = name AND aoi = %(aoi)s))"""
    return db.one(conn, statement, {"name": name, "aoi": aoi}) is not None


def everybody(conn: db.Connection) -> list[User]:
    """All users by name."""
    return [_user(row) for row in db.rows(conn, _USERS + " ORDER BY name")]


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


def grant(conn: db.Connection, name: str, aoi: str, role: str = ROLES[0]) -> None:
    """Let a user ask about an aoi, in a role; granting again changes the role.

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
        "INSERT INTO public.api_grant (user_name, aoi, role) VALUES (%s, %s, %s) "
        "ON CONFLICT (user_name, aoi) DO UPDATE SET role = excluded.role",
        (name, aoi, role),
    )


def ungrant(conn: db.Connection, name: str, aoi: str) -> None:
    """Take a user's right to an aoi; it counts at once.

    Raises:
        NotFoundError: the user has no such right.
    """
    given = "DELETE FROM public.api_grant WHERE user_name = %s AND aoi = %s"
    if not db.execute(conn, given, (name, aoi)):
        raise NotFoundError(f"user {name} has no right to aoi {aoi}")


def remove(conn: db.Connection, name: str) -> None:
    """Remove a user with all rights and tokens; what was written about past requests stays.

    Raises:
        NotFoundError: there is no such user.
    """
    if not db.execute(conn, "DELETE FROM public.api_user WHERE name = %s", (name,)):
        raise NotFoundError(f"there is no user {name}")


def _hashed(password: str) -> str:
    if len(password) < _SHORTEST_PASSWORD:
        raise CallerError(f"the password is shorter than {_SHORTEST_PASSWORD} characters")
    return _HASHER.hash(password)
