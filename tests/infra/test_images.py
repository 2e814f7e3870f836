"""Prepared images: made on a builder that is removed, kept by number, taken by new hosts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import images, settings
from infra.errors import InfraError
from infra.settings import StackSettings
from tests.beds.hosts.inventory import BED
from tests.beds.openstack.places import PROXY_PORT, proxy_address
from tests.infra.project import Project
from tests.infra.stack import ROOT, Stack

pytestmark = pytest.mark.full

STACK, BASE = "be", "Debian 12"


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack], small: dict[str, Any]) -> Iterator[Stack]:
    """A stack without workers that begins with prepared images, up before there are any."""
    hosts = {
        "all": {"kinds": ["database", "manager", "api"], "flavor": "eo1.small"},
        "worker": {"kinds": ["worker"], "flavor": "eo1.xsmall", "count": 0},
    }
    volumes = {"database": {"size_gb": 1}, "backup": {"size_gb": 1}}
    chosen = {"image": "prepared", "base_image": BASE, "hosts": hosts, "volumes": volumes}
    stack = new_stack(STACK, small | chosen)
    yield stack
    stack.destroy()


@pytest.fixture
def configured(stack: Stack) -> StackSettings:
    return settings.validate(STACK, stack.settings)


def prepared(project: Project) -> list[str]:
    return [image.release for image in images.list_prepared(project.cloud)]


def test_without_a_network_no_builder_is_started(
    stack: Stack, project: Project, configured: StackSettings
):
    with (
        pytest.raises(InfraError, match="run `fab up --stack be` first"),
        images.running_builder(project.cloud, configured, "eo1.xsmall"),
    ):
        pytest.fail("there is no network")
    assert project.left() == []


def test_without_a_fitting_image_hosts_begin_with_the_base_and_a_remark(
    stack: Stack, project: Project
):
    assert "no prepared image of Debian 12" in stack.up().output
    (server,) = project.cloud.compute.servers()
    base = images.find_base(project.cloud, settings.validate(STACK, stack.settings))
    assert server.image.id == base.id


def test_the_builder_is_removed_when_the_work_fails(
    stack: Stack, project: Project, configured: StackSettings
):
    def fail() -> None:
        with images.running_builder(project.cloud, configured, "eo1.xsmall") as builder:
            assert builder.address == "10.20.0.50"
            assert builder.name in project.ids("Instance")
            raise RuntimeError("it failed")

    before = project.resources()
    with pytest.raises(RuntimeError, match="it failed"):
        fail()
    assert {one.id for one in project.resources()} == {one.id for one in before}
    assert prepared(project) == []


def test_the_newest_images_stay_and_new_hosts_begin_with_the_one_that_fits(
    stack: Stack, project: Project, configured: StackSettings
):
    release = images.release_tag()
    with images.running_builder(project.cloud, configured, "eo1.xsmall") as builder:
        for tag in ("older", "old", release, release):
            made = images.capture(project.cloud, builder, configured, tag)
    assert made.name == f"cbm-prepared-debian-12-{release}"
    assert prepared(project) == [release, "old", "older"]
    printed = stack.fab("image", "--stack", STACK, "--keep", "2", "--dry-run").output
    assert "on a builder eo1.small" in printed  # of the smallest disk the most memory
    assert "would remove cbm-prepared-debian-12-old " in printed
    removed, stayed = images.prune(project.cloud, keep=2)
    assert ([one.release for one in removed], stayed) == (["older"], [])
    workers = stack.settings["hosts"]["worker"] | {"count": 1}
    stack.configure(hosts=stack.settings["hosts"] | {"worker": workers})
    assert "no prepared image" not in stack.up().output
    servers = {server.name: server.image.id for server in project.cloud.compute.servers()}
    assert servers["cbm-be-worker-1"] == made.id != servers["cbm-be-all"]
    stack.assert_unchanged()


def test_an_image_is_made_of_a_real_host(
    new_stack: Callable[..., Stack],
    small: dict[str, Any],
    operator_agent: None,
    project: Project,
):
    hosts = {"all": {"kinds": ["database", "manager", "api"], "flavor": "eo1.medium"}}
    here = [f"{proxy_address()}/32"]
    stack = new_stack(
        "ee", small | {"availability_zone": "hosts", "hosts": hosts, "operators": here}
    )
    stack.fab("up", "--stack", "ee")
    proxy = f"http://{proxy_address()}:{PROXY_PORT}"
    choices = BED | {"registry_build_arguments": {"http_proxy": proxy, "https_proxy": proxy}}
    variables = stack.folder / "inventory/ee/group_vars/all.yml"
    variables.parent.mkdir()
    variables.write_text(f"---\n{yaml.safe_dump(choices)}")
    for name in ("playbooks", "roles", "ansible.cfg"):
        (stack.folder / name).symlink_to(ROOT / name)
    try:
        stack.printed("infra/README.md", "fab image")
        assert not Path(stack.folder, "inventory/ee/builder.yml").exists()
        assert images.release_tag() in prepared(project)
        assert "cbm-ee-image-builder" not in project.ids("Instance")
    finally:
        stack.destroy()
