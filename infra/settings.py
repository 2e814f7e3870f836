"""A stack's configuration: read, typed and validated before anything is created.

All wrong values are reported at once, each with its key and what would be right.
`python -m infra.settings` prints the JSON schema, for editors that check a file as it is written.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from infra.errors import RefusedError
from infra.kinds import KEPT_VOLUMES, KINDS

PROJECT = "cbm"
"""The project's name in Pulumi.yaml, and the namespace of our keys."""

PREPARED = "prepared"
"""The value of `image` that means the newest image that `fab image` made and that fits."""

MAX_GB = 65536
DOCKER_POOLS = (IPv4Network("172.20.0.0/14"), IPv4Network("172.24.0.0/14"))
"""Where roles docker and swarm take the addresses of containers from."""


def _checked_public_key(text: str) -> str:
    algorithm = r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+)"
    if not re.fullmatch(algorithm + r" AAAA[A-Za-z0-9+/]+={0,3}( [^\n]*)?", text):
        raise ValueError(text)
    return text


def _checked_operators(networks: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
    """Each network once, in whatever spellings it is named."""
    if any(network.prefixlen < 8 for network in networks):
        raise ValueError(networks)
    return tuple(dict.fromkeys(networks))


def _checked_cidr(network: IPv4Network) -> IPv4Network:
    if not network.is_private or not 16 <= network.prefixlen <= 24:
        raise ValueError(network)
    if any(network.overlaps(pool) for pool in DOCKER_POOLS):
        pools = " and ".join(map(str, DOCKER_POOLS))
        raise PydanticCustomError(
            "docker_pool",
            "{network} overlaps {pools}, where Docker's networks get their addresses; "
            "give another, such as 10.20.0.0/24",
            {"network": str(network), "pools": pools},
        )
    return network


def _checked_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds in the order of `KINDS`."""
    if any(kind not in KINDS for kind in kinds) or len(set(kinds)) != len(kinds):
        raise ValueError(kinds)
    return tuple(kind for kind in KINDS if kind in kinds)


Text = Annotated[str, Field(strict=True, pattern=r"\S")]
Gigabytes = Annotated[int, Field(strict=True, ge=1, le=MAX_GB)]
PoolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]


class _Section(BaseModel):
    """A mapping of the configuration; a field's description says what would be right."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class HostPool(_Section):
    """Hosts that are alike."""

    kinds: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_checked_kinds)] = Field(
        description=f"a list of {', '.join(KINDS)}"
    )
    flavor: Text = Field(description="the name of a flavor")
    count: int = Field(1, strict=True, ge=0, le=1000, description="a whole number from 0 to 1000")


class VolumeSpec(_Section):
    """The size and the type of a volume; without a type it is the cloud's default."""

    size_gb: Gigabytes = Field(description=f"whole gigabytes from 1 to {MAX_GB}")
    type: Text | None = Field(None, description="the name of a volume type")


class VolumeSpecs(_Section):
    """The volumes of hosts, by what they are for."""

    database: VolumeSpec = Field(description="size_gb and type")
    backup: VolumeSpec = Field(description="size_gb and type")
    cache: VolumeSpec | None = Field(None, description="size_gb and type")


class NetworkSettings(_Section):
    """The stack's private network and the provider's networks that it is connected to."""

    cidr: Annotated[IPv4Network, AfterValidator(_checked_cidr)] = Field(
        description="a private IPv4 network of /16 to /24, such as 10.20.0.0/24"
    )
    external: Text = Field(description="the name of the network of floating IPs")
    eodata: Text | None = Field(None, description="the name of the provider's data network")
    dns: tuple[IPv4Address, ...] = Field(
        (IPv4Address("9.9.9.9"), IPv4Address("149.112.112.112")),
        min_length=1,
        description="a list of IPv4 addresses of name servers",
    )


class StackSettings(_Section):
    """The configuration of a stack."""

    stack: str = Field(
        pattern=r"^[a-z][a-z0-9]{1,15}$",
        description="2 to 16 lower-case letters and digits, such as nl",
    )
    image: Text = Field(
        description="the name of an image, such as 'Debian 12', or `prepared`, with base_image"
    )
    base_image: Text | None = Field(
        None, description="the name of the image that prepared images are made from"
    )
    public_key: Annotated[str, AfterValidator(_checked_public_key)] = Field(
        description="the text of an OpenSSH public key, such as that of ~/.ssh/id_ed25519.pub"
    )
    operators: Annotated[
        tuple[IPv4Network, ...], Field(min_length=1), AfterValidator(_checked_operators)
    ] = Field(
        description="a list of IPv4 networks of operators, such as [192.0.2.0/24]; "
        "the world is none"
    )
    hosts: Annotated[Mapping[PoolName, HostPool], Field(min_length=1)] = Field(
        description="pools of hosts, named with a-z and 0-9; see infra/README.md"
    )
    volumes: VolumeSpecs = Field(description="database and backup")
    network: NetworkSettings = Field(description="cidr and external")
    availability_zone: Text | None = Field(None, description="the name of a zone of hosts")
    volume_zone: Text | None = Field(None, description="the name of a zone of volumes")
    domain: str | None = Field(
        None,
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$",
        description="a domain name, such as cbm.example.org",
    )
    bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="3 to 63 of a-z, 0-9, '.', '-'",
    )

    @property
    def prefix(self) -> str:
        """What the names of all of the stack's resources begin with."""
        return prefix(self.stack)

    @property
    def base(self) -> str:
        """The name of the image that hosts begin with where no prepared one fits."""
        return self.base_image or self.image

    @property
    def disks(self) -> dict[str, VolumeSpec]:
        """The configured volumes, by what they are for."""
        specs = {name: getattr(self.volumes, name) for name in (*KEPT_VOLUMES, "cache")}
        return {name: spec for name, spec in specs.items() if spec}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*_misplaced_kinds(self.hosts), *_crowded_pools(self.hosts, self.network.cidr)]
        if (self.image == PREPARED) != bool(self.base_image):
            problems.append(_BASE_IMAGE)
        if problems:
            raise PydanticCustomError("inconsistent", "{text}", {"text": "\n".join(problems)})
        return self


_BASE_IMAGE = (
    "base_image: give the name of an image, such as 'Debian 12', where image is `prepared`, "
    "and only there"
)


def prefix(stack: str) -> str:
    """What the names of all of a stack's resources begin with."""
    return f"{PROJECT}-{stack}"


def _misplaced_kinds(hosts: Mapping[str, HostPool]) -> Iterator[str]:
    for name, kind in KINDS.items():
        pools = {key: pool for key, pool in hosts.items() if name in pool.kinds}
        if len(pools) > 1:
            keys = ", ".join(f"hosts.{key}" for key in pools)
            yield f"{keys}: {name} is in each; give it to one pool"
        if not pools and kind.required:
            yield f"hosts: none has kind {name}; add it to a pool's kinds"
        for key, pool in pools.items():
            if pool.count != 1 and not kind.many:
                yield f"hosts.{key}.count: {pool.count} of kind {name}; there must be 1"


def _crowded_pools(hosts: Mapping[str, HostPool], cidr: IPv4Network) -> Iterator[str]:
    room = cidr.num_addresses - 1
    for name, pool in hosts.items():
        first = KINDS[pool.kinds[0]].first_address
        if first + pool.count > room:
            yield (
                f"hosts.{name}.count: {pool.count} do not fit into network.cidr {cidr}; "
                f"give at most {room - first} or a larger network"
            )


def read(stack: str, folder: Path = Path()) -> StackSettings:
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
    return validate(stack, _own_keys(values))


def from_engine(stack: str, values: Mapping[str, str]) -> StackSettings:
    """The settings as Pulumi's engine passes them: text, or JSON for what has parts.

    Raises:
        RefusedError: they are not right.
    """
    return validate(stack, {key: _decode(text) for key, text in _own_keys(values).items()})


def _own_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    space = f"{PROJECT}:"
    return {key[len(space) :]: value for key, value in values.items() if key.startswith(space)}


def _decode(text: Any) -> Any:
    if not isinstance(text, str) or not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def with_count(settings: StackSettings, pool: str, count: object) -> StackSettings:
    """The settings with another number of hosts in a pool.

    Raises:
        RefusedError: so many do not fit.
    """
    values = settings.model_dump(mode="json", exclude={"stack"}, exclude_none=True)
    values["hosts"][pool]["count"] = count
    return validate(settings.stack, values)


def validate(stack: str, values: Mapping[str, Any]) -> StackSettings:
    """The settings of a stack.

    Args:
        stack: its name.
        values: by key without the namespace.

    Raises:
        RefusedError: with every problem that these values have.
    """
    whole = {"volumes": {}, "network": {}, "hosts": {}} | _without_nulls(values) | {"stack": stack}
    try:
        return StackSettings.model_validate(whole)
    except ValidationError as error:
        problems = [line for detail in error.errors() for line in _sentences(detail, whole)]
        subject = f"configuration of stack {stack}"
        raise RefusedError(subject, list(dict.fromkeys(problems))) from error


def _sentences(error: ErrorDetails, whole: Mapping[str, Any]) -> Sequence[str]:
    """What is wrong, with the key and what would be right."""
    if error["type"] == "inconsistent":
        return error["msg"].splitlines()
    steps = [str(step) for step in error["loc"] if step != "[key]"]
    path = steps[: _DEPTH.get(steps[0], 1)]
    return [f"{'.'.join(path)}: {_advice(error, path, whole)}"]


def _advice(error: ErrorDetails, path: Sequence[str], whole: Mapping[str, Any]) -> str:
    section = _section(path[:-1])
    if error["type"] == "extra_forbidden":
        known = ", ".join(sorted(section.model_fields.keys() - {"stack"}))
        return f"no such key; there are {known}"
    if error["type"] == "docker_pool":
        return error["msg"]
    if error["loc"][-1] == "[key]":
        return "name a pool with a-z and 0-9, such as db"
    if error["type"] in ("model_type", "mapping_type"):
        return f"{error['input']!r} is wrong; give keys and values"
    right = section.model_fields[path[-1]].description
    value: Any = whole
    for step in path:
        value = value.get(step)
    return (
        f"is missing; give {right}" if value in (None, {}) else f"{value!r} is wrong; give {right}"
    )


_DEPTH: Mapping[str, int] = {"hosts": 3, "volumes": 3, "network": 2}
"""How many steps lead to a value, where it is not one; further steps lead into the value."""


def _section(path: Sequence[str]) -> type[_Section]:
    """The model of the mapping at a path."""
    match path:
        case ["hosts", _]:
            return HostPool
        case ["volumes"]:
            return VolumeSpecs
        case ["volumes", _]:
            return VolumeSpec
        case ["network"]:
            return NetworkSettings
    return StackSettings


def _without_nulls(values: Any) -> Any:
    """The values without keys that are left empty, which count as missing."""
    if not isinstance(values, Mapping):
        return values
    return {key: _without_nulls(value) for key, value in values.items() if value is not None}


if __name__ == "__main__":
    print(json.dumps(StackSettings.model_json_schema(), indent=2))  # noqa: T201 - its output
