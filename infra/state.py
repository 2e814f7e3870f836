"""What Pulumi's engine knows of a stack: resources, outputs, what an interrupted run left."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.errors import InfraError


@dataclass(frozen=True)
class Resource:
    """A resource of the cloud in the state.

    Attributes:
        kind: the last part of its type, such as `Instance`.
        id: in the cloud.
        inputs: what the program asked for, by the SDK's property names.
        outputs: what the cloud made of it, likewise.
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
        resources: those that are in the cloud as far as the engine knows.
        outputs: the stack's outputs.
        interrupted: an earlier run left operations unfinished, or things half made.
    """

    resources: tuple[Resource, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
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
    """The state that `pulumi stack export` printed."""
    deployment = export.get("deployment") or {}
    everything = deployment.get("resources") or []
    resources = tuple(_resource(one) for one in everything if one.get("custom") and one.get("id"))
    stack: Mapping[str, Any] = next(
        (one for one in everything if one["type"] == "pulumi:pulumi:Stack"), {}
    )
    return State(
        tuple(one for one in resources if one.urn.count("pulumi:providers:") == 0),
        stack.get("outputs") or {},
        bool(deployment.get("pending_operations"))
        or any(one.get("initErrors") for one in everything),
    )


def _resource(record: Mapping[str, Any]) -> Resource:
    return Resource(
        record["urn"],
        record["type"].rsplit(":", 1)[-1],
        record.get("id", ""),
        record.get("inputs") or {},
        record.get("outputs") or {},
    )


def pulumi(*arguments: str) -> str:
    """Run Pulumi's command line and return what it printed.

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
        said = (ran.stderr or ran.stdout).strip() or "it gave no reason"
        raise InfraError(f"pulumi {' '.join(arguments[:2])}: {said}")
    return ran.stdout
