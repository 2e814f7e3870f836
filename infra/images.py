"""Prepared images: the builder they are made on, the image itself, which one fits, which ones stay.

A prepared image has what roles install and the release's images of containers, and nothing of a
stack: each stack of the project may begin with it. Its properties say what it was made of.
"""

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from openstack.connection import Connection
from openstack.exceptions import ConflictException

from infra import cloud as clouds
from infra.bootstrap import user_data
from infra.cloud import STACK_KEY, translate_errors
from infra.errors import InfraError
from infra.kinds import MEMBER
from infra.settings import StackSettings

CHECKOUT = Path(__file__).resolve().parents[1]
BASE_KEY, RELEASE_KEY = "cbm_base", "cbm_release"
"""Properties of a prepared image: the id of the image it was made from, and its release's tag."""

ADDRESS = 50
"""The builder's place in the private network, counted from the network's own address."""

LIMIT_S = 3600
"""A cloud that has not stored an image by then never will."""


@dataclass(frozen=True)
class PreparedImage:
    """A prepared image in the cloud: its id and name, and what it was made of."""

    id: str
    name: str
    base: str
    release: str


def release_tag(checkout: Path = CHECKOUT) -> str:
    """The tag of the release that a checkout is at, as role release computes it.

    Raises:
        InfraError: it is no git checkout.
    """
    shared = yaml.safe_load((checkout / "playbooks/group_vars/all.yml").read_text())
    command = ["git", "-C", str(checkout), "ls-tree", "HEAD", "--", *shared["cbm_release_paths"]]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if ran.returncode != 0:
        raise InfraError(
            f"{checkout} is no git checkout, so its release has no tag: {ran.stderr.strip()}"
        )
    return hashlib.sha256(ran.stdout.rstrip("\n").encode()).hexdigest()[:12]


def image_name(base: str, release: str) -> str:
    """The name of the prepared image of a base and a release."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in base.lower())
    return f"cbm-prepared-{plain}-{release}"


def list_prepared(cloud: Connection) -> list[PreparedImage]:
    """The project's prepared images that can be used, the newest first."""
    own = {"status": "active", "owner": cloud.current_project_id}
    images = cloud.image.images(**own, sort_key="created_at", sort_dir="desc")
    found = [(image, image.properties or {}) for image in images]
    return [
        PreparedImage(image.id, image.name, properties[BASE_KEY], properties[RELEASE_KEY])
        for image, properties in found
        if {BASE_KEY, RELEASE_KEY} <= properties.keys()
    ]


def find_fitting(images: Iterable[PreparedImage], base: str, release: str) -> PreparedImage | None:
    """The first of the images that was made from the base of this id for this release."""
    return next((one for one in images if (one.base, one.release) == (base, release)), None)


def find_base(cloud: Connection, settings: StackSettings) -> Any:
    """The stack's base image.

    Raises:
        InfraError: there is none of its name, or there are several.
    """
    found = list(cloud.image.images(name=settings.base, status="active"))
    if len(found) != 1:
        raise InfraError(f"{len(found)} images are called {settings.base!r}; one is needed")
    return found[0]


def choose_flavor(cloud: Connection, settings: StackSettings) -> str:
    """The flavor of the builder: an image fits no disk that is smaller than its builder's.

    Raises:
        InfraError: the cloud has none of the stack's flavors.
    """
    wanted = {pool.flavor for pool in settings.hosts.values()}
    flavors = [flavor for flavor in cloud.compute.flavors() if flavor.name in wanted]
    if not flavors:
        raise InfraError(f"this cloud has no flavor {' or '.join(sorted(wanted))}")
    return str(min(flavors, key=lambda flavor: (flavor.disk, -flavor.ram)).name)


@dataclass(frozen=True)
class Builder:
    """The host that an image is made on."""

    id: str
    name: str
    address: str


def builder_name(settings: StackSettings) -> str:
    """The name of a stack's builder; no host of a pool can have it."""
    return f"{settings.prefix}-image-builder"


@contextmanager
def running_builder(cloud: Connection, settings: StackSettings, flavor: str) -> Iterator[Builder]:
    """A builder in the stack's network, removed at the end whatever happens.

    It carries the stack's label: what a killed command line leaves, the next `fab image`, `fab up`
    or `fab destroy` removes.

    Raises:
        InfraError: the stack has no network yet.
        CloudError: the cloud refused.
    """
    with translate_errors():
        remove_builder(cloud, settings)
        try:
            yield _create_builder(cloud, settings, flavor)
        finally:
            remove_builder(cloud, settings)


def remove_builder(cloud: Connection, settings: StackSettings) -> None:
    """Remove a stack's builder and its port, if there are any."""
    name = builder_name(settings)
    clouds.remove(cloud, [own for own in clouds.list_resources(cloud) if own.name == name])


def _create_builder(cloud: Connection, settings: StackSettings, flavor: str) -> Builder:
    name, address = builder_name(settings), str(settings.network.cidr[ADDRESS])
    zone = settings.availability_zone
    placed: dict[str, Any] = {"availability_zone": zone} if zone else {}
    network = cloud.network.find_network(f"{settings.prefix}-network")
    group = cloud.network.find_security_group(f"{settings.prefix}-{MEMBER}")
    subnet = cloud.network.find_subnet(f"{settings.prefix}-subnet")
    if not (network and group and subnet):
        raise InfraError(
            f"stack {settings.stack} has no network that a builder could stand in: "
            f"run `fab up --stack {settings.stack}` first"
        )
    port = cloud.network.create_port(
        name=name,
        description=clouds.stack_description(settings.stack),
        network_id=network.id,
        fixed_ips=[{"subnet_id": subnet.id, "ip_address": address}],
        security_group_ids=[group.id],
    )
    server = cloud.create_server(
        name,
        image=find_base(cloud, settings),
        flavor=flavor,
        nics=[{"port-id": port.id}],
        key_name=settings.prefix,
        userdata=user_data(name, settings.public_key),
        config_drive=True,
        meta={STACK_KEY: settings.stack},
        auto_ip=False,
        wait=True,
        timeout=600,
        **placed,
    )
    return Builder(server.id, name, address)


def capture(
    cloud: Connection, builder: Builder, settings: StackSettings, release: str
) -> PreparedImage:
    """The image of a builder, which is shut down for it; one of the same name before is removed.

    Raises:
        CloudError: the cloud refused.
    """
    with translate_errors():
        base = find_base(cloud, settings)
        server = cloud.compute.get_server(builder.id)
        if server.status != "SHUTOFF":
            cloud.compute.stop_server(server)
            cloud.compute.wait_for_server(server, "SHUTOFF", interval=2, wait=600)
        name = image_name(settings.base, release)
        before = [one for one in list_prepared(cloud) if one.name == name]
        labels = {BASE_KEY: base.id, RELEASE_KEY: release}
        image = cloud.create_image_snapshot(name, builder.id, wait=True, timeout=LIMIT_S, **labels)
        _delete(cloud, before)
        return PreparedImage(image.id, name, base.id, release)


def prune(cloud: Connection, keep: int) -> tuple[list[PreparedImage], list[PreparedImage]]:
    """Remove all but the newest prepared images.

    Returns:
        the images that were removed, and those that the cloud would not remove: where disks are
        clones of their image, it stays as long as a host of it does.

    Raises:
        CloudError: the cloud did not answer.
    """
    with translate_errors():
        old = list_prepared(cloud)[keep:]
        stayed = _delete(cloud, old)
        return [one for one in old if one not in stayed], stayed


def _delete(cloud: Connection, images: Iterable[PreparedImage]) -> list[PreparedImage]:
    """Delete images; returns those in use."""
    stayed = []
    for image in images:
        try:
            cloud.image.delete_image(image.id)
        except ConflictException:
            stayed.append(image)
    return stayed
