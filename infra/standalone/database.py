"""The demo's database: made and migrated in the private cluster, with a login for each role."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.standalone import programs
from infra.standalone.cluster import Cluster

NAME = "cbm"

LOGINS = {
    "owner": "cbm_owner",
    "worker": "cbm_worker",
    "api": "cbm_api",
    "analyst": "cbm_analyst",
}
"""Login -> the role it is a member of, and so all it may do."""

_CREATE = """
    SELECT 'CREATE DATABASE ' || quote_ident(:'name')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
"""

_LOGIN = """
    SELECT format('CREATE ROLE %I LOGIN IN ROLE %I', :'login', :'member')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'login') \\gexec
    ALTER ROLE :"login" PASSWORD :'password';
"""


@dataclass(frozen=True)
class Database:
    """The demo's database on a running cluster.

    Attributes:
        cluster: where it lies.
        passwords: by login.
    """

    cluster: Cluster
    passwords: Mapping[str, str]

    def make(self) -> None:
        """Create and migrate the database, and the logins; what is there is left alone.

        Raises:
            DemoError: a statement or the migration fails.
        """
        superuser = self.cluster.environment()
        self._psql(superuser, _CREATE, name=NAME)
        superuser["PGDATABASE"] = NAME
        programs.run([programs.program("cbm-store"), "migrate"], superuser)
        for login, member in LOGINS.items():
            password = self.passwords[login]
            self._psql(superuser, _LOGIN, login=login, member=member, password=password)

    def settings(self, login: str) -> dict[str, str]:
        """libpq's variables of a login."""  # noqa: D403 - the name of a library
        return self.cluster.environment(NAME) | {
            "PGUSER": login,
            "PGPASSWORD": self.passwords[login],
        }

    def rows(self, query: str, **values: str | int) -> list[dict[str, Any]]:
        """The rows of a query, read as the analyst.

        Args:
            query: SQL with psql's variables, such as :'aoi' (value) or :"aoi" (identifier).
            values: the variables.

        Raises:
            DemoError: the query fails.
        """
        wrapped = f"SELECT coalesce(json_agg(q), '[]') FROM ({query}) AS q;"
        answer = self._psql(self.settings("analyst"), wrapped, **values)
        found: list[dict[str, Any]] = json.loads(answer)
        return found

    def _psql(self, settings: Mapping[str, str], script: str, **values: str | int) -> str:
        # Values travel by standard input: arguments could be read in the process list.
        quoted = {key: str(value).replace("\\", "\\\\") for key, value in values.items()}
        assignments = [
            f"\\set {key} '{text.replace(chr(39), chr(92) + chr(39))}'\n"
            for key, text in quoted.items()
        ]
        command = [str(self.cluster.bindir / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1"]
        return programs.run(command, settings, stdin="".join(assignments) + script)
