"""UTM and Earth-centred coordinates of WGS84, by Krueger's series.

Source of the series: C. F. F. Karney, Transverse Mercator with an accuracy of a few nanometers,
Journal of Geodesy 85 (2011), equations 7-15, 35 and 36, cut after the fourth order of n.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

A_M = 6378137.0
"""Semi-major axis of WGS84, metres."""

FLATTENING = 1 / 298.257223563

B_M = A_M * (1 - FLATTENING)
"""Semi-minor axis of WGS84, metres."""

_E2 = FLATTENING * (2 - FLATTENING)
_N = FLATTENING / (2 - FLATTENING)
_SCALE = 0.9996
_RADIUS_M = A_M / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_FALSE_EAST_M = 500_000.0
_FALSE_NORTH_SOUTH_M = 10_000_000.0

_POWERS = _N ** np.arange(1, 5)
_ALPHA = (
    np.array(
        [
            [1 / 2, -2 / 3, 5 / 16, 41 / 180],
            [0, 13 / 48, -3 / 5, 557 / 1440],
            [0, 0, 61 / 240, -103 / 140],
            [0, 0, 0, 49561 / 161280],
        ]
    )
    @ _POWERS
)
_BETA = (
    np.array(
        [
            [1 / 2, -2 / 3, 37 / 96, -1 / 360],
            [0, 1 / 48, 1 / 15, -437 / 1440],
            [0, 0, 17 / 480, -37 / 840],
            [0, 0, 0, 4397 / 161280],
        ]
    )
    @ _POWERS
)
_DELTA = (
    np.array(
        [
            [2, -2 / 3, -2, 116 / 45],
            [0, 7 / 3, -8 / 5, -227 / 45],
            [0, 0, 56 / 15, -136 / 35],
            [0, 0, 0, 4279 / 630],
        ]
    )
    @ _POWERS
)


@dataclass(frozen=True)
class UtmZone:
    """A UTM zone on one hemisphere.

    Attributes:
        zone: 1 .. 60.
        south: whether northings count from 10 000 km south of the equator.
    """

    zone: int
    south: bool = False

    @classmethod
    def of_epsg(cls, epsg: int) -> "UtmZone":
        """The zone of EPSG:32601-32660 (north) or 32701-32760 (south).

        Raises:
            ValueError: the code is another CRS.
        """
        zone, south = epsg % 100, epsg // 100 == 327
        if epsg // 100 not in {326, 327} or not 1 <= zone <= 60:
            raise ValueError(f"EPSG:{epsg} is no UTM zone of WGS84")
        return cls(zone, south)

    @property
    def epsg(self) -> int:
        """EPSG code of the zone."""
        return (32700 if self.south else 32600) + self.zone

    @property
    def _meridian(self) -> float:
        return float(np.radians(6 * self.zone - 183))

    @property
    def _false_north_m(self) -> float:
        return _FALSE_NORTH_SOUTH_M if self.south else 0.0

    def to_geographic(self, east_m: Floats, north_m: Floats) -> tuple[Floats, Floats]:
        """Latitude and longitude, radians, of places on the map, metres."""
        xi = (np.asarray(north_m) - self._false_north_m) / (_SCALE * _RADIUS_M)
        eta = (np.asarray(east_m) - _FALSE_EAST_M) / (_SCALE * _RADIUS_M)
        xi1, eta1 = xi, eta
        for j, beta in enumerate(_BETA, start=1):
            xi1 = xi1 - beta * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
            eta1 = eta1 - beta * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
        chi = np.arcsin(np.sin(xi1) / np.cosh(eta1))
        lat = chi + sum(d * np.sin(2 * j * chi) for j, d in enumerate(_DELTA, start=1))
        return lat, self._meridian + np.arctan2(np.sinh(eta1), np.cos(xi1))

    def from_geographic(self, lat: Floats, lon: Floats) -> tuple[Floats, Floats]:
        """Easting and northing, metres, of latitudes and longitudes, radians."""
        root = 2 * np.sqrt(_N) / (1 + _N)
        sine = np.sin(lat)
        tan_chi = np.sinh(np.arctanh(sine) - root * np.arctanh(root * sine))
        ahead = np.asarray(lon) - self._meridian
        xi1 = np.arctan2(tan_chi, np.cos(ahead))
        eta1 = np.arctanh(np.sin(ahead) / np.sqrt(1 + tan_chi**2))
        xi, eta = xi1, eta1
        for j, alpha in enumerate(_ALPHA, start=1):
            xi = xi + alpha * np.sin(2 * j * xi1) * np.cosh(2 * j * eta1)
            eta = eta + alpha * np.cos(2 * j * xi1) * np.sinh(2 * j * eta1)
        east = _FALSE_EAST_M + _SCALE * _RADIUS_M * eta
        return east, self._false_north_m + _SCALE * _RADIUS_M * xi


def normal(lat: Floats, lon: Floats) -> Floats:
    """Unit normal of the ellipsoid, (..., 3), at latitudes and longitudes in radians."""
    flat = np.cos(lat)
    return np.stack([flat * np.cos(lon), flat * np.sin(lon), np.sin(lat)], axis=-1)


def to_ecef(lat: Floats, lon: Floats, height_m: Floats | float = 0.0) -> Floats:
    """Earth-centred coordinates, (..., 3) metres, of points above the ellipsoid."""
    up = normal(lat, lon)
    curvature = A_M / np.sqrt(1 - _E2 * up[..., 2] ** 2)
    base = up * curvature[..., None]
    base[..., 2] *= 1 - _E2
    return np.asarray(base + up * np.asarray(height_m)[..., None])
