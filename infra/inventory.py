"""A stack's outputs, as Ansible and ssh read them: `python -m infra.inventory STACK`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from infra.bootstrap import USER
from infra.errors import InfraError
from infra.kinds import groups
from infra.state import pulumi

FOLDER = Path("inventory")
"""Where the folders of stacks are, from the project's root."""

_HEAD = "# Made from the stack's outputs; `make inventory STACK={stack}` makes it anew.\n"


def inventory(appliance: Mapping[str, Any]) -> dict[str, Any]:
    """The inventory of a stack: a group per role.

    Args:
        appliance: the stack's output of that name.
    """
    hosts = appliance["hosts"]
    members: dict[str, dict[str, Any]] = {}
    for host in hosts:
        for group in groups(tuple(host["kinds"])):
            members.setdefault(group, {"hosts": {}})["hosts"][host["name"]] = {}
    return {
        "all": {
            "vars": _shared(appliance),
            "hosts": {host["name"]: _variables(host) for host in hosts},
            "children": members,
        }
    }


def _shared(appliance: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ansible_user": USER,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": '-F "{{ inventory_dir }}/ssh_config"',
        "cbm_stack": appliance["stack"],
        "cbm_domain": appliance["domain"] or "",
        "cbm_bucket": appliance["bucket"] or "",
    }


def _variables(host: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ansible_host": host["name"],
        "cbm_address": host["address"],
        "cbm_public_address": host["public_address"],
        "cbm_kinds": host["kinds"],
        "cbm_flavor": host["flavor"],
        "cbm_server_id": host["id"],
        "cbm_volumes": {
            duty: {**volume, "device": device(volume["id"])}
            for duty, volume in host["volumes"].items()
        },
    }


def device(volume_id: str) -> str:
    """Where a volume appears on its host, whatever the order of attachments.

    virtio's serial number is the first 20 characters of the volume's id.
    """
    return f"/dev/disk/by-id/virtio-{volume_id[:20]}"


def ssh_config(appliance: Mapping[str, Any], known_hosts: Path, identity: str | None = None) -> str:
    """How ssh reaches the hosts of a stack, all through the bastion.

    A host is known by its server's id: a server made anew at an old address is a new host to ssh.

    Args:
        appliance: the stack's output of that name.
        known_hosts: absolute path of the file of their keys; the operator's own is left alone.
        identity: path of the private key; what ssh tries by itself without.
    """
    bastion = next(host["name"] for host in appliance["hosts"] if host["bastion"])
    blocks = [_block(host, bastion) for host in appliance["hosts"]]
    shared = [
        f"Host {appliance_names(appliance)}",
        f"  User {USER}",
        f'  UserKnownHostsFile "{known_hosts}"',
        "  StrictHostKeyChecking accept-new",
        "  ServerAliveInterval 10",
        "  ControlPersist 60s",
        *([f"  IdentityFile {identity}", "  IdentitiesOnly yes"] if identity else []),
    ]
    return "\n\n".join([*blocks, "\n".join(shared)]) + "\n"


def appliance_names(appliance: Mapping[str, Any]) -> str:
    """The names of all hosts, as a line of ssh's configuration wants them."""
    return " ".join(host["name"] for host in appliance["hosts"])


def _block(host: Mapping[str, Any], bastion: str) -> str:
    lines = [f"Host {host['name']}", f"  HostKeyAlias {host['id']}"]
    if host["bastion"]:
        return "\n".join([*lines, f"  HostName {host['public_address']}"])
    return "\n".join([*lines, f"  HostName {host['address']}", f"  ProxyJump {bastion}"])


def write(stack: str, identity: str | None = None) -> Path:
    """Write hosts.yml and ssh_config of a stack; returns their folder.

    Raises:
        InfraError: the stack has no outputs, or Pulumi cannot read them.
    """
    outputs = json.loads(pulumi("stack", "output", "--json", "--stack", stack))
    if "appliance" not in outputs:
        raise InfraError(f"stack {stack} has no hosts: run `fab up --stack {stack}` first")
    folder = FOLDER / stack
    folder.mkdir(parents=True, exist_ok=True)
    appliance, head = outputs["appliance"], _HEAD.format(stack=stack)
    hosts = yaml.safe_dump(inventory(appliance), sort_keys=False)
    (folder / "hosts.yml").write_text(f"{head}---\n{hosts}")
    known_hosts = folder.resolve() / "known_hosts"
    (folder / "ssh_config").write_text(head + ssh_config(appliance, known_hosts, identity))
    return folder


def hosts(stack: str) -> set[str]:
    """The hosts that the inventory of a stack names; none if it was not written yet."""
    path = FOLDER / stack / "hosts.yml"
    return set(yaml.safe_load(path.read_text())["all"]["hosts"]) if path.exists() else set()


@click.command()
@click.argument("stack")
@click.option("--identity", help="Private key to log in with, if ssh would not find it itself.")
def main(stack: str, identity: str | None) -> None:
    """Write inventory/STACK/hosts.yml and inventory/STACK/ssh_config from the stack's outputs."""
    try:
        click.echo(f"wrote {write(stack, identity)}/hosts.yml and ssh_config")
    except InfraError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
