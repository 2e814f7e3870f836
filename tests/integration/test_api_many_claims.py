"""One user who seems to be many holds no more of the API than one user may."""

import secrets
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from app.routes.route import Lane
from app.routes.table import ROUTES
from app.worker import ClientConnection
from store import db
from tests.benchmarks.api_server import UNLIMITED
from tests.integration.filled_api import wait_for
from tests.integration.small_api import ANN, SmallApi, run, serving

LOGIN = b64encode(":".join(ANN).encode()).decode()

BOB = ("bob", "right-word")
PARCEL, FREE = "/query/parcelByID?aoi=nl&year=2024&pid=007", "/page/progress"
WAITING = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    def before(_: db.Connection) -> None:
        run("users", "add", "bob", "--aoi", "nl", "--password-stdin", stdin="right-word\n")

    settings = {"CBM_STATEMENT_TIMEOUT_S": "60", **UNLIMITED}
    with serving(cluster, template, tmp_path_factory.mktemp("api"), before, **settings) as made:
        yield made


def test_a_user_with_many_cookies_leaves_threads_to_others(api):
    def claim(_: int) -> int:
        headers = {"Cookie": f"x={secrets.token_hex(8)}"}
        return api.get(PARCEL, auth=ANN, headers=headers).status_code

    api.get(FREE, auth=ANN)
    with ThreadPoolExecutor(60) as threads, db.transaction(api.conn):
        db.execute(api.conn, "LOCK TABLE nl.parcels")
        sent = [threads.submit(claim, n) for n in range(60)]
        wait_for(lambda: db.fetch_one(api.conn, WAITING).n >= 6)
        time.sleep(1)
        # Nobody but the lock's holder, who waits for these, lets the others go on.
        for _ in range(4):
            assert requests.get(api.url + FREE, auth=BOB, timeout=40).status_code == 200
        held = db.fetch_one(api.conn, WAITING).n
    assert held <= 12
    statuses = [one.result() for one in sent]
    assert set(statuses) <= {200, 429, 503}
    assert 200 in statuses


def connection(head: str) -> ClientConnection:
    conn = ClientConnection.__new__(ClientConnection)
    conn.arrived, conn.client = bytearray(f"{head}\r\n\r\n".encode()), ("10.0.0.1", 1)
    return conn


SPELLINGS = ("{}", "{}?a=1", "{}/", "{}/?a=1", "http://x{}", "https://x:1{}/?a#b", "{}#a")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_request_goes_by_its_routes_lane_however_its_address_is_written(spelling):
    lanes = set()
    for route in ROUTES:
        path = route.path.replace("{", "").replace("}", "")
        wanted = spelling.format(path).replace("//", "/").replace(":/", "://")
        assert connection(f"{route.method} {wanted} HTTP/1.1").lane() is route.lane, wanted
        lanes.add(route.lane)
    assert lanes == set(Lane)


def test_an_image_by_any_spelling_of_its_address_is_one(api):
    for address in ("/query/chipsByLocation/", f"{api.url}/query/chipsByLocation"):
        answer = raw(api, f"GET {address} HTTP/1.1")
        assert b"missing" in answer, answer


def raw(api: SmallApi, line: str) -> bytes:
    with socket.create_connection(("127.0.0.1", api.served.port), timeout=60) as client:
        head = f"{line}\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {LOGIN}\r\n\r\n"
        client.sendall(head.encode())
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_cookies_beside_the_session_change_no_claim():
    line = "GET / HTTP/1.1\r\nCookie: {}cbm_session=ann:1:a:b{}"
    claims = {
        connection(line.format(before, after)).claim()
        for before in ("", "x=1; ", "y=2; ") for after in ("", "; z=3")
    }  # fmt: skip
    assert len(claims) == 1
    assert connection(line.format("", "c")).claim() not in claims


def posted(cookie: str, body: bytes, fields: str) -> bytes:
    head = (
        "POST /query/parcelTimeSeries HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Cookie: x={cookie}\r\nAuthorization: Basic {LOGIN}\r\n{fields}\r\n"
    )
    return head.encode() + body


def test_a_body_arrives_whole_though_its_request_changes_its_turn(api):
    body = b'{"aoi": "nl", "year": 2024, "pid": ["007"], "tsformat": "csv"}'
    length = f"Content-Length: {len(body)}\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    large = body[:-1] + b" " * (3 << 20) + b"}"
    requests_sent = [
        posted(secrets.token_hex(8), body, length),
        posted(secrets.token_hex(8), chunks, "Transfer-Encoding: chunked\r\n"),
        posted(secrets.token_hex(8), body, f"Expect: 100-continue\r\n{length}"),
        # The next request is on its way already.
        posted(secrets.token_hex(8), body, length) + posted(secrets.token_hex(8), body, length),
        posted(secrets.token_hex(8), large, f"Content-Length: {len(large)}\r\n"),
    ]
    answers = []
    for request in requests_sent:
        with socket.create_connection(("127.0.0.1", api.served.port), timeout=60) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            answers.append(b"".join(iter(lambda: client.recv(1 << 16), b"")))
    heads = [[line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1")]
             for answer in answers]  # fmt: skip
    ok, more, large_ = b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.1 413"
    assert heads[:4] == [[ok], [ok], [more, ok], [ok, ok]], answers
    assert heads[4][0].startswith(large_), answers[4]
    assert answers[0].split(b"\r\n\r\n")[1] == answers[2].split(b"\r\n\r\n")[2]
