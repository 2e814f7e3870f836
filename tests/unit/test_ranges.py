"""Bytes of files by ranges, from servers that answer as they like."""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from extraction import ranges
from extraction.ranges import Sources
from store import objects
from store.errors import ObjectStoreError, ReplacedError

CONTENT = bytes(range(256)) * 40


class Server(ThreadingHTTPServer):
    """One file at every address, by ranges.

    Attributes:
        version: its ETag.
        begin: where it begins whatever was requested, for servers that know better; None for none.
        whole: whether ranges are ignored.
        packed: whether bytes come in gzip though that was not accepted.
        pause_s: between two bytes.
    """

    version, begin, whole, packed, pause_s = "1", None, False, False, 0.0

    def handle_error(self, *_):
        """Clients hang up on what they refuse."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        first = first if self.server.begin is None else self.server.begin
        part = CONTENT if self.server.whole else CONTENT[first : last + 1]
        self.send_response(200 if self.server.whole else 206)
        if not self.server.whole:
            end = first + len(part) - 1
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(CONTENT)}")
        self.send_header("ETag", f'"{self.server.version}"')
        if self.server.packed:
            part = gzip.compress(bytes(1000 * len(part)))[: len(part)]
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        for byte in part if self.server.pause_s else ():
            time.sleep(self.server.pause_s)
            self.wfile.write(bytes([byte]))
        if not self.server.pause_s:
            self.wfile.write(part)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), _Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


@pytest.fixture(params=["web", "s3"])
def file(request, server, monkeypatch):
    """The server's file, read as of the web or of an object store."""
    url = f"http://127.0.0.1:{server.server_port}"
    if request.param == "web":
        return Sources({}).open(f"{url}/band.tif")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "here")
    return Sources({}).open("s3://bucket/band.tif")


def test_the_bytes_requested_are_read(file):
    assert file.read(300, 20) == CONTENT[300:320]
    assert file.read(len(CONTENT) - 5, 20) == CONTENT[-5:]


def test_other_bytes_than_requested_are_refused(file, server):
    server.begin = 256
    with pytest.raises(ObjectStoreError, match="ranges"):
        file.read(300, 20)


def test_a_whole_file_instead_of_a_range_is_refused(file, server):
    server.whole = True
    with pytest.raises(ObjectStoreError, match=r"200|whole"):
        file.read(0, 20)


def test_a_file_that_is_replaced_between_two_reads_is_refused(file, server):
    file.read(0, 20)
    server.version = "2"
    with pytest.raises(ReplacedError):
        file.read(300, 20)


def test_a_local_file_that_is_replaced_between_two_reads_is_refused(tmp_path):
    path = tmp_path / "band.jp2"
    path.write_bytes(CONTENT)
    file = Sources({}).open(str(path))
    assert file.read(300, 20) == CONTENT[300:320]
    objects.put_object(str(path), CONTENT[::-1])
    with pytest.raises(ReplacedError):
        file.read(300, 20)


def test_what_a_web_server_calls_packed_is_not_unpacked(server):
    server.packed = True
    read = Sources({}).open(f"http://127.0.0.1:{server.server_port}/band.tif").read(0, 5000)
    assert len(read) <= 5000
    assert read.startswith(b"\x1f\x8b")


def test_a_web_server_that_drips_is_left(server, monkeypatch):
    monkeypatch.setattr(ranges, "_PATIENCE_S", 0.2)
    server.pause_s = 0.01
    file = Sources({}).open(f"http://127.0.0.1:{server.server_port}/band.tif")
    with pytest.raises(ObjectStoreError, match="too slowly"):
        file.read(0, 5000)
    server.pause_s = 0.0
    assert file.read(0, 5000) == CONTENT[:5000]
