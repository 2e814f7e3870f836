"""Life of a product in the making: queued once, claimed, lost, failed, dead, put back."""

from datetime import UTC, datetime, timedelta

import pytest

from store import db, making
from store.errors import ConflictError, LostLeaseError, NotFoundError
from store.making import MakingOrder, MakingResult

START = datetime(2026, 5, 1, 5, 30, tzinfo=UTC)
MADE = MakingResult("GRD_0_CARD_BS", 1000, 1.5)


def order(number: int = 0, **facts) -> MakingOrder:
    known = {"kind": "bs", "inputs": (f"GRD_{number}",), "sensed_at": START + timedelta(number)}
    return MakingOrder(**known | facts)


def claim(conn, lease_s=60.0, max_lost_leases=20):
    return making.claim(conn, "tester", lease_s, max_lost_leases)


def row(conn):
    return db.fetch_one(conn, "SELECT * FROM making")


def expire(conn):
    db.execute(conn, "UPDATE making SET lease_until = now() - interval '1 s'")


def counts(report):
    return report.added, report.again, report.unchanged


def test_an_order_is_queued_once(database):
    assert counts(making.enqueue(database, [order(0), order(1)])) == (2, 0, 0)
    assert counts(making.enqueue(database, [order(0), order(1), order(2)])) == (1, 0, 2)


def test_one_input_may_become_products_of_several_kinds(database):
    pair = ("SLC_1", "SLC_0")
    report = making.enqueue(database, [order(kind="c6", inputs=pair), order(inputs=("SLC_1",))])
    assert report.added == 2


def test_other_settings_are_refused_and_nothing_is_queued(database):
    making.enqueue(database, [order(0)])
    flat = {"radiometry": "gamma0_ellipsoid"}
    with pytest.raises(ConflictError, match=r"1 products .*GRD_0"):
        making.enqueue(database, [order(0, settings=flat), order(1, settings=flat)])
    assert row(database).settings == {}
    assert making.count_open(database) == 1
    assert order(0).digest != order(0, settings=flat).digest != order(0, engine="snap").digest


def test_replacing_queues_again_what_was_made_and_takes_claims_away(database):
    making.enqueue(database, [order(0)])
    assert counts(making.enqueue(database, [order(0)], replace=True)) == (0, 0, 1)  # not made yet
    held = claim(database)
    report = making.enqueue(database, [order(0, settings={"clip": True})], replace=True)
    assert counts(report) == (0, 1, 0)
    with pytest.raises(LostLeaseError):
        making.finish(database, held, MADE)
    again = claim(database)
    assert (again.order.settings, again.replace) == ({"clip": True}, True)
    making.finish(database, again, MADE)
    assert row(database).replace is False
    assert counts(making.enqueue(database, [again.order], replace=True)) == (0, 1, 0)


def test_what_was_sensed_last_is_made_first(database):
    making.enqueue(database, [order(1), order(3), order(2)])
    assert [claim(database).order.inputs for _ in range(3)] == [
        ("GRD_3",), ("GRD_2",), ("GRD_1",),
    ]  # fmt: skip
    assert claim(database) is None


def test_a_claim_under_a_lease_is_nobody_elses(database):
    making.enqueue(database, [order()])
    held = claim(database)
    assert (held.order, held.replace, held.queued_at) == (order(), False, row(database).queued_at)
    assert claim(database) is None
    assert making.renew_lease(database, held, 60, 3, 12)
    assert (row(database).tiles_done, row(database).tiles) == (3, 12)


def test_a_lost_lease_is_counted_apart_and_its_holder_publishes_nothing(database):
    making.enqueue(database, [order()])
    first = claim(database)
    expire(database)
    second = claim(database)
    assert (row(database).lost_leases, row(database).failures) == (1, 0)
    assert not making.renew_lease(database, first, 60, 0, None)
    with db.transaction(database), pytest.raises(LostLeaseError):
        making.lock_claim(database, first)
    with pytest.raises(LostLeaseError):
        making.finish(database, first, MADE)
    making.fail(database, first, "late", 1, 0)
    assert row(database).state == "claimed"
    making.finish(database, second, MADE)
    assert (row(database).state, row(database).product) == ("done", MADE.product)


def test_too_many_lost_leases_are_a_dead_letter_that_says_so(database):
    making.enqueue(database, [order()])
    for _ in range(3):
        claim(database, max_lost_leases=3)
        expire(database)
    assert claim(database, max_lost_leases=3) is None
    assert row(database).state == "dead"
    assert "the lease was lost 3 times, last by tester" in row(database).reason


def test_failures_end_in_a_dead_letter_and_retry_gives_it_a_new_life(database):
    making.enqueue(database, [order()])
    for n in range(3):
        making.fail(database, claim(database), f"broken {n}", 3, 0)
    dead = row(database)
    assert (dead.state, dead.failures, dead.reason) == ("dead", 3, "broken 2")
    assert making.requeue(database, "dead", "GRD_0") == 1
    alive = row(database)
    assert (alive.state, alive.failures, alive.reason) == ("pending", 0, None)
    assert alive.queued_at > dead.queued_at


def test_the_worlds_faults_are_put_off_for_longer_and_longer(database):
    making.enqueue(database, [order()])
    for expected_s in (10, 20, 40):
        making.postpone(database, claim(database), "bucket away", 20, 10)
        pause = db.fetch_one(
            database, "SELECT extract(epoch FROM not_before - changed_at)::int AS s FROM making"
        )
        assert pause.s == expected_s
        assert claim(database) is None
        db.execute(database, "UPDATE making SET not_before = '-infinity'")
    assert (row(database).failures, row(database).lost_leases) == (0, 3)


def test_what_is_released_keeps_its_reason_and_its_counts(database):
    making.enqueue(database, [order()])
    making.release(database, claim(database), "ordered at the archive", 60)
    known = row(database)
    assert (known.state, known.failures, known.lost_leases) == ("pending", 0, 0)
    assert claim(database) is None
    assert [note.reason for note in making.notes(database)] == ["ordered at the archive"]


def test_a_stuck_product_is_taken_from_its_processor(database):
    making.enqueue(database, [order()])
    held = claim(database)
    assert making.requeue(database, "claimed") == 1
    with pytest.raises(LostLeaseError):
        making.finish(database, held, MADE)


def test_an_unknown_product_is_not_put_back(database):
    with pytest.raises(NotFoundError, match="X is neither made nor waits"):
        making.requeue(database, "dead", "X")


def test_progress_counts_by_kind_month_and_state(database):
    making.enqueue(database, [order(0), order(1), order(40)])
    making.finish(database, claim(database), MADE)
    rows = [(r.kind, r.month, r.state, r.products) for r in making.progress(database)]
    assert rows == [("bs", "2026-05", "pending", 2), ("bs", "2026-06", "done", 1)]


def test_the_worker_login_may_queue_claim_and_finish(database):
    db.execute(database, "SET ROLE cbm_worker")
    making.enqueue(database, [order()])
    making.finish(database, claim(database), MADE)
    figures = db.fetch_all(database, "SELECT kind, state, products FROM figures_making")
    assert [tuple(row) for row in figures] == [("bs", "done", 1)]
