"""Check, before anything is created, that the cloud has room for a configuration.

All problems are reported at once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openstack.connection import Connection

from infra import images, layout
from infra.cloud import CloudResource, translate_errors
from infra.errors import RefusedError
from infra.firewall import ingress_rules
from infra.layout import HostLayout
from infra.settings import PREPARED, StackSettings
from infra.state import State

EGRESS_RULES = 2
"""The rules a new security group has from the start, for IPv4 and IPv6."""


@dataclass(frozen=True)
class ExistingVolume:
    """A volume of the stack in the cloud; `recorded` if it is in the engine's state too."""

    id: str
    size_gb: int
    recorded: bool


@dataclass(frozen=True)
class CloudLookup:
    """Resources of the cloud that the configuration names.

    Attributes:
        external_id: id of the network that floating IPs come from.
        eodata_id: id of the provider's data network, if one is configured.
        volumes: the stack's volumes that exist already, by name.
        image_id: id of the image of new hosts.
        failed: names of the stack's servers that never started.
        remarks: a sentence each on what is not as the settings would have it.
    """

    external_id: str
    eodata_id: str | None
    volumes: Mapping[str, ExistingVolume]
    image_id: str
    failed: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()


def check(
    cloud: Connection, settings: StackSettings, resources: Iterable[CloudResource], state: State
) -> CloudLookup:
    """Look up all that the configuration names, and check the quotas.

    Args:
        cloud: connection to the project.
        settings: of the stack.
        resources: of the project.
        state: of the stack.

    Raises:
        RefusedError: with everything that is missing, exceeded or contradictory.
        CloudError: the cloud did not answer.
    """
    with translate_errors():
        mine = [resource for resource in resources if resource.belongs_to(settings.stack)]
        flavors = {flavor.name: flavor for flavor in cloud.compute.flavors()}
        networks = {network.name: network for network in cloud.network.networks()}
        bases = list(cloud.image.images(status="active"))
        problems = [
            *_flavors(settings, flavors),
            *_images(bases, settings),
            *_networks(settings, networks),
            *_zones(cloud, settings),
            *_volume_types(cloud, settings),
            *_bucket(cloud, settings),
            *_kept(settings, mine),
            *exceeded(needs(settings, flavors), allocated(mine, flavors), _free(cloud)),
        ]
    if problems:
        raise RefusedError(f"stack {settings.stack} does not fit this cloud", problems)
    eodata = settings.network.eodata
    image_id, remarks = _choose_image(cloud, bases, settings)
    return CloudLookup(
        networks[settings.network.external].id,
        networks[eodata].id if eodata else None,
        _existing_volumes(mine, state),
        image_id,
        frozenset(own.name for own in mine if own.properties.get("started") is False),
        remarks,
    )


def _choose_image(
    cloud: Connection, bases: Iterable[Any], settings: StackSettings
) -> tuple[str, tuple[str, ...]]:
    """The id of the image of new hosts, and a remark if it is not a prepared one."""
    base = next(image.id for image in bases if image.name == settings.base)
    if settings.image != PREPARED:
        return base, ()
    release = images.release_tag()
    with translate_errors():
        fitting = images.find_fitting(images.list_prepared(cloud), base, release)
    if fitting:
        return fitting.id, ()
    remark = (
        f"image: no prepared image of {settings.base} and release {release}; new hosts begin with "
        f"{settings.base}, until `fab image --stack {settings.stack}` has made one"
    )
    return base, (remark,)


def _existing_volumes(mine: Iterable[CloudResource], state: State) -> dict[str, ExistingVolume]:
    volumes = [(own, ("Volume", own.id) in state.ids) for own in mine if own.kind == "Volume"]
    return {
        volume.name: ExistingVolume(volume.id, volume.properties["size"], recorded)
        for volume, recorded in volumes
        if recorded or volume.kept
    }


def _unknown(key: str, name: str, known: Iterable[str]) -> str:
    return f"{key}: this cloud has no {name!r}; there are {', '.join(sorted(known)) or 'none'}"


def _flavors(settings: StackSettings, flavors: Mapping[str, Any]) -> Iterator[str]:
    for name, pool in settings.hosts.items():
        if pool.flavor not in flavors:
            yield _unknown(f"hosts.{name}.flavor", pool.flavor, flavors)


def _images(bases: Iterable[Any], settings: StackSettings) -> Iterator[str]:
    active = Counter(image.name for image in bases)
    key = "base_image" if settings.image == PREPARED else "image"
    if settings.base not in active:
        yield _unknown(key, settings.base, active)
    elif active[settings.base] > 1:
        yield f"{key}: {active[settings.base]} images are called {settings.base!r}; name one"


def _networks(settings: StackSettings, networks: Mapping[str, Any]) -> Iterator[str]:
    external = {name for name, network in networks.items() if network.is_router_external}
    if settings.network.external not in external:
        yield _unknown("network.external", settings.network.external, external)
    eodata = settings.network.eodata
    if eodata and eodata not in networks.keys() - external:
        yield _unknown("network.eodata", eodata, networks.keys() - external)


def _zones(cloud: Connection, settings: StackSettings) -> Iterator[str]:
    zones: tuple[tuple[str, str | None, Any], ...] = (
        ("availability_zone", settings.availability_zone, cloud.compute),
        ("volume_zone", settings.volume_zone, cloud.block_storage),
    )
    for key, zone, service in zones:
        if zone:
            names = {known.name for known in service.availability_zones()}
            if zone not in names:
                yield _unknown(key, zone, names - {"internal"})


def _volume_types(cloud: Connection, settings: StackSettings) -> Iterator[str]:
    types = {known.name for known in cloud.block_storage.types()}
    for name, disk in settings.disks.items():
        if disk.type and disk.type not in types:
            yield _unknown(f"volumes.{name}.type", disk.type, types)


def _bucket(cloud: Connection, settings: StackSettings) -> Iterator[str]:
    if settings.bucket and not cloud.has_service("object-store"):
        yield "bucket: this cloud has no object store; take the key out, or use another cloud"


def _kept(settings: StackSettings, mine: Iterable[CloudResource]) -> Iterator[str]:
    """What the volumes of an earlier up do not allow: they are data, and are never replaced."""
    kept = [resource for resource in mine if resource.kind == "Volume" and resource.kept]
    for host in layout.hosts(settings):
        for volume in host.volumes:
            named = [own for own in kept if own.name == f"{settings.prefix}-{volume.name}"]
            for existing in named if volume.kept else []:
                yield from _incompatible(volume, existing)
            if len(named) > 1:
                ids = ", ".join(own.id for own in named)
                yield f"volumes.{volume.duty}: {ids} are all called {named[0].name}; rename others"


def _incompatible(volume: layout.HostVolume, existing: CloudResource) -> Iterator[str]:
    key = f"volumes.{volume.duty}"
    size, kind = existing.properties["size"], existing.properties["volumeType"]
    if volume.spec.size_gb < size:
        yield f"{key}.size_gb: {existing.name} has {size} GB and cannot shrink; give {size} or more"
    if volume.spec.type and volume.spec.type != kind:
        yield (
            f"{key}.type: {existing.name} is of type {kind}, with data; give {kind}, or change the "
            f"volume first: openstack volume set --type {volume.spec.type} "
            f"--retype-policy on-demand {existing.id}"
        )


def needs(settings: StackSettings, flavors: Mapping[str, Any]) -> Counter[str]:
    """The amount of each quota that a stack takes.

    Args:
        settings: of the stack.
        flavors: by name, with `vcpus` and `ram` (MB); hosts of others count as hosts only.
    """
    hosts = layout.hosts(settings)
    known = [flavors[host.flavor] for host in hosts if host.flavor in flavors]
    volumes = [volume for host in hosts for volume in host.volumes]
    groups_of_servers = Counter(host.apart for host in hosts if host.apart)
    rules = ingress_rules(settings)
    groups = {rule.group for rule in rules}
    return Counter(
        {
            "instances": len(hosts),
            "cores": sum(flavor.vcpus for flavor in known),
            "ram (MB)": sum(flavor.ram for flavor in known),
            "server groups": len(groups_of_servers),
            "servers in a server group": max(groups_of_servers.values(), default=0),
            "volumes": len(volumes),
            "gigabytes": sum(volume.spec.size_gb for volume in volumes),
            "networks": 1,
            "subnets": 1,
            "routers": 1,
            "ports": _ports(hosts),
            "floating IPs": sum(host.public for host in hosts),
            "security groups": len(groups),
            "security group rules": len(rules) + EGRESS_RULES * len(groups),
        }
    )


def _ports(hosts: Iterable[HostLayout]) -> int:
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


def allocated(mine: Iterable[CloudResource], flavors: Mapping[str, Any]) -> Counter[str]:
    """The amount of each quota that a stack's existing resources take."""
    total: Counter[str] = Counter()
    for resource in mine:
        if resource.kind in _QUOTA_OF:
            total[_QUOTA_OF[resource.kind]] += 1
        if resource.kind == "Volume":
            total["gigabytes"] += resource.properties["size"]
        if resource.kind == "SecGroup":
            total["security group rules"] += EGRESS_RULES
        flavor = flavors.get(resource.properties.get("flavorName", ""))
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
        has: by quota, allocated to the stack already.
        free: by quota, the free amount and the limit; no entry where there is no limit.
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
    """The free amount and the limit of each quota; quotas without limit are left out."""
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
        "networks": _network_quota(network.networks),
        "subnets": _network_quota(network.subnets),
        "routers": _network_quota(network.routers),
        "ports": _network_quota(network.ports),
        "floating IPs": _network_quota(network.floating_ips),
        "security groups": _network_quota(network.security_groups),
        "security group rules": _network_quota(network.security_group_rules),
    }
    return {quota: (limit - used, limit) for quota, (limit, used) in limits.items() if limit >= 0}


def _network_quota(detail: Mapping[str, int]) -> tuple[int, int]:
    return detail["limit"], int(detail["used"]) + int(detail["reserved"])
