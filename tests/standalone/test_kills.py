"""Kill -9 at any point is normal operation: 100 random SIGKILLs lose and double nothing."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter

import numpy as np
import pytest

from extraction.worker import Worker
from store import catalogue, db, queue
from store.config import WorkerSettings
from tests.integration.small_state import add_campaign, square, write_scene

KILLS = 100
WORKERS = 2
SCENES = 60
PHASES = ("claim", "read", "copy", "commit")

PAUSES = """
    CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_sleep(TG_ARGV[0]::float);
        RETURN NEW;
    END $$;
    CREATE TRIGGER slow_claim BEFORE UPDATE ON work
        FOR EACH ROW WHEN (NEW.state = 'claimed' AND NEW.fence > OLD.fence)
        EXECUTE FUNCTION pause(0.04);
    CREATE TRIGGER slow_copy BEFORE INSERT ON tt.s2_c1_0
        FOR EACH STATEMENT EXECUTE FUNCTION pause(0.04);
    CREATE TRIGGER slow_copy BEFORE INSERT ON tt.s2_c2_0
        FOR EACH STATEMENT EXECUTE FUNCTION pause(0.04);
    CREATE CONSTRAINT TRIGGER slow_commit AFTER UPDATE ON work DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.state = 'done') EXECUTE FUNCTION pause(0.04);
"""
"""Make the short phases long enough to be hit; nothing of the software under test changes."""


@pytest.fixture
def state(database, tmp_path, monkeypatch):
    """Sixty scenes for two hundred parcels in three sets of two campaigns, a lease of 2 s."""
    for name, value in {
        "CBM_CACHE_DIR": str(tmp_path / "cache"),
        "CBM_POLL_S": "0.1",
        "CBM_LEASE_S": "2",
        "CBM_MAX_LOST_LEASES": "1000",
    }.items():
        monkeypatch.setenv(name, value)
    rng = np.random.default_rng(7)
    corners = rng.integers(0, 95, (200, 2))
    parcels = [square(int(r), int(c), 4) for r, c in corners]
    add_campaign(database, parcels[:150])
    later = add_campaign(database, parcels[150:], year=2025)
    db.execute(database, "UPDATE campaign SET start_date = '2024-01-01' WHERE id = %s", (later,))
    second = db.fetch_one(
        database,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "SELECT 1, 'second', 30, extent FROM parcel_set WHERE campaign_id = 1 RETURNING id",
    ).id
    db.execute(
        database,
        "UPDATE tt.parcels SET set_id = %s WHERE campaign_id = 1 AND pid > 120",
        (second,),
    )
    catalogue.register(database, [write_scene(tmp_path / "scenes", n) for n in range(SCENES)])
    return database


def run_worker():
    Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True)


def rows(conn):
    """All that was stored, without what differs between two runs."""
    return {
        name: db.fetch_all(conn, f"SELECT * FROM tt.{name} ORDER BY campaign_id, obsid, pid")
        for name in ("s2", "hists")
    } | {
        "work": db.fetch_all(
            conn,
            "SELECT obsid, set_id, state, failures, signatures, outside, nodata "
            "FROM work ORDER BY obsid, set_id",
        )
    }


def phase_of(conn, pid):
    """What a worker process is doing now, as its database session shows it."""
    session = db.fetch_one(
        conn,
        "SELECT state, query FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE %s",
        (f"cbm-extract work %:{pid}",),
    )
    if session is None or session.state is None:
        return "start"
    if session.state != "active":
        return "read"
    statement = session.query.lstrip().split(maxsplit=1)[0]
    return {"WITH": "claim", "COPY": "copy", "COMMIT": "commit"}.get(statement, "other")


def kill_in_phase(conn, process, wanted, patience_s=3.0):
    """SIGKILL a process when it is in the wanted phase; the phase it died in, or None."""
    deadline = time.monotonic() + patience_s
    while process.is_alive() and time.monotonic() < deadline:
        phase = phase_of(conn, process.pid)
        if phase == wanted:
            time.sleep(random.uniform(0, 0.02))
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            return phase
    return None


@pytest.mark.timeout(900)
def test_100_random_kills_lose_and_double_nothing(state, capsys):
    run_worker()
    undisturbed = rows(state)
    for table in ("tt.s2", "tt.hists"):
        db.execute(state, f"DELETE FROM {table}")
    db.execute(
        state, "UPDATE work SET state = 'pending', signatures = NULL, outside = NULL, nodata = NULL"
    )
    db.execute(state, PAUSES)
    random.seed(20240401)
    fork = multiprocessing.get_context("fork")
    processes = []
    killed = Counter()
    reopened = 0
    while killed.total() < KILLS:
        processes = [p for p in processes if p.is_alive()]
        while len(processes) < WORKERS:
            processes.append(fork.Process(target=run_worker))
            processes[-1].start()
        if not queue.open_work(state):
            db.execute(state, "UPDATE work SET state = 'pending' WHERE state = 'done'")
            reopened += 1
        wanted = min(PHASES, key=lambda phase: (killed[phase], random.random()))
        killed.update(filter(None, [kill_in_phase(state, processes[0], wanted)]))
    for process in processes:
        process.join()
    run_worker()
    lost = db.fetch_one(state, "SELECT sum(lost_leases) AS n FROM work").n
    with capsys.disabled():
        print(f"\nSIGKILLs: {dict(killed)}; leases lost: {lost}; work reopened: {reopened} times")
    assert min(killed[phase] for phase in PHASES) >= KILLS // len(PHASES) - 1
    assert lost > KILLS / 4
    assert rows(state) == undisturbed
