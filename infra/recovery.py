"""Mending a stack after a run that was cut short: a killed command line, a machine that went down.

The engine notes what it is about to make before it makes it. What it noted and never heard of again
may or may not be in the cloud; if it is, nothing depends on it yet, so it is removed and made anew.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from openstack.connection import Connection

from infra.audit import audit, half_made
from infra.cloud import remove, survey
from infra.errors import InfraError
from infra.state import State, pulumi, read

Say = Callable[[str], None]

LOCKED = "locked by"
"""What the engine says when another run holds the stack, or held it when it died."""


def remove_half_made(cloud: Connection, stack: str, state: State, say: Say) -> None:
    """Remove what an interrupted run made and the state does not know.

    Raises:
        CloudError: the cloud refused.
    """
    if not state.pending:
        return
    things = half_made(audit(stack, survey(cloud), state), state)
    for thing in things:
        say(f"removing {thing.kind} {thing.name} ({thing.id}), half made when a run was cut short")
    remove(cloud, things)


def recover(cloud: Connection, stack: str, say: Say) -> None:
    """Make a stack fit for the next run of the engine.

    Raises:
        InfraError: another run is going on, or the cloud or Pulumi refused.
    """
    state = read(stack)
    if state.interrupted:
        say(f"stack {stack}: an earlier run was cut short; mending it")
        _forget_pending(stack, say)  # which takes the lock: a run that goes on is left in peace
        remove_half_made(cloud, stack, state, say)


def _forget_pending(stack: str, say: Say) -> None:
    refresh = ("refresh", "--stack", stack, "--yes", "--skip-preview", "--clear-pending-creates")
    try:
        pulumi(*refresh)
    except InfraError as error:
        if LOCKED not in str(error):
            raise
        drop_dead_locks(stack, str(error), say)
        pulumi(*refresh)


def drop_dead_locks(stack: str, complaint: str, say: Say) -> None:
    """Drop the locks of runs on this machine that are no more.

    Args:
        stack: its name.
        complaint: what the engine said of the locks.
        say: who is told.

    Raises:
        InfraError: a run is going on, here or elsewhere.
    """
    holders = re.findall(r"created by \S+@(\S+) \(pid (\d+)\)", complaint)
    if not holders or any(_alive(*holder) for holder in holders):
        raise InfraError(f"stack {stack} is in use by another run: {complaint.strip()}")
    say(f"stack {stack}: dropping the lock of a run that is no more")
    pulumi("cancel", "--stack", stack, "--yes")


def _alive(machine: str, pid: str) -> bool:
    return machine != os.uname().nodename or Path("/proc", pid).exists()
