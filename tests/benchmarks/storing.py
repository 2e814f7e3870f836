"""P8: storing one granule's statistics, 40,000 parcels x 7 layers, keys and indexes in place."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from numpy.typing import NDArray

from store import db, queue, signatures
from store.queue import Claim, WorkResult
from store.signatures import STATISTICS, Signatures
from tests.benchmarks import jrc, parcels
from tests.benchmarks.clock import Way
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.granule import EPSG, SCL
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import AOI, State

_BANDS = ("B02", "B03", "B04", "B05", "B08", "B11")
_LAYERS = len(_BANDS) + 1
_SEED = 13
_ROUNDS = 6

Stats = NDArray[np.float64]


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Store the same statistics both ways, again and again into growing tables."""
    state = State.fresh(bench.server, "bench_storing")
    bench.say("P8: importing the parcels, making statistics")
    pids = state.import_parcels(parcels.file(bench.folder))
    ours, theirs = _signatures(pids), _frames(pids)
    jrc.make_table(state.env)
    sources = bench.sources("cog")
    with closing(state.connect()) as conn, closing(jrc.connect(state.env)) as raw:
        cost = bench.turns(
            {
                "ours": Way(
                    lambda held: _write(conn, held, ours),
                    lambda: state.claim(conn, state.register("s2", EPSG, sources)),
                ),
                "jrc": Way(lambda _: _copy(raw, theirs)),
            },
            _ROUNDS,
            server=True,
        )
        size = db.fetch_one(conn, _SIZE, {"tables": [f"{AOI}.s2", f"{AOI}.hists"]}).bytes
        theirs_size = db.fetch_one(conn, "SELECT pg_total_relation_size('jrc_sigs') AS bytes").bytes
    values = pids.size * _LAYERS
    yield Result.of(
        "P8",
        "storing a granule with the key in place vs the JRC's COPY with its indexes",
        [Figure(cost["jrc"].cpu_s / cost["ours"].cpu_s, 8, at_least=True)],
        {
            way: each.as_details() | {"signatures_per_wall_s": round(values / each.wall_s)}
            for way, each in cost.items()
        }
        | {
            "signatures": f"{pids.size} parcels x {_LAYERS}, SCL as histogram or, JRC, as a band",
            "bytes_per_signature": size / _ROUNDS / values,
            "jrc_bytes_per_signature": theirs_size / _ROUNDS / values,
        },
    )


PART = Part(frozenset({"P8"}), run)

_SIZE = """
    SELECT sum(pg_total_relation_size(t.relid))::bigint AS bytes
    FROM unnest(%(tables)s::text[]) AS root, pg_partition_tree(root::regclass) AS t
    WHERE t.isleaf"""


def _write(conn: db.Connection, held: Claim, found: Signatures) -> None:
    """What the worker does once a scene is reduced."""
    leaves = signatures.ensure_partitions(conn, held.campaign_id, held.obsid, held.scene.kind)
    with db.transaction(conn):
        queue.lock_claims(conn, [held])
        signatures.write(conn, held.aoi, leaves, held.campaign_id, held.obsid, found)
        queue.finish(conn, held, WorkResult(found.pids.size, 0, 0, (), 0.0))


def _copy(raw: object, frames: list[tuple[str, pd.DataFrame]]) -> None:
    """What the JRC's script does with each chunk and band."""
    with raw.cursor() as cursor:  # type: ignore[attr-defined]
        for band, frame in frames:
            jrc.store(cursor, frame, 1, band)


def _signatures(pids: NDArray[np.int32]) -> Signatures:
    draws = np.random.default_rng(_SEED)
    return Signatures(
        "s2",
        pids,
        np.full(pids.size, 237, np.int32),
        np.zeros(pids.size, np.int16),
        {band: statistics(draws, pids.size) for band in _BANDS},
        draws.integers(0, 60, (pids.size, 12)),
    )


def _frames(pids: NDArray[np.int32]) -> list[tuple[str, pd.DataFrame]]:
    """By chunk and band, as rasterstats leaves them: whole numbers but for mean and std."""
    draws = np.random.default_rng(_SEED)
    tables = {band: statistics(draws, pids.size) for band in (*_BANDS, SCL[:3])}
    frames = []
    for first in range(0, pids.size, jrc.CHUNK):
        chunk = slice(first, first + jrc.CHUNK)
        for band, table in tables.items():
            frame = pd.DataFrame(table[chunk], columns=list(STATISTICS))
            whole = frame.astype({"count": int, "min": int, "max": int})
            whole.insert(0, "pid", pids[chunk])
            frames.append((band, whole))
    return frames


def statistics(draws: np.random.Generator, n: int) -> Stats:
    """Plausible statistics of n parcels, (n, 8) in the order of STATISTICS."""
    mean = draws.uniform(500, 4000, n)
    table = np.empty((n, len(STATISTICS)))
    table[:, 0] = draws.integers(1, 900, n)
    table[:, 1], table[:, 2] = mean, draws.uniform(20, 400, n)
    for column, shift in zip(range(3, 8), (-300, -90, 0, 90, 300), strict=True):
        table[:, column] = np.rint(mean + shift)
    return table
