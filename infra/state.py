"""Pulumi's state of a stack: resources, and whether a run was interrupted."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import InfraError


@dataclass(frozen=True)
class StateResource:
    """A resource as the state records it.

    Attributes:
        kind: the last part of its type, such as `Instance`.
        id: in the cloud.
        inputs: properties that the program declares, by the SDK's names.
        outputs: properties that the cloud reported, likewise.
    """

    urn: str
    kind: str
    id: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in the cloud; floating IPs carry it in the description."""
        return str(self.inputs.get("name") or self.inputs.get("description") or "")


@dataclass(frozen=True)
class State:
    """A stack's state.

    Attributes:
        resources: those that the engine has created and not deleted.
        interrupted: an earlier run left operations or resources unfinished.
    """

    resources: tuple[StateResource, ...] = ()
    interrupted: bool = False

    @property
    def ids(self) -> frozenset[tuple[str, str]]:
        """Kind and id of every resource."""
        return frozenset((resource.kind, resource.id) for resource in self.resources)


def read(stack: str) -> State:
    """The state of a stack, in whichever backend Pulumi is logged in to.

    Raises:
        InfraError: there is no such stack, or Pulumi cannot read it.
    """
    return parse(json.loads(pulumi("stack", "export", "--stack", stack)))


def parse(export: Mapping[str, Any]) -> State:
    """The state in the output of `pulumi stack export`."""
    deployment = export.get("deployment") or {}
    records = deployment.get("resources") or []
    resources = tuple(
        _resource(record) for record in records if record.get("custom") and record.get("id")
    )
    return State(
        tuple(resource for resource in resources if "pulumi:providers:" not in resource.urn),
        bool(deployment.get("pending_operations"))
        or any(record.get("initErrors") for record in records),
    )


def _resource(record: Mapping[str, Any]) -> StateResource:
    return StateResource(
        record["urn"],
        record["type"].rsplit(":", 1)[-1],
        record.get("id", ""),
        record.get("inputs") or {},
        record.get("outputs") or {},
    )


def pulumi(*arguments: str) -> str:
    """The output of a command of Pulumi's.

    Raises:
        InfraError: it failed, or is not installed.
    """
    try:
        ran = subprocess.run(  # noqa: S603 - Pulumi itself, no shell
            ["pulumi", *arguments, "--non-interactive"],  # noqa: S607 - wherever it is installed
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise InfraError("pulumi is not on PATH: install it with `make tools`") from error
    if ran.returncode != 0:
        reason = (ran.stderr or ran.stdout).strip() or "it gave no reason"
        raise InfraError(f"pulumi {' '.join(arguments[:2])}: {reason}")
    return ran.stdout
