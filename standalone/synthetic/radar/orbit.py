"""Orbits: flown through a wanted place by gravity alone, from a real state vector.

The path is integrated in the Earth-fixed frame (central mass and J2, Runge-Kutta of order 4)
and kept as Chebyshev series of time. Turning a path about the Earth's axis gives another
possible path, so that one real vector serves all longitudes.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

import numpy as np
from numpy.polynomial import chebyshev

from standalone.synthetic.radar.projection import Floats, normal, to_ecef

ASCENDING = "ASCENDING"
DESCENDING = "DESCENDING"

C_M_S = 299_792_458.0
"""Speed of light, m/s."""

STATES = {
    ASCENDING: (
        *(4.740035301898732e06, 3.455128711300934e05, 5.232755730022501e06),
        *(-5.284042059683860e03, -2.327066634483771e03, 4.927724687401929e03),
    ),
    DESCENDING: (
        *(4.657064978530000e06, 1.776448316703000e06, 5.013314106183000e06),
        *(5.549421486000000e03, 1.052541400000000e02, -5.178880713000000e03),
    ),
}
"""Real annotated vectors, Earth-fixed, m and m/s: Sentinel-1A 2015-02-22T17:07:23.055 and
Sentinel-1B 2021-12-23T05:10:21.0293 (first vectors of the IW GRDH products 004739 and 030148)."""

_GM = 3.986004418e14
_J2 = 1.08262668e-3
_EARTH_M = 6378136.3
_SPIN = 7.292115e-5
_REVOLUTION_S = 5924.0
_COARSE_S = 10.0
_FINE_S = 1.0
_DEGREE = 20
_ARRIVED_S = 1e-11
_RELATIVE_ORBIT_SHIFT = {"S1A": 73, "S1B": 27, "S1C": 172}
_ORBITS_PER_CYCLE = 175


@dataclass(frozen=True)
class Pass:
    """One overpass.

    Attributes:
        time: when the site is at zero Doppler, UTC, timezone-aware.
        direction: ASCENDING or DESCENDING.
        incidence_deg: at the site, on the ellipsoid: 31 is near, 45 is far.
        platform: S1A, S1B or S1C.
        absolute_orbit: orbits since launch; the relative orbit follows from it.
    """

    time: datetime
    direction: str = DESCENDING
    incidence_deg: float = 38.0
    platform: str = "S1A"
    absolute_orbit: int = 50174

    @property
    def relative_orbit(self) -> int:
        """1 .. 175."""
        shift = _RELATIVE_ORBIT_SHIFT[self.platform]
        return (self.absolute_orbit - shift) % _ORBITS_PER_CYCLE + 1


@dataclass(frozen=True, eq=False)
class FlownOrbit:
    """A path as Chebyshev series.

    Attributes:
        epoch: UTC at t = 0; the site of the pass is at zero Doppler then.
        span_s: first and last t of validity, seconds.
        series: (degree + 1, 3) coefficients of the position, metres, over `span_s`.
        node_s: t of the last crossing of the equator northwards.
    """

    epoch: datetime
    span_s: tuple[float, float]
    series: Floats
    node_s: float

    def state(self, t_s: Floats, order: int = 1) -> tuple[Floats, ...]:
        """Position, velocity and further derivatives, (..., 3) each: m, m/s, m/s2 ..."""
        first, last = self.span_s
        scaled = (2 * np.asarray(t_s) - first - last) / (last - first)
        basis = chebyshev.chebvander(scaled, len(self.series) - 1)
        parts, series = [], self.series
        for _ in range(order + 1):
            parts.append(np.asarray(basis[..., : len(series)] @ series))
            series = chebyshev.chebder(series) * (2 / (last - first))
        return tuple(parts)

    def cut(self, first_s: float, last_s: float, degree: int = 6) -> "FlownOrbit":
        """The same path over a few seconds, in a shorter series that is quicker to evaluate."""
        nodes = (first_s + last_s) / 2 + (last_s - first_s) / 2 * chebyshev.chebpts1(degree + 3)
        return _fit(self.epoch, nodes, self.state(nodes)[0], (first_s, last_s), degree, self.node_s)

    def utc(self, t_s: float) -> datetime:
        """UTC at t."""
        return self.epoch + timedelta(seconds=t_s)

    def turn(self, angle: float) -> "FlownOrbit":
        """The path turned eastwards about the Earth's axis, radians."""
        return replace(self, series=self.series @ _rotation(angle).T)


def fly(flight: Pass, lat: float, lon: float) -> FlownOrbit:
    """The orbit of a pass over a place.

    Args:
        flight: direction, incidence and time.
        lat: geodetic latitude of the place, radians.
        lon: its longitude, radians.

    Returns:
        An orbit valid for 150 s before and after the place is at zero Doppler (t = 0).

    Raises:
        ValueError: no such pass exists (too far north or south).
    """
    times, states = _revolution(flight.direction)
    start = _nearest_state(states, flight.direction, lat)
    local = integrate(states[start], _FINE_S, 400)
    earlier = integrate(states[start], -_FINE_S, 400)
    t = np.concatenate([-_FINE_S * np.arange(400, 0, -1), _FINE_S * np.arange(401)])
    positions = np.concatenate([earlier[:0:-1], local])[:, :3]
    path = _fit(flight.time, t, positions, (t[0], t[-1]), 2 * _DEGREE, 0.0)
    turn, passage = _aim(path, flight.incidence_deg, lat, lon)
    if abs(passage) > 240:
        raise ValueError(f"no pass at {np.degrees(lat):.1f} degrees of latitude")
    nodes = passage + 155 * chebyshev.chebpts1(2 * _DEGREE)
    node = (_equator(times, states) - times[start] - passage) % -_REVOLUTION_S
    place = path.state(nodes)[0] @ _rotation(turn).T
    return _fit(flight.time, nodes - passage, place, (-155.0, 155.0), _DEGREE, node)


def zero_doppler(orbit: FlownOrbit, points: Floats, guess_s: float = 0.0) -> Floats:
    """Times at which the satellite passes points abeam, by secants.

    Args:
        orbit: its span has to hold the times.
        points: (n, 3) Earth-centred, metres.
        guess_s: time to begin with, within a few seconds.

    Returns:
        (n,) seconds; (P - S) . V is below 1e-6 m times the speed.
    """

    def ahead_s(t: Floats) -> Floats:
        position, velocity = orbit.state(t)
        along = np.einsum("ij,ij->i", points - position, velocity)
        return np.asarray(along / np.einsum("ij,ij->i", velocity, velocity))

    t0 = np.full(len(points), guess_s)
    f0 = ahead_s(t0)
    t1 = t0 + f0
    f1 = ahead_s(t1)
    for _ in range(3):
        # What has arrived must stay: the secant of two rounding errors points anywhere.
        moved = (np.abs(f1) > _ARRIVED_S) & (f1 != f0)
        step = np.divide(f1 * (t1 - t0), f1 - f0, out=np.zeros_like(f1), where=moved)
        t0, f0, t1 = t1, f1, t1 - step
        if np.abs(step).max(initial=0) < 1e-9:
            break
        f1 = ahead_s(t1)
    return t1


def incidence(points: Floats, satellite: Floats, up: Floats) -> Floats:
    """Angle between the ray and the ellipsoid's normal, (n,) radians."""
    ray = satellite - points
    cosine = np.einsum("ij,ij->i", ray, up) / np.linalg.norm(ray, axis=1)
    return np.asarray(np.arccos(cosine))


def _aim(path: FlownOrbit, incidence_deg: float, lat: float, lon: float) -> tuple[float, float]:
    """Turn of a path, radians, that shows a place under an angle, and when it is abeam, s."""

    def view(turn: float) -> tuple[float, float]:
        place = np.array([lat]), np.array([lon - turn])
        point = to_ecef(*place)
        t = zero_doppler(path, point)
        position, velocity = path.state(t)
        side = np.einsum("ij,ij->i", np.cross(velocity, position), point - position)
        angle = np.degrees(incidence(point, position, normal(*place)))[0]
        return float(angle * np.sign(side[0])) - incidence_deg, float(t[0])

    above = path.state(np.zeros(1))[0][0]
    under = lon - np.arctan2(above[1], above[0])
    # A right-looking radar flying south sees places to its west, one flying north to its east.
    north = path.state(np.zeros(1))[1][0, 2] > 0
    shift = np.radians(8) * (-1 if north else 1)
    turns = [under + shift, under + 1.02 * shift]
    values = [view(turn)[0] for turn in turns]
    for _ in range(20):
        step = values[1] * (turns[1] - turns[0]) / (values[1] - values[0])
        turns = [turns[1], turns[1] - float(np.clip(step, -0.05, 0.05))]
        values = [values[1], view(turns[1])[0]]
        if abs(values[1]) < 1e-9:
            break
    return turns[1], view(turns[1])[1]


@cache
def _revolution(direction: str) -> tuple[Floats, Floats]:
    """Times, s, and states of one revolution that begins with the real vector of a direction."""
    count = int(_REVOLUTION_S / _COARSE_S)
    states = integrate(np.array(STATES[direction]), _COARSE_S, count)
    return _COARSE_S * np.arange(count + 1), states


def _nearest_state(states: Floats, direction: str, lat: float) -> int:
    """Index of the state whose satellite is nearest a latitude and flies the right way.

    The place lies abeam of the satellite, not below it: abeam and 600 km aside makes up to
    5 degrees of latitude near the poles, which the secants bridge.
    """
    below = np.arcsin(states[:, 2] / np.linalg.norm(states[:, :3], axis=1))
    off = np.abs(below - lat)
    off[(states[:, 5] > 0) != (direction == ASCENDING)] = np.inf
    best = int(np.argmin(off))
    if off[best] > np.radians(8):
        raise ValueError(f"no {direction} pass at {np.degrees(lat):.1f} degrees of latitude")
    return best


def _equator(times: Floats, states: Floats) -> float:
    """When a revolution crosses the equator northwards, s."""
    z = states[:, 2]
    at = int(np.flatnonzero((z[:-1] < 0) & (z[1:] >= 0))[0])
    return float(times[at] - z[at] * (times[at + 1] - times[at]) / (z[at + 1] - z[at]))


def _rotation(angle: float) -> Floats:
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _fit(
    epoch: datetime,
    t_s: Floats,
    positions: Floats,
    span_s: tuple[float, float],
    degree: int,
    node_s: float,
) -> FlownOrbit:
    first, last = span_s
    series = chebyshev.chebfit((2 * t_s - first - last) / (last - first), positions, degree)
    return FlownOrbit(epoch, (float(first), float(last)), series, node_s)


def integrate(state: Floats, step_s: float, count: int) -> Floats:
    """States (count + 1, 6) every `step_s`, by Runge-Kutta of order 4."""
    states = np.empty((count + 1, 6))
    states[0] = now = np.asarray(state, dtype=np.float64)
    for i in range(count):
        k1 = _motion(now)
        k2 = _motion(now + step_s / 2 * k1)
        k3 = _motion(now + step_s / 2 * k2)
        k4 = _motion(now + step_s * k3)
        states[i + 1] = now = now + step_s / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return states


def _motion(state: Floats) -> Floats:
    """Velocity and acceleration in the turning frame: central mass, J2, Coriolis, centrifugal."""
    x, y, z, vx, vy, vz = state
    r2 = x * x + y * y + z * z
    central = -_GM / (r2 * np.sqrt(r2))
    bulge = 1.5 * _J2 * _EARTH_M**2 / r2
    polar = 5 * z * z / r2
    plane = central * (1 + bulge * (1 - polar)) + _SPIN**2
    return np.array(
        [
            *(vx, vy, vz),
            plane * x + 2 * _SPIN * vy,
            plane * y - 2 * _SPIN * vx,
            central * (1 + bulge * (3 - polar)) * z,
        ]
    )
