"""Searching archives by OpenSearch, with answers as resto gives them in JSON."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from card.find.archive import Entry, candidates
from card.find.candidate import Query, SearchResult, known_orbit, known_size, search_result
from card.find.facts import direction_of
from card.find.footprint import from_any_geojson
from card.find.odata import odata_time, parse_time
from card.find.paging import Page, harvest, known_object
from card.find.sources import Source
from card.find.transport import ArchiveRequest, Transport, same_host
from store.errors import WorldError

_MOST = 200


def search(source: Source, query: Query, transport: Transport) -> SearchResult:
    """All products of a search, page by page.

    Raises:
        CallerError: the catalogue refuses the request.
        WorldError: it does not answer, or not as resto would.
    """
    collection = "Sentinel2" if query.kind == "s2" else "Sentinel1"
    first = ArchiveRequest(
        f"{source.url.rstrip('/')}/{collection}/search.json",
        {
            "productType": source.called(query.kind),
            "startDate": odata_time(query.start),
            "completionDate": odata_time(query.end),
            "box": ",".join(f"{degrees:.6f}" for degrees in query.bbox),
            "status": "ALL",  # products that must be ordered first, too
            "sortParam": "startDate",
            "sortOrder": "ascending",
            "maxRecords": _MOST,
        },
    )
    found = harvest(first, lambda request: _page(transport, request), lambda e: str(e.get("id")))
    entries = (_entry(feature) for feature in found.entries)
    return search_result(candidates(source, query.kind, entries), found.complete)


def _page(transport: Transport, request: ArchiveRequest) -> Page:
    page = transport.get_json(request)
    features = page.get("features") if isinstance(page, dict) else None
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise WorldError(f"{request.url} does not answer as OpenSearch: no features on a page")
    stated = known_object(page.get("properties"))
    links, total = stated.get("links"), stated.get("totalResults")
    following = next(
        (
            str(link.get("href"))
            for link in (links if isinstance(links, list) else ())
            if isinstance(link, dict) and link.get("rel") == "next"
        ),
        None,
    )
    if following is not None:
        following = urljoin(request.url, following)
        if not same_host(following, request.url):
            raise WorldError(f"{request.url} links its next page to another server: {following}")
    exact = stated.get("exactCount") in (1, True)
    return Page(
        features,
        None if following is None else ArchiveRequest(following),
        total if exact and isinstance(total, int) and total >= 0 else None,
    )


def _entry(feature: Mapping[str, Any]) -> Entry:
    stated = known_object(feature.get("properties"))
    download = known_object(known_object(stated.get("services")).get("download"))
    return Entry(
        name=str(stated.get("title")),
        path=str(stated.get("productIdentifier")),
        online=str(stated.get("status")).upper() in ("ONLINE", "0", "NONE"),
        footprint=from_any_geojson(feature.get("geometry")),
        start=parse_time(stated.get("startDate")),
        stop=parse_time(stated.get("completionDate")),
        relative_orbit=known_orbit(stated.get("relativeOrbitNumber")),
        orbit_direction=direction_of(str(stated.get("orbitDirection"))),
        size_bytes=known_size(download.get("size")),
    )
