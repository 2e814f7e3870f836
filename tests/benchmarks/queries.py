"""P9, P10: a season's signatures in the product's tables: their size, and how fast they answer.

The values are written by the product's own writer, 7 bands a row; queries go through the view in
the JRC's shape. Cold means: right after a restart, with the system's cache of the files dropped.
"""

import io
import shutil
import statistics as means
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from store import db, signatures
from store.signatures import Signatures
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import AOI, YEAR, State
from tests.benchmarks.storing import statistics

_BANDS = ("B02", "B03", "B04", "B05", "B08", "B8A", "B11")
_SEED = 17
_NAME = "bench_season"
_FULL_BYTES = 20e9
_TRIES = 11

_COLUMNS = "count, mean, std, min, max, p25, p50, p75"
_SIGS = f"{AOI}.sigs_{YEAR}"
_PARCEL = f"SELECT obsid, {_COLUMNS} FROM {_SIGS} WHERE pid = %s AND band = %s ORDER BY obsid"
_IMAGE = f"SELECT pid, {_COLUMNS} FROM {_SIGS} WHERE obsid = {{obsid}} AND band = '{{band}}'"


@dataclass(frozen=True)
class _Season:
    """How much is stored, and as which scenes."""

    parcels: int
    scenes: int
    first_obsid: int = 1

    @property
    def obsids(self) -> range:
        return range(self.first_obsid, self.first_obsid + self.scenes)

    @property
    def values(self) -> int:
        return self.parcels * self.scenes * len(_BANDS)


_LARGE, _USUAL = _Season(500_000, 73), _Season(100_000, 40)
_WHOLE_PARTITION = _Season(30_000, 128, first_obsid=128)
"""A B-tree's pages are half full after they split: between 25.7 and 33 bytes a row, by the scenes
in a partition. Its size is that of one which has all it can have."""


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Load a season each, then measure."""
    if "P9" in wanted:
        state = State.fresh(bench.server, _NAME)
        yield _size(state, _WHOLE_PARTITION, _load(bench, state, _WHOLE_PARTITION))
        bench.server.drop(_NAME)
    if "P10" in wanted:
        season = _LARGE if bench.full else _USUAL
        _check_room(bench)
        state = State.fresh(bench.server, _NAME)
        _load(bench, state, season)
        yield _answers(bench, state, season)
        bench.server.drop(_NAME)


def _check_room(bench: Bench) -> None:
    free = shutil.disk_usage(bench.folder).free
    if bench.full and free < _FULL_BYTES:
        raise RuntimeError(
            f"255 million values need {_FULL_BYTES / 1e9:.0f} GB free below "
            f"{bench.folder}, there are {free / 1e9:.0f}"
        )


PART = Part(frozenset({"P9", "P10"}), run)


def _load(bench: Bench, state: State, season: _Season) -> float:
    """Write all scenes, one transaction each; then what autovacuum does after such a load."""
    draws = np.random.default_rng(_SEED)
    n = season.parcels
    stats = {band: statistics(draws, n) for band in _BANDS}
    found = Signatures(
        "s2",
        np.arange(1, n + 1, dtype=np.int32),
        np.full(n, 237, np.int32),
        np.zeros(n, np.int16),
        stats,
        None,
    )
    began = time.monotonic()
    with closing(state.connect()) as conn:
        for obsid in season.obsids:
            leaves = signatures.ensure_partitions(conn, state.campaign.id, obsid, "s2")
            with db.transaction(conn):
                signatures.write(conn, AOI, leaves, state.campaign.id, obsid, found)
            if obsid % 10 == 0 or obsid == season.obsids[-1]:
                done = obsid - season.first_obsid + 1
                bench.say(f"{done} of {season.scenes} scenes stored")
        loaded_s = time.monotonic() - began
        bench.say("vacuum and analyze")
        db.execute(conn, db.compose("VACUUM (ANALYZE) {table}", table=(AOI, "s2")))
        db.execute(conn, "CHECKPOINT")
    return loaded_s


def _size(state: State, season: _Season, loaded_s: float) -> Result:
    size = _bytes(state)
    return Result.of(
        "P9",
        "bytes per signature, indexes included, a whole partition of 128 scenes, 7 bands a row, "
        f"{season.values / 1e6:.0f} M",
        [Figure(size.total / season.values, 46, False, unit=" B")],
        {
            "total_bytes": size.total,
            "index_bytes": size.indexes,
            "loaded_s": round(loaded_s, 1),
            "signatures_per_s": round(season.values / loaded_s),
        },
    )


def _bytes(state: State) -> Any:
    """Total and index bytes of the campaign's signatures."""
    with closing(state.connect()) as conn:
        return db.fetch_one(
            conn,
            """
            SELECT sum(pg_total_relation_size(relid))::bigint AS total,
                   sum(pg_indexes_size(relid))::bigint AS indexes
            FROM pg_partition_tree(%s::regclass) WHERE isleaf""",
            (f"{AOI}.s2",),
        )


def _answers(bench: Bench, state: State, season: _Season) -> Result:
    """Image queries are gated in proportion to the rows that the goals speak of."""
    bytes_per_signature = _bytes(state).total / season.values
    bench.say("P10: cold restart")
    dropped = bench.server.restart_cold()
    pids = np.random.default_rng(_SEED).choice(season.parcels, _TRIES + 1, replace=False) + 1
    scenes = range(2, season.scenes, max(1, season.scenes // 4))
    with closing(state.connect()) as conn:
        first, *cold = [
            _ms(partial(db.fetch_all, conn, _PARCEL, (int(pid), "B08"))) for pid in pids
        ]
        server_cold, *server = [_server_ms(conn, obsid) for obsid in scenes for _ in range(3)]
        client = [_ms(partial(_fetch, conn, obsid)) for obsid in scenes for _ in range(3)]
    share = season.parcels / _LARGE.parcels
    rows = f"{season.parcels:,} rows"
    return Result.of(
        "P10",
        f"of {season.values / 1e6:.0f} M signatures: parcel/band cold ; image/band, {rows}, "
        "on the server ; to the client",
        [
            Figure(means.median(cold), 40, False, unit=" ms"),
            Figure(min(server), 400 * share, False, unit=" ms"),
            Figure(min(client), 1500 * share, False, unit=" ms"),
        ],
        {
            "parcel_band_first_after_restart_ms": first,
            "parcel_band_cold_max_ms": max(cold),
            "image_band_server_cold_ms": server_cold,
            "cache_dropped_by": dropped,
            "bytes_per_signature": bytes_per_signature,
        },
    )


def _server_ms(conn: db.Connection, obsid: int) -> float:
    """Execution time of an image/band query as the server itself measures it."""
    statement = f"EXPLAIN (ANALYZE, TIMING OFF) {_IMAGE.format(obsid=obsid, band='B08')}"
    lines = [row[0] for row in db.fetch_all(conn, statement)]
    found = next(line for line in lines if line.startswith("Execution Time"))
    return float(found.split()[2])


def _fetch(conn: db.Connection, obsid: int) -> None:
    """An image/band by binary COPY to the client."""
    with conn.cursor() as cursor:
        cursor.copy_expert(
            f"COPY ({_IMAGE.format(obsid=obsid, band='B08')}) TO STDOUT WITH (FORMAT binary)",
            io.BytesIO(),
        )


def _ms(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1000
