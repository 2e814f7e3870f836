"""Kinds of host in a table: the inventory groups of each, and its cloud resources."""

from dataclasses import dataclass
from types import MappingProxyType

COMMON_GROUP = "common"
"""The inventory group of every host."""

MEMBER = "member"
"""The security group of every host."""


@dataclass(frozen=True)
class HostKind:
    """One kind of host.

    Attributes:
        groups: its inventory groups; group = role.
        first_address: its place in the private network, counted from the network's own address.
        security: its security groups, beside that of every host.
        volumes: the data volumes its host carries.
        public: it has a floating IP.
        many: there may be none or several of it; of the others there is one.
        required: no appliance is without it.
        eodata: it reads scenes, so it is on the provider's data network if there is one.
    """

    groups: tuple[str, ...]
    first_address: int
    security: tuple[str, ...]
    volumes: tuple[str, ...] = ()
    public: bool = False
    many: bool = False
    required: bool = True
    eodata: bool = False


KINDS = MappingProxyType(
    {
        "database": HostKind(
            groups=("postgis", "backup"),
            first_address=10,
            security=("database",),
            volumes=("database", "backup"),
        ),
        "manager": HostKind(
            groups=("docker", "swarm", "registry", "extraction", "card", "monitoring"),
            first_address=20,
            security=("bastion", "swarm", "manager"),
            public=True,
            eodata=True,
        ),
        "api": HostKind(
            groups=("docker", "api", "proxy"),
            first_address=30,
            security=("web",),
            public=True,
            eodata=True,
        ),
        "hub": HostKind(
            groups=("jupyterhub", "proxy"),
            first_address=40,
            security=("web",),
            public=True,
            required=False,
        ),
        "worker": HostKind(
            groups=("docker", "swarm"),
            first_address=100,
            security=("swarm",),
            volumes=("cache",),
            many=True,
            required=False,
            eodata=True,
        ),
    }
)
"""By name. The host of kind `manager` is the bastion: the only one with ssh from outside."""

BASTION = "manager"
WORKER = "worker"

KEPT_VOLUMES = ("database", "backup")
"""Volumes that outlive the stack; the others are scratch, and optional."""


def inventory_groups(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The inventory groups of a host of these kinds, each once, in order."""
    return tuple(
        dict.fromkeys([COMMON_GROUP, *(group for kind in kinds for group in KINDS[kind].groups)])
    )
