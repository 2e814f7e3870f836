"""Command lines of all programs: errors end in one sentence, logs have one form."""

import logging
import sys
import time
from typing import Any

import click

from store.errors import CbmError, Fault


class CliGroup(click.Group):
    """A click group whose commands end foreseeable errors in a sentence, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a CbmError becomes `Error: what happened` and an exit status."""
        try:
            return super().invoke(ctx)
        except CbmError as error:
            shown = _CallersFault if error.fault is Fault.CALLER else click.ClickException
            raise shown(str(error)) from error


class _CallersFault(click.ClickException):
    """Ends with status 2, as wrong usage does; everything else ends with 1."""

    exit_code = 2


def log_to_stderr(verbose: bool = False) -> None:
    """Log one line per event, in UTC, to standard error."""
    form = logging.Formatter(
        "%(asctime)sZ level=%(levelname)s logger=%(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    form.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO)
