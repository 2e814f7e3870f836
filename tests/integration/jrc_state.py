"""A Member State as the JRC's programs need one, served: three parcels, a spring of both Sentinels.

For tests that run programs of the JRC unchanged: integer codes, product names as ESA and CREODIAS
give them, a cloud on one date, a mowing after 21 April.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pyproj import Transformer

from app.cli import main
from extraction.worker import Worker
from store import catalogue, db
from store.catalogue import BandSource, Scene
from store.config import WorkerSettings
from tests.beds.postgis.fixture import _database
from tests.beds.tiles import server as tiles
from tests.integration.chip_api import serving, sources
from tests.integration.small_state import (
    EPSG,
    NORTH_M,
    WEST_M,
    a_scene,
    add_campaign,
    footprint,
    square,
    write_band,
)

AOI, YEAR, PIDS = "tt", 2024, ("101", "102", "103")
PARCELS = [square(40, 40, 10), square(40, 60, 10), square(60, 40, 10)]
LON, LAT = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(WEST_M + 450, NORTH_M - 450)
USER, PASSWORD = "ann", "right-word"
FIRST = datetime(2024, 3, 22, 10, 15, tzinfo=UTC)
MOWN = date(2024, 4, 21)
SCENES, CLOUDED, EVERY = 8, 3, timedelta(days=10)
FINE, COARSE = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12")


@dataclass(frozen=True)
class MemberState:
    """What is served.

    Attributes:
        url: of the API.
        conn: a superuser's connection.
        folder: of the scenes' files.
    """

    url: str
    conn: db.Connection
    folder: Path

    @property
    def jrc(self) -> str:
        """The address of the JRC's contract."""
        return f"{self.url}/jrc"


@contextmanager
def served(cluster, template, folder: Path) -> Iterator[MemberState]:
    """Serve it with all its signatures; `ann` may ask for it, the login `analyst` may read it."""
    with pytest.MonkeyPatch.context() as patch, tiles.running(LON, LAT) as ground:
        patch.setenv("CBM_CHIP_CACHE_DIR", str(folder / "chips"))
        patch.setenv("CBM_CACHE_DIR", str(folder / "spans"))
        patch.setenv("CBM_BACKGROUNDS", str(sources(folder, ground.url)))
        for conn in _database(cluster, template, patch):
            _fill(conn, folder)
            added = CliRunner().invoke(
                main, ["users", "add", USER, "--aoi", AOI, "--password-stdin"], input=PASSWORD
            )
            assert added.exit_code == 0, added.output
            db.execute(conn, "CREATE ROLE analyst LOGIN IN ROLE cbm_analyst PASSWORD 'read-word'")
            try:
                (folder / "api").mkdir()
                with serving(folder / "api", workers=1) as url:
                    yield MemberState(url, conn, folder)
            finally:
                db.execute(conn, "DROP ROLE analyst")


def _fill(conn: db.Connection, folder: Path) -> None:
    add_campaign(conn, PARCELS, AOI, YEAR)
    db.execute(conn, "UPDATE tt.parcels SET code = 100 + pid")
    scenes = [
        *(_sentinel2(folder, number) for number in range(SCENES)),
        *(_radar(folder, kind, n) for kind in ("bs", "c6") for n in range(SCENES)),
    ]
    catalogue.register(conn, scenes)
    assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == len(scenes)


def ndvi(day: date) -> float:
    """Of the crop: it is mown, within days that no scene tells apart, and grows again."""
    since = (day - MOWN).days
    if since < 20:
        return 0.8 - 0.02 * max(since, 0)
    return min(0.4 + 0.015 * (since - 20), 0.8)


def _sentinel2(folder: Path, number: int) -> Scene:
    """A scene with all bands that the JRC's programs read, as baseline 05.10 has them."""
    when = FIRST + number * EVERY
    rng = np.random.default_rng(number)
    noise = rng.integers(0, 60, (100, 100))
    nir = 3000
    red = round(nir * (1 - ndvi(when.date())) / (1 + ndvi(when.date())))
    level = {"B04": red, "B08": nir, "B02": 500, "B03": 800, "B11": 2000, "B12": 1500, "B05": 1200}
    bands = {}
    for band in (*FINE, *COARSE):
        dn = 1000 + level.get(band, 2500) + (noise if band in FINE else noise[::2, ::2])
        path = folder / f"{number}_{band}.tif"
        write_band(path, dn.astype(np.uint16), 10.0 if band in FINE else 20.0, nodata=0)
        bands[band] = BandSource(str(path), offset=-1000.0, nodata=0)
    classes = np.full((50, 50), 4, np.uint8)
    if number == CLOUDED:
        classes[18:28, 18:28] = 9
    bands["SCL"] = BandSource(str(write_band(folder / f"{number}_SCL.tif", classes, res_m=20.0)))
    start = f"{when:%Y%m%dT%H%M%S}"
    return a_scene(
        number, bands, obstime=when, acquisition=f"S2A_{start}_R022",
        reference=f"S2A_MSIL2A_{start}_N0510_R022_T32TNT_{when:%Y%m%dT}180000",
    )  # fmt: skip


def _radar(folder: Path, kind: str, number: int) -> Scene:
    """Backscatter or coherence, by turns of a descending and an ascending orbit."""
    hour = 5 if number % 2 else 17
    when = FIRST.replace(hour=hour) + number * EVERY
    bare = max(0.0, 1 - abs((when.date() - MOWN).days - 20) / 30)
    level = {"bs": 0.1 - 0.04 * bare, "c6": 0.3 + 0.4 * bare}[kind]
    rng = np.random.default_rng(100 + number)
    bands = {}
    for polarisation, share in (("VV", 1.0), ("VH", 0.5)):
        power = share * level * (1 + 0.1 * rng.random((100, 100)))
        path = write_band(folder / f"{kind}_{number}_{polarisation}.tif", power.astype(np.float32))
        bands[polarisation] = BandSource(str(path))
    start = f"{when:%Y%m%dT%H%M%S}"
    before = f"{when - timedelta(days=6):%Y%m%dT%H%M%S}"
    reference = {
        "bs": f"S1A_IW_GRDH_1SDV_{start}_{start}_05{number:04}_06B3C1_75A1_CARD_BS",
        "c6": f"S1A_{start}__1A__{before}_{before}_CARD-COH6",
    }[kind]
    return Scene(
        reference=reference, kind=kind, platform="S1A", obstime=when,
        acquisition=f"S1A_{kind}_{start}", epsg=EPSG, footprint_wkt=footprint((100, 100)),
        unit={"bs": "gamma0_linear", "c6": "coherence"}[kind], bands=bands,
    )  # fmt: skip
