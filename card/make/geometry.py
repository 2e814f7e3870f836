"""Range and Doppler geometry: from places on the Earth to lines and pixels of a radar image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from card.make.annotation import SPEED_OF_LIGHT_M_S, Annotation, RangeConversions
from card.make.orbit import Orbit
from store.errors import SceneError

Floats = npt.NDArray[np.float64]

_SEMI_MAJOR_M, _FLATTENING = 6378137.0, 1 / 298.257223563
_ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)
_ITERATIONS = 12
_REACH = 1.5
_TIME_TOLERANCE_S = 1e-9
_RANGE_TOLERANCE_M = 1e-6
_INVERSE_DEGREE = 5


def to_earth_fixed(lon_deg: Floats, lat_deg: Floats, height_m: Floats) -> Floats:
    """Earth-fixed coordinates[..., 3] in metres of places on WGS 84, heights ellipsoidal."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    normal_m = _SEMI_MAJOR_M / np.sqrt(1 - _ECCENTRICITY2 * np.sin(lat) ** 2)
    across = (normal_m + height_m) * np.cos(lat)
    up = (normal_m * (1 - _ECCENTRICITY2) + height_m) * np.sin(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), up], axis=-1)


def normals(lon_deg: Floats, lat_deg: Floats) -> Floats:
    """Unit normals[..., 3] of the ellipsoid."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def zero_doppler_s(orbit: Orbit, places_m: Floats) -> Floats:
    """Times[...] at which the satellite passes places[..., 3] abeam, by Newton's method.

    f(t) = (P - S).V, f' = (P - S).A - V.V. A place that is passed long before or after the orbit's
    vectors gets a time half as far outside them as they reach, which no product has.

    Raises:
        SceneError: Newton's method does not settle: the orbit is broken.
    """
    reach = _REACH * orbit.half_s
    t_s = np.full(places_m.shape[:-1], orbit.middle_s)
    for _ in range(_ITERATIONS):
        apart = places_m - orbit.position_m(t_s)
        velocity = orbit.velocity_m_s(t_s)
        slope = dot(apart, orbit.acceleration_m_s2(t_s)) - dot(velocity, velocity)
        better = t_s - dot(apart, velocity) / slope
        better = np.clip(better, orbit.middle_s - reach, orbit.middle_s + reach)
        change = np.abs(better - t_s)
        t_s = better
        if change.max(initial=0) < _TIME_TOLERANCE_S:
            return t_s
    raise SceneError(f"orbit ({orbit.source}): no time at which it passes the scene abeam")


def look(orbit: Orbit, places_m: Floats) -> tuple[Floats, Floats, Floats]:
    """How the radar sees places[..., 3].

    Returns:
        (times[...] of zero Doppler in s, slant ranges[...] in m, unit vectors[..., 3] from the
        places to the satellite).
    """
    t_s = zero_doppler_s(orbit, places_m)
    apart = orbit.position_m(t_s) - places_m
    slant_m = np.sqrt(dot(apart, apart))
    return t_s, slant_m, apart / slant_m[..., None]


@dataclass(frozen=True)
class PixelConversions:
    """Polynomials from slant range to pixels on an interval of it, and when they were updated.

    Between updates the pixels of two are mixed linearly, as SNAP mixes their coefficients.

    Attributes:
        lines: float64[n], lines at which they were updated.
        middle_m: slant range at which their argument is 0.
        half_m: the argument is (slant range - middle_m) / half_m.
        coefficients_px: float64[n, 6], lowest power first.
        nearest: take the nearest update and mix none.
    """

    lines: Floats
    middle_m: float
    half_m: float
    coefficients_px: Floats
    nearest: bool = False

    def pixels(self, lines: Floats, slant_m: Floats) -> Floats:
        """Pixels[...] at lines[...] and slant ranges[...]."""
        x = (slant_m - self.middle_m) / self.half_m
        index, following, weight = _between(self.lines, lines, self.nearest)
        first, second = (self._polynomial(k, x) for k in (index, following))
        return first + weight * (second - first)

    def _polynomial(self, index: npt.NDArray[np.int64], x: Floats) -> Floats:
        value = np.zeros_like(x)
        for power in range(_INVERSE_DEGREE, -1, -1):
            value = value * x + self.coefficients_px[index, power]
        return value


def pixel_conversions(
    annotation: Annotation, low_m: float, high_m: float,
    lines: tuple[float, float] = (-np.inf, np.inf), *, nearest: bool = False,
) -> PixelConversions:  # fmt: skip
    """Conversions on an interval of slant range, exact to 1e-5 pixel over 30 km.

    A GRD's are grsrCoefficients inverted, never srgrCoefficients: on the geolocation grids of real
    products of 2015 those are up to 4 pixels wrong.

    Args:
        annotation: of a GRD or an SLC.
        low_m: start of the interval.
        high_m: its end.
        lines: first and last line that they are for; without, all updates are converted.
        nearest: as in PixelConversions.
    """
    middle, half = (low_m + high_m) / 2, max((high_m - low_m) / 2, 1.0)
    nodes = np.cos(np.pi * (np.arange(_INVERSE_DEGREE + 1) + 0.5) / (_INVERSE_DEGREE + 1))
    slant_m = middle + half * nodes
    if annotation.conversions is None:
        near_m = annotation.near_slant_time_s * SPEED_OF_LIGHT_M_S / 2
        updates, pixels = np.zeros(1), (slant_m[None] - near_m) / annotation.range_spacing_m
    else:
        conversions = _during(annotation.conversions, annotation.line_interval_s, lines)
        updates = conversions.t_s / annotation.line_interval_s
        pixels = ground_range_m(conversions, slant_m) / annotation.range_spacing_m
    powers = np.vander(nodes, _INVERSE_DEGREE + 1, increasing=True)
    coefficients = np.linalg.solve(powers, pixels.T).T
    return PixelConversions(updates, middle, half, coefficients, nearest)


def _during(
    conversions: RangeConversions, line_interval_s: float, lines: tuple[float, float]
) -> RangeConversions:
    """The updates on which lines depend: those between them, and one on each side."""
    first, last = (line * line_interval_s for line in lines)
    start = max(int(np.searchsorted(conversions.t_s, first, "right")) - 1, 0)
    stop = int(np.searchsorted(conversions.t_s, last, "left")) + 1
    start = min(start, max(conversions.t_s.size - 2, 0))
    part = slice(start, max(stop, start + 2))
    return RangeConversions(
        conversions.t_s[part], conversions.ground0_m[part], conversions.coefficients_m[part]
    )


def ground_range_m(conversions: RangeConversions, slant_m: Floats) -> Floats:
    """Ground ranges[n, ...] of slant ranges[...] by each of n updates: grsr inverted by Newton.

    Raises:
        SceneError: a polynomial has no inverse there.
    """
    ground = np.empty((conversions.t_s.size, *slant_m.shape))
    for k, coefficients in enumerate(conversions.coefficients_m):
        slopes = np.polynomial.polynomial.polyder(coefficients)
        x = np.full(slant_m.shape, 125e3)  # mid-swath of IW
        for _ in range(2 * _ITERATIONS):
            missing = np.polynomial.polynomial.polyval(x, coefficients) - slant_m
            step = missing / np.polynomial.polynomial.polyval(x, slopes)
            x = x - np.clip(step, -50e3, 50e3)
            if np.abs(missing).max(initial=0) < _RANGE_TOLERANCE_M:
                break
        else:
            raise SceneError("ground range conversion: slant range has no ground range")
        ground[k] = x + conversions.ground0_m[k]
    return ground


def slant_spacing_m(annotation: Annotation, line: float, pixels: Floats) -> Floats:
    """Slant range per ground pixel[...] at pixels[...] of a GRD's line, in metres."""
    conversions = annotation.conversions
    if conversions is None:
        return np.full(pixels.shape, annotation.range_spacing_m)
    index, following, weight = _between(
        conversions.t_s, np.asarray(line * annotation.line_interval_s), nearest=False
    )
    first, second = (
        np.polynomial.polynomial.polyval(
            pixels * annotation.range_spacing_m - conversions.ground0_m[k],
            np.polynomial.polynomial.polyder(conversions.coefficients_m[k]),
        )
        for k in (int(index), int(following))
    )
    return np.asarray((first + weight * (second - first)) * annotation.range_spacing_m)


def _between(
    updates: Floats, at: Floats, nearest: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """The updates before and after, and the weight of the second; the nearest beyond the ends."""
    index = np.clip(np.searchsorted(updates, at, "right") - 1, 0, max(updates.size - 2, 0))
    following = np.minimum(index + 1, updates.size - 1)
    step = np.where(following > index, updates[following] - updates[index], 1.0)
    weight = np.clip((at - updates[index]) / step, 0, 1)
    return index, following, np.round(weight) if nearest else weight


def dot(a: Floats, b: Floats) -> Floats:
    """Products of vectors[..., 3]."""
    return np.asarray(np.einsum("...i,...i->...", a, b))
