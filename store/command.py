"""What the command lines of all programs share: errors end in one sentence, logs in one form."""

import logging
import sys
import time
from typing import Any

import click

from store.errors import CbmError, Fault

class Program(click.Group):
    """A click group whose commands end foreseeable errors in a sentence, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a CbmError becomes `Error: what happened` and an exit status."""
        try:
            return super().invoke(ctx)
        except CbmError as error:
            raise _Ended(error) from error


class _Ended(click.ClickException):
    """How click shows a CbmError."""

    def __init__(self, error: CbmError) -> None:
        super().__init__(str(error))
        self.exit_code = 2 if error.fault is Fault.CALLER else 1


def log_to_stderr(verbose: bool = False) -> None:
    """Log one line per event, in UTC, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)sZ level=%(levelname)s logger=%(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
    )
    handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO)
