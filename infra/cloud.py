"""What is in the OpenStack project, by its own API (openstacksdk): the truth beside Pulumi's state.

Things carry Pulumi's names of kinds and properties, so that both lists can be laid side by side.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keystoneauth1.exceptions
import openstack
import openstack.config
from openstack.connection import Connection
from openstack.exceptions import ConfigException, NotFoundException, SDKException

from infra.errors import CloudError
from infra.settings import prefix

STACK_KEY = "cbm_stack"
"""The metadata key with the stack's name, on servers, volumes and containers."""

KEPT_KEY = "cbm_kept"
"""The metadata key of volumes that outlive the stack."""


@dataclass(frozen=True)
class Thing:
    """Something in the cloud.

    Attributes:
        kind: as Pulumi calls it, such as `Instance`.
        id: as Pulumi's provider builds it.
        name: its name; of a floating IP the description; of a rule that of its security group.
        facts: what may be compared with Pulumi's state, by property.
        made: when, as the API says it (ISO 8601, UTC), where it says so.
        kept: it is a volume that outlives the stack.
        label: the stack that its metadata or description names; None where the API has neither.
    """

    kind: str
    id: str
    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    made: str = ""
    kept: bool = False
    label: str | None = None

    def belongs(self, stack: str) -> bool:
        """Whether its name is one of this stack's."""
        return self.name == prefix(stack) or self.name.startswith(f"{prefix(stack)}-")


def described(stack: str) -> str:
    """The description of a stack's things, which tells them from what an operator made by hand."""
    return f"CbM appliance, stack {stack}"


def _label(description: str | None) -> str:
    found = re.match(described(r"(\w+)"), description or "")
    return found[1] if found else ""


@contextmanager
def answering() -> Iterator[None]:
    """Turn what openstacksdk raises into a sentence.

    Raises:
        CloudError: OpenStack refused or did not answer.
    """
    try:
        yield
    except ConfigException as error:
        raise CloudError(
            f"no OpenStack credentials: {error}; set OS_CLOUD to a name in clouds.yaml, or OS_*"
        ) from error
    except (keystoneauth1.exceptions.ClientException, SDKException) as error:
        raise CloudError(
            f"OpenStack: {error}; look at OS_CLOUD, clouds.yaml, OS_*, and whether the API is up"
        ) from error


@contextmanager
def connected() -> Iterator[Connection]:
    """A connection to the project that clouds.yaml and OS_* name.

    Raises:
        CloudError: there is none, or it refused, or stopped to answer.
    """
    with answering():
        cloud = openstack.connect()
        cloud.authorize()
        yield cloud


def survey(cloud: Connection) -> tuple[Thing, ...]:
    """Everything of the project that we know how to make, whoever made it."""
    volumes = {volume.id: volume for volume in _volumes(cloud)}
    return (
        *_compute(cloud, volumes),
        *volumes.values(),
        *_network(cloud),
        *_security(cloud),
        *_containers(cloud),
    )


def _compute(cloud: Connection, volumes: Mapping[str, Thing]) -> Iterator[Thing]:
    for one in cloud.compute.servers():
        facts = {
            "flavorName": one.flavor["original_name"],
            "status": _status(one),
            "started": one.status != "ERROR" or one.launched_at is not None,
        }
        label = one.metadata.get(STACK_KEY, "")
        yield Thing("Instance", one.id, one.name, facts, one.created_at, label=label)
        for volume in (attached["id"] for attached in one.attached_volumes):
            label = volumes[volume].label if volume in volumes else ""
            yield Thing("VolumeAttach", f"{one.id}/{volume}", one.name, label=label)
    for group in cloud.compute.server_groups():
        yield Thing("ServerGroup", group.id, group.name)
    for key in cloud.compute.keypairs():
        yield Thing("Keypair", key.name, key.name)


def _status(server: Any) -> str:
    """A server's status, with what nova says of a failure."""
    fault = (server.fault or {}).get("message")
    return f"{server.status} ({fault})" if server.status == "ERROR" and fault else server.status


def _volumes(cloud: Connection) -> Iterator[Thing]:
    for one in cloud.block_storage.volumes():
        facts = {"size": one.size, "volumeType": one.volume_type, "metadata": dict(one.metadata)}
        kept, label = KEPT_KEY in one.metadata, one.metadata.get(STACK_KEY, "")
        yield Thing("Volume", one.id, one.name, facts, one.created_at, kept, label)


def _network(cloud: Connection) -> Iterator[Thing]:
    project = {"project_id": cloud.current_project_id}
    for network in cloud.network.networks(**project):
        yield Thing("Network", network.id, network.name, label=_label(network.description))
    subnets = {subnet.id: _subnet(subnet) for subnet in cloud.network.subnets(**project)}
    yield from subnets.values()
    routers = {router.id: router for router in cloud.network.routers(**project)}
    for router in routers.values():
        facts = {"externalNetworkId": (router.external_gateway_info or {}).get("network_id", "")}
        yield Thing("Router", router.id, router.name, facts, label=_label(router.description))
    for port in cloud.network.ports(**project):
        if port.device_id in routers and port.device_owner == "network:router_interface":
            subnet = subnets.get(port.fixed_ips[0]["subnet_id"])
            label = subnet.label if subnet else ""
            yield Thing("RouterInterface", port.id, routers[port.device_id].name, label=label)
        elif not port.device_owner.startswith("network:"):
            yield _port(port)
    for ip in cloud.network.ips(**project):
        facts = {"portId": ip.port_id or "", "address": ip.floating_ip_address}
        yield Thing("FloatingIp", ip.id, ip.description, facts, made=ip.created_at)


def _subnet(subnet: Any) -> Thing:
    facts = {"cidr": subnet.cidr, "dnsNameservers": subnet.dns_nameservers}
    return Thing("Subnet", subnet.id, subnet.name, facts, label=_label(subnet.description))


def _port(port: Any) -> Thing:
    addresses = sorted(ip["ip_address"] for ip in port.fixed_ips)
    facts = {"allFixedIps": addresses, "allSecurityGroupIds": sorted(port.security_group_ids)}
    return Thing("Port", port.id, port.name, facts, label=_label(port.description))


def _security(cloud: Connection) -> Iterator[Thing]:
    for group in cloud.network.security_groups(project_id=cloud.current_project_id):
        yield Thing("SecGroup", group.id, group.name, label=_label(group.description))
        for rule in group.security_group_rules:
            if rule["direction"] == "ingress" or rule["remote_ip_prefix"]:
                label = _label(rule["description"])
                yield Thing("SecGroupRule", rule["id"], group.name, _rule(rule), label=label)


def _rule(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "protocol": rule["protocol"] or "",
        "portRangeMin": rule["port_range_min"] or 0,
        "portRangeMax": rule["port_range_max"] or 0,
        "remoteIpPrefix": rule["remote_ip_prefix"] or "",
        "remoteGroupId": rule["remote_group_id"] or "",
    }


def _containers(cloud: Connection) -> Iterator[Thing]:
    if cloud.has_service("object-store"):
        for one in cloud.object_store.containers():
            yield Thing("Container", one.name, one.name, kept=True)


def remove(cloud: Connection, things: Iterable[Thing]) -> None:
    """Remove things from the cloud, those that others hold last. What is gone already is no error.

    Raises:
        CloudError: the cloud refused one.
    """
    with answering():
        for thing in sorted(things, key=lambda one: REMOVAL_ORDER.index(one.kind)):
            _remove(cloud, thing)


REMOVAL_ORDER = (
    "VolumeAttach",
    "FloatingIp",
    "Instance",
    "Volume",
    "RouterInterface",
    "Port",
    "Router",
    "Subnet",
    "Network",
    "SecGroupRule",
    "SecGroup",
    "ServerGroup",
    "Keypair",
)


def _remove(cloud: Connection, thing: Thing) -> None:
    network, compute = cloud.network, cloud.compute
    simple: Mapping[str, Callable[[str], object]] = {
        "FloatingIp": network.delete_ip,
        "Port": network.delete_port,
        "Router": network.delete_router,
        "Subnet": network.delete_subnet,
        "Network": network.delete_network,
        "SecGroupRule": network.delete_security_group_rule,
        "SecGroup": network.delete_security_group,
        "ServerGroup": compute.delete_server_group,
        "Keypair": compute.delete_keypair,
    }
    if thing.kind in simple:
        simple[thing.kind](thing.id)
    elif thing.kind == "Instance":
        cloud.delete_server(thing.id, wait=True)
    elif thing.kind == "Volume":
        cloud.delete_volume(thing.id, wait=True)
    elif thing.kind == "VolumeAttach":
        _detach(cloud, *thing.id.split("/"))
    elif thing.kind == "RouterInterface":
        cloud.remove_router_interface(_router(cloud, thing.id), port_id=thing.id)


def _router(cloud: Connection, port: str) -> Any:
    return cloud.network.get_router(cloud.network.get_port(port).device_id)


def _detach(cloud: Connection, server: str, volume: str) -> None:
    try:
        cloud.compute.delete_volume_attachment(server, volume)
    except NotFoundException:
        return
    cloud.block_storage.wait_for_status(
        cloud.block_storage.get_volume(volume), "available", interval=1, wait=120
    )
