"""Asking the cloud, before anything is made, whether it can take what the configuration wants.

All that is amiss is told at once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openstack.connection import Connection

from infra import layout
from infra.cloud import Thing, answering
from infra.errors import RefusedError
from infra.layout import Host
from infra.openings import openings
from infra.settings import Settings
from infra.state import State

EGRESS_RULES = 2
"""The rules a new security group has from the start, for IPv4 and IPv6."""


@dataclass(frozen=True)
class VolumeThere:
    """A volume of the stack that is in the cloud; `known` if it is in the engine's state too."""

    id: str
    size_gb: int
    known: bool


@dataclass(frozen=True)
class Found:
    """What the cloud has of what the configuration names.

    Attributes:
        external_id: id of the network that floating IPs come from.
        eodata_id: id of the provider's data network, if one is configured.
        volumes: the stack's volumes that are there already, by name.
        failed: names of the stack's servers that never started.
    """

    external_id: str
    eodata_id: str | None
    volumes: Mapping[str, VolumeThere]
    failed: frozenset[str] = frozenset()


def check(cloud: Connection, settings: Settings, things: Iterable[Thing], state: State) -> Found:
    """Look for all that the configuration names, and for room for all that it wants.

    Args:
        cloud: to ask.
        settings: of the stack.
        things: what is in the cloud.
        state: of the stack.

    Raises:
        RefusedError: with everything that is missing, exceeded or contradictory.
        CloudError: the cloud could not be asked.
    """
    with answering():
        mine = [thing for thing in things if thing.belongs(settings.stack)]
        flavors = {flavor.name: flavor for flavor in cloud.compute.flavors()}
        networks = {network.name: network for network in cloud.network.networks()}
        problems = [
            *_flavors(settings, flavors),
            *_images(cloud, settings),
            *_networks(settings, networks),
            *_zones(cloud, settings),
            *_volume_types(cloud, settings),
            *_bucket(cloud, settings),
            *_kept(settings, mine),
            *exceeded(needs(settings, flavors), held(mine, flavors), _free(cloud)),
        ]
    if problems:
        raise RefusedError(f"stack {settings.stack} does not fit this cloud", problems)
    eodata = settings.network.eodata
    return Found(
        networks[settings.network.external].id,
        networks[eodata].id if eodata else None,
        {
            one.name: VolumeThere(one.id, one.facts["size"], known)
            for one in mine
            if one.kind == "Volume" and ((known := ("Volume", one.id) in state.ids) or one.kept)
        },
        frozenset(one.name for one in mine if one.facts.get("started") is False),
    )


def _unknown(key: str, name: str, known: Iterable[str]) -> str:
    return f"{key}: this cloud has no {name!r}; there are {', '.join(sorted(known)) or 'none'}"


def _flavors(settings: Settings, flavors: Mapping[str, Any]) -> Iterator[str]:
    for pool in settings.pools:
        if pool.flavor not in flavors:
            yield _unknown(f"hosts.{pool.name}.flavor", pool.flavor, flavors)


def _images(cloud: Connection, settings: Settings) -> Iterator[str]:
    active = Counter(image.name for image in cloud.image.images(status="active"))
    if settings.image not in active:
        yield _unknown("image", settings.image, active)
    elif active[settings.image] > 1:
        yield f"image: {active[settings.image]} images are called {settings.image!r}; name one"


def _networks(settings: Settings, networks: Mapping[str, Any]) -> Iterator[str]:
    external = {name for name, network in networks.items() if network.is_router_external}
    if settings.network.external not in external:
        yield _unknown("network.external", settings.network.external, external)
    eodata = settings.network.eodata
    if eodata and eodata not in networks.keys() - external:
        yield _unknown("network.eodata", eodata, networks.keys() - external)


def _zones(cloud: Connection, settings: Settings) -> Iterator[str]:
    asked: tuple[tuple[str, str | None, Any], ...] = (
        ("availability_zone", settings.zone, cloud.compute),
        ("volume_zone", settings.volume_zone, cloud.block_storage),
    )
    for key, zone, service in asked:
        if zone:
            names = {one.name for one in service.availability_zones()}
            if zone not in names:
                yield _unknown(key, zone, names - {"internal"})


def _volume_types(cloud: Connection, settings: Settings) -> Iterator[str]:
    types = {one.name for one in cloud.block_storage.types()}
    for name, disk in settings.disks.items():
        if disk.type and disk.type not in types:
            yield _unknown(f"volumes.{name}.type", disk.type, types)


def _bucket(cloud: Connection, settings: Settings) -> Iterator[str]:
    if settings.bucket and not cloud.has_service("object-store"):
        yield "bucket: this cloud has no object store; take the key out, or use another cloud"


def _kept(settings: Settings, mine: Iterable[Thing]) -> Iterator[str]:
    """What the volumes of an earlier up do not allow: they are data, and are never made anew."""
    there = [thing for thing in mine if thing.kind == "Volume" and thing.kept]
    for host in layout.hosts(settings):
        for volume in host.volumes:
            found = [one for one in there if one.name == f"{settings.prefix}-{volume.name}"]
            for one in found if volume.kept else []:
                yield from _unlike(volume, one)
            if len(found) > 1:
                ids = ", ".join(one.id for one in found)
                yield f"volumes.{volume.duty}: {ids} are all called {found[0].name}; rename others"


def _unlike(volume: layout.Volume, found: Thing) -> Iterator[str]:
    key, size, kind = f"volumes.{volume.duty}", found.facts["size"], found.facts["volumeType"]
    if volume.disk.size_gb < size:
        yield f"{key}.size_gb: {found.name} has {size} GB and cannot shrink; give {size} or more"
    if volume.disk.type and volume.disk.type != kind:
        yield (
            f"{key}.type: {found.name} is of type {kind}, with data; give {kind}, or change the "
            f"volume first: openstack volume set --type {volume.disk.type} "
            f"--retype-policy on-demand {found.id}"
        )


def needs(settings: Settings, flavors: Mapping[str, Any]) -> Counter[str]:
    """What a stack takes of each quota.

    Args:
        settings: of the stack.
        flavors: by name, with `vcpus` and `ram` (MB); hosts of others count as hosts only.
    """
    hosts = layout.hosts(settings)
    known = [flavors[host.flavor] for host in hosts if host.flavor in flavors]
    volumes = [volume for host in hosts for volume in host.volumes]
    groups_of_servers = Counter(host.apart for host in hosts if host.apart)
    rules = openings(settings)
    groups = {rule.group for rule in rules}
    return Counter(
        {
            "instances": len(hosts),
            "cores": sum(flavor.vcpus for flavor in known),
            "ram (MB)": sum(flavor.ram for flavor in known),
            "server groups": len(groups_of_servers),
            "servers in a server group": max(groups_of_servers.values(), default=0),
            "volumes": len(volumes),
            "gigabytes": sum(volume.disk.size_gb for volume in volumes),
            "networks": 1,
            "subnets": 1,
            "routers": 1,
            "ports": _ports(hosts),
            "floating IPs": sum(host.public for host in hosts),
            "security groups": len(groups),
            "security group rules": len(rules) + EGRESS_RULES * len(groups),
        }
    )


def _ports(hosts: Iterable[Host]) -> int:
    """One per host and network, and the router's."""
    return 1 + sum(2 if host.eodata else 1 for host in hosts)


_QUOTA_OF: Mapping[str, str] = {
    "Instance": "instances",
    "ServerGroup": "server groups",
    "Volume": "volumes",
    "Network": "networks",
    "Subnet": "subnets",
    "Router": "routers",
    "Port": "ports",
    "RouterInterface": "ports",
    "FloatingIp": "floating IPs",
    "SecGroup": "security groups",
    "SecGroupRule": "security group rules",
}


def held(mine: Iterable[Thing], flavors: Mapping[str, Any]) -> Counter[str]:
    """What a stack's things in the cloud take of each quota already."""
    total: Counter[str] = Counter()
    for thing in mine:
        if thing.kind in _QUOTA_OF:
            total[_QUOTA_OF[thing.kind]] += 1
        if thing.kind == "Volume":
            total["gigabytes"] += thing.facts["size"]
        if thing.kind == "SecGroup":
            total["security group rules"] += EGRESS_RULES
        flavor = flavors.get(thing.facts.get("flavorName", ""))
        if flavor:
            total["cores"] += flavor.vcpus
            total["ram (MB)"] += flavor.ram
    return total


def exceeded(
    needed: Mapping[str, int], has: Mapping[str, int], free: Mapping[str, tuple[int, int]]
) -> list[str]:
    """Sentences on the quotas that do not suffice.

    Args:
        needed: by quota, for the whole stack.
        has: what the stack has of that already.
        free: by quota, what is free and what the limit is; no entry where there is none.
    """
    sentences = []
    for quota, (left, limit) in free.items():
        more = needed[quota] - has.get(quota, 0)
        if more > max(left, 0):
            sentences.append(
                f"quota of {quota}: {more} more are needed, {max(left, 0)} of {limit} are free; "
                f"ask the provider for {more - max(left, 0)} more, or configure less"
            )
    return sentences


def _free(cloud: Connection) -> dict[str, tuple[int, int]]:
    """What is free of each quota and its limit; quotas without limit are left out."""
    compute = cloud.compute.get_limits().absolute
    volumes = cloud.block_storage.get_limits().absolute
    network = cloud.network.get_quota(str(cloud.current_project_id), details=True)
    limits = {
        "instances": (compute.instances, compute.instances_used),
        "cores": (compute.total_cores, compute.total_cores_used),
        "ram (MB)": (compute.total_ram, compute.total_ram_used),
        "server groups": (compute.server_groups, compute.server_groups_used),
        "servers in a server group": (compute.server_group_members, 0),
        "volumes": (volumes.max_total_volumes, volumes.total_volumes_used),
        "gigabytes": (volumes.max_total_volume_gigabytes, volumes.total_gigabytes_used),
        **{name: _network_quota(detail) for name, detail in _details(network)},
    }
    return {quota: (limit - used, limit) for quota, (limit, used) in limits.items() if limit >= 0}


def _details(quota: Any) -> Iterable[tuple[str, Mapping[str, int]]]:
    return (
        ("networks", quota.networks),
        ("subnets", quota.subnets),
        ("routers", quota.routers),
        ("ports", quota.ports),
        ("floating IPs", quota.floating_ips),
        ("security groups", quota.security_groups),
        ("security group rules", quota.security_group_rules),
    )


def _network_quota(detail: Mapping[str, int]) -> tuple[int, int]:
    return detail["limit"], int(detail["used"]) + int(detail["reserved"])
