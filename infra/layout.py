"""Hosts and volumes of a configuration: names and addresses, without a cloud.

A host's name and address follow from its pool and number alone, so that no host moves when others
come or go.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.kinds import BASTION, KEPT_VOLUMES, KINDS, MEMBER, WORKER
from infra.settings import HostPool, StackSettings, VolumeSpec


@dataclass(frozen=True)
class HostVolume:
    """A planned volume: its resource's name, its duty, and whether it outlives the stack."""

    name: str
    duty: str
    spec: VolumeSpec
    kept: bool


@dataclass(frozen=True)
class HostLayout:
    """A planned host.

    Attributes:
        name: within the stack; the server's name has the stack's prefix before it.
        kinds: what it is.
        flavor: by name.
        address: fixed, in the private network.
        security: names of its security groups within the stack.
        volumes: what is attached to it, in this order.
        public: it has a floating IP.
        bastion: it answers ssh from the operators' networks.
        eodata: it is on the provider's data network too.
        apart: it is a worker and nothing else: the number of the server group whose hosts are kept
            apart from each other where the cloud can.
    """

    name: str
    kinds: tuple[str, ...]
    flavor: str
    address: str
    security: tuple[str, ...]
    volumes: tuple[HostVolume, ...]
    public: bool
    bastion: bool
    eodata: bool
    apart: int | None


GROUP_SIZE = 10
"""Servers in a server group: more are refused wherever the provider has not raised nova's quota."""


def hosts(settings: StackSettings) -> tuple[HostLayout, ...]:
    """All hosts of a stack."""
    return tuple(
        _host(settings, name, pool, number)
        for name, pool in settings.hosts.items()
        for number in range(1, pool.count + 1)
    )


def worker_pool(settings: StackSettings) -> str | None:
    """The name of the pool that grows and shrinks: that of workers which are nothing else."""
    return next((name for name, pool in settings.hosts.items() if pool.kinds == (WORKER,)), None)


def _host(settings: StackSettings, pool_name: str, pool: HostPool, number: int) -> HostLayout:
    kinds = [KINDS[kind] for kind in pool.kinds]
    worker_only = pool.kinds == (WORKER,)
    name = f"{pool_name}-{number}" if worker_only else pool_name
    security = dict.fromkeys([MEMBER, *(group for kind in kinds for group in kind.security)])
    duties = [duty for kind in kinds for duty in kind.volumes]
    return HostLayout(
        name=name,
        kinds=pool.kinds,
        flavor=pool.flavor,
        address=str(settings.network.cidr[kinds[0].first_address + number - 1]),
        security=tuple(security),
        volumes=_volumes(name, duties, settings.disks),
        public=any(kind.public for kind in kinds),
        bastion=BASTION in pool.kinds,
        eodata=any(kind.eodata for kind in kinds) and settings.network.eodata is not None,
        apart=(number - 1) // GROUP_SIZE + 1 if worker_only else None,
    )


def _volumes(
    host: str, duties: list[str], disks: Mapping[str, VolumeSpec]
) -> tuple[HostVolume, ...]:
    return tuple(
        HostVolume(duty if kept else f"{host}-{duty}", duty, disks[duty], kept)
        for duty in duties
        if duty in disks
        for kept in [duty in KEPT_VOLUMES]
    )
