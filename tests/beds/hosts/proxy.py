#!/usr/bin/env python3
"""Forward proxy for the lab's hosts, which have no route off this machine.

Serves plain GET and HEAD (apt) with a cache of *.deb on disk, and CONNECT (pip, npm).
usage: proxy.py ADDRESS PORT CACHE_FOLDER
"""

import hashlib
import http.client
import select
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

ADDRESS, PORT, CACHE = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
OF_ONE_HOP = {
    "connection",
    "proxy-connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "upgrade",
    "proxy-authorization",
}
CHUNK = 1 << 16


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Say nothing: the hosts' own logs tell what they fetched."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.scheme != "http" or not url.hostname:
            self.send_error(400)
            return
        whole = self.command == "GET" and "Range" not in self.headers
        slot = CACHE / hashlib.sha256(self.path.encode()).hexdigest()
        if whole and url.path.endswith(".deb"):
            self._cached(url, slot)
        else:
            self._fetched(url, None)

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def _cached(self, url: SplitResult, slot: Path) -> None:
        if not slot.exists():
            self._fetched(url, slot)
            return
        with slot.open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Length", str(slot.stat().st_size))
            self.end_headers()
            self.wfile.flush()
            self.connection.sendfile(file)

    def _fetched(self, url: SplitResult, slot: Path | None) -> None:
        """Pass an answer on, and keep it at `slot` if it is complete."""
        far = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=120)
        path = f"{url.path}?{url.query}" if url.query else url.path
        headers = {k: v for k, v in self.headers.items() if k.lower() not in OF_ONE_HOP}
        try:
            far.request(self.command, path, headers=headers)
            answer = far.getresponse()
        except OSError as error:
            self.send_error(502, str(error))
            return
        self._head(answer)
        if self.command != "HEAD" and answer.status not in (204, 304):
            self._body(answer, slot if answer.status == 200 else None)
        far.close()

    def _head(self, answer: http.client.HTTPResponse) -> None:
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in OF_ONE_HOP:
                self.send_header(name, value)
        if answer.getheader("Content-Length") is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()

    def _body(self, answer: http.client.HTTPResponse, slot: Path | None) -> None:
        chunks = iter(lambda: answer.read(CHUNK), b"")
        if slot is None:
            for chunk in chunks:
                self.wfile.write(chunk)
        else:
            self._keep(chunks, slot, int(answer.getheader("Content-Length", -1)))

    def _keep(self, chunks: Iterator[bytes], slot: Path, length: int) -> None:
        part = slot.with_suffix(f".{threading.get_ident()}")
        with part.open("wb") as file:
            for chunk in chunks:
                self.wfile.write(chunk)
                file.write(chunk)
        if part.stat().st_size == length:
            part.replace(slot)
        else:
            part.unlink()

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        self.close_connection = True
        try:
            far = socket.create_connection((host, int(port)), timeout=60)
        except OSError as error:
            self.send_error(502, str(error))
            return
        self.send_response(200, "Connection established")
        self.end_headers()
        with far:
            relay(self.connection, far)


def relay(near: socket.socket, far: socket.socket) -> None:
    """Pass bytes both ways until one side ends or nothing comes for three minutes."""
    other = {near: far, far: near}
    while True:
        ready, _, _ = select.select([near, far], [], [], 180)
        for side in ready:
            data = side.recv(CHUNK)
            if not data:
                return
            other[side].sendall(data)
        if not ready:
            return


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


CACHE.mkdir(parents=True, exist_ok=True)
Server((ADDRESS, PORT), Proxy).serve_forever()
