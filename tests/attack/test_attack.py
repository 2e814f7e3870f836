"""Attacks on an API of two processes, and the probes of others who are served meanwhile."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import requests
from pyproj import Transformer

from store import catalogue, db
from store.catalogue import BandSource
from tests.attack import rights
from tests.attack.outcomes import ALONE, AT_ONCE, Outcome, report
from tests.benchmarks.api_server import UNLIMITED
from tests.hostile_files import (
    ADDRESSES_OF_THIS_MACHINE,
    RASTER_NAMES,
    RASTERS,
    link_envi,
    write_bomb,
    write_raster,
)
from tests.integration.hung_archive import IMAGE
from tests.integration.long_season import CODES, fill_season
from tests.integration.slow_clients import BOB, LARGE, PARCEL, fill, head, opened
from tests.integration.small_api import SmallApi, serving
from tests.integration.small_state import NORTH_M, WEST_M, a_scene, footprint, write_band

MALLORY = ("ann", "right-word")
LON, LAT = Transformer.from_crs(32632, 4326, always_xy=True).transform(WEST_M + 500, NORTH_M - 500)
CONTAINER_MB = 1024
LATEST_S = 10.0
"""A probe is lost after this time; the goal of one second is for a machine of its own."""


@dataclass(frozen=True)
class AttackedApi(SmallApi):
    """The API, and a server beside it that it has no business with."""

    inner: socket.socket

    def connections_inside(self) -> list[str]:
        """Those that came to the inner server since the last call."""
        came = []
        with suppress(BlockingIOError):
            while True:
                client, address = self.inner.accept()
                client.close()
                came.append(f"a connection to the inner server from {address}")
        return came


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[AttackedApi]:
    folder = tmp_path_factory.mktemp("api")
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as silent,
        socket.create_server(("127.0.0.1", 0), backlog=512) as inner,
    ):
        inner.setblocking(False)
        xyz = f"http://127.0.0.1:{silent.getsockname()[1]}/{{z}}/{{x}}/{{y}}.png"
        ground = write_band(folder / "ground.tif", np.full((9, 9), 7, np.uint8))
        maps = {"hung": {"xyz": xyz}, "ground": {"raster": str(ground)}}
        sources = folder / "backgrounds.json"
        sources.write_text(json.dumps({"default": "ground", "sources": maps}))
        settings = {"CBM_BACKGROUNDS": str(sources), "CBM_CHIP_CACHE_DIR": str(folder / "cache")}

        def before(conn: db.Connection) -> None:
            fill(conn)
            # Their pids are others' than those of the round parcels.
            db.execute(conn, "UPDATE nl.parcels SET pid = pid + 100000 WHERE code LIKE 'r%%'")
            fill_season(conn)
            rights.prepare(conn)
            register_hostile(conn, folder / "scenes", inner.getsockname()[1])

        with serving(cluster, template, folder, before, **settings, **UNLIMITED) as made:
            yield AttackedApi(made.url, made.conn, made.served, inner)


class Probes:
    """Requests of other users, one after the other, while an attack goes on."""

    def __init__(self, api: SmallApi) -> None:
        self._api = api
        self.tried = 0
        self.slowest_s = self.memory_mb = 0.0
        self.failures: list[str] = []

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            self._probe("/healthz", lambda: self._api.get("/healthz", auth=None), timed=True)
            self._probe("/login", self._log_in, 303, timed=True)
            self._probe("parcel", lambda: self._api.get(PARCEL, auth=BOB), holds='"pid":["007"]')
            self.memory_mb = max(self.memory_mb, sum(self._api.served.rss_mb()))
            time.sleep(0.1)

    def _log_in(self) -> requests.Response:
        form = {"name": BOB[0], "password": BOB[1]}
        return requests.post(f"{self._api.url}/login", form, allow_redirects=False, timeout=60)

    def _probe(
        self, name: str, send: Callable[[], requests.Response], status: int = 200,
        holds: str = "", *, timed: bool = False,
    ) -> None:  # fmt: skip
        began = time.monotonic()
        try:
            answer = send()
            is_right = answer.status_code == status and holds in answer.text
            outcome = f"{name} {answer.status_code}"
        except requests.RequestException as error:
            is_right, outcome = False, f"{name} {error}"
        took_s = time.monotonic() - began
        if timed:
            self.slowest_s = max(self.slowest_s, took_s)
        self.tried += 1
        if not is_right or took_s > LATEST_S:
            self.failures.append(f"{outcome} {took_s:.1f} s")


@dataclass
class Assault:
    """Hostile requests under way.

    Attributes:
        tried: how many.
        wrong: those that reached what they should not; complete at the end.
    """

    tried: int
    wrong: list[str] = field(default_factory=list)


@contextmanager
def held(clients: Sequence[socket.socket]) -> Iterator[None]:
    try:
        yield
    finally:
        for client in clients:
            client.close()


@contextmanager
def in_parallel(threads: int, calls: Sequence[Callable[[], str | None]]) -> Iterator[Assault]:
    """Calls that return what was wrong, or None; the end waits for all of them."""
    assault = Assault(len(calls))
    with ThreadPoolExecutor(threads) as pool:
        answers = [pool.submit(call) for call in calls]
        yield assault
    assault.wrong += filter(None, (answer.result() for answer in answers))


@contextmanager
def slow_readers(api: SmallApi) -> Iterator[Assault]:
    with held(clients := [opened(api, head(LARGE)) for _ in range(20)]):
        yield Assault(len(clients))


@contextmanager
def slow_senders(api: SmallApi) -> Iterator[Assault]:
    """Half of them in the head, half in the body; each sends a letter a second."""
    body = head("/query/parcelTimeSeries", method="POST", **{"Content-Length": "1000"})
    clients = [opened(api, begun) for begun in [head(PARCEL)[:40], body + "{"] * 50]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(1):
            for client in clients:
                try:
                    client.send(b"a", socket.MSG_DONTWAIT)
                except OSError:
                    continue

    with held(clients):
        sending = threading.Thread(target=trickle)
        sending.start()
        yield Assault(len(clients))
        stop.set()
        sending.join()


@contextmanager
def hung_archive(api: SmallApi) -> Iterator[Assault]:
    with ThreadPoolExecutor(36) as threads:
        for n in range(36):
            threads.submit(api.get, IMAGE.format(256 + n), auth=MALLORY)
        yield Assault(36)


@contextmanager
def stopped_streams(api: SmallApi) -> Iterator[Assault]:
    body = json.dumps({"aoi": "nl", "year": 2024, "pid": CODES, "tsformat": "csv"})
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    request = head("/query/parcelTimeSeries", MALLORY, "POST", **fields) + body
    with held(clients := [opened(api, request) for _ in range(12)]):
        yield Assault(len(clients))


@contextmanager
def false_tokens(api: SmallApi) -> Iterator[Assault]:
    tokens = [f"cbm_{n:08x}_{'A' * 43}" for n in range(300)]

    def guess(token: str) -> str | None:
        status = api.by_token("/query/info", token).status_code
        return None if status in (401, 429, 503) else f"{token}: {status}"

    with in_parallel(8, [lambda token=token: guess(token) for token in tokens]) as assault:
        yield assault


HOSTILE_KIND = "bs"


def register_hostile(conn: db.Connection, folder: Path, inner_port: int) -> None:
    """Scenes whose files lead elsewhere, one a day, as a worker's login could register them."""
    folder.mkdir()
    secret = write_band(folder / "secret.tif", np.full((100, 100), 0.77, np.float32))
    files = [
        write_raster(_made(folder / str(n)), name, text, str(secret))
        for n, (name, text) in enumerate(product(RASTER_NAMES, RASTERS.values()))
    ]
    files += [link_envi(_made(folder / name), f"/proc/self/{name}") for name in ("environ", "maps")]
    files += [Path("/etc/passwd"), Path("/proc/self/environ"), write_bomb(folder / "bomb.tif")]
    hrefs = [*map(str, files), "CSV:/etc/passwd", "/vsicurl/http://127.0.0.1/x.tif"]
    hrefs += [address.format(port=inner_port) for address in ADDRESSES_OF_THIS_MACHINE]
    scenes = [
        a_scene(
            n, {"VV": BandSource(href, nodata=0)}, reference=f"HOSTILE_{n}",
            kind=HOSTILE_KIND, acquisition=f"HOSTILE_{n}", unit="gamma0_linear", scale=None,
            footprint_wkt=footprint((100, 100)),
        )
        for n, href in enumerate(hrefs)
    ]  # fmt: skip
    sound = a_scene(
        len(scenes), {"VV": BandSource(str(secret), nodata=0)}, reference="SOUND",
        kind=HOSTILE_KIND, acquisition="SOUND", unit="gamma0_linear", scale=None,
        footprint_wkt=footprint((100, 100)),
    )  # fmt: skip
    catalogue.register(conn, [*scenes, sound])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def hostile_scenes(api: AttackedApi) -> Iterator[Assault]:
    """Images of each of them, as values and as pictures, beside one of a sound scene."""
    rows = db.fetch_all(
        api.conn,
        "SELECT reference, to_char(obstime, 'YYYY-MM-DD') AS day FROM scene WHERE kind = %s "
        "AND (reference = 'SOUND' OR reference LIKE 'HOSTILE%%')",
        (HOSTILE_KIND,),
    )

    def look(route: str, reference: str, day: str, **params: str) -> str | None:
        where = {"lon": LON, "lat": LAT, "start_date": day, "end_date": day, "chipsize": 200}
        url = f"{api.url}/query/{route}"
        answer = requests.get(url, where | params, auth=MALLORY, timeout=90)
        if answer.status_code == 503:
            return None
        chips = answer.json()["chips"] if answer.status_code == 200 else []
        is_right = bool(chips) == (reference == "SOUND") and answer.status_code == 200
        return None if is_right else f"{route} {reference}: {answer.status_code} {answer.text[:80]}"

    queries = {
        "rawChipByLocation": {"band": "VVb"},
        "chipsByLocation": {"bands": "VVb", "format": "json"},
    }
    calls = [
        lambda r=row, n=name, p=params: look(n, r.reference, r.day, **p)
        for row, (name, params) in product(rows, queries.items())
    ]
    with in_parallel(4, calls) as assault:
        yield assault
    assault.wrong += api.connections_inside()


@contextmanager
def beyond_rights(api: SmallApi) -> Iterator[Assault]:
    with in_parallel(4, list(rights.questions(api))) as assault:
        yield assault


ASSAULTS = dict(
    zip(
        ALONE,
        (
            slow_readers, slow_senders, hung_archive, stopped_streams, false_tokens,
            hostile_scenes, beyond_rights,
        ),
        strict=True,
    )
)  # fmt: skip


def attack(api: SmallApi, name: str, assaults: Sequence, seconds: float) -> None:
    """Serve others while some assaults go on, for some seconds; report what came of it."""
    probes = Probes(api)
    until = time.monotonic() + seconds
    with ExitStack() as stack:
        under_way = [stack.enter_context(each(api)) for each in assaults]
        probes.run(lambda: time.monotonic() > until)
    wrong = [*probes.failures, *(line for each in under_way for line in each.wrong)]
    if probes.memory_mb > CONTAINER_MB:
        wrong.append(f"{probes.memory_mb:.0f} MB")
    tried = sum(each.tried for each in under_way)
    figures = probes.tried, probes.slowest_s, probes.memory_mb
    report(Outcome(name, tried, len(wrong), *figures), wrong)


@pytest.mark.parametrize("name", ALONE)
def test_an_attack_denies_nobody_and_reaches_nothing(api, name):
    attack(api, name, [ASSAULTS[name]], 8)


def test_what_streams_held_comes_back_though_their_readers_stay(api):
    busy = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'cbm-api' "
        "AND state <> 'idle' AND datname = current_database()"
    )
    with stopped_streams(api) as assault:
        end = time.monotonic() + 120
        while (held_back := db.fetch_one(api.conn, busy).n) and time.monotonic() < end:
            time.sleep(0.5)
    report(Outcome("transactions of stopped streams", assault.tried, held_back))


@pytest.mark.full
def test_all_attacks_at_once_deny_nobody_and_reach_nothing(api):
    attack(api, AT_ONCE, list(ASSAULTS.values()), 60)
