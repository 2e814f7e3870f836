"""`make demo STAC=...`: a live search, its rasters read over HTTP where they lie."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import requests
import shapely

from tests.beds.stac import StacServer, serving
from tests.integration.small_state import square
from tests.standalone.demo import Demo, new_demo

SCENES = 12
BBOX = "9.0,47.3,9.1,47.5"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StacServer]:
    with serving(tmp_path, SCENES) as server:
        yield server


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


@pytest.mark.full
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
        # Its API may read images from the hosts that its own scenes lie on.
        where = {"aoi": "demo", "year": 2024, "pid": "0000", "band": "B04", "chipsize": 200}
        days = {"start_date": "2024-04-01", "end_date": "2024-04-02"}
        env = demo.env
        answer = requests.get(
            f"{env['CBM_URL']}/query/rawChipByParcelID", where | days,
            auth=(env["CBM_USER"], env["CBM_PASSWORD"]), timeout=60,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["chips"]) == 1
