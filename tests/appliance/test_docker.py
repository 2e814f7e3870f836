"""The container engine keeps its limits, and published ports are for members only."""

import json
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


def test_networks_of_containers_have_the_mtu_of_the_hosts(appliance: Appliance) -> None:
    for name in appliance.names("docker"):
        host, address = appliance.named(name), appliance.variables(name)["cbm_address"]
        links = json.loads(host.check_output("ip -json address"))
        mtu = next(
            link["mtu"]
            for link in links
            if any(entry["local"] == address for entry in link["addr_info"])
        )
        networks = ["bridge", "docker_gwbridge"] if name in appliance.names("swarm") else ["bridge"]
        for network in networks:
            inspect = f"docker network inspect {network} --format '{{{{json .Options}}}}'"
            options = json.loads(host.check_output(inspect))
            assert options["com.docker.network.driver.mtu"] == str(mtu), (name, network)


def test_guard_outlives_a_restart_of_the_firewall(manager: Host) -> None:
    manager.check_output("systemctl restart nftables")
    assert "ct status dnat drop" in manager.check_output("nft list chain inet cbm_docker forward")
    assert "DOCKER-USER" in manager.check_output("iptables --list FORWARD")


def test_docker_inspect_shows_no_secret(appliance: Appliance, manager: Host) -> None:
    """Of the instances and workers, and of the programs of an operator's hands while they run."""
    folder = appliance.inventory.parent / "secrets"
    secrets = {
        path.name: path.read_text().strip()
        for path in folder.iterdir()
        if path.suffix not in (".crt", ".csr")
    }
    # It waits for a password, and gets none.
    waits = "cbm-api users add nobody --password-stdin"
    started = f"systemd-run --quiet --collect --unit=cbm-test-waits sh -c 'sleep 20 | {waits}'"
    manager.check_output(started)
    manager.check_output(
        "timeout 15 sh -c 'until docker ps | grep -q /cbm-app; do sleep 0.3; done'"
    )
    try:
        shown = [
            host.check_output("docker ps --quiet | xargs --no-run-if-empty docker inspect")
            for host in appliance.hosts("docker")
        ]
    finally:
        manager.run("systemctl stop cbm-test-waits")
    shown.append(manager.check_output("docker service ls --quiet | xargs docker service inspect"))
    assert any('"PGUSER=owner"' in text for text in shown)
    assert [name for name, secret in secrets.items() if any(secret in text for text in shown)] == []
    assert manager.check_output("ls /run/cbm-logins") == ""
