"""A1 to A3: what the API costs, how fast it answers, and how it stands a restart of its database.

A1 counts processor time of gunicorn and PostgreSQL, the clients' excluded; for the ratio the same
questions are put as SQL to both layouts in one database, and only PostgreSQL's time counts.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from app.query.campaigns import fetch_campaigns
from app.query.parcels import fetch_peers, parcel_by_location
from app.query.series import Selection, time_series
from store import db
from tests.benchmarks import api_state
from tests.benchmarks.api_load import Load, Question, TimedRequest, percentile_ms, statuses
from tests.benchmarks.api_server import PASSWORD, UNLIMITED, USER, Api, spent_s
from tests.benchmarks.api_state import EPSG, JRC, Size
from tests.benchmarks.clock import server_cpu_s
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.server import Server
from tests.benchmarks.state import AOI, YEAR, State

_SEED = 29
_REQUESTS = 1600
_QUESTIONS = 200
_ROUNDS = 3
_PACE_PER_S = 20.0
_PACED_S = 60.0
_MIXED_S = 600.0
_MIXED_PER_S = 40.0
_AWAY_S = 5.0

_OF = f"aoi={AOI}&year={YEAR}"

# The JRC's questions in words of our own, on its layout (api/db_queries.py, as its API puts them).
_JRC_SERIES = f"""
    SELECT extract(epoch FROM obstime), band, count, mean, std, min, p25, p50, p75, max, hist
    FROM {JRC}.parcels_{YEAR} p, {JRC}.hists_{YEAR} h, {JRC}.dias_catalogue d, {JRC}.sigs_{YEAR} s
    WHERE p.{{key}} AND p.ogc_fid = s.pid AND d.id = s.obsid AND h.pid = s.pid
      AND h.obsid = s.obsid AND band IN ('B02', 'B03', 'B04', 'B05', 'B08', 'B11')
    ORDER BY obstime, band"""
_JRC_BY_CODE = _JRC_SERIES.format(key="parcel_id::text = %(code)s")
_JRC_BY_KEY = _JRC_SERIES.format(key="ogc_fid = %(pid)s")
_JRC_LOCATION = f"""
    SELECT parcel_id, crop_name, crop_code, ST_SRID(wkb_geometry),
           ST_Area(ST_Transform(wkb_geometry, 3035))::integer,
           ST_X(ST_Transform(ST_Centroid(wkb_geometry), 4326)),
           ST_Y(ST_Transform(ST_Centroid(wkb_geometry), 4326))
    FROM {JRC}.parcels_{YEAR}
    WHERE ST_Intersects(wkb_geometry,
        ST_Transform(ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326), {EPSG}))"""
_JRC_PEERS = f"""
    WITH mine AS (SELECT crop_name, wkb_geometry FROM {JRC}.parcels_{YEAR}
                  WHERE parcel_id::text = %(code)s)
    SELECT p.parcel_id, ST_Distance(ST_Transform(p.wkb_geometry, 3035),
                                    ST_Transform(mine.wkb_geometry, 3035)) AS distance
    FROM {JRC}.parcels_{YEAR} p, mine
    WHERE p.crop_name = mine.crop_name AND p.parcel_id <> %(code)s
      AND ST_DWithin(ST_Transform(p.wkb_geometry, 3035),
                     ST_Transform(mine.wkb_geometry, 3035), 2000)
      AND ST_Area(ST_Transform(p.wkb_geometry, 3035)) > 3000
    ORDER BY distance LIMIT 10"""


@dataclass(frozen=True)
class Places:
    """Parcels to ask about: codes, keys, and a point in each."""

    pids: list[int]
    points: list[tuple[float, float]]

    def code(self, number: int) -> str:
        return f"p{self.pids[number % len(self.pids)]}"

    def facts(self, number: int) -> dict[str, Any]:
        n = number % len(self.pids)
        lon, lat = self.points[n]
        return {"code": self.code(n), "pid": self.pids[n], "lon": lon, "lat": lat}


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Fill both layouts, serve, ask."""
    size = Size()
    state = api_state.load(bench, size)
    with served(bench, state) as api:
        places = places_in(state, size)
        if "A1" in wanted:
            yield _costs(bench, state, api, places, size)
        if "A2" in wanted:
            yield _latency(bench, api, places)
        if "A3" in wanted:
            yield restart(bench, api, places, _MIXED_S)


PART = Part(frozenset({"A1", "A2", "A3"}), run)


@contextmanager
def served(bench: Bench, state: State) -> Iterator[Api]:
    """The API on a state, with a user who may ask as often as it likes."""
    api = Api(state.env | UNLIMITED, bench.folder / "api.log")
    try:
        if USER not in api.command("users", "list"):
            api.command("users", "add", USER, "--aoi", AOI, "--password-stdin", stdin=PASSWORD)
        yield api
    finally:
        api.stop()


def places_in(state: State, size: Size) -> Places:
    """Parcels of a state, drawn by a fixed seed."""
    chosen = (
        np.random.default_rng(_SEED).choice(
            size.parcels, min(_QUESTIONS * 8, size.parcels), replace=False
        )
        + 1
    )
    pids = [int(pid) for pid in chosen]
    with closing(state.connect()) as conn:
        found = db.fetch_all(
            conn,
            "SELECT pid, ST_X(p) AS lon, ST_Y(p) AS lat FROM (SELECT pid, "
            f"ST_Transform(ST_Centroid(geom), 4326) AS p FROM {AOI}.parcels "
            "WHERE pid = ANY(%s)) AS found",
            (pids,),
        )
    return Places([row.pid for row in found], [(row.lon, row.lat) for row in found])


def questions(places: Places) -> dict[str, Question]:
    """Addresses of each kind of question, about another parcel each time."""

    def at(number: int) -> str:
        lon, lat = places.facts(number)["lon"], places.facts(number)["lat"]
        return f"/query/parcelByLocation?{_OF}&lon={lon:.7f}&lat={lat:.7f}"

    return {
        "parcelTimeSeries": lambda n: f"/query/parcelTimeSeries?{_OF}&pid={places.code(n)}",
        "parcelByLocation": at,
        "parcelPeers": lambda n: f"/query/parcelPeers?{_OF}&pid={places.code(n)}",
    }


def _mix(places: Places) -> dict[str, Question]:
    return questions(places) | {
        "parcelByID": lambda n: f"/query/parcelByID?{_OF}&pid={places.code(n)}&withGeometry=True",
        "one band as csv": lambda n: (
            f"/query/parcelTimeSeries?{_OF}&pid={places.code(n)}&band=B08&tsformat=csv"
        ),
        "no such parcel": lambda n: f"/query/parcelByID?{_OF}&pid=none{n}",
        "info": lambda _: "/query/info",
    }


def _costs(bench: Bench, state: State, api: Api, places: Places, size: Size) -> Result:
    details: dict[str, Any] = {"values": size.values, "requests_of_each": _REQUESTS}
    for name, question in questions(places).items():
        load = Load(api.port, (USER, PASSWORD), {name: question}, clients=2)
        load.times(_QUESTIONS)  # warms caches, and proves the password
        before = spent_s(api, bench.server.postmaster)
        sent = load.times(_REQUESTS)
        after = spent_s(api, bench.server.postmaster)
        api_ms, database_ms = (
            (b - a) / len(sent) * 1e3 for a, b in zip(before, after, strict=True)
        )
        details[name] = {
            "cpu_ms": round(api_ms + database_ms, 2),
            "api_cpu_ms": round(api_ms, 2),
            "database_cpu_ms": round(database_ms, 2),
            "p50_ms": round(percentile_ms(sent, 0.5), 1),
            "statuses": statuses(sent),
        }
        bench.say(f"A1: {name} {details[name]}")
    details["sql_cpu_ms"] = ratios = _sql_costs(bench, state, places)
    return Result.of(
        "A1",
        "CPU ms a request (series, location, peers); a parcel's whole series vs the JRC's layout",
        [
            Figure(details["parcelTimeSeries"]["cpu_ms"], 25, False, "series", " ms"),
            Figure(details["parcelByLocation"]["cpu_ms"], 25, False, "location", " ms"),
            Figure(details["parcelPeers"]["cpu_ms"], 50, False, "peers", " ms"),
            Figure(ratios["jrc series"] / ratios["series"], 5, at_least=True, label="SQL"),
        ],
        details,
    )


def _sql_costs(bench: Bench, state: State, places: Places) -> dict[str, float]:
    """PostgreSQL's processor milliseconds a question, the cheapest of interleaved rounds."""
    with closing(state.connect()) as conn:
        campaign = fetch_campaigns(conn, [AOI])[0]

        def ours_series(facts: dict[str, Any]) -> object:
            return time_series(conn, campaign, facts["code"], "s2", Selection())

        def ours_location(facts: dict[str, Any]) -> object:
            at = facts["lon"], facts["lat"]
            return parcel_by_location(conn, campaign, *at, geometry=False, wgs84=False)

        def ours_peers(facts: dict[str, Any]) -> object:
            return fetch_peers(conn, campaign, facts["code"], distance_m=2000, limit=10)

        def jrc(statement: str, facts: dict[str, Any]) -> object:
            return db.fetch_all(conn, statement, facts)

        ways: dict[str, Callable[[dict[str, Any]], object]] = {
            "series": ours_series,
            "jrc series": partial(jrc, _JRC_BY_CODE),
            "jrc series, key known": partial(jrc, _JRC_BY_KEY),
            "location": ours_location,
            "jrc location": partial(jrc, _JRC_LOCATION),
            "peers": ours_peers,
            "jrc peers": partial(jrc, _JRC_PEERS),
        }
        best: dict[str, float] = {}
        for turn in range(_ROUNDS):
            for name, ask in ways.items():
                if name == "jrc peers" and turn:
                    continue  # it reads and transforms every parcel: seconds a question
                ms = _per_question_ms(bench, ask, places, turn, 1 if name == "jrc peers" else 100)
                best[name] = min(ms, best.get(name, ms))
                bench.say(f"A1: {name} {ms:.2f} ms in PostgreSQL")
    return {name: round(ms, 3) for name, ms in best.items()}


def _per_question_ms(
    bench: Bench, ask: Callable[[dict[str, Any]], object], places: Places, turn: int, often: int
) -> float:
    for number in range(often):
        ask(places.facts(turn * often + number))  # the same pages are in memory for all
    before = server_cpu_s(bench.server.postmaster)
    for number in range(often):
        ask(places.facts(turn * often + number))
    return (server_cpu_s(bench.server.postmaster) - before) / often * 1e3


def _latency(bench: Bench, api: Api, places: Places) -> Result:
    figures, details = [], {}
    for name, gate in (("parcelTimeSeries", 20), ("parcelByLocation", 10)):
        load = Load(api.port, (USER, PASSWORD), {name: questions(places)[name]}, per_s=_PACE_PER_S)
        load.times(16)
        sent = load.for_seconds(_PACED_S)
        p95 = percentile_ms(sent, 0.95)
        figures.append(Figure(p95, gate, False, name, " ms"))
        details[name] = {"p50_ms": round(percentile_ms(sent, 0.5), 1), "p95_ms": round(p95, 1),
                         "p99_ms": round(percentile_ms(sent, 0.99), 1),
                         "statuses": statuses(sent)}  # fmt: skip
        bench.say(f"A2: {name} {details[name]}")
    return Result.of("A2", "p95 at 20 requests/s from 8 clients", figures, details)


def restart(bench: Bench, api: Api, places: Places, seconds: float) -> Result:
    """Mixed load with PostgreSQL stopped and started again in the middle."""
    away: list[float] = []
    memory: list[tuple[float, float]] = []

    def meanwhile() -> None:
        began = time.monotonic()
        while (now := time.monotonic() - began) < seconds - 1:
            memory.append((now, sum(api.rss_mb())))
            if not away and now > seconds / 2:
                away.append(time.monotonic())
                bench.server.stop()
                time.sleep(_AWAY_S)
                Server(bench.folder / "cluster")
                away.append(time.monotonic())
                bench.say("A3: PostgreSQL was away")
            time.sleep(min(10, seconds / 20))

    load = Load(api.port, (USER, PASSWORD), _mix(places), per_s=_MIXED_PER_S)
    sent = load.for_seconds(seconds, meanwhile)
    return _survived(sent, away[0], away[1], memory)


def _survived(sent: list[TimedRequest], stop: float, start: float, memory: list[Any]) -> Result:
    # What was under way when the server had its signal to stop may already have met its end.
    before = [a for a in sent if a.at + a.took_s < stop]
    during = [a for a in sent if a.at + a.took_s >= stop and a.at <= start]
    after = [a for a in sent if a.at > start]
    wrong = [a for a in (*before, *after) if a.status != (404 if a.question[:2] == "no" else 200)]
    wrong += [a for a in during if a.status not in (200, 404, 503)]
    settled = memory[len(memory) // 5][1]
    return Result.of(
        "A3",
        f"{(sent[-1].at - sent[0].at) / 60:.1f} min of mixed load from 8 clients, PostgreSQL "
        "restarted in the middle: answers that are wrong ; memory at the end vs settled",
        [
            Figure(len(wrong), 0, False, unit=""),
            Figure(memory[-1][1] / settled, 1.1, False),
        ],
        {
            "before": statuses(before),
            "during": statuses(during),
            "after": statuses(after),
            "wrong": [f"{a.question}: {a.status}" for a in wrong[:20]],
            "away_s": round(start - stop, 1),
            "p95_ms": round(percentile_ms([*before, *after], 0.95), 1),
            "workers_rss_mb": [round(mb, 1) for _, mb in memory],
        },
    )
