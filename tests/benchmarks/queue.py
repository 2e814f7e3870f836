"""P18: the queue: claims by many workers of a million pieces of work, and the cost of a claim."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from store import db, queue
from tests.benchmarks.clock import server_cpu_s
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import State

_SETS = 4
_SCENES = 250_000
_WORKERS = 64
_RACE_S = 20.0
_CLAIMS = 1000
_LEASE_S = 600.0


def run(bench: Bench, _: frozenset[str]) -> Iterator[Result]:
    """Fill the queue of a short and of a long catalogue, and claim."""
    _allow(bench, _WORKERS + 20)
    short = _queue(bench, "bench_queue_short", _SCENES // 10)
    long = _queue(bench, "bench_queue_long", _SCENES)
    costs: dict[str, list[float]] = {"short": [], "long": []}
    for _round in range(3):
        costs["short"].append(_claim_ms(bench, short))
        costs["long"].append(_claim_ms(bench, long))
    bench.say(f"P18: {_WORKERS} workers")
    rate = _race(long)
    worn = _claim_ms(bench, long)
    yield Result.of(
        "P18",
        f"queue of {_SCENES * _SETS / 1e6:.0f} M pieces: claims/s by {_WORKERS} workers ; "
        "a claim's cost / in a queue a tenth as long",
        [
            Figure(rate, 200, True, "", "/s"),
            Figure(min(costs["long"]) / min(costs["short"]), 1.3, False, "longer"),
        ],
        {
            "pieces_per_claim": _SETS,
            "claim_cpu_ms": {name: min(each) for name, each in costs.items()},
            "claim_cpu_ms_after_the_race": worn,
        },
    )


PART = Part(frozenset({"P18"}), run)


def _allow(bench: Bench, connections: int) -> None:
    """Have the server take so many connections at once."""
    with closing(bench.server.connect("postgres")) as admin:
        db.execute(admin, f"ALTER SYSTEM SET max_connections = {connections}")
    bench.server.restart_cold()


def _queue(bench: Bench, name: str, scenes: int) -> State:
    """Scenes that are all queued for some parcel sets."""
    bench.say(f"P18: {scenes * _SETS:,} pieces of work")
    state = State.fresh(bench.server, name)
    with closing(state.connect()) as conn:
        db.execute(conn, _FILL, {"scenes": scenes, "sets": _SETS, "campaign": state.campaign.id})
        db.execute(conn, "VACUUM ANALYZE")
    return state


_FILL = """
    INSERT INTO parcel_set (campaign_id, digest, parcels, extent)
    SELECT %(campaign)s, 'set ' || n, 100, ST_MakeEnvelope(5, 45, 6, 46, 4326)
    FROM generate_series(1, %(sets)s) AS n;
    INSERT INTO scene (reference, kind, platform, obstime, acquisition, unit, epsg, footprint,
                       bands, software)
    SELECT 'scene ' || n, 's2', 'S2A', '2024-06-01', 'scene ' || n, 'dn', 32632,
           ST_Multi(ST_MakeEnvelope(5, 45, 6, 46, 4326)),
           jsonb_build_object('B04', jsonb_build_object('href', '/scene/B04.jp2', 'index', 1,
                                                        'offset', 0, 'nodata', 0)), 'bench'
    FROM generate_series(1, %(scenes)s) AS n;
    INSERT INTO work (obsid, set_id) SELECT s.obsid, p.id FROM scene s, parcel_set p"""


def _claim_ms(bench: Bench, state: State) -> float:
    """The server's processor time of a claim, ms; each is done before the next."""
    with closing(state.connect()) as conn:
        before = server_cpu_s(bench.server.postmaster)
        for _ in range(_CLAIMS):
            _claim_and_finish(conn)
        return (server_cpu_s(bench.server.postmaster) - before) / _CLAIMS * 1e3


def _race(state: State) -> float:
    """Claims per second of many connections at once, each done before the same one's next."""
    stop = threading.Event()

    def work(conn: db.Connection) -> int:
        done = 0
        while not stop.is_set():
            _claim_and_finish(conn)
            done += 1
        return done

    with ExitStack() as opened:
        conns = [opened.enter_context(closing(state.connect())) for _ in range(_WORKERS)]
        with ThreadPoolExecutor(_WORKERS) as pool:
            began = time.monotonic()
            workers = [pool.submit(work, conn) for conn in conns]
            time.sleep(_RACE_S)
            stop.set()
            done = sum(worker.result() for worker in workers)
            return done / (time.monotonic() - began)


def _claim_and_finish(conn: db.Connection) -> None:
    held = queue.claim(conn, "bench", _LEASE_S, 20)
    db.execute(conn, "UPDATE work SET state = 'done' WHERE obsid = %s", (held[0].obsid,))
