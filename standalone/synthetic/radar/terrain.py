"""The ground as an analytic surface: heights, and small facets with their true areas."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev

from standalone.synthetic.radar.projection import Floats, UtmZone, normal, to_ecef

Field = float | Callable[[Floats, Floats], Floats]
"""A constant, or a function of (eastings, northings) in metres of the site's zone."""

_FACET_M = 0.02
_DEGREE = 4
_CHECK_M = 1e-4


@dataclass(frozen=True)
class Wave:
    """A sine across the map.

    Attributes:
        amplitude_m: half the height between crest and trough.
        length_m: from crest to crest.
        heading_deg: where it runs, clockwise from north.
        phase_deg: at the zone's origin.
    """

    amplitude_m: float
    length_m: float
    heading_deg: float
    phase_deg: float


@dataclass(frozen=True)
class AnalyticTerrain:
    """Heights above the ellipsoid: a base and waves on it.

    Attributes:
        base_m: mean height.
        waves: none is flat.
    """

    base_m: float = 300.0
    waves: tuple[Wave, ...] = ()

    def height(self, east_m: Floats, north_m: Floats) -> Floats:
        """Height above the ellipsoid, metres, at places on the map."""
        total = np.full(np.shape(east_m), self.base_m)
        for wave in self.waves:
            heading, turn = np.radians(wave.heading_deg), 2 * np.pi / wave.length_m
            along = (turn * np.sin(heading)) * east_m + (turn * np.cos(heading)) * north_m
            total += wave.amplitude_m * np.sin(along + np.radians(wave.phase_deg))
        return np.asarray(total)

    @property
    def relief_m(self) -> float:
        """No place is farther than this above or below the base."""
        return sum(wave.amplitude_m for wave in self.waves)


def hills(seed: int = 1, base_m: float = 450.0) -> AnalyticTerrain:
    """Terrain with slopes up to 30 degrees."""
    return _waves(seed, base_m, ((120, 3100), (54, 1300), (19, 620), (4.5, 260)))


def mountains(seed: int = 1, base_m: float = 1400.0) -> AnalyticTerrain:
    """Terrain with slopes beyond 60 degrees, so with layover and shadow."""
    return _waves(seed, base_m, ((420, 3600), (200, 1500), (78, 640), (15, 240)))


@dataclass(frozen=True)
class Site:
    """The middle of what is imaged.

    Attributes:
        epsg: a UTM zone; the site may lie beyond the zone's edge.
        east_m: easting.
        north_m: northing.
    """

    epsg: int
    east_m: float
    north_m: float

    @property
    def zone(self) -> UtmZone:
        """The zone of the map."""
        return UtmZone.of_epsg(self.epsg)

    def geographic(self) -> tuple[float, float]:
        """Latitude and longitude, radians."""
        lat, lon = self.zone.to_geographic(np.array([self.east_m]), np.array([self.north_m]))
        return float(lat[0]), float(lon[0])


@dataclass(frozen=True)
class Level:
    """The ground around a site without its relief.

    Attributes:
        site: middle of the area.
        height_m: above the ellipsoid, everywhere.
    """

    site: Site
    height_m: float

    def points(self, east_m: Floats, north_m: Floats) -> tuple[Floats, Floats]:
        """Points on the level and normals of the ellipsoid below them, (n, 3) each."""
        place = self.site.zone.to_geographic(east_m, north_m)
        return to_ecef(*place, self.height_m), normal(*place)

    def middle(self) -> Floats:
        """The site's point on the level, (1, 3)."""
        return self.points(np.array([self.site.east_m]), np.array([self.site.north_m]))[0]


class Surface:
    """Points and facets of a terrain, Earth-centred.

    Within the reach, points of the ellipsoid and its normals are polynomials of the map's
    coordinates, fitted to Krueger's series and checked against it to 0.1 mm.
    """

    def __init__(self, site: Site, terrain: AnalyticTerrain, reach_m: float) -> None:
        """Fit the polynomials.

        Args:
            site: middle of the area.
            terrain: heights.
            reach_m: half the side of the square of the places.

        Raises:
            ValueError: the area is too large for the polynomials.
        """
        self.site, self.terrain, self.reach_m = site, terrain, reach_m
        at = chebyshev.chebpts1(2 * _DEGREE)
        x, y = (a.ravel() for a in np.meshgrid(at, at))
        self._series, *_ = np.linalg.lstsq(_basis(x, y), self._exact(x, y), rcond=None)
        edge = np.array([-1.0, -1.0, 1.0, 1.0, 0.4]), np.array([-1.0, 1.0, -1.0, 1.0, -0.7])
        worst = np.abs(self._exact(*edge) - _basis(*edge) @ self._series)[:, :3].max()
        if worst > _CHECK_M:
            raise ValueError(f"an area of {2 * reach_m:.0f} m is too large: {worst:.1e} m off")

    def points(self, east_m: Floats, north_m: Floats) -> tuple[Floats, Floats]:
        """Points on the ground and normals of the ellipsoid below them, (n, 3) each."""
        x = (east_m - self.site.east_m) / self.reach_m
        y = (north_m - self.site.north_m) / self.reach_m
        both = _basis(x, y) @ self._series
        up = both[:, 3:]
        return both[:, :3] + up * self.terrain.height(east_m, north_m)[:, None], up

    def facets(self, east_m: Floats, north_m: Floats, cell_m2: float) -> tuple[Floats, Floats]:
        """The ground of map cells around places.

        Each place is replaced by a small triangle on the surface, so that the cross product of
        two of its sides is along the normal of the ground.

        Args:
            east_m: (n,) eastings.
            north_m: (n,) northings.
            cell_m2: area of each cell on the map.

        Returns:
            Centres (n, 3), and area vectors (n, 3): along the upward normal of the ground, as
            long as the true area in m2.
        """
        corners = []
        for k in range(3):
            east = east_m + _FACET_M * np.sin(2 * np.pi * k / 3)
            north = north_m + _FACET_M * np.cos(2 * np.pi * k / 3)
            corners.append(self.points(east, north)[0])
        first, second, third = corners
        scale = cell_m2 / (1.5 * np.sqrt(3) * _FACET_M**2)
        # Clockwise on the map, so third x second points upwards.
        return (first + second + third) / 3, scale * _cross(third - first, second - first)

    def _exact(self, x: Floats, y: Floats) -> Floats:
        east, north = self.site.east_m + self.reach_m * x, self.site.north_m + self.reach_m * y
        return np.hstack(Level(self.site, 0.0).points(east, north))


def evaluate(field: Field, east_m: Floats, north_m: Floats) -> Floats:
    """Values of a field at places."""
    if callable(field):
        return np.asarray(field(east_m, north_m), dtype=np.float64)
    return np.full(np.shape(east_m), float(field))


def _waves(seed: int, base_m: float, sizes: tuple[tuple[float, float], ...]) -> AnalyticTerrain:
    """Two crossing waves of each size."""
    rng = np.random.default_rng([seed, 0x7E44])
    waves = []
    for amplitude, length in sizes:
        heading = rng.uniform(0, 180)
        for turn in (0, rng.uniform(60, 120)):
            stretch = rng.uniform(0.9, 1.1)
            waves.append(Wave(amplitude / 2, length * stretch, heading + turn, rng.uniform(0, 360)))
    return AnalyticTerrain(base_m, tuple(waves))


def _basis(x: Floats, y: Floats) -> Floats:
    """Products of powers of x and y up to a total degree, (n, terms)."""
    columns = [np.ones_like(x)]
    powers = [columns]
    for _ in range(_DEGREE):
        last = powers[-1]
        powers.append([*(p * x for p in last), last[-1] * y])
    return np.stack([column for row in powers for column in row], axis=1)


def _cross(a: Floats, b: Floats) -> Floats:
    """Cross products of (n, 3) vectors; several times as fast as numpy.cross."""
    out = np.empty_like(a)
    for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
        out[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return out
