"""Searching the archive's own bucket, or a mount of it: folders by day, named as products."""

from collections.abc import Iterator
from datetime import date, timedelta

from shapely import box
from shapely.geometry.base import BaseGeometry

from card.find.archive import Entry, candidates
from card.find.candidate import Query, SearchResult, search_result
from card.find.sources import Source
from card.find.tile import tile_footprint
from card.find.transport import Transport
from store import products
from store.errors import NotFoundError, ProductNameError
from store.objects import list_folders
from store.products import Product

_DEPTH = 6


def search(source: Source, query: Query, transport: Transport | None = None) -> SearchResult:  # noqa: ARG001
    """All products of a search that lie in the bucket, whether a catalogue lists them or not.

    Sentinel-2 is chosen by its tiles. Names of Sentinel-1 do not say where they are: all of a day
    are candidates, without footprint.

    Raises:
        ObjectStoreError: the store is away or refuses us.
    """
    entries = (
        entry
        for day in _days(query)
        for folder in source.called(query.kind).split()
        for entry in _entries(source, f"{folder}{day:%Y/%m/%d}/")
        if _meets(entry, query)
    )
    return search_result(candidates(source, query.kind, entries), complete=True)


def find_products(place: str) -> Iterator[str]:
    """Addresses of all product folders below an s3:// address, in the order of their names.

    Raises:
        NotFoundError: there is no such bucket.
        ObjectStoreError: the store is away or refuses us.
    """
    place = place.rstrip("/")
    if _is_product(place):
        yield place
    else:
        yield from _products_below(place, _DEPTH)


def footprint_of_name(product: Product) -> BaseGeometry | None:
    """The outline that a name lets expect: the tile of Sentinel-2; None of Sentinel-1."""
    return tile_footprint(product.tile) if product.tile else None


def _products_below(place: str, depth: int) -> Iterator[str]:
    for name in list_folders(place):
        if _is_product(name):
            yield f"{place}/{name}"
        elif depth and not name.endswith(".SAFE"):
            yield from _products_below(f"{place}/{name}", depth - 1)


def _is_product(name: str) -> bool:
    try:
        products.parse(name)
    except ProductNameError:
        return False
    return True


def _days(query: Query) -> Iterator[date]:
    day = query.start.date()
    while day <= (query.end - timedelta(microseconds=1)).date():
        yield day
        day += timedelta(days=1)


def _entries(source: Source, prefix: str) -> Iterator[Entry]:
    root = source.url.rstrip("/")
    try:
        names = list_folders(f"{root}/{prefix}")
    except NotFoundError:  # nothing of that day: on a mount there is no folder then
        return
    for name in names:
        try:
            footprint = footprint_of_name(products.parse(name))
        except ProductNameError:
            continue
        yield Entry(name, f"{root}/{prefix}{name}", footprint=footprint)


def _meets(entry: Entry, query: Query) -> bool:
    west, south, east, north = query.bbox
    if entry.footprint is None or west > east:
        return True
    return bool(entry.footprint.intersects(box(west, south, east, north)))
