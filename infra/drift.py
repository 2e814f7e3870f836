"""Difference between what an OpenStack project holds and what Pulumi's state records."""

from collections.abc import Iterable
from dataclasses import dataclass

from infra.cloud import CloudResource
from infra.state import State, StateResource


@dataclass(frozen=True)
class DriftReport:
    """What an OpenStack project holds, seen from one stack.

    Attributes:
        owned: the stack's, in the cloud and in the state.
        kept: volumes and containers of the stack that outlive it, and are not in its state.
        left_over: named as the stack's, but not in its state.
        missing: in the state, but not in the cloud.
        changed: in both; a sentence on each difference.
        foreign: not this stack's.
    """

    owned: tuple[CloudResource, ...]
    kept: tuple[CloudResource, ...]
    left_over: tuple[CloudResource, ...]
    missing: tuple[StateResource, ...]
    changed: tuple[str, ...]
    foreign: tuple[CloudResource, ...]

    @property
    def clean(self) -> bool:
        """Nothing is left over, missing or changed."""
        return not (self.left_over or self.missing or self.changed)


def compare(stack: str, resources: Iterable[CloudResource], state: State) -> DriftReport:
    """The drift of a project from a stack's state."""
    recorded = {(resource.kind, resource.id): resource for resource in state.resources}
    present = {(resource.kind, resource.id): resource for resource in resources}
    unrecorded = [resource for key, resource in present.items() if key not in recorded]
    ours = [resource for resource in unrecorded if resource.belongs_to(stack)]
    both = [key for key in present if key in recorded]
    return DriftReport(
        owned=tuple(present[key] for key in both),
        kept=tuple(resource for resource in ours if resource.kept),
        left_over=tuple(resource for resource in ours if not resource.kept),
        missing=tuple(resource for key, resource in recorded.items() if key not in present),
        changed=tuple(text for key in both for text in _differences(present[key], recorded[key])),
        foreign=tuple(resource for resource in unrecorded if resource not in ours),
    )


def find_orphans(stack: str, drift: DriftReport) -> tuple[CloudResource, ...]:
    """What a run of the engine created without recording it.

    Never a data volume, nor what an operator created by hand: that has the name but not the label.
    """
    return tuple(resource for resource in drift.left_over if resource.label in (stack, None))


def _differences(actual: CloudResource, recorded: StateResource) -> Iterable[str]:
    """A sentence on each property that was changed by hand."""
    for key, value in actual.properties.items():
        expected = "ACTIVE" if key == "status" else recorded.outputs.get(key)
        if expected is not None and _unordered(expected) != _unordered(value):
            yield f"{actual.kind} {actual.name} ({actual.id}): {key} is {value}, not {expected}"


def _unordered(value: object) -> object:
    return sorted(value) if isinstance(value, list) else value
