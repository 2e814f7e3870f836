"""The pool of connections: borrowed, returned, replaced, and never more than its size."""

import threading
from collections.abc import Callable

import pytest
from psycopg2.errors import DivisionByZero

from store import db
from store.errors import ConfigError, DatabaseError

BACKEND = "SELECT pg_backend_pid() AS pid"


def connect() -> db.Connection:
    return db.connect("pool")


def backend(pool: db.Pool) -> int:
    with pool.connection() as conn:
        return db.fetch_one(conn, BACKEND).pid


def test_a_connection_is_opened_when_needed_and_used_again(database):
    opened = []

    def counted() -> db.Connection:
        opened.append(1)
        return connect()

    pool = db.Pool(3, counted)
    assert opened == []
    assert backend(pool) == backend(pool)
    assert opened == [1]


def test_a_connection_that_the_server_closed_is_replaced_before_it_is_lent(database):
    pool = db.Pool(1, connect)
    first = backend(pool)
    db.execute(database, "SELECT pg_terminate_backend(%s, 5000)", (first,))
    assert backend(pool) != first


def leave_open(conn: db.Connection) -> None:
    db.execute(conn, "BEGIN")


def close(conn: db.Connection) -> None:
    conn.close()


@pytest.mark.parametrize("misuse", [leave_open, close])
def test_a_connection_that_comes_back_unfit_is_replaced(
    database, misuse: Callable[[db.Connection], None]
):
    pool = db.Pool(1, connect)
    with pool.connection() as conn:
        first = db.fetch_one(conn, BACKEND).pid
        misuse(conn)
    assert backend(pool) != first


def fail_within(pool: db.Pool) -> None:
    with pool.connection() as conn:
        db.fetch_one(conn, "SELECT 1 / 0")


def test_a_statement_that_fails_leaves_the_connection_fit(database):
    pool = db.Pool(1, connect)
    first = backend(pool)
    with pytest.raises(Exception, match="division by zero"):
        fail_within(pool)
    assert backend(pool) == first


def test_who_finds_all_connections_lent_waits_for_one_or_is_told(database):
    pool = db.Pool(1, connect, wait_s=0.2)
    with pool.connection(), pytest.raises(DatabaseError, match=r"busy for 0\.2 s"):
        backend(pool)
    pool = db.Pool(1, connect, wait_s=20)
    found: list[int] = []
    with pool.connection() as conn:
        waiting = threading.Thread(target=lambda: found.append(backend(pool)))
        waiting.start()
        first = db.fetch_one(conn, BACKEND).pid
    waiting.join(20)
    assert found == [first]


def test_a_server_that_is_away_is_an_error_each_time_and_takes_no_place(database):
    pool = db.Pool(1, lambda: db.connect("pool", "port=1"), wait_s=0.2)
    for _ in range(3):
        with pytest.raises(DatabaseError, match="cannot connect"):
            backend(pool)


PAIR = "SELECT %(one)s AS one, %(other)s AS other, %(one)s IS NULL AS missing"


def kept(conn: db.Connection) -> int:
    return db.fetch_one(conn, "SELECT count(*) FROM pg_prepared_statements").count


def test_a_prepared_query_has_the_rows_of_a_plain_one_and_one_plan_for_all_values(database):
    for one in (7, None, -1, 2_000_000_000):
        for other in ("x", "it's $1 %s", None):
            params = {"one": one, "other": other}
            made = db.fetch_prepared(database, PAIR, {"one": "integer", "other": "text"}, params)
            assert [tuple(row) for row in made] == [(one, other, one is None)]
            assert made[0].missing is (one is None)
    assert kept(database) == 1


def test_values_that_are_not_named_as_different_are_part_of_the_plan(database):
    for other in ("a", "b", "a"):
        params = {"one": 1, "other": other}
        assert db.fetch_prepared(database, PAIR, {"one": "integer"}, params)[0].other == other
    assert kept(database) == 2


def test_a_connection_keeps_a_bounded_number_of_plans(database):
    for number in range(250):
        params = {"one": number, "other": number}
        assert db.fetch_prepared(database, PAIR, {"one": "integer"}, params)[0].other == number
        assert kept(database) <= 100


def test_a_query_that_cannot_be_prepared_or_run_leaves_the_connection_fit(database):
    for statement in ("SELECT nothing FROM nowhere", "SELECT 1 / %(one)s"):
        for _ in range(2):
            with pytest.raises((ConfigError, DivisionByZero)):
                db.fetch_prepared(database, statement, {"one": "integer"}, {"one": 0})
    assert db.fetch_prepared(database, "SELECT 1 / %(one)s AS n", {"one": "integer"}, {"one": 1})
