"""Scenes that several parcel sets share: what is wrong with one set's work harms no other's."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import shapely
import shapely.affinity

from extraction import scene as scenes
from extraction import spans
from extraction.worker import Worker
from store import catalogue, db, queue
from store.catalogue import BandSource
from store.config import WorkerSettings
from store.errors import MissingFactError, SceneError
from store.parcels import campaigns
from store.queue import WorkResult
from tests.integration.small_state import (
    EPSG,
    a_scene,
    add_campaign,
    square,
    write_band,
    write_scene,
)
from tests.integration.worked_scene import PARCELS, split, table, work

ANOTHER_SET = """
    INSERT INTO parcel_set (campaign_id, digest, parcels, extent)
    SELECT 1, 'x', 1, extent FROM parcel_set LIMIT 1 RETURNING id"""


@pytest.fixture
def state(database, tmp_path, monkeypatch):
    monkeypatch.setenv("CBM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CBM_POLL_S", "0.1")
    monkeypatch.setenv("CBM_RETRY_S", "0")
    monkeypatch.setenv("CBM_LEASE_S", "2")
    add_campaign(database, PARCELS)
    return database


def works(conn):
    return db.fetch_all(conn, "SELECT set_id, state, reason FROM work ORDER BY obsid, set_id")


def in_parallel(action):
    """Run an action in a thread; its result or error lands in the list that comes back."""
    results = []

    def run():
        try:
            results.append(action())
        except Exception as error:
            results.append(repr(error))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_a_band_that_one_set_was_done_without_comes_back_after_another_was_done_with_it(
    state, tmp_path
):
    scene = write_scene(tmp_path, 0)
    b08, away = Path(scene.bands["B08"].href), tmp_path / "away.tif"
    b08.rename(away)
    catalogue.register(state, [scene])
    work()
    away.rename(b08)
    second = db.fetch_one(state, ANOTHER_SET).id
    db.execute(
        state,
        "INSERT INTO tt.parcels SELECT 1, 7, %s, 'p7', crop_name, crop_code, geom, geom_sha "
        "FROM tt.parcels WHERE pid = 2",
        (second,),
    )
    catalogue.enqueue(state)
    worker = Worker(WorkerSettings.from_env(os.environ))
    worker._next_look = 1e18  # the second set comes before the hourly look for missing files
    worker.work(True)
    catalogue.requeue_found(state, lambda source: Path(source.href).is_file())
    work()
    counts = db.fetch_all(state, "SELECT b08_count FROM tt.s2")
    assert counts
    assert all(row.b08_count is not None for row in counts)


def test_a_nodata_that_is_stated_later_queues_the_scene_again(state, tmp_path):
    pixels = np.full((100, 100), 500, np.int16)
    pixels[10:16, 10:13] = 0
    path = write_band(tmp_path / "B04.tif", pixels, nodata=-9999)
    catalogue.register(state, [a_scene(0, {"B04": BandSource(str(path), nodata=0.0)})])
    work()
    stated = BandSource(str(path), nodata=0.0, nodata_stated=True)
    assert catalogue.register(state, [a_scene(0, {"B04": stated})]).changed == 1
    work()
    row = db.fetch_one(state, "SELECT b04_count, b04_mean FROM tt.s2 WHERE pid = 2")
    assert (row.b04_count, row.b04_mean) == (18, 500)


def test_another_cloud_cover_extracts_no_scene_again_that_states_its_place(state):
    placed = BandSource("/a/B04.tif", epsg=EPSG, bounds_m=(5e5, 5.2e6, 5.1e5, 5.25e6))
    catalogue.register(state, [a_scene(0, {"B04": placed})])
    held = queue.claim(state, "t", 60, 20)
    with db.transaction(state):
        queue.finish(state, held[0], WorkResult(1, 0, 0, (), 0.1))
    catalogue.register(state, [a_scene(0, {"B04": placed}, cloud_cover_pct=3.0)])
    assert works(state)[0].state == "done"


def test_an_impossible_value_in_one_set_is_no_fault_of_another_aois(state, tmp_path):
    pixels = np.full((100, 100), 0.2, np.float32)
    pixels[11, 11] = 1e4
    path = write_band(tmp_path / "B04.tif", pixels)
    add_campaign(state, [square(40, 40, 30)], aoi="uu")
    bands = {"B04": BandSource(str(path))}
    catalogue.register(state, [a_scene(0, bands, unit="reflectance", scale=None)])
    work()
    first, second = works(state)
    assert (first.state, second.state) == ("dead", "done")
    assert "parcel p2" in first.reason
    assert second.reason is None


def test_a_campaign_dropped_after_the_claim_takes_no_other_work_along(state, tmp_path):
    add_campaign(state, PARCELS[:1], aoi="uu")
    catalogue.register(state, [write_scene(tmp_path, 0)])
    worker = Worker(WorkerSettings.from_env(os.environ))
    conn = db.connect("test")
    held = worker._claim(conn)
    assert len(held) == 2
    campaigns.drop(state, campaigns.find(state, "uu", 2024))
    worker._attempt(conn, held)
    assert [row.state for row in works(state)] == ["done"]


def test_workers_lock_campaigns_in_one_order(state, monkeypatch):
    add_campaign(state, PARCELS, aoi="uu")
    db.fetch_one(state, ANOTHER_SET)
    catalogue.register(state, [a_scene(0), a_scene(1)])
    db.execute(state, "DELETE FROM work WHERE (obsid, set_id) IN ((1, 3), (2, 1))")
    claims = [queue.claim(state, name, 60, 20) for name in "ab"]
    original, gate = queue._set_unit, threading.Barrier(2)

    def slow(conn, held):
        original(conn, held)
        try:
            gate.wait(1)
        except threading.BrokenBarrierError:
            return

    monkeypatch.setattr(queue, "_set_unit", slow)

    def lock(held):
        conn = db.connect("test")
        with db.transaction(conn):
            return len(queue.lock_claims(conn, held))

    runs = [in_parallel(lambda held=held: lock(held)) for held in claims]
    for thread, _ in runs:
        thread.join()
    assert [results for _, results in runs] == [[2], [2]]


def test_a_claim_goes_on_without_the_campaign_that_is_being_dropped(state):
    add_campaign(state, PARCELS[:1], aoi="uu")
    catalogue.register(state, [a_scene(0)])
    held = queue.claim(state, "a", 60, 20)
    other = db.connect("drop")

    def lock():
        conn = db.connect("test")
        with db.transaction(conn):
            return [claimed.set_id for claimed in queue.lock_claims(conn, held)]

    with db.transaction(other):
        campaign = campaigns.find(other, "uu", 2024)
        campaigns.lock(other, campaign)
        db.execute(other, "SELECT cbm_drop_campaign(%s::smallint)", (campaign.id,))
        thread, results = in_parallel(lock)
        time.sleep(0.5)
    thread.join()
    assert results == [[1]]


def test_a_registration_locks_work_in_the_order_of_an_import(state):
    catalogue.register(state, [a_scene(0), a_scene(1)])
    changed = [a_scene(number, cloud_cover_pct=1.0) for number in (1, 0)]
    other = db.connect("import")
    with db.transaction(other):
        db.fetch_all(other, "SELECT FROM work WHERE obsid = 1 FOR UPDATE")
        thread, results = in_parallel(lambda: catalogue.register(state, changed).changed)
        time.sleep(0.5)
        db.fetch_all(other, "SELECT FROM work WHERE obsid = 2 FOR UPDATE")
    thread.join()
    assert results == [2]


def _set_of(polygon, folder, name):
    wkb = list(shapely.to_wkb(np.array([shapely.MultiPolygon([polygon])], object), byte_order=1))
    cache = spans.SpanCache(folder / name, 10**9)
    return spans.ParcelSpans(cache, name, 0.0, lambda epsg: [(np.array([1], np.int32), wkb)])


def test_a_large_set_hides_no_fill_in_a_parcel_of_a_small_one(tmp_path):
    pixels = np.full((300, 300), -12.5, np.float32)
    pixels[0:8, 0:8] = 0.0
    path = write_band(tmp_path / "VV.tif", pixels)
    scene = a_scene(0, {"VV": BandSource(str(path))}, kind="bs", unit="gamma0_db", scale=None)
    small = _set_of(square(0, 0, 8), tmp_path, "small")
    large = _set_of(square(10, 10, 280), tmp_path, "large")
    for sets in ([small], [small, large]):
        with pytest.raises(MissingFactError, match="many pixels of parcels are 0"):
            scenes.reduce_scene(scene, sets)


def _classified(folder, classes):
    """A scene of one 10 m band with data, and these scene classes at 20 m."""
    paths = {
        "B04": write_band(folder / "B04.tif", np.full((100, 100), 3000, np.uint16)),
        "SCL": write_band(folder / "SCL.tif", classes, res_m=20),
    }
    return a_scene(0, {name: BandSource(str(path), nodata=0.0) for name, path in paths.items()})


@pytest.mark.parametrize(
    ("dtype", "wrong", "reason"), [("u1", 200, "no scene class"), ("f4", np.nan, "has no data")]
)
def test_a_large_set_hides_no_missing_classes_of_a_small_one(tmp_path, dtype, wrong, reason):
    classes = np.full((50, 50), 4, dtype)
    classes[:5, :5] = wrong
    scene = _classified(tmp_path, classes)
    small = _set_of(square(2, 2, 6), tmp_path, "small")
    large = _set_of(square(10, 10, 80), tmp_path, "large")
    assert scenes.reduce_scene(scene, [large]).sets[0].signatures.pids.size == 1
    for sets in ([small], [small, large], [large, small]):
        with pytest.raises(SceneError, match=reason):
            scenes.reduce_scene(scene, sets)


def test_a_set_of_a_parcel_at_the_edge_needs_no_classes(tmp_path):
    scene = _classified(tmp_path, np.full((50, 50), 4, "u1"))
    # Of its pixels only those of 10 m have a centre on the raster.
    edge = _set_of(shapely.affinity.translate(square(50, 99, 10), 2, 0), tmp_path, "edge")
    [outcome] = scenes.reduce_scene(scene, [edge]).sets
    assert outcome.signatures.stats["B04"][:, 0] == [10]
    assert not outcome.signatures.classes.any()


@pytest.mark.parametrize(("most", "fences"), [(5, [1, 1, 1]), (3, [1, 3, 3]), (1, [1, 3, 5])])
def test_sets_that_are_too_many_at_once_are_done_by_the_following_claims(
    state, tmp_path, monkeypatch, most, fences
):
    catalogue.register(state, [write_scene(tmp_path, 0)])
    work()
    at_once = {name: table(state, name) for name in ("s2", "hists")}
    db.execute(state, "DELETE FROM tt.s2; DELETE FROM tt.hists; DELETE FROM work")
    split(state, [2, 3])
    split(state, [6])  # two, two and one parcels on the raster; one is off it
    catalogue.enqueue(state)
    monkeypatch.setattr(scenes, "_MAX_PARCELS", most)
    assert work() == len(set(fences))
    assert {name: table(state, name) for name in at_once} == at_once
    done = db.fetch_all(state, "SELECT * FROM work ORDER BY set_id")
    assert [(row.state, row.fence, row.signatures) for row in done] == [
        ("done", fence, count) for fence, count in zip(fences, (2, 2, 1), strict=True)
    ]
    assert {(row.failures, row.lost_leases, row.reason) for row in done} == {(0, 0, None)}
