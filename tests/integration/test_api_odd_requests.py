"""Requests that no client should send: each is the sender's fault, and answered in JSON."""

import shutil
import socket
from collections.abc import Iterator

import pytest
import requests

from app import server
from store.errors import ConfigError
from tests.benchmarks.api_server import UNLIMITED
from tests.integration.small_api import ANN, SmallApi, serving


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    with serving(cluster, template, tmp_path_factory.mktemp("api"), **UNLIMITED) as made:
        yield made


def raw(api: SmallApi, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", api.served.port), timeout=30) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def assert_error(answer: requests.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    content = answer.json()
    assert content.keys() == {"error", "detail"}
    return content["detail"]


def test_an_area_too_long_for_an_address_is_to_be_sent_by_post(api, shared_data):
    polygon = (shared_data / "field_reports/other/polygon_400_vertices.txt").read_text().strip()
    params = {"aoi": "nl", "year": "2024", "polygon": polygon}
    answer = requests.get(f"{api.url}/query/parcelsByPolygon", params, auth=ANN, timeout=30)
    assert "POST /query/parcelsByPolygon" in assert_error(answer, 414)
    answer = requests.post(f"{api.url}/query/parcelsByPolygon", json=params, auth=ANN, timeout=30)
    assert answer.status_code == 200


def test_a_generated_address_of_any_such_length_is_answered_in_json(api):
    for length in (8200, 9000, 70_000):
        assert_error(api.get(f"/query/info?aoi={'a' * length}"), 414)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 100 + b"\r\n", b"431"),
        (b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n", b"501"),
        (b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n", b"417"),
    ],
)
def test_what_is_no_http_is_answered_in_json(api, request_, status):
    head, _, body = raw(api, request_).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert b"Content-Type: application/json" in head
    assert b"X-Content-Type-Options: nosniff" in head
    assert body.startswith(b'{"error":')


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000, "1e999", "-" + "9" * 400, "NaN"])
def test_numbers_that_no_coordinate_can_be_are_the_senders_fault(api, number):
    text = f'{{"type":"Polygon","coordinates":[[[{number},1],[1,2],[2,2],[{number},1]]]}}'
    body = {"aoi": "nl", "year": "2024", "polygon": text}
    answer = requests.post(f"{api.url}/query/parcelsByPolygon", json=body, auth=ANN, timeout=30)
    assert assert_error(answer, 400).startswith("polygon: ")


def test_a_body_that_breaks_off_is_no_error_of_ours(api):
    head = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    for rest in (
        b"Content-Length: 100\r\n\r\nname=a",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nna",
    ):
        assert b" 500 " not in raw(api, head + rest)


def test_a_folder_without_room_is_said_at_the_start(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(ConfigError, match="no room for the files of a run: 0 MiB are free"):
        server.prepare()
