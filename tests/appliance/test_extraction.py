"""Workers of the swarm: what they may, and that no scene is lost, whichever of them ends."""

import json
import shlex
import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

from tests.appliance.conftest import Appliance
from tests.beds.hosts.lab import Lab

CAMPAIGN = "--aoi demo --year 2024"
PARCELS = "parcels.gpkg --id-column code --crop-column crop --crop-code-column crop_code"
DIGEST = """
    SELECT count(*) || ' ' || md5(string_agg(md5(concat_ws('|', code, reference, band, count, mean,
        std, min, max, p25, p50, p75)), '' ORDER BY code, reference, band))
    FROM demo.sigs_2024 s JOIN demo.parcels_2024 p ON p.ogc_fid = s.pid
    JOIN public.scene USING (obsid)"""


@pytest.fixture(scope="module")
def manager(appliance: Appliance) -> Host:
    return appliance.host("extraction")


@pytest.fixture(scope="module")
def service(manager: Host) -> dict[str, object]:
    read = json.loads(manager.check_output("docker service inspect cbm_extraction"))
    spec: dict[str, object] = read[0]["Spec"]["TaskTemplate"]["ContainerSpec"]
    return spec


def test_workers_are_pinned_by_digest(service: dict[str, object]) -> None:
    assert "/cbm-extraction@sha256:" in str(service["Image"])


def test_no_secret_is_told_with_the_service(
    appliance: Appliance, service: dict[str, object]
) -> None:
    assert appliance.secret("database_worker") not in json.dumps(service)
    assert "PGPASSWORD" not in json.dumps(service)


def worker_task(appliance: Appliance) -> tuple[Host, str]:
    """A node with a worker on it, and the worker's container."""
    for host in appliance.hosts("swarm"):
        found = host.check_output("docker ps --quiet --filter name=cbm_extraction").split()
        if found:
            return host, found[0]
    pytest.fail("no worker runs")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import os; print(os.getuid())", "10001"),
        ("open('/opt/cbm/x', 'w')", "Read-only file system"),
        ("open('/run/secrets/pgpass', 'w')", "Read-only file system"),
        ("import os; print(oct(os.stat('/run/secrets/pgpass').st_mode & 0o777))", "0o400"),
        ("print([l for l in open('/proc/self/status') if 'CapEff' in l])", "0000000000000000"),
    ],
)
def test_worker_may_no_more_than_it_needs(
    appliance: Appliance, statement: str, expected: str
) -> None:
    host, container = worker_task(appliance)
    ran = host.run(f"docker exec {container} python -c {shlex.quote(statement)}")
    assert expected in ran.stdout + ran.stderr


def test_worker_of_another_password_is_refused(appliance: Appliance) -> None:
    host, container = worker_task(appliance)
    refused = f"docker exec --env PGPASSWORD=wrong {container} cbm-extract status"
    assert "authentication failed" in host.run(refused).stderr
    assert host.run(f"docker exec {container} cbm-extract status").rc == 0


# From here on scenes are extracted, again and again.


def totals(manager: Host) -> dict[str, int]:
    found: dict[str, int] = json.loads(manager.check_output("cbm-extract status --json"))["totals"]
    return found


def waited(condition: Callable[[], bool], seconds: float, pause_s: float = 1) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause_s)
    return False


def begin(demo: Appliance, manager: Host) -> None:
    """Empty the campaign and put all its scenes back into the queue; returns when work is held."""
    again = f"cbm-store campaign drop {CAMPAIGN} --yes; cbm-store campaign create {CAMPAIGN}"
    imported = f"cbm-store parcels import {PARCELS} {CAMPAIGN}"
    manager.check_output(f"cd /eodata/demo && {again} && {imported}")
    # All of it may be done within seconds.
    claimed = "SELECT count(*) FROM public.work WHERE state = 'claimed'"
    assert waited(lambda: demo.sql(claimed) != "0", 90, pause_s=0.1), totals(manager)


def digest(appliance: Appliance, manager: Host) -> str:
    """All signatures, as parcels and scenes are known outside this database."""

    def idle() -> bool:
        now = totals(manager)
        return now["pending"] + now["claimed"] == 0

    assert waited(idle, 400), totals(manager)
    assert totals(manager)["dead"] == 0
    return appliance.sql(DIGEST)


def workers_at(manager: Host) -> list[str]:
    """The hosts on which a worker runs, once for each."""
    show = "docker service ps --filter desired-state=running --format '{{.Node}} {{.CurrentState}}'"
    tasks = manager.check_output(f"{show} cbm_extraction").splitlines()
    return sorted(task.split()[0] for task in tasks if task.split()[1] == "Running")


@pytest.fixture(scope="module")
def undisturbed(demo: Appliance, manager: Host) -> str:
    begin(demo, manager)
    return digest(demo, manager)


@pytest.mark.full
def test_no_scene_is_lost_or_doubled_when_a_worker_host_dies(
    demo: Appliance, manager: Host, undisturbed: str
) -> None:
    name = demo.inventory.parent.parent.name
    net = str(demo.variables(demo.names("registry")[0])["cbm_address"]).rpartition(".")[0]
    lab, victim = Lab(name, net), worker_task(demo)[0].check_output("hostname")
    assert victim != manager.check_output("hostname"), "the manager is not what shall die"
    begin(demo, manager)
    lab.down(victim)
    try:
        assert digest(demo, manager) == undisturbed
    finally:
        lab.up()
    hosts = sorted(name for name in demo.names("swarm") if "worker" in demo.kinds(name))
    assert waited(lambda: workers_at(manager) == hosts, 120), workers_at(manager)


@pytest.mark.full
def test_workers_wait_for_a_database_that_is_away_for_a_minute(
    demo: Appliance, manager: Host, undisturbed: str
) -> None:
    begin(demo, manager)
    unit = "$(systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1)"
    demo.host("postgis").check_output(f"u={unit}; systemctl stop $u; sleep 60; systemctl start $u")
    assert digest(demo, manager) == undisturbed


@pytest.mark.full
def test_no_scene_is_lost_while_workers_are_replaced(
    demo: Appliance, manager: Host, undisturbed: str
) -> None:
    begin(demo, manager)
    manager.check_output("docker service update --force --quiet cbm_extraction")
    # It fails for nodes that are no longer there, after it listed the others.
    logs = manager.run("docker service logs --since 2m cbm_extraction 2>&1").stdout
    assert "event=stopping signal=SIGTERM" in logs
    assert digest(demo, manager) == undisturbed
