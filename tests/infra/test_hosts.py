"""A stack of real hosts: Ansible reaches them, and what is shut is shut."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.beds.openstack.places import proxy_address
from tests.infra.project import Project
from tests.infra.stack import CommandResult, Stack, until

STACK = "mt"
LISTEN = "python3 -m http.server 5432 --bind 0.0.0.0 --directory /tmp"


@pytest.fixture(scope="module")
def stack(
    new_stack: Callable[..., Stack], small: dict[str, Any], operator_agent: None
) -> Iterator[Stack]:
    """The small example and a worker on real hosts, up, with its inventory."""
    worker = {"kinds": ["worker"], "flavor": "eo1.small"}
    manager = small["hosts"]["manager"] | {"kinds": ["manager"]}
    hosts = small["hosts"] | {"manager": manager, "worker": worker}
    here = [f"{proxy_address()}/32"]
    stack = new_stack(
        STACK, small | {"availability_zone": "hosts", "hosts": hosts, "operators": here}
    )
    stack.up()
    stack.fab("inventory", "--stack", STACK)
    yield stack
    stack.destroy()


def ansible(stack: Stack, hosts: str, *arguments: str) -> CommandResult:
    return stack.run("ansible", "-i", f"inventory/{STACK}/hosts.yml", hosts, *arguments)


def remote_output(stack: Stack, host: str, command: str) -> str:
    """What a command on one host prints, by ssh with the generated configuration."""
    ran = stack.run("ssh", "-F", f"inventory/{STACK}/ssh_config", host, command)
    return ran.output.strip().splitlines()[-1] if ran.output.strip() else ""


def reaches(stack: Stack, source: str, address: str, port: int) -> bool:
    command = f"timeout 3 bash -c '</dev/tcp/{address}/{port}' 2>/dev/null && echo yes || echo no"
    return remote_output(stack, source, command) == "yes"


def test_ansible_pings_every_host_through_the_bastion(stack: Stack):
    ran = ansible(stack, "all", "-m", "wait_for_connection", "-a", "timeout=120")
    assert ran.code == 0, ran.output
    hosts = len(stack.outputs()["hosts"])
    for ran in (
        stack.printed("infra/README.md", "ansible -i"),
        ansible(stack, "all", "-m", "ping", "--become"),
    ):
        assert ran.output.count("SUCCESS") == hosts == 4, ran.output


def test_the_operators_own_known_hosts_is_left_alone(stack: Stack):
    assert "ssh-ed25519" in (stack.folder / f"inventory/{STACK}/known_hosts").read_text()
    own = Path.home() / ".ssh/known_hosts"
    ids = [host["id"] for host in stack.outputs()["hosts"]]
    assert not own.exists() or not any(known in own.read_text() for known in ids)


def test_only_the_bastion_answers_ssh_from_outside(stack: Stack):
    hosts = {host["name"]: host for host in stack.outputs()["hosts"]}
    for name, host in hosts.items():
        if host["public_address"]:
            command = f"</dev/tcp/{host['public_address']}/22"
            ran = subprocess.run(["timeout", "3", "bash", "-c", command], check=False)
            assert (ran.returncode == 0) == host["bastion"], name


def test_the_database_port_answers_members_and_nobody_else(stack: Stack, project: Project):
    database = next(host for host in stack.outputs()["hosts"] if "database" in host["kinds"])
    ansible(stack, database["name"], "--become", "-a", f"systemd-run --unit listen {LISTEN}")
    assert reaches(stack, "cbm-mt-worker-1", database["address"], 5432)
    assert reaches(stack, "cbm-mt-api", database["address"], 5432)
    network = project.cloud.network
    port = next(network.ports(name="cbm-mt-worker-1"))
    member = port.security_group_ids
    bastion = next(network.security_groups(name="cbm-mt-bastion"))
    stranger = next(network.security_groups(name="default"))
    ssh_only = _ssh_only(project, stranger.id, bastion.id)
    network.update_port(port, security_group_ids=[stranger.id])
    try:
        # A cloud applies it soon after it has answered.
        until(lambda: not reaches(stack, "cbm-mt-worker-1", database["address"], 5432))
        assert remote_output(stack, "cbm-mt-worker-1", "echo here") == "here"
    finally:
        network.update_port(port, security_group_ids=member)
        network.delete_security_group_rule(ssh_only)


def _ssh_only(project: Project, group: str, source: str) -> str:
    """A rule that lets the bastion log in to a host that is no member."""
    rule = project.cloud.network.create_security_group_rule(
        security_group_id=group,
        direction="ingress",
        protocol="tcp",
        port_range_min=22,
        port_range_max=22,
        remote_group_id=source,
    )
    return rule.id


def test_the_data_volumes_are_where_the_inventory_says(stack: Stack):
    listed = stack.run("ansible-inventory", "-i", f"inventory/{STACK}/hosts.yml", "--list").output
    variables = json.loads(listed[listed.index("{") :])["_meta"]["hostvars"]
    volumes = variables["cbm-mt-database"]["cbm_volumes"]
    assert volumes.keys() == {"database", "backup"}
    for volume in volumes.values():
        size = remote_output(
            stack, "cbm-mt-database", f"sudo blockdev --getsize64 {volume['device']}"
        )
        assert int(size) == volume["size_gb"] * 2**30


def test_new_workers_are_greeted_and_what_the_operator_set_stays(stack: Stack):
    variables = stack.folder / f"inventory/{STACK}/group_vars/all.yml"
    variables.parent.mkdir()
    variables.write_text("---\nswarm_endpoint_mode: dnsrr\n")
    fewer = ("--workers 8", "--workers 2")
    ran = stack.printed("infra/README.md", "fab scale --stack", fewer)
    assert "cbm-mt-worker-2 | SUCCESS" in ran.output
    assert "cbm-mt-worker-1 | SUCCESS" not in ran.output
    assert "ansible-playbook" not in ran.output, "site.yml was not played here"
    mode = ansible(stack, "cbm-mt-worker-2", "-m", "debug", "-a", "var=swarm_endpoint_mode")
    assert '"swarm_endpoint_mode": "dnsrr"' in mode.output
    stack.printed("infra/README.md", "fab down-workers")
    assert {host["name"] for host in stack.outputs()["hosts"]} == {
        "cbm-mt-api",
        "cbm-mt-database",
        "cbm-mt-manager",
    }


@pytest.mark.full
def test_what_stands_on_a_data_volume_in_use_outlives_its_server(stack: Stack, project: Project):
    outputs = stack.outputs()["hosts"]
    volume = next(h for h in outputs if "database" in h["kinds"])["volumes"]["database"]
    device = f"/dev/disk/by-id/virtio-{volume['id'][:20]}"
    mount = f"sudo mount {device} /mnt"
    made = f"sudo mkfs.ext4 -q {device} && {mount} && echo kept | sudo tee /mnt/mark && sync"
    assert remote_output(stack, "cbm-mt-database", made) == "kept"
    used = "sudo systemd-run --quiet --unit use --working-directory /mnt sleep infinity"
    assert remote_output(stack, "cbm-mt-database", f"{used} && echo used") == "used"
    stack.destroy()
    assert {one.status for one in project.cloud.block_storage.volumes()} == {"available"}
    stack.printed("README.md", "fab up")
    assert ansible(stack, "cbm-mt-database", "-m", "wait_for_connection").code == 0
    assert remote_output(stack, "cbm-mt-database", f"{mount} && cat /mnt/mark") == "kept"
