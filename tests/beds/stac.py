"""A STAC API of this machine, with scenes of a test."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import shapely

from store.catalogue import Scene
from tests.integration.small_state import write_scene


@contextmanager
def serving(
    folder: Path,
    scenes: int,
    address: str = "127.0.0.1",
    certificate: tuple[Path, Path] | None = None,
) -> Iterator["StacServer"]:
    """Serve so many scenes, whose files are written into the folder.

    Args:
        folder: for the scenes' files.
        scenes: how many.
        address: of this machine; the port is any that is free.
        certificate: the server's and its key, for TLS, which all but loopback needs.
    """
    server = StacServer(folder, address, certificate)
    server.items = [item(write_scene(folder, n), server.url) for n in range(scenes)]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class StacServer(ThreadingHTTPServer):
    """A STAC API with one collection, and its assets by byte ranges.

    Attributes:
        items: of the collection.
        requests: paths of assets that were requested.
    """

    daemon_threads = True

    def __init__(
        self, folder: Path, address: str, certificate: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__((address, 0), _Handler)
        self.folder = folder
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake waits for the thread of the request.
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.items: list[dict[str, Any]] = []
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.server_address[0]}:{self.server_port}"


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
        self.server.requests.append(self.path)
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
