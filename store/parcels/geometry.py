"""Geometries of a file made storable: repairs, refusals, and the CRS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
class CrsTransform:
    """From a file's CRS to the stored one.

    Attributes:
        source: the file's horizontal CRS.
        srid: EPSG code of the stored geometries.
        notes: remarks for the user, in sentences.
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

    def may_contain(self, degrees: Coordinates) -> npt.NDArray[np.bool_]:
        """Whether points lie in the area that the file's CRS is made for, or near it.

        Files of a country often reach beyond the one zone of a transverse Mercator they are in,
        as Spain's do, so zones get a wider margin. Areas may cross the antimeridian.

        Args:
            degrees: float64[n, 2], longitude and latitude.

        Returns:
            bool[n]; all true where the area is not known.
        """
        area = self.source.area_of_use
        if area is None:
            return np.ones(len(degrees), dtype=bool)
        operation = self.source.coordinate_operation
        zone = operation is not None and "Transverse Mercator" in operation.method_name
        margin = _ZONE_MARGIN_DEG if zone else _MARGIN_DEG
        lon, lat = degrees.T
        width = (area.east - area.west) % 360 or 360
        eastwards = (lon - (area.west - margin)) % 360
        within: npt.NDArray[np.bool_] = (
            (eastwards <= min(width + 2 * margin, 360))
            & (lat >= area.south - margin)
            & (lat <= area.north + margin)
        )
        return within


def resolve_crs(
    stated: CRS | None, given: str | None, stored: int | None, known: Callable[[int], bool]
) -> CrsTransform:
    """The CRS of a file, and the one its parcels are stored in.

    Args:
        stated: in the file.
        given: by the user; wins.
        stored: EPSG code of the campaign's geometries so far, if any.
        known: whether the database knows an EPSG code.

    Raises:
        ParcelFileError: no CRS is known, or it has no place on earth.
    """
    source = _horizontal(stated if given is None else _parsed(given))
    notes = []
    if given is not None and stated is not None and not _horizontal(stated).equals(source):
        notes.append(f"The file states the CRS {stated.name}; {source.name} was used, as given.")
    code = _epsg(source)
    if code is None or not known(code):
        notes.append(f"The file's CRS {source.name!r} has no EPSG code that the database knows.")
        code = None
    srid = stored or code or EUROPE
    if srid != code:
        accuracy = Transformer.from_crs(source, srid, always_xy=True).accuracy
        stated_m = f"to {accuracy:g} m" if accuracy >= 0 else "with unknown accuracy"
        notes.append(f"Coordinates were transformed to EPSG:{srid} ({stated_m}).")
    return CrsTransform(source, srid, tuple(notes))


@dataclass(frozen=True)
class Shapes:
    """Geometries after the rules were applied.

    Attributes:
        wkb: n MultiPolygons as little-endian WKB in the stored CRS; None where refused.
        hilbert: int64[n], place on a Hilbert curve over the globe; 0 where refused.
        degrees: float64[n, 2], longitude and latitude of the centroids; NaN where refused.
        repaired: position -> the repair.
        refused: position -> reason.
        outside: geometries that are kept, though beyond the area of the file's CRS.
    """

    wkb: list[bytes | None]
    hilbert: npt.NDArray[np.int64]
    degrees: Coordinates
    repaired: dict[int, str]
    refused: dict[int, str]
    outside: int = 0


def storable(wkb: Sequence[bytes | None], frame: CrsTransform) -> Shapes:
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
    nowhere, swapped, outside = _misplaced(rules.geoms, frame)
    rules.refuse(nowhere, f"no place on the globe in {frame.source.name}: is it another CRS?")
    rules.refuse(
        swapped, f"outside the area of {frame.source.name}: are x and y swapped, as it seems?"
    )
    if frame.to_stored is not None:
        rules.geoms = shapely.transform(rules.geoms, _mapping(frame.to_stored))
        rules.refuse(_not_finite(rules.geoms), f"cannot be transformed to EPSG:{frame.srid}")
    rules.repair()
    kept = outside & ~shapely.is_missing(rules.geoms)
    return replace(rules.result(frame), outside=int(kept.sum()))


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

    def result(self, frame: CrsTransform) -> Shapes:
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
    """Positions of points on a Hilbert curve over the globe; neighbours have near ones.

    Args:
        degrees: float64[n, 2], longitude and latitude.

    Returns:
        int64[n], 0 to 2**62 - 1; one step is at most 2 cm.

    Source: W. M. Lam and J. M. Shapiro, "A class of fast algorithms for the Peano-Hilbert
    space-filling curve", ICIP 1994: one quadrant and one rotation per bit, the highest first.
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


def _misplaced(
    geoms: Geometries, frame: CrsTransform
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which geometries lie nowhere on the globe; have x and y swapped; lie beyond the CRS's area.

    What lies far away may still be meant (islands, a whole country in one zone); what lies in the
    CRS's area once x and y are swapped is not.
    """
    present = np.flatnonzero(~shapely.is_missing(geoms))
    corners = shapely.bounds(geoms[present]).reshape(-1, 2)
    to_degrees = _mapping(frame.source_to_degrees)
    degrees, turned = to_degrees(corners), to_degrees(corners[:, ::-1])
    nowhere = ~_on_globe(degrees)
    outside = ~nowhere & ~frame.may_contain(np.where(np.isfinite(degrees), degrees, 0))
    fits_turned = _on_globe(turned) & frame.may_contain(np.where(np.isfinite(turned), turned, 0))
    swapped = (nowhere | outside) & fits_turned
    flags = np.zeros((3, len(geoms)), dtype=bool)
    flags[0, present] = (nowhere & ~swapped).reshape(-1, 2).any(axis=1)
    flags[1, present] = swapped.reshape(-1, 2).any(axis=1)
    flags[2, present] = outside.reshape(-1, 2).any(axis=1)
    return flags[0], flags[1], flags[2]


def _on_globe(degrees: Coordinates) -> npt.NDArray[np.bool_]:
    lon, lat = degrees.T
    on_globe: npt.NDArray[np.bool_] = (np.abs(lon) <= 360) & (np.abs(lat) <= 90)
    return on_globe


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
