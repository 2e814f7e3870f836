"""Where the bed lies on this machine, and on which ports it listens."""

import ipaddress
import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE.parents[2] / "requirements/bed-openstack.lock"
LAB = HERE.parent / "hosts"
LAB_CACHE = Path(os.environ.get("HOSTS_CACHE", "/var/cache/lab-hosts"))

HOME = Path(os.environ.get("OPENSTACK_HOME", "/opt/openstack"))
VENV, ETC, RUN, LOG, STATE = (HOME / name for name in ("venv", "etc", "run", "log", "state"))
BIN = VENV / "bin"
CLOUDS = HOME / "clouds.yaml"
EODATA = HOME / "eodata"
"""The provider's archive of scenes: hosts see it as /eodata, and cannot write there."""
WITH_HOSTS = STATE / "with-hosts"
"""Exists where servers of availability zone `hosts` are real hosts."""

LOOPBACK = "127.0.0.1"
RABBIT_PORT, EPMD_PORT, PROXY_PORT = 5672, 24369, 3142
APIS = {  # name: port
    "keystone": 5000,
    "glance": 9292,
    "placement": 8778,
    "nova": 8774,
    "neutron": 9696,
    "cinder": 8776,
}
SWIFT = {"account": 6202, "container": 6201, "object": 6200, "proxy": 8870}
"""Swift's servers and their ports; the proxy answers to S3 as well."""
S3_URL = f"http://{LOOPBACK}:{SWIFT['proxy']}"
ENDPOINTS = {  # service: (type in the catalogue, address)
    "glance": ("image", f"http://{LOOPBACK}:9292"),
    "placement": ("placement", f"http://{LOOPBACK}:8778"),
    "nova": ("compute", f"http://{LOOPBACK}:8774/v2.1"),
    "neutron": ("network", f"http://{LOOPBACK}:9696"),
    "cinder": ("block-storage", f"http://{LOOPBACK}:8776/v3"),
    "cinderv3": ("volumev3", f"http://{LOOPBACK}:8776/v3"),  # what older clients look for
    "swift": ("object-store", f"{S3_URL}/v1/AUTH_$(project_id)s"),
}


def offer() -> dict:
    """What the cloud offers its projects: cloud.json."""
    return json.loads((HERE / "cloud.json").read_text())


def conf(service: str) -> Path:
    """The configuration file of a service."""
    return ETC / service / ("glance-api.conf" if service == "glance" else f"{service}.conf")


def proxy_address() -> str:
    """Where hosts find the package proxy: this machine's address in the external network."""
    cidr = next(net["cidr"] for net in offer()["networks"].values() if net["external"])
    return str(ipaddress.ip_network(cidr)[1])


def image_tag() -> str:
    """The Docker image of the real hosts, once it is made."""
    file = LAB_CACHE / "openstack/tag"
    return file.read_text().strip() if file.exists() else ""


def environment() -> dict[str, str]:
    """What every process of the bed finds in its environment."""
    env = dict(os.environ, PATH=f"{BIN}:{os.environ['PATH']}", PYTHONWARNINGS="ignore")
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2", "OPENSTACK_HOME": str(HOME)}
    for name in APIS:
        files = "api-paste.ini;nova.conf" if name == "nova" else f"{name}.conf"
        env[f"OS_{name.upper()}_CONFIG_DIR"] = str(ETC / name)
        env[f"OS_{name.upper()}_CONFIG_FILES"] = files
    return env
