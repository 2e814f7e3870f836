"""What goes wrong in the middle: it is reported clearly or mended, and no orphan is left."""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.beds.openstack.processes import pid, start, stop, wait
from tests.infra.project import Project
from tests.infra.stack import UP, Stack, until

VERBS_KILLED = ("up", "destroy", "up", "destroy", "up")
DOWN_S = 20


@pytest.fixture(scope="module")
def one_host(small: dict[str, Any]) -> dict[str, Any]:
    """All kinds of host on one, as small as can be."""
    kinds = ["database", "manager", "api", "hub"]
    return small | {
        "hosts": {"all": {"kinds": kinds, "flavor": "eo1.small"}},
        "volumes": {"database": {"size_gb": 1}, "backup": {"size_gb": 1}},
    }


@pytest.fixture
def stack(
    request: pytest.FixtureRequest,
    new_stack: Callable[..., Stack],
    one_host: dict[str, Any],
    project: Project,
) -> Iterator[Stack]:
    """A stack of one host, not up; destroyed at the end, when only its data may be left."""
    stack = new_stack(f"t{random.randrange(10**6)}", one_host)
    yield stack
    stack.destroy()
    assert project.left() == []
    for volume in project.cloud.block_storage.volumes():
        project.cloud.delete_volume(volume.id, wait=True)


def test_an_unknown_flavor_image_and_network_are_told_at_once_and_nothing_is_made(
    stack: Stack, project: Project
):
    right = dict(stack.settings)
    network = right["network"] | {"external": "outside"}
    hosts = {"all": right["hosts"]["all"] | {"flavor": "eo9.none"}}
    stack.configure(hosts=hosts, image="CP/M 2.2", network=network)
    ran = stack.try_pulumi("up", *UP)
    assert ran.code != 0
    assert all(
        word in ran.output for word in ("'eo9.none'", "'CP/M 2.2'", "'outside'", "eo1.small")
    )
    assert "Traceback" not in ran.output
    assert project.resources() == []
    stack.configure(**right)


@pytest.mark.full
def test_a_quota_lowered_in_the_middle_of_an_up_is_told_and_the_next_up_goes_on(
    stack: Stack, project: Project
):
    running = stack.start("pulumi", "up", *UP, "--non-interactive")
    until(lambda: project.ids("Network"))  # the preflight is over
    project.admin.set_compute_quotas(project.id, instances=0)
    output, _ = running.communicate(timeout=300)
    assert running.returncode != 0
    assert "Quota exceeded for instances" in output
    project.admin.set_compute_quotas(project.id, instances=40)
    stack.up()
    stack.assert_unchanged()


@pytest.mark.full
def test_a_server_that_fits_no_hypervisor_is_told_and_the_next_up_replaces_it(
    stack: Stack, project: Project
):
    right = stack.settings["hosts"]
    project.admin.set_compute_quotas(project.id, ram=-1)
    flavor = project.admin.compute.create_flavor(
        name=f"huge-{stack.name}", vcpus=1, ram=8_000_000, disk=1
    )
    try:
        stack.configure(hosts={"all": right["all"] | {"flavor": flavor.name}})
        ran = stack.run("fab", "up", "--stack", stack.name)
        assert ran.code != 0
        assert f"cbm-{stack.name}-all: ERROR (No valid host was found" in ran.output
        audit = stack.run("fab", "drift", "--stack", stack.name).output
        assert "status is ERROR (No valid host was found" in audit
    finally:
        project.admin.compute.delete_flavor(flavor)
    stack.configure(hosts=right)
    stack.up()
    assert [s.status for s in project.cloud.compute.servers()] == ["ACTIVE"]
    stack.assert_unchanged()


@pytest.mark.full
def test_what_was_made_by_halves_and_cannot_be_updated_is_made_anew(stack: Stack):
    stack.up()
    state = json.loads(stack.pulumi("stack", "export").output)
    halves = ("SecGroupRule", "VolumeAttach", "Keypair")
    of_kind = {
        kind: next(r for r in state["deployment"]["resources"] if r["type"].endswith(f":{kind}"))
        for kind in halves
    }
    for resource in of_kind.values():
        resource["initErrors"] = ["the API went down after it had made this"]
    file = stack.folder / "halves.json"
    file.write_text(json.dumps(state))
    stack.pulumi("stack", "import", "--file", str(file))
    stack.up()
    stack.assert_unchanged()


@pytest.mark.full
def test_servers_that_went_although_their_destroy_failed_are_made_anew(
    stack: Stack, project: Project
):
    stack.up()
    for mend in (stack.up, lambda: stack.fab("up", "--stack", stack.name)):
        for server in project.cloud.compute.servers():
            project.cloud.delete_server(server.id, wait=True)
        assert "missing: 0" not in stack.run("fab", "drift", "--stack", stack.name).output
        mend()
        assert len(project.ids("Instance")) == 1
        stack.assert_unchanged()


@pytest.mark.full
def test_an_address_that_somebody_took_is_told_and_free_again_it_is_used(
    stack: Stack, project: Project
):
    stack.up()
    network = project.cloud.network
    subnet = next(iter(network.subnets(project_id=project.id)))
    address = {"subnet_id": subnet.id, "ip_address": "10.20.0.100"}
    taken = network.create_port(network_id=subnet.network_id, fixed_ips=[address])
    workers = {"kinds": ["worker"], "flavor": "eo1.small", "count": 1}
    stack.configure(hosts=stack.settings["hosts"] | {"worker": workers})
    ran = stack.try_pulumi("up", *UP)
    assert ran.code != 0
    assert "10.20.0.100" in ran.output
    assert len(project.ids("Instance")) == 1
    network.delete_port(taken)
    stack.up()
    assert len(project.ids("Instance")) == 2
    stack.assert_unchanged()


@pytest.mark.full
def test_a_command_line_killed_at_random_moments_leaves_nothing_that_the_next_does_not_mend(
    stack: Stack, project: Project
):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    killed = [kill(stack, verb, moments.uniform(4, 14)) for verb in VERBS_KILLED]
    assert any(killed)
    stack.fab("up", "--stack", stack.name)
    assert project.ids("Instance").keys() == {f"cbm-{stack.name}-all"}
    stack.assert_unchanged()


def kill(stack: Stack, verb: str, after_s: float) -> bool:
    """Kill a command of Pulumi after some seconds; whether it was still at work then."""
    stack.try_pulumi("cancel", "--yes")  # the lock of the one killed before
    running = stack.start("pulumi", verb, *UP, "--non-interactive")
    time.sleep(after_s)
    at_work = running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.communicate()
    return at_work


@pytest.mark.full  # while it lasts, no other test may be at work
@pytest.mark.parametrize("api", ["neutron-api", "nova-api", "cinder-api", "keystone-api"])
def test_an_api_that_is_down_for_20_s_is_waited_for_or_told(
    stack: Stack, project: Project, api: str
):
    running = stack.start("pulumi", "up", *UP, "--non-interactive")
    until(lambda: project.ids("Network"))
    stop(api)
    time.sleep(DOWN_S)
    start(api)
    wait(api)
    assert pid(api)
    output, _ = running.communicate(timeout=400)
    if running.returncode:
        print(output)
        assert "Traceback" not in output
    stack.fab("up", "--stack", stack.name)  # it removes what was made but never answered for
    stack.fab("drift", "--stack", stack.name)
    assert project.ids("Instance").keys() == {f"cbm-{stack.name}-all"}
    stack.assert_unchanged()
