"""A STAC API that gives recorded pages of a search, for tests of what a client makes of them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RecordedApi(ThreadingHTTPServer):
    """A STAC API that gives the answers it was made with, one per search request."""

    daemon_threads = True

    def __init__(self, pages: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages = list(pages)
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: RecordedApi

    def do_GET(self) -> None:
        links = [
            {"rel": rel, "href": self.server.url, "type": "application/json"}
            for rel in ("root", "self")
        ]
        search_link = {"rel": "search", "href": f"{self.server.url}/search", "method": "POST",
                       "type": "application/geo+json"}  # fmt: skip
        self._answer({
            "type": "Catalog", "id": "recorded", "stac_version": "1.0.0", "description": "",
            "conformsTo": ["https://api.stacspec.org/v1.0.0/core",
                           "https://api.stacspec.org/v1.0.0/item-search"],
            "links": [*links, search_link],
        })  # fmt: skip

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(json.loads(body))
        self._answer(self.server.pages.pop(0) if self.server.pages else 503)

    def _answer(self, answer: Any) -> None:
        status = answer if isinstance(answer, int) else 200
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text.replace("https://earth-search.aws.element84.com/v1/search",
                                      f"{self.server.url}/search").encode())  # fmt: skip

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(*pages: Any) -> Iterator[RecordedApi]:
    with RecordedApi(list(pages)) as api:
        thread = threading.Thread(target=api.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield api
        finally:
            api.shutdown()
            thread.join()
