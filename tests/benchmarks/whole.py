"""P3, P5, P6, P6r, P7: a whole granule, from files or decoded pixels to committed rows."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from extraction import spans
from extraction.spans import ReadPlan
from store.grid import Grid
from tests.benchmarks import granule, jrc, ours, parcels
from tests.benchmarks.clock import Cost, Way
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.granule import BAND_GRIDS, EPSG
from tests.benchmarks.results import Figure, Result
from tests.benchmarks.state import AOI, State

_SAMPLE = 2 * jrc.CHUNK
_SEED = 11
_FEW = 1000
_OBSID = 1


def run(bench: Bench, wanted: frozenset[str]) -> Iterator[Result]:
    """Measure what the wanted goals need, in turns."""
    whole = _Whole.prepared(bench)
    if wanted & {"P3", "P7"}:
        undecoded = _without_decode(whole)
        if "P3" in wanted:
            yield _p3(undecoded)
    if wanted & {"P5", "P6", "P6r", "P7"}:
        jp2 = _from_jp2(whole)
        if "P6" in wanted:
            yield _p6(jp2)
        if "P6r" in wanted:
            yield _p6r(jp2)
        if "P7" in wanted:
            yield _p7(jp2, undecoded)
        if "P5" in wanted:
            yield _p5(jp2 | _from_cog(whole))


PART = Part(frozenset({"P3", "P5", "P6", "P6r", "P7"}), run)


@dataclass(frozen=True)
class _Whole:
    """The parcels in a database, and the granule as scenes to extract for them.

    Attributes:
        bench: files and server.
        state: campaign and parcels.
        n: parcels.
        cache: where spans are kept.
    """

    bench: Bench
    state: State
    n: int
    cache: Path

    @classmethod
    def prepared(cls, bench: Bench) -> "_Whole":
        """Make the granule, and import the parcels into a fresh database."""
        bench.granule  # noqa: B018  (made before anything is timed)
        state = State.fresh(bench.server, "bench_granule")
        bench.say("importing the parcels as an agency's file")
        pids = state.import_parcels(parcels.file(bench.folder))
        return cls(bench, state, pids.size, bench.folder / "spans")

    def scene(self, coding: str) -> Callable[[], str]:
        """Registers the granule as one more scene."""
        return lambda: self.state.register("s2", EPSG, self.bench.sources(coding))

    def extract(self, reference: str) -> None:
        """The product's own worker, spans cached."""
        self.state.extract(self.state.worker(self.cache), reference)

    def extract_all_blocks(self, reference: str) -> None:
        """The same, decoding the blocks without parcels too."""
        with ours.decoding_all():
            self.extract(reference)

    def extract_anew(self, reference: str) -> None:
        """The same for a parcel set never seen before: geometries are fetched, spans built."""
        self.state.extract(self.state.worker(self.cache.with_name("spans-new")), reference)

    def scene_and_no_spans(self, coding: str) -> Callable[[], str]:
        """Registers the granule, and forgets the spans of `extract_anew`."""

        def prepare() -> str:
            shutil.rmtree(self.cache.with_name("spans-new"), ignore_errors=True)
            return self.scene(coding)()

        return prepare


def _without_decode(whole: _Whole) -> dict[str, Cost]:
    """Everything but decoding; the JRC's way on a sample, scaled to all parcels."""
    bench, state = whole.bench, whole.state
    replays: dict[str, ours.Replay] = {}
    bench.say("decoding what ours reads, once, into memory")
    with ours.recording(replays):
        whole.extract(whole.scene("jp2")())
    bench.say("decoding all bands for the JRC's way")
    images = {band: jrc.read(path) for band, path in bench.granule.cog.items()}
    pids = np.random.default_rng(_SEED).choice(whole.n, _SAMPLE, replace=False) + 1
    jrc.choose_parcels(state.env, f"{AOI}.parcels", pids.tolist())
    with ours.replaying(replays):
        cost = bench.turns(
            {
                "ours": Way(whole.extract_anew, whole.scene_and_no_spans("jp2")),
                "ours, spans cached": Way(whole.extract, whole.scene("jp2")),
                "jrc": Way(
                    lambda _: jrc.extract(state.env, images, EPSG, _OBSID),
                    lambda: jrc.make_table(state.env),
                ),
            },
            rounds=3,
            server=True,
        )
    return cost | {"jrc": cost["jrc"].times(whole.n / _SAMPLE)}


def _from_jp2(whole: _Whole) -> dict[str, Cost]:
    """The whole granule, decoding alone of what it reads, and of all pixels."""
    bench = whole.bench
    bench.say("whole granule from JPEG 2000")
    ways = {"jp2": Way(whole.extract, whole.scene("jp2"))}
    for name, chosen in _parcel_choices(bench).items():
        plans = _plans(bench, chosen)
        ways[name] = Way(lambda _, plans=plans: ours.read_needed(plans), uses_server=False)
    ways["jp2 decode all"] = Way(lambda _: _read_all(bench), uses_server=False)
    return bench.turns(ways, rounds=3, server=True)


def _parcel_choices(bench: Bench) -> dict[str, NDArray[np.int64]]:
    """Positions of all parcels, of 1,000 around one of them, and of 1,000 anywhere."""
    rng = np.random.default_rng(_SEED)
    centre = shapely.centroid(shapely.from_wkb(bench.wkb))
    far_m = shapely.distance(centre, centre[rng.integers(centre.size)])
    return {
        "jp2 decode": np.arange(centre.size),
        "jp2 decode, 1,000 of one region": np.sort(np.argsort(far_m)[:_FEW]),
        "jp2 decode, 1,000 scattered": np.sort(rng.choice(centre.size, _FEW, replace=False)),
    }


def _plans(bench: Bench, chosen: NDArray[np.int64]) -> dict[str, ReadPlan]:
    """What to read of each JPEG 2000 file for some parcels, by href."""
    wkb, plans = [bench.wkb[i] for i in chosen], dict[Grid, ReadPlan]()
    for grid in set(BAND_GRIDS.values()):
        index = spans.build([(bench.pids[chosen], wkb)], grid.lattice)
        plans[grid] = spans.plan_reads(index, grid, granule.tile_shape_px(grid))
    return {str(path): plans[BAND_GRIDS[band]] for band, path in bench.granule.jp2.items()}


def _from_cog(whole: _Whole) -> dict[str, Cost]:
    """The whole granule, and decoding alone; and both once more with all blocks decoded."""
    bench, windows = whole.bench, dict[str, ours.Replay]()
    bench.say("whole granule from zstd COG")
    with ours.recording(windows, keep=False):
        whole.extract(whole.scene("cog")())
    return bench.turns(
        {
            "cog": Way(whole.extract, whole.scene("cog")),
            "cog decode": Way(lambda _: ours.decode(windows), uses_server=False),
            "cog, all blocks": Way(whole.extract_all_blocks, whole.scene("cog")),
            "cog decode all": Way(lambda _: ours.decode_all(windows), uses_server=False),
        },
        rounds=4,
        server=True,
    )


def _read_all(bench: Bench) -> None:
    """Decode the seven layers whole, as the JRC does."""
    for path in bench.granule.jp2.values():
        jrc.read(path)


def _p3(cost: dict[str, Cost]) -> Result:
    ratio, cached = (cost["jrc"].cpu_s / cost[way].cpu_s for way in ("ours", "ours, spans cached"))
    return Result.of(
        "P3",
        "all but decode (fetch, spans, statistics, store), 7 layers, vs the JRC's way",
        [Figure(ratio, 200, at_least=True)],
        _details(cost)
        | {
            "ratio_with_cached_spans": cached,
            "jrc_sample": f"{_SAMPLE} parcels drawn at random, scaled to all",
        },
    )


def _p5(cost: dict[str, Cost]) -> Result:
    """The goals come from an engine that decoded all pixels; so do both sides from COG here.

    From JPEG 2000 both decode the code blocks of parcels only, which is the harder case.
    """
    whole, decode = cost["jp2"].cpu_s, cost["jp2 decode"].cpu_s
    rest = (whole - decode) / cost["jp2 decode all"].cpu_s
    cog = cost["cog, all blocks"].cpu_s / cost["cog decode all"].cpu_s
    return Result.of(
        "P5",
        "whole granule / decoding alone: JP2, code blocks with parcels ; all but decoding / "
        "decoding all ; zstd COG, all blocks",
        [
            Figure(whole / decode, 1.10, False, "JP2", ""),
            Figure(rest, 0.015, False, "rest", ""),
            Figure(cog, 1.4, False, "zstd", ""),
        ],
        _details(cost) | {"zstd_blocks_with_parcels": cost["cog"].cpu_s / cost["cog decode"].cpu_s},
    )


def _p6(cost: dict[str, Cost]) -> Result:
    ratio = cost["jp2 decode"].cpu_s / cost["jp2 decode all"].cpu_s
    return Result.of(
        "P6",
        "decoding what the parcels need / decoding all, 7 layers, JP2",
        [Figure(ratio, 0.25, False, "", "")],
        _details(cost),
    )


def _p6r(cost: dict[str, Cost]) -> Result:
    region, scattered = (
        cost[f"jp2 decode, 1,000 {where}"].cpu_s / cost["jp2 decode all"].cpu_s
        for where in ("of one region", "scattered")
    )
    return Result.of(
        "P6r",
        "the same for 1,000 parcels: of one region ; scattered",
        [
            Figure(region, 0.012, False, "region", ""),
            Figure(scattered, 0.2, False, "scattered", ""),
        ],
        _details(cost),
    )


def _p7(cost: dict[str, Cost], undecoded: dict[str, Cost]) -> Result:
    theirs = cost["jp2 decode all"].cpu_s + undecoded["jrc"].cpu_s
    return Result.of(
        "P7",
        "whole granule from JP2, 7 layers, vs the JRC's way",
        [Figure(theirs / cost["jp2"].cpu_s, 16, at_least=True)],
        _details(cost | undecoded) | {"jrc_whole_cpu_s": theirs},
    )


def _details(cost: dict[str, Cost]) -> dict[str, object]:
    return {way: each.as_details() for way, each in cost.items()}
