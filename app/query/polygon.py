"""Polygons as requests write them: in the JRC's notation, or as GeoJSON."""

import json
import re
from typing import Annotated, Any

import shapely
from shapely.geometry import shape

from app.http.parameters import text_reader

_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+"
_VERTEX = re.compile(rf"(-?(?:{_NUMBER}))[_ ](-?(?:{_NUMBER}))", re.ASCII)
_MAX_VERTICES = 5000
_MAX_LETTERS = 500_000


def parse_polygon(text: str) -> str:
    """An area in longitude and latitude, as well-known text.

    `lon_lat-lon_lat-...`: a number ends before the next `-`, so one more `-` is the sign of what
    follows, as in `-8.5_40.1--8.4_40.1--8.4_40.2`. Or a GeoJSON Polygon, MultiPolygon or Feature.

    Raises:
        ValueError: it is no such area, or has too many vertices.
    """
    if len(text) > _MAX_LETTERS:
        raise ValueError(f"is longer than {_MAX_LETTERS} letters")
    area = _geojson(text) if text.lstrip().startswith("{") else _outline(text)
    if shapely.get_num_coordinates(area) > _MAX_VERTICES:
        raise ValueError(f"has more than {_MAX_VERTICES} vertices")
    west, south, east, north = area.bounds or (0, 0, 0, 0)
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise ValueError("is not in longitude and latitude")
    if not area.is_valid or area.area == 0:
        raise ValueError("is no area: it is flat, or its outline crosses itself")
    return str(area.wkt)


PolygonText = Annotated[str, text_reader(parse_polygon, max_length=_MAX_LETTERS)]
"""An area in a request; well-known text as a value."""


def _outline(text: str) -> shapely.Polygon:
    vertices = []
    at = 0
    while match := _VERTEX.match(text, at):
        vertices.append((float(match[1]), float(match[2])))
        at = match.end()
        if at == len(text):
            break
        if text[at] not in "-,":
            break
        at += 1
    if at != len(text) or match is None or len(vertices) < 3:
        raise ValueError("is not three or more vertices like 5.1_52.2-5.2_52.2-5.2_52.3")
    return shapely.Polygon(vertices)


def _geojson(text: str) -> Any:
    try:
        content = json.loads(text)
        geometry = content["geometry"] if content.get("type") == "Feature" else content
        area = shapely.force_2d(shape(geometry))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
            shapely.errors.ShapelyError):  # fmt: skip
        area = None
    if not isinstance(area, (shapely.Polygon, shapely.MultiPolygon)) or area.is_empty:
        raise ValueError("is no GeoJSON Polygon, MultiPolygon or Feature of one")
    return area
