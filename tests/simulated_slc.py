"""Simulated SLC pairs for tests and benchmarks of CARD-COH, and what theory expects of them.

Neither card.make nor the simulator may import the other (see `make lint`); they meet here.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from math import exp, lgamma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from card.make import burst_kernels, coherence
from card.make.annotation import FrequencyBand
from card.make.coherence import CoherencePlan
from card.make.engine import CoherenceJob
from standalone.synthetic.radar.annotation import RANGE_RATE_HZ
from standalone.synthetic.radar.dem import ELLIPSOID, SyntheticDem, write_dem
from standalone.synthetic.radar.orbit import Pass
from standalone.synthetic.radar.slc import LINE_S, PairTruth, SlcPair, write_slc_pair
from standalone.synthetic.radar.terrain import Site, hills
from tests.stripes import Stripes

Values = NDArray[np.float32]

SITE = Site(32632, 458_000.0, 5_245_000.0)
LEVELS = (0.2, 0.4, 0.6, 0.8, 0.95)
STRIPE_M = 1000.0
HIGH = 0.95
_EDGE_M = 150.0
"""Windows on the border of two stripes see both."""

PAIR = SlcPair(
    SITE,
    Pass(datetime(2024, 5, 1, 5, 34, tzinfo=UTC)),
    hills(2),
    coherence={"VV": Stripes(SITE.east_m - 2500.0, STRIPE_M, LEVELS), "VH": HIGH},
    lines=240,
    samples=900,
    doppler_hz=2000.0,
)
"""Two bursts over hills, with the Doppler of a burst's edge."""


@dataclass(frozen=True)
class SimulatedPair:
    """A pair of products and the terrain to process it with.

    Attributes:
        truth: the simulator's.
        earlier: folder of the first pass.
        later: of the second.
        dem: terrain model, heights above the ellipsoid.
    """

    truth: PairTruth
    earlier: Path
    later: Path
    dem: Path

    def job(self, into: Path, **facts: object) -> CoherenceJob:
        """CARD-COH of it."""
        job = CoherenceJob(self.later, (self.earlier,), self.dem, into, ELLIPSOID)
        return replace(job, **facts)


def simulate(folder: Path, pair: SlcPair = PAIR, side_m: float = 20_000.0) -> SimulatedPair:
    """Write a pair and a terrain model of 30 m into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = write_slc_pair(folder, pair)
    dem = folder / "dem.tif"
    write_dem(dem, SyntheticDem(pair.site, pair.terrain, side_m, 30.0))
    return SimulatedPair(truth, *truth.homes, dem)


def mosaic(plan: CoherencePlan, scratch: Path) -> Values:
    """All tiles of a plan, float32[bands, rows, columns]."""
    shape = len(plan.passes.bands), plan.grid.height_px, plan.grid.width_px
    values = np.full(shape, np.nan, np.float32)
    for made in coherence.make_tiles(plan, scratch):
        tile = made.tile
        values[:, tile.row0 : tile.row1, tile.col0 : tile.col1] = made.values
    return values


def stripe_means(plan: CoherencePlan, values: Values) -> dict[float, float]:
    """Mean of a band's values by the coherence that its stripes have."""
    grid = plan.grid
    east = grid.west_m + grid.res_m * (np.arange(grid.width_px) + 0.5)
    along = (east - (SITE.east_m - 2500.0)) % STRIPE_M
    inner = (along > _EDGE_M) & (along < STRIPE_M - _EDGE_M)
    known = Stripes(SITE.east_m - 2500.0, STRIPE_M, LEVELS)(east, east)
    parts = {level: values[:, inner & (known == level)] for level in LEVELS}
    return {level: float(np.nanmean(part)) for level, part in parts.items()}


@cache
def looks() -> float:
    """Independent looks of a window in the simulator's bands."""
    azimuth = FrequencyBand(327.0, 0.70).looks(burst_kernels.WINDOW_LINES, 1 / LINE_S)
    across = FrequencyBand(56.5e6, 0.75).looks(burst_kernels.WINDOW_SAMPLES, RANGE_RATE_HZ)
    return azimuth * across


def expected(level: float, number: float | None = None) -> float:
    """Mean of the coherence's estimator: Touzi 1999 (IEEE TGRS 37, 135), equation 22.

    Args:
        level: the true coherence, below 1.
        number: independent looks; those of `looks` if not given.
    """
    n = looks() if number is None else number
    term, total = 1.0, 0.0
    for k in range(20_000):
        total += term
        term *= (1.5 + k) * (n + k) ** 2 / ((n + 0.5 + k) * (1 + k) ** 2) * level**2
        if term < 1e-12 * total:
            break
    scale = exp(lgamma(n) + lgamma(1.5) - lgamma(n + 0.5))
    return scale * total * (1 - level**2) ** n
