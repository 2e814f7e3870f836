"""Threads shared by users: each has a part, turns go round, and a wait has an end."""

import threading
import time
from concurrent.futures import wait

import pytest

from app.http.errors import BusyError
from app.http.fair_threads import FairThreads
from app.routes.route import Lane
from app.routes.table import ROUTES, find_lane


def fair(threads=2, per_user=1, max_waiting=4, max_wait_s=30.0) -> FairThreads:
    return FairThreads(
        "test", threads, per_user=per_user, max_waiting=max_waiting, max_wait_s=max_wait_s
    )


def test_a_user_whose_calls_hang_leaves_threads_to_others():
    threads, go = fair(), threading.Event()
    hanging = [threads.submit("ann", lambda: go.wait(20)) for _ in range(3)]
    assert threads.submit("bob", lambda: "served").result(10) == "served"
    assert not any(each.done() for each in hanging)
    go.set()
    assert [each.result(10) for each in hanging] == [True] * 3


def test_users_are_served_in_turn():
    threads, go, order = fair(threads=1), threading.Event(), []
    threads.submit("ann", lambda: go.wait(20))
    waiting = [threads.submit("ann", lambda n=n: order.append(f"ann {n}")) for n in range(3)]
    waiting += [threads.submit("bob", lambda: order.append("bob"))]
    go.set()
    wait(waiting, 10)
    assert order.index("bob") < 2


def test_too_many_waiting_calls_of_a_user_are_refused_and_others_are_not():
    threads, go = fair(threads=1), threading.Event()
    calls = [threads.submit("ann", lambda: go.wait(20)) for _ in range(5)]
    with pytest.raises(BusyError, match="wait already"):
        threads.submit("ann", int)
    other = threads.submit("bob", int)
    go.set()
    assert other.result(10) == 0
    assert all(call.result(10) for call in calls)


def test_a_call_whose_turn_does_not_come_fails_and_the_rest_goes_on():
    threads, go = fair(threads=1, max_wait_s=0.0), threading.Event()
    begun = threads.submit("ann", lambda: go.wait(20))
    late = threads.submit("bob", int)
    time.sleep(0.01)
    threads.expire()
    with pytest.raises(BusyError, match="no turn"):
        late.result(10)
    go.set()
    assert begun.result(10)


def test_an_error_is_the_result_and_frees_the_thread():
    threads = fair(threads=1)
    with pytest.raises(ZeroDivisionError):
        threads.submit("ann", lambda: 1 // 0).result(10)
    assert threads.submit("ann", int).result(10) == 0


def test_what_may_wait_or_last_has_a_lane_of_its_own():
    lanes = {(route.method, route.path): route.lane for route in ROUTES}
    assert {route.lane for route in ROUTES if route.tag == "images"} == {Lane.IMAGE}
    assert lanes["GET", "/healthz"] is Lane.HEALTH
    assert [path for (_, path), lane in lanes.items() if lane is Lane.HEALTH] == ["/healthz"]
    for method, path, lane in (
        ("POST", "/login", Lane.LOGIN),
        ("POST", "/query/parcelTimeSeries", Lane.STREAM),
        ("GET", "/query/parcelTimeSeries", Lane.QUERY),
        ("HEAD", "/chips/0/1~nl/c_1/x.B04.tif", Lane.IMAGE),
        ("GET", "/nowhere", Lane.QUERY),
    ):
        assert find_lane(method, path) is lane
