"""Credentials, and the memory of verified passwords."""

import time
from base64 import b64encode

import pytest

from app import users
from app.errors import ForbiddenError, UnauthenticatedError
from app.limits import Allowance, Buckets, Limits

LIMITS = Limits(Buckets(None), Allowance(1, 1), Allowance(1, 1))


def basic(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    return f"Basic {b64encode(raw).decode()}"


def test_credentials_come_out_of_the_header_in_either_encoding():
    assert users.credentials(basic("ann:a:b")) == ("ann", "a:b")
    assert users.credentials(basic("ann:süß")) == ("ann", "süß")
    assert users.credentials(basic("ann:süß".encode("latin-1"))) == ("ann", "süß")
    assert users.credentials(basic("ann").replace("Basic", "basic")) == ("ann", "")


@pytest.mark.parametrize("header", [None, "", "Basic !", "Bearer abc", "Basic é"])
def test_a_header_without_credentials_is_refused(header):
    with pytest.raises(UnauthenticatedError):
        users.credentials(header)


def test_a_claimed_name_is_only_a_name_that_users_can_have():
    assert users.claimed_name(basic("ann@x.eu:secret")) == "ann@x.eu"
    assert users.claimed_name(basic("my secret pass phrase:")) is None
    assert users.claimed_name(None) is None


def test_a_user_may_ask_about_granted_aois_only():
    ann = users.User("ann", frozenset({"nl"}))
    ann.require("nl")
    with pytest.raises(ForbiddenError, match="ann has no right to aoi be"):
        ann.require("be")


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(users.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def hashing(monkeypatch):
    """Counts what argon2 is asked for."""
    asked = []
    verify = users._HASHER.__class__.verify

    def counted(self, stored, password):
        asked.append(password)
        return verify(self, stored, password)

    monkeypatch.setattr(users._HASHER.__class__, "verify", counted)
    return asked


def test_a_right_password_is_remembered_for_a_minute_and_a_wrong_one_never(clock, hashing):
    gate, stored = users.Gate(LIMITS), users._HASHER.hash("right-word")
    assert gate._verify(stored, "right-word")
    clock.now += 59
    assert gate._verify(stored, "right-word")
    assert hashing == ["right-word"]
    assert not gate._verify(stored, "wrong-word")
    assert not gate._verify(stored, "wrong-word")
    assert hashing == ["right-word", "wrong-word", "wrong-word"]
    clock.now += 2
    assert gate._verify(stored, "right-word")
    assert hashing.count("right-word") == 2


def test_a_changed_hash_counts_at_once(hashing):
    gate = users.Gate(LIMITS)
    assert gate._verify(users._HASHER.hash("right-word"), "right-word")
    assert not gate._verify(users._HASHER.hash("other-word"), "right-word")


def test_the_memory_of_passwords_is_bounded(monkeypatch):
    monkeypatch.setattr(users, "_REMEMBERED_MOST", 2)
    gate = users.Gate(LIMITS)
    for password in ("first-word", "other-word", "third-word"):
        assert gate._verify(users._HASHER.hash(password), password)
    assert len(gate._right) == 2


def test_the_memory_holds_no_password(hashing):
    gate = users.Gate(LIMITS)
    gate._verify(users._HASHER.hash("right-word"), "right-word")
    assert b"right-word" not in b"".join(gate._right)
    assert time.monotonic() < next(iter(gate._right.values())) <= time.monotonic() + 60
