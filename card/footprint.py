"""Footprints: outlines on the globe, as the catalogue keeps them."""

from collections.abc import Sequence

import shapely
from pyproj import Transformer
from shapely import MultiPolygon, Polygon, box
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

_EDGE_POINTS = 21
"""Points along an edge of a projected box: straight in UTM is curved in degrees."""


def from_ring(lonlat: Sequence[tuple[float, float]]) -> BaseGeometry:
    """A polygon from one ring of (longitude, latitude), which may cross the antimeridian."""
    return tidy(Polygon(lonlat))


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
    to_lonlat = Transformer.from_crs(epsg, 4326, always_xy=True)
    return from_ring([to_lonlat.transform(x, y) for x, y in ring])


def tidy(outline: BaseGeometry) -> BaseGeometry:
    """Make an outline valid, and cut it where it crosses the antimeridian.

    A ring that spans more than 180 degrees of longitude is taken to go the short way round.
    """
    west, _, east, _ = outline.bounds
    if east - west > 180:
        outline = _cut(shapely.transform(outline, _eastwards))
    return outline if outline.is_valid else shapely.make_valid(outline)


def multipolygon_wkt(outline: BaseGeometry) -> str:
    """The areas of a geometry as MULTIPOLYGON, coordinates rounded to 1e-6 degrees (0.1 m)."""
    parts = [p for p in shapely.get_parts(shapely.get_parts(outline)) if isinstance(p, Polygon)]
    return str(shapely.to_wkt(shapely.force_2d(MultiPolygon(parts)), rounding_precision=6))


def _eastwards(points):  # type: ignore[no-untyped-def]
    points[:, 0] %= 360
    return points


def _cut(outline: BaseGeometry) -> BaseGeometry:
    east = outline.intersection(box(0, -90, 180, 90))
    west = translate(outline.intersection(box(180, -90, 360, 90)), xoff=-360)
    return shapely.union_all([east, west])
