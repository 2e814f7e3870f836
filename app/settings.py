"""Settings of the API, beside libpq's PG* variables that lead to the database."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.config import number


@dataclass(frozen=True)
class ApiSettings:
    """How one API process behaves.

    Attributes:
        statement_timeout_s: longest a database statement may take (CBM_STATEMENT_TIMEOUT_S).
        threads: requests answered at once, half of them streams at most, and database connections
            held (CBM_API_THREADS).
        rate_per_s: requests a user may make in the long run, per second and host (CBM_RATE_PER_S).
        rate_burst: requests a user may make at once after a rest (CBM_RATE_BURST).
        open_rate_per_s: requests an address may make without proving to be a user (for chips, the
            login), per second and host (CBM_OPEN_RATE_PER_S).
        open_rate_burst: the same at once after a rest (CBM_OPEN_RATE_BURST).
        audit_days: how long audit rows are kept, 30 at least (CBM_AUDIT_DAYS).
        proxies: addresses whose X-Forwarded-For, -Proto and -Host are believed, by comma; those
            of this host itself by default (CBM_PROXIES).
        run_dir: what the processes of a run share; cbm-api serve makes it (CBM_RUN_DIR). Without
            one each process counts for itself.
    """

    statement_timeout_s: float
    threads: int
    rate_per_s: float
    rate_burst: float
    open_rate_per_s: float
    open_rate_burst: float
    audit_days: int
    proxies: frozenset[str]
    run_dir: Path | None

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "ApiSettings":
        """Build the settings from environment variables.

        Raises:
            ConfigError: a variable is set to something that is not a number above its minimum.
        """
        return cls(
            statement_timeout_s=number(env, "CBM_STATEMENT_TIMEOUT_S", 10.0, minimum=0.1),
            threads=int(number(env, "CBM_API_THREADS", 8, minimum=1)),
            rate_per_s=number(env, "CBM_RATE_PER_S", 200.0, minimum=0.001),
            rate_burst=number(env, "CBM_RATE_BURST", 1000.0, minimum=1),
            open_rate_per_s=number(env, "CBM_OPEN_RATE_PER_S", 200.0, minimum=0.001),
            open_rate_burst=number(env, "CBM_OPEN_RATE_BURST", 2000.0, minimum=1),
            audit_days=int(number(env, "CBM_AUDIT_DAYS", 90, minimum=30)),
            proxies=frozenset(
                (env.get("CBM_PROXIES") or "127.0.0.1,::1").replace(",", " ").split()
            ),
            run_dir=Path(env["CBM_RUN_DIR"]) if env.get("CBM_RUN_DIR") else None,
        )
