"""Figures for Prometheus, of both processes together, and who may see them."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from store import db
from tests.integration.filled_api import wait_for
from tests.integration.small_api import SmallApi, serving

TOKEN = "figures-please"


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    with serving(cluster, template, tmp_path_factory.mktemp("api")) as made:
        yield made


def figures(api: SmallApi, **headers: str) -> dict[tuple, float]:
    """Sample name and labels -> value."""
    answer = requests.get(api.url + "/metrics", headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_status_over_all_processes(api):
    def counted(status: str) -> float:
        return figures(api).get(("cbm_api_requests_total", *sorted(
            ("/query/parcelByID", "GET", status))), 0)  # fmt: skip

    before = counted("200"), counted("404")
    for n in range(20):
        for pid in ("007", f"none{n}"):
            api.get(f"/query/parcelByID?aoi=nl&year=2024&pid={pid}")
    assert (counted("200"), counted("404")) == (before[0] + 20, before[1] + 20)


def test_labels_never_hold_what_users_sent(api):
    api.get("/query/parcelByID?aoi=nl&year=2024&pid=labelled")
    api.get("/nowhere/labelled")
    requests.request("LABELLED", api.url + "/query/info", timeout=20)
    keys = figures(api).keys()
    assert not [key for key in keys if any("labelled" in str(part).lower() for part in key)]


def test_times_are_a_histogram_by_route(api):
    api.get("/query/info")
    seen = figures(api)
    name = "cbm_api_request_seconds"
    assert seen[f"{name}_count", "/query/info"] >= 1
    assert seen[f"{name}_bucket", "+Inf", "/query/info"] == seen[f"{name}_count", "/query/info"]
    assert 0 < seen[f"{name}_sum", "/query/info"] < 60


def test_lent_connections_and_waiting_audit_rows_are_told(api):
    seen = figures(api)
    assert seen["cbm_api_connections_in_use",] >= 0
    assert seen["cbm_database_up",] == 1
    with db.transaction(api.conn):
        db.execute(api.conn, "LOCK TABLE api_audit")
        for _ in range(30):
            api.get("/query/info")
        wait_for(lambda: figures(api)["cbm_api_connections_in_use",] >= 1)
        wait_for(lambda: api.get("/query/info").ok and
                 figures(api)["cbm_api_audit_rows_waiting",] >= 1)  # fmt: skip
    wait_for(lambda: figures(api)["cbm_api_connections_in_use",] == 0)


def test_the_queue_is_told_by_campaign_and_state(api):
    db.execute(
        api.conn,
        "INSERT INTO work (obsid, set_id, state, signatures, changed_at, lease_until) "
        "SELECT obsid, 1, "
        "(ARRAY['pending', 'pending', 'claimed', 'dead', 'done', 'done'])[obsid], 10 * obsid, "
        "now() - obsid * interval '100 s', "
        "CASE WHEN obsid = 3 THEN now() - interval '50 s' END FROM scene WHERE obsid <= 6",
    )
    seen = figures(api)
    assert {key[1:]: n for key, n in seen.items() if key[0] == "cbm_work_pieces"} == {
        ("2024", "nl", "pending"): 2, ("2024", "claimed", "nl"): 1, ("2024", "dead", "nl"): 1,
    }  # fmt: skip
    oldest = seen["cbm_work_oldest_seconds", "2024", "nl", "pending"]
    assert oldest == pytest.approx(200, abs=20)
    overdue = seen["cbm_work_overdue_seconds", "2024", "claimed", "nl"]
    assert overdue == pytest.approx(50, abs=20)
    assert seen["cbm_done_pieces", "2024", "nl"] == 2
    assert seen["cbm_done_signatures", "2024", "nl"] == 110
    assert seen["cbm_done_idle_seconds", "2024", "nl"] == pytest.approx(500, abs=20)
    db.execute(api.conn, "DELETE FROM work")
    seen = figures(api)
    assert not [key for key in seen if key[0].startswith("cbm_work")]
    assert seen["cbm_done_idle_seconds", "2024", "nl"] == 86400


def test_without_a_token_only_this_host_itself_sees_them(api):
    for header in ("X-Forwarded-For", "Forwarded"):
        answer = requests.get(api.url + "/metrics", headers={header: "10.1.1.1"}, timeout=20)
        assert answer.status_code == 403
        assert "cbm_" not in answer.text


def test_with_a_token_only_who_has_it_sees_them(cluster, template, tmp_path):
    with serving(cluster, template, tmp_path, CBM_METRICS_TOKEN=TOKEN) as closed:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = requests.get(closed.url + "/metrics", headers=headers, timeout=20)
            assert answer.status_code == 403
        assert figures(closed, Authorization=f"Bearer {TOKEN}")["cbm_database_up",] == 1


def test_figures_go_on_without_the_database_and_say_that_it_is_away(cluster, template, tmp_path):
    with serving(cluster, template, tmp_path) as other:
        name = db.fetch_one(other.conn, "SELECT current_database() AS name").name
        elsewhere = db.connect("test", "dbname=postgres")
        db.execute(elsewhere, db.compose("ALTER DATABASE {n} ALLOW_CONNECTIONS false", n=name))
        db.execute(elsewhere, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                              "WHERE application_name = 'cbm-api'")  # fmt: skip
        elsewhere.close()
        assert other.get("/query/info").status_code == 503
        seen = figures(other)
        assert seen["cbm_database_up",] == 0
        assert seen["cbm_api_requests_total", "/query/info", "503", "GET"] == 1


def test_what_a_dead_worker_counted_stays_and_the_runs_folder_goes_at_the_end(
    cluster, template, tmp_path
):
    with serving(cluster, template, tmp_path) as other:
        first = other.served._processes()[1]
        started_with = Path(f"/proc/{first}/environ").read_text()
        folder = Path(re.search(r"CBM_RUN_DIR=([^\0]+)", started_with)[1])
        assert folder.stat().st_mode & 0o077 == 0
        for _ in range(6):
            other.get("/query/info")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: first not in other.served._processes())
        time.sleep(0.5)
        assert other.get("/query/info").status_code == 200
        assert figures(other)["cbm_api_requests_total", "/query/info", "200", "GET"] == 7
        assert not list((folder / "metrics").glob(f"gauge_live*_{first}.db"))
    assert not folder.exists()
