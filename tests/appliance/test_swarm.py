"""One swarm over manager and workers, whose nodes are those of the inventory."""

import json
import re
import socket

import pytest
from testinfra.host import Host

from infra import backlog
from infra.status import read_status, read_task_nodes
from tests.appliance.conftest import Appliance


@pytest.fixture(scope="module")
def manager(appliance: Appliance) -> Host:
    return appliance.host("registry")


def nodes(manager: Host) -> list[tuple[str, str]]:
    """Name and state of each node."""
    ids = manager.check_output("docker node ls --quiet").split()
    known = json.loads(manager.check_output(f"docker node inspect {' '.join(ids)}"))
    return sorted((n["Description"]["Hostname"], n["Status"]["State"]) for n in known)


def test_nodes_are_the_hosts_of_the_inventory(appliance: Appliance, manager: Host) -> None:
    assert nodes(manager) == sorted((name, "ready") for name in appliance.names("swarm"))


def test_nodes_are_labelled_by_kind(appliance: Appliance, manager: Host) -> None:
    for name in appliance.names("swarm"):
        node = json.loads(manager.check_output(f"docker node inspect {name}"))[0]
        kinds = appliance.variables(name)["cbm_kinds"]
        assert isinstance(kinds, list)
        assert node["Spec"]["Labels"] == {f"cbm.{kind}": "true" for kind in kinds}


def test_only_the_manager_manages(appliance: Appliance, manager: Host) -> None:
    for host in appliance.hosts("swarm"):
        manages = "Is Manager: true" in host.check_output("docker info")
        assert manages == (host.check_output("hostname") == manager.check_output("hostname"))


@pytest.mark.parametrize("port", [2377, 7946])
def test_swarm_is_closed_to_strangers(appliance: Appliance, port: int) -> None:
    for name in appliance.names("swarm"):
        address = str(appliance.variables(name)["ansible_host"])
        with pytest.raises(TimeoutError):
            socket.create_connection((address, port), timeout=3)


def test_networks_of_containers_do_not_meet_that_of_the_hosts(manager: Host) -> None:
    network = json.loads(manager.check_output("docker network inspect cbm"))[0]
    assert all(pool["Subnet"].startswith("172.") for pool in network["IPAM"]["Config"])


def test_the_network_over_hosts_leaves_room_for_its_own_headers(
    appliance: Appliance, manager: Host
) -> None:
    links = json.loads(manager.check_output("ip -json link"))
    mtu = next(link["mtu"] for link in links if link["ifname"] == "eth0")
    network = json.loads(manager.check_output("docker network inspect cbm"))[0]
    assert network["Options"]["com.docker.network.driver.mtu"] == str(mtu)
    worker = appliance.named(appliance.names("swarm")[-1])
    inside = "docker ps --quiet --filter name=cbm_extraction | head -1"
    read = f"docker exec $({inside}) sh -c 'cat /sys/class/net/eth*/mtu'"
    assert str(mtu - 50) in worker.check_output(read).split()


def test_the_status_lists_nodes_tasks_and_the_api_with_digests(appliance: Appliance) -> None:
    tables = {table.title: table for table in read_status(appliance.inventory.parent)}
    nodes_of_swarm, services, tasks, containers = tables.values()
    assert [row[0] for row in nodes_of_swarm.rows] == sorted(appliance.names("swarm"))
    (extraction,) = services.rows
    assert extraction[0] == "cbm_extraction"
    assert re.fullmatch(r"cbm-extraction@[0-9a-f]{12}", extraction[2])
    assert all(row[2] == "running" for row in tasks.rows)
    assert [row[0] for row in containers.rows] == ["cbm-api-8000", "cbm-api-8001"]
    assert all(re.fullmatch(r"cbm-app@[0-9a-f]{12}", row[1]) for row in containers.rows)


def test_the_backlog_is_read_and_a_claim_is_placed_on_its_workers_host(
    appliance: Appliance,
) -> None:
    folder = appliance.inventory.parent
    sample = backlog.read_sample(folder, workers=1)
    assert sample.queues.keys() == set(backlog.QUEUES)
    assert set(sample.busy) <= set(appliance.names("swarm"))
    for host in appliance.hosts("swarm"):
        for container in host.check_output("docker ps -q --filter name=cbm_extraction").split():
            holder = f"{host.check_output(f'docker exec {container} hostname')}:1"
            placed = backlog.place_holders([holder], read_task_nodes(folder))
            assert placed == ((host.check_output("hostname"),), 0)


@pytest.mark.parametrize("who", ["", "db", "manager", "nobody"])
def test_only_workers_may_leave(appliance: Appliance, manager: Host, who: str) -> None:
    before = nodes(manager)
    with pytest.raises(AssertionError, match="Those that can leave"):
        appliance.play("leave.yml", "-e", f"remove={who}")
    assert nodes(manager) == before


@pytest.mark.full
def test_a_worker_that_left_may_come_again(appliance: Appliance, manager: Host) -> None:
    whole, leaving = nodes(manager), appliance.names("swarm")[-1]
    appliance.play("leave.yml", "-e", f"remove={leaving}")
    assert nodes(manager) == [node for node in whole if node[0] != leaving]
    appliance.play("scale.yml")
    assert nodes(manager) == whole
