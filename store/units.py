"""Units of band values: what is possible in each, and the fill values that tools leave behind.

A value that a unit cannot have is never served: registering and extraction both look here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Unit:
    """A unit of band values, and the values that are possible in it.

    Attributes:
        name: as on the scene row, such as gamma0_db.
        minimum: smallest possible value of a pixel with data.
        maximum: largest one.
        usual: smallest and largest plausible median of a scene; None where any is.
        fill: value of pixels without data where no source states one; None if there is no
            common one.
        in_decibels: unit of 10 log10 of the values; None where that has no meaning.
    """

    name: str
    minimum: float
    maximum: float
    usual: tuple[float, float] | None = None
    fill: float | None = None
    in_decibels: str | None = None


_BACKSCATTER = ("gamma0", "gamma0_terrain", "gamma0_ellipsoid", "sigma0")

# Bounds: surface reflectance is a little negative over water and in corrected shade, and above 1
# on snow, clouds and in glints; 6.4 leaves out the largest uint16, with and without an offset of
# -1000. Backscatter: the strongest targets, and layover after terrain flattening, stay below
# 50 dB; the noise floor of Sentinel-1 is near -25 dB, single pixels lie lower, and subtracting
# noise leaves some slightly negative power. Coherence is at most 1 but for rounding. Fill values:
# Level-2A's own, and what SNAP writes outside the swath. Digital numbers are judged as
# reflectance where their scale is known; the bounds here are those of a scale of 0.0001.
# gamma0_linear is that of products that do not say what it was related to: the JRC's CARD-BS, which
# is not flattened. Terrain-flattened values and our own on the ellipsoid have units of their own.
UNITS: dict[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit("dn", -5000.0, 64000.0, (-1000.0, 20000.0), fill=0.0),
        Unit("reflectance", -0.5, 6.4, (-0.1, 2.0)),
        *(
            Unit(f"{name}_linear", -1.0, 1e5, (0.0, 30.0), fill=0.0, in_decibels=f"{name}_db")
            for name in _BACKSCATTER
        ),
        *(Unit(f"{name}_db", -100.0, 50.0, (-60.0, 15.0)) for name in _BACKSCATTER),
        Unit("coherence", -0.001, 1.001, (0.0, 1.0), fill=0.0),
    )
}
"""Units of band values, by name."""

FILLS = (
    0.0, -9999.0, -10000.0, -32768.0, 32767.0, 65535.0, -99.0, -999.0, -99999.0, 1e20, -1e20,
    1e30, -1e30, 9.969209968386869e36, 3.4028234663852886e38, -3.4028234663852886e38,
)  # fmt: skip
"""Values that tools write where there are no data: zero, those of MAJA, of integers' ends, of
numpy's masked arrays, of netCDF and of float32's ends."""

FILL_SHARE = 1e-3
"""More pixels than this with exactly one fill value are no measurement."""


def bounds(unit: str, scale: float | None = None) -> tuple[float, float]:
    """Smallest and largest possible value of a unit; of digital numbers by their scale.

    Args:
        unit: its name.
        scale: dn * scale = reflectance, where that is known.
    """
    return _scaled(unit, scale, UNITS[unit].minimum, UNITS[unit].maximum)


def impossible(value: float, unit: str, scale: float | None = None) -> str | None:
    """A sentence on a value that a unit cannot have, with what to state; None for others."""
    low, high = bounds(unit, scale)
    if low <= value <= high:
        return None
    what = f"{value:g} is no value of {unit} ({low:g} to {high:g})"
    if is_fill(value):
        return f"{what} but a usual fill value: state it as nodata (raster:bands in a STAC Item)"
    return (
        f"{what}: state the unit, scale and offset that the values have, or the value that means "
        "no data (raster:bands in a STAC Item: unit, scale, offset, nodata)"
    )


def is_fill(value: float) -> bool:
    """Whether a value is one of the usual fill values, in single precision."""
    return any(np.isclose(value, fill, rtol=1e-6, atol=0) for fill in FILLS)


def impossible_among(values: npt.NDArray[Any], unit: str, scale: float | None = None) -> str | None:
    """As `impossible`, of the smallest and the largest of finite values in the unit."""
    ends = (float(values.min()), float(values.max())) if values.size else ()
    return next((reason for value in ends if (reason := impossible(value, unit, scale))), None)


def unusual(values: npt.NDArray[Any], unit: str, scale: float | None = None) -> str | None:
    """A sentence on a sample of a whole scene whose median no scene of the unit has; or None.

    Args:
        values: finite values with data, in the unit.
        unit: its name.
        scale: as in `bounds`.
    """
    usual = UNITS[unit].usual
    if usual is None or not values.size:
        return None
    low, high = _scaled(unit, scale, *usual)
    median = float(np.median(values))
    if low <= median <= high:
        return None
    return (
        f"half of the values lie beyond {median:g}, which is not usual for {unit} ({low:g} to "
        f"{high:g}): state the unit, scale and offset that they have (raster:bands in a STAC Item)"
    )


def unstated_fill(stored: npt.NDArray[Any]) -> float | None:
    """The usual fill value that too many of a scene's stored values have; None if there is none.

    The ends of an integer type are usual ones, whatever the type.

    Args:
        stored: values as the file has them, without those that are known to mean no data.
    """
    most = FILL_SHARE * stored.size
    usual = (*FILLS, *_ends(stored.dtype))
    return next((fill for fill in usual if np.count_nonzero(_equal(stored, fill)) > most), None)


def holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether pixels of a type can have a value; floating-point types hold it rounded."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return bool(np.isnan(value) or np.isinf(value) or np.isfinite(dtype.type(value)))
    limits = np.iinfo(dtype)
    return bool(float(value).is_integer() and limits.min <= value <= limits.max)


def _ends(dtype: np.dtype[Any]) -> tuple[float, ...]:
    if dtype.kind not in "iu":
        return ()
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def _equal(stored: npt.NDArray[Any], value: float) -> npt.NDArray[np.bool_]:
    if not holds(stored.dtype, value):
        return np.zeros(stored.shape, bool)
    return np.asarray(stored == stored.dtype.type(value))


def _scaled(unit: str, scale: float | None, low: float, high: float) -> tuple[float, float]:
    if unit != "dn" or scale is None:
        return low, high
    factor = 0.0001 / scale
    return low * factor, high * factor
