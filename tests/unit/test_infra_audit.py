"""The cloud laid beside the state: what belongs, is kept, left over, missing, or an orphan."""

from typing import Any

import pytest

from infra.audit import audit, orphans
from infra.cloud import Thing
from infra.errors import InfraError
from infra.recovery import remove_orphans
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


def state(*resources: dict[str, Any]) -> Any:
    return parse({"deployment": {"resources": [*resources]}})


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


def test_a_thing_half_made_means_that_a_run_was_cut_short() -> None:
    whole = record("Port", "api", "p1")
    assert not state(whole).interrupted
    assert state(whole, record("Port", "hub", "p2") | {"initErrors": ["no answer"]}).interrupted


def test_an_orphan_has_the_stacks_label_where_the_cloud_has_labels() -> None:
    things = [
        Thing("Port", "p1", "cbm-nl-api", label="nl"),
        Thing("Port", "p2", "cbm-nl-hub", label="nl"),
        Thing("Port", "p3", "cbm-nl-made-by-hand", label=""),
        Thing("Port", "p4", "cbm-nl-x", label="nlx"),
        Thing("Keypair", "cbm-nl", "cbm-nl"),
        Thing("Keypair", "mine", "mine"),
        Thing("Volume", "v1", "cbm-nl-database", label="nl", kept=True),
    ]
    found = audit("nl", things, state(record("Port", "hub", "p2")))
    assert ids(orphans("nl", found)) == ["p1", "cbm-nl"]


def test_a_running_stack_that_the_state_does_not_know_is_not_removed() -> None:
    things = [
        Thing("Instance", "s1", "cbm-nl-database", label="nl"),
        Thing("VolumeAttach", "s1/v1", "cbm-nl-database", label="nl"),
    ]
    with pytest.raises(InfraError, match=r"cbm-nl-database runs .*PULUMI_BACKEND_URL"):
        remove_orphans(None, "nl", things, state(), print)  # type: ignore[arg-type]
