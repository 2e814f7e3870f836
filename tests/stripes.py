"""Stripes of known coherence, for simulated SLC pairs."""

from dataclasses import dataclass

import numpy as np

from standalone.synthetic.radar.projection import Floats


@dataclass(frozen=True)
class Stripes:
    """A field of stripes across the map, from west to east and again.

    Attributes:
        east_m: where the first begins.
        width_m: of each.
        levels: their values, in turn.
    """

    east_m: float
    width_m: float
    levels: tuple[float, ...]

    def __call__(self, east_m: Floats, _north_m: Floats) -> Floats:
        """Values at places."""
        number = np.floor((east_m - self.east_m) / self.width_m).astype(np.int64)
        values: Floats = np.array(self.levels)[np.mod(number, len(self.levels))]
        return values
