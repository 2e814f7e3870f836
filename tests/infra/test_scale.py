"""Workers come and go by count, and only they; how long each stage takes is printed."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.infra.project import Project
from tests.infra.stack import ROOT, Stack

pytestmark = pytest.mark.full

STACK = "lu"
RESULTS = ROOT / "build/infra.json"

Stages = dict[str, float]
"""What was done -> the seconds it took."""


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """Filled by the tests; at the end they are written and printed."""
    stages: Stages = {}
    yield stages
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({name: round(s, 1) for name, s in stages.items()}, indent=2))
    print(RESULTS.read_text())


@pytest.fixture(scope="module")
def stack(new_stack: Callable[..., Stack], small: dict[str, Any], stages: Stages) -> Stack:
    """One host for all but the workers, and none of these yet; up."""
    kinds = ["database", "manager", "api"]
    hosts = {
        "all": {"kinds": kinds, "flavor": "eo1.small"},
        "worker": {"kinds": ["worker"], "flavor": "eo1.small", "count": 0},
    }
    volumes = {
        "database": {"size_gb": 1},
        "backup": {"size_gb": 1},
        "cache": {"size_gb": 1, "type": "ssd"},
    }
    stack = new_stack(STACK, small | {"hosts": hosts, "volumes": volumes})
    stages["nothing to 1 host"] = stack.up().took_s
    return stack


def scale(stack: Stack, count: int) -> float:
    """Bring the workers to this count; returns the seconds it took."""
    hosts = stack.settings["hosts"]
    stack.configure(hosts=hosts | {"worker": hosts["worker"] | {"count": count}})
    return stack.up().took_s


def counted(project: Project) -> Counter[str]:
    return Counter(resource.kind for resource in project.resources())


def _workers(count: int, groups: int) -> dict[str, int]:
    """What this many workers are made of."""
    per_worker = dict.fromkeys(("Instance", "Port", "Volume", "VolumeAttach"), count)
    return per_worker | {"ServerGroup": groups}


def workers(project: Project) -> dict[str, str]:
    servers = project.ids("Instance")
    return {name: server for name, server in servers.items() if "-worker-" in name}


def test_scaling_makes_and_removes_whole_workers_and_touches_no_other(
    stack: Stack, project: Project, stages: Stages
):
    before = counted(project)
    others = project.ids("Instance")
    stages["0 to 8 workers"] = scale(stack, 8)
    eight = workers(project)
    assert set(eight) == {f"cbm-{STACK}-worker-{n}" for n in range(1, 9)}
    added = counted(project) - before
    assert added == _workers(8, groups=1)
    addresses = {p.fixed_ips[0]["ip_address"] for p in project.cloud.network.ports()}
    assert {f"10.20.0.{n}" for n in range(100, 108)} <= addresses
    stages["8 to 2 workers"] = scale(stack, 2)
    two = workers(project)
    assert two == {name: eight[name] for name in sorted(eight)[:2]}
    assert others.items() <= project.ids("Instance").items()
    assert counted(project)["Volume"] == before["Volume"] + 2
    stack.assert_unchanged()


def test_twenty_workers_with_ports_and_volumes_come_and_go(
    stack: Stack, project: Project, stages: Stages
):
    scale(stack, 0)
    before = counted(project)
    stages["0 to 20 workers"] = scale(stack, 20)
    added = counted(project) - before
    assert added == _workers(20, groups=2)
    stages["up that changes nothing, 21 hosts"] = stack.up().took_s
    stages["20 to 0 workers"] = scale(stack, 0)
    assert counted(project) == before


def test_the_end_leaves_only_data(stack: Stack, project: Project, stages: Stages):
    stages["destroy"] = stack.destroy().took_s
    assert project.left() == []
    assert project.ids("Volume").keys() == {f"cbm-{STACK}-database", f"cbm-{STACK}-backup"}
