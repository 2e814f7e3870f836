"""Laying what is in the cloud beside what Pulumi knows."""

from collections.abc import Iterable
from dataclasses import dataclass

from infra.cloud import Thing
from infra.state import Resource, State


@dataclass(frozen=True)
class Audit:
    """What an OpenStack project holds, seen from one stack.

    Attributes:
        belongs: the stack's, in the cloud and in the state.
        kept: volumes and containers of the stack that outlive it, and are not in its state.
        left_over: named as the stack's, but not in its state.
        missing: in the state, but not in the cloud.
        changed: in both, and a sentence on each difference.
        foreign: not this stack's.
    """

    belongs: tuple[Thing, ...]
    kept: tuple[Thing, ...]
    left_over: tuple[Thing, ...]
    missing: tuple[Resource, ...]
    changed: tuple[str, ...]
    foreign: tuple[Thing, ...]

    @property
    def clean(self) -> bool:
        """Nothing is left over, missing or changed."""
        return not (self.left_over or self.missing or self.changed)


def audit(stack: str, things: Iterable[Thing], state: State) -> Audit:
    """Compare a project with a stack's state."""
    things = tuple(things)
    known = {(resource.kind, resource.id): resource for resource in state.resources}
    there = {(thing.kind, thing.id) for thing in things}
    belongs = tuple(thing for thing in things if (thing.kind, thing.id) in known)
    others = [thing for thing in things if (thing.kind, thing.id) not in known]
    ours = [thing for thing in others if thing.belongs(stack)]
    return Audit(
        belongs,
        tuple(thing for thing in ours if thing.kept),
        tuple(thing for thing in ours if not thing.kept),
        tuple(one for key, one in known.items() if key not in there),
        tuple(d for thing in belongs for d in _differences(thing, known[thing.kind, thing.id])),
        tuple(thing for thing in others if not thing.belongs(stack)),
    )


def orphans(stack: str, found: Audit) -> tuple[Thing, ...]:
    """What a run of the engine made without the engine learning of it.

    Never a data volume, nor what an operator made by hand: that has the name but not the label.
    """
    return tuple(thing for thing in found.left_over if thing.label in (stack, None))


def _differences(thing: Thing, resource: Resource) -> Iterable[str]:
    """What was changed by hand, as sentences."""
    for key, value in thing.facts.items():
        expected = "ACTIVE" if key == "status" else resource.outputs.get(key)
        if isinstance(expected, list):
            expected = sorted(expected)
        if expected is not None and expected != (sorted(value) if _plain(value) else value):
            yield f"{thing.kind} {thing.name} ({thing.id}): {key} is {value}, not {expected}"


def _plain(value: object) -> bool:
    return isinstance(value, list)
