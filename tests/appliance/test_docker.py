"""The container engine keeps its limits, and published ports are for members only."""

import socket
import time
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from tests.appliance.conftest import Appliance

PORT = 18080


@pytest.fixture(scope="module")
def manager(appliance: Appliance) -> Host:
    return appliance.host("registry")


@pytest.fixture(scope="module")
def card(manager: Host) -> str:
    """The digest of an image of ours that is there."""
    return str(
        manager.check_output("grep -o '[^ ]*/cbm-card@sha256:[0-9a-f]*' /usr/local/bin/cbm-card")
    )


@pytest.fixture
def published(manager: Host, card: str) -> Iterator[int]:
    """A container that publishes a port on all addresses of the manager."""
    serve = f"docker run --detach --rm --name cbm-test-published --publish {PORT}:8000"
    manager.check_output(f"{serve} --entrypoint python {card} -m http.server 8000 --directory /tmp")
    try:
        yield PORT
    finally:
        manager.run("docker rm --force cbm-test-published")


def answers(address: str, port: int) -> bool:
    """Whether a stranger, this machine, gets a connection."""
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True


def test_published_port_is_reached_by_members_and_by_nobody_else(
    appliance: Appliance, published: int
) -> None:
    name = appliance.names("registry")[0]
    address = str(appliance.variables(name)["ansible_host"])
    member = appliance.host("postgis")
    ask = f"python3 -c 'from urllib.request import urlopen as u; u(\"http://{name}:{published}\")'"
    for _ in range(20):
        if member.run(ask).rc == 0:
            break
        time.sleep(0.5)
    else:
        pytest.fail(f"no member reaches {name}:{published}")
    assert answers(address, 22), "this machine reaches the host at all"
    assert not answers(address, published)


def test_containers_gain_no_privileges(manager: Host, card: str) -> None:
    read = "print(open('/proc/self/status').read())"
    status = manager.check_output(f'docker run --rm --entrypoint python {card} -c "{read}"')
    assert "NoNewPrivs:\t1" in status


def test_logs_of_containers_are_bounded(appliance: Appliance) -> None:
    for host in appliance.hosts("docker"):
        assert "Logging Driver: json-file" in host.check_output("docker info")


def test_guard_outlives_a_restart_of_the_firewall(manager: Host) -> None:
    manager.check_output("systemctl restart nftables")
    assert "ct status dnat drop" in manager.check_output("nft list chain inet cbm_docker forward")
    assert "DOCKER-USER" in manager.check_output("iptables --list FORWARD")
