"""The backlog as the database's host reads it: what waits, who holds what, since when."""

from datetime import UTC, datetime

from infra import backlog
from store import catalogue, db, making, queue
from store.making import MakingOrder
from tests.integration.small_state import a_scene, add_campaign, square

SENSED_AT = datetime(2026, 5, 1, 5, 30, tzinfo=UTC)


def figures(conn):
    (row,) = db.fetch_one(conn, backlog._STATEMENT)
    return row


def test_an_empty_database_has_an_empty_backlog(database):
    empty = figures(database)
    nothing = {"pending": 0, "claimed": 0, "done": 0, "oldest_s": 0}
    assert (empty["queues"], empty["holders"]) == (dict.fromkeys(backlog.QUEUES, nothing), [])
    assert datetime.fromisoformat(empty["at"]).tzinfo == UTC


def test_pieces_are_counted_by_state_and_holders_are_named_once(database):
    add_campaign(database, [square(0, 0)])
    catalogue.register(database, [a_scene(number) for number in range(4)])
    db.execute(database, "UPDATE work SET changed_at = now() - interval '90 s'")
    for holder in ("0123456789ab:7", "0123456789ab:7", "ba9876543210:1"):
        queue.claim(database, holder, 60.0, 20)
    making.enqueue(database, [MakingOrder("bs", ("GRD_0",), SENSED_AT)])
    making.claim(database, "ba9876543210:9", 60.0, 20)
    now = figures(database)
    extraction = backlog.QueueFigures(**now["queues"]["extraction"])
    assert (extraction.pending, extraction.claimed, extraction.done) == (1, 3, 0)
    assert 90 <= extraction.oldest_s < 120
    assert now["queues"]["making"] == {"pending": 0, "claimed": 1, "done": 0, "oldest_s": 0}
    assert sorted(now["holders"]) == ["0123456789ab:7", "ba9876543210:1", "ba9876543210:9"]


def test_a_claim_whose_lease_ran_out_waits_again_and_has_no_holder(database):
    add_campaign(database, [square(0, 0)])
    catalogue.register(database, [a_scene(0)])
    queue.claim(database, "0123456789ab:7", 60.0, 20)
    db.execute(database, "UPDATE work SET lease_until = now() - interval '1 s'")
    now = figures(database)
    assert now["queues"]["extraction"]["pending"] == 1
    assert now["queues"]["extraction"]["claimed"] == 0
    assert now["holders"] == []
