"""Settings of the API, beside libpq's PG* variables that lead to the database."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from store.config import number


@dataclass(frozen=True)
class ApiSettings:
    """How one API process behaves.

    Attributes:
        statement_timeout_s: longest a database statement may take (CBM_STATEMENT_TIMEOUT_S).
        threads: requests answered at once, and database connections held (CBM_API_THREADS).
    """

    statement_timeout_s: float
    threads: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "ApiSettings":
        """Build the settings from environment variables.

        Raises:
            ConfigError: a variable is set to something that is not a number above its minimum.
        """
        return cls(
            statement_timeout_s=number(env, "CBM_STATEMENT_TIMEOUT_S", 10.0, minimum=0.1),
            threads=int(number(env, "CBM_API_THREADS", 8, minimum=1)),
        )
