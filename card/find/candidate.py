"""What a search yields: products that a source lists, each with the way to describe it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from shapely.geometry.base import BaseGeometry

from card.find.footprint import multipolygon_wkt
from card.find.scan_result import Problem
from store.catalogue import Scene
from store.inputs import InputProduct
from store.listings import Listing
from store.products import Product


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        kind: CARD kind, or grd or slc.
        bbox: west, south, east, north in degrees; west may be above east, across the antimeridian.
        start: first moment of sensing, timezone-aware.
        end: last moment, timezone-aware; what lies exactly on it may be listed or not.
    """

    kind: str
    bbox: tuple[float, float, float, float]
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Candidate:
    """A product that a source lists.

    Attributes:
        listing: what the list itself says.
        read: describes it as a row of the catalogue, which may mean reading its metadata. It
            raises NotFoundError for a product that is not in the store, and other CbmErrors.
        cheap: whether `read` reads nothing over the network.
    """

    listing: Listing
    read: Callable[[], Scene | InputProduct]
    cheap: bool = False


@dataclass(frozen=True)
class SearchResult:
    """The yield of a search.

    Attributes:
        candidates: with unique references.
        problems: entries that say not even which product they are.
        complete: whether the source gave all, as far as can be known.
    """

    candidates: tuple[Candidate, ...]
    problems: tuple[Problem, ...] = ()
    complete: bool = True


def listing_of_product(
    source: str,
    kind: str,
    product: Product,
    *,
    footprint: BaseGeometry | None = None,
    relative_orbit: int | None = None,
    href: str | None = None,
    size_bytes: int | None = None,
    state: str = "online",
    reason: str | None = None,
) -> Listing:
    """The listing of a product by its name, and what else a source says of it."""
    return Listing(
        source=source,
        reference=product.reference,
        kind=kind,
        platform=product.platform,
        acquisition=product.acquisition,
        sensed_at=product.sensing_start,
        tile=product.tile,
        relative_orbit=known_orbit(relative_orbit) or product.relative_orbit,
        baseline=product.baseline,
        footprint_wkt=None if footprint is None else multipolygon_wkt(footprint),
        href=href,
        size_bytes=size_bytes,
        state=state,
        reason=reason,
    )


def known_orbit(number: object) -> int | None:
    """A relative orbit number as a source states it; None if it is none.

    Sentinel-1 has 175 of them, Sentinel-2 143.
    """
    is_one = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 175
    return number if is_one else None  # type: ignore[return-value]


def known_size(number: object) -> int | None:
    """A size in bytes as a source states it; None if it is none."""
    is_one = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 50
    return number if is_one else None  # type: ignore[return-value]


def listing_of_scene(source: str, scene: Scene) -> Listing:
    """The listing of a scene that its source describes in full."""
    return Listing(
        source=source,
        reference=scene.reference,
        kind=scene.kind,
        platform=scene.platform,
        acquisition=scene.acquisition,
        sensed_at=scene.obstime.replace(microsecond=0),
        tile=scene.tile,
        relative_orbit=scene.relative_orbit,
        baseline=scene.baseline,
        footprint_wkt=scene.footprint_wkt,
        href=next((source.href for source in scene.bands.values()), None),
    )


def search_result(found: Iterable[Candidate | Problem], complete: bool) -> SearchResult:
    """Gather a yield: one candidate for each reference, the first that is online."""
    best: dict[str, Candidate] = {}
    problems = []
    for one in found:
        if isinstance(one, Problem):
            problems.append(one)
            continue
        known = best.setdefault(one.listing.reference, one)
        if known.listing.state != "online" and one.listing.state == "online":
            best[one.listing.reference] = one
    return SearchResult(tuple(best.values()), tuple(problems), complete)
