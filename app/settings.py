"""Settings of the API, beside libpq's PG* variables of the database."""

from pathlib import Path

from pydantic import Field

from store.config import EnvironmentSettings, Whole, Words

LOGIN_THREADS = 3
"""Threads of logins and files of the pages, beside those of the setting."""


class ApiSettings(EnvironmentSettings):
    """Settings of one API process.

    Attributes:
        statement_timeout_s: longest time of a database statement.
        api_threads: queries answered at once; beside them half as many streams and half as many
            images.
        rate_per_s: requests of a user in the long run, per second and host.
        rate_burst: requests of a user at once after a rest.
        open_rate_per_s: requests of an address without authentication (chips, the login), per
            second and host.
        open_rate_burst: the same at once after a rest.
        audit_days: how long access log rows are kept, 30 at least.
        proxies: addresses whose X-Forwarded-For, -Proto and -Host are believed, by comma; those
            of this host itself by default.
        run_dir: folder that the processes of a run share; `cbm-api serve` makes it. Without it
            each process counts for itself.
    """

    statement_timeout_s: float = Field(10.0, ge=0.1)
    api_threads: Whole = Field(8, ge=1)
    rate_per_s: float = Field(200.0, ge=0.001)
    rate_burst: float = Field(1000.0, ge=1)
    open_rate_per_s: float = Field(200.0, ge=0.001)
    open_rate_burst: float = Field(2000.0, ge=1)
    audit_days: Whole = Field(90, ge=30)
    proxies: Words = frozenset({"127.0.0.1", "::1"})
    run_dir: Path | None = None

    @property
    def max_streams(self) -> int:
        """Streams at once."""
        return max(1, self.api_threads // 2)

    @property
    def connections(self) -> int:
        """Database connections: of queries, of streams, of logins, and the access log's."""
        return self.api_threads + self.max_streams + LOGIN_THREADS + 1
