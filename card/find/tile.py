"""Where a Sentinel-2 tile lies, by its name in the military grid (MGRS)."""

import math
from functools import lru_cache

from shapely.geometry.base import BaseGeometry

from card.find.footprint import from_bounds

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_SQUARE_M = 100_000.0
_CYCLE_M = 2_000_000.0
_PIXEL_M = 60.0

TILE_M = 109_800.0
"""Width and height of a tile, metres."""


@lru_cache(maxsize=4096)
def tile_footprint(tile: str) -> BaseGeometry | None:
    """The outline of a tile such as 32TMT; None for a name outside the grid."""
    corner = tile_corner(tile)
    if corner is None:
        return None
    epsg, west_m, north_m = corner
    return from_bounds(epsg, west_m, north_m - TILE_M, west_m + TILE_M, north_m)


def tile_corner(tile: str) -> tuple[int, float, float] | None:
    """EPSG code, and the upper left corner in metres (x, y); None for a name outside the grid.

    A tile is 109.8 km wide. Its corner is that of its square of 100 km, moved outwards to whole
    pixels of 60 m (counted from the equator), as the metadata of real products show. Squares:
    "The Universal Grids", DMA TM 8358.1, chapter 3.
    """
    zone, band, column, row = int(tile[:2]), tile[2], tile[3], tile[4]
    columns = _COLUMNS[(zone - 1) % 3]
    if not 1 <= zone <= 60 or band not in _BANDS or column not in columns or row not in _ROWS:
        return None
    west_m = (columns.index(column) + 1) * _SQUARE_M
    equator_m = 0.0 if band >= "N" else 10_000_000.0
    north_m = _northing_m(zone, band, row) + _SQUARE_M - equator_m
    return (
        (32600 if band >= "N" else 32700) + zone,
        math.floor(west_m / _PIXEL_M) * _PIXEL_M,
        math.ceil(north_m / _PIXEL_M) * _PIXEL_M + equator_m,
    )


def _northing_m(zone: int, band: str, row: str) -> float:
    """Of a square's lower edge: rows repeat every 2000 km, the band of latitude tells which."""
    shift = 5 if zone % 2 == 0 else 0
    within_m = (_ROWS.index(row) - shift) % len(_ROWS) * _SQUARE_M
    latitude = _BANDS.index(band) * 8 - 80 + 4
    about_m = latitude * 111_000.0 + (0.0 if band >= "N" else 10_000_000.0)
    cycles = round((about_m - within_m - _SQUARE_M / 2) / _CYCLE_M)
    return within_m + cycles * _CYCLE_M
