"""Outputs become an inventory whose groups are roles, and an ssh_config with one bastion."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.inventory import (
    StackOutput,
    build_inventory,
    build_ssh_config,
    device_path,
    written_builder,
)

KNOWN_HOSTS = Path("/srv/my operators/known_hosts")
VOLUME = "2b0d26fa-1284-4b36-973a-e1ab1ff55fa2"


def host(name: str, kinds: list[str], address: str, **other: Any) -> dict[str, Any]:
    plain = {"public_address": None, "bastion": False, "volumes": {}, "flavor": "eo1.large"}
    whole = {"name": f"cbm-nl-{name}", "id": f"id-of-{name}", "kinds": kinds, "address": address}
    return plain | whole | other


APPLIANCE = StackOutput.model_validate(
    {
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
)


def test_groups_are_the_roles_of_the_kinds() -> None:
    children = build_inventory(APPLIANCE)["all"]["children"]
    members = {group: [*content["hosts"]] for group, content in children.items()}
    assert members["common"] == [host.name for host in APPLIANCE.hosts]
    assert members["postgis"] == members["backup"] == ["cbm-nl-database"]
    assert members["swarm"] == ["cbm-nl-manager", "cbm-nl-worker-1"]
    assert members["docker"] == ["cbm-nl-manager", "cbm-nl-worker-1", "cbm-nl-api"]
    assert members["proxy"] == members["jupyterhub"] == members["api"] == ["cbm-nl-api"]
    for group in ("registry", "extraction", "card", "monitoring"):
        assert members[group] == ["cbm-nl-manager"]


def test_what_a_stack_has_not_is_empty_for_roles() -> None:
    shared = build_inventory(APPLIANCE)["all"]["vars"]
    assert (shared["cbm_domain"], shared["cbm_bucket"]) == ("cbm.example.org", "")


def test_a_volume_is_named_by_its_id_and_not_by_its_order() -> None:
    variables = build_inventory(APPLIANCE)["all"]["hosts"]["cbm-nl-database"]
    path = "/dev/disk/by-id/virtio-2b0d26fa-1284-4b36-9"
    assert variables["cbm_volumes"]["database"]["device"] == device_path(VOLUME) == path


def test_all_hosts_but_the_bastion_are_reached_through_it() -> None:
    blocks = {
        block.split("\n")[0]: block
        for block in build_ssh_config(APPLIANCE, KNOWN_HOSTS).split("\n\n")
    }
    assert "ProxyJump" not in blocks["Host cbm-nl-manager"]
    assert "HostName 198.51.100.7" in blocks["Host cbm-nl-manager"]
    for name in ("database", "worker-1", "api"):
        assert "ProxyJump cbm-nl-manager" in blocks[f"Host cbm-nl-{name}"]
    assert "HostName 10.0.0.30" in blocks["Host cbm-nl-api"]


def test_ssh_knows_a_host_by_its_server_so_that_a_new_one_is_no_alarm() -> None:
    assert "HostKeyAlias id-of-database" in build_ssh_config(APPLIANCE, KNOWN_HOSTS)


def test_the_operators_own_known_hosts_is_left_alone() -> None:
    line = '  UserKnownHostsFile "/srv/my operators/known_hosts"\n'
    assert line in build_ssh_config(APPLIANCE, KNOWN_HOSTS)


def test_the_key_is_named_only_when_given() -> None:
    assert "IdentityFile" not in build_ssh_config(APPLIANCE, KNOWN_HOSTS)
    assert "  IdentityFile ~/.ssh/nl\n" in build_ssh_config(APPLIANCE, KNOWN_HOSTS, "~/.ssh/nl")


def test_a_stacks_folder_as_the_inventory_names_no_secret_as_a_host(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    for name in ("secrets/api_key", "known_hosts"):
        (tmp_path / name).write_text("a-secret\n")
    (tmp_path / "hosts.yml").write_text("all: {hosts: {appliance: {}}}\n")
    program = Path(sys.executable).with_name("ansible-inventory")
    ran = subprocess.run(
        [program, "--inventory", tmp_path, "--list"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"appliance"' in ran.stdout
    assert "a-secret" not in ran.stdout


def test_a_builder_is_reached_as_the_hosts_are_while_its_image_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inventory/nl"
    folder.mkdir(parents=True)
    (folder / "hosts.yml").write_text(yaml.safe_dump(build_inventory(APPLIANCE)))
    (folder / "ssh_config").write_text(build_ssh_config(APPLIANCE, KNOWN_HOSTS, "/srv/nl"))
    before = sorted(folder.iterdir())
    with written_builder("nl", "cbm-nl-image-builder", "10.0.0.50", "id-of-it") as hosts:
        command = ["ssh", "-G", "-F", folder / "builder.ssh_config", "cbm-nl-image-builder"]
        understood = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for line in (
            "user cbm",
            "hostname 10.0.0.50",
            "hostkeyalias id-of-it",
            "proxyjump cbm-nl-manager",
            "identityfile /srv/nl",
        ):
            assert f"{line}\n" in understood
        whole = yaml.safe_load(hosts.read_text())["all"]
        assert whole["children"]["builder"]["hosts"] == {"cbm-nl-image-builder": None}
    assert sorted(folder.iterdir()) == before
