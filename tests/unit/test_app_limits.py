"""Buckets by hand, on a clock that stands until it is moved."""

import io
import sqlite3

import pytest

from app.access.rate_limits import Allowance, RateLimits, TokenBuckets
from app.http.errors import TooManyError, UnauthenticatedError
from app.http.request import Request

TWO_A_SECOND = Allowance(per_s=2, burst=3)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_bucket_gives_its_burst_then_one_per_interval(clock):
    buckets = TokenBuckets(None, clock)
    assert [buckets.take("a", TWO_A_SECOND) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]
    clock.now += 0.4
    assert buckets.take("a", TWO_A_SECOND) == pytest.approx(0.1)
    clock.now += 0.1
    assert buckets.take("a", TWO_A_SECOND) == 0
    assert buckets.take("a", TWO_A_SECOND) > 0


def test_a_refused_request_takes_nothing_and_a_rest_never_gives_more_than_the_burst(clock):
    buckets = TokenBuckets(None, clock)
    for _ in range(10):
        buckets.take("a", TWO_A_SECOND)
    clock.now += 0.5
    assert buckets.take("a", TWO_A_SECOND) == 0
    clock.now += 1000
    assert [buckets.take("a", TWO_A_SECOND) == 0 for _ in range(5)] == [True] * 3 + [False] * 2


def test_keys_do_not_share(clock):
    buckets = TokenBuckets(None, clock)
    for _ in range(3):
        buckets.take("a", TWO_A_SECOND)
    assert buckets.take("b", TWO_A_SECOND) == 0


def test_processes_that_open_one_file_share_its_buckets(clock, tmp_path):
    one, other = (TokenBuckets(tmp_path / "limits", clock) for _ in range(2))
    assert [each.take("a", TWO_A_SECOND) for each in (one, other, one)] == [0, 0, 0]
    assert other.take("a", TWO_A_SECOND) == pytest.approx(0.5)
    assert one.wait_s("a", TWO_A_SECOND) == pytest.approx(0.5)


def test_buckets_that_are_full_again_are_forgotten(clock):
    buckets = TokenBuckets(None, clock)
    for n in range(100):
        buckets.take(f"user {n}", TWO_A_SECOND)
    clock.now += 61
    buckets.take("last", TWO_A_SECOND)
    assert buckets._file.execute("SELECT key FROM bucket").fetchall() == [("last",)]


def guess(limits: RateLimits, name: str, address: str, right: bool = False) -> bool:
    """Whether the check of a guess was made at all."""
    try:
        with limits.count_guess(name, address):
            if not right:
                raise UnauthenticatedError("wrong")
    except UnauthenticatedError:
        return True
    except TooManyError:
        return False
    return True


def test_ten_wrong_guesses_of_a_name_end_in_one_per_ten_seconds(clock):
    limits = RateLimits(TokenBuckets(None, clock), TWO_A_SECOND, TWO_A_SECOND)
    assert [guess(limits, "ann", "10.0.0.1") for _ in range(12)] == [True] * 10 + [False] * 2
    assert not guess(limits, "ann", "10.0.0.1", right=True)
    assert guess(limits, "ann", "10.0.0.2", right=True)
    assert guess(limits, "bob", "10.0.0.1", right=True)
    clock.now += 10
    assert guess(limits, "ann", "10.0.0.1", right=True)


def test_an_address_that_tries_many_names_is_slowed_down_for_all_of_them(clock):
    limits = RateLimits(TokenBuckets(None, clock), TWO_A_SECOND, TWO_A_SECOND)
    made = [guess(limits, f"name{n}", "10.0.0.1") for n in range(110)]
    assert made == [True] * 100 + [False] * 10
    assert not guess(limits, "token 1", "10.0.0.1")
    assert guess(limits, "name1", "10.0.0.2")


def test_right_passwords_are_never_counted(clock):
    limits = RateLimits(TokenBuckets(None, clock), TWO_A_SECOND, TWO_A_SECOND)
    assert all(guess(limits, "ann", "10.0.0.1", right=True) for _ in range(200))


def test_a_file_that_cannot_be_used_refuses_nobody(clock, tmp_path, caplog):
    buckets = TokenBuckets(tmp_path / "limits", clock)
    buckets._file.close()
    limits = RateLimits(buckets, TWO_A_SECOND, TWO_A_SECOND)
    for _ in range(5):
        limits.count_user("ann")
        assert guess(limits, "ann", "10.0.0.1")
    assert "requests are not counted" in caplog.text


OURS = frozenset({"127.0.0.1"})


def passed_on(remote: str, **headers: str) -> tuple[str, str, str]:
    """Client address, scheme and host of a request."""
    named = {f"X-FORWARDED-{name.upper()}": text for name, text in headers.items()}
    request = Request("GET", "/", "", named, io.BytesIO(), remote, "http", "inner:8000")
    seen = request.behind_proxy(OURS)
    return seen.remote, seen.scheme, seen.host


def test_only_our_own_proxy_is_believed_and_only_its_last_word():
    headers = {"for": "6.6.6.6, 1.2.3.4", "proto": "http, https", "host": "cbm.example"}
    assert passed_on("127.0.0.1", **headers) == ("1.2.3.4", "https", "cbm.example")
    assert passed_on("10.0.0.9", **headers) == ("10.0.0.9", "http", "inner:8000")
    assert passed_on("127.0.0.1") == ("127.0.0.1", "http", "inner:8000")
    assert passed_on("127.0.0.1", proto="javascript") == ("127.0.0.1", "http", "inner:8000")
    assert passed_on("127.0.0.1", **{"for": "x" * 999})[0] == "x" * 64


def test_a_process_may_begin_while_another_writes_into_the_file_that_was_created(tmp_path):
    TokenBuckets.create(tmp_path / "limits")
    other = sqlite3.connect(tmp_path / "limits", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    mine = TokenBuckets(tmp_path / "limits")
    other.execute("COMMIT")
    assert mine.take("a", TWO_A_SECOND) == 0
