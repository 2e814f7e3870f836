"""The cloud laid beside the state: what belongs, what is kept, left over, missing, half made."""

from typing import Any

from infra.audit import audit, half_made
from infra.cloud import Thing
from infra.state import parse

TYPES = {
    "Port": "openstack:networking/port:Port",
    "Instance": "openstack:compute/instance:Instance",
    "Volume": "openstack:blockstorage/volume:Volume",
    "SecGroupRule": "openstack:networking/secGroupRule:SecGroupRule",
}


def record(kind: str, name: str, known_as: str = "", **outputs: Any) -> dict[str, Any]:
    return {
        "urn": f"urn:pulumi:nl::cbm::{TYPES[kind]}::{name}",
        "type": TYPES[kind],
        "custom": True,
        "id": known_as,
        "inputs": {"name": f"cbm-nl-{name}"},
        "outputs": outputs,
    }


def state(*resources: dict[str, Any], creating: tuple[dict[str, Any], ...] = ()) -> Any:
    pending = [{"type": "creating", "resource": one} for one in creating]
    return parse({"deployment": {"resources": [*resources], "pending_operations": pending}})


def ids(things: Any) -> list[str]:
    return [thing.id for thing in things]


def test_everything_is_in_one_list() -> None:
    known = state(record("Port", "api", "p1"), record("Port", "hub", "p2"))
    things = [
        Thing("Port", "p1", "cbm-nl-api"),
        Thing("Port", "p3", "cbm-nl-stray"),
        Thing("Volume", "v1", "cbm-nl-database", kept=True),
        Thing("Port", "p4", "cbm-nlx-api"),
    ]
    found = audit("nl", things, known)
    assert (ids(found.belongs), ids(found.kept)) == (["p1"], ["v1"])
    assert (ids(found.left_over), ids(found.missing)) == (["p3"], ["p2"])
    assert (ids(found.foreign), found.changed, found.clean) == (["p4"], (), False)


def test_what_was_changed_by_hand_is_said_with_both_values() -> None:
    known = state(
        record("Instance", "api", "s1", flavorName="eo1.small"),
        record("Port", "api", "p1", allSecurityGroupIds=["b", "a"]),
    )
    things = [
        Thing("Instance", "s1", "cbm-nl-api", {"flavorName": "hm.large", "status": "SHUTOFF"}),
        Thing("Port", "p1", "cbm-nl-api", {"allSecurityGroupIds": ["a", "b"]}),
    ]
    assert audit("nl", things, known).changed == (
        "Instance cbm-nl-api (s1): flavorName is hm.large, not eo1.small",
        "Instance cbm-nl-api (s1): status is SHUTOFF, not ACTIVE",
    )


def test_only_what_a_cut_off_run_was_making_counts_as_half_made() -> None:
    known = state(
        record("Port", "hub", "p2"),
        creating=(record("Port", "api"), record("Port", "hub"), record("SecGroupRule", "web")),
    )
    things = [
        Thing("Port", "p1", "cbm-nl-api"),
        Thing("Port", "p2", "cbm-nl-hub"),
        Thing("Port", "p3", "cbm-nl-stray"),
        Thing("SecGroupRule", "r1", "cbm-nl-web"),
        Thing("SecGroupRule", "r2", "default"),
        Thing("Volume", "v1", "cbm-nl-database", kept=True),
    ]
    assert ids(half_made(audit("nl", things, known), known)) == ["p1", "r1"]


def test_a_data_volume_is_never_half_made() -> None:
    known = state(creating=(record("Volume", "database"),))
    things = [Thing("Volume", "v1", "cbm-nl-database", kept=True)]
    assert half_made(audit("nl", things, known), known) == ()
