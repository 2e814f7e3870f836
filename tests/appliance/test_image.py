"""The prepared image that labs boot from holds nothing of the host it was made on."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.appliance.conftest import ROOT, Appliance
from tests.beds.hosts import prepared

pytestmark = pytest.mark.skipif(
    not prepared.is_kept(), reason="no prepared image on this machine: `make bed-image` makes it"
)

OWNERS = {
    "caddy": "proxy",
    "docker": "docker",
    "docker-registry": "registry",
    "pgbouncer": "postgis",
    "prometheus": "monitoring",
}
"""Services of packages that every host of the image has, by the group of those that want them."""


def test_the_image_has_no_trace_of_its_builder() -> None:
    image = prepared.image_name()
    inspect = ["docker", "image", "inspect", image]
    ran = subprocess.run(inspect, capture_output=True, check=True)
    # Imported in one layer, which is the whole tree.
    tree = Path(json.loads(ran.stdout)[0]["GraphDriver"]["Data"]["UpperDir"])
    assert (tree / "etc/ansible/facts.d/cbm_image.fact").exists()
    traces = [ROOT / "roles/image/files/traces", tree]
    assert subprocess.run(traces, capture_output=True, text=True, check=True).stdout == ""


def test_hosts_of_it_have_identities_of_their_own(appliance: Appliance) -> None:
    hosts = appliance.hosts("common")
    for path in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert len({host.file(path).content_string for host in hosts}) == len(hosts)
    nodes = [host.check_output("docker info -f '{{.ID}}'") for host in appliance.hosts("docker")]
    assert len(set(nodes)) == len(nodes)


@pytest.mark.parametrize("unit", OWNERS)
def test_a_service_runs_on_no_host_without_its_role(appliance: Appliance, unit: str) -> None:
    others = set(appliance.names("common")) - set(appliance.names(OWNERS[unit]))
    assert [name for name in others if appliance.named(name).service(unit).is_running] == []
