"""Orbits: state vectors of annotations and of orbit files, and the polynomial through them."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from card.find.orbits import MARGIN, PRECISE, RESTITUTED, parse_orbit
from card.make import xmlfile
from card.make.xmlfile import XmlNode
from store.errors import NotFoundError, SceneError

_DEGREE = 7
_MARGIN_S = MARGIN.total_seconds()
"""Before the first and after the last line: four vectors 10 s apart on each side."""
_MAX_RESIDUAL_M = 1.0
_MIN_VECTORS = _DEGREE // 2 + 1  # each gives a position and a velocity
_OSV_FIELDS = ("UTC", "X", "Y", "Z", "VX", "VY", "VZ")
_PRECISION = {PRECISE: 0, RESTITUTED: 1}

Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StateVectors:
    """Where a satellite was, Earth fixed.

    Attributes:
        t_s: float64[n], seconds after the product's first line, increasing.
        position_m: float64[n, 3].
        velocity_m_s: float64[n, 3].
        source: the orbit file's name, or `annotation`.
    """

    t_s: Vectors
    position_m: Vectors
    velocity_m_s: Vectors
    source: str


@dataclass(frozen=True)
class Orbit:
    """A polynomial of time through state vectors, for each coordinate.

    Attributes:
        middle_s: time at which the polynomial's argument is 0, seconds after the first line.
        half_s: the argument is (t - middle_s) / half_s.
        coefficients_m: float64[degree + 1, 3], lowest power first.
        residual_m: root mean square distance from the vectors' positions.
        source: as of the vectors.
    """

    middle_s: float
    half_s: float
    coefficients_m: Vectors
    residual_m: float
    source: str

    def position_m(self, t_s: Vectors) -> Vectors:
        """Positions[..., 3] at times[...]."""
        return self._value(t_s, 0)

    def velocity_m_s(self, t_s: Vectors) -> Vectors:
        """Velocities[..., 3] at times[...]."""
        return self._value(t_s, 1)

    def acceleration_m_s2(self, t_s: Vectors) -> Vectors:
        """Accelerations[..., 3] at times[...]."""
        return self._value(t_s, 2)

    def _value(self, t_s: Vectors, derivative: int) -> Vectors:
        x = (np.asarray(t_s) - self.middle_s) / self.half_s
        slopes = np.polynomial.polynomial.polyder(self.coefficients_m, derivative)
        values: Vectors = np.polynomial.polynomial.polyval(x, slopes / self.half_s**derivative)
        return np.moveaxis(values, 0, -1)


def fit(vectors: StateVectors, first_s: float, last_s: float) -> Orbit:
    """The orbit over a product's lines: least squares on positions and velocities.

    All vectors from 35 s before the first line to 35 s after the last count, for a few of those
    nearest extrapolate where they are 1 s apart (products of 2015).

    Args:
        vectors: the state vectors.
        first_s: time of the first line.
        last_s: time of the last line.

    Raises:
        SceneError: there are too few vectors, they do not reach over the lines, or the
            polynomial misses them by more than 1 m.
    """
    near = (vectors.t_s >= first_s - _MARGIN_S) & (vectors.t_s <= last_s + _MARGIN_S)
    t_s = vectors.t_s[near]
    if t_s.size < _MIN_VECTORS or t_s[0] > first_s or t_s[-1] < last_s:
        raise SceneError(
            f"orbit ({vectors.source}): its {t_s.size} vectors do not reach over the product's "
            f"lines, {first_s:.1f} to {last_s:.1f} s"
        )
    middle, half = (t_s[0] + t_s[-1]) / 2, (t_s[-1] - t_s[0]) / 2
    x = (t_s - middle) / half
    powers = np.vander(x, _DEGREE + 1, increasing=True)
    slopes = np.zeros_like(powers)
    slopes[:, 1:] = powers[:, :-1] * np.arange(1, _DEGREE + 1)
    positions, velocities = vectors.position_m[near], vectors.velocity_m_s[near]
    # A velocity is worth the position it leads to within a second.
    system = np.vstack([powers, slopes / half])
    coefficients = np.linalg.lstsq(system, np.vstack([positions, velocities]), rcond=None)[0]
    missed = np.linalg.norm(powers @ coefficients - positions, axis=1)
    residual = float(np.sqrt(np.mean(missed**2)))
    if not residual <= _MAX_RESIDUAL_M:
        raise SceneError(
            f"orbit ({vectors.source}): its vectors are {residual:.3g} m from a smooth orbit"
        )
    return Orbit(float(middle), float(half), coefficients, residual, vectors.source)


def from_nodes(
    nodes: Iterable[XmlNode], epoch: datetime, where: tuple[str, ...], source: str
) -> StateVectors:
    """Read state vectors.

    Args:
        nodes: an element per vector.
        epoch: the time that becomes 0.
        where: the elements in it with time, three coordinates and three velocities.
        source: what the vectors are called.

    Raises:
        SceneError: an element lacks something, or times do not increase.
    """
    time, *rest = where
    rows = [
        [(node.time(time) - epoch).total_seconds(), *(node.number(each) for each in rest)]
        for node in nodes
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    if (np.diff(table[:, 0]) <= 0).any():
        raise SceneError(f"orbit ({source}): the times of its vectors do not increase")
    return StateVectors(table[:, 0], table[:, 1:4], table[:, 4:], source)


def read_file(path: Path, epoch: datetime, last_s: float) -> StateVectors:
    """The vectors of an ESA orbit file (Earth Explorer XML, .EOF or that in a .zip) near a product.

    Args:
        path: the file.
        epoch: time of the product's first line, which becomes 0.
        last_s: time of its last line.

    Raises:
        SceneError: the file is no orbit file, or not one of Earth fixed vectors in UTC.
    """
    root = xmlfile.parse(path, _unzipped(path)) if path.suffix == ".zip" else xmlfile.read(path)
    for where, right in (("Ref_Frame", "EARTH_FIXED"), ("Time_Reference", "UTC")):
        stated = root.text(f"Earth_Explorer_Header/Variable_Header/{where}")
        if stated != right:
            raise SceneError(f"{path}: its {where} is {stated!r}, not {right}")
    start = f"{epoch - timedelta(seconds=_MARGIN_S):UTC=%Y-%m-%dT%H:%M:%S}"
    stop = f"{epoch + timedelta(seconds=last_s + _MARGIN_S + 1):UTC=%Y-%m-%dT%H:%M:%S}"
    near = [n for n in root.nodes("Data_Block/List_of_OSVs/OSV") if start <= n.text("UTC") <= stop]
    return from_nodes(near, epoch, _OSV_FIELDS, path.name.removesuffix(".zip"))


def choose(folder: Path, platform: str, first: datetime, last: datetime) -> Path | None:
    """The best orbit file for a product: precise before restituted, then the latest made.

    Args:
        folder: where orbit files lie, with all folders below.
        platform: S1A, S1B ...
        first: time of the first line.
        last: time of the last line.

    Returns:
        The file, or None if none reaches over the product with the margin of the fit.

    Raises:
        NotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise NotFoundError(f"orbits: {folder} is not a folder")
    ranks = {
        path: (_PRECISION[found.kind], -found.made_at.timestamp(), path.name)
        for path in folder.rglob(f"{platform}_OPER_AUX_*")
        if (found := parse_orbit(path.name.removesuffix(".zip")))
        and found.start <= first - MARGIN
        and found.stop >= last + MARGIN
    }
    return min(ranks, key=ranks.__getitem__, default=None)


def _unzipped(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            member, *others = archive.infolist()
            if others or member.file_size > xmlfile.MAX_BYTES:
                raise SceneError(f"{path}: holds more than an orbit file")
            return archive.read(member)
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise SceneError(f"{path}: not a readable archive: {error}") from error
