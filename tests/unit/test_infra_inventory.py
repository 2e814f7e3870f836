"""Outputs become an inventory whose groups are roles, and an ssh_config with one bastion."""

from pathlib import Path
from typing import Any

from infra.inventory import device, inventory, ssh_config

KNOWN_HOSTS = Path("/srv/my operators/known_hosts")
VOLUME = "2b0d26fa-1284-4b36-973a-e1ab1ff55fa2"


def host(name: str, kinds: list[str], address: str, **other: Any) -> dict[str, Any]:
    plain = {"public_address": None, "bastion": False, "volumes": {}, "flavor": "eo1.large"}
    whole = {"name": f"cbm-nl-{name}", "id": f"id-of-{name}", "kinds": kinds, "address": address}
    return plain | whole | other


APPLIANCE = {
    "stack": "nl",
    "domain": "cbm.example.org",
    "bucket": None,
    "hosts": [
        host(
            "database",
            ["database"],
            "10.0.0.10",
            volumes={"database": {"id": VOLUME, "size_gb": 20, "kept": True}},
        ),
        host("manager", ["manager"], "10.0.0.20", bastion=True, public_address="198.51.100.7"),
        host("worker-1", ["worker"], "10.0.0.100"),
        host("api", ["api", "hub"], "10.0.0.30", public_address="198.51.100.8"),
    ],
}


def test_groups_are_the_roles_of_the_kinds() -> None:
    children = inventory(APPLIANCE)["all"]["children"]
    members = {group: [*content["hosts"]] for group, content in children.items()}
    assert members["common"] == [one["name"] for one in APPLIANCE["hosts"]]  # type: ignore[index]
    assert members["postgis"] == members["backup"] == ["cbm-nl-database"]
    assert members["swarm"] == ["cbm-nl-manager", "cbm-nl-worker-1"]
    assert members["docker"] == ["cbm-nl-manager", "cbm-nl-worker-1", "cbm-nl-api"]
    assert members["proxy"] == members["jupyterhub"] == members["api"] == ["cbm-nl-api"]
    for group in ("registry", "extraction", "card", "monitoring"):
        assert members[group] == ["cbm-nl-manager"]


def test_what_a_stack_has_not_is_empty_for_roles() -> None:
    shared = inventory(APPLIANCE)["all"]["vars"]
    assert (shared["cbm_domain"], shared["cbm_bucket"]) == ("cbm.example.org", "")


def test_a_volume_is_named_by_its_id_and_not_by_its_order() -> None:
    variables = inventory(APPLIANCE)["all"]["hosts"]["cbm-nl-database"]
    path = "/dev/disk/by-id/virtio-2b0d26fa-1284-4b36-9"
    assert variables["cbm_volumes"]["database"]["device"] == device(VOLUME) == path


def test_all_hosts_but_the_bastion_are_reached_through_it() -> None:
    blocks = {
        block.split("\n")[0]: block for block in ssh_config(APPLIANCE, KNOWN_HOSTS).split("\n\n")
    }
    assert "ProxyJump" not in blocks["Host cbm-nl-manager"]
    assert "HostName 198.51.100.7" in blocks["Host cbm-nl-manager"]
    for name in ("database", "worker-1", "api"):
        assert "ProxyJump cbm-nl-manager" in blocks[f"Host cbm-nl-{name}"]
    assert "HostName 10.0.0.30" in blocks["Host cbm-nl-api"]


def test_ssh_knows_a_host_by_its_server_so_that_a_new_one_is_no_alarm() -> None:
    assert "HostKeyAlias id-of-database" in ssh_config(APPLIANCE, KNOWN_HOSTS)


def test_the_operators_own_known_hosts_is_left_alone() -> None:
    line = '  UserKnownHostsFile "/srv/my operators/known_hosts"\n'
    assert line in ssh_config(APPLIANCE, KNOWN_HOSTS)


def test_the_key_is_named_only_when_given() -> None:
    assert "IdentityFile" not in ssh_config(APPLIANCE, KNOWN_HOSTS)
    assert "  IdentityFile ~/.ssh/nl\n" in ssh_config(APPLIANCE, KNOWN_HOSTS, "~/.ssh/nl")
