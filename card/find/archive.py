"""Products of an archive that catalogues list by name and path: OData, OpenSearch, the bucket."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from shapely.geometry.base import BaseGeometry

from card.find import level1, product_reader
from card.find.candidate import Candidate, listing_of_product
from card.find.scan_result import Problem
from card.find.sources import INPUT_KINDS, Source
from store import products
from store.errors import ProductNameError
from store.products import Product

_ROOT = "/eodata/"


@dataclass(frozen=True)
class Entry:
    """What a catalogue says of a product; None where it is silent.

    Attributes:
        name: with or without .SAFE.
        path: /eodata/... or an s3:// address.
        online: False for products that must be ordered first.
        footprint: in degrees.
        start: of sensing, timezone-aware.
        stop: of sensing, timezone-aware.
        relative_orbit: its number.
        orbit_direction: ascending or descending.
        size_bytes: of the product.
    """

    name: str
    path: str
    online: bool = True
    footprint: BaseGeometry | None = None
    start: datetime | None = None
    stop: datetime | None = None
    relative_orbit: int | None = None
    orbit_direction: str | None = None
    size_bytes: int | None = None


def candidate(source: Source, kind: str, entry: Entry) -> Candidate | Problem | None:
    """The candidate an entry is; None for a product of another kind."""
    try:
        product = products.parse(entry.name)
    except ProductNameError as error:
        return Problem(entry.name, str(error))
    if not is_kind(product, kind):
        return None
    href = _href(source, entry.path)
    listing = listing_of_product(
        source.name,
        kind,
        product,
        footprint=entry.footprint,
        relative_orbit=entry.relative_orbit,
        href=href,
        size_bytes=entry.size_bytes,
        state="online" if entry.online else "offline",
    )
    if kind in INPUT_KINDS and entry.footprint is not None:
        read = partial(
            level1.input_product,
            product,
            href,
            entry.footprint,
            start=entry.start,
            stop=entry.stop,
            relative_orbit=entry.relative_orbit,
            orbit_direction=entry.orbit_direction,
            size_bytes=entry.size_bytes,
        )
        return Candidate(listing, read, cheap=True)
    return Candidate(listing, partial(product_reader.read, href))


def candidates(
    source: Source, kind: str, entries: Iterable[Entry]
) -> Iterable[Candidate | Problem]:
    """The candidates that entries are, without products of other kinds."""
    return filter(None, (candidate(source, kind, entry) for entry in entries))


def is_kind(product: Product, kind: str) -> bool:
    """Whether a product is of a kind of search: a CARD kind, or grd or slc."""
    return (
        product.level.lower() == kind
        if kind in INPUT_KINDS
        else (product.is_card and product.kind == kind)
    )


def _href(source: Source, path: str) -> str:
    """Where a product lies for us: catalogues give paths below /eodata, on every platform."""
    if path.startswith(_ROOT):
        return f"{source.store.rstrip('/')}/{path.removeprefix(_ROOT).rstrip('/')}"
    return path.rstrip("/")
