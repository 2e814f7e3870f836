"""One swarm over manager and workers, whose nodes are those of the inventory."""

import json
import socket

import pytest
from testinfra.host import Host

from tests.appliance.conftest import Appliance


@pytest.fixture(scope="module")
def manager(appliance: Appliance) -> Host:
    return appliance.host("registry")


def test_nodes_are_the_hosts_of_the_inventory(appliance: Appliance, manager: Host) -> None:
    lines = manager.check_output("docker node ls --format '{{.Hostname}} {{.Status}}'").splitlines()
    assert sorted(lines) == sorted(f"{name} Ready" for name in appliance.names("swarm"))


def test_nodes_are_labelled_by_kind(appliance: Appliance, manager: Host) -> None:
    for name in appliance.names("swarm"):
        text = manager.check_output(
            f"docker node inspect --format '{{{{json .Spec.Labels}}}}' {name}"
        )
        kinds = appliance.variables(name)["cbm_kinds"]
        assert isinstance(kinds, list)
        assert json.loads(text) == {f"cbm.{kind}": "true" for kind in kinds}


def test_only_the_manager_manages(appliance: Appliance, manager: Host) -> None:
    for host in appliance.hosts("swarm"):
        managing = host.check_output("docker info --format '{{.Swarm.ControlAvailable}}'")
        assert (
            managing
            == str(host.check_output("hostname") == manager.check_output("hostname")).lower()
        )


@pytest.mark.parametrize("port", [2377, 7946])
def test_swarm_is_closed_to_strangers(appliance: Appliance, port: int) -> None:
    for name in appliance.names("swarm"):
        with pytest.raises(OSError):
            address = str(appliance.variables(name)["ansible_host"])
            socket.create_connection((address, port), timeout=3)


def test_networks_of_containers_do_not_meet_that_of_the_hosts(manager: Host) -> None:
    subnet = manager.check_output(
        "docker network inspect --format '{{(index .IPAM.Config 0).Subnet}}' cbm"
    )
    assert subnet.startswith("172.")
