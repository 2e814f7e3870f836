"""Rate limits: requests per user, open ones per address, failed logins per name and address.

Counted once for all worker processes of an API host, in a SQLite file of this run: a count in each
process would let a user have several times the rate, or a part of it where one kept-alive
connection always meets the same process; one in PostgreSQL would make every request a write.
"""

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from app.http.errors import TooManyError

_log = logging.getLogger(__name__)

_SWEEP_S = 60.0

# A bucket is known by when it will be full again (the generic cell rate algorithm, as of ATM
# Forum's TM 4.0): one number, which rises by the interval with every request, and says nothing
# any more once it has passed.
_SCHEMA = "CREATE TABLE IF NOT EXISTS bucket (key TEXT PRIMARY KEY, full_at REAL) WITHOUT ROWID"
_TAKE = """
    INSERT INTO bucket (key, full_at) VALUES (:key, :now + :interval)
    ON CONFLICT (key) DO UPDATE SET full_at = max(full_at, :now) + :interval
    WHERE full_at - :now <= :slack"""


@dataclass(frozen=True)
class Allowance:
    """A rate and its burst.

    Attributes:
        per_s: in the long run, 1/s.
        burst: at once, after a rest.
    """

    per_s: float
    burst: float

    @property
    def slack_s(self) -> float:
        """How far ahead a bucket may be full again while it still gives, seconds."""
        return (self.burst - 1) / self.per_s


_GUESSES_OF_NAME = Allowance(0.1, 10)
_GUESSES_OF_ADDRESS = Allowance(1, 100)
"""An address may be a whole office's or notebook server's."""


_KNOWN_S = 30 * 86400.0
_FAILED = "too many logins have failed"

LIMITS_FILE = "limits"
"""The buckets' file in the folder of a run."""


class TokenBuckets:
    """Token buckets by key, shared by the processes that open the same file."""

    def __init__(self, file: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the file, made if missing; the clock must be one for all processes.

        Args:
            file: that the processes share; None keeps the buckets to this process.
            clock: seconds.
        """
        self._clock = clock
        self._lock = Lock()
        self._swept = clock()
        self._file = sqlite3.connect(
            file or ":memory:", timeout=1, isolation_level=None, check_same_thread=False
        )
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = OFF", _SCHEMA):
            self._file.execute(statement)

    @classmethod
    def create(cls, file: Path) -> None:
        """Make the file, before processes share it: two that begin it at once refuse each other."""
        cls(file)._file.close()

    def take(self, key: str, allowance: Allowance) -> float:
        """Take a token from a bucket; 0, or the seconds until there will be one."""
        with self._lock:
            now, interval = self._clock(), 1 / allowance.per_s
            params = {"key": key, "now": now, "interval": interval, "slack": allowance.slack_s}
            self._sweep(now)
            taken = self._file.execute(_TAKE, params).rowcount
        return 0.0 if taken else max(self.wait_s(key, allowance), 0.001)

    def give_back(self, key: str, allowance: Allowance) -> None:
        """Put a token back that was taken."""
        with self._lock:
            self._file.execute(
                "UPDATE bucket SET full_at = full_at - ? WHERE key = ?", (1 / allowance.per_s, key)
            )

    def remember(self, key: str, seconds: float) -> None:
        """Know a key for some time; it is no bucket."""
        with self._lock:
            self._file.execute(
                "INSERT OR REPLACE INTO bucket (key, full_at) VALUES (?, ?)",
                (key, self._clock() + seconds),
            )

    def knows(self, key: str) -> bool:
        """Whether a key was remembered, and its time is not over."""
        with self._lock:
            row = self._file.execute("SELECT full_at FROM bucket WHERE key = ?", (key,)).fetchone()
        return row is not None and row[0] > self._clock()

    def wait_s(self, key: str, allowance: Allowance) -> float:
        """Seconds until a bucket has a token; 0 if it has. Takes nothing."""
        with self._lock:
            row = self._file.execute("SELECT full_at FROM bucket WHERE key = ?", (key,)).fetchone()
        return max(row[0] - self._clock() - allowance.slack_s, 0.0) if row else 0.0

    def _sweep(self, now: float) -> None:
        if now - self._swept > _SWEEP_S:
            self._file.execute("DELETE FROM bucket WHERE full_at <= ?", (now,))
            self._swept = now


class RateLimits:
    """Refuses users and addresses that send requests too fast."""

    def __init__(self, buckets: TokenBuckets, per_user: Allowance, per_address: Allowance) -> None:
        """Allow every user the same, and every address."""
        self._buckets = buckets
        self._per_user = per_user
        self._per_address = per_address

    def count_user(self, user_name: str) -> None:
        """Count a request of an authenticated user.

        Raises:
            TooManyError: the user's requests are used up for now.
        """
        self._count(f"user {user_name}", self._per_user)

    def count_address(self, address: str) -> None:
        """Count a request without authentication.

        Raises:
            TooManyError: the address's requests are used up for now.
        """
        self._count(f"address {address}", self._per_address)

    def count_failure(self, address: str) -> None:
        """Count a request whose credentials are missing or wrong.

        Raises:
            TooManyError: the address has sent too many of them.
        """
        self._count(f"failure {address}", self._per_address, f"address {address}")

    def _count(self, key: str, allowance: Allowance, sender: str = "") -> None:
        with _tolerate_file_errors():
            wait_s = self._buckets.take(key, allowance)
            _refuse_until(wait_s, f"{sender or key} may send {allowance.per_s:g} requests a second")

    @contextmanager
    def count_guess(self, name: str, address: str) -> Iterator[None]:
        """Around a check of a password: counts it before, and takes the count back if it is right.

        So of many guesses at once no more are checked than of as many one after the other. A name
        that logged in from an address before is not refused for what others guess there.

        Raises:
            TooManyError: too many have failed for this name from this address, or from this
                address at all; the check is not made.
        """
        known = f"known {name} {address}"
        taken: dict[str, Allowance] = {}
        with _tolerate_file_errors():
            taken = self._take_guesses(name, address, is_known=self._buckets.knows(known))
        yield
        with _tolerate_file_errors():
            for key, allowance in taken.items():
                self._buckets.give_back(key, allowance)
            self._buckets.remember(known, _KNOWN_S)

    def count_false_token(self, public: str | None, address: str) -> None:
        """Count a token that is not valid; right ones and passwords are not refused for it.

        Raises:
            TooManyError: too many came from this address.
        """
        buckets = {
            f"false token {public} {address}": _GUESSES_OF_NAME,
            f"false tokens {address}": _GUESSES_OF_ADDRESS,
        }
        with _tolerate_file_errors():
            waits = [self._buckets.take(key, allowance) for key, allowance in buckets.items()]
            _refuse_until(max(waits), _FAILED)

    def _take_guesses(self, name: str, address: str, *, is_known: bool) -> dict[str, Allowance]:
        buckets = {f"guess {name} {address}": _GUESSES_OF_NAME}
        if not is_known:
            buckets[f"guesses {address}"] = _GUESSES_OF_ADDRESS
        taken: dict[str, Allowance] = {}
        for key, allowance in buckets.items():
            wait_s = self._buckets.take(key, allowance)
            if wait_s:
                for other, its in taken.items():
                    self._buckets.give_back(other, its)
                _refuse_until(wait_s, _FAILED)
            taken[key] = allowance
        return taken


def _refuse_until(wait_s: float, why: str) -> None:
    if wait_s > 0:
        raise TooManyError(f"{why}; try again in {wait_s:.1f} s", math.ceil(wait_s))


@contextmanager
def _tolerate_file_errors() -> Iterator[None]:
    """A file that cannot be used (a full disk) must not end the service: nobody is refused."""
    try:
        yield
    except sqlite3.Error as error:
        _log.warning("requests are not counted: %s", error)
