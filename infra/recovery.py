"""Recovery of a stack after an interrupted run: a killed command line, an API that went down.

A request without an answer may have created a resource that the engine did not record. Nothing
depends on it, as the engine could not go on from there; so it is removed and created again.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from openstack.connection import Connection

from infra.cloud import CloudResource, list_resources, remove
from infra.drift import compare, find_orphans
from infra.errors import InfraError
from infra.state import State, pulumi, read

Report = Callable[[str], None]

LOCKED = "locked by"
"""In the engine's output when another run holds the stack's lock, or left it behind."""


def remove_orphans(
    cloud: Connection, stack: str, resources: Iterable[CloudResource], state: State, report: Report
) -> bool:
    """Remove resources that the engine created and did not record; whether there were any.

    Args:
        cloud: of the stack.
        stack: its name.
        resources: of the project. What another run creates meanwhile must not look like an
            orphan: either there is no other run, or these were listed before the state was read.
        state: of the stack.
        report: receives a line on each step.

    Raises:
        InfraError: these belong to a running stack that another state records.
        CloudError: the cloud refused.
    """
    orphans = find_orphans(stack, compare(stack, resources, state))
    _refuse_stack_in_use(stack, orphans)
    for orphan in orphans:
        report(f"removing {orphan.kind} {orphan.name} ({orphan.id}), left by an interrupted run")
    remove(cloud, orphans)
    return bool(orphans)


def _refuse_stack_in_use(stack: str, orphans: Iterable[CloudResource]) -> None:
    """An unknown server that carries volumes was not left by a run: a run goes on from there."""
    servers = {orphan.id: orphan.name for orphan in orphans if orphan.kind == "Instance"}
    attached = [
        resource.id.split("/")[0] for resource in orphans if resource.kind == "VolumeAttach"
    ]
    in_use = sorted({servers[server] for server in attached if server in servers})
    if in_use:
        raise InfraError(
            f"stack {stack}: {', '.join(in_use)} runs with its volumes, but is not in Pulumi's "
            "state: check whether PULUMI_BACKEND_URL is the right one; if that state is lost, "
            f"`fab sweep --stack {stack}` removes all but data volumes, and `fab up` creates the "
            "rest again"
        )


def recover(cloud: Connection, stack: str, report: Report) -> None:
    """Repair a stack so that the next run of the engine can go on.

    Raises:
        InfraError: another run is going on, or the cloud or Pulumi refused.
    """
    resources = list_resources(cloud)
    state = read(stack)
    if state.interrupted or compare(stack, resources, state).missing:
        report(f"stack {stack}: an earlier run was interrupted, or something is gone; repairing it")
        _refresh(stack, report)  # which takes the lock: a run that goes on is not disturbed
        own = [resource for resource in resources if resource.label == stack]
        failed = [server for server in own if server.properties.get("started") is False]
        if failed:
            names = ", ".join(server.name for server in failed)
            report(f"removing {names}, which never started")
            remove(cloud, failed)
            _refresh(stack, report)
    remove_orphans(cloud, stack, resources, state, report)


def _refresh(stack: str, report: Report) -> None:
    """Update the engine's state from the cloud, and clear its pending operations."""
    command = ("refresh", "--stack", stack, "--yes", "--skip-preview", "--clear-pending-creates")
    try:
        pulumi(*command)
    except InfraError as error:
        if LOCKED not in str(error):
            raise
        drop_dead_locks(stack, str(error), report)
        pulumi(*command)


def drop_dead_locks(stack: str, complaint: str, report: Report) -> None:
    """Drop the locks of runs on this machine that have ended.

    Args:
        stack: its name.
        complaint: the engine's message about the locks.
        report: receives a line on each step.

    Raises:
        InfraError: a run is going on, here or elsewhere.
    """
    holders = re.findall(r"created by \S+@(\S+) \(pid (\d+)\)", complaint)
    if not holders or any(_alive(*holder) for holder in holders):
        raise InfraError(f"stack {stack} is in use by another run: {complaint.strip()}")
    report(f"stack {stack}: dropping the lock of a run that has ended")
    pulumi("cancel", "--stack", stack, "--yes")


def _alive(machine: str, pid: str) -> bool:
    return machine != os.uname().nodename or Path("/proc", pid).exists()
