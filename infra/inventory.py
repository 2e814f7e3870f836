"""Inventory for Ansible and ssh from a stack's outputs: `python -m infra.inventory STACK`."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.bootstrap import USER
from infra.errors import InfraError
from infra.kinds import inventory_groups
from infra.state import pulumi

FOLDER = Path("inventory")
"""The folders of stacks, from the project's root."""

_HEAD = "# From the stack's outputs; `make inventory STACK={stack}` writes it again.\n"


class VolumeOutput(BaseModel):
    """A volume of the stack, attached to its host."""

    model_config = ConfigDict(frozen=True)
    id: str
    size_gb: int
    kept: bool


class HostOutput(BaseModel):
    """A host of the stack, as Pulumi created it."""

    model_config = ConfigDict(frozen=True)
    name: str
    id: str
    kinds: tuple[str, ...]
    flavor: str
    address: IPv4Address
    public_address: IPv4Address | None
    bastion: bool
    volumes: Mapping[str, VolumeOutput]


class StackOutput(BaseModel):
    """The stack's output `appliance`."""

    model_config = ConfigDict(frozen=True)
    stack: str
    domain: str | None
    bucket: str | None
    hosts: tuple[HostOutput, ...]


def build_inventory(output: StackOutput) -> dict[str, Any]:
    """The inventory of a stack: a group per role."""
    members: dict[str, dict[str, Any]] = {}
    for host in output.hosts:
        for group in inventory_groups(host.kinds):
            members.setdefault(group, {"hosts": {}})["hosts"][host.name] = {}
    return {
        "all": {
            "vars": {
                **_login_variables(output.stack, "ssh_config"),
                "cbm_domain": output.domain or "",
                "cbm_bucket": output.bucket or "",
            },
            "hosts": {host.name: _host_variables(host) for host in output.hosts},
            "children": members,
        }
    }


def _login_variables(stack: str, ssh_config: str) -> dict[str, str]:
    return {
        "ansible_user": USER,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": f'-F "{{{{ inventory_dir }}}}/{ssh_config}"',
        "cbm_stack": stack,
    }


def _host_variables(host: HostOutput) -> dict[str, Any]:
    return {
        "ansible_host": host.name,
        "cbm_address": str(host.address),
        "cbm_public_address": str(host.public_address) if host.public_address else None,
        "cbm_kinds": list(host.kinds),
        "cbm_flavor": host.flavor,
        "cbm_server_id": host.id,
        "cbm_volumes": {
            duty: {**volume.model_dump(), "device": device_path(volume.id)}
            for duty, volume in host.volumes.items()
        },
    }


def device_path(volume_id: str) -> str:
    """The path of a volume on its host, whatever the order of attachments.

    virtio's serial number is the first 20 characters of the volume's id.
    """
    return f"/dev/disk/by-id/virtio-{volume_id[:20]}"


def build_ssh_config(output: StackOutput, known_hosts: Path, identity: str | None = None) -> str:
    """The ssh configuration that reaches all hosts of a stack through the bastion.

    A host key belongs to a server's id: a replaced server at the same address is a new host.

    Args:
        output: of the stack.
        known_hosts: absolute path of the file of host keys; the operator's own is not used.
        identity: path of the private key; by default ssh's own search.
    """
    bastion = next(host.name for host in output.hosts if host.bastion)
    blocks = [_host_block(host, bastion) for host in output.hosts]
    shared = [
        f"Host {' '.join(host.name for host in output.hosts)}",
        f"  User {USER}",
        f'  UserKnownHostsFile "{known_hosts}"',
        "  StrictHostKeyChecking accept-new",
        "  ServerAliveInterval 10",
        "  ControlPersist 60s",
        *([f"  IdentityFile {identity}", "  IdentitiesOnly yes"] if identity else []),
    ]
    return "\n\n".join([*blocks, "\n".join(shared)]) + "\n"


def _host_block(host: HostOutput, bastion: str) -> str:
    lines = [f"Host {host.name}", f"  HostKeyAlias {host.id}"]
    if host.bastion:
        return "\n".join([*lines, f"  HostName {host.public_address}"])
    return "\n".join([*lines, f"  HostName {host.address}", f"  ProxyJump {bastion}"])


@contextmanager
def written_builder(stack: str, host: str, address: str, server_id: str) -> Iterator[Path]:
    """The inventory of an image's builder, beside that of the stack; removed at the end.

    So the operator's variables are its own, and ssh reaches it through the stack's bastion.

    Raises:
        InfraError: the stack has no inventory.
    """
    folder = FOLDER / stack
    known = folder / "ssh_config"
    if not known.exists():
        raise InfraError(f"{known} is missing: run `fab inventory --stack {stack}` first")
    bastion = list_groups(folder)["registry"][0]
    common = known.read_text().rpartition("\n\n")[2].partition("\n")[2]
    block = f"Host {host}\n  HostKeyAlias {server_id}\n  HostName {address}\n"
    config, hosts = folder / "builder.ssh_config", folder / "builder.yml"
    config.write_text(f"{known.read_text()}\n{block}  ProxyJump {bastion}\n{common}")
    variables = {"ansible_host": host, "cbm_address": address, "cbm_volumes": {}}
    shared = _login_variables(stack, config.name)
    group = {"hosts": {host: None}}
    whole = {"all": {"vars": shared, "hosts": {host: variables}, "children": {"builder": group}}}
    hosts.write_text(f"---\n{yaml.safe_dump(whole, sort_keys=False)}")
    try:
        yield hosts
    finally:
        config.unlink(missing_ok=True)
        hosts.unlink(missing_ok=True)


def write(stack: str, identity: str | None = None) -> Path:
    """Write hosts.yml and ssh_config of a stack; returns their folder.

    Raises:
        InfraError: the stack has no outputs, or Pulumi cannot read them.
    """
    outputs = json.loads(pulumi("stack", "output", "--json", "--stack", stack))
    if "appliance" not in outputs:
        raise InfraError(f"stack {stack} has no hosts: run `fab up --stack {stack}` first")
    try:
        output = StackOutput.model_validate(outputs["appliance"])
    except ValidationError as error:
        raise InfraError(
            f"stack {stack} was created by another release: run `fab up --stack {stack}` ({error})"
        ) from error
    folder = FOLDER / stack
    folder.mkdir(parents=True, exist_ok=True)
    head = _HEAD.format(stack=stack)
    hosts = yaml.safe_dump(build_inventory(output), sort_keys=False)
    (folder / "hosts.yml").write_text(f"{head}---\n{hosts}")
    known_hosts = folder.resolve() / "known_hosts"
    (folder / "ssh_config").write_text(head + build_ssh_config(output, known_hosts, identity))
    return folder


def list_groups(folder: Path) -> dict[str, list[str]]:
    """The hosts in each group of an inventory.

    Raises:
        InfraError: it has not been written yet.
    """
    path = folder / "hosts.yml"
    if not path.exists():
        raise InfraError(f"{path} is missing: run `fab inventory --stack {folder.name}` first")
    children = yaml.safe_load(path.read_text())["all"]["children"]
    return {group: list(members["hosts"]) for group, members in children.items()}


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
