"""The API on rasters made by hand, for tests of chips over HTTP."""

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import requests
from affine import Affine
from click.testing import CliRunner
from PIL import Image
from pyproj import Transformer

from app.cli import main
from store import catalogue, db
from store.catalogue import BandSource
from tests.beds.postgis.fixture import _database
from tests.beds.tiles import server as tiles
from tests.integration.small_state import (
    EPSG,
    NORTH_M,
    WEST_M,
    a_scene,
    add_campaign,
    square,
    write_band,
    write_scene,
)

ANN, BOB = ("ann", "right-word"), ("bob", "right-word")

LON, LAT = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(WEST_M + 500, NORTH_M - 500)

S2_DAYS = {"start_date": "2024-04-06", "end_date": "2024-04-16"}


@dataclass(frozen=True)
class Api:
    """A running API with two processes, and what it shows."""

    url: str
    conn: db.Connection
    folder: Path
    cache: Path

    def get(self, path: str, auth=ANN, headers=None, **params) -> requests.Response:
        return requests.get(self.url + path, params=params, auth=auth, headers=headers, timeout=60)

    def ask(self, question: str, **params) -> requests.Response:
        place = {} if "pid" in params else {"lon": LON, "lat": LAT}
        return self.get(f"/query/{question}", **place | params)

    def post(self, question: str, body, auth=ANN) -> requests.Response:
        return requests.post(f"{self.url}/query/{question}", json=body, auth=auth, timeout=60)

    def listed(self, question: str, **params) -> dict:
        answer = self.ask(question, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fetch(self, address: str) -> bytes:
        """As the JRC's client does it: without credentials."""
        answer = requests.get(self.url + address, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.content

    @contextmanager
    def raster(self, address: str) -> Iterator[rasterio.DatasetReader]:
        with rasterio.MemoryFile(self.fetch(address)) as file, file.open() as raster:
            yield raster

    def image(self, address: str) -> np.ndarray:
        return np.array(Image.open(io.BytesIO(self.fetch(address))).convert("RGBA"))


def scenes(folder: Path) -> list[catalogue.Scene]:
    """Scenes 1 to 3 of random pixels, one of nothing, one of a gradient, Sentinel-1, coherence."""
    found = [write_scene(folder, number) for number in (1, 2, 3)]
    empty = write_band(folder / "empty.tif", np.zeros((100, 100), np.uint16), nodata=0)
    found.append(a_scene(4, {"B04": BandSource(str(empty), nodata=0)}))
    found.append(gradient(folder))
    power = np.full((100, 100), 0.1, np.float32)
    power[:, 50:] = 0.01
    power[:10] = np.nan
    vv = write_band(folder / "VV.tif", power)
    vh = write_band(folder / "VH.tif", power / 10)
    bands = {"VV": BandSource(str(vv)), "VH": BandSource(str(vh))}
    s1 = {"platform": "S1A", "scale": None, "baseline": ""}
    found.append(
        a_scene(10, bands, reference="S1A_IW_GRDH_1SDV_X", kind="bs", unit="gamma0_linear",
                acquisition="S1A_1", **s1)
    )  # fmt: skip
    found.append(
        a_scene(10, bands, reference="S1A_1_CARD-COH12", kind="c12", unit="coherence",
                acquisition="S1A_2", **s1)
    )  # fmt: skip
    return found


def gradient(folder: Path) -> catalogue.Scene:
    """Scene 5: DN grow from west to east in B04, from north to south in B03; B11 of 20 m is two."""
    steps = np.arange(100, dtype=np.uint16)
    planes = {
        "B04": np.broadcast_to(1001 + 10 * steps, (100, 100)),
        "B03": np.broadcast_to(1001 + 10 * steps[:, None], (100, 100)),
    }
    sources = {}
    for band, pixels in planes.items():
        path = write_band(folder / f"gradient_{band}.tif", pixels.copy(), nodata=0)
        sources[band] = BandSource(str(path), offset=-1000.0, nodata=0)
    coarse = np.full((50, 50), 3000, np.uint16)
    coarse[:25] = 1500
    path = write_band(folder / "gradient_B11.tif", coarse, res_m=20.0, nodata=0)
    sources["B11"] = BandSource(str(path), offset=-1000.0, nodata=0)
    return a_scene(5, sources)


@pytest.fixture(scope="module")
def ground() -> Iterator[tiles.TileServer]:
    with tiles.running(LON, LAT) as server:
        yield server


@pytest.fixture(scope="module")
def filled(cluster, template, tmp_path_factory, ground) -> Iterator[tuple[db.Connection, Path]]:
    folder = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        for conn in _database(cluster, template, patch):
            patch.setenv("CBM_CHIP_CACHE_DIR", str(folder / "cache"))
            patch.setenv("CBM_BACKGROUNDS", str(sources(folder, ground.url)))
            add_campaign(conn, [square(45, 45, 10), square(2, 2, 4)])
            catalogue.register(conn, scenes(folder))
            for name, aoi in (("ann", ["--aoi", "tt"]), ("bob", [])):
                added = CliRunner().invoke(
                    main, ["users", "add", name, *aoi, "--password-stdin"], input="right-word\n"
                )
                assert added.exit_code == 0, added.output
            yield conn, folder


def sources(folder: Path, url: str) -> Path:
    """Two that work, one whose server is gone, one of nothing, in fine pixels without overviews."""
    path = folder / "backgrounds.json"
    named = {
        "national": {"wmts": url + "/wmts", "layer": "ortho"},
        "ortho": {"xyz": url + "/xyz/{z}/{x}/{y}.png", "max_zoom": 19, "attribution": "The Crown"},
        "gone": {"xyz": "http://127.0.0.1:9/{z}/{x}/{y}.png"},
        "fine": {"raster": str(fine_raster(folder))},
    }
    path.write_text(json.dumps({"default": "ortho", "sources": named}))
    return path


def fine_raster(folder: Path) -> Path:
    """Some 10 km of 0.5 m pixels around the point; no tile of it is written."""
    path, half_m = folder / "fine.tif", 5000
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(LON, LAT)
    transform = Affine(0.5, 0, x - half_m, 0, -0.5, y + half_m)
    px = int(half_m / 0.5 * 2)
    profile = {"driver": "GTiff", "width": px, "height": px, "count": 1, "dtype": "uint8"}
    rasterio.open(
        path, "w", **profile, crs=3857, transform=transform, tiled=True, sparse_ok=True
    ).close()
    return path


@pytest.fixture(scope="module")
def api(filled, tmp_path_factory) -> Iterator[Api]:
    conn, folder = filled
    with serving(tmp_path_factory.mktemp("api")) as url:
        yield Api(url, conn, folder, folder / "cache")


@contextmanager
def serving(folder: Path, workers: int = 2) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve", "--bind", bind]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)], stdout=log, stderr=log, env=dict(os.environ)
        )
    try:
        end = time.monotonic() + 30
        while not answers(f"http://{bind}/healthz"):
            assert time.monotonic() < end, (folder / "log").read_text()
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"http://{bind}"
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)
