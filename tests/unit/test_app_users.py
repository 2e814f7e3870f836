"""Credentials, and the memory of verified passwords."""

import time
from base64 import b64encode

import pytest

from app.access import authenticator, users
from app.access.authenticator import Authenticator
from app.access.rate_limits import Allowance, RateLimits, TokenBuckets
from app.http.errors import ForbiddenError, TooManyError, UnauthenticatedError


def basic(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    return f"Basic {b64encode(raw).decode()}"


def test_credentials_come_out_of_the_header_in_either_encoding():
    assert authenticator.basic_credentials(basic("ann:a:b")) == ("ann", "a:b")
    assert authenticator.basic_credentials(basic("ann:süß")) == ("ann", "süß")
    assert authenticator.basic_credentials(basic("ann:süß".encode("latin-1"))) == ("ann", "süß")
    assert authenticator.basic_credentials(basic("ann").replace("Basic", "basic")) == ("ann", "")


@pytest.mark.parametrize("header", [None, "", "Basic !", "Bearer abc", "Basic é"])
def test_a_header_without_credentials_is_refused(header):
    with pytest.raises(UnauthenticatedError):
        authenticator.basic_credentials(header)


def test_a_claimed_name_is_only_a_name_that_users_can_have():
    assert authenticator.claimed_name(basic("ann@x.eu:secret")) == "ann@x.eu"
    assert authenticator.claimed_name(basic("my secret pass phrase:")) is None
    assert authenticator.claimed_name(None) is None


def test_a_user_has_a_right_to_granted_aois_only():
    ann = users.User("ann", frozenset({"nl"}))
    ann.require("nl")
    with pytest.raises(ForbiddenError, match="ann has no right to aoi be"):
        ann.require("be")


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(authenticator.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def hashing(monkeypatch):
    """The passwords that argon2 verified."""
    passwords = []
    verify = users.HASHER.__class__.verify

    def counted(self, stored, password):
        passwords.append(password)
        return verify(self, stored, password)

    monkeypatch.setattr(users.HASHER.__class__, "verify", counted)
    return passwords


@pytest.fixture
def stored(monkeypatch):
    """The stored hashes by name, instead of the database's."""
    hashes = {"ann": users.HASHER.hash("right-word")}

    def find_with_hash(_, name):
        return (users.User(name, frozenset()), hashes[name]) if name in hashes else None

    monkeypatch.setattr(users, "find_with_hash", find_with_hash)
    return hashes


def unlimited() -> Authenticator:
    return Authenticator(RateLimits(TokenBuckets(None), Allowance(1, 1), Allowance(1, 1)))


def is_right(auth: Authenticator, password: str, name: str = "ann", address: str = "1.2.3.4"):
    try:
        return auth.check_password(None, name, password, address).name == name
    except UnauthenticatedError:
        return False


def test_a_right_password_is_remembered_for_a_minute_and_a_wrong_one_never(clock, hashing, stored):
    auth = unlimited()
    assert is_right(auth, "right-word")
    clock.now += 59
    assert is_right(auth, "right-word")
    assert hashing == ["right-word"]
    assert not is_right(auth, "wrong-word")
    assert not is_right(auth, "wrong-word")
    assert hashing == ["right-word", "wrong-word", "wrong-word"]
    clock.now += 2
    assert is_right(auth, "right-word")
    assert hashing.count("right-word") == 2


def test_a_remembered_password_is_no_guess_and_is_of_its_address_alone(stored, hashing):
    auth = unlimited()
    assert is_right(auth, "right-word")
    for n in range(12):
        try:
            is_right(auth, f"guess-{n}")
        except TooManyError:
            break
    assert is_right(auth, "right-word")
    assert is_right(auth, "right-word", address="5.6.7.8")
    assert hashing.count("right-word") == 2


def test_a_changed_hash_counts_at_once(hashing, stored):
    auth = unlimited()
    assert is_right(auth, "right-word")
    stored["ann"] = users.HASHER.hash("other-word")
    assert not is_right(auth, "right-word")


def test_a_user_who_does_not_exist_takes_a_check_too(hashing, stored):
    assert not is_right(unlimited(), "right-word", name="nobody")
    assert hashing == ["right-word"]


def test_the_memory_of_passwords_is_bounded(monkeypatch, stored):
    monkeypatch.setattr(authenticator, "_MAX_CACHED", 2)
    auth = unlimited()
    for n in range(3):
        assert is_right(auth, "right-word", address=f"10.0.0.{n}")
    assert len(auth._verified) == 2
    assert not auth._checks


def test_the_memory_holds_no_password(stored):
    auth = unlimited()
    assert is_right(auth, "right-word")
    assert b"right-word" not in b"".join(auth._verified)
    assert time.monotonic() < next(iter(auth._verified.values())) <= time.monotonic() + 60
