"""One user at the page and in a notebook at once: neither is refused for the other."""

import itertools
import math
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration import chip_api
from tests.integration.chip_api import ANN, LAT, LON, S2_DAYS, Api

api, filled, ground = chip_api.api, chip_api.filled, chip_api.ground

PANS = 5
ZOOM = 15
VIEW_PX = (1920, 1080)
IMAGES_AT_ONCE = 16
"""MapLibre's bound on raster tiles; it has none on vector tiles."""


def view(pan: int, zoom: int, tile_px: int) -> list[tuple[int, int, int]]:
    """Tiles that a map of a screen's size shows; each pan moves it by half a screen."""
    across, down = (math.ceil(side / tile_px) + 1 for side in VIEW_PX)
    n = 1 << zoom
    x = int((LON + 180) / 360 * n) + pan * across // 2
    y = int((1 - math.asinh(math.tan(math.radians(LAT))) / math.pi) / 2 * n)
    return [(zoom, x + col, y + row) for col in range(across) for row in range(down)]


def log_in(api: Api) -> str:
    form = {"name": ANN[0], "password": ANN[1]}
    answer = requests.post(f"{api.url}/login", form, allow_redirects=False, timeout=60)
    assert answer.status_code == 303
    return answer.headers["Set-Cookie"].partition(";")[0]


@pytest.mark.full
def test_panning_the_map_while_a_notebook_fetches_chips_meets_no_refusal(api):
    headers = {"Cookie": log_in(api), "X-Requested-With": "fetch"}
    statuses: Counter[tuple[str, int]] = Counter()
    panned = threading.Event()

    def tile(kind: str, path: str) -> None:
        answer = requests.get(f"{api.url}{path}", headers=headers, timeout=90)
        statuses[kind, answer.status_code] += 1

    def notebook(number: int) -> None:
        for size_m in itertools.cycle(range(200, 5000, 20)):
            if panned.is_set():
                return
            answer = api.ask("rawChipByLocation", band="B04", chipsize=size_m + number, **S2_DAYS)
            statuses["chips", answer.status_code] += 1

    with ThreadPoolExecutor(3) as kernel:
        cells = [kernel.submit(notebook, n) for n in range(3)]
        try:
            for pan in range(PANS):
                vector, raster = view(pan, ZOOM, 512), view(pan, ZOOM + 2, 256)
                with (
                    ThreadPoolExecutor(len(vector)) as workers,
                    ThreadPoolExecutor(IMAGES_AT_ONCE) as images,
                ):
                    for z, x, y in vector:
                        workers.submit(tile, "parcels", f"/tiles/tt/2024/{z}/{x}/{y}")
                    for z, x, y in raster:
                        images.submit(tile, "background", f"/page/background/{z}/{x}/{y}")
        finally:
            panned.set()
        for cell in cells:
            cell.result()
    assert {kind for kind, _ in statuses} == {"parcels", "background", "chips"}
    assert statuses["parcels", 200] + statuses["parcels", 204] == PANS * len(view(0, ZOOM, 512))
    assert {status for _, status in statuses} <= {200, 204}, statuses
