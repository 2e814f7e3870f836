"""Settings, read from the environment once, in each program's `main()`.

The database is addressed by libpq's own variables (PGHOST, PGDATABASE, PGUSER, PGPASSWORD,
PGSERVICE ...), the object store by AWS_*; what is ours begins with CBM_.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.errors import ConfigError


@dataclass(frozen=True)
class WorkerSettings:
    """How an extraction worker behaves.

    Attributes:
        lease_s: seconds a claim lasts without a heartbeat (CBM_LEASE_S).
        max_failures: failures of a scene before its dead letter (CBM_MAX_FAILURES).
        max_lost_leases: lost leases before the dead letter (CBM_MAX_LOST_LEASES).
        poll_s: pause between looks at an empty queue (CBM_POLL_S).
        retry_s: pause before failed work is offered again (CBM_RETRY_S).
        threads: threads of the reduction kernels (CBM_THREADS).
        cache_dir: where span indices are kept (CBM_CACHE_DIR).
        cache_bytes: upper bound of that folder's size (CBM_CACHE_BYTES).
    """

    lease_s: float
    max_failures: int
    max_lost_leases: int
    poll_s: float
    retry_s: float
    threads: int
    cache_dir: Path
    cache_bytes: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "WorkerSettings":
        """Build the settings from environment variables.

        Raises:
            ConfigError: a variable is set to something that is not a number above its minimum.
        """
        home = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(
            lease_s=number(env, "CBM_LEASE_S", 120.0, minimum=1.0),
            max_failures=int(number(env, "CBM_MAX_FAILURES", 3, minimum=1)),
            max_lost_leases=int(number(env, "CBM_MAX_LOST_LEASES", 20, minimum=1)),
            poll_s=number(env, "CBM_POLL_S", 5.0, minimum=0.05),
            retry_s=number(env, "CBM_RETRY_S", 30.0, minimum=0.0),
            threads=int(number(env, "CBM_THREADS", 1, minimum=1)),
            cache_dir=Path(env.get("CBM_CACHE_DIR") or home / "cbm" / "spans"),
            cache_bytes=int(number(env, "CBM_CACHE_BYTES", 20e9, minimum=0)),
        )


def number(env: Mapping[str, str], name: str, default: float, minimum: float) -> float:
    """Read a number from an environment variable; unset or empty means the default.

    Raises:
        ConfigError: it is set to something else, or below the minimum.
    """
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        raise ConfigError(f"{name}={text!r} is not a number") from None
    if not value >= minimum:
        raise ConfigError(f"{name}={text} is below the minimum of {minimum:g}")
    return value
