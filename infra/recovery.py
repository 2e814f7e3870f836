"""Mending a stack after a run that was cut short: a killed command line, an API that went down.

What was asked for and never heard of again may be in the cloud without the engine's knowing.
Nothing depends on it, as the engine could not go on from there; so it is removed, and made anew.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from openstack.connection import Connection

from infra.audit import audit, orphans
from infra.cloud import Thing, remove, survey
from infra.errors import InfraError
from infra.state import State, pulumi, read

Say = Callable[[str], None]

LOCKED = "locked by"
"""What the engine says when another run holds the stack, or held it when it died."""


def remove_orphans(
    cloud: Connection, stack: str, things: Iterable[Thing], state: State, say: Say
) -> bool:
    """Remove what the engine made and does not know; whether there was any.

    Args:
        cloud: of the stack.
        stack: its name.
        things: what is in the cloud. What another run makes meanwhile must not look like an
            orphan: either there can be none, or these were listed before the state was read.
        state: of the stack.
        say: who is told.

    Raises:
        InfraError: these are no leavings of a run, but a stack that another state knows.
        CloudError: the cloud refused.
    """
    found = orphans(stack, audit(stack, things, state))
    _refuse_a_stack_in_use(stack, found)
    for thing in found:
        say(f"removing {thing.kind} {thing.name} ({thing.id}), left over from a run cut short")
    remove(cloud, found)
    return bool(found)


def _refuse_a_stack_in_use(stack: str, found: Iterable[Thing]) -> None:
    """An unknown server that carries volumes was not left by a run: a run goes on from there."""
    servers = {thing.id: thing.name for thing in found if thing.kind == "Instance"}
    attached = [thing.id.split("/")[0] for thing in found if thing.kind == "VolumeAttach"]
    in_use = sorted({servers[server] for server in attached if server in servers})
    if in_use:
        raise InfraError(
            f"stack {stack}: {', '.join(in_use)} runs with its volumes, but Pulumi's state knows "
            "nothing of it: look whether PULUMI_BACKEND_URL is the right one; if that state is "
            f"lost, `fab sweep --stack {stack}` removes all but data volumes, and `fab up` makes "
            "the rest anew"
        )


def recover(cloud: Connection, stack: str, say: Say) -> None:
    """Make a stack fit for the next run of the engine.

    Raises:
        InfraError: another run is going on, or the cloud or Pulumi refused.
    """
    things = survey(cloud)
    state = read(stack)
    if state.interrupted or audit(stack, things, state).missing:
        say(f"stack {stack}: an earlier run was cut short, or something is gone; mending it")
        _look_again(stack, say)  # which takes the lock: a run that goes on is left in peace
        failed = [one for one in things if one.label == stack and one.facts.get("started") is False]
        if failed:
            say(f"removing {', '.join(one.name for one in failed)}, which never started")
            remove(cloud, failed)
            _look_again(stack, say)
    remove_orphans(cloud, stack, things, state, say)


def _look_again(stack: str, say: Say) -> None:
    """Let the engine know what there is, and forget what it was about to do."""
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
