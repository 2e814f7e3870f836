"""Where points of the ground appear in an image: line from zero Doppler, pixel from range."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from standalone.synthetic.radar.orbit import FlownOrbit, incidence, zero_doppler
from standalone.synthetic.radar.projection import Floats, Ints
from standalone.synthetic.radar.terrain import Level

LINEAR = "linear"
NEAREST = "nearest"

_STEP_M = 20.0
_MARGIN_S = 2.0
_AHEAD_M = 500.0
_CHUNK = 2500  # so that products of small matrices stay on the core that calls them
_JITTER = 0.5


class RangeAxis(Protocol):
    """How slant range becomes a pixel."""

    def pixel(self, slant_m: Floats, t_s: Floats) -> Floats:
        """Fractional pixel of slant ranges, (n,), at times."""


AxisT_co = TypeVar("AxisT_co", bound=RangeAxis, covariant=True)


@dataclass(frozen=True, eq=False)
class GroundRange:
    """Ground range on a sphere, in closed form.

    Between updates the sphere and the satellite's distance from its centre change linearly, or
    hold until half-way to the next update (the rule of nearest neighbours).

    Attributes:
        update_s: (k,) times of the annotated updates.
        radius_m: (k,) the sphere's radius at each.
        distance_m: (k,) of the satellite from the sphere's centre at each.
        near_m: slant range of pixel 0.
        spacing_m: pixel spacing on the ground.
        rule: LINEAR or NEAREST.
    """

    update_s: Floats
    radius_m: Floats
    distance_m: Floats
    near_m: float
    spacing_m: float
    rule: str = LINEAR

    def pixel(self, slant_m: Floats, t_s: Floats) -> Floats:
        """Fractional pixel of slant ranges, (n,), at times."""
        radius, distance = self._sphere(t_s)
        near = _angle(self.near_m, radius, distance)
        return np.asarray(radius * (_angle(slant_m, radius, distance) - near) / self.spacing_m)

    def slant(self, pixel: Floats, t_s: Floats) -> Floats:
        """Slant ranges, metres, of fractional pixels at times."""
        radius, distance = self._sphere(t_s)
        angle = pixel * self.spacing_m / radius + _angle(self.near_m, radius, distance)
        return np.sqrt(radius**2 + distance**2 - 2 * radius * distance * np.cos(angle))

    def slope(self, pixel: Floats, t_s: Floats) -> Floats:
        """Metres of slant range per metre of ground range at pixels and times."""
        radius, distance = self._sphere(t_s)
        angle = pixel * self.spacing_m / radius + _angle(self.near_m, radius, distance)
        return np.asarray(distance * np.sin(angle) / self.slant(pixel, t_s))

    def at_update(self, number: int) -> "GroundRange":
        """The conversion of one update alone."""
        one = slice(number, number + 1)
        return replace(
            self,
            update_s=self.update_s[one],
            radius_m=self.radius_m[one],
            distance_m=self.distance_m[one],
        )

    def _sphere(self, t_s: Floats) -> tuple[Floats, Floats]:
        if self.rule == NEAREST:
            middles = (self.update_s[1:] + self.update_s[:-1]) / 2
            at = np.searchsorted(middles, t_s)
            return self.radius_m[at], self.distance_m[at]
        radius = np.interp(t_s, self.update_s, self.radius_m)
        return radius, np.interp(t_s, self.update_s, self.distance_m)


@dataclass(frozen=True)
class SlantRange:
    """Equidistant samples of slant range.

    Attributes:
        near_m: slant range of sample 0.
        spacing_m: of the samples.
    """

    near_m: float
    spacing_m: float

    def pixel(self, slant_m: Floats, t_s: Floats) -> Floats:  # noqa: ARG002 - the axis never moves
        """Fractional sample of slant ranges, (n,)."""
        return (slant_m - self.near_m) / self.spacing_m


@dataclass(frozen=True, eq=False)
class Raster(Generic[AxisT_co]):
    """An image's lines and pixels.

    Attributes:
        orbit: of the satellite.
        first_s: zero-Doppler time of line 0, seconds of the orbit.
        line_s: time from line to line.
        axis: from slant range to pixel.
        lines: height.
        samples: width.
    """

    orbit: FlownOrbit
    first_s: float
    line_s: float
    axis: AxisT_co
    lines: int
    samples: int

    @property
    def last_s(self) -> float:
        """Time of the last line."""
        return self.first_s + (self.lines - 1) * self.line_s

    def time(self, line: Floats | Ints) -> Floats:
        """Zero-Doppler times of fractional lines."""
        return np.asarray(self.first_s + line * self.line_s)

    def locate(self, points: Floats) -> tuple[Floats, Floats]:
        """Fractional (line, pixel) of Earth-centred points, (n,) each."""
        line, pixel, _ = self.view(points)
        return line, pixel

    def view(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Line and pixel, (n,) each, and unit vectors to the satellite, (n, 3)."""
        line, slant, ray = self.rays(points)
        return line, self.axis.pixel(slant, self.time(line)), ray

    def rays(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Line and slant range, (n,) each, and unit vectors to the satellite, (n, 3)."""
        t = zero_doppler(self.orbit, points, (self.first_s + self.last_s) / 2)
        ray = self.orbit.state(t, 0)[0] - points
        slant = np.sqrt(np.einsum("ij,ij->i", ray, ray))
        return (t - self.first_s) / self.line_s, slant, ray / slant[:, None]

    def short(self) -> "Raster[AxisT_co]":
        """The same raster on a piece of the orbit that is quicker to evaluate."""
        orbit = self.orbit.cut(self.first_s - _MARGIN_S, self.last_s + _MARGIN_S)
        return replace(self, orbit=orbit)


@dataclass(frozen=True)
class GridPoint:
    """A point of the geolocation grid.

    Attributes:
        line: of the image.
        pixel: of the image.
        t_s: zero-Doppler time, seconds of the orbit.
        slant_m: slant range.
        lat_deg: latitude of the ground there.
        lon_deg: its longitude.
        height_m: height above the ellipsoid the two are reckoned at.
        incidence_deg: on the ellipsoid.
        elevation_deg: angle at the satellite between the ray and the Earth's centre.
    """

    line: int
    pixel: int
    t_s: float
    slant_m: float
    lat_deg: float
    lon_deg: float
    height_m: float
    incidence_deg: float
    elevation_deg: float


def ground_speed(orbit: FlownOrbit, point: Floats) -> float:
    """How fast zero Doppler moves over the ground at a point, (1, 3), metres per second."""
    velocity = orbit.state(np.zeros(1))[1]
    ahead = velocity[0] / np.linalg.norm(velocity) * _AHEAD_M
    passed = zero_doppler(orbit, np.concatenate([point - ahead, point + ahead]))
    return float(2 * _AHEAD_M / (passed[1] - passed[0]))


def map_steps(raster: Raster[RangeAxis], level: Level, east_m: Floats, north_m: Floats) -> Floats:
    """How (east, north) changes per line and pixel on a level, (n, 2, 2) metres.

    Args:
        raster: the image.
        level: the ground without its relief.
        east_m: (n,) eastings.
        north_m: (n,) northings.
    """
    steps = []
    for e, n in ((_STEP_M, 0.0), (0.0, _STEP_M)):
        after = raster.locate(level.points(east_m + e, north_m + n)[0])
        before = raster.locate(level.points(east_m - e, north_m - n)[0])
        steps.append([(a - b) / (2 * _STEP_M) for a, b in zip(after, before, strict=True)])
    by_place = np.moveaxis(np.array(steps), -1, 0)  # n, (east, north), (line, pixel)
    return np.linalg.inv(np.swapaxes(by_place, 1, 2))


def place(
    raster: Raster[RangeAxis], level: Level, line: Floats, pixel: Floats
) -> tuple[Floats, Floats]:
    """Where on the map image positions lie on a level, metres, (n,) each."""
    site = level.site
    east, north = np.full(len(line), site.east_m), np.full(len(line), site.north_m)
    for _ in range(8):
        at = raster.locate(level.points(east, north)[0])
        off = np.stack([line - at[0], pixel - at[1]], axis=-1)
        if np.abs(off).max() < 1e-6:
            break
        move = np.einsum("nij,nj->ni", map_steps(raster, level, east, north), off)
        east, north = east + move[:, 0], north + move[:, 1]
    return east, north


def jittered_cells(
    raster: Raster[RangeAxis],
    level: Level,
    middle: tuple[float, float],
    half: tuple[float, float],
    step: float,
    rng: np.random.Generator,
) -> Iterator[tuple[Floats, Floats, float]]:
    """The ground of an image in cells with a place in each, by chunks.

    The cells are parallelograms along lines and pixels as they run in the middle of the image.

    Args:
        raster: the image.
        level: the ground without its relief.
        middle: line and pixel of the middle.
        half: how many lines and pixels the cells reach from the middle.
        step: side of a cell, in lines and pixels.
        rng: source of the jitter, which is half a cell.

    Yields:
        Eastings, northings, and the area of each cell on the map, m2.
    """
    east, north = place(raster, level, *(np.array([m]) for m in middle))
    per_line, per_pixel = map_steps(raster, level, east, north)[0].T
    area = abs(per_line[0] * per_pixel[1] - per_line[1] * per_pixel[0]) * step**2
    rows, cols = (int(2 * h / step) for h in half)
    deep = max(1, _CHUNK // cols)
    for top in range(0, rows, deep):
        shape = (min(deep, rows - top), cols)
        i, j = np.mgrid[top : top + shape[0], :cols] + (1 - _JITTER) / 2
        down = (i + _JITTER * rng.random(shape)).ravel() * step - half[0]
        across = (j + _JITTER * rng.random(shape)).ravel() * step - half[1]
        yield (
            east + down * per_line[0] + across * per_pixel[0],
            north + down * per_line[1] + across * per_pixel[1],
            float(area),
        )


def geolocation_grid(
    raster: Raster[RangeAxis], level: Level, lines: list[int], pixels: list[int]
) -> list[GridPoint]:
    """Ground positions on a coarse grid of an image, at one height as from a coarse DEM."""
    line, pixel = (a.ravel().astype(np.float64) for a in np.meshgrid(lines, pixels, indexing="ij"))
    east, north = place(raster, level, line, pixel)
    points, up = level.points(east, north)
    _, slant, _ = raster.rays(points)
    satellite = raster.orbit.state(raster.time(line), 0)[0]
    view = np.degrees(incidence(points, satellite, up))
    down = -satellite / np.linalg.norm(satellite, axis=1, keepdims=True)
    elevation = np.degrees(incidence(satellite, points, down))
    lat, lon = (np.degrees(a) for a in level.site.zone.to_geographic(east, north))
    columns = np.stack([line, pixel, raster.time(line), slant, lat, lon, view, elevation], axis=1)
    return [
        GridPoint(round(y), round(x), t, r, phi, lam, level.height_m, seen, off_nadir)
        for y, x, t, r, phi, lam, seen, off_nadir in columns.tolist()
    ]


def spread(last: int, count: int) -> list[int]:
    """Up to `count` steps of whole numbers from 0 to `last`, both included."""
    step = max(1, -(-last // count))
    return sorted({*range(0, last, step), last})


def _angle(slant_m: Floats | float, radius: Floats, distance: Floats) -> Floats:
    """Angle at the sphere's centre between satellite and ground, radians."""
    cosine = (radius**2 + distance**2 - np.square(slant_m)) / (2 * radius * distance)
    return np.asarray(np.arccos(cosine))
