"""The documented example of a large Member State stands as it is written."""

from collections import Counter
from collections.abc import Callable

import pytest
import yaml

from tests.infra.project import Project
from tests.infra.stack import ROOT, Stack


@pytest.mark.full
def test_the_example_of_the_netherlands_size_goes_up_and_down(
    new_stack: Callable[..., Stack], project: Project, small: dict[str, object]
):
    example = yaml.safe_load((ROOT / "Pulumi.nl.yaml").read_text())["config"]
    settings = {key.removeprefix("cbm:"): value for key, value in example.items()}
    stack = new_stack("nl", settings | {"public_key": small["public_key"]})
    stack.up()
    kinds = Counter(resource.kind for resource in project.resources())
    assert kinds["Instance"] == 6
    sizes = {v.name: (v.size, v.volume_type) for v in project.cloud.block_storage.volumes()}
    assert sizes["cbm-nl-database"] == (300, "ssd")
    assert sizes["cbm-nl-worker-2-cache"] == (50, "ssd")
    eodata = project.cloud.network.find_network("eodata")
    there = {p.name for p in project.cloud.network.ports(network_id=eodata.id) if p.name}
    assert {f"cbm-nl-{name}-eodata" for name in ("api", "manager", "worker-1", "worker-2")} <= there
    stack.assert_unchanged()
    stack.destroy()
    assert project.left() == []
