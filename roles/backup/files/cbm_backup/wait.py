"""Wait until a condition holds."""

import time
from collections.abc import Callable

from cbm_backup.errors import BackupError


def wait_until(condition: Callable[[], bool], limit_s: float, failure: str) -> None:
    """Return when the condition holds.

    Args:
        condition: checked twice a second.
        limit_s: seconds after which waiting ends.
        failure: the error's message then.

    Raises:
        BackupError: it did not hold in time.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise BackupError(failure)
        time.sleep(0.5)
