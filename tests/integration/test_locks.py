"""Changes of tables behind a long reader: they wait in moments, and nobody waits behind them."""

import threading
import time

import pytest

from store import db
from store.errors import DatabaseError, LockedError, NotFoundError
from store.parcels import campaigns


def reader(conn: db.Connection) -> None:
    """A transaction that has read the parcels, and stays."""
    db.execute(conn, "BEGIN")
    db.fetch_all(conn, "SELECT * FROM nl.parcels")


def test_a_drop_behind_a_reader_holds_up_nobody_and_is_done_when_the_reader_ends(database):
    made = campaigns.create(database, "nl", 2024)
    campaigns.create(database, "nl", 2023)
    slow, other, mine = (db.connect("test") for _ in range(3))
    reader(slow)
    dropping = threading.Thread(target=campaigns.drop, args=(mine, made))
    dropping.start()
    waits = []
    for _ in range(20):
        began = time.monotonic()
        db.fetch_all(other, "SELECT * FROM nl.parcels")
        waits.append(time.monotonic() - began)
        time.sleep(0.05)
    assert max(waits) < 5
    assert dropping.is_alive()
    db.execute(slow, "ROLLBACK")
    dropping.join(20)
    with pytest.raises(NotFoundError):
        campaigns.find(database, "nl", 2024)


def test_a_change_that_finds_no_moment_says_so_and_changes_nothing(database):
    made = campaigns.create(database, "nl", 2024)
    slow = db.connect("test")
    reader(slow)
    with pytest.raises(LockedError, match="in use"):
        db.change_tables(
            database, lambda: db.execute(database, "DROP TABLE nl.parcels CASCADE"), within_s=0
        )
    assert campaigns.find(database, "nl", 2024) == made


def test_a_copy_whose_reader_stops_ends_and_frees_its_locks(database):
    db.execute(database, "CREATE TABLE large AS SELECT repeat('x', 1000) AS x "
                         "FROM generate_series(1, 20000)")  # fmt: skip
    conn = db.connect("test")
    rows = db.copy_csv(conn, "SELECT * FROM large", within_s=1.0)
    next(rows)
    time.sleep(1.5)
    with pytest.raises(DatabaseError, match="in time"):
        list(rows)
    db.change_tables(database, lambda: db.execute(database, "DROP TABLE large"), within_s=20)


def test_a_copy_is_broken_off_though_the_server_is_silent(database):
    conn = db.connect("test")
    pid = db.fetch_one(conn, "SELECT pg_backend_pid() AS pid").pid
    rows = db.copy_csv(conn, "SELECT pg_sleep(60)", within_s=0.5)
    began = time.monotonic()
    with pytest.raises(DatabaseError, match="in time"):
        next(rows)
    assert time.monotonic() - began < 30
    assert conn.closed
    gone = "SELECT FROM pg_stat_activity WHERE pid = %s AND state <> 'idle'"
    while db.fetch_one(database, gone, (pid,)) is not None:
        assert time.monotonic() - began < 30
        time.sleep(0.1)


def test_batches_are_all_rows_in_their_order(database):
    batches = db.fetch_batches(database, "SELECT generate_series(1, %s) AS n", (450,), 200)
    assert [[row.n for row in batch] for batch in batches] == [
        list(range(1, 201)), list(range(201, 401)), list(range(401, 451)),
    ]  # fmt: skip
    abandoned = db.fetch_batches(database, "SELECT generate_series(1, 9) AS n", None, 2)
    next(abandoned)
    abandoned.close()
    assert db.fetch_one(database, "SELECT 1 AS n").n == 1
