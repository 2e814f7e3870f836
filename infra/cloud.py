"""Resources of the OpenStack project, listed and removed through its own API (openstacksdk).

They carry Pulumi's names of kinds and properties, so that they can be compared with its state.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import keystoneauth1.exceptions
import openstack
import openstack.config
from openstack.connection import Connection
from openstack.exceptions import ConfigException, NotFoundException, SDKException

from infra.errors import CloudError
from infra.settings import prefix

STACK_KEY = "cbm_stack"
"""The metadata key with the stack's name, on servers and volumes."""

BUCKET_KEY = "cbm-stack"
"""The same on containers: metadata are headers there, and servers drop headers with underscores."""

KEPT_KEY = "cbm_kept"
"""The metadata key of volumes that outlive the stack."""


@dataclass(frozen=True)
class CloudResource:
    """A resource of the cloud, as its API lists it.

    Attributes:
        kind: as Pulumi calls it, such as `Instance`.
        id: as Pulumi's provider builds it.
        name: its name; of a floating IP the description; of a rule that of its security group.
        properties: those that may be compared with Pulumi's state, by property.
        created_at: ISO 8601, UTC; empty where the API has none.
        kept: it is a volume that outlives the stack.
        label: the stack that its metadata or description names; None where the API has neither.
    """

    kind: str
    id: str
    name: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = ""
    kept: bool = False
    label: str | None = None

    def belongs_to(self, stack: str) -> bool:
        """Whether its name is one of this stack's; a bucket, whose name is free, has its label."""
        if self.kind == "Container":
            return self.label == stack
        return self.name == prefix(stack) or self.name.startswith(f"{prefix(stack)}-")


@dataclass(frozen=True)
class ServerUsage:
    """A server as the cloud's usage records have it: its name, flavor, and hours in a period."""

    name: str
    flavor: str
    hours: float


def stack_description(stack: str) -> str:
    """The description of a stack's resources; what an operator created by hand lacks it."""
    return f"CbM appliance, stack {stack}"


def _label(description: str | None) -> str:
    found = re.match(stack_description(r"(\w+)"), description or "")
    return found[1] if found else ""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn errors of openstacksdk into a sentence.

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
def connect() -> Iterator[Connection]:
    """A connection to the project that clouds.yaml and OS_* name.

    Raises:
        CloudError: there is none, or it refused, or stopped to answer.
    """
    with translate_errors():
        cloud = openstack.connect()
        cloud.authorize()
        yield cloud


def list_resources(cloud: Connection) -> tuple[CloudResource, ...]:
    """All resources of the project of the kinds that this program creates, by anybody."""
    volumes = {volume.id: volume for volume in _volumes(cloud)}
    return (
        *_compute(cloud, volumes),
        *volumes.values(),
        *_network(cloud),
        *_security(cloud),
        *_containers(cloud),
    )


def _compute(cloud: Connection, volumes: Mapping[str, CloudResource]) -> Iterator[CloudResource]:
    for server in cloud.compute.servers():
        properties = {
            "flavorName": server.flavor["original_name"],
            "status": _status(server),
            "started": server.status != "ERROR" or server.launched_at is not None,
        }
        label = server.metadata.get(STACK_KEY, "")
        yield CloudResource(
            "Instance", server.id, server.name, properties, server.created_at, label=label
        )
        for volume in (attached["id"] for attached in server.attached_volumes):
            label = volumes[volume].label if volume in volumes else ""
            yield CloudResource("VolumeAttach", f"{server.id}/{volume}", server.name, label=label)
    for group in cloud.compute.server_groups():
        yield CloudResource("ServerGroup", group.id, group.name)
    for key in cloud.compute.keypairs():
        yield CloudResource("Keypair", key.name, key.name)


def _status(server: Any) -> str:
    """A server's status, with what nova says of a failure."""
    fault = (server.fault or {}).get("message")
    return f"{server.status} ({fault})" if server.status == "ERROR" and fault else server.status


def _volumes(cloud: Connection) -> Iterator[CloudResource]:
    for volume in cloud.block_storage.volumes():
        metadata = dict(volume.metadata)
        properties = {"size": volume.size, "volumeType": volume.volume_type, "metadata": metadata}
        yield CloudResource(
            "Volume",
            volume.id,
            volume.name,
            properties,
            volume.created_at,
            kept=KEPT_KEY in metadata,
            label=metadata.get(STACK_KEY, ""),
        )


def _network(cloud: Connection) -> Iterator[CloudResource]:
    project = {"project_id": cloud.current_project_id}
    for network in cloud.network.networks(**project):
        yield CloudResource("Network", network.id, network.name, label=_label(network.description))
    subnets = {subnet.id: _subnet(subnet) for subnet in cloud.network.subnets(**project)}
    yield from subnets.values()
    routers = {router.id: router for router in cloud.network.routers(**project)}
    for router in routers.values():
        properties = {
            "externalNetworkId": (router.external_gateway_info or {}).get("network_id", "")
        }
        yield CloudResource(
            "Router", router.id, router.name, properties, label=_label(router.description)
        )
    for port in cloud.network.ports(**project):
        if port.device_id in routers and port.device_owner == "network:router_interface":
            subnet = subnets.get(port.fixed_ips[0]["subnet_id"])
            label = subnet.label if subnet else ""
            yield CloudResource(
                "RouterInterface", port.id, routers[port.device_id].name, label=label
            )
        elif not port.device_owner.startswith("network:"):
            yield _port(port)
    for ip in cloud.network.ips(**project):
        properties = {"portId": ip.port_id or "", "address": ip.floating_ip_address}
        yield CloudResource(
            "FloatingIp", ip.id, ip.description, properties, created_at=ip.created_at
        )


def _subnet(subnet: Any) -> CloudResource:
    properties = {"cidr": subnet.cidr, "dnsNameservers": subnet.dns_nameservers}
    return CloudResource(
        "Subnet", subnet.id, subnet.name, properties, label=_label(subnet.description)
    )


def _port(port: Any) -> CloudResource:
    addresses = sorted(ip["ip_address"] for ip in port.fixed_ips)
    properties = {"allFixedIps": addresses, "allSecurityGroupIds": sorted(port.security_group_ids)}
    return CloudResource("Port", port.id, port.name, properties, label=_label(port.description))


def _security(cloud: Connection) -> Iterator[CloudResource]:
    for group in cloud.network.security_groups(project_id=cloud.current_project_id):
        yield CloudResource("SecGroup", group.id, group.name, label=_label(group.description))
        for rule in group.security_group_rules:
            if rule["direction"] == "ingress" or rule["remote_ip_prefix"]:
                label = _label(rule["description"])
                yield CloudResource(
                    "SecGroupRule", rule["id"], group.name, _rule(rule), label=label
                )


def _rule(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "protocol": rule["protocol"] or "",
        "portRangeMin": rule["port_range_min"] or 0,
        "portRangeMax": rule["port_range_max"] or 0,
        "remoteIpPrefix": rule["remote_ip_prefix"] or "",
        "remoteGroupId": rule["remote_group_id"] or "",
    }


def list_usage(cloud: Connection, stack: str, since: datetime) -> tuple[ServerUsage, ...]:
    """The use of a stack's servers since a moment, of those that are gone as well."""
    usage = cloud.compute.get_usage(
        str(cloud.current_project_id),
        start=since.astimezone(UTC).replace(tzinfo=None),
        end=datetime.now(UTC).replace(tzinfo=None),
    )
    own = f"{prefix(stack)}-"
    return tuple(
        ServerUsage(server["name"], server["flavor"], float(server["hours"]))
        for server in usage.server_usages or ()
        if server["name"].startswith(own)
    )


def _containers(cloud: Connection) -> Iterator[CloudResource]:
    if cloud.has_service("object-store"):
        for container in cloud.object_store.containers():
            name = container.name
            metadata = cloud.object_store.get_container_metadata(name).metadata
            label = {key.lower(): value for key, value in metadata.items()}.get(BUCKET_KEY, "")
            yield CloudResource("Container", name, name, kept=True, label=label)


def remove(cloud: Connection, resources: Iterable[CloudResource]) -> None:
    """Remove resources from the cloud, dependants first; a missing resource is no error.

    Raises:
        CloudError: the cloud refused a removal.
    """
    with translate_errors():
        for resource in sorted(resources, key=lambda resource: REMOVAL_ORDER.index(resource.kind)):
            _remove(cloud, resource)


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
    "Container",
)


def _remove(cloud: Connection, resource: CloudResource) -> None:
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
    if resource.kind in simple:
        simple[resource.kind](resource.id)
    elif resource.kind == "Instance":
        cloud.delete_server(resource.id, wait=True)
    elif resource.kind == "Volume":
        cloud.delete_volume(resource.id, wait=True)
    elif resource.kind == "VolumeAttach":
        _detach(cloud, *resource.id.split("/"))
    elif resource.kind == "Container":
        _empty(cloud, resource.id)
        cloud.object_store.delete_container(resource.id)
    elif resource.kind == "RouterInterface":
        router = network.get_router(network.get_port(resource.id).device_id)
        cloud.remove_router_interface(router, port_id=resource.id)


def _empty(cloud: Connection, container: str) -> None:
    for found in cloud.object_store.objects(container):
        cloud.object_store.delete_object(found.name, container=container)


def _detach(cloud: Connection, server: str, volume: str) -> None:
    try:
        cloud.compute.delete_volume_attachment(server, volume)
    except NotFoundException:
        return
    cloud.block_storage.wait_for_status(
        cloud.block_storage.get_volume(volume), "available", interval=1, wait=120
    )
