"""Clients that read or send slowly, or stop: they deny nobody, and what they hold comes back."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.benchmarks.api_server import UNLIMITED
from tests.integration.slow_clients import BOB, LARGE, PARCEL, fill, head, held, opened
from tests.integration.small_api import ANN, SmallApi, serving

SERIES = "/query/parcelTimeSeries"
SHOWN = 4500  # of them at least lie in the area


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    with serving(cluster, template, tmp_path_factory.mktemp("api"), fill, **UNLIMITED) as made:
        yield made


def assert_served(api: SmallApi) -> None:
    """Health, pages, queries and large answers are there for another user."""
    for path, auth in (("/healthz", None), ("/login", None), (PARCEL, BOB)):
        began = time.monotonic()
        assert api.get(path, auth=auth).status_code == 200, path
        assert time.monotonic() - began < 5, path
    answer = api.get(LARGE, auth=BOB)
    assert answer.status_code == 200, answer.text[:200]
    assert len(answer.json()["pid"]) > SHOWN


def test_20_clients_that_do_not_read_their_large_answers_deny_nobody(api):
    with held([opened(api, head(LARGE)) for _ in range(20)]):
        time.sleep(2)
        assert_served(api)


def test_clients_that_do_not_read_ordinary_answers_deny_nobody(api):
    middling = LARGE.replace("limit=10000", "limit=150")
    with held([opened(api, head(middling) + head(middling)) for _ in range(60)]):
        time.sleep(1)
        assert_served(api)


def test_clients_that_send_slowly_deny_nobody(api):
    body = head("/query/parcelTimeSeries", method="POST", **{"Content-Length": "1000"})
    with held([opened(api, begun) for begun in [head(PARCEL)[:40], body + '{"aoi"'] * 20]):
        time.sleep(1)
        assert_served(api)


def test_clients_that_never_close_deny_nobody(api):
    closing = [opened(api, head(PARCEL, Connection="close")) for _ in range(40)]
    with held(closing):
        assert all(b" 200 OK" in client.recv(100) for client in closing)
        assert_served(api)


def test_a_request_that_does_not_arrive_is_answered_with_408(api):
    with held([client := opened(api, head(PARCEL)[:40])]):
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "Request Timeout"


def test_16_large_answers_at_once_take_a_bounded_memory(api):
    before = sum(api.served.rss_mb())
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda n: api.get(LARGE, auth=(ANN, BOB)[n % 2]), range(16)))
    assert {answer.status_code for answer in answers} <= {200, 429, 503}
    wholes = [answer for answer in answers if answer.status_code == 200]
    assert wholes
    assert all(len(answer.json()["geom"]) > SHOWN for answer in wholes)
    assert sum(api.served.rss_mb()) - before < 300


def test_long_bodies_that_wait_for_a_thread_take_a_bounded_memory(api):
    """Each claims another user, so that all of them may wait; the check of a password is slow."""
    before, body = sum(api.served.rss_mb()), "x" * (1 << 20)
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}

    def send(number: int) -> socket.socket:
        origin = f"10.0.{number // 50}.1"
        login = f"nobody{number}", "wrong-word"
        begun = head(SERIES, login, "POST", **fields, **{"X-Forwarded-For": origin})
        return opened(api, begun + body)

    with ThreadPoolExecutor(16) as threads:
        clients = list(threads.map(send, range(450)))
    most = 0.0
    with held(clients):
        for client in clients:
            most = max(most, sum(api.served.rss_mb()))
            assert client.recv(100)[9:12] in (b"401", b"429", b"503")
    assert most - before < 300
    assert_served(api)


BODIES = {
    "a chunk that does not come": ("Transfer-Encoding: chunked", b"ffff\r\nname=x0\r\n\r\n"),
    "chunks without an end": ("Transfer-Encoding: chunked", b"5\r\n0\r\n\r\n\r\n"),
    "no end of many bytes": ("Content-Length: 9000000", b"name=" + b"x" * (21 << 17)),
}


@pytest.mark.parametrize("kind", BODIES)
def test_bodies_that_seem_whole_hold_no_thread_of_the_login(api, kind):
    """There are three for each process; each client claims to be another."""
    field, body = BODIES[kind]
    lines = ("POST /login HTTP/1.1", "Host: x", "X-Forwarded-For: 10.0.0.{}", field,
             "Content-Type: application/x-www-form-urlencoded", "", "")  # fmt: skip
    clients = [opened(api, "\r\n".join(lines).format(n)) for n in range(20)]
    with held(clients):
        for client in clients:
            with suppress(OSError):
                client.sendall(body)
        for _ in range(8):
            assert api.get("/login", auth=None).status_code == 200
        answers = [received(client) for client in clients]
    # They were not answered by a thread, which would have waited for the rest of the body.
    assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 408", b"HTTP/1.1 413", b""}
    assert all(b"the body did not" not in answer for answer in answers)


def received(client: socket.socket) -> bytes:
    """What comes until the end; a server that closes upon unread bytes may cut it off."""
    answer = b""
    with suppress(ConnectionResetError):
        while piece := client.recv(4096):
            answer += piece
    return answer


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_chunks_are_collected_however_they_are_cut(api, step):
    pieces = (b"4;note=x", b'{"ao', b"6", b'i": "n', b"A", b'l", "year"', b"6", b": 2024", b"1",
              b"}", b"000", b"End: 0", b"", b"")  # fmt: skip
    body = b"\r\n".join(pieces)
    fields = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    with held([client := opened(api, head(SERIES, ANN, "POST", Connection="close", **fields))]):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(body), step):
            client.sendall(body[at : at + step])
            time.sleep(0.002)
        answer = received(client)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"pid: missing" in answer


def test_a_user_reads_a_part_of_the_large_answers_at_once_and_hears_why(api):
    with ThreadPoolExecutor(5) as threads:  # both processes have two places for a user
        answers = list(threads.map(lambda _: api.get(LARGE, stream=True), range(5)))
    refused = [answer for answer in answers if answer.status_code == 429]
    for answer in answers:
        answer.close()
    assert refused
    assert int(refused[0].headers["Retry-After"]) >= 1


def test_a_slow_reader_that_reads_gets_all_of_it(api):
    with held([client := opened(api, head(LARGE, BOB, Connection="close"))]):
        time.sleep(3)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"0\r\n\r\n")


def test_requests_in_one_piece_are_answered_in_their_order(api):
    with held([client := opened(api, head(PARCEL) + head(PARCEL.replace("007", "r100")))]):
        answer = b""
        while b'"r100"' not in answer:
            answer += client.recv(4096)
    assert answer.index(b'"007"') < answer.index(b'"r100"')


def test_what_expects_to_be_let_on_is_let_on(api):
    fields = {"Content-Length": "2", "Content-Type": "application/json", "Expect": "100-continue"}
    begun = head("/query/parcelTimeSeries", method="POST", **fields)
    with held([client := opened(api, begun)]):
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
        client.sendall(b"{}")
        assert client.recv(100).startswith(b"HTTP/1.1 400 Bad Request")


def test_broken_chunks_are_the_senders_fault(api):
    fields = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    begun = head("/query/parcelTimeSeries", method="POST", Connection="close", **fields)
    for chunks in ("zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}XX0\r\n\r\n", "-1\r\n0\r\n\r\n"):
        with held([client := opened(api, begun + chunks)]):
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 400 Bad Request"), (chunks, answer)
        assert b'"error":"Bad Request"' in answer
