"""Life of work on a scene: claim, lease, fence, release, failure, dead letter."""

import threading
from dataclasses import replace

import pytest
import shapely

from store import catalogue, db
from store.catalogue import BandSource, Done
from store.errors import LostLeaseError, NotFoundError
from tests.integration.small_state import a_scene, add_campaign, square

DONE = Done(signatures=1, outside=0, nodata=0, absent=("B02",), cpu_s=0.1)


@pytest.fixture
def queue(database):
    """A connection to a database with one campaign."""
    add_campaign(database, [square(0, 0)])
    return database


def claim(conn, lease_s=60.0, max_lost_leases=20, reference=None):
    return catalogue.claim(conn, "tester", lease_s, max_lost_leases, reference)


def state(conn):
    return db.one(conn, "SELECT * FROM work")


def expire(conn):
    db.execute(conn, "UPDATE work SET lease_until = now() - interval '1 s'")


def test_registering_queues_a_scene_once_and_again_changes_nothing(queue):
    first = catalogue.register(queue, [a_scene(0), a_scene(1)])
    again = catalogue.register(queue, [a_scene(0), a_scene(1)])
    assert (first.added, first.queued) == (2, 2)
    assert (again.added, again.changed, again.unchanged, again.queued) == (0, 0, 2, 0)


def test_scenes_outside_the_campaigns_dates_or_parcels_are_not_queued(queue):
    early = a_scene(0, obstime=a_scene(0).obstime.replace(year=2022))
    away = "MULTIPOLYGON(((100 0, 101 0, 101 1, 100 0)))"
    elsewhere = a_scene(1, footprint_wkt=away)
    assert catalogue.register(queue, [early, elsewhere]).queued == 0


def test_the_last_day_of_a_campaign_is_part_of_it(queue):
    last = a_scene(0, obstime=a_scene(0).obstime.replace(month=12, day=31, hour=23))
    assert catalogue.register(queue, [last]).queued == 1


def test_a_claim_says_everything_a_worker_needs(queue):
    catalogue.register(queue, [a_scene(0)])
    held = claim(queue)
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


def test_two_workers_never_hold_one_scene(queue):
    catalogue.register(queue, [a_scene(n) for n in range(40)])
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


def test_a_lease_that_runs_out_passes_to_another_and_counts_as_lost_not_failed(queue):
    catalogue.register(queue, [a_scene(0)])
    first = claim(queue)
    assert claim(queue) is None
    expire(queue)
    second = claim(queue)
    assert second.fence == first.fence + 1
    assert (state(queue).lost_leases, state(queue).failures) == (1, 0)


def test_a_worker_whose_lease_was_lost_can_neither_extend_nor_write(queue):
    catalogue.register(queue, [a_scene(0)])
    first = claim(queue)
    expire(queue)
    claim(queue)
    assert not catalogue.extend(queue, first, 60)
    with pytest.raises(LostLeaseError), db.transaction(queue):
        catalogue.hold(queue, first)
    catalogue.fail(queue, first, "too late", 1)
    catalogue.release(queue, first)
    assert state(queue).state == "claimed"


def test_an_extended_lease_is_kept(queue):
    catalogue.register(queue, [a_scene(0)])
    held = claim(queue, lease_s=1)
    assert catalogue.extend(queue, held, 60)
    assert db.one(queue, "SELECT lease_until > now() + interval '50 s' AS kept FROM work").kept


def test_work_fails_three_times_and_is_then_dead_with_its_reason(queue):
    catalogue.register(queue, [a_scene(0)])
    for attempt in range(3):
        assert state(queue).state == "pending"
        catalogue.fail(queue, claim(queue), f"broken {attempt}", 3)
    assert (state(queue).state, state(queue).reason) == ("dead", "broken 2")
    assert claim(queue) is None


def test_work_whose_lease_is_lost_too_often_is_dead(queue):
    catalogue.register(queue, [a_scene(0)])
    for _ in range(3):
        claim(queue, max_lost_leases=3)
        expire(queue)
    assert claim(queue, max_lost_leases=3) is None
    assert state(queue).state == "dead"
    assert "lost 3 times" in state(queue).reason


def test_failed_work_is_offered_again_only_after_its_pause(queue):
    catalogue.register(queue, [a_scene(0)])
    catalogue.fail(queue, claim(queue), "broken", 3, delay_s=60)
    assert claim(queue) is None


def test_released_work_is_there_for_others_at_once_without_blame(queue):
    catalogue.register(queue, [a_scene(0)])
    catalogue.release(queue, claim(queue))
    assert claim(queue) is not None
    assert (state(queue).lost_leases, state(queue).failures) == (0, 0)


def test_finished_work_is_done_and_the_scene_knows_its_absent_bands(queue):
    catalogue.register(queue, [a_scene(0)])
    held = claim(queue)
    with db.transaction(queue):
        catalogue.hold(queue, held)
        catalogue.finish(queue, held, DONE)
    assert (state(queue).state, state(queue).signatures) == ("done", 1)
    assert db.one(queue, "SELECT absent FROM scene").absent == ["B02"]
    assert catalogue.open_work(queue) == 0


def test_a_moved_file_keeps_work_done_and_a_new_offset_queues_it_again(queue):
    catalogue.register(queue, [a_scene(0)])
    held = claim(queue)
    with db.transaction(queue):
        catalogue.finish(queue, held, DONE)
    moved = a_scene(0, {"B04": BandSource("/elsewhere/B04.tif", nodata=0)})
    assert catalogue.register(queue, [moved]).changed == 1
    assert state(queue).state == "done"
    other = a_scene(0, {"B04": BandSource("/elsewhere/B04.tif", nodata=0, offset=-1000)})
    assert catalogue.register(queue, [other]).changed == 1
    assert state(queue).state == "pending"
    assert claim(queue).rewrite


def test_dead_and_claimed_work_can_be_put_back_by_name_or_all(queue):
    catalogue.register(queue, [a_scene(0), a_scene(1)])
    catalogue.fail(queue, claim(queue), "broken", 1)
    claim(queue)
    assert catalogue.requeue(queue, "dead", a_scene(1).reference) == 0
    assert catalogue.requeue(queue, "dead", a_scene(0).reference) == 1
    assert catalogue.requeue(queue, "claimed") == 1
    assert catalogue.open_work(queue) == 2
    with pytest.raises(NotFoundError, match="no scene nonsense"):
        catalogue.requeue(queue, "dead", "nonsense")


def test_what_waits_when_a_campaign_is_closed_is_still_done_and_nothing_new_joins(queue):
    catalogue.register(queue, [a_scene(0)])
    db.execute(queue, "UPDATE campaign SET state = 'closed'")
    assert catalogue.register(queue, [a_scene(1)]).queued == 0
    assert claim(queue).scene.reference == a_scene(0).reference


def test_the_first_scene_that_is_done_sets_the_campaigns_unit(queue):
    reflectance = a_scene(1, unit="reflectance", scale=None)
    catalogue.register(queue, [a_scene(0), reflectance, a_scene(2)])
    first, other = claim(queue), claim(queue)
    assert (first.unit, other.unit) == ("dn", "reflectance")
    with db.transaction(queue):
        catalogue.hold(queue, first)
        catalogue.finish(queue, first, DONE)
    assert claim(queue).unit == "dn"
    with pytest.raises(LostLeaseError, match="unit was set meanwhile"), db.transaction(queue):
        catalogue.hold(queue, other)


def test_registering_known_scenes_uses_up_no_keys(queue):
    for _ in range(5):
        catalogue.register(queue, [a_scene(0)])
    catalogue.register(queue, [a_scene(1)])
    assert [r.obsid for r in db.rows(queue, "SELECT obsid FROM scene ORDER BY obsid")] == [1, 2]


def test_a_corrected_footprint_is_stored(queue):
    catalogue.register(queue, [a_scene(0)])
    moved = a_scene(0, footprint_wkt="MULTIPOLYGON(((9 47, 10 47, 10 48, 9 47)))")
    assert catalogue.register(queue, [moved]).changed == 1
    assert catalogue.register(queue, [moved]).unchanged == 1


def test_a_band_that_was_not_there_is_extracted_once_its_place_is_corrected(queue):
    wrong = {"B04": BandSource("/a/B04.tif"), "B08": BandSource("/gone/B08.tif")}
    catalogue.register(queue, [a_scene(0, wrong)])
    held = claim(queue)
    with db.transaction(queue):
        catalogue.finish(queue, held, Done(1, 0, 0, ("B08",), 0.1))
    catalogue.register(queue, [a_scene(0, wrong | {"B08": BandSource("/a/B08.tif")})])
    assert state(queue).state == "pending"


def test_a_claim_holds_what_is_known_of_the_scene_after_it_not_before(queue):
    catalogue.register(queue, [a_scene(0)])
    blocker = db.connect("blocker")
    db.execute(blocker, "BEGIN")
    db.execute(blocker, "SELECT 1 FROM work FOR UPDATE")
    assert claim(queue) is None  # locked: passed over
    db.execute(blocker, "UPDATE scene SET scale = 0.5")
    db.execute(blocker, "COMMIT")
    assert claim(queue).scene.scale == 0.5


def test_what_the_world_refuses_is_put_off_longer_each_time_and_at_last_dead(queue):
    catalogue.register(queue, [a_scene(0)])
    for times in range(3):
        db.execute(queue, "UPDATE work SET not_before = now()")
        catalogue.put_off(queue, claim(queue), "403 of one file", 3, delay_s=60)
        wait_s = db.one(queue, "SELECT extract(epoch FROM not_before - now()) AS s FROM work").s
        assert 55 * 2**times < wait_s <= 60 * 2**times
    assert (state(queue).state, state(queue).failures) == ("dead", 0)


def test_progress_and_failures_are_told(queue):
    catalogue.register(queue, [a_scene(0), a_scene(1)])
    catalogue.fail(queue, claim(queue), "B04 is broken", 1)
    rows = catalogue.progress(queue)
    assert {(r.aoi, r.kind, r.month, r.state, r.scenes) for r in rows} == {
        ("tt", "s2", "2024-04", "dead", 1),
        ("tt", "s2", "2024-04", "pending", 1),
    }
    assert [r.reason for r in catalogue.failures(queue)] == ["B04 is broken"]
