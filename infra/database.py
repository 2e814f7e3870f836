"""Questions to a stack's database, by psql on its host."""

import json
from pathlib import Path
from typing import Any

from infra.remote import run_remotely

TIMEOUT_S = 60

_PSQL = "cd / && sudo runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d cbm"


def query_json(folder: Path, statement: str) -> Any:
    """The JSON that a statement returns, run as the database's superuser.

    Args:
        folder: of the stack's inventory, such as inventory/nl.
        statement: of one row with one column of JSON.

    Raises:
        InfraError: there is no database's host, or it does not answer.
    """
    failure = "the database cannot be read"
    return json.loads(run_remotely(folder, "postgis", _PSQL, statement, TIMEOUT_S, failure))
