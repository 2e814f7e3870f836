"""What a public cloud offers its projects: users, catalogue, flavors, images, networks, zones."""

import json
import os
import time

import openstack
from openstack.connection import Connection

from tests.beds.openstack.databases import manage
from tests.beds.openstack.places import APIS, CLOUDS, ENDPOINTS, LOOPBACK, offer

INTERFACES = ("public", "internal", "admin")
ZONES = {"nova": "compute1", "hosts": "compute2"}
"""Availability zone -> the hypervisor in it: made-up servers, and real hosts."""


def clouds() -> None:
    """The clouds.yaml of the administrator and of every project (JSON is YAML)."""
    known = {"admin": _cloud("admin", "admin", "admin")}
    for name, who in offer()["projects"].items():
        known[name] = _cloud(name, who["user"], who["password"])
    CLOUDS.write_text(json.dumps({"clouds": known}, indent=2) + "\n")


def _cloud(project: str, user: str, password: str) -> dict:
    auth = {
        "auth_url": f"http://{LOOPBACK}:{APIS['keystone']}/v3",
        "project_name": project,
        "username": user,
        "password": password,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    return {"region_name": "RegionOne", "identity_api_version": 3, "auth": auth}


def administrator() -> Connection:
    """A connection that may do everything."""
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(CLOUDS)
    return openstack.connect(cloud="admin")


def identity() -> None:
    """Users, projects and the catalogue, for which keystone alone must run."""
    admin = administrator().identity
    if not admin.find_role("service"):
        admin.create_role(name="service")
    _project(admin, "service", "service", "service", ["admin", "service"])
    for name, (kind, url) in ENDPOINTS.items():
        if not admin.find_service(name):
            service = admin.create_service(name=name, type=kind)
            for interface in INTERFACES:
                admin.create_endpoint(
                    service_id=service.id, interface=interface, url=url, region_id="RegionOne"
                )
    for name, who in offer()["projects"].items():
        _project(admin, name, who["user"], who["password"], ["member"])


def _project(admin, name: str, user: str, password: str, roles: list[str]) -> None:
    project = admin.find_project(name) or admin.create_project(name=name, domain_id="default")
    member = admin.find_user(user) or admin.create_user(
        name=user, password=password, default_project_id=project.id, domain_id="default"
    )
    for role in roles:
        admin.assign_project_role_to_user(project, member, admin.find_role(role))


def cloud() -> None:
    """Flavors, images, volume types and networks of cloud.json that are not there yet."""
    admin, want = administrator(), offer()
    for name, (vcpus, ram_gb, disk_gb) in want["flavors"].items():
        if not admin.compute.find_flavor(name):
            admin.compute.create_flavor(name=name, vcpus=vcpus, ram=ram_gb * 1024, disk=disk_gb)
    for name in want["images"]:
        if not admin.image.find_image(name):
            _image(admin, name)
    for name in want["volume_types"]:
        if not admin.block_storage.find_type(name):
            admin.block_storage.create_type(name=name, is_public=True)
    for name, spec in want["networks"].items():
        if not admin.network.find_network(name):
            _network(admin, name, **spec)


def _image(admin: Connection, name: str) -> None:
    admin.image.create_image(
        name=name,
        data=bytes(1024 * 1024),
        disk_format="raw",
        container_format="bare",
        visibility="public",
        validate_checksum=False,
    )


def _network(admin: Connection, name: str, *, external: bool, cidr: str) -> None:
    network = admin.network.create_network(
        name=name,
        is_router_external=external,
        is_shared=not external,
        provider_network_type="flat",
        provider_physical_network=name,
    )
    admin.network.create_subnet(
        name=name, network_id=network.id, ip_version=4, cidr=cidr, is_dhcp_enabled=not external
    )


def zones() -> None:
    """Which hypervisor is in which availability zone."""
    compute = administrator().compute
    end = time.time() + 60
    while not _hypervisors(compute) and time.time() < end:
        time.sleep(0.5)
    manage("nova", "cell_v2", "discover_hosts", "--by-service")
    for zone, host in ZONES.items():
        aggregate = next((a for a in compute.aggregates() if a.name == zone), None)
        aggregate = aggregate or compute.create_aggregate(name=zone, availability_zone=zone)
        if host in _hypervisors(compute) and host not in (aggregate.hosts or []):
            compute.add_host_to_aggregate(aggregate, host)


def _hypervisors(compute) -> set[str]:
    return {s.host for s in compute.services() if s.binary == "nova-compute" and s.state == "up"}
