"""P1, P2, P11: the zonal stage alone, on pixels in memory and spans built before."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from numpy.typing import NDArray

from extraction.spans import Rule, SpanIndex
from store.signatures import STATISTICS
from tests.benchmarks import exact, granule, jrc, ours
from tests.benchmarks.clock import Way
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.granule import GRID_10M
from tests.benchmarks.results import Figure, Result

_BANDS_10M = ("B02", "B03", "B04", "B08")
_COMPARED = ("B08", "B11")
_SAMPLE = jrc.CHUNK
_SEED = 7
_EXACT = ("count", "min", "p25", "p50", "p75", "max")
_RTOL = 1e-12


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Measure the speed, then compare the values."""
    if wanted & {"P1", "P2"}:
        yield from _speed(bench, wanted)
    if "P11" in wanted:
        yield _values(bench)


PART = Part(frozenset({"P1", "P2", "P11"}), run)


def _speed(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    pixels = {band: bench.granule.read(band) for band in _BANDS_10M}
    index = bench.index_of(GRID_10M)
    decoded = [ours.recorded(bench.sources("cog")[band], bench.index_of) for band in _BANDS_10M]
    bench.say("zonal stage: ours and its peers, pixels in memory")
    n = len(bench.wkb)
    mine = {
        "ours, 4 bands": Way(lambda _: ours.reduce_bands(index, decoded)),
        "ours, 1 band": Way(lambda _: ours.reduce_bands(index, decoded[2:3])),
    }
    if "P1" in wanted:
        sample = np.random.default_rng(_SEED).choice(n, _SAMPLE, replace=False)
        some = jrc.features([bench.wkb[i] for i in sample], bench.pids[sample])
        image = jrc.Image(pixels["B04"], granule.affine(GRID_10M))
        cost = bench.turns(mine | {"rasterstats": Way(lambda _: jrc.statistics(some, image))}, 4)
        theirs = cost["rasterstats"].cpu_s / _SAMPLE * n
        band = cost["ours, 4 bands"].cpu_s / len(_BANDS_10M)
        yield Result.of(
            "P1",
            "zonal stage (statistics only) vs rasterstats, per band",
            [Figure(theirs / band, 300, at_least=True)],
            {
                "ours_cpu_s_per_band": band,
                "rasterstats_cpu_s_per_band": theirs,
                "ours_single_band_cpu_s": cost["ours, 1 band"].cpu_s,
                "rasterstats_sample": f"{_SAMPLE} of {n} parcels, scaled",
            },
        )
    if "P2" in wanted:
        yield _exactextract(bench, mine, pixels)


def _exactextract(
    bench: Bench, mine: dict[str, Way], pixels: dict[str, NDArray[np.uint16]]
) -> Result:
    """Both strategies are run; the faster one is what ours is compared with."""
    all_parcels = jrc.features(bench.wkb, bench.pids)
    one = {"B04": pixels["B04"]}
    peers = {
        f"exactextract {strategy}, {len(bands)} bands": Way(
            partial(exact.statistics, all_parcels, bands, GRID_10M), partial(str, strategy)
        )
        for strategy in exact.STRATEGIES
        for bands in (pixels, one)
    }
    cost = bench.turns(mine | peers, 2)
    joint, single = (
        min(cost[name].cpu_s for name in peers if name.endswith(f" {k} bands")) for k in (4, 1)
    )
    return Result.of(
        "P2",
        "zonal stage vs exactextract, bands joint / single",
        [
            Figure(joint / cost["ours, 4 bands"].cpu_s, 25, True, "joint"),
            Figure(single / cost["ours, 1 band"].cpu_s, 70, True, "single"),
        ],
        {name: each.cpu_s for name, each in cost.items()},
    )


def _values(bench: Bench) -> Result:
    """All parcels on a 10 m and a 20 m band, before values are stored as `real`."""
    details: dict[str, object] = {}
    differing, worst = 0, 0.0
    for band in _COMPARED:
        source = bench.sources("cog")[band]
        decoded = ours.recorded(source, bench.index_of)
        index = bench.index_of(decoded.grid)
        mine = _frame(index, decoded)
        image = jrc.read(bench.granule.cog[band])
        bench.say(f"P11: rasterstats on {band}, all {len(bench.wkb)} parcels")
        touched = (index.rules & Rule.TOUCHED) > 0
        for rule, chosen in (("centre", ~touched), ("touched", touched)):
            which = np.flatnonzero(chosen)
            theirs = jrc.statistics(
                jrc.features([bench.wkb[i] for i in which], bench.pids[which]),
                image,
                all_touched=rule == "touched",
            ).set_index("pid")
            wrong, off = _differences(mine.loc[theirs.index], theirs)
            details[f"{band} {rule}"] = {
                "parcels": which.size,
                "differing": wrong,
                "mean_std_max_relative": off,
            }
            differing, worst = differing + wrong, max(worst, off)
    n = len(bench.wkb)
    return Result.of(
        "P11",
        f"values vs rasterstats on identical geometry, {n:,} parcels x {' and '.join(_COMPARED)}",
        [
            Figure(differing, 0, False, "differing parcels", ""),
            Figure(worst, _RTOL, False, "mean/std relative", ""),
        ],
        details,
    )


def _frame(index: SpanIndex, decoded: ours.Replay) -> pd.DataFrame:
    """Our statistics by pid; parcels beside the raster have count 0 and NaN."""
    table = ours.reduce_bands(index, [decoded])[0]
    frame = pd.DataFrame(np.nan, index=index.pids, columns=list(STATISTICS))
    frame["count"] = 0.0
    frame.loc[ours.pids_on(index, decoded)] = table
    return frame


def _differences(mine: pd.DataFrame, theirs: pd.DataFrame) -> tuple[int, float]:
    """Parcels that differ in what must be equal; the largest relative error of mean and std."""
    theirs = theirs.astype(float)
    same = [
        (mine[name] == theirs[name]) | (mine[name].isna() & theirs[name].isna()) for name in _EXACT
    ]
    empty = mine["count"] == 0
    off = max(_relative(mine[name], theirs[name], empty) for name in ("mean", "std"))
    return int((~np.logical_and.reduce(same)).sum()), off


def _relative(mine: pd.Series, theirs: pd.Series, empty: pd.Series) -> float:
    if (mine.isna() != empty).any() or (theirs.isna() != empty).any():
        return float("inf")
    error = (mine - theirs).abs()[~empty]
    scale = theirs.abs()[~empty]
    return float(np.max(np.where(error > 0, error / scale, 0.0), initial=0.0))
