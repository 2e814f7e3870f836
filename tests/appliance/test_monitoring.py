"""The watch on real hosts: nobody else sees what it sees; alerts come and go; reports are clean."""

import json
import shlex
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.appliance import s3_door
from tests.appliance.conftest import Appliance
from tests.appliance.mailbox import Mailbox, served
from tests.appliance.way_in import WayIn

METRICS = "/var/lib/cbm/metrics"
FIGURE = "cbm_certificate_not_after_seconds"


def ask(manager: Host, path: str) -> Any:
    """Prometheus' answer, as its own host gets it."""
    return json.loads(manager.check_output(f"curl -sS http://127.0.0.1:9090/api/v1/{path}"))["data"]


def value(manager: Host, query: str) -> float | None:
    command = "curl -sS http://127.0.0.1:9090/api/v1/query --data-urlencode query={}"
    found = json.loads(manager.check_output(command.format(shlex.quote(query))))["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def wait_for(happened: Callable[[], bool], seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(5)


@pytest.fixture
def manager(appliance: Appliance) -> Host:
    return appliance.host("monitoring")


def test_every_host_service_and_rule_is_watched(appliance, manager):
    wait_for(lambda: all(t["health"] == "up" for t in ask(manager, "targets")["activeTargets"]))
    targets = ask(manager, "targets")["activeTargets"]
    seen = {(t["labels"]["job"], t["labels"]["instance"]) for t in targets}
    assert {
        *(("host", name) for name in appliance.names("common")),
        *(("database", name) for name in appliance.names("postgis")),
        *(("api", name) for name in appliance.names("api")),
    } <= seen
    rules = [rule for group in ask(manager, "rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    assert {rule["health"] for rule in rules} == {"ok"}


def test_the_database_tells_its_figures_and_the_queues(manager):
    wait_for(lambda: value(manager, "pg_up") == 1)
    assert value(manager, "pg_settings_max_connections") >= 20
    assert value(manager, "cbm_wal_waiting_files") is not None
    assert value(manager, "pg_exporter_last_scrape_error") == 0
    assert value(manager, "max(pg_exporter_user_queries_load_error) or vector(0)") == 0


def test_monitoring_reads_no_table_of_ours(appliance):
    for table in ("public.scene", "public.work", "public.api_user", "public.api_audit"):
        statement = f"SELECT has_table_privilege('monitor', '{table}', 'SELECT')"
        assert appliance.sql(statement) == "f", table


def test_exporters_let_the_manager_in_and_nobody_else(appliance, manager):
    doors = [(name, 9100) for name in appliance.names("common")]
    doors += [(name, 9187) for name in appliance.names("postgis")]
    watcher = appliance.names("monitoring")[0]
    for name, port in doors:
        assert manager.run(f"timeout 5 bash -c '</dev/tcp/{name}/{port}'").succeeded, (name, port)
        for other in set(appliance.names("common")) - {watcher, name}:
            knocked = appliance.named(other).run(f"timeout 3 bash -c '</dev/tcp/{name}/{port}'")
            assert knocked.failed, f"{other} reaches {name}:{port}"


def test_exporters_speak_tls_by_the_appliances_authority(appliance, manager):
    authority = "--cacert /etc/cbm/tls/authority.crt"
    for name in appliance.names("common"):
        plain = manager.run(f"curl -sS --fail --max-time 5 http://{name}:9100/metrics")
        assert plain.failed
        report = manager.check_output(
            f"curl -sS --fail --max-time 5 {authority} https://{name}:9100/metrics"
        )
        assert "node_memory_MemAvailable_bytes" in report
        assert FIGURE in report


def test_prometheus_is_reached_by_its_own_host_alone(appliance, manager):
    page = manager.check_output("curl -sS --fail http://127.0.0.1:9090/user/")
    assert "<title>CbM appliance</title>" in page
    address = appliance.variables(appliance.names("monitoring")[0])["cbm_address"]
    for port in (9090, 9093):
        assert manager.run(f"timeout 3 bash -c '</dev/tcp/{address}/{port}'").failed


def test_logins_like_a_hub_users_reach_no_monitoring_of_their_host(appliance, manager):
    """On a machine that is everything they could silence alerts."""
    name = appliance.names("monitoring")[0]
    as_stranger = "systemd-run --quiet --pipe --wait --collect --property=DynamicUser=yes"
    for address in ("http://127.0.0.1:9090", "http://127.0.0.1:9093", f"https://{name}:9100"):
        ask = f"curl -s -o /dev/null {address}/"
        assert manager.run(f"{as_stranger} {ask}").rc == 7, address
        assert manager.run(f"runuser -u debian -- {ask}").rc == 0, address
        assert manager.run(f"runuser -u prometheus -- {ask}").rc == 0, address


def test_an_alert_fires_reaches_alertmanager_and_resolves(appliance, manager):
    database = appliance.host("postgis")
    instance, site = appliance.names("postgis")[0], appliance.names("api")[0]
    page = "/guide/operate/alerts/CertificateExpired.html"

    def firing() -> bool:
        alerts = manager.check_output("curl -sS http://127.0.0.1:9093/api/v2/alerts?active=true")
        return any(
            a["labels"]["alertname"] == "CertificateExpired"
            and a["labels"]["instance"] == instance
            and a["labels"]["path"] == "/old.crt"
            and "playbooks/rotate.yml" in a["annotations"]["description"]
            and a["annotations"]["runbook"] == f"https://{site}{page}"
            for a in json.loads(alerts)
        )

    assert WayIn.of(appliance).ask(page).status == 200
    assert not firing()
    # With its type, as the exporter has it already: figures of one name and two types are left out.
    lines = f'# TYPE {FIGURE} gauge\\n{FIGURE}{{path="/old.crt"}} 1000\\n'
    database.check_output(f"printf '{lines}' > {METRICS}/test.prom")
    try:
        wait_for(firing)
    finally:
        database.check_output(f"rm {METRICS}/test.prom")
    wait_for(lambda: not firing(), seconds=400)


@pytest.fixture
def mailbox(appliance: Appliance, tmp_path: Path) -> Iterator[Mailbox]:
    """A mail server of this machine, as the hosts see it."""
    operator, *_ = appliance.shared("common_ssh_from")
    certificate = s3_door.certificate(operator, appliance.inventory.parent / "secrets", tmp_path)
    with served(operator, *certificate) as box:
        yield box


@pytest.mark.full
def test_an_alert_is_mailed_over_tls_to_the_operators(
    appliance: Appliance, manager: Host, mailbox: Mailbox
) -> None:
    mail = {
        "to": "operators@example.org",
        "from": "cbm@example.org",
        "server": mailbox.address,
        "login": "cbm",
        "password": mailbox.password,
    }
    appliance.play("monitoring.yml", "--extra-vars", json.dumps({"monitoring_mail": mail}))
    labels = {"alertname": "Rehearsal", "instance": "nowhere"}
    runbook = "https://api/guide/operate/alerts/index.html"
    notes = {"summary": "This is a rehearsal.", "runbook": runbook}
    alert = json.dumps([{"labels": labels, "annotations": notes}])
    try:
        manager.check_output("curl -sS --fail --json %s http://127.0.0.1:9093/api/v2/alerts", alert)
        wait_for(lambda: any("Rehearsal" in letter for letter in mailbox.letters))
    finally:
        appliance.play("monitoring.yml")
    [letter] = [letter for letter in mailbox.letters if "Rehearsal" in letter]
    assert "This is a rehearsal." in letter
    assert runbook in letter
    assert "To: operators@example.org" in letter


@pytest.mark.full
def test_an_old_backup_is_noticed_until_there_is_a_new_one(appliance, manager):
    name = appliance.names("monitoring")[0]  # a host whose figures role backup does not write
    path = f"{METRICS}/test.prom"

    def noticed() -> bool:
        found = value(manager, f'ALERTS{{alertname="BackupOld", instance="{name}"}}')
        return found == 1

    def backed_up(seconds_ago: int) -> None:
        then = f"$(($(date +%s) - {seconds_ago}))"
        manager.check_output(f'echo "cbm_backup_last_success_seconds {then}" > {path}')

    assert not noticed()
    try:
        backed_up(30 * 3600)
        wait_for(noticed)
        backed_up(60)
        wait_for(lambda: not noticed())
    finally:
        manager.check_output(f"rm {path}")


# Long, as an id of Docker's, 25 letters and digits, may hold any three of them by chance.
PASSWORDS = ("hunter2-of-the-canary", "password-of-the-canary")
PARCEL = "NL7000000000canary"


@pytest.fixture
def report(appliance: Appliance) -> dict[str, str]:
    """What facts.yml packs: file name -> text."""
    line = (
        f"refused {appliance.secret('api_metrics')} password={PASSWORDS[0]}"
        f" https://u:{PASSWORDS[1]}@h/q?pid={PARCEL}"
    )
    appliance.host("common").check_output(f"logger -p user.err 'canary {line}'")
    before = set(appliance.inventory.parent.glob("support-*.tar.gz"))
    appliance.play("facts.yml")
    (packed,) = set(appliance.inventory.parent.glob("support-*.tar.gz")) - before
    with tarfile.open(packed) as archive:
        texts = {
            member.name.rsplit("/", 1)[-1]: archive.extractfile(member).read().decode()
            for member in archive.getmembers()
            if member.isfile()
        }
    assert packed.stat().st_mode & 0o077 == 0
    packed.unlink()
    return texts


def test_a_report_of_trouble_tells_of_every_host_but_no_secret_and_no_parcel(appliance, report):
    assert report.keys() == {f"{name}.txt" for name in appliance.names("common")}
    for text in report.values():
        for title in ("Disks", "Certificate /etc/cbm/tls/host.crt", "Errors in the journal"):
            assert f"== {title}\n" in text
        assert "PRIVATE KEY" not in text
    heard = [line for line in report[f"{appliance.names('common')[0]}.txt"].splitlines()
             if "canary refused" in line]  # fmt: skip
    assert heard
    secret = appliance.secret("api_metrics")
    assert len(secret) >= 20
    for word in (secret, *PASSWORDS, PARCEL):
        assert not [name for name, text in report.items() if word in text], word
    database = report[f"{appliance.names('postgis')[0]}.txt"]
    assert "0006_monitoring.sql" in database
    assert "== Queue\n" in database
    assert "== Alerts\n" in report[f"{appliance.names('monitoring')[0]}.txt"]
