"""The API on a Member State of numbers made by hand, and its database, for tests over HTTP."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import requests
from click.testing import CliRunner

from app.cli import main
from store import db
from store.kinds import KINDS
from tests.beds.postgis.fixture import _database

ANN = ("ann", "right-word")

EPOCH = 1714559431.024  # 2024-05-01 10:30:31.024 UTC

DAY_S = 86400

# Rectangles in RD New (EPSG:28992): west, south, east, north, metres. 008 overlaps 007.
PARCELS = {
    "007": (150000, 450000, 150100, 450100),
    "008": (150050, 450000, 150200, 450100),
    "it's; DROP TABLE nl.parcels; --": (151000, 450000, 151100, 450100),
    "never seen": (152000, 450000, 152100, 450100),
}

SCENE = """
    INSERT INTO scene (reference, kind, platform, obstime, acquisition, unit, epsg, footprint,
                       bands, software, baseline)
    VALUES (%s, %s, 'S2A', to_timestamp(%s), %s, 'dn', 32631,
            ST_Multi(ST_MakeEnvelope(4, 51, 6, 53, 4326)), '{}', 'test', %s)
    RETURNING obsid"""


def statistics(count, mean, band_shift=0.0):
    """count, mean, std, min, p25, p50, p75, max of made-up pixels."""
    if count == 0:
        return [0, *[None] * 7]
    return [count, *(mean + band_shift + step for step in (0, -0.5, -2, -1, 0.25, 1, 2))]


def fill(conn: db.Connection) -> None:
    """Campaigns nl 2024, nl 2023 (a parcel in UTM); nl 2024 of type g and be 2024, both empty."""
    for aoi, year, ptype in (("nl", 2024, ""), ("nl", 2023, ""), ("nl", 2024, "g"),
                             ("be", 2024, "")):  # fmt: skip
        db.fetch_one(
            conn,
            "SELECT cbm_make_campaign(%s, %s, %s, '2023-10-01', '2024-12-31', 0::real)",
            (aoi, year, ptype),
        )
    db.execute(
        conn,
        """UPDATE campaign SET srid = 28992, units = '{"s2": "dn", "bs": "db"}'
                        WHERE aoi = 'nl' AND year = 2024 AND ptype = ''""",
    )
    db.execute(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "VALUES (1, 'x', 4, ST_MakeEnvelope(5.2, 51.9, 5.5, 52.2, 4326))",
    )
    for pid, (code, box) in enumerate(PARCELS.items(), 1):
        db.execute(conn, "INSERT INTO nl.parcels VALUES (1, %s, 1, %s, 'Maize', '0259', "
                         "ST_Multi(ST_MakeEnvelope(%s, %s, %s, %s, 28992)), '')",
                   (pid, code, *box))  # fmt: skip
    db.execute(
        conn,
        "INSERT INTO nl.parcels VALUES (2, 1, 2, 'utm', 'Rye', '1', "
        "ST_Multi(ST_MakeEnvelope(500000, 5760000, 500100, 5760100, 32632)), '')",
    )
    db.execute(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "VALUES (2, 'x', 1, ST_MakeEnvelope(9.0, 51.9, 9.1, 52.1, 4326))",
    )
    db.execute(conn, "UPDATE campaign SET srid = 32632 WHERE id = 2")
    fill_s2(conn)
    fill_s1(conn)


def fill_s2(conn: db.Connection) -> None:
    """Parcel 007 in two tiles of one overpass, in a scene with gaps, and in one of another day."""
    whole = {
        band: statistics(90, 800.25, shift) for shift, band in enumerate(KINDS["s2"].band_names)
    }
    half = {band: statistics(45, 700.25) for band in KINDS["s2"].band_names}
    gaps = whole | {"B05": [None] * 8, "B08": statistics(0, 0)}
    gaps["B11"] = [90, 800, float("nan"), 800, 800, 800, 800, 800]
    scenes = [
        ("S2A_WHOLE", EPOCH, "A1", whole, {4: 186, 5: 1}),
        ("S2A_HALF", EPOCH, "A1", half, {4: 90}),
        ("S2B_GAPS", EPOCH + 5 * DAY_S, "A2", gaps, None),
        ("S2A_LATE", EPOCH + 10 * DAY_S, "A3", whole, {9: 187}),
    ]
    for reference, at, acquisition, bands, hist in scenes:
        row = db.fetch_one(conn, SCENE, (reference, "s2", at, acquisition, "05.10"))
        put(conn, "s2", row.obsid, 100, bands)
        if hist:
            leaf(conn, "hists", row.obsid)
            db.execute(conn, f"INSERT INTO nl.hists VALUES (1, 1, %s{', %s' * 12})",
                       (row.obsid, *(hist.get(n, 0) for n in range(12))))  # fmt: skip


def fill_s1(conn: db.Connection) -> None:
    for reference, kind, mean in (("S1A_BS", "bs", 0.125), ("S1_COH", "c12", 0.5)):
        row = db.fetch_one(conn, SCENE, (reference, kind, EPOCH, reference, ""))
        put(conn, kind, row.obsid, 100, {"VV": statistics(99, mean), "VH": statistics(98, mean)})


def put(conn: db.Connection, kind: str, obsid: int, px: int, bands: dict[str, list]) -> None:
    leaf(conn, kind, obsid)
    values = [value for band in KINDS[kind].band_names for value in bands[band]]
    db.execute(conn, f"INSERT INTO nl.{kind} VALUES (1, 0, 1, %s, %s{', %s' * len(values)})",
               (obsid, px, *values))  # fmt: skip


def leaf(conn: db.Connection, table: str, obsid: int) -> None:
    db.fetch_one(conn, "SELECT cbm_leaf(1::smallint, %s, %s)", (table, obsid))


@dataclass(frozen=True)
class Api:
    """A running API: its address, its database, and superusers' connections there and elsewhere."""

    url: str
    dbname: str
    conn: db.Connection
    elsewhere: db.Connection

    def get(self, path: str, auth=ANN, **params) -> requests.Response:
        return requests.get(self.url + path, params=params, auth=auth, timeout=20)

    def ask(self, question: str, **params) -> requests.Response:
        """Ask about nl 2024 if no other is named."""
        return self.get(f"/query/{question}", **{"aoi": "nl", "year": "2024"} | params)

    def series(self, **params) -> dict:
        answer = self.ask("parcelTimeSeries", **{"pid": "007"} | params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def filled(cluster, template) -> Iterator[db.Connection]:
    with pytest.MonkeyPatch.context() as patch:
        for conn in _database(cluster, template, patch):
            patch.setenv("CBM_STATEMENT_TIMEOUT_S", "1")
            patch.setenv("CBM_RATE_PER_S", "1e6")
            fill(conn)
            yield conn


@pytest.fixture(scope="module")
def api(cluster, filled, tmp_path_factory) -> Iterator[Api]:
    added = CliRunner().invoke(
        main, ["users", "add", "ann", "--aoi", "nl", "--password-stdin"], input="right-word\n"
    )
    assert added.exit_code == 0, added.output
    elsewhere = db.connect("test", "dbname=postgres")
    process, url = serve(tmp_path_factory.mktemp("api"))
    yield Api(url, os.environ["PGDATABASE"], filled, elsewhere)
    process.terminate()
    process.wait(30)
    elsewhere.close()


def serve(folder) -> tuple[subprocess.Popen, str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    log = (folder / "log").open("w")
    command = [sys.executable, "-c", "from app.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "serve", "--bind", bind, "--workers", "1", "--pid", str(folder / "pid")],
        stdout=log, stderr=log, env=dict(os.environ),
    )  # fmt: skip
    wait_for(lambda: answers(f"http://{bind}/healthz"), seconds=90)
    assert int((folder / "pid").read_text()) == process.pid
    return process, f"http://{bind}"


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def wait_for(condition, seconds=20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def audited(api: Api, ending: str) -> list[int]:
    """The statuses noted of requests whose query ends so, in their order."""
    noted = "SELECT status FROM api_audit WHERE query LIKE %s ORDER BY at"
    return [row.status for row in db.fetch_all(api.conn, noted, (f"%{ending}",))]


def cut_off(elsewhere: db.Connection) -> None:
    db.execute(elsewhere, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                              "WHERE application_name = 'cbm-api'")  # fmt: skip


@contextmanager
def away(elsewhere: db.Connection, dbname: str) -> Iterator[None]:
    """Without a database for a while."""
    allow = "ALTER DATABASE {name} ALLOW_CONNECTIONS "
    db.execute(elsewhere, db.compose(allow + "false", name=dbname))
    cut_off(elsewhere)
    try:
        yield
    finally:
        db.execute(elsewhere, db.compose(allow + "true", name=dbname))
