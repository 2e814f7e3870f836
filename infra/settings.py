"""A stack's configuration: read, typed and validated before anything is made.

All wrong values are told at once, each with its key and what would be right.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from infra.errors import RefusedError
from infra.kinds import KEPT_VOLUMES, KINDS

PROJECT = "cbm"
"""The project's name in Pulumi.yaml, and the namespace of our keys."""

MAX_GB = 65536
DNS = ("9.9.9.9", "149.112.112.112")

T = TypeVar("T")
_REQUIRED: Any = object()


@dataclass(frozen=True)
class Pool:
    """Hosts that are alike.

    Attributes:
        name: of the pool, and in its hosts' names.
        kinds: what each of its hosts is, in the order of `KINDS`.
        flavor: by name.
        count: how many hosts.
    """

    name: str
    kinds: tuple[str, ...]
    flavor: str
    count: int


@dataclass(frozen=True)
class Disk:
    """The size and the type of a volume; without a type it is the cloud's default."""

    size_gb: int
    type: str | None


@dataclass(frozen=True)
class Network:
    """The stack's private network and the provider's networks it meets.

    Attributes:
        cidr: of the private network.
        external: name of the network that floating IPs come from.
        eodata: name of the provider's network with the scenes' archive, if it has one.
        dns: the name servers that hosts are told.
    """

    cidr: ipaddress.IPv4Network
    external: str
    eodata: str | None
    dns: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """All that a stack's configuration says.

    Attributes:
        stack: the stack's name, a Member State's or a region's.
        image: by name, for all hosts.
        public_key: the operators' ssh key, as in an authorized_keys file.
        operators: networks that may reach the bastion's ssh.
        pools: kinds of host; each kind is in one pool at most.
        disks: by volume (`database`, `backup`, and `cache` if workers have one).
        network: see `Network`.
        zone: availability zone of the hosts; the cloud's default without.
        volume_zone: availability zone of the volumes; the cloud's default without.
        domain: the name under which users reach the appliance.
        bucket: the container of backups off the volumes.
    """

    stack: str
    image: str
    public_key: str
    operators: tuple[str, ...]
    pools: tuple[Pool, ...]
    disks: Mapping[str, Disk]
    network: Network
    zone: str | None
    volume_zone: str | None
    domain: str | None
    bucket: str | None

    @property
    def prefix(self) -> str:
        """What the names of all of the stack's resources begin with."""
        return prefix(self.stack)


def prefix(stack: str) -> str:
    """What the names of all of a stack's resources begin with."""
    return f"{PROJECT}-{stack}"


def read(stack: str, folder: Path = Path()) -> Settings:
    """The settings in a stack's file, Pulumi.<stack>.yaml.

    Raises:
        RefusedError: there is no such file, or it is not right.
    """
    path = folder / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        raise RefusedError(f"stack {stack}", [f"{path.name} is missing; see infra/README.md"])
    try:
        values = (yaml.safe_load(path.read_text()) or {}).get("config") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise RefusedError(path.name, [f"this is not a stack's YAML file: {error}"]) from error
    return validated(stack, _ours(values))


def from_engine(stack: str, values: Mapping[str, str]) -> Settings:
    """The settings as Pulumi's engine hands them over: all text, with JSON for what has parts.

    Raises:
        RefusedError: they are not right.
    """
    return validated(stack, {key: _decoded(text) for key, text in _ours(values).items()})


def _ours(values: Mapping[str, Any]) -> dict[str, Any]:
    space = f"{PROJECT}:"
    return {key[len(space) :]: value for key, value in values.items() if key.startswith(space)}


def _decoded(text: Any) -> Any:
    if not isinstance(text, str) or not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def validated(stack: str, values: Mapping[str, Any]) -> Settings:
    """The settings of a stack.

    Args:
        stack: its name.
        values: by key without the namespace.

    Raises:
        RefusedError: with every problem that these values have.
    """
    problems: list[str] = []
    if not re.fullmatch(r"[a-z][a-z0-9]{1,15}", stack):
        problems.append(
            f"stack name {stack!r}: give 2 to 16 lower-case letters and digits, such as nl"
        )
    root = _Section("", values, problems)
    settings = Settings(
        stack=stack,
        image=root.get("image", _text, "the name of an image, such as 'Debian 12'"),
        public_key=root.get("public_key", _public_key, _PUBLIC_KEY),
        operators=root.get("operators", _operators, _OPERATORS),
        pools=_pools(root.section("hosts")),
        disks=_disks(root.section("volumes")),
        network=_network(root.section("network")),
        zone=root.get("availability_zone", _text, "the name of a zone of hosts", None),
        volume_zone=root.get("volume_zone", _text, "the name of a zone of volumes", None),
        domain=root.get("domain", _domain, "a domain name, such as cbm.example.org", None),
        bucket=root.get("bucket", _bucket, "3 to 63 of a-z, 0-9, '.', '-'", None),
    )
    root.nothing_else()
    if not problems:
        problems = _contradictions(settings)
    if problems:
        raise RefusedError(f"configuration of stack {stack}", problems)
    return settings


class _Section:
    """A mapping within the configuration; what is wrong in it goes to `problems`."""

    def __init__(self, place: str, values: Any, problems: list[str]) -> None:
        self.place = place
        self.problems = problems
        self.values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}
        self.known: set[str] = set()
        if not isinstance(values, Mapping):
            problems.append(f"{place.rstrip('.')}: {values!r} is wrong; give keys and values")

    def get(
        self, key: str, parse: Callable[[Any], T], right: str, default: Any = _REQUIRED
    ) -> T | Any:
        """The value of a key, parsed; None and a problem if it is wrong or missing."""
        self.known.add(key)
        value = self.values.get(key)
        if value is None:
            if default is _REQUIRED:
                self.problems.append(f"{self.place}{key}: is missing; give {right}")
            return None if default is _REQUIRED else default
        try:
            return parse(value)
        except (TypeError, ValueError):
            self.problems.append(f"{self.place}{key}: {value!r} is wrong; give {right}")
            return None

    def section(self, key: str) -> "_Section":
        """The mapping under a key."""
        self.known.add(key)
        return _Section(f"{self.place}{key}.", self.values.get(key) or {}, self.problems)

    def nothing_else(self) -> None:
        """Refuse keys that nobody asked for: they are misspelt."""
        for key in self.values:
            if key not in self.known:
                known = ", ".join(sorted(self.known))
                self.problems.append(f"{self.place}{key}: no such key; there are {known}")


def _pools(hosts: _Section) -> tuple[Pool, ...]:
    pools = tuple(_pool(hosts.section(str(name)), str(name)) for name in hosts.values)
    if not pools:
        hosts.problems.append("hosts: is missing; give pools of hosts, see infra/README.md")
    return pools


def _pool(section: _Section, name: str) -> Pool:
    if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", name):
        section.problems.append(f"{section.place[:-1]}: name a pool with a-z and 0-9, such as db")
    pool = Pool(
        name=name,
        kinds=section.get("kinds", _kinds, f"a list of {', '.join(KINDS)}") or (),
        flavor=section.get("flavor", _text, "the name of a flavor"),
        count=section.get("count", _whole(0, 1000), "a whole number from 0 to 1000", 1),
    )
    section.nothing_else()
    return pool


def _disks(volumes: _Section) -> Mapping[str, Disk]:
    wanted = [*KEPT_VOLUMES, *(["cache"] if "cache" in volumes.values else [])]
    disks = {name: _disk(volumes.section(name)) for name in wanted}
    volumes.known.add("cache")
    volumes.nothing_else()
    return disks


def _disk(section: _Section) -> Disk:
    size = section.get("size_gb", _whole(1, MAX_GB), f"whole gigabytes from 1 to {MAX_GB}")
    disk = Disk(size, section.get("type", _text, "the name of a volume type", None))
    section.nothing_else()
    return disk


def _network(section: _Section) -> Network:
    network = Network(
        cidr=section.get("cidr", _cidr, _CIDR),
        external=section.get("external", _text, "the name of the network of floating IPs"),
        eodata=section.get("eodata", _text, "the name of the provider's data network", None),
        dns=section.get("dns", _addresses, "a list of IPv4 addresses of name servers", DNS),
    )
    section.nothing_else()
    return network


def _contradictions(settings: Settings) -> list[str]:
    """What is wrong with values that are each right for themselves."""
    problems = []
    for name, kind in KINDS.items():
        pools = [pool for pool in settings.pools if name in pool.kinds]
        keys = ", ".join(f"hosts.{pool.name}" for pool in pools)
        if len(pools) > 1:
            problems.append(f"{keys}: {name} is in each; give it to one pool")
        if not pools and kind.required:
            problems.append(f"hosts: none has kind {name}; add it to a pool's kinds")
        problems += [
            f"hosts.{pool.name}.count: {pool.count} of kind {name}; there must be 1"
            for pool in pools
            if pool.count != 1 and not kind.many
        ]
    return problems + _crowded(settings)


def _crowded(settings: Settings) -> list[str]:
    room = settings.network.cidr.num_addresses - 1
    return [
        f"hosts.{pool.name}.count: {pool.count} do not fit into network.cidr "
        f"{settings.network.cidr}; give at most {room - first} or a larger network"
        for pool in settings.pools
        if (first := KINDS[pool.kinds[0]].first_address) + pool.count > room
    ]


_PUBLIC_KEY = "the text of an OpenSSH public key, such as that of ~/.ssh/id_ed25519.pub"
_OPERATORS = "a list of IPv4 networks of operators, such as [192.0.2.0/24]; the world is none"
_CIDR = "a private IPv4 network of /16 to /24, such as 10.20.0.0/24"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    return value


def _matching(pattern: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(value)
    return value


def _public_key(value: Any) -> str:
    kinds = r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+)"
    return _matching(kinds + r" AAAA[A-Za-z0-9+/]+={0,3}( [^\n]*)?", _text(value).strip())


def _domain(value: Any) -> str:
    return _matching(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", value)


def _bucket(value: Any) -> str:
    return _matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value)


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(value)
        return value

    return parse


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(value)
    return value


def _kinds(value: Any) -> tuple[str, ...]:
    named = _list(value)
    if any(name not in KINDS for name in named) or len(set(named)) != len(named):
        raise ValueError(value)
    return tuple(kind for kind in KINDS if kind in named)


def _addresses(value: Any) -> tuple[str, ...]:
    return tuple(str(ipaddress.IPv4Address(_text(one))) for one in _list(value))


def _operators(value: Any) -> tuple[str, ...]:
    networks = [ipaddress.IPv4Network(_text(one)) for one in _list(value)]
    if any(network.prefixlen < 8 for network in networks):
        raise ValueError(value)
    return tuple(str(network) for network in networks)


def _cidr(value: Any) -> ipaddress.IPv4Network:
    network = ipaddress.IPv4Network(_text(value))
    if not network.is_private or not 16 <= network.prefixlen <= 24:
        raise ValueError(value)
    return network
