"""The ground that a chip shows: a square around a point, and its pixels in a scene."""

import math
from dataclasses import dataclass
from functools import lru_cache

from pyproj import Transformer

from store.errors import SceneError
from store.grid import Grid

CELL_M = 20.0
"""Edges of chips lie on pixels of this size, so that 10 m and 20 m bands show the same ground."""

_MAX_PX = 2048
_M_PER_DEGREE = 111_320.0


@dataclass(frozen=True)
class ChipWindow:
    """A square on the ground.

    Attributes:
        lon: of its centre, degrees.
        lat: of its centre, degrees.
        size_m: length of its sides, metres.
    """

    lon: float
    lat: float
    size_m: float

    @property
    def box_degrees(self) -> tuple[float, float, float, float]:
        """(west, south, east, north), good to some metres."""
        half = self.size_m / 2 / _M_PER_DEGREE
        across = half / max(math.cos(math.radians(self.lat)), 1e-6)
        return self.lon - across, self.lat - half, self.lon + across, self.lat + half


def chip_grid(window: ChipWindow, raster: Grid, cell_m: float) -> Grid | None:
    """The window on a raster's own pixels, so that nothing is resampled.

    Args:
        window: the ground to show.
        raster: grid of the pixels' source; the chip may reach over its edges.
        cell_m: the chip's edges lie on whole multiples of this from the raster's corner.

    Returns:
        The chip's grid, or None if the window is nowhere near the raster's zone.

    Raises:
        SceneError: the raster is too fine for a window of this size.
    """
    x, y = from_degrees(raster.epsg).transform(window.lon, window.lat)
    if not (math.isfinite(x) and math.isfinite(y)):
        return None
    cells = max(1, math.floor(window.size_m / cell_m + 0.5))
    col = math.floor((x - raster.west_m) / cell_m - cells / 2 + 0.5)
    row = math.floor((raster.north_m - y) / cell_m - cells / 2 + 0.5)
    px = round(cells * cell_m / raster.res_m)
    if px > _MAX_PX:
        raise SceneError(f"{window.size_m:g} m are {px} pixels of {raster.res_m:g} m: too many")
    west, north = raster.west_m + col * cell_m, raster.north_m - row * cell_m
    return Grid(raster.epsg, raster.res_m, west, north, px, px)


@lru_cache(maxsize=128)
def from_degrees(epsg: int) -> Transformer:
    """From longitude and latitude in EPSG:4326 to a CRS."""
    return Transformer.from_crs(4326, epsg, always_xy=True)
