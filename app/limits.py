"""How often: requests per user, open ones per address, failed logins per name and address.

Counted once for all worker processes of an API host, in a SQLite file of this run: a tally in
each process would let a user have several times the rate, or a part of it where one kept-alive
connection always meets the same process; one in PostgreSQL would make every question a write.
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

from app.errors import TooManyError, UnauthenticatedError
from app.settings import ApiSettings

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
    """How much may be had.

    Attributes:
        per_s: in the long run, 1/s.
        burst: at once, after a rest.
    """

    per_s: float
    burst: float


_GUESSES_OF_NAME = Allowance(0.1, 10)
_GUESSES_OF_ADDRESS = Allowance(1, 100)
"""An address may be a whole office's or notebook server's."""


LIMITS = "limits"
"""The buckets' file in the folder of a run."""


class Buckets:
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
    def lay(cls, file: Path) -> None:
        """Make the file, before processes share it: two that begin it at once refuse each other."""
        cls(file)._file.close()

    def take(self, key: str, allowance: Allowance) -> float:
        """Take one from a bucket; 0, or the seconds until there will be one."""
        with self._lock:
            now, interval = self._clock(), 1 / allowance.per_s
            slack = (allowance.burst - 1) * interval
            asked = {"key": key, "now": now, "interval": interval, "slack": slack}
            self._sweep(now)
            taken = self._file.execute(_TAKE, asked).rowcount
        return 0.0 if taken else max(self.wait_s(key, allowance), 0.001)

    def wait_s(self, key: str, allowance: Allowance) -> float:
        """Seconds until a bucket has one to take; 0 if it has. Takes nothing."""
        with self._lock:
            found = self._file.execute("SELECT full_at FROM bucket WHERE key = ?", (key,))
            row = found.fetchone()
        slack = (allowance.burst - 1) / allowance.per_s
        return max(row[0] - self._clock() - slack, 0.0) if row else 0.0

    def _sweep(self, now: float) -> None:
        if now - self._swept > _SWEEP_S:
            self._file.execute("DELETE FROM bucket WHERE full_at <= ?", (now,))
            self._swept = now


class Limits:
    """Refuses who asks too often."""

    def __init__(self, buckets: Buckets, per_user: Allowance, per_address: Allowance) -> None:
        """Allow every user the same, and every address."""
        self._buckets = buckets
        self._per_user = per_user
        self._per_address = per_address

    @classmethod
    def of(cls, settings: ApiSettings) -> "Limits":
        """Those that the settings ask for."""
        folder = settings.run_dir
        per_user = Allowance(settings.rate_per_s, settings.rate_burst)
        per_address = Allowance(settings.open_rate_per_s, settings.open_rate_burst)
        return cls(Buckets(folder / LIMITS if folder else None), per_user, per_address)

    def count(self, user_name: str) -> None:
        """Count a request of a user who has proved who it is.

        Raises:
            TooManyError: the user's requests are used up for now.
        """
        self._count(f"user {user_name}", self._per_user)

    def count_open(self, address: str) -> None:
        """Count a request of whoever has not proved who it is.

        Raises:
            TooManyError: the address's requests are used up for now.
        """
        self._count(f"address {address}", self._per_address)

    def _count(self, who: str, allowed: Allowance) -> None:
        with _tolerant():
            wait_s = self._buckets.take(who, allowed)
            _refuse(wait_s, f"{who} may ask {allowed.per_s:g} times a second")

    @contextmanager
    def guarding(self, name: str, address: str) -> Iterator[None]:
        """Around a check of credentials: slow down who fails again and again.

        Raises:
            TooManyError: too many have failed for this name from this address, or from this
                address at all; the check is not made.
        """
        keys = {
            f"guess {name} {address}": _GUESSES_OF_NAME,
            f"guesses {address}": _GUESSES_OF_ADDRESS,
        }
        with _tolerant():
            wait_s = max(self._buckets.wait_s(key, allowed) for key, allowed in keys.items())
            _refuse(wait_s, "too many logins have failed")
        try:
            yield
        except UnauthenticatedError:
            with _tolerant():
                for key, allowed in keys.items():
                    self._buckets.take(key, allowed)
            raise


def _refuse(wait_s: float, why: str) -> None:
    if wait_s > 0:
        raise TooManyError(f"{why}; try again in {wait_s:.1f} s", math.ceil(wait_s))


@contextmanager
def _tolerant() -> Iterator[None]:
    """A file that cannot be used (a full disk) must not end the service: nobody is refused."""
    try:
        yield
    except sqlite3.Error as error:
        _log.warning("requests are not counted: %s", error)
