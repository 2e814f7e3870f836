"""Life of work on a scene: claim, lease, fence, release, failure, dead letter."""

import threading
from dataclasses import replace

import pytest
import shapely

from store import catalogue, db, queue
from store.catalogue import BandSource
from store.errors import LostLeaseError, NotFoundError
from store.queue import WorkResult
from tests.integration.small_state import a_scene, add_campaign, square

DONE = WorkResult(signatures=1, outside=0, nodata=0, absent=("B02",), cpu_s=0.1)


@pytest.fixture
def conn(database):
    """A connection to a database with one campaign."""
    add_campaign(database, [square(0, 0)])
    return database


def claim(conn, lease_s=60.0, max_lost_leases=20, reference=None, order="new-first"):
    """The claim for the first parcel set of the next scene, or None."""
    held = queue.claim(conn, "tester", lease_s, max_lost_leases, reference, order)
    return held[0] if held else None


def state(conn):
    return db.fetch_one(conn, "SELECT * FROM work")


def expire(conn):
    db.execute(conn, "UPDATE work SET lease_until = now() - interval '1 s'")


def test_registering_queues_a_scene_once_and_again_changes_nothing(conn):
    first = catalogue.register(conn, [a_scene(0), a_scene(1)])
    again = catalogue.register(conn, [a_scene(0), a_scene(1)])
    assert (first.added, first.queued) == (2, 2)
    assert (again.added, again.changed, again.unchanged, again.queued) == (0, 0, 2, 0)


def test_scenes_outside_the_campaigns_dates_or_parcels_are_not_queued(conn):
    early = a_scene(0, obstime=a_scene(0).obstime.replace(year=2022))
    away = "MULTIPOLYGON(((100 0, 101 0, 101 1, 100 0)))"
    elsewhere = a_scene(1, footprint_wkt=away)
    assert catalogue.register(conn, [early, elsewhere]).queued == 0


def test_the_last_day_of_a_campaign_is_part_of_it(conn):
    last = a_scene(0, obstime=a_scene(0).obstime.replace(month=12, day=31, hour=23))
    assert catalogue.register(conn, [last]).queued == 1


def test_a_claim_says_everything_a_worker_needs(conn):
    catalogue.register(conn, [a_scene(0)])
    held = claim(conn)
    described = a_scene(0)
    assert shapely.equals(*shapely.from_wkt([held.scene.footprint_wkt, described.footprint_wkt]))
    assert replace(held.scene, footprint_wkt=described.footprint_wkt) == described
    assert (held.aoi, held.unit, held.buffer_m, held.fence, held.rewrite) == (
        "tt",
        "dn",
        0.0,
        1,
        False,
    )


def test_two_workers_never_hold_one_scene(conn):
    catalogue.register(conn, [a_scene(n) for n in range(40)])
    held, lock = [], threading.Lock()

    def take_all():
        conn = db.connect("racer")
        while got := claim(conn):
            with lock:
                held.append(got.obsid)
        conn.close()

    racers = [threading.Thread(target=take_all) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(held) == sorted(set(held))
    assert len(held) == 40


def test_a_lease_that_runs_out_passes_to_another_and_counts_as_lost_not_failed(conn):
    catalogue.register(conn, [a_scene(0)])
    first = claim(conn)
    assert claim(conn) is None
    expire(conn)
    second = claim(conn)
    assert second.fence == first.fence + 1
    assert (state(conn).lost_leases, state(conn).failures) == (1, 0)


def test_a_worker_whose_lease_was_lost_can_neither_extend_nor_write(conn):
    catalogue.register(conn, [a_scene(0)])
    first = claim(conn)
    expire(conn)
    claim(conn)
    assert not queue.renew_leases(conn, [first], 60)
    with pytest.raises(LostLeaseError), db.transaction(conn):
        queue.lock_claims(conn, [first])
    queue.fail(conn, [first], "too late", 1)
    queue.release(conn, [first])
    assert state(conn).state == "claimed"


def test_an_extended_lease_is_kept(conn):
    catalogue.register(conn, [a_scene(0)])
    held = claim(conn, lease_s=1)
    assert queue.renew_leases(conn, [held], 60)
    assert db.fetch_one(conn, "SELECT lease_until > now() + interval '50 s' AS kept FROM work").kept


def test_work_fails_three_times_and_is_then_dead_with_its_reason(conn):
    catalogue.register(conn, [a_scene(0)])
    for attempt in range(3):
        assert state(conn).state == "pending"
        queue.fail(conn, [claim(conn)], f"broken {attempt}", 3)
    assert (state(conn).state, state(conn).reason) == ("dead", "broken 2")
    assert claim(conn) is None


def test_work_whose_lease_is_lost_too_often_is_dead(conn):
    catalogue.register(conn, [a_scene(0)])
    for _ in range(3):
        claim(conn, max_lost_leases=3)
        expire(conn)
    assert claim(conn, max_lost_leases=3) is None
    assert state(conn).state == "dead"
    assert "lost 3 times" in state(conn).reason


def test_failed_work_is_offered_again_only_after_its_pause(conn):
    catalogue.register(conn, [a_scene(0)])
    queue.fail(conn, [claim(conn)], "broken", 3, delay_s=60)
    assert claim(conn) is None


def test_released_work_is_there_for_others_at_once_without_blame(conn):
    catalogue.register(conn, [a_scene(0)])
    queue.release(conn, [claim(conn)])
    assert claim(conn) is not None
    assert (state(conn).lost_leases, state(conn).failures) == (0, 0)


def test_finished_work_is_done_and_the_scene_knows_its_absent_bands(conn):
    catalogue.register(conn, [a_scene(0)])
    held = claim(conn)
    with db.transaction(conn):
        queue.lock_claims(conn, [held])
        queue.finish(conn, held, DONE)
    assert (state(conn).state, state(conn).signatures) == ("done", 1)
    assert db.fetch_one(conn, "SELECT absent FROM scene").absent == ["B02"]
    assert queue.open_work(conn) == 0


def test_a_moved_file_keeps_work_done_and_a_new_offset_queues_it_again(conn):
    catalogue.register(conn, [a_scene(0)])
    held = claim(conn)
    with db.transaction(conn):
        queue.finish(conn, held, DONE)
    moved = a_scene(0, {"B04": BandSource("/elsewhere/B04.tif", nodata=0)})
    assert catalogue.register(conn, [moved]).changed == 1
    assert state(conn).state == "done"
    other = a_scene(0, {"B04": BandSource("/elsewhere/B04.tif", nodata=0, offset=-1000)})
    assert catalogue.register(conn, [other]).changed == 1
    assert state(conn).state == "pending"
    assert claim(conn).rewrite


def test_dead_and_claimed_work_can_be_put_back_by_name_or_all(conn):
    catalogue.register(conn, [a_scene(0), a_scene(1)])
    queue.fail(conn, [claim(conn)], "broken", 1)
    claim(conn)
    assert queue.requeue(conn, "dead", a_scene(1).reference) == 0
    assert queue.requeue(conn, "dead", a_scene(0).reference) == 1
    assert queue.requeue(conn, "claimed") == 1
    assert queue.open_work(conn) == 2
    with pytest.raises(NotFoundError, match="no scene nonsense"):
        queue.requeue(conn, "dead", "nonsense")


def test_what_waits_when_a_campaign_is_closed_is_still_done_and_nothing_new_joins(conn):
    catalogue.register(conn, [a_scene(0)])
    db.execute(conn, "UPDATE campaign SET state = 'closed'")
    assert catalogue.register(conn, [a_scene(1)]).queued == 0
    assert claim(conn).scene.reference == a_scene(0).reference


def test_the_first_scene_that_is_done_sets_the_campaigns_unit(conn):
    reflectance = a_scene(1, unit="reflectance", scale=None)
    catalogue.register(conn, [a_scene(0), reflectance, a_scene(2)])
    first, other = claim(conn), claim(conn)
    assert (first.unit, other.unit) == ("dn", "reflectance")
    with db.transaction(conn):
        queue.lock_claims(conn, [first])
        queue.finish(conn, first, DONE)
    assert claim(conn).unit == "dn"
    with pytest.raises(LostLeaseError, match="unit was set meanwhile"), db.transaction(conn):
        queue.lock_claims(conn, [other])


def test_registering_known_scenes_uses_up_no_keys(conn):
    for _ in range(5):
        catalogue.register(conn, [a_scene(0)])
    catalogue.register(conn, [a_scene(1)])
    assert [r.obsid for r in db.fetch_all(conn, "SELECT obsid FROM scene ORDER BY obsid")] == [
        1,
        2,
    ]


def test_a_corrected_footprint_is_stored(conn):
    catalogue.register(conn, [a_scene(0)])
    moved = a_scene(0, footprint_wkt="MULTIPOLYGON(((9 47, 10 47, 10 48, 9 47)))")
    assert catalogue.register(conn, [moved]).changed == 1
    assert catalogue.register(conn, [moved]).unchanged == 1


def test_a_band_that_was_not_there_is_extracted_once_its_place_is_corrected(conn):
    wrong = {"B04": BandSource("/a/B04.tif"), "B08": BandSource("/gone/B08.tif")}
    catalogue.register(conn, [a_scene(0, wrong)])
    held = claim(conn)
    with db.transaction(conn):
        queue.finish(conn, held, WorkResult(1, 0, 0, ("B08",), 0.1))
    catalogue.register(conn, [a_scene(0, wrong | {"B08": BandSource("/a/B08.tif")})])
    assert state(conn).state == "pending"


def test_a_claim_holds_what_is_known_of_the_scene_after_it_not_before(conn):
    catalogue.register(conn, [a_scene(0)])
    blocker = db.connect("blocker")
    db.execute(blocker, "BEGIN")
    db.execute(blocker, "SELECT 1 FROM work FOR UPDATE")
    assert claim(conn) is None  # locked: passed over
    db.execute(blocker, "UPDATE scene SET scale = 0.5")
    db.execute(blocker, "COMMIT")
    assert claim(conn).scene.scale == 0.5


def test_what_the_world_refuses_is_put_off_longer_each_time_and_at_last_dead(conn):
    catalogue.register(conn, [a_scene(0)])
    for times in range(3):
        db.execute(conn, "UPDATE work SET not_before = now()")
        queue.postpone(conn, [claim(conn)], "403 of one file", 3, delay_s=60)
        wait_s = db.fetch_one(
            conn, "SELECT extract(epoch FROM not_before - now()) AS s FROM work"
        ).s
        assert 55 * 2**times < wait_s <= 60 * 2**times
    assert (state(conn).state, state(conn).failures) == ("dead", 0)


def test_progress_and_failures_are_told(conn):
    catalogue.register(conn, [a_scene(0), a_scene(1)])
    queue.fail(conn, [claim(conn)], "B04 is broken", 1)
    rows = queue.progress(conn)
    assert {(r.aoi, r.kind, r.month, r.state, r.scenes) for r in rows} == {
        ("tt", "s2", "2024-04", "dead", 1),
        ("tt", "s2", "2024-04", "pending", 1),
    }
    assert [r.reason for r in queue.failures(conn)] == ["B04 is broken"]


def add_set(conn, campaign=1):
    """One more parcel set of a campaign, queued."""
    db.execute(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "SELECT %s, md5(random()::text), 1, extent FROM parcel_set LIMIT 1",
        (campaign,),
    )
    catalogue.enqueue(conn)


def claim_all(conn, **how):
    return queue.claim(conn, "tester", 60.0, 20, **how)


def finish(conn, held):
    with db.transaction(conn):
        for claimed in queue.lock_claims(conn, held):
            queue.finish(conn, claimed, DONE)


def test_a_claim_takes_a_scene_with_its_work_for_all_sets_and_campaigns(conn):
    catalogue.register(conn, [a_scene(0), a_scene(1)])
    add_set(conn)
    add_set(conn, add_campaign(conn, [square(0, 0)], aoi="uu"))
    held = claim_all(conn)
    assert [(c.set_id, c.aoi, c.fence) for c in held] == [
        (1, "tt", 1), (2, "tt", 1), (3, "uu", 1), (4, "uu", 1),
    ]  # fmt: skip
    assert {c.obsid for c in held} == {1}
    assert {c.obsid for c in claim_all(conn)} == {2}
    assert claim_all(conn) == ()


def test_workers_that_race_never_share_a_scene_out(conn):
    catalogue.register(conn, [a_scene(n) for n in range(30)])
    for _ in range(4):
        add_set(conn)
    held, lock = [], threading.Lock()

    def take_all():
        conn = db.connect("racer")
        while got := claim_all(conn):
            with lock:
                held.append(got)
        conn.close()

    racers = [threading.Thread(target=take_all) for _ in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(claims[0].obsid for claims in held) == list(range(1, 31))
    assert {len(claims) for claims in held} == {5}


def test_work_that_is_done_or_put_off_is_not_claimed_along(conn):
    catalogue.register(conn, [a_scene(0)])
    for _ in range(3):
        add_set(conn)
    db.execute(conn, "UPDATE work SET state = 'done' WHERE set_id = 1")
    db.execute(conn, "UPDATE work SET not_before = now() + interval '1 h' WHERE set_id = 2")
    db.execute(conn, "UPDATE work SET state = 'dead' WHERE set_id = 3")
    assert [c.set_id for c in claim_all(conn)] == [4]


def test_a_piece_that_was_withdrawn_is_left_out_and_the_others_are_kept(conn):
    catalogue.register(conn, [a_scene(0)])
    for _ in range(2):
        add_set(conn)
    held = claim_all(conn)
    db.execute(conn, "UPDATE work SET state = 'pending', fence = fence + 1 WHERE set_id = 2")
    assert [c.set_id for c in queue.renew_leases(conn, held, 60)] == [1, 3]
    finish(conn, held)
    rows = db.fetch_all(conn, "SELECT state, fence FROM work ORDER BY set_id")
    assert [tuple(row) for row in rows] == [("done", 1), ("pending", 2), ("done", 1)]


def test_each_piece_of_a_claim_fails_for_itself(conn):
    catalogue.register(conn, [a_scene(0)])
    add_set(conn)
    held = claim_all(conn)
    queue.fail(conn, held[1:], "another unit", 1)
    queue.fail(conn, held, "broken", 3)
    rows = db.fetch_all(conn, "SELECT state, failures, reason FROM work ORDER BY set_id")
    assert [tuple(row) for row in rows] == [
        ("pending", 1, "broken"),
        ("dead", 1, "another unit"),
    ]


def test_new_scenes_come_before_those_that_are_extracted_again(conn):
    catalogue.register(conn, [a_scene(0), a_scene(1)])
    while held := claim_all(conn):
        finish(conn, held)
    add_set(conn)
    catalogue.register(conn, [a_scene(2)])
    assert [c.set_id for c in claim_all(conn)] == [1, 2]
    queue.release(conn, claim_all(conn))
    assert claim_all(conn)[0].obsid == 1


def test_an_operator_may_have_scenes_taken_as_they_were_registered(conn):
    catalogue.register(conn, [a_scene(0)])
    finish(conn, claim_all(conn))
    add_set(conn)
    catalogue.register(conn, [a_scene(1)])
    assert claim_all(conn, order="oldest-first")[0].obsid == 1


def test_a_scene_whose_facts_changed_is_extracted_again_after_new_ones(conn):
    catalogue.register(conn, [a_scene(0)])
    finish(conn, claim_all(conn))
    other = a_scene(0, {"B04": BandSource("/nowhere/B04.tif", nodata=0, offset=-1000)})
    catalogue.register(conn, [other, a_scene(1)])
    assert claim_all(conn)[0].obsid == 2
