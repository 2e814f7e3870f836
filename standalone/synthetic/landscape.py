"""The ground as the sensors see it: what grows at each pixel, and each parcel's own calendar."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from standalone.synthetic.crops import COVERS, CROPS, SURROUNDINGS, Cover, Floats
from standalone.synthetic.parcels import Ints, Parcels, paint
from store.grid import Grid

Raster = NDArray[np.float32]

_LAG_D = 5.0
_VIGOUR = 0.05
_SURROUNDINGS_M = 900.0
_TEXTURE_M = 160.0


@dataclass(frozen=True, eq=False)
class Landscape:
    """What a sensor looks at on one grid.

    Attributes:
        grid: the raster.
        label: (height, width) which parcel (or, behind the parcels, which surrounding).
        cover: (k,) index into COVERS for each label.
        lag_d: (k,) days by which each label's plants are late.
        vigour: (k,) factor on each label's green share.
        texture: (height, width) how plants thrive within the fields, mean 0, deviation 1.
    """

    grid: Grid
    label: NDArray[np.int32]
    cover: Ints
    lag_d: Floats
    vigour: Floats
    texture: Raster

    def by_label(self, model: Callable[[Cover, Floats, Floats], Floats], day: float) -> Floats:
        """A model of `crops` (reflectance, backscatter) for every label on a day: (k, bands)."""
        parts = {
            c: model(COVERS[c], day - self.lag_d[self.cover == c], self.vigour[self.cover == c])
            for c in np.unique(self.cover)
        }
        table = np.zeros((len(self.cover), next(iter(parts.values())).shape[1]))
        for c, values in parts.items():
            table[self.cover == c] = values
        return table


def stream(seed: int, *names: str) -> np.random.Generator:
    """A random stream of its own for a named thing, whatever was drawn before."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def landscape(parcels: Parcels, grid: Grid, seed: int) -> Landscape:
    """Paint parcels and what lies between them onto a grid; by seed and shape of the grid."""
    label = paint(parcels, grid)
    between = label == len(parcels)
    field = smooth_noise(stream(seed, "surroundings"), label.shape, _SURROUNDINGS_M / grid.res_m)
    kind = np.digitize(field[between], (0.35, 1.0, 1.9))  # forest first, water least
    label[between] += kind.astype(np.int32)
    own = stream(seed, "calendars")
    k = len(parcels) + len(SURROUNDINGS)
    return Landscape(
        grid=grid,
        label=label,
        cover=np.concatenate([parcels.crop, np.arange(len(CROPS), len(COVERS))]),
        lag_d=np.clip(own.normal(0, _LAG_D, k), -3 * _LAG_D, 3 * _LAG_D),
        vigour=np.clip(own.normal(0.97, _VIGOUR, k), 0.75, 1.05),
        texture=smooth_noise(stream(seed, "texture"), label.shape, _TEXTURE_M / grid.res_m),
    )


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell_px: float, octaves: int = 4
) -> Raster:
    """Cloud-like noise of mean 0 and deviation 1: value noise whose octaves halve in size.

    Args:
        rng: source of randomness.
        shape: (rows, cols) of the result.
        cell_px: size of the largest features, pixels.
        octaves: how many sizes are summed.
    """
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        cell = max(cell_px / 2**octave, 1.0)
        nodes = rng.standard_normal([int(n / cell) + 2 for n in shape], dtype=np.float32)
        total += 0.5**octave * _stretched(_stretched(nodes, shape[0], cell).T, shape[1], cell).T
    return np.asarray((total - total.mean()) / max(float(total.std()), 1e-6))


def _stretched(nodes: Raster, length: int, cell: float) -> Raster:
    """Interpolate rows of nodes `cell` apart to `length` rows, with level ground at each node."""
    at = np.arange(length) / cell
    low = at.astype(int)
    part = at - low
    ease = (part * part * (3 - 2 * part)).astype(np.float32)[:, None]
    return np.asarray(nodes[low] * (1 - ease) + nodes[low + 1] * ease)
