"""Making a file's geometries storable: what is repaired, what is refused, and where it lies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS, Transformer

from store.errors import ParcelFileError

MAX_REPAIR_CHANGE = 0.01
"""A repair that changes a parcel's area by more than this share is a guess, and refused."""

EUROPE = 3035
"""ETRS89-extended / LAEA Europe, for files in a CRS that has no EPSG code."""

_MARGIN_DEG = 1.0
_ZONE_MARGIN_DEG = 6.0
_HILBERT_BITS = 31
_KEPT = (
    shapely.GeometryType.POLYGON,
    shapely.GeometryType.MULTIPOLYGON,
    shapely.GeometryType.MISSING,
)

Geometries = npt.NDArray[np.object_]
Coordinates = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """From a file's CRS to the stored one.

    Attributes:
        source: the file's horizontal CRS.
        srid: EPSG code of the stored geometries.
        notes: what a user should know about it, in sentences.
    """

    source: CRS
    srid: int
    notes: tuple[str, ...] = ()

    @cached_property
    def to_stored(self) -> Transformer | None:
        """Transforms (x, y) of the file into stored ones; None where they are the same."""
        if _epsg(self.source) == self.srid:
            return None
        return Transformer.from_crs(self.source, self.srid, always_xy=True)

    @cached_property
    def source_to_degrees(self) -> Transformer:
        """Transforms (x, y) of the file into longitude and latitude."""
        return Transformer.from_crs(self.source, 4326, always_xy=True)

    @cached_property
    def stored_to_degrees(self) -> Transformer:
        """Transforms stored (x, y) into longitude and latitude."""
        return Transformer.from_crs(self.srid, 4326, always_xy=True)

    @cached_property
    def bounds_deg(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in which parcels of this CRS can lie, degrees.

        Files of a country often reach beyond the one zone of a transverse Mercator they are in,
        as Spain's do, so zones get a wider margin.
        """
        area = self.source.area_of_use
        if area is None:
            return (-180.0, -90.0, 180.0, 90.0)
        operation = self.source.coordinate_operation
        zone = operation is not None and "Transverse Mercator" in operation.method_name
        margin = _ZONE_MARGIN_DEG if zone else _MARGIN_DEG
        return (
            area.west - margin,
            max(area.south - margin, -90.0),
            area.east + margin,
            min(area.north + margin, 90.0),
        )


def settle(
    stated: CRS | None, given: str | None, stored: int | None, known: Callable[[int], bool]
) -> Frame:
    """Decide which CRS a file is in and which one its parcels are stored in.

    Args:
        stated: what the file says.
        given: what the user says; wins.
        stored: EPSG code of the campaign's geometries so far, if any.
        known: tells whether the database knows an EPSG code.

    Raises:
        ParcelFileError: no CRS is known, or it has no place on earth.
    """
    source = _horizontal(stated if given is None else _parsed(given))
    notes = []
    if given is not None and stated is not None and not _horizontal(stated).equals(source):
        notes.append(f"The file states the CRS {stated.name}; {source.name} was used as asked.")
    code = _epsg(source)
    if code is None or not known(code):
        notes.append(f"The file's CRS {source.name!r} has no EPSG code that the database knows.")
        code = None
    srid = stored or code or EUROPE
    if srid != code:
        accuracy = Transformer.from_crs(source, srid, always_xy=True).accuracy
        stated_m = f"to {accuracy:g} m" if accuracy >= 0 else "with unknown accuracy"
        notes.append(f"Coordinates were transformed to EPSG:{srid} ({stated_m}).")
    return Frame(source, srid, tuple(notes))


@dataclass(frozen=True)
class Shapes:
    """Geometries after the rules were applied.

    Attributes:
        wkb: n MultiPolygons as little-endian WKB in the stored CRS; None where refused.
        hilbert: int64[n], place on a Hilbert curve over the globe; 0 where refused.
        degrees: float64[n, 2], longitude and latitude of the centroids; NaN where refused.
        repaired: position -> what was done.
        refused: position -> why.
    """

    wkb: list[bytes | None]
    hilbert: npt.NDArray[np.int64]
    degrees: Coordinates
    repaired: dict[int, str]
    refused: dict[int, str]


def storable(wkb: Sequence[bytes | None], frame: Frame) -> Shapes:
    """Turn a file's geometries into valid 2D MultiPolygons in the stored CRS.

    The result is normalised (order of rings and vertices), so that the same parcel delivered in
    another format counts as unchanged.
    """
    with np.errstate(invalid="ignore"):  # NaN is looked for below, no need to be warned of it
        geoms = shapely.from_wkb(np.array(wkb, dtype=object), on_invalid="ignore")
    rules = _Rules(geoms)
    rules.refuse([raw is None for raw in wkb], "no geometry")
    rules.refuse(shapely.is_missing(rules.geoms), "unreadable geometry")
    rules.refuse(shapely.is_empty(rules.geoms), "empty geometry")
    rules.refuse(_not_finite(rules.geoms), "coordinates that are not numbers")
    rules.geoms = shapely.force_2d(rules.geoms)
    rules.keep_polygons()
    rules.refuse(
        _outside(rules.geoms, frame),
        f"outside the area of {frame.source.name}: are x and y swapped, or is it another CRS?",
    )
    if frame.to_stored is not None:
        rules.geoms = shapely.transform(rules.geoms, _mapping(frame.to_stored))
        rules.refuse(_not_finite(rules.geoms), f"cannot be transformed to EPSG:{frame.srid}")
    rules.repair()
    return rules.result(frame)


class _Rules:
    """The geometries of a batch on their way; a refused one becomes None."""

    def __init__(self, geoms: Geometries) -> None:
        self.geoms = geoms
        self.repaired: dict[int, str] = {}
        self.refused: dict[int, str] = {}

    def refuse(self, failing: Sequence[bool] | npt.NDArray[np.bool_], reason: str) -> None:
        """Refuse what fails a rule, unless it was refused before."""
        for index in np.flatnonzero(failing).tolist():
            self._drop(index, reason)

    def keep_polygons(self) -> None:
        """Take the polygons out of collections; refuse points and lines."""
        for index in np.flatnonzero(~np.isin(shapely.get_type_id(self.geoms), _KEPT)).tolist():
            kind = self.geoms[index].geom_type
            self.geoms[index] = _polygons_of(self.geoms[index])
            self.repaired[index] = f"polygons kept of a {kind}"
            if self.geoms[index].is_empty:
                self._drop(index, f"a {kind} without any polygon")

    def repair(self) -> None:
        """Make invalid geometries valid, or refuse them."""
        for index in np.flatnonzero(
            ~shapely.is_valid(self.geoms) & ~shapely.is_missing(self.geoms)
        ).tolist():
            before = self.geoms[index]
            after = shapely.make_valid(before, method="structure", keep_collapsed=False)
            reason = shapely.is_valid_reason(before)
            change = _share(before.area, after.area)
            self.geoms[index] = after
            self.repaired[index] = f"{reason}; area changed by {change:.2%}"
            if after.is_empty:
                self._drop(index, f"{reason}; no area is left after repair")
            elif change > MAX_REPAIR_CHANGE:
                self._drop(
                    index,
                    f"{reason}; repair would change the area by {change:.1%}, "
                    f"more than {MAX_REPAIR_CHANGE:.0%}",
                )
        self.refuse(shapely.area(self.geoms) == 0, "no area")

    def _drop(self, index: int, reason: str) -> None:
        self.refused.setdefault(index, reason)
        self.repaired.pop(index, None)
        self.geoms[index] = None

    def result(self, frame: Frame) -> Shapes:
        """Normalise, serialise and locate what is left."""
        kept = np.flatnonzero(~shapely.is_missing(self.geoms))
        multi = shapely.normalize(_multi(self.geoms[kept]))
        wkb = np.full(len(self.geoms), None, dtype=object)
        wkb[kept] = shapely.to_wkb(multi, byte_order=1)
        degrees = np.full((len(self.geoms), 2), np.nan)
        degrees[kept] = _mapping(frame.stored_to_degrees)(
            shapely.get_coordinates(shapely.centroid(multi))
        )
        places = np.zeros(len(self.geoms), dtype=np.int64)
        places[kept] = hilbert(degrees[kept])
        return Shapes(wkb.tolist(), places, degrees, self.repaired, self.refused)


def hilbert(degrees: Coordinates) -> npt.NDArray[np.int64]:
    """Place points on one Hilbert curve over the globe, so that neighbours get near numbers.

    Args:
        degrees: float64[n, 2], longitude and latitude.

    Returns:
        int64[n], 0 to 2**62 - 1; one step is at most 2 cm.

    Source: the common loop from (x, y) to distance, one quadrant and one rotation per bit.
    """
    side = 1 << _HILBERT_BITS
    unit = (degrees + np.array([180.0, 90.0])) / np.array([360.0, 180.0])
    x, y = np.clip(unit * side, 0, side - 1).astype(np.int64).T
    place = np.zeros(len(degrees), dtype=np.int64)
    for bit in range(_HILBERT_BITS - 1, -1, -1):
        right, upper = (x >> bit) & 1, (y >> bit) & 1
        place = (place << 2) | ((3 * right) ^ upper)
        mirrored = (upper == 0) & (right == 1)
        x, y = np.where(mirrored, side - 1 - x, x), np.where(mirrored, side - 1 - y, y)
        x, y = np.where(upper == 0, y, x), np.where(upper == 0, x, y)
    return place


def _multi(geoms: Geometries) -> Geometries:
    parts, owners = shapely.get_parts(geoms, return_index=True)
    if not len(parts):
        return np.empty(0, dtype=object)
    return np.asarray(shapely.multipolygons(parts, indices=owners), dtype=object)


def _polygons_of(collection: shapely.Geometry) -> shapely.MultiPolygon:
    parts = shapely.get_parts(shapely.get_parts([collection]))
    return shapely.MultiPolygon([part for part in parts if part.geom_type == "Polygon"])


def _share(before: float, after: float) -> float:
    return abs(after - before) / max(after, before) if max(after, before) > 0 else 0.0


def _not_finite(geoms: Geometries) -> npt.NDArray[np.bool_]:
    coordinates, owners = shapely.get_coordinates(geoms, return_index=True)
    failing = np.zeros(len(geoms), dtype=bool)
    failing[owners[~np.isfinite(coordinates).all(axis=1)]] = True
    return failing


def _outside(geoms: Geometries, frame: Frame) -> npt.NDArray[np.bool_]:
    present = ~shapely.is_missing(geoms)
    west, south, east, north = frame.bounds_deg
    corners = shapely.bounds(geoms[present]).reshape(-1, 2)
    lon, lat = _mapping(frame.source_to_degrees)(corners).T
    inside = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    outside = np.zeros(len(geoms), dtype=bool)
    outside[present] = ~inside.reshape(-1, 2).all(axis=1)
    return outside


def _mapping(transformer: Transformer) -> Callable[[Coordinates], Coordinates]:
    def mapped(coordinates: Coordinates) -> Coordinates:
        return np.column_stack(transformer.transform(coordinates[:, 0], coordinates[:, 1]))

    return mapped


def _parsed(text: str) -> CRS:
    try:
        return CRS.from_user_input(text)
    except Exception as error:
        raise ParcelFileError(f"{text!r} is not a CRS: give a code such as EPSG:25832") from error


def _horizontal(crs: CRS | None) -> CRS:
    if crs is None:
        raise ParcelFileError(
            "the file does not say which CRS its coordinates are in: give it (--crs EPSG:...)"
        )
    flat = crs.to_2d()
    flat = flat.sub_crs_list[0] if flat.is_compound else flat
    if not (flat.is_projected or flat.is_geographic):
        raise ParcelFileError(
            f"the file's CRS {crs.name!r} is neither projected nor geographic: "
            "give the right one (--crs EPSG:...)"
        )
    return flat


def _epsg(crs: CRS) -> int | None:
    if crs.to_authority() == ("OGC", "CRS84"):
        return 4326
    return crs.to_epsg()
