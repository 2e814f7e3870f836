"""The cloud laid beside the state: what belongs, is kept, left over, missing, or an orphan."""

from typing import Any

import pytest

from infra.cloud import CloudResource
from infra.drift import compare, find_orphans
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


def ids(resources: Any) -> list[str]:
    return [resource.id for resource in resources]


def test_everything_is_in_one_list() -> None:
    known = state(record("Port", "api", "p1"), record("Port", "hub", "p2"))
    resources = [
        CloudResource("Port", "p1", "cbm-nl-api"),
        CloudResource("Port", "p3", "cbm-nl-stray"),
        CloudResource("Volume", "v1", "cbm-nl-database", kept=True),
        CloudResource("Port", "p4", "cbm-nlx-api"),
    ]
    report = compare("nl", resources, known)
    assert (ids(report.owned), ids(report.kept)) == (["p1"], ["v1"])
    assert (ids(report.left_over), ids(report.missing)) == (["p3"], ["p2"])
    assert (ids(report.foreign), report.changed, report.clean) == (["p4"], (), False)


def test_what_was_changed_by_hand_is_said_with_both_values() -> None:
    known = state(
        record("Instance", "api", "s1", flavorName="eo1.small"),
        record("Port", "api", "p1", allSecurityGroupIds=["b", "a"]),
    )
    resources = [
        CloudResource(
            "Instance", "s1", "cbm-nl-api", {"flavorName": "hm.large", "status": "SHUTOFF"}
        ),
        CloudResource("Port", "p1", "cbm-nl-api", {"allSecurityGroupIds": ["a", "b"]}),
    ]
    assert compare("nl", resources, known).changed == (
        "Instance cbm-nl-api (s1): flavorName is hm.large, not eo1.small",
        "Instance cbm-nl-api (s1): status is SHUTOFF, not ACTIVE",
    )


def test_a_thing_half_made_means_that_a_run_was_cut_short() -> None:
    whole = record("Port", "api", "p1")
    assert not state(whole).interrupted
    assert state(whole, record("Port", "hub", "p2") | {"initErrors": ["no answer"]}).interrupted


def test_an_orphan_has_the_stacks_label_where_the_cloud_has_labels() -> None:
    resources = [
        CloudResource("Port", "p1", "cbm-nl-api", label="nl"),
        CloudResource("Port", "p2", "cbm-nl-hub", label="nl"),
        CloudResource("Port", "p3", "cbm-nl-made-by-hand", label=""),
        CloudResource("Port", "p4", "cbm-nl-x", label="nlx"),
        CloudResource("Keypair", "cbm-nl", "cbm-nl"),
        CloudResource("Keypair", "mine", "mine"),
        CloudResource("Volume", "v1", "cbm-nl-database", label="nl", kept=True),
    ]
    report = compare("nl", resources, state(record("Port", "hub", "p2")))
    assert ids(find_orphans("nl", report)) == ["p1", "cbm-nl"]


def test_a_running_stack_that_the_state_does_not_know_is_not_removed() -> None:
    resources = [
        CloudResource("Instance", "s1", "cbm-nl-database", label="nl"),
        CloudResource("VolumeAttach", "s1/v1", "cbm-nl-database", label="nl"),
    ]
    with pytest.raises(InfraError, match=r"cbm-nl-database runs .*PULUMI_BACKEND_URL"):
        remove_orphans(None, "nl", resources, state(), print)  # type: ignore[arg-type]
