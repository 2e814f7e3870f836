"""The programs beside this one (cbm-card, cbm-extract, cbm-api), run as their users run them."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from store.errors import CbmError, Fault


class DemoError(CbmError):
    """The demo cannot go on; the message says why in one sentence, and what to do.

    Attributes:
        output: text that a failed program had printed before.
    """

    fault = Fault.WORLD

    def __init__(self, message: str, output: str = "") -> None:
        """The message, and the output if a program failed."""
        super().__init__(message)
        self.output = output


def program(name: str) -> str:
    """The path of a program that is installed beside this Python."""
    return str(Path(sys.executable).parent / name)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Our environment with these settings in place of the caller's libpq and CBM_ ones."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith(("PG", "CBM_"))}
    return kept | dict(settings)


def run(
    command: Sequence[str], settings: Mapping[str, str], stdin: str = "", in_sight: bool = False
) -> str:
    """Run a command to its end and return its standard output.

    Args:
        command: the program and its arguments.
        settings: environment variables for it; passwords go this way, or through stdin.
        stdin: text for its standard input.
        in_sight: let its progress and messages go to our standard error.

    Raises:
        DemoError: it failed; the message is the last line it wrote.
    """
    ran = subprocess.run(  # noqa: S603 - our own programs, no shell
        command,
        env=environment(settings),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=None if in_sight else subprocess.PIPE,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        reason = "failed, see above" if in_sight else last_line(ran.stderr.strip() or ran.stdout)
        raise DemoError(f"{Path(command[0]).name}: {reason}", output=ran.stdout)
    return ran.stdout


def start(
    command: Sequence[str], settings: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own, which outlives us; it writes to a log file."""
    with log.open("wb") as out:
        return subprocess.Popen(  # noqa: S603 - our own programs, no shell
            command,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def last_line(text: str) -> str:
    """The last line of a program's messages: ours end with the sentence that matters."""
    return (text.strip().splitlines() or ["it gave no reason"])[-1].removeprefix("Error: ")
