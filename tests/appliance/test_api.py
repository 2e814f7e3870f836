"""The API stands: confined, known by digest, reached over TLS, and never away when one ends."""

import json
import time

import pytest

from tests.appliance.conftest import Appliance, stopped
from tests.appliance.way_in import WayIn, requests_without_end

PORTS = (8000, 8001)
QUESTIONS = ("/healthz", "/readyz", "/openapi.json", "/query/info") * 2


@pytest.fixture(scope="module")
def user(appliance: Appliance) -> WayIn:
    return WayIn.of(appliance).as_user("admin", appliance.secret("api_first_user"))


def test_the_first_user_may_log_in(user: WayIn) -> None:
    assert user.ask("/query/info").status == 200


def test_the_guide_of_the_release_is_open_to_everybody(appliance: Appliance) -> None:
    for page, text in (("index", "CbM appliance"), ("operate/alerts/ApiDown", "ApiDown")):
        answer = WayIn.of(appliance).ask(f"/guide/{page}.html")
        assert answer.status == 200
        assert text in answer.body.decode()


def test_a_wrong_password_is_refused(appliance: Appliance) -> None:
    answer = WayIn.of(appliance).as_user("admin", "not the password").ask("/query/info")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_no_secret_stands_in_an_argument_list_or_the_journal(appliance: Appliance) -> None:
    host = appliance.host("api")
    seen = host.check_output("ps -eo args") + host.check_output("journalctl -q -u 'cbm-api@*'")
    for name in ("database_api", "database_owner", "api_first_user", "api_key", "api_metrics"):
        assert appliance.secret(name) not in seen, name


def test_only_root_reads_the_settings_and_the_owners_password_is_not_there(
    appliance: Appliance,
) -> None:
    host = appliance.host("api")
    for path in ("/etc/cbm/api.env", "/etc/cbm/api/secrets/pgpass", "/root/.docker/config.json"):
        assert host.run(f"runuser -u nobody -- cat {path}").rc != 0, path
    kept = "grep -rqs {} /etc /root /run /var/lib/docker/containers"
    assert host.run(kept.format(appliance.secret("database_api"))).rc == 0
    assert host.run(kept.format(appliance.secret("database_owner"))).rc != 0


def test_instances_are_confined(appliance: Appliance) -> None:
    host = appliance.host("api")
    for port in PORTS:
        inspected = json.loads(host.check_output(f"docker inspect cbm-api-{port}"))[0]
        limits, config = inspected["HostConfig"], inspected["Config"]
        assert limits["ReadonlyRootfs"]
        assert limits["CapDrop"] == ["ALL"]
        assert "no-new-privileges" in limits["SecurityOpt"]
        assert limits["Memory"] > 0
        assert limits["PidsLimit"] > 0
        assert "@sha256:" in config["Image"]
        assert config["User"].startswith("10001")
        code = "open('/opt/cbm/x', 'w')"
        assert host.run(f'docker exec cbm-api-{port} python3 -c "{code}"').rc != 0


def test_the_database_is_reached_over_verified_tls_by_the_apis_login(appliance: Appliance) -> None:
    rows = appliance.sql(
        "SELECT DISTINCT usename, ssl FROM pg_stat_ssl "
        "JOIN pg_stat_activity USING (pid) WHERE application_name = 'cbm-api'"
    )
    assert rows.split() == ["api|t"]
    settings = appliance.host("api").file("/etc/cbm/api.env").content_string
    assert "PGSSLMODE=verify-full" in settings


def test_an_instance_that_is_killed_is_not_missed(appliance: Appliance, user: WayIn) -> None:
    host = appliance.host("api")
    with requests_without_end(user, QUESTIONS) as answers:
        time.sleep(2)
        killed = len(answers)
        host.run_expect([0], "docker kill --signal KILL cbm-api-8000")
        time.sleep(8)
    assert len(answers) > killed + 50
    assert [a for a in answers if a.status != 200] == []
    assert max(a.took_s for a in answers) < 5
    assert _answers_within(host, 8000, 60)


def test_instances_are_replaced_one_after_the_other(appliance: Appliance, user: WayIn) -> None:
    host = appliance.host("api")
    with requests_without_end(user, QUESTIONS) as answers:
        for port in PORTS:
            host.run_expect([0], f"systemctl restart cbm-api@{port}")
            assert host.run(f"curl -sf http://127.0.0.1:{port}/readyz").rc == 0
    assert len(answers) > 50
    assert [a for a in answers if a.status != 200] == []


@pytest.mark.full
def test_an_instance_that_hangs_is_restarted(appliance: Appliance) -> None:
    host = appliance.host("api")
    before = host.check_output("docker inspect --format '{{.State.Pid}}' cbm-api-8001")
    host.run_expect([0], "kill -STOP $(docker top cbm-api-8001 -o pid | tail -n +2)")
    host.run_expect([0], "systemctl start cbm-api-watch@8001")
    assert _answers_within(host, 8001, 60)
    assert host.check_output("docker inspect --format '{{.State.Pid}}' cbm-api-8001") != before


@pytest.mark.full
def test_the_api_comes_back_with_its_host(appliance: Appliance) -> None:
    host = appliance.host("api")
    host.run_expect([0], "systemctl restart docker")
    assert all(_answers_within(host, port, 90) for port in PORTS)


@pytest.mark.full
def test_while_the_database_is_away_answers_say_so_and_then_go_on(
    appliance: Appliance, user: WayIn
) -> None:
    with stopped(appliance.host("postgis"), "postgresql@15-main"):
        away = user.ask("/query/info")
        alive = user.ask("/healthz")
    assert (away.status, alive.status) == (503, 200)
    assert user.ask("/query/info").status == 200


def _answers_within(host, port: int, seconds: int) -> bool:  # type: ignore[no-untyped-def]
    curl = f"curl -sf --retry {seconds} --retry-delay 1 --retry-all-errors -m 5"
    return bool(host.run(f"{curl} http://127.0.0.1:{port}/readyz").rc == 0)
