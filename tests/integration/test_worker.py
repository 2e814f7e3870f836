"""The worker end to end: real rasters, real PostGIS, real signals."""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely

from extraction import scene as scenes
from extraction.worker import Worker
from store import catalogue, db, signatures
from store import raster as raster_module
from store.catalogue import BandSource
from store.config import WorkerSettings
from store.errors import SceneError
from tests.integration.small_state import (
    a_scene,
    add_campaign,
    square,
    write_band,
    write_scene,
)
from tests.integration.worked_scene import PARCELS, split, table, work


@pytest.fixture
def state(database, tmp_path, monkeypatch):
    """A campaign of six parcels, and the settings of a quick worker."""
    monkeypatch.setenv("CBM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CBM_POLL_S", "0.1")
    monkeypatch.setenv("CBM_RETRY_S", "0")
    monkeypatch.setenv("CBM_LEASE_S", "2")
    add_campaign(database, PARCELS)
    return database


def the_work(conn):
    return db.fetch_one(conn, "SELECT * FROM work")


def test_statistics_in_the_table_are_those_of_the_files_pixels(state, tmp_path):
    scene = write_scene(tmp_path, 0)
    catalogue.register(state, [scene])
    assert work() == 1
    with rasterio.open(scene.bands["B04"].href) as raster:
        pixels = raster.read(1).astype(float) - 1000
    inside = pixels[10:16, 10:16].ravel()
    row = db.fetch_one(state, "SELECT * FROM tt.s2 WHERE pid = 2")
    assert row.b04_count == 36
    np.testing.assert_allclose(
        [row.b04_mean, row.b04_std, row.b04_min, row.b04_max],
        [inside.mean(), inside.std(), inside.min(), inside.max()],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        [row.b04_p25, row.b04_p50, row.b04_p75], np.percentile(inside, [25, 50, 75]), rtol=1e-6
    )
    with rasterio.open(scene.bands["SCL"].href) as raster:
        classes = np.bincount(raster.read(1)[5:8, 5:8].ravel(), minlength=12)
    hist = db.fetch_one(state, "SELECT * FROM tt.hists WHERE pid = 2")
    assert list(hist[3:]) == list(classes)


def test_every_parcel_has_a_row_or_a_countable_reason(state, tmp_path):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    work()
    done = the_work(state)
    assert (done.signatures, done.outside, done.nodata) == (5, 1, 0)
    assert [r.pid for r in table(state)] == [1, 2, 3, 4, 6]
    assert [r.flags for r in table(state)] == [0, 0, 0, 8, 0]
    assert (table(state)[3].px, table(state)[3].b04_count) == (100, 25)


def test_a_scene_of_nodata_only_leaves_no_rows_and_counts_its_parcels(state, tmp_path):
    path = write_band(tmp_path / "B04.tif", np.zeros((100, 100), np.uint16), nodata=0)
    catalogue.register(state, [a_scene(0, {"B04": BandSource(str(path))})])
    assert work() == 1
    done = the_work(state)
    assert (done.state, done.signatures, done.outside, done.nodata) == ("done", 0, 1, 5)


def test_a_scene_without_any_parcel_is_done_with_none(state, tmp_path):
    db.execute(state, "DELETE FROM tt.parcels WHERE pid <> 5")
    catalogue.register(state, [write_scene(tmp_path, 0)])
    assert work() == 1
    assert (the_work(state).signatures, the_work(state).outside) == (0, 1)
    assert table(state) == []


def test_a_missing_band_is_absent_and_the_others_are_kept(state, tmp_path):
    scene = write_scene(tmp_path, 0)
    gone = {**scene.bands, "B08": BandSource(str(tmp_path / "gone.tif"))}
    catalogue.register(state, [replace(scene, bands=gone)])
    assert work() == 1
    assert {(r.b08_count, r.b04_count is not None) for r in table(state)} == {(None, True)}
    assert "B08" in db.fetch_one(state, "SELECT absent FROM scene").absent
    assert "B04" not in db.fetch_one(state, "SELECT absent FROM scene").absent


def test_a_scene_without_a_band_left_fails_three_times_and_is_dead_with_its_reason(state, tmp_path):
    catalogue.register(state, [a_scene(0, {"B04": BandSource(str(tmp_path / "gone.tif"))})])
    assert work() == 0
    assert (the_work(state).state, the_work(state).failures) == ("dead", 3)
    assert "none of its bands" in the_work(state).reason


def test_a_broken_file_does_not_keep_the_worker_from_the_next_scene(state, tmp_path):
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0nonsense")
    catalogue.register(
        state, [a_scene(0, {"B04": BandSource(str(broken))}), write_scene(tmp_path, 1)]
    )
    assert work() == 1
    assert {r.state for r in db.fetch_all(state, "SELECT state FROM work")} == {"dead", "done"}


def test_values_in_another_unit_than_the_campaigns_need_a_declared_scale(state, tmp_path):
    float_band = np.full((100, 100), 0.25, np.float32)
    path = write_band(tmp_path / "refl.tif", float_band)
    bands = {"B04": BandSource(str(path))}
    catalogue.register(state, [write_scene(tmp_path, 0)])
    work()
    catalogue.register(state, [a_scene(1, bands, unit="reflectance", scale=None)])
    work()
    dead = db.fetch_one(state, "SELECT reason FROM work WHERE state = 'dead'")
    assert "is in reflectance" in dead.reason
    catalogue.register(state, [a_scene(2, bands, unit="reflectance", scale=0.0001)])
    work()
    assert (
        db.fetch_one(state, "SELECT b04_mean FROM tt.s2 WHERE obsid = 3 AND pid = 1").b04_mean
        == 2500
    )


def test_a_rerun_gives_the_same_rows(state, tmp_path):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    work()
    before, hists = table(state), table(state, "hists")
    db.execute(state, "UPDATE work SET state = 'pending'")
    work()
    assert the_work(state).fence == 2
    assert (table(state), table(state, "hists")) == (before, hists)


def test_parcels_smaller_than_a_pixel_are_reduced_by_touch_and_flagged(state, tmp_path):
    for pid, parcel in ((1, square(10, 10, 1).buffer(-4.5)), (2, square(20, 20, 1).buffer(-1))):
        corner = shapely.affinity.translate(parcel, 4, 4) if pid == 1 else parcel
        db.execute(
            state,
            "UPDATE tt.parcels SET geom = ST_Multi(ST_GeomFromText(%s, 32632)) WHERE pid = %s",
            (corner.wkt, pid),
        )
    catalogue.register(state, [write_scene(tmp_path, 0)])
    work()
    rows = {r.pid: (r.flags, r.px) for r in table(state)}
    assert rows[1] == (1 | 2, 1)  # no centre of a 10 m pixel inside, nor of a 20 m one
    assert rows[2] == (2, 1)  # a little less than one 10 m pixel
    assert rows[6] == (0, 900)


def test_a_stopped_worker_releases_what_it_holds_without_blame(state, tmp_path):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    worker = Worker(WorkerSettings.from_env(os.environ))
    worker.stop()
    assert worker.work(until_idle=True) == 0
    assert {r.state for r in db.fetch_all(state, "SELECT state FROM work")} == {"pending"}


def spawn():
    command = Path(sys.executable).with_name("cbm-extract")
    return subprocess.Popen([command, "work", "--until-idle"], stderr=subprocess.PIPE)


def test_a_terminated_process_ends_quickly_and_leaves_nothing_claimed(state, tmp_path):
    catalogue.register(state, [write_scene(tmp_path, n) for n in range(60)])
    process = spawn()
    while not db.fetch_all(state, "SELECT 1 FROM work WHERE state <> 'pending'"):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    states = {r.state for r in db.fetch_all(state, "SELECT DISTINCT state FROM work")}
    assert "claimed" not in states
    assert "pending" in states


def test_a_killed_workers_scene_is_done_by_another_once_its_lease_ran_out(state, tmp_path):
    catalogue.register(state, [write_scene(tmp_path, n) for n in range(30)])
    process = spawn()
    while not db.fetch_all(state, "SELECT 1 FROM work WHERE state = 'claimed'"):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    work()
    assert {r.state for r in db.fetch_all(state, "SELECT state FROM work")} == {"done"}
    assert len(table(state)) == 150


def test_a_withdrawn_claim_writes_nothing(state, tmp_path, monkeypatch, caplog):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    original = signatures.ensure_partitions

    def withdrawn_meanwhile(conn, *args):
        db.execute(state, "UPDATE work SET fence = fence + 1, state = 'pending'")
        monkeypatch.setattr(signatures, "ensure_partitions", original)
        return original(conn, *args)

    monkeypatch.setattr(signatures, "ensure_partitions", withdrawn_meanwhile)
    with caplog.at_level(logging.WARNING):
        assert work() == 1
    assert "lease_lost" in caplog.text
    assert the_work(state).fence == 3
    assert len(table(state)) == 5


def test_the_worker_waits_for_a_database_that_went_away(state, tmp_path):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    calls = []

    def flaky(name):
        calls.append(name)
        return db.connect(name, "port=1") if len(calls) < 3 else db.connect(name)

    worker = Worker(WorkerSettings.from_env(os.environ), connect=flaky)
    assert worker.work(until_idle=True) == 1


def test_one_scene_is_done_here_and_now_with_its_error_shown(state, tmp_path):
    scene = write_scene(tmp_path, 0)
    catalogue.register(state, [scene, a_scene(1)])
    worker = Worker(WorkerSettings.from_env(os.environ))
    assert worker.work_on(scene.reference) == 1
    assert worker.work_on(scene.reference) == 0
    with pytest.raises(SceneError, match="none of its bands"):
        worker.work_on(a_scene(1).reference)
    assert {r.state for r in db.fetch_all(state, "SELECT state FROM work")} == {"done", "pending"}


def count_reads(monkeypatch):
    """Windows read from files from now on."""
    reads, original = [], raster_module.BandReader.read

    def read(self, *window):
        reads.append((self.path, window))
        return original(self, *window)

    monkeypatch.setattr(raster_module.BandReader, "read", read)
    return reads


def test_a_scene_is_read_once_for_all_sets_and_campaigns(state, tmp_path, monkeypatch):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    work()
    alone = {row.pid: row[1:] for row in table(state)}
    hists = {row.pid: row[1:] for row in table(state, "hists")}
    db.execute(state, "DELETE FROM tt.s2; DELETE FROM tt.hists; DELETE FROM work")
    split(state, [2, 3])
    split(state, [5])
    other = add_campaign(state, PARCELS[:3], year=2025)
    db.execute(state, "UPDATE campaign SET start_date = '2024-01-01' WHERE id = %s", (other,))
    catalogue.enqueue(state)
    reads = count_reads(monkeypatch)
    assert work() == 1
    assert len(reads) == len(set(reads))
    rows = db.fetch_all(state, "SELECT * FROM tt.s2 WHERE campaign_id = 1 ORDER BY pid")
    assert {row.pid: row[1:] for row in rows} == alone
    rows = db.fetch_all(state, "SELECT * FROM tt.hists WHERE campaign_id = 1 ORDER BY pid")
    assert {row.pid: row[1:] for row in rows} == hists
    rows = db.fetch_all(state, "SELECT * FROM tt.s2 WHERE campaign_id = %s ORDER BY pid", (other,))
    assert [row.b04_mean for row in rows] == [
        db.fetch_one(
            state, "SELECT b04_mean FROM tt.s2 WHERE campaign_id = 1 AND pid = %s", (pid,)
        )[0]
        for pid in (1, 2, 3)
    ]
    done = db.fetch_all(
        state, "SELECT signatures, outside, nodata, cpu_s FROM work ORDER BY set_id"
    )
    assert [tuple(row[:3]) for row in done] == [(3, 0, 0), (2, 0, 0), (0, 1, 0), (3, 0, 0)]
    assert all(row.cpu_s > 0 for row in done)


def test_sets_in_another_unit_are_converted_and_those_that_cannot_be_fail_alone(state, tmp_path):
    path = write_band(tmp_path / "refl.tif", np.full((100, 100), 0.25, np.float32))
    scene = a_scene(0, {"B04": BandSource(str(path))}, unit="reflectance", scale=0.0001)
    for year, unit in ((2025, "dn"), (2026, "sigma0_db")):
        campaign = add_campaign(state, PARCELS[:1], year=year)
        db.execute(
            state,
            "UPDATE campaign SET start_date = '2024-01-01', units = jsonb_build_object('s2', %s) "
            "WHERE id = %s",
            (unit, campaign),
        )
    catalogue.register(state, [scene])
    assert work() == 1
    rows = db.fetch_all(state, "SELECT campaign_id, b04_mean FROM tt.s2 WHERE pid = 1 ORDER BY 1")
    assert [tuple(row) for row in rows] == [(1, 0.25), (2, 2500.0)]
    states = db.fetch_all(state, "SELECT state, reason FROM work ORDER BY set_id")
    assert [row.state for row in states] == ["done", "done", "dead"]
    assert "sigma0_db" in states[2].reason


def test_a_set_withdrawn_while_the_scene_is_read_is_done_again_alone(state, tmp_path, monkeypatch):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    second = split(state, [2, 3])
    original = scenes.reduce_scene

    def withdrawn_meanwhile(*args, **more):
        outcome = original(*args, **more)
        db.execute(
            state,
            "UPDATE work SET fence = fence + 1, state = 'pending' WHERE set_id = %s AND fence = 1",
            (second,),
        )
        return outcome

    monkeypatch.setattr(scenes, "reduce_scene", withdrawn_meanwhile)
    assert work() == 2
    fences = db.fetch_all(state, "SELECT state, fence FROM work ORDER BY set_id")
    assert [tuple(row) for row in fences] == [("done", 1), ("done", 3)]
    assert [row.pid for row in table(state)] == [1, 2, 3, 4, 6]
