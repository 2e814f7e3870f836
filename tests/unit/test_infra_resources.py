"""What the program declares, seen by the engine's mocks: names, labels, and what is kept."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pytest
from pulumi.runtime import Mocks, mocks

from infra import layout, settings
from infra.appliance import Appliance
from infra.preflight import CloudLookup, ExistingVolume
from tests.unit.infra_examples import example

COMPONENT = "cbm:infra:"


class Recorder(Mocks):
    """Takes every resource as it is requested."""

    def __init__(self) -> None:
        self.requested: list[mocks.MockResourceArgs] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.requested.append(args)
        return args.resource_id or f"id-of-{args.name}", dict(args.inputs)

    def call(self, args: mocks.MockCallArgs) -> Mapping[str, Any]:
        raise AssertionError("the program looks nothing up through the engine")


def declared(name: str, there: dict[str, ExistingVolume]) -> list[mocks.MockResourceArgs]:
    """All resources of an example."""
    recorder = Recorder()
    mocks.set_mocks(recorder, project="cbm", stack=name)
    wanted = settings.validate(name, example(name))

    @pulumi.runtime.test
    def program() -> pulumi.Output[Any]:
        lookup = CloudLookup("external-id", "eodata-id", there, "image-id")
        appliance = Appliance(wanted, layout.hosts(wanted), lookup)
        return pulumi.Output.from_input(appliance.outputs(wanted))

    program()
    return [one for one in recorder.requested if not one.typ.startswith(COMPONENT)]


@pytest.fixture(scope="module")
def large() -> list[mocks.MockResourceArgs]:
    return declared("nl", {"cbm-nl-database": ExistingVolume("old-volume", 300, recorded=False)})


def test_every_name_in_the_cloud_is_fixed_and_the_stacks(
    large: list[mocks.MockResourceArgs],
) -> None:
    nameless = ("SecGroupRule", "RouterInterface", "VolumeAttach", "FloatingIp")
    names = [(one.typ, one.inputs["name"]) for one in large if not one.typ.endswith(nameless)]
    assert len(names) == len(set(names))
    for _, name in names:
        assert name == "cbm-nl" or name.startswith("cbm-nl-")


def test_everything_carries_the_stack(large: list[mocks.MockResourceArgs]) -> None:
    for one in large:
        labels = str([one.inputs.get(key) for key in ("tags", "metadata", "description", "name")])
        if not one.typ.endswith(("RouterInterface", "VolumeAttach")):
            assert "nl" in labels, one


def test_data_volumes_are_marked_and_those_there_are_taken_in_again(
    large: list[mocks.MockResourceArgs],
) -> None:
    volumes = {one.inputs["name"]: one for one in large if one.typ.endswith(":Volume")}
    kept = {name for name, one in volumes.items() if "cbm_kept" in one.inputs["metadata"]}
    assert kept == {"cbm-nl-database", "cbm-nl-backup"}
    assert volumes["cbm-nl-database"].resource_id == "old-volume"
    assert not volumes["cbm-nl-backup"].resource_id


def test_user_data_has_the_public_key_and_no_other_secret(
    large: list[mocks.MockResourceArgs],
) -> None:
    servers = [one for one in large if one.typ.endswith(":Instance")]
    assert len(servers) == 6
    for one in servers:
        text = one.inputs["userData"]
        assert text.startswith("#cloud-config\n")
        assert "AAAAC3NzaC1lZDI1NTE5" in text
        assert not any(word in text.lower() for word in ("private key", "token", "secret"))


def test_those_who_read_scenes_are_on_the_data_network(
    large: list[mocks.MockResourceArgs],
) -> None:
    ports = [one for one in large if one.typ.endswith(":Port")]
    eodata = [one.inputs["name"] for one in ports if one.inputs["networkId"] == "eodata-id"]
    assert sorted(eodata) == [
        f"cbm-nl-{host}-eodata" for host in ("api", "manager", "worker-1", "worker-2")
    ]
