"""The demo's database: made and migrated in the private cluster, with a login for each role."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from standalone.cluster import Cluster
from store import db, schema

NAME = "cbm"

LOGINS = {
    "owner": "cbm_owner",
    "worker": "cbm_worker",
    "api": "cbm_api",
    "analyst": "cbm_analyst",
}
"""Login -> the role it is a member of, and so all its rights."""

_LIMITS: Mapping[str, Mapping[str, str]] = {
    "api": {"statement_timeout": "60s"},
    "analyst": {"statement_timeout": "10min", "temp_file_limit": "2GB"},
}
"""Settings of a login's sessions, as those of the role postgis."""

_EXISTS = "SELECT FROM pg_database WHERE datname = %s"
_HAS_LOGIN = "SELECT FROM pg_roles WHERE rolname = %s"


@dataclass(frozen=True)
class Database:
    """The demo's database on a running cluster.

    Attributes:
        cluster: the server.
        passwords: by login.
    """

    cluster: Cluster
    passwords: Mapping[str, str]

    def make(self) -> None:
        """Create and migrate the database, and the logins; what is there is left alone.

        Raises:
            CbmError: a statement or the migration fails.
        """
        with self._superuser("postgres") as admin:
            if db.fetch_one(admin, _EXISTS, (NAME,)) is None:
                db.execute(admin, db.compose("CREATE DATABASE {name}", name=NAME))
        with self._superuser(NAME) as admin:
            schema.migrate(admin)
            for login, role in LOGINS.items():
                self._make_login(admin, login, role)

    def _make_login(self, admin: db.Connection, login: str, role: str) -> None:
        if db.fetch_one(admin, _HAS_LOGIN, (login,)) is None:
            create = db.compose("CREATE ROLE {login} LOGIN IN ROLE {role}", login=login, role=role)
            db.execute(admin, create)
        change = db.compose("ALTER ROLE {login} PASSWORD %s", login=login)
        db.execute(admin, change, (self.passwords[login],))
        for setting, value in _LIMITS.get(login, {}).items():
            limit = db.compose("ALTER ROLE {login} SET {name} = %s", login=login, name=setting)
            db.execute(admin, limit, (value,))

    def settings(self, login: str) -> dict[str, str]:
        """libpq's variables of a login."""  # noqa: D403 - the name of a library
        return self.cluster.environment(NAME) | {
            "PGUSER": login,
            "PGPASSWORD": self.passwords[login],
        }

    def connect(self, login: str) -> "closing[db.Connection]":
        """Connect as a login, for a block.

        Raises:
            DatabaseError: the server does not answer.
        """
        return closing(db.connect("demo", db.dsn(self.settings(login))))

    def _superuser(self, dbname: str) -> "closing[db.Connection]":
        return closing(db.connect("demo", db.dsn(self.cluster.environment(dbname))))
