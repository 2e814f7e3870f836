"""validate.yml refuses early: all problems of all hosts at once, each with what to do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.appliance.conftest import ROOT, Appliance


def validate(inventory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What the playbook says of an inventory."""
    programs = Path(sys.executable).parent
    return subprocess.run(
        [
            programs / "ansible-playbook",
            "--inventory",
            inventory,
            *options,
            ROOT / "playbooks" / "validate.yml",
        ],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def broken(appliance: Appliance) -> dict[str, Any]:
    """The appliance's inventory with a mistake of each sort."""
    stack: dict[str, Any] = yaml.safe_load(appliance.inventory.read_text())["all"]
    database, manager = appliance.names("postgis")[0], appliance.names("registry")[0]
    stack["hosts"][database]["cbm_volumes"] = {"database": {"device": "/dev/none", "size_gb": 1}}
    del stack["hosts"][database]["cbm_public_address"]
    stack["hosts"][manager]["cbm_address"] = "192.0.2.1"
    stack["hosts"]["Wrong_name"] = {
        "ansible_host": "127.0.0.1",
        "ansible_port": 9,
        "cbm_address": "192.0.2.1",
    }
    stack["hosts"][appliance.names("api")[0]]["cbm_address"] = "172.21.0.9"
    stack["children"]["docker"]["hosts"].pop(manager)
    stack["children"]["postgis"]["hosts"][manager] = {}
    stack["children"].pop("proxy")
    stack["vars"] |= {
        "cbm_domain": "no domain",
        "cbm_release": "HEAD~1:nothing",
        "postgis_connections": 60,
        "scenes_s3_key_id": "of a key whose secret is nowhere",
    }
    return {"all": stack}


@pytest.fixture(scope="module")
def refused(appliance: Appliance, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "hosts.yml").write_text(yaml.safe_dump(broken(appliance)))
    (folder / "secrets").mkdir(mode=0o755)
    ran = validate(folder / "hosts.yml", "-e", "validate_wait_s=5")
    assert ran.returncode != 0
    return " ".join(ran.stdout.split())


@pytest.mark.parametrize(
    "problem",
    [
        "Wrong_name cannot be reached or used",
        "Wrong_name is not in the group common",
        "Wrong_name has a name that no certificate can carry",
        "Wrong_name lacks cbm_public_address, cbm_kinds, cbm_volumes in the inventory",
        "lacks the volumes /dev/none: attach them",
        "lacks cbm_public_address in the inventory: write it again",
        "must also be in docker",
        "does not have its cbm_address 192.0.2.1 but",
        "group postgis has 2 hosts: exactly one is the database",
        "must be in group proxy too",
        "cbm_address 192.0.2.1 belongs to more than one host",
        "cbm_address 172.21.0.9 lies in 172.20.0.0/14 or 172.24.0.0/14, where Docker's networks",
        "cbm_domain no domain is no domain name",
        "lacks pyproject.toml, requirements/store.lock, store/sql",
        "has mode 755: `chmod 700` it",
        "postgis_connections is 60, and 104 are needed: 64 by the API",
        "lacks scenes_s3: write the secret of each key that group_vars name into it",
    ],
)
def test_every_problem_is_said_in_one_run(refused: str, problem: str) -> None:
    assert problem in refused


def test_a_host_too_small_is_refused(appliance: Appliance) -> None:
    ran = validate(
        appliance.inventory, "-e", "validate_memory_mb=99999999", "-e", "validate_disk_gb=99999999"
    )
    output = " ".join(ran.stdout.split())
    assert ran.returncode != 0
    assert "99999999 are needed: take a larger flavour" in output
    assert "99999999 are needed: clear or enlarge the disk" in output


def test_a_clock_that_is_off_is_refused(appliance: Appliance) -> None:
    ran = validate(appliance.inventory, "-e", "validate_skew_s=-1")
    assert ran.returncode != 0
    assert "set both by NTP" in " ".join(ran.stdout.split())


def test_secrets_that_git_would_take_are_refused(appliance: Appliance, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "registry").write_text("secret")
    subprocess.run(["git", "-C", tmp_path, "add", "secrets/registry"], check=True)
    ran = validate(appliance.inventory, "-e", f"cbm_secrets={folder}")
    output = " ".join(ran.stdout.split())
    assert ran.returncode != 0
    assert "would go into git: add it to .gitignore" in output
    assert "git keeps secrets/registry" in output


def test_a_sound_appliance_is_let_through_unchanged(appliance: Appliance) -> None:
    ran = validate(appliance.inventory)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "may be converged" in ran.stdout
    assert "changed: [" not in ran.stdout
