"""Searching the Copernicus Data Space by OData, and fetching files from it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import shapely
from shapely import box

from card.find.archive import Entry, candidates
from card.find.candidate import Query, SearchResult, known_orbit, known_size, search_result
from card.find.facts import direction_of, utc_time
from card.find.footprint import from_any_geojson
from card.find.paging import Harvest, Page, harvest, known_object
from card.find.sources import Source
from card.find.transport import ArchiveRequest, Transport, same_host
from store.errors import WorldError

_TOP = 200


def search(source: Source, query: Query, transport: Transport) -> SearchResult:
    """All products of a search, page by page.

    Raises:
        CallerError: the catalogue refuses the request.
        WorldError: it does not answer, or not as OData would.
    """
    mission = "SENTINEL-2" if query.kind == "s2" else "SENTINEL-1"
    conditions = (
        f"Collection/Name eq '{mission}'",
        product_type_is(source.called(query.kind)),
        f"OData.CSC.Intersects(area=geography'SRID=4326;{_area(query.bbox)}')",
        f"ContentDate/Start ge {odata_time(query.start)}",
        f"ContentDate/Start lt {odata_time(query.end)}",
    )
    found = find_products(source, " and ".join(conditions), transport)
    entries = (_entry(product) for product in found.entries)
    return search_result(candidates(source, query.kind, entries), found.complete)


def find_products(source: Source, condition: str, transport: Transport) -> Harvest:
    """All entries of Products that a $filter selects, with their attributes; errors as `search`."""
    first = ArchiveRequest(
        f"{source.url.rstrip('/')}/Products",
        {
            "$filter": condition,
            "$orderby": "ContentDate/Start asc",
            "$top": _TOP,
            "$count": "True",
            "$expand": "Attributes",
        },
    )
    return harvest(first, lambda request: _page(transport, request), lambda e: str(e.get("Id")))


def product_type_is(name: str) -> str:
    """The condition that a product is of a type."""
    return (
        "Attributes/OData.CSC.StringAttribute/any(att:att/Name eq 'productType' and "
        f"att/OData.CSC.StringAttribute/Value eq '{name}')"
    )


def odata_time(time: datetime) -> str:
    """A moment as OData writes it."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"


def _page(transport: Transport, request: ArchiveRequest) -> Page:
    page = transport.get_json(request)
    entries = page.get("value") if isinstance(page, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise WorldError(f"{request.url} does not answer as OData: no value on a page")
    following, matched = page.get("@odata.nextLink"), page.get("@odata.count")
    if following is not None and not (
        isinstance(following, str) and same_host(following, request.url)
    ):
        raise WorldError(f"{request.url} links its next page to another server: {following}")
    return Page(
        entries,
        ArchiveRequest(following) if following else None,
        matched if isinstance(matched, int) and matched >= 0 else None,
    )


def _area(bbox: tuple[float, float, float, float]) -> str:
    west, south, east, north = bbox
    if west <= east:
        return str(shapely.to_wkt(box(*bbox), rounding_precision=6))
    halves = [box(west, south, 180, north), box(-180, south, east, north)]
    return str(shapely.to_wkt(shapely.MultiPolygon(halves), rounding_precision=6))


def _entry(product: Mapping[str, Any]) -> Entry:
    attributes = product.get("Attributes")
    stated = {
        one.get("Name"): one.get("Value")
        for one in (attributes if isinstance(attributes, list) else ())
        if isinstance(one, dict) and isinstance(one.get("Name"), str)
    }
    dates = known_object(product.get("ContentDate"))
    return Entry(
        name=str(product.get("Name")),
        path=str(product.get("S3Path")),
        online=product.get("Online") is not False,
        footprint=from_any_geojson(product.get("GeoFootprint")),
        start=parse_time(dates.get("Start")),
        stop=parse_time(dates.get("End")),
        relative_orbit=known_orbit(stated.get("relativeOrbitNumber")),
        orbit_direction=direction_of(str(stated.get("orbitDirection"))),
        size_bytes=known_size(product.get("ContentLength")),
    )


def parse_time(text: Any) -> datetime | None:
    """A moment of a catalogue's answer; None where it is none."""
    try:
        return utc_time(str(text))
    except (ValueError, OverflowError):
        return None
