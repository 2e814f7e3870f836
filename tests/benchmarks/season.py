"""P15, P16: what changes of declarations cost, week by week, once a season is extracted.

A delta is what one import changes: 1 % of the parcels, the neighbouring ones of some farms.
"""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from store import db, queue
from tests.benchmarks import parcels
from tests.benchmarks.clock import Cost, Way
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.granule import EPSG
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import AOI, State

_DELTAS = 20
_FARMS = 20
_SHARE = 0.01
_SEED = 19


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Extract scenes for a campaign without deltas, and for one with twenty, in turns."""
    bench.granule  # noqa: B018  (made before anything is timed)
    plain, changed = (_campaign(bench, name) for name in ("bench_plain", "bench_changed"))
    rng = np.random.default_rng(_SEED)
    each = round(_SHARE * len(bench.wkb))
    scattered = _add_set(changed, rng.choice(bench.pids, each, replace=False))
    deltas = [_add_set(changed, pids) for pids in _farmers_changes(changed, rng, each)]
    cost = bench.turns(
        {
            "first": _extraction(bench, plain),
            "with 20 deltas": _extraction(bench, changed),
            "a delta": _extraction(bench, changed, only=deltas[0]),
            "a scattered delta": _extraction(bench, changed, only=scattered),
        },
        rounds=3,
        server=True,
    )
    details = {way: each.as_details() for way, each in cost.items()}
    if "P15" in wanted:
        yield _p15(cost, details)
    if "P16" in wanted:
        yield _p16(cost, details)


PART = Part(frozenset({"P15", "P16"}), run)


def _p15(cost: dict[str, Cost], details: dict[str, object]) -> Result:
    ratio = cost["a delta"].cpu_s / cost["first"].cpu_s
    anywhere = cost["a scattered delta"].cpu_s / cost["first"].cpu_s
    return Result.of(
        "P15",
        f"a delta of 1 % of the parcels, of {_FARMS} farms / the first extraction of a scene",
        [Figure(ratio, 0.15, False, "", "")],
        details | {"scattered_ratio": anywhere},
    )


def _p16(cost: dict[str, Cost], details: dict[str, object]) -> Result:
    return Result.of(
        "P16",
        f"a new scene with {_DELTAS} deltas in its campaign / with none",
        [Figure(cost["with 20 deltas"].cpu_s / cost["first"].cpu_s, 1.1, False, "", "")],
        details,
    )


def _campaign(bench: Bench, name: str) -> State:
    state = State.fresh(bench.server, name)
    state.import_parcels(parcels.file(bench.folder))
    return state


def _farmers_changes(
    state: State, rng: np.random.Generator, each: int
) -> Iterator[NDArray[np.int32]]:
    """pids of each delta: neighbours of some parcels drawn at random, every parcel once."""
    with closing(state.connect()) as conn:
        rows = db.fetch_all(
            conn,
            "SELECT pid, ST_X(centre) AS x, ST_Y(centre) AS y FROM "
            f"(SELECT pid, ST_Centroid(geom) AS centre FROM {AOI}.parcels) AS p ORDER BY pid",
        )
    pids = np.array([row.pid for row in rows], np.int32)
    centre = np.array([(row.x, row.y) for row in rows])
    left = np.ones(pids.size, bool)
    for _ in range(_DELTAS):
        chosen: list[NDArray[np.int64]] = []
        for home in rng.choice(np.flatnonzero(left), _FARMS, replace=False):
            far = np.where(left, np.hypot(*(centre - centre[home]).T), np.inf)
            chosen.append(np.argsort(far)[: each // _FARMS])
            left[chosen[-1]] = False
        yield pids[np.sort(np.concatenate(chosen))]


def _add_set(state: State, pids: NDArray[np.int32]) -> int:
    """Put parcels into a set of their own, as an import does that brings them."""
    with closing(state.connect()) as conn, db.transaction(conn):
        set_id = db.fetch_one(
            conn,
            "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
            "SELECT campaign_id, md5(random()::text), %s, extent FROM parcel_set LIMIT 1 "
            "RETURNING id",
            (pids.size,),
        ).id
        db.execute(
            conn,
            f"UPDATE {AOI}.parcels SET set_id = %s WHERE pid = ANY(%s)",
            (set_id, pids.tolist()),
        )
        db.execute(conn, "UPDATE parcel_set SET digest = md5(random()::text)")
    return int(set_id)


def _extraction(bench: Bench, state: State, only: int | None = None) -> Way:
    """A scene for all sets, or for one of them when it is done for the others; spans cached."""
    worker = state.worker(bench.folder / "spans-season")

    def prepare() -> str:
        reference = state.register("s2", EPSG, bench.sources("jp2"))
        if only is not None:
            with closing(state.connect()) as conn:
                db.execute(
                    conn,
                    "UPDATE work SET state = 'done', signatures = 0 WHERE set_id <> %s",
                    (only,),
                )
        return reference

    prepare()
    with closing(state.connect()) as conn:
        while queue.open_work(conn):
            worker.work(until_idle=True)
    return Way(lambda reference: worker.work_on(str(reference)), prepare)
