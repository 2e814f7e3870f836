"""An archive of this machine: a list of products, served as OData, resto and STAC, with faults.

The answers have the form of recorded ones (shared/data/catalogue); which products there are, and
what goes wrong meanwhile, is up to the test.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import shapely

from standalone.synthetic.safe import SafeProduct, write_metadata
from store import products
from store.grid import Grid

TOKEN_S = 600
_Answer = Callable[[dict[str, Any], bool], Any]


@dataclass(frozen=True)
class Held:
    """A product that the archive lists.

    Attributes:
        name: without .SAFE.
        kind: product type.
        footprint: in degrees.
        online: False for one that must be ordered first.
        start: of sensing.
        stop: of sensing.
        content: what a download gives.
        orbit: relative orbit.
        cloud_pct: share of clouds.
    """

    name: str
    kind: str
    footprint: shapely.Geometry
    start: datetime
    stop: datetime
    online: bool = True
    content: bytes = b""
    orbit: int = 22
    cloud_pct: float = 10.0

    @property
    def id(self) -> str:
        """Of this product, stable."""
        return f"{abs(hash(self.name)):032x}"[:32]

    @property
    def path(self) -> str:
        """Where the archive keeps it."""
        prefix = products.key_prefixes(products.parse(self.name))[0]
        return f"/eodata/{prefix.rstrip('/')}"


@dataclass
class Archive:
    """What a server serves and how.

    Attributes:
        held: its products.
        page_size: entries of a page.
        counts: whether pages state how many entries there are.
        faults: taken one by one, one a search request: a status, "cut", "html", "self" (the page
            links to itself), "repeat" (the page comes again), "silent", or None for none.
        between: called before each page but the first, and may change `held`.
        requests: paths and parameters, as they came.
        token: that downloads want; None wants none.
        orders: production orders, with their deliveries as "content".
        workflows: name -> type of the product it makes.
        quota: orders that may be open at a time.
        lost_answers: orders that are taken, with an answer 503.
    """

    held: list[Held] = field(default_factory=list)
    page_size: int = 3
    counts: bool = False
    faults: list[Any] = field(default_factory=list)
    between: Callable[["Archive"], None] | None = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    token: str | None = None
    retry_after: str = "0"
    orders: list[dict[str, Any]] = field(default_factory=list)
    workflows: dict[str, str] = field(default_factory=lambda: {"card_bs": "CARD-BS"})
    quota: int = 10
    lost_answers: int = 0

    def select(self, kind: str, start: str, end: str) -> list[Held]:
        """Products of a type and time, in order of time."""
        found = [
            one for one in self.held
            if one.kind == kind and _parse(start) <= one.start < _parse(end)
        ]  # fmt: skip
        return sorted(found, key=lambda one: (one.start, one.name))


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, archive: Archive) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.archive = archive

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sources(self, path: Path, store: str = "/nowhere") -> str:
        """Write a CBM_SOURCES file that leads the known sources here; its path."""
        path.write_text(
            f'[cdse]\nurl = "{self.url}/stac"\n'
            f'[cdse-odata]\nurl = "{self.url}/odata/v1"\ndownload = "{self.url}/odata/v1"\n'
            f'store = "{store}"\norders = "{self.url}/odp/v1"\n'
            f'[cdse-opensearch]\nurl = "{self.url}/resto"\nstore = "{store}"\n'
            f'[eodata]\nurl = "{store}"\n'
        )
        return str(path)


@contextmanager
def serving(archive: Archive) -> Iterator[Server]:
    with Server(archive) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        params = {key: value[0] for key, value in parse_qs(parts.query).items()}
        self.server.archive.requests.append((parts.path, params))
        if match := re.fullmatch(r"/odata/v1/Products\((\w+)\)/\$value", parts.path):
            self._download(match[1])
        elif parts.path == "/odata/v1/Products":
            self._search(self._odata, params)
        elif parts.path.startswith("/odp/v1/"):
            self._odp(parts.path.removeprefix("/odp/v1/"), params)
        elif parts.path.startswith("/resto/"):
            self._search(self._resto, params)
        elif parts.path == "/stac":
            self._json(_root(self.server.url))
        else:
            self._json({"detail": "no such page"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/token":
            self._token(parse_qs(body.decode()))
            return
        params = json.loads(body)
        self.server.archive.requests.append((self.path, params))
        if self.path == "/odp/v1/ProductionOrder/OData.CSC.Order":
            self._order(params)
            return
        self._search(self._stac, params)

    def _search(
        self, answer: Callable[[dict[str, Any], bool], Any], params: dict[str, Any]
    ) -> None:
        archive = self.server.archive
        if archive.between and ("$skip" in params or "page" in params or "token" in params):
            archive.between(archive)
        fault = archive.faults.pop(0) if archive.faults else None
        if fault == "silent":
            self.close_connection = True
            threading.Event().wait(2)
        elif isinstance(fault, int):
            self._json({"detail": "a fault"}, fault, {"Retry-After": archive.retry_after})
        elif fault == "html":
            self._send(b"<html>maintenance</html>", 200)
        else:
            text = json.dumps(answer(params, fault == "self")).encode()
            self._send(text[: len(text) // 2] if fault == "cut" else text, 200)

    def _page(self, found: list[Held], first: int, itself: bool) -> tuple[list[Held], int | None]:
        size = self.server.archive.page_size
        following = first + size if first + size < len(found) else None
        return found[first : first + size], first if itself else following

    def _odata(self, params: dict[str, str], itself: bool) -> Any:
        wanted = params["$filter"]
        kind = re.search(r"'productType' and att/OData.CSC.StringAttribute/Value eq '(\w+)", wanted)
        kind_name = re.search(r"Value eq '([^']+)'", wanted[kind.start() :])[1]
        if kind_name.startswith("AUX_"):
            found = self._orbits(wanted, kind_name)
        else:
            start = re.search(r"ContentDate/Start ge (\S+)", wanted)[1]
            end = re.search(r"ContentDate/Start lt (\S+)", wanted)[1]
            found = self.server.archive.select(kind_name, start, end)
        page, following = self._page(found, int(params.get("$skip", 0)), itself)
        answer = {"@odata.context": "$metadata#Products", "value": [_product(p) for p in page]}
        if self.server.archive.counts:
            answer["@odata.count"] = len(found)
        if following is not None:
            query = urlencode({**params, "$skip": following})
            answer["@odata.nextLink"] = f"{self.server.url}/odata/v1/Products?{query}"
        return answer

    def _orbits(self, wanted: str, kind: str) -> list[Held]:
        platform = re.search(r"startswith\(Name,'(\w+)'\)", wanted)[1]
        start = _parse(re.search(r"ContentDate/Start le (\S+)", wanted)[1])
        stop = _parse(re.search(r"ContentDate/End ge (\S+)", wanted)[1])
        return [
            one for one in self.server.archive.held
            if one.kind == kind and one.name.startswith(platform)
            and one.start <= start and one.stop >= stop
        ]  # fmt: skip

    def _resto(self, params: dict[str, str], itself: bool) -> Any:
        archive = self.server.archive
        found = archive.select(params["productType"], params["startDate"], params["completionDate"])
        number = int(params.get("page", 1)) - 1
        page, following = self._page(found, number * archive.page_size, itself)
        links = []
        if following is not None:
            query = urlencode({**params, "page": following // archive.page_size + 1})
            links = [
                {"rel": "next", "href": f"{self.server.url}{urlsplit(self.path).path}?{query}"}
            ]
        total = {"totalResults": len(found), "exactCount": 1} if archive.counts else {
            "totalResults": None, "exactCount": 0
        }  # fmt: skip
        return {
            "type": "FeatureCollection",
            "properties": {"links": links, **total},
            "features": [_feature(one) for one in page],
        }

    def _stac(self, params: dict[str, Any], itself: bool) -> Any:
        start, _, end = params["datetime"].partition("/")
        kinds = {"sentinel-2-l2a": "S2MSI2A", "sentinel-1-slc": "IW_SLC__1S"}
        found = self.server.archive.select(kinds[params["collections"][0]], start, end)
        page, following = self._page(found, int(params.get("token", 0)), itself)
        links = []
        if following is not None:
            links = [{"rel": "next", "href": f"{self.server.url}/stac/search", "method": "POST",
                      "body": {**params, "token": following}}]  # fmt: skip
        count = {"numberMatched": len(found)} if self.server.archive.counts else {}
        return {"type": "FeatureCollection", "features": [_item(one) for one in page],
                "links": links, **count}  # fmt: skip

    def _token(self, form: dict[str, list[str]]) -> None:
        self.server.archive.requests.append(("/token", {k: v[0] for k, v in form.items()}))
        if form["password"] != ["right"]:
            self._json({"error": "invalid_grant",
                        "error_description": "Invalid user credentials"}, 401)  # fmt: skip
            return
        self._json({"access_token": self.server.archive.token, "expires_in": TOKEN_S})

    def _download(self, key: str) -> None:
        archive = self.server.archive
        if archive.token and self.headers.get("Authorization") != f"Bearer {archive.token}":
            self._json({"detail": "expired_token"}, 401)
            return
        found = next((one for one in archive.held if one.id == key), None)
        if found:
            self._send(found.content, 200)
        else:
            self._json({"detail": "no such product"}, 404)

    def _odp(self, what: str, params: dict[str, str]) -> None:
        """The On-Demand Production API: workflows, orders and what they gave."""
        archive = self.server.archive
        if archive.token and self.headers.get("Authorization") != f"Bearer {archive.token}":
            self._json({"detail": "expired_token"}, 401)
        elif what == "Workflows":
            offered = [{"Name": n, "OutputProductType": t} for n, t in archive.workflows.items()]
            self._json({"value": offered})
        elif what == "ProductionOrders":
            name = re.fullmatch(r"Name eq '(.*)'", params["$filter"])[1]
            found = [one for one in archive.orders if one["Name"] == name]
            shown = [{k: v for k, v in one.items() if k != "content"} for one in found]
            self._json({"value": shown})
        elif match := re.fullmatch(r"ProductionOrder\((\w+)\)/Product/\$value", what):
            self._send(next(o["content"] for o in archive.orders if o["Id"] == match[1]), 200)
        else:
            self._json({"detail": "no such page"}, 404)

    def _order(self, wanted: dict[str, Any]) -> None:
        archive = self.server.archive
        if wanted["WorkflowName"] not in archive.workflows:
            self._json({"detail": "no such workflow"}, 422)
            return
        if sum(one["Status"] in ("queued", "in_progress") for one in archive.orders) >= (
            archive.quota
        ):
            self._json({"detail": "Quota of concurrent orders exceeded"}, 403)
            return
        order = {
            **wanted,
            "Id": str(1000 + len(archive.orders)),
            "Status": "queued",
            "StatusMessage": "queued",
            "SubmissionDate": _iso(datetime.now(UTC)),
        }
        archive.orders.append(order)
        if archive.lost_answers:
            archive.lost_answers -= 1
            self._json({"detail": "a fault"}, 503)
        else:
            self._json({"value": order}, 201)

    def _json(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(answer).encode(), status, headers)

    def _send(self, text: bytes, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"


def _product(held: Held) -> dict[str, Any]:
    """As CDSE's OData writes it."""
    suffix = "" if held.name.endswith(".EOF") else ".SAFE"
    return {
        "Id": held.id,
        "Name": f"{held.name}{suffix}",
        "ContentLength": 1000,
        "Online": held.online,
        "S3Path": f"{held.path}.SAFE".replace(".SAFE.SAFE", ".SAFE") if suffix else "",
        "ContentDate": {"Start": _iso(held.start), "End": _iso(held.stop)},
        "GeoFootprint": json.loads(shapely.to_geojson(held.footprint)),
        "Attributes": [
            {"Name": "relativeOrbitNumber", "Value": held.orbit},
            {"Name": "orbitDirection", "Value": "DESCENDING"},
        ],
    }


def _feature(held: Held) -> dict[str, Any]:
    """As resto writes it."""
    return {
        "type": "Feature",
        "id": held.id,
        "geometry": json.loads(shapely.to_geojson(held.footprint)),
        "properties": {
            "title": f"{held.name}.SAFE",
            "status": "ONLINE" if held.online else "OFFLINE",
            "productIdentifier": held.path,
            "startDate": _iso(held.start),
            "completionDate": _iso(held.stop),
            "relativeOrbitNumber": held.orbit,
            "orbitDirection": "DESCENDING",
            "services": {"download": {"size": 1000}},
        },
    }


def _item(held: Held) -> dict[str, Any]:
    """As CDSE's STAC writes it."""
    folder = f"s3:/{held.path}"
    asset = {
        "href": f"{folder}/GRANULE/x/IMG_DATA/R10m/T_B04_10m.jp2",
        "type": "image/jp2",
        "bands": [{"name": "B04"}],
        "nodata": 0,
        "data_type": "uint16",
        "raster:scale": 0.0001,
        "raster:offset": -0.1,
        "proj:code": "EPSG:32632",
        "gsd": 10,
    }
    s2 = held.kind == "S2MSI2A"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": held.name,
        "collection": held.kind,
        "geometry": json.loads(shapely.to_geojson(held.footprint)),
        "properties": {
            "datetime": _iso(held.start),
            "start_datetime": _iso(held.start),
            "end_datetime": _iso(held.stop),
            "platform": "sentinel-2a" if s2 else "sentinel-1a",
            "eo:cloud_cover": held.cloud_pct,
            "sat:relative_orbit": held.orbit,
            "sat:orbit_state": "descending",
            "order:status": "succeeded" if held.online else "orderable",
        },
        "links": [],
        "assets": {"B04_10m": asset} if s2 else {
            "safe_manifest": {"href": f"{folder}/manifest.safe"}
        },
    }  # fmt: skip


def _root(url: str) -> dict[str, Any]:
    link = {"rel": "search", "href": f"{url}/stac/search", "type": "application/geo+json"}
    return {"type": "Catalog", "id": "archive", "links": [link, {**link, "method": "POST"}]}


GRID = Grid(32632, 10.0, 500_000.0, 5_250_000.0, 100, 100)


def s2_product(day: datetime, tile: str = "32TNT", baseline: str = "05.10") -> SafeProduct:
    """A Level-2A product of a small window, sensed on a day at 10:15."""
    start = day.replace(hour=10, minute=15, tzinfo=UTC)
    return SafeProduct("S2A", start, 22, tile, baseline, start + timedelta(hours=3), GRID)


def held(product: SafeProduct, **facts: Any) -> Held:
    """How the archive lists it; around the tests' parcels."""
    footprint = shapely.box(9.0, 47.3, 9.1, 47.5)
    start = product.start.replace(microsecond=24_000)
    return replace(Held(product.name, "S2MSI2A", footprint, start, start), **facts)


def write_safe(root: Path, product: SafeProduct) -> Path:
    """Write a product's metadata, with images of one byte, where the archive keeps it."""
    prefix = products.key_prefixes(products.parse(product.name))[0]
    folder = root / prefix
    images = [product.image("B04", 10), product.image("SCL", 20)]
    for image in images:
        path = folder / f"{image}.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    west, north, size = GRID.west_m, GRID.north_m, 1000
    outline = shapely.box(west, north - size, west + size, north)
    write_metadata(folder, product, images, outline, {4: 100.0})
    return folder
