"""The API under gunicorn on a small Member State, for tests of who may do what and how often."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import requests
from click.testing import CliRunner, Result

from app.cli import main
from store import db
from tests.beds.postgis.fixture import _database
from tests.benchmarks.api_server import Api
from tests.integration.filled_api import fill

ANN = ("ann", "right-word")


@dataclass(frozen=True)
class SmallApi:
    """A running API: its address, a superuser's connection, its processes."""

    url: str
    conn: db.Connection
    served: Api

    def get(self, path: str, auth=ANN, **options) -> requests.Response:
        return requests.get(self.url + path, auth=auth, timeout=90, **options)

    def by_token(self, path: str, token: str) -> requests.Response:
        return self.get(path, auth=None, headers={"Authorization": f"Bearer {token}"})


@contextmanager
def serving(
    cluster, template, folder, before: Callable[[db.Connection], None] = lambda _: None,
    **settings: str,
) -> Iterator[SmallApi]:  # fmt: skip
    """Serve what filled_api fills, by two processes; ann may ask about nl.

    Args:
        cluster: of the tests.
        template: database to copy.
        folder: for the log.
        before: puts more into the database.
        settings: of the API's environment.
    """
    with pytest.MonkeyPatch.context() as patch:
        for conn in _database(cluster, template, patch):
            fill(conn)
            run("users", "add", "ann", "--aoi", "nl", "--password-stdin", stdin="right-word\n")
            before(conn)
            served = Api(settings, folder / "log")
            try:
                yield SmallApi(f"http://127.0.0.1:{served.port}", conn, served)
            finally:
                served.stop()


def run(*arguments: str, stdin: str = "") -> Result:
    """A cbm-api command."""
    return CliRunner().invoke(main, list(arguments), input=stdin)


def ended(text: str) -> str:
    """The last word of a command's output."""
    return text.strip().split()[-1]
