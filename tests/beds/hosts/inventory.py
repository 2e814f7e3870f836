"""The bed's hosts as an appliance's inventory: a group per role, made by what makes a stack's."""

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from infra.inventory import StackOutput, build_inventory

KINDS = {
    "db": ["database"],
    "manager": ["manager"],
    "worker": ["worker"],
    "api": ["api", "hub"],
    "builder": [],
    "one": ["database", "manager", "api", "hub"],
}
"""By a host's name less its digits; `one` is all on one machine."""

# What a container on this machine's kernel cannot do, in the variables that roles have for it.
BED = {
    "common_kernel_settings": False,
    "jupyterhub_memory": "1G",
    "postgis_memory_mb": 1024,
    "swarm_endpoint_mode": "dnsrr",
    "registry_base_image": "cbm-base:bookworm",
    "registry_base_archive": "{{ lookup('env', 'HOSTS_CACHE') | default('/var/cache/lab-hosts', "
    "true) }}/base.tar",
}


def appliance(lab: Path) -> dict[str, Any]:
    """What a stack's outputs would say of a lab's hosts.

    Args:
        lab: the lab's folder; its file `hosts` has a line ADDRESS NAME KIND for each.
    """
    hosts = []
    for line in (lab / "hosts").read_text().splitlines():
        address, name, _ = line.split()
        kinds = KINDS[name.rstrip("0123456789")]
        hosts.append(
            {
                "name": name,
                "kinds": kinds,
                "address": address,
                "public_address": address,
                "flavor": "container",
                "id": name,
                "volumes": {},
                "bastion": "manager" in kinds,
            }
        )
    return {"stack": lab.name, "domain": "", "bucket": "", "hosts": hosts}


def made(lab: Path) -> dict[str, Any]:
    """The inventory of a lab: a stack's, but reached directly and with the bed's limits."""
    stack = build_inventory(StackOutput.model_validate(appliance(lab)))
    for name, variables in stack["all"]["hosts"].items():
        variables["ansible_host"] = variables["cbm_address"]
        variables["ansible_ssh_host_key_checking"] = True
        stack["all"]["hosts"][name] = variables
    known = f"-o UserKnownHostsFile={lab / 'known_hosts'}"
    gateway = _gateway(lab)
    proxy = f"http://{gateway}:3142"
    stack["all"]["vars"] |= BED | {
        "registry_build_arguments": {"http_proxy": proxy, "https_proxy": proxy},
        "ansible_user": "debian",
        "ansible_ssh_private_key_file": str(lab.parent / "id_ed25519"),
        "ansible_ssh_common_args": known,
        "common_ssh_from": [gateway],
    }
    return stack


def _gateway(lab: Path) -> str:
    """This machine on the hosts' network: Ansible and packages come from there."""
    address = (lab / "hosts").read_text().split()[0]
    return address.rpartition(".")[0] + ".1"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "stack").mkdir(exist_ok=True)
    text = yaml.safe_dump(made(folder), sort_keys=False)
    (folder / "stack" / "hosts.yml").write_text(f"---\n{text}")
    shutil.copyfile(folder / "ssh_config", folder / "stack" / "ssh_config")
