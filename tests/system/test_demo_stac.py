"""`make demo STAC=...`: a live search, its rasters read over HTTP where they lie."""

import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely

from store.catalogue import Scene
from tests.integration.small_state import square, write_scene
from tests.system.test_demo import Demo, new_demo

SCENES = 12
BBOX = "9.0,47.3,9.1,47.5"


class StacServer(ThreadingHTTPServer):
    """A STAC API with one collection, and its assets by byte ranges."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.items: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    server: StacServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/assets/"):
            self._send_asset(body=True)
        else:
            self._send_json(catalogue(self.server.url))

    def do_HEAD(self) -> None:
        self._send_asset(body=False)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send_json({"type": "FeatureCollection", "features": self.server.items, "links": []})

    def _send_asset(self, *, body: bool) -> None:
        path = self.server.folder / self.path.removeprefix("/assets/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        span = self.headers.get("Range", "").removeprefix("bytes=")
        first, _, last = span.partition("-")
        begin = int(first or 0)
        end = min(int(last) + 1 if last else len(content), len(content))
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if body:
            self.wfile.write(content[begin:end])

    def _send_json(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def catalogue(url: str) -> dict[str, Any]:
    core = "https://api.stacspec.org/v1.0.0"
    return {
        "type": "Catalog",
        "id": "local",
        "stac_version": "1.0.0",
        "description": "scenes of a test",
        "conformsTo": [f"{core}/core", f"{core}/item-search"],
        "links": [
            {"rel": "root", "href": url, "type": "application/json"},
            {"rel": "search", "href": f"{url}/search", "method": "POST",
             "type": "application/geo+json"},
        ],
    }  # fmt: skip


def item(scene: Scene, url: str) -> dict[str, Any]:
    """A STAC Item as Earth Search writes it: offset in reflectance, not yet applied."""
    footprint = shapely.from_wkt(scene.footprint_wkt).geoms[0]
    assets = {
        band: {
            "href": f"{url}/assets/{Path(source.href).name}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "eo:bands": [{"name": band}],
            "raster:bands": [
                {"nodata": 0, "data_type": "uint8"}
                if band == "SCL"
                else {"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}
            ],
        }
        for band, source in scene.bands.items()
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene.reference,
        "collection": "sentinel-2-l2a",
        "geometry": json.loads(shapely.to_geojson(footprint)),
        "bbox": list(footprint.bounds),
        "properties": {
            "datetime": f"{scene.obstime:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "sentinel-2a",
            "s2:processing_baseline": "05.10",
            "proj:epsg": scene.epsg,
            "earthsearch:boa_offset_applied": False,
        },
        "links": [],
        "assets": assets,
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StacServer]:
    serving = StacServer(tmp_path)
    scenes = [write_scene(tmp_path, n) for n in range(SCENES)]
    serving.items = [item(scene, serving.url) for scene in scenes]
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()


@pytest.fixture
def parcels(tmp_path: Path) -> Path:
    squares = [square(row, col, 8) for row in range(0, 90, 10) for col in range(0, 90, 10)]
    path = tmp_path / "parcels.gpkg"
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb(np.array(squares)),
        field_data=[np.array([f"{n:04}" for n in range(len(squares))], dtype=object)],
        fields=["code"],
        geometry_type="Polygon",
        crs="EPSG:32632",
    )
    return path


def test_a_live_search_becomes_signatures_of_rasters_read_over_http(
    server: StacServer, parcels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    demo: Demo
    for demo in new_demo():
        ran = demo.up(
            f"--stac={server.url}", "--collection=sentinel-2-l2a", f"--bbox={BBOX}",
            "--start=2024-04-01", "--end=2024-07-31", f"--parcels={parcels}", "--id=code",
        )  # fmt: skip
        assert ran.counts == [SCENES, 81, SCENES * 81]
        lowest = demo.sql("SELECT min(min) FROM demo.sigs_2024 WHERE band = 'B04'")
        assert float(lowest) < 0  # the offset of -1000 DN was applied
