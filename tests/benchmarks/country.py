"""P19: a country: 770,000 parcels, 4,000 granules in the catalogue, without pixels.

As large as the Netherlands in parcels and as a season of it in granules: 40 tiles, 100 days. One
parcel has a row of each granule that sees it, so that its series is a season's.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyogrio
import requests
import shapely

from store import catalogue, db, queue, signatures
from store.catalogue import BandSource, Scene
from store.signatures import Signatures
from tests.benchmarks import api
from tests.benchmarks.api_server import PASSWORD, USER, Api
from tests.benchmarks.clock import Cost, Way, measured
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import AOI, YEAR, State
from tests.benchmarks.storing import statistics

_PARCELS, _COLUMNS, _PITCH_M, _EPSG = 770_000, 880, 250, 28992
_WEST_M, _SOUTH_M = 50_000, 350_000
_TILES, _DAYS = (8, 5), 100
_EAST_WEST, _SOUTH_NORTH = (3.3, 7.3), (51.1, 53.2)
_OVERLAP = 0.03
_BANDS = ("B02", "B03", "B04", "B05", "B08", "B11", "SCL")
_CODE = "NL0385880"  # in the middle
_TRIES = 20


def run(bench: Bench, _: frozenset[str]) -> Iterator[Result]:
    """Import, register, claim, and ask for the status and a series."""
    file = _parcel_file(bench)
    state = State.fresh(bench.server, "bench_country")
    server = bench.server.postmaster
    bench.say(f"P19: importing {_PARCELS:,} parcels")
    imported = measured(Way(lambda _: state.import_parcels(file)), server)
    scenes = list(_scenes())
    bench.say(f"P19: registering {len(scenes):,} granules")
    with closing(state.connect()) as conn:
        registered = measured(Way(lambda _: catalogue.register(conn, scenes)), server)
        again = measured(Way(lambda _: catalogue.register(conn, scenes[:40])), server)
        db.execute(conn, "VACUUM ANALYZE")
        claim_ms = _least_ms(lambda: _claim(conn))
        seen = _extract_parcel(conn, state)
    with api.served(bench, state) as served:
        status_ms = _least_ms(lambda: _ask(served, "/page/progress"))
        series_ms = _least_ms(lambda: _series(served, seen))
    yield Result.of(
        "P19",
        f"a country: {_PARCELS:,} parcels, {len(scenes):,} granules: import, register and queue; "
        "a claim; status page; series of a parcel",
        [
            Figure(imported.cpu_s / 60, 10, False, "import", " CPU min"),
            Figure(registered.cpu_s, 60, False, "register", " CPU s"),
            Figure(claim_ms, 50, False, "claim", " ms"),
            Figure(status_ms, 1000, False, "status", " ms"),
            Figure(series_ms, 200, False, "series", " ms"),
        ],
        _details(imported, registered, again, seen),
    )
    bench.server.drop("bench_country")


PART = Part(frozenset({"P19"}), run)


def _details(imported: Cost, registered: Cost, again: Cost, seen: int) -> dict[str, object]:
    return {
        "import": imported.as_details(),
        "register": registered.as_details(),
        "register_40_known": again.as_details(),
        "scenes_of_the_parcel": seen,
    }


def _parcel_file(bench: Bench) -> Path:
    """Squares of 60 to 180 m on a grid, with the codes and crops of an agency."""
    path = bench.folder / f"country_{_PARCELS}.gpkg"
    if path.exists():
        return path
    bench.say("P19: writing the parcel file")
    number = np.arange(_PARCELS)
    x, y = _WEST_M + number % _COLUMNS * _PITCH_M, _SOUTH_M + number // _COLUMNS * _PITCH_M
    size = 60.0 + number * 7919 % 120
    wkb = shapely.to_wkb(shapely.box(x, y, x + size, y + size))
    crops = np.array([f"crop {each}" for each in number % 20], dtype=object)
    codes = np.array([f"NL{each:07}" for each in number], dtype=object)
    part = path.with_suffix(".part.gpkg")
    part.unlink(missing_ok=True)
    pyogrio.raw.write(
        part, wkb, [codes, crops, crops], ["code", "crop", "crop_code"], geometry_type="Polygon",
        crs=f"EPSG:{_EPSG}", driver="GPKG",
    )  # fmt: skip
    part.rename(path)
    return path


def _scenes() -> Iterator[Scene]:
    """Each day every tile, a little larger than its share of the country."""
    columns, rows = _TILES
    wide, high = np.ptp(_EAST_WEST) / columns, np.ptp(_SOUTH_NORTH) / rows
    for day in range(_DAYS):
        at = datetime(YEAR, 3, 1, 10, 40, 31, tzinfo=UTC) + timedelta(days=2 * day)
        for tile in range(columns * rows):
            west = _EAST_WEST[0] + tile % columns * wide
            south = _SOUTH_NORTH[0] + tile // columns * high
            box = shapely.box(
                west - _OVERLAP, south - _OVERLAP, west + wide + _OVERLAP, south + high + _OVERLAP
            )
            name = f"T31U{tile // columns:X}{tile % columns:X}"
            reference = f"S2A_MSIL2A_{at:%Y%m%dT%H%M%S}_N0510_R051_{name}_{at:%Y%m%dT%H%M%S}"
            yield Scene(
                reference=reference, kind="s2", platform="S2A", obstime=at,
                acquisition=f"S2A_R051_{at:%Y%m%d}", unit="dn", epsg=32631, scale=1e-4,
                footprint_wkt=shapely.MultiPolygon([box]).wkt, relative_orbit=51, tile=name[1:],
                baseline="05.10", produced_at=at,
                bands={band: BandSource(f"/eodata/{reference}/{band}.jp2") for band in _BANDS},
            )  # fmt: skip


def _claim(conn: db.Connection) -> None:
    held = queue.claim(conn, "bench", 600.0, 20)
    if not held:
        raise RuntimeError("nothing is queued")


def _extract_parcel(conn: db.Connection, state: State) -> int:
    """Write a parcel's row of each scene that sees it, as extraction has; the number."""
    campaign = state.campaign.id
    sees = db.fetch_all(
        conn,
        f"SELECT s.obsid, p.pid FROM scene s JOIN {AOI}.parcels p "
        "ON p.campaign_id = %s AND p.code = %s "
        "WHERE ST_Intersects(s.footprint, ST_Transform(p.geom, 4326)) ORDER BY s.obsid",
        (campaign, _CODE),
    )
    draws = np.random.default_rng(5)
    pid = np.array([sees[0].pid], np.int32)
    for row in sees:
        one = Signatures(
            "s2", pid, np.full(1, 60, np.int32), np.zeros(1, np.int16),
            {band: statistics(draws, 1) for band in _BANDS if band != "SCL"},
            draws.integers(0, 12, (1, 12)),
        )  # fmt: skip
        leaves = signatures.ensure_partitions(conn, campaign, row.obsid, "s2")
        with db.transaction(conn):
            signatures.write(conn, AOI, leaves, campaign, row.obsid, one)
    db.execute(conn, "ANALYZE")
    return len(sees)


def _ask(served: Api, path: str, **params: str) -> requests.Response:
    url = f"http://127.0.0.1:{served.port}{path}"
    answer = requests.get(url, params=params, auth=(USER, PASSWORD), timeout=60)
    answer.raise_for_status()
    return answer


def _series(served: Api, seen: int) -> None:
    answer = _ask(served, "/query/parcelTimeSeries", aoi=AOI, year=str(YEAR), tstype="s2",
                  pid=_CODE, band="B04")  # fmt: skip
    if not 0 < len(answer.json()["mean"]) <= seen:
        raise RuntimeError("the parcel's series is not a season's")


def _least_ms(act: Callable[[], object]) -> float:
    took = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        act()
        took.append(time.perf_counter() - began)
    return min(took) * 1e3
