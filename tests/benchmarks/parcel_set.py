"""The parcel set of the benchmarks, as dense as a real granule's, and figures that describe one."""

import numpy as np
import shapely
from numpy.typing import NDArray

from standalone.synthetic.parcels import (
    EPSG,
    SMALL_HA,
    TILE_PX,
    TILES,
    Parcels,
    make_parcels,
    paint,
)
from store.grid import Grid

_PER_TILE = 40_000
_PER_PLACE = 1000


def benchmark_set(seed: int, count: int = _PER_TILE) -> Parcels:
    """Parcels of a sparse, clustered granule: a fair, slightly heavy one of the Netherlands.

    Tile 32TMT holds 40 000 of them; fewer take a corner of it, as densely.
    """
    bounds = benchmark_grid(count).bounds_m
    return make_parcels(bounds, count, max(1, round(count / _PER_PLACE)), seed)


def benchmark_grid(count: int = _PER_TILE) -> Grid:
    """The 10 m grid that `benchmark_set` fills: for 40 000 parcels the whole tile."""
    side_px = round(TILE_PX * (count / _PER_TILE) ** 0.5)
    return Grid(EPSG, 10, *TILES["32TMT"], side_px, side_px)


def summary(parcels: Parcels, grid: Grid) -> dict[str, float]:
    """Figures that describe a parcel set on a grid.

    Pixels follow the centre rule; where parcels overlap a pixel counts once.

    Args:
        parcels: the set, in the grid's CRS.
        grid: raster that the pixels and cells belong to.

    Returns:
        parcels, mean_ha, median_ha, share_below_0.3_ha, vertices_mean, pixels, pixels_mean,
        pixels_median, and for 1024, 256 and 64 pixels the share of square cells with a parcel.
    """
    area_ha = shapely.area(parcels.geometry) / 1e4
    label = paint(parcels, grid)
    pixels = np.bincount(label.ravel(), minlength=len(parcels) + 1)[:-1]
    vertices = shapely.get_num_coordinates(parcels.geometry)
    figures = {
        "parcels": len(parcels),
        "mean_ha": area_ha.mean(),
        "median_ha": np.median(area_ha),
        "share_below_0.3_ha": (area_ha < SMALL_HA).mean(),
        "vertices_mean": vertices.mean() - 1,
        "pixels": pixels.sum(),
        "pixels_mean": pixels.mean(),
        "pixels_median": np.median(pixels),
    }
    covered = label < len(parcels)
    for cell in (1024, 256, 64):
        figures[f"cells_{cell}_touched"] = _touched(covered, cell)
    return {name: float(value) for name, value in figures.items()}


def _touched(covered: NDArray[np.bool_], cell_px: int) -> float:
    """Share of the square cells of a raster in which any pixel is covered."""
    rows, cols = (range(0, length, cell_px) for length in covered.shape)
    by_row = np.logical_or.reduceat(covered, rows, axis=0)
    return float(np.logical_or.reduceat(by_row, cols, axis=1).mean())
