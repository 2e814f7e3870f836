"""Prepared images: what a builder must lose, which image fits, what the release is called."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra import images, settings
from infra.errors import RefusedError
from infra.images import PreparedImage
from tests.unit.infra_examples import ROOT, example

FILES = ROOT / "roles/image/files"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nx\n"
TRACES = {
    "etc/machine-id": "4c1f\n",
    "etc/hostname": "cbm-nl-builder\n",
    "etc/ssh/ssh_host_ed25519_key": KEY,
    "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA\n",
    "etc/ssl/private/ssl-cert-snakeoil.key": "-----BEGIN PRIVATE KEY-----\n",
    "etc/ssl/certs/ssl-cert-snakeoil.pem": CERTIFICATE,
    "etc/cbm/tls/host.crt": CERTIFICATE,
    "etc/docker/certs.d/manager:5000/ca.crt": CERTIFICATE,
    "etc/docker/key.json": '{"d": "x"}',
    "home/cbm/.ssh/authorized_keys": "ssh-ed25519 AAAA\n",
    "home/cbm/.ansible/tmp/x": "x",
    "root/.docker/config.json": '{"auths": {}}',
    "root/.bash_history": "passwd\n",
    "var/lib/cloud/instances/i-1/user-data.txt": "#cloud-config\n",
    "var/lib/dbus/machine-id": "4c1f\n",
    "var/lib/dhcp/dhclient.leases": "lease\n",
    "var/lib/docker/swarm/worker/join-token": "SWMTKN\n",
    "var/lib/systemd/random-seed": "x",
    "var/log/auth.log": "login\n",
    "var/log/journal/4c1f/system.journal": "x",
}
"""What a host has of its own, by the path."""

KEPT = {
    "etc/ssh/sshd_config": "PasswordAuthentication no\n",
    "etc/ssl/certs/ca-certificates.crt": CERTIFICATE,
    "etc/ansible/facts.d/cbm_image.fact": "{}",
    "usr/lib/python3/dist-packages/example.pem": KEY,
    "var/lib/docker/overlay2/layer/diff/example.pem": KEY,
}
"""What an image has, by the path."""


def plant(root: Path, files: dict[str, str]) -> None:
    for name in ("etc/ssl/certs", "etc/ssh", "home", "root", "srv", "var/log", "var/lib", "usr"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def traces(root: Path) -> set[str]:
    ran = subprocess.run([FILES / "traces", root], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize("name", sorted(TRACES))
def test_each_trace_of_a_host_is_found_and_removed(tmp_path: Path, name: str) -> None:
    plant(tmp_path, KEPT | {name: TRACES[name]})
    found = traces(tmp_path)
    assert any(name.startswith(path) for path in found), found
    assert not found & KEPT.keys()
    subprocess.run([FILES / "clean", tmp_path], check=True)
    assert traces(tmp_path) == set()
    assert (tmp_path / "etc/machine-id").read_text() == ""


def test_what_roles_installed_stays(tmp_path: Path) -> None:
    plant(tmp_path, KEPT | TRACES)
    subprocess.run([FILES / "clean", tmp_path], check=True)
    assert {name: (tmp_path / name).read_text() for name in KEPT} == KEPT


def test_the_module_that_cleans_keeps_its_own_files_to_its_end(tmp_path: Path) -> None:
    module, left = "tmp/ansible_command_payload_1/x.zip", "tmp/ansible-tmp-1/x"
    plant(tmp_path, KEPT | {module: "x", left: "x"})
    subprocess.run([FILES / "clean", tmp_path], check=True)
    assert ((tmp_path / module).exists(), (tmp_path / left).parent.exists()) == (True, False)


def test_the_release_is_called_as_the_roles_call_it(tmp_path: Path) -> None:
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "become": False,
        "vars_files": [str(ROOT / "playbooks/group_vars/all.yml")],
        "tasks": [
            {"include_role": {"name": "release", "tasks_from": "name"}},
            {"copy": {"content": "{{ release_tag }}", "dest": str(tmp_path / "tag")}},
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [ansible, "--inventory", "localhost,", "--extra-vars", f"cbm_source={ROOT}"]
    ran = subprocess.run(
        [*command, tmp_path / "play.yml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
    assert (tmp_path / "tag").read_text() == images.release_tag()


def test_the_newest_image_of_base_and_release_fits() -> None:
    there = [
        PreparedImage("1", "a", base="new", release="r2"),
        PreparedImage("2", "b", base="old", release="r2"),
        PreparedImage("3", "c", base="new", release="r1"),
        PreparedImage("4", "d", base="new", release="r1"),
    ]
    assert images.find_fitting(there, "new", "r1") is there[2]
    assert images.find_fitting(there, "old", "r1") is None


def test_an_images_name_has_base_and_release() -> None:
    assert images.image_name("Debian 12", "0a1b") == "cbm-prepared-debian-12-0a1b"


def test_prepared_needs_a_base_and_nothing_else_has_one() -> None:
    stated = example("nl") | {"image": "prepared", "base_image": "Debian 12"}
    assert settings.validate("nl", stated).base == "Debian 12"
    assert settings.validate("nl", example("nl")).base == example("nl")["image"]
    for wrong in ({"image": "prepared"}, {"base_image": "Debian 12"}):
        with pytest.raises(RefusedError, match="base_image: give the name of an image"):
            settings.validate("nl", example("nl") | wrong)


def test_the_install_tasks_of_roles_know_nothing_of_a_stack() -> None:
    facts = {"cbm_address", "cbm_volumes", "cbm_passwords", "cbm_secrets", "cbm_tls", "cbm_images"}
    facts |= {"groups[", "hostvars[", "inventory_hostname", "cbm_manager_host", "no_log"}
    known = {"jupyterhub": {"inventory_hostname"}}  # in the words of a refusal
    for path in (ROOT / "roles").glob("*/tasks/install*.yml"):
        text = path.read_text()
        named = {fact for fact in facts if fact in text} - known.get(path.parts[-3], set())
        assert not named, path
        assert "include_role" not in text, path


def test_packages_are_installed_by_install_tasks_alone() -> None:
    others = [
        path
        for path in (ROOT / "roles").glob("*/tasks/*.yml")
        if "ansible.builtin.apt:" in path.read_text() and not path.name.startswith("install")
    ]
    assert others == []


def test_the_fingerprint_is_of_what_roles_install(tmp_path: Path) -> None:
    def fingerprint() -> str:
        command = [FILES / "fingerprint", tmp_path]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    for name in ("tasks/install.yml", "tasks/configure.yml", "vars/main.yml"):
        (tmp_path / "roles/x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "roles/x" / name).write_text("---\n")
    before = fingerprint()
    (tmp_path / "roles/x/tasks/configure.yml").write_text("--- # more\n")
    assert fingerprint() == before
    (tmp_path / "roles/x/tasks/install.yml").write_text("--- # more\n")
    assert fingerprint() != before
