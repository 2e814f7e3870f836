"""Serves tiles of a made-up ground: four colours that meet at one point, black far from it.

/xyz/{z}/{x}/{y}.png has tiles in Web Mercator; /wmts answers with capabilities whose tiles lie in
UTM zone 32 (EPSG:25832), as national services' do in their own CRS.
"""

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image
from pyproj import Transformer

EDGE_M = 20037508.342789244
TILE_PX = 256
RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 200)
"""North-west, north-east, south-west and south-east of the point where they meet."""

REACH_M = 50_000

UTM_CORNER_M = (400_000.0, 5_400_000.0)
UTM_RES_M = (64.0, 16.0, 4.0, 1.0)
"""Of the tile matrices 0 to 3."""


@dataclass
class TileServer:
    """A running server.

    Attributes:
        url: its address.
        requested: paths, in order.
    """

    url: str
    requested: list[str] = field(default_factory=list)


def colours(x, y, meet):
    """Colours [row, col, 3] of pixel centres around the point where they meet."""
    east, north = x > meet[0], y > meet[1]
    pixels = np.empty((*np.broadcast_shapes(x.shape, y.shape), 3), np.uint8)
    for is_east, is_north, colour in (
        (False, True, RED),
        (True, True, GREEN),
        (False, False, BLUE),
        (True, False, WHITE),
    ):
        pixels[(east == is_east) & (north == is_north)] = colour
    far = (abs(x - meet[0]) > REACH_M) | (abs(y - meet[1]) > REACH_M)
    pixels[far] = 0
    return pixels


def tile(west, north, res, meet) -> bytes:
    steps = (np.arange(TILE_PX) + 0.5) * res
    pixels = colours(west + steps[None, :], north - steps[:, None], meet)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def capabilities(url: str) -> str:
    matrices = "".join(
        f"<TileMatrix><ows:Identifier>{n}</ows:Identifier>"
        f"<ScaleDenominator>{res / 0.00028}</ScaleDenominator>"
        f"<TopLeftCorner>{UTM_CORNER_M[0]} {UTM_CORNER_M[1]}</TopLeftCorner>"
        f"<TileWidth>{TILE_PX}</TileWidth><TileHeight>{TILE_PX}</TileHeight>"
        f"<MatrixWidth>{int(400_000 / res / TILE_PX)}</MatrixWidth>"
        f"<MatrixHeight>{int(400_000 / res / TILE_PX)}</MatrixHeight></TileMatrix>"
        for n, res in enumerate(UTM_RES_M)
    )
    return f"""<?xml version="1.0"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
 version="1.0.0"><Contents><Layer><ows:Title>Ortho</ows:Title>
<ows:Identifier>ortho</ows:Identifier><Style isDefault="true"><ows:Identifier>default
</ows:Identifier></Style><Format>image/png</Format><TileMatrixSetLink><TileMatrixSet>utm32
</TileMatrixSet></TileMatrixSetLink><ResourceURL format="image/png" resourceType="tile"
 template="{url}/utm/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png"/></Layer><TileMatrixSet>
<ows:Identifier>utm32</ows:Identifier><ows:SupportedCRS>urn:ogc:def:crs:EPSG::25832
</ows:SupportedCRS>{matrices}</TileMatrixSet></Contents></Capabilities>""".replace("\n<", "<")


@contextmanager
def running(lon: float, lat: float) -> Iterator[TileServer]:
    """A server on loopback whose four colours meet at a point."""
    meet_xyz = Transformer.from_crs(4326, 3857, always_xy=True).transform(lon, lat)
    meet_utm = Transformer.from_crs(4326, 25832, always_xy=True).transform(lon, lat)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.requested.append(self.path)
            if self.path.startswith("/wmts"):
                return self.answer(capabilities(server.url).encode(), "text/xml")
            match = re.fullmatch(r"/(xyz|utm)/(\d+)/(\d+)/(\d+)\.png", self.path)
            if match is None:
                return self.send_error(404)
            z, x, y = (int(part) for part in match.groups()[1:])
            if match[1] == "xyz":
                res = 2 * EDGE_M / TILE_PX / 2**z
                west, north, meet = -EDGE_M, EDGE_M, meet_xyz
            else:
                res, (west, north), meet = UTM_RES_M[z], UTM_CORNER_M, meet_utm
            step = res * TILE_PX
            return self.answer(tile(west + x * step, north - y * step, res, meet), "image/png")

        def answer(self, body, content_type):
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = TileServer(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
