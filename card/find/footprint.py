"""Footprints: outlines on the globe, as the catalogue keeps them."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer
from shapely import MultiPolygon, Polygon, box
from shapely.affinity import translate
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from store.errors import SceneError

_EDGE_POINTS = 21
"""Points along an edge of a projected box: straight in UTM is curved in degrees."""


def from_ring(lonlat: Sequence[tuple[float, float]]) -> BaseGeometry:
    """A polygon from one ring of (longitude, latitude), which may cross the antimeridian."""
    return tidy(Polygon(lonlat))


def from_geojson(geometry: Any) -> BaseGeometry:
    """The outline that a GeoJSON geometry draws.

    Raises:
        SceneError: it draws no area, or is no GeoJSON.
    """
    try:
        outline = shapely.force_2d(shape(geometry))
        # A NaN or infinite coordinate makes every comparison with the bounds false.
        if not (outline.area > 0 and all(abs(bound) <= 360 for bound in outline.bounds)):
            raise SceneError("the outline has no area in degrees")
        return tidy(outline)
    except (AttributeError, LookupError, TypeError, ValueError, ShapelyError) as error:
        raise SceneError(f"the outline is no GeoJSON: {error}") from error


def from_any_geojson(geometry: Any) -> BaseGeometry | None:
    """As `from_geojson`; None where no outline is drawn."""
    try:
        return from_geojson(geometry)
    except SceneError:
        return None


def from_bounds(
    epsg: int, west_m: float, south_m: float, east_m: float, north_m: float
) -> BaseGeometry:
    """The outline in EPSG:4326 of a box in a projected CRS.

    Args:
        epsg: code of the box's CRS.
        west_m: left edge, metres.
        south_m: bottom edge, metres.
        east_m: right edge, metres.
        north_m: top edge, metres.
    """
    step = max(east_m - west_m, north_m - south_m) / (_EDGE_POINTS - 1)
    ring = shapely.segmentize(box(west_m, south_m, east_m, north_m), step).exterior.coords
    return from_ring([_to_lonlat(epsg).transform(x, y) for x, y in ring])


def tidy(outline: BaseGeometry) -> BaseGeometry:
    """Make an outline valid, and cut it where it crosses the antimeridian.

    A ring that spans more than 180 degrees of longitude is taken to go the short way round.
    """
    west, _, east, _ = outline.bounds
    if east - west > 180:
        outline = shapely.transform(outline, _eastwards)
    valid = outline if outline.is_valid else shapely.make_valid(outline)
    return _cut(valid) if east - west > 180 else valid


def is_near(stated: BaseGeometry | None, raster: BaseGeometry | None) -> bool:
    """Whether a stated outline lies on the globe, and meets the raster's, if that is known."""
    if stated is None or stated.is_empty or not np.isfinite(stated.bounds).all():
        return False
    west, south, east, north = stated.bounds
    if west < -180 or east > 180 or south < -90 or north > 90 or not stated.area:
        return False
    return raster is None or bool(stated.intersects(raster))


def multipolygon_wkt(outline: BaseGeometry) -> str:
    """The areas of a geometry as MULTIPOLYGON, coordinates rounded to 1e-6 degrees (0.1 m)."""
    parts = [p for p in shapely.get_parts(shapely.get_parts(outline)) if isinstance(p, Polygon)]
    return str(shapely.to_wkt(shapely.force_2d(MultiPolygon(parts)), rounding_precision=6))


@cache
def _to_lonlat(epsg: int) -> Transformer:
    return Transformer.from_crs(epsg, 4326, always_xy=True)


def _eastwards(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Longitudes from 0 to 360 in place of -180 to 180."""
    return np.column_stack([points[:, 0] % 360, points[:, 1]])


def _cut(outline: BaseGeometry) -> BaseGeometry:
    east = outline.intersection(box(0, -90, 180, 90))
    west = translate(outline.intersection(box(180, -90, 360, 90)), xoff=-360)
    return shapely.union_all([east, west])
