"""A door before the S3 server that counts what is read through it."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class TrafficCount:
    """The reading requests that went through the door.

    Attributes:
        requests: their number.
        bytes: of their answers.
        lines: method and path of each.
    """

    requests: int = 0
    bytes: int = 0
    lines: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, line: str, size: int) -> None:
        with self._lock:
            self.requests += 1
            self.bytes += size
            self.lines.append(line)


@contextmanager
def counting(behind: str) -> Iterator[tuple[str, TrafficCount]]:
    """An address that passes requests on to another one, and counts them."""
    count = TrafficCount()
    target = urlsplit(behind).netloc

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size) if size else None
            conn = http.client.HTTPConnection(target, timeout=60)
            conn.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                conn.putheader(name, value)
            conn.endheaders(body)
            answer = conn.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            conn.close()
            if self.command in {"GET", "HEAD"}:
                count.add(f"{self.command} {self.path}", len(data))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", count
        httpd.shutdown()
