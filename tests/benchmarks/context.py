"""What the parts of the benchmark share, each made at its first use."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extraction import spans
from extraction.spans import ReadPlan, SpanIndex
from store.catalogue import BandSource
from store.grid import Grid
from tests.benchmarks import granule, parcels
from tests.benchmarks.clock import Cost, Way, interleaved
from tests.benchmarks.granule import Granule
from tests.benchmarks.results import Result
from tests.benchmarks.server import Server


@dataclass
class Bench:
    """One run of the benchmark.

    Attributes:
        folder: where inputs are kept between runs.
        full: measure P10 with 255 million values instead of 28.
    """

    folder: Path
    full: bool = False
    _began: float = field(default_factory=time.monotonic)
    _indices: dict[Grid, SpanIndex] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Tell the user where we are."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        print(f"[{minutes:3d}:{seconds:02d}] {text}", flush=True)

    @cached_property
    def wkb(self) -> list[bytes]:
        """The 40,000 parcels in the granule's CRS."""
        return parcels.load(self.folder, self.say)

    @cached_property
    def granule(self) -> Granule:
        """The full-size granule."""
        return granule.load(self.folder, parcels.key(), self.wkb, self.say)

    @cached_property
    def server(self) -> Server:
        """The private PostgreSQL cluster."""
        self.say("starting the private PostgreSQL cluster")
        return Server(self.folder / "cluster")

    @property
    def pids(self) -> NDArray[np.int32]:
        """Keys of the parcels, 1 to n."""
        return np.arange(1, len(self.wkb) + 1, dtype=np.int32)

    def index_of(self, grid: Grid) -> SpanIndex:
        """The parcels' spans on a grid's lattice."""
        if grid not in self._indices:
            self._indices[grid] = spans.build([(self.pids, self.wkb)], grid.lattice)
        return self._indices[grid]

    def plan(self, grid: Grid, block_shape_px: tuple[int, int]) -> ReadPlan:
        """What the parcels need of a raster."""
        return spans.plan_reads(self.index_of(grid), grid, block_shape_px)

    def sources(self, coding: str) -> dict[str, BandSource]:
        """The granule's bands as the catalogue names them: coding is jp2 or cog."""
        files = {"jp2": self.granule.jp2, "cog": self.granule.cog}[coding]
        return {band: BandSource(str(path), nodata=0.0) for band, path in files.items()}

    def turns(self, ways: dict[str, Way], rounds: int, *, server: bool = False) -> dict[str, Cost]:
        """Interleaved rounds, reported as they go; server counts PostgreSQL's work too."""
        postmaster = self.server.postmaster if server else None
        return interleaved(ways, rounds, postmaster, self.say)

    def close(self) -> None:
        """Stop what was started."""
        if "server" in self.__dict__:
            self.server.stop()


@dataclass(frozen=True)
class Part:
    """Goals that are measured together.

    Attributes:
        goals: P1 to P12.
        run: measures the wanted ones of them.
    """

    goals: frozenset[str]
    run: Callable[[Bench, frozenset[str]], Iterator[Result]]
