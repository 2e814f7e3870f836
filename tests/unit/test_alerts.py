"""Each alert fires on its cause and keeps silent just short of it, by promtool on the rules."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

RULES = sorted((Path(__file__).resolve().parents[2] / "roles/monitoring/files/rules").glob("*.yml"))
ALERTS = {
    rule["alert"]: rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
}
DAY = "86400"


@pytest.fixture(scope="module")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("there is no promtool here (make test installs it)")
    return program


@dataclass(frozen=True)
class Case:
    """Figures, a value per minute by default, and which alerts they set off.

    Attributes:
        alert: the alert in question.
        series: name and labels -> values as promtool writes them (start+step x times).
        at: when to look.
        fires: whether it must fire; nothing but it and `also` may.
        also: what rightly fires with it.
        every: time between values.
    """

    alert: str
    series: dict[str, str]
    at: str
    fires: bool
    also: frozenset[str] = frozenset()
    every: str = "1m"

    @property
    def expected(self) -> set[str]:
        return {self.alert, *self.also} if self.fires else set(self.also)

    def __str__(self) -> str:
        return f"{self.alert}-{'fires' if self.fires else 'silent'}-{self.at}"


@dataclass
class Cases:
    """Cases of one alert, of which each names only what differs."""

    alert: str
    made: list[Case] = field(default_factory=list)

    def fires(self, at: str, *, also: tuple[str, ...] = (), every: str = "1m", **series: str):
        self.made.append(Case(self.alert, _named(series), at, True, frozenset(also), every))
        return self

    def silent(self, at: str, *, also: tuple[str, ...] = (), every: str = "1m", **series: str):
        self.made.append(Case(self.alert, _named(series), at, False, frozenset(also), every))
        return self


LABELS = {
    "up_host": 'up{job="host", instance="w1"}',
    "up_api": 'up{job="api", instance="api", port="8000"}',
    "up_other_api": 'up{job="api", instance="api", port="8001"}',
    "up_database": 'up{job="database", instance="db"}',
    "avail": 'node_filesystem_avail_bytes{instance="db", mountpoint="/"}',
    "size": 'node_filesystem_size_bytes{instance="db", mountpoint="/"}',
    "inodes_free": 'node_filesystem_files_free{instance="db", mountpoint="/"}',
    "inodes": 'node_filesystem_files{instance="db", mountpoint="/"}',
    "memory_free": 'node_memory_MemAvailable_bytes{instance="db"}',
    "memory": 'node_memory_MemTotal_bytes{instance="db"}',
    "failed": 'node_systemd_unit_state{instance="db", name="caddy.service", state="failed"}',
    "clock": 'node_time_seconds{instance="db"}',
    "synchronised": 'node_timex_sync_status{instance="db"}',
    "certificate": 'cbm_certificate_not_after_seconds{instance="db", path="/etc/cbm/tls/host.crt"}',
    "written": (
        'node_textfile_mtime_seconds{instance="db", '
        'file="/var/lib/cbm/metrics/cbm-certificates.prom"}'
    ),
    "unreadable": 'node_textfile_scrape_error{instance="db"}',
    "pg_up": 'pg_up{instance="db", server="db:5432"}',
    "connections": 'pg_stat_activity_count{instance="db", datname="cbm", state="active"}',
    "idle_connections": 'pg_stat_activity_count{instance="db", datname="cbm", state="idle"}',
    "maximum": 'pg_settings_max_connections{instance="db", server="db:5432"}',
    "archive_failed": 'pg_stat_archiver_failed_count{instance="db"}',
    "wal_waiting": 'cbm_wal_waiting_seconds{instance="db"}',
    "exporter_error": 'pg_exporter_last_scrape_error{instance="db"}',
    "waiting": 'cbm_work_oldest_seconds{aoi="nl", campaign="2024", state="pending"}',
    "claimed": 'cbm_work_oldest_seconds{aoi="nl", campaign="2024", state="claimed"}',
    "overdue": 'cbm_work_overdue_seconds{aoi="nl", campaign="2024", state="claimed"}',
    "dead": 'cbm_work_pieces{aoi="nl", campaign="2024", state="dead"}',
    "flawed": 'cbm_decoding_flawed_scenes{instance="db"}',
    "idle": 'cbm_done_idle_seconds{aoi="nl", campaign="2024"}',
    "idle_other": 'cbm_done_idle_seconds{aoi="be", campaign="2024"}',
    "missing": 'cbm_gaps_scenes{aoi="nl", campaign="2024", kind="s2", state="missing"}',
    "offline": 'cbm_gaps_scenes{aoi="nl", campaign="2024", kind="s2", state="offline"}',
    "unlisted": 'cbm_gaps_scenes{aoi="nl", campaign="2024", kind="s2", state="unlisted"}',
    "given_up": 'cbm_making_products{kind="bs", state="dead"}',
    "in_hand": 'cbm_making_products{kind="bs", state="claimed"}',
    "to_be_made": 'cbm_making_oldest_seconds{kind="bs", state="pending"}',
    "within_1_s": 'cbm_api_request_seconds_bucket{route="/query/info", le="1"}',
    "within_2_s": 'cbm_api_request_seconds_bucket{route="/query/info", le="2"}',
    "within_5_s": 'cbm_api_request_seconds_bucket{route="/query/info", le="5"}',
    "all": 'cbm_api_request_seconds_bucket{route="/query/info", le="+Inf"}',
    "chips_within_2_s": 'cbm_api_request_seconds_bucket{route="/query/chipsByParcelID", le="2"}',
    "chips": 'cbm_api_request_seconds_bucket{route="/query/chipsByParcelID", le="+Inf"}',
    "good": 'cbm_api_requests_total{route="/query/info", status="200"}',
    "bad": 'cbm_api_requests_total{route="/query/info", status="503"}',
    "refused": 'cbm_api_requests_total{route="/query/info", status="404"}',
    "lost": 'cbm_api_audit_rows_lost_total{instance="api"}',
    "node": 'cbm_swarm_node_ready{node="w1"}',
    "running": 'cbm_swarm_service_running{service="cbm_extraction"}',
    "desired": 'cbm_swarm_service_desired{service="cbm_extraction"}',
    "backup": 'cbm_backup_last_success_seconds{instance="db"}',
    "drill": 'cbm_drill_last_success_seconds{instance="db"}',
    "unsent": 'alertmanager_notifications_failed_total{integration="email"}',
    "rule_failures": 'prometheus_rule_evaluation_failures_total{rule_group="x"}',
}
"""A short word for each series that rules look at."""


def _named(series: dict[str, str]) -> dict[str, str]:
    return {LABELS[word]: values for word, values in series.items()}


CASES = [
    case
    for cases in (
        Cases("HostDown").fires("5m", up_host="1 0x9").silent("3m", up_host="1 0x9"),
        Cases("DiskFillsSoon")
        .fires("8h", avail="39-0.03x500", size="100x500")
        .silent("8h", avail="39-0.01x500", size="100x500")
        .silent("8h", avail="90-0.08x500", size="100x500"),
        Cases("DiskAlmostFull")
        .fires("6m", avail="9x9", size="100x9")
        .silent("6m", avail="11x9", size="100x9"),
        Cases("DiskFull")
        .fires("6m", avail="2x9", size="100x9", also=("DiskAlmostFull",))
        .silent("6m", avail="4x9", size="100x9", also=("DiskAlmostFull",)),
        Cases("InodesAlmostOut")
        .fires("12m", inodes_free="4x20", inodes="100x20")
        .silent("12m", inodes_free="6x20", inodes="100x20"),
        Cases("MemoryShort")
        .fires("12m", memory_free="4x20", memory="100x20")
        .silent("12m", memory_free="4x5 50x20", memory="100x20"),
        Cases("ServiceFailed").fires("6m", failed="1x9").silent("6m", failed="0x9"),
        # promtool's own clock starts at 0 and ticks with the figures.
        Cases("ClockSkew").fires("6m", clock="6+60x9").silent("6m", clock="4+60x9"),
        Cases("ClockUnsynchronised")
        .fires("65m", synchronised="0x99")
        .silent("65m", synchronised="0x20 1x99"),
        Cases("CertificateExpires")
        .fires("11m", certificate=f"{13 * 86400}x20")
        .silent("11m", certificate=f"{15 * 86400}x20"),
        Cases("CertificateExpired")
        .fires("2m", certificate="86000x20")
        .silent("2m", certificate="90000x20"),
        Cases("FiguresStale")
        .fires("3h", written="0x200")
        .fires("12m", unreadable="1x20")
        .silent("3h", written="0+60x200", unreadable="0x200"),
        Cases("DatabaseDown")
        .fires("3m", pg_up="1 0x9", up_database="1x9")
        .fires("3m", up_database="1 0x9")
        .silent("3m", pg_up="1x9", up_database="1x9"),
        Cases("ConnectionsNearMaximum")
        .fires("6m", connections="61x9", idle_connections="20x9", maximum="100x9")
        .silent("6m", connections="60x9", idle_connections="20x9", maximum="100x9"),
        Cases("WalArchiveFails")
        .fires("40m", archive_failed="0+1x60")
        .silent("40m", archive_failed="0+1x10 11x60"),
        Cases("WalArchiveLags")
        .fires("30m", wal_waiting="0+60x60")
        .silent("30m", wal_waiting="900x60"),
        Cases("DatabaseFiguresFail")
        .fires("12m", exporter_error="1x20")
        .silent("12m", exporter_error="0x5 1x20"),
        Cases("QueueStands")
        .fires("80m", waiting="0+60x99", idle="0+60x99", idle_other=f"{DAY}x99")
        # One campaign waits while workers are at another.
        .silent("80m", waiting="0+60x99", idle="0+60x99", idle_other="5x99")
        # Nothing was done for a day because there was nothing to do.
        .silent("40m", waiting="0+60x99", idle=f"{DAY}x99"),
        Cases("LeaseRanOut")
        .fires("25m", overdue="0+60x30")
        .silent("25m", overdue="0+60x15 0x30"),
        Cases("SceneTakesLong").fires("8m", claimed="7300x9").silent("8m", claimed="7100x9"),
        Cases("DeadLetters").fires("6m", dead="1x9").silent("6m", dead="0x9"),
        Cases("CodeBlocksDiffer").fires("6m", flawed="0 1x9").silent("6m", flawed="0x9"),
        Cases("ScenesMissing")
        .fires("49h", missing="1x50", offline="0x50", backup="0+3600x70", every="1h")
        .fires("49h", missing="0x50", offline="2x50", backup="0+3600x70", every="1h")
        # A product is listed before it is in the store, and some days nothing is acquired.
        .silent("47h", missing="1x50", backup="0+3600x70", every="1h")
        .silent("60h", missing="3x20 0x50", unlisted="5x70", backup="0+3600x70", every="1h"),
        Cases("MakingDeadLetters").fires("6m", given_up="1x9").silent("6m", given_up="0x9"),
        Cases("MakingStands")
        .fires("26h", to_be_made="0+3600x30", backup="0+3600x70", every="1h")
        .fires("26h", to_be_made="0+3600x30", in_hand="0x30", backup="0+3600x70", every="1h")
        .silent("30h", to_be_made="0+3600x30", in_hand="1x30", backup="0+3600x70", every="1h")
        .silent("23h", to_be_made="0+3600x30", every="1h"),
        Cases("ApiDown")
        .fires("4m", up_api="1 0x9", up_other_api="0x9")
        .silent("2m", up_api="1 0x9", up_other_api="0x9")
        .silent("4m", up_api="0x9", up_other_api="1x9"),
        Cases("ApiInstanceDown")
        .fires("12m", up_api="0x20", up_other_api="1x20")
        .silent("8m", up_api="0x20", up_other_api="1x20"),
        # Six of a hundred above 2 s against four.
        Cases("ApiSlow")
        .fires("25m", within_1_s="0+90x30", within_2_s="0+94x30",
               within_5_s="0+100x30", all="0+100x30")
        .silent("25m", within_1_s="0+90x30", within_2_s="0+96x30",
                within_5_s="0+100x30", all="0+100x30")
        .silent("25m", chips_within_2_s="0x30", chips="0+100x30"),
        Cases("ApiErrors")
        .fires("20m", good="0+90x30", bad="0+3x30")
        .silent("20m", good="0+90x30", bad="0+1x30", refused="0+50x30")
        # One failed request of a quiet night is a third of them, and no reason to wake anybody.
        .silent("20m", good="0x10 2x30", bad="0x10 1x30"),
        Cases("AuditLost").fires("5m", lost="0 0 1x9").silent("5m", lost="7x9"),
        Cases("SwarmNodeDown").fires("5m", node="1 0x9").silent("3m", node="1 0x9"),
        Cases("ServiceBelowReplicas")
        .fires("12m", running="1x20", desired="2x20")
        .silent("12m", running="1x8 2x20", desired="2x20"),
        Cases("BackupOld")
        .fires("27h", backup="0x400", every="5m")
        .silent("26h", backup="0x400", every="5m"),
        Cases("BackupUnknown")
        .fires("25h", up_host="1x400", every="5m")
        .silent("25h", backup="0x100 _x200", every="5m")
        .silent("20h", up_host="1x400", every="5m"),
        Cases("DrillOld")
        .fires("219h", drill="0x300", backup="0+3600x300", every="1h")
        .silent("215h", drill="0x300", backup="0+3600x300", every="1h"),
        Cases("DrillUnknown")
        .fires("218h", backup="0+3600x300", every="1h")
        .silent("200h", backup="0+3600x300", every="1h"),
        Cases("AlertsUnsent").fires("15m", unsent="0+1x20").silent("15m", unsent="3x20"),
        Cases("RulesFail").fires("15m", rule_failures="0+1x20").silent("15m", rule_failures="3x20"),
    )
    for case in cases.made
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_alert_fires_on_its_cause_alone(promtool, tmp_path, case):
    path = tmp_path / "case.yml"
    path.write_text(json.dumps(_promtool_case(case)))
    ran = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _promtool_case(case: Case) -> dict[str, object]:
    firing = 'count by (alertname) (ALERTS{alertstate="firing"} > 0)'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(case.expected)]
    return {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": case.every,
        "tests": [
            {
                "interval": case.every,
                "input_series": [
                    {"series": name, "values": values} for name, values in case.series.items()
                ],
                "promql_expr_test": [
                    {"expr": firing, "eval_time": case.at, "exp_samples": samples}
                ],
            }
        ],
    }


def test_promtool_would_notice_an_alert_that_does_not_fire(promtool, tmp_path):
    wrong = Case("HostDown", _named({"up_host": "1x9"}), "5m", fires=True)
    path = tmp_path / "case.yml"
    path.write_text(json.dumps(_promtool_case(wrong)))
    ran = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "HostDown" in ran.stdout + ran.stderr


def test_the_runbook_is_an_address_of_the_appliances_own_site(promtool, tmp_path):
    case = _promtool_case(Case("HostDown", _named({"up_host": "0x9"}), "5m", fires=True))
    note = "https://{{ $externalLabels.site }}"
    rule = ALERTS["HostDown"]
    expected = {
        "exp_labels": {"severity": "critical", "job": "host", "instance": "w1"},
        "exp_annotations": {
            name: re.sub(r"{{ \$labels.instance }}", "w1", text).replace(
                note, "https://cbm.example.eu"
            )
            for name, text in rule["annotations"].items()
        },
    }
    test = {"alertname": "HostDown", "eval_time": "5m", "exp_alerts": [expected]}
    case["tests"][0] |= {"external_labels": {"site": "cbm.example.eu"}, "alert_rule_test": [test]}
    path = tmp_path / "case.yml"
    path.write_text(json.dumps(case))
    ran = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("fires", [True, False])
def test_every_alert_has_a_case_where_it_fires_and_one_where_it_is_silent(fires):
    assert {case.alert for case in CASES if case.fires is fires} == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_how_bad_it_is_what_happened_and_what_to_do(name):
    rule = ALERTS[name]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook"}
    assert 10 <= len(re.sub(r"{{.*?}}", "", notes["summary"])) <= 100
    assert len(notes["description"]) >= 80
    # tests/unit/test_guide.py has the page of each.
    page = f"/guide/operate/alerts/{name}.html"
    assert notes["runbook"] == f"https://{{{{ $externalLabels.site }}}}{page}"
