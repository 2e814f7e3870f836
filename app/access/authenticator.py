"""Authentication: from the Authorization header, or a name and password, to a user."""

import hmac
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from dataclasses import replace
from threading import Lock
from weakref import WeakValueDictionary

from argon2.exceptions import InvalidHashError, VerificationError

from app.access import tokens, users
from app.access.rate_limits import RateLimits
from app.access.users import HASHER, User
from app.http.errors import UnauthenticatedError
from store import db

_CACHE_S = 60.0
_MAX_CACHED = 1000


def basic_credentials(authorization: str | None) -> tuple[str, str]:
    """Name and password out of an Authorization header of the kind Basic.

    Raises:
        UnauthenticatedError: there is none, or it cannot be read.
    """
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        raise UnauthenticatedError("this needs a name and a password (HTTP Basic)")
    try:
        raw = b64decode(encoded, validate=True)
    except ValueError:
        raise UnauthenticatedError("the Authorization header is not base64") from None
    name, _, password = _decode(raw).partition(":")
    return name, password


def bearer_token(authorization: str | None) -> str | None:
    """The token out of an Authorization header of the kind Bearer; None of another kind."""
    scheme, _, text = (authorization or "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def claimed_name(authorization: str | None) -> str | None:
    """The user name in a Basic header, authenticated or not; None without one."""
    try:
        name, _ = basic_credentials(authorization)
    except UnauthenticatedError:
        return None
    return name if users.is_name(name) else None


def _decode(raw: bytes) -> str:
    """Clients differ: curl and browsers send UTF-8, Python's requests sends Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


class Authenticator:
    """Authenticates users by password or token.

    argon2 costs tens of milliseconds by design, so a valid password is remembered in the process
    for a minute: as a keyed hash, bound to the stored hash, so that a new password, a removed user
    or a changed right counts at once.
    """

    def __init__(self, limits: RateLimits) -> None:
        """Make a key of this process, and the hash that stands for users who do not exist."""
        self._limits = limits
        self._key = secrets.token_bytes(32)
        self._dummy_hash = HASHER.hash(secrets.token_hex())
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self._lock = Lock()
        self._checks: WeakValueDictionary[bytes, Lock] = WeakValueDictionary()

    def authenticate(self, conn: db.Connection, authorization: str | None, address: str) -> User:
        """The user of a request.

        Args:
            conn: an open connection.
            authorization: the header of that name: HTTP Basic, or a token as Bearer.
            address: of the client.

        Raises:
            UnauthenticatedError: no credentials, or wrong ones.
            TooManyError: wrong ones came too often from there.
        """
        token = bearer_token(authorization)
        if token is not None:
            user = _user_of_token(conn, token)
            if user is None:
                self._limits.count_false_token(tokens.claimed_id(token), address)
                raise UnauthenticatedError("the token is unknown, revoked or expired")
            return user
        return self.check_password(conn, *basic_credentials(authorization), address)

    def check_password(self, conn: db.Connection, name: str, password: str, address: str) -> User:
        """The user with a password; takes as long for unknown users as for wrong passwords.

        Raises:
            UnauthenticatedError: the name or the password is wrong.
            TooManyError: wrong ones came too often from this address.
        """
        stored = users.find_with_hash(conn, name)
        password_hash = stored[1] if stored else self._dummy_hash
        proof = hmac.digest(self._key, f"{password_hash}\0{password}\0{address}".encode(), "sha256")
        # Equal credentials wait for one check: a client that opens many connections at once
        # has guessed once.
        with self._lock:
            check = self._checks.setdefault(proof, Lock())
        with check:
            if not self._is_proved(proof):
                with self._limits.count_guess(name, address):
                    if not (_is_right(password_hash, password) and stored):
                        raise UnauthenticatedError("the name or the password is wrong")
                self._remember(proof)
        if not stored:
            raise UnauthenticatedError("the name or the password is wrong")
        return stored[0]

    def _is_proved(self, proof: bytes) -> bool:
        now = time.monotonic()
        with self._lock:
            return self._verified.get(proof, now) > now

    def _remember(self, proof: bytes) -> None:
        with self._lock:
            self._verified[proof] = time.monotonic() + _CACHE_S
            self._verified.move_to_end(proof)
            while len(self._verified) > _MAX_CACHED:
                self._verified.popitem(last=False)


def _is_right(password_hash: str, password: str) -> bool:
    try:
        return HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _user_of_token(conn: db.Connection, text: str) -> User | None:
    verified = tokens.verify(conn, text)
    stored = verified and users.find_with_hash(conn, verified[1])
    return replace(stored[0], token_id=verified[0]) if verified and stored else None
