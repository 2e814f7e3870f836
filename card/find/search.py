"""Searching any source for scenes and inputs."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from card.find import bucket, odata, opensearch, stac_api
from card.find.candidate import Query, SearchResult
from card.find.scan_result import Problem
from card.find.sources import Source
from card.find.transport import Transport
from store.catalogue import Scene
from store.errors import CallerError, SceneError
from store.inputs import InputProduct

_PROTOCOLS: Mapping[str, Callable[[Source, Query, Transport], SearchResult]] = {
    "stac": stac_api.search,
    "odata": odata.search,
    "opensearch": opensearch.search,
    "bucket": bucket.search,
}


def search(source: Source, query: Query, transport: Transport) -> SearchResult:
    """All products of a search.

    Raises:
        CallerError: the request makes no sense, or the source refuses it.
        WorldError: the source does not answer, or not as it should.
    """
    west, south, east, north = query.bbox
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise CallerError(f"bbox {query.bbox} is not west, south, east, north in degrees")
    if query.start > query.end:
        raise CallerError(f"the start {query.start:%Y-%m-%d} is after the end {query.end:%Y-%m-%d}")
    return _PROTOCOLS[source.protocol](source, query, transport)


def search_collection(
    url: str,
    collection: str,
    bbox: tuple[float, float, float, float],
    start: datetime,
    end: datetime,
    transport: Transport | None = None,
) -> Iterator[Scene | InputProduct | Problem]:
    """All scenes of one collection of a STAC API; items that are no scene come as problems.

    Args:
        url: root of the API.
        collection: id of one of its collections.
        bbox: west, south, east, north in degrees.
        start: first moment, timezone-aware.
        end: last moment, timezone-aware.
        transport: sends the requests.

    Raises:
        CbmError: as `search`.
    """
    source = Source(url, url, "stac", url, {"s2": collection})
    found = search(source, Query("s2", bbox, start, end), transport or Transport())
    yield from found.problems
    for candidate in found.candidates:
        try:
            yield candidate.read()
        except (SceneError, CallerError) as error:
            yield Problem(candidate.listing.reference, str(error))
    if not found.complete:
        yield Problem(url, "lists more than its pages hold, or repeats them: search again")
