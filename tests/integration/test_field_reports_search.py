"""Catalogues that went wrong after public reports: every search ends, and gives the whole day."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from card.cli import main
from store import db

DAY = ("--bbox=8,46,10,48", "--start=2024-06-01", "--end=2024-06-01")


@contextmanager
def serving(answer: Callable[[dict[str, Any], str], Any]) -> Iterator[tuple[str, list]]:
    """A STAC API whose search gives these answers; its address, and the bodies of searches."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            links = [{"rel": "search", "method": "POST", "href": f"{url}/search"}]
            self.send({"type": "Catalog", "links": links})

        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send(answer(bodies[-1], f"{url}/search"))

        def send(self, document: Any) -> None:
            text = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield url, bodies
        finally:
            server.shutdown()


def sync(url: str, *options: str) -> Result:
    return CliRunner().invoke(
        main, ["sync", f"--stac={url}", "--collection=sentinel-2-l2a", *DAY, *options]
    )


@pytest.fixture
def page(shared_data) -> dict[str, Any]:
    """The page of the report; its next link leads to {search}."""
    return json.loads((shared_data / "field_reports/other/stac_page_repeated.json").read_text())


def test_a_search_whose_page_repeats_ends_and_is_said(database, page):
    def repeated(_body: dict[str, Any], search: str) -> Any:
        return json.loads(json.dumps(page).replace("{search}", search))

    with serving(repeated) as (url, bodies):
        ran = sync(url)
    assert len(bodies) < 20
    assert db.fetch_one(database, "SELECT count(*) AS n FROM scene").n == 1
    assert "or repeats them" in ran.output


@pytest.mark.parametrize("token", [lambda n: f"next:{n}", lambda n: f"next:{n % 2}"])
def test_a_search_whose_page_repeats_under_other_names_ends_too(database, page, token):
    def renamed(body: dict[str, Any], search: str) -> Any:
        number = int(str(body.get("token", "next:0")).partition(":")[2])
        document = copy.deepcopy(page)
        document["links"][0]["href"] = search
        document["links"][0]["body"]["token"] = token(number + 1)
        return document

    with serving(renamed) as (url, bodies):
        ran = sync(url)
    assert len(bodies) < 20
    assert db.fetch_one(database, "SELECT count(*) AS n FROM scene").n == 1
    assert "or repeats them" in ran.output


@pytest.mark.parametrize("moment", ["00:00:00Z", "23:59:59Z", "23:59:59.5Z", "23:59:59.999999Z"])
def test_the_last_second_of_a_day_belongs_to_it(database, page, moment):
    [item] = page["features"]
    item["properties"]["datetime"] = f"2024-06-01T{moment}"
    at = datetime.fromisoformat(item["properties"]["datetime"])

    def searched(body: dict[str, Any], _search: str) -> Any:
        start, end = map(datetime.fromisoformat, body["datetime"].split("/"))
        return {"features": [item] if start <= at <= end else [], "links": []}

    with serving(searched) as (url, _):
        ran = sync(url)
    assert ran.exit_code == 0, ran.output
    assert db.fetch_one(database, "SELECT count(*) AS n FROM scene").n == 1
