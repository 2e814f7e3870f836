"""Searching STAC APIs."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urljoin

from card.find import level1, stac
from card.find.candidate import (
    Candidate,
    Query,
    SearchResult,
    known_orbit,
    listing_of_product,
    listing_of_scene,
    search_result,
)
from card.find.facts import direction_of
from card.find.footprint import from_any_geojson, from_geojson
from card.find.odata import parse_time
from card.find.paging import Page, harvest, known_object
from card.find.scan_result import Problem
from card.find.sources import INPUT_KINDS, Source
from card.find.transport import ArchiveRequest, Transport, same_host
from store import products
from store.catalogue import Scene
from store.errors import CallerError, ProductNameError, SceneError, WorldError
from store.inputs import InputProduct
from store.kinds import INPUT_LEVELS
from store.products import Product

_LIMIT = 100
_OFFLINE = {"orderable", "shipping", "pending", "offline", "archive", "archived", "staging"}


def search(source: Source, query: Query, transport: Transport) -> SearchResult:
    """All products of a search in a STAC API, page by page.

    Raises:
        CallerError: the API refuses the request.
        WorldError: the API does not answer, or not as a STAC API would.
    """
    first = _first_request(source, query, transport)
    found = harvest(first, lambda request: _page(transport, request), _identity)
    return search_result((_candidate(source, query.kind, i) for i in found.entries), found.complete)


def _first_request(source: Source, query: Query, transport: Transport) -> ArchiveRequest:
    """The search as the API's first page links to it: by POST where it can, else by GET."""
    root = transport.get_json(ArchiveRequest(source.url))
    links = [
        link for link in _links(root, source.url)
        if link.get("rel") == "search" and isinstance(link.get("href"), str)
    ]  # fmt: skip
    posts = [link for link in links if str(link.get("method", "GET")).upper() == "POST"]
    if not links:
        raise WorldError(f"{source.url} does not answer as a STAC API: it links to no search")
    url = urljoin(source.url, (posts or links)[0]["href"])
    criteria = {
        "collections": [source.called(query.kind)],
        "bbox": list(query.bbox),
        "datetime": f"{query.start:%Y-%m-%dT%H:%M:%SZ}/{query.end:%Y-%m-%dT%H:%M:%SZ}",
        "limit": _LIMIT,
    }
    if posts:
        return ArchiveRequest(url, body=criteria)
    joined = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in criteria.items()}
    return ArchiveRequest(url, joined)


def _page(transport: Transport, request: ArchiveRequest) -> Page:
    page = transport.get_json(request)
    links = _links(page, request.url)
    features = page.get("features")
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise WorldError(f"{request.url} does not answer as a STAC API: no features on a page")
    matched = page.get("numberMatched", known_object(page.get("context")).get("matched"))
    following = next((link for link in links if link.get("rel") == "next"), None)
    return Page(
        features,
        None if following is None else _following(request, following),
        matched if isinstance(matched, int) and matched > 0 else None,
    )


def _links(page: Any, url: str) -> list[Mapping[str, Any]]:
    links = page.get("links", []) if isinstance(page, dict) else None
    if not isinstance(links, list):
        raise WorldError(f"{url} does not answer as a STAC API: no JSON object with links")
    return [link for link in links if isinstance(link, dict)]


def _following(request: ArchiveRequest, link: Mapping[str, Any]) -> ArchiveRequest:
    """The request that a `next` link stands for; a body is joined to the last one on its wish."""
    url, body = link.get("href"), link.get("body")
    if not isinstance(url, str):
        raise WorldError(f"{request.url} does not answer as a STAC API: a next link leads nowhere")
    url = urljoin(request.url, url)
    if not same_host(url, request.url):
        raise WorldError(f"{request.url} links its next page to another server: {url}")
    if str(link.get("method", "GET")).upper() != "POST":
        return ArchiveRequest(url)
    given = known_object(body)
    return ArchiveRequest(
        url, body={**(request.body or {}), **given} if link.get("merge") else given
    )


def _identity(item: Mapping[str, Any]) -> str:
    return f"{item.get('collection')} {item.get('id')}"


def _candidate(source: Source, kind: str, item: stac.Item) -> Candidate | Problem:
    """The candidate an item is; what cannot be described is one still, if its name is known."""
    try:
        if kind in INPUT_KINDS:
            return _input_candidate(source, kind, item)
        scene = _scene(item, _self_link(item) or source.url)
        listing = replace(listing_of_scene(source.name, scene), state=_state(item))
        return Candidate(listing, lambda: scene, cheap=True)
    except (SceneError, CallerError) as error:
        what = f"item {item.get('id')}"
        problem = Problem(what, str(error).removeprefix(f"{what}: "))
    product = _product(item)
    if product is None or (product.level in INPUT_LEVELS and kind not in INPUT_KINDS):
        return problem
    return Candidate(
        listing_of_product(
            source.name, kind, product, footprint=from_any_geojson(item.get("geometry"))
        ),
        partial(_refuse, problem.why),
        cheap=True,
    )


def _scene(item: stac.Item, base: str) -> Scene:
    try:
        return stac.scene_from_item(item, base)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SceneError(f"item {item.get('id')}: malformed: {error}") from error


def _input_candidate(source: Source, kind: str, item: stac.Item) -> Candidate:
    product = products.parse(str(item.get("id")))
    properties = known_object(item.get("properties"))
    made = level1.input_product(
        product,
        _folder(item, product),
        from_geojson(item.get("geometry")),
        start=parse_time(properties.get("start_datetime")),
        stop=parse_time(properties.get("end_datetime")),
        relative_orbit=known_orbit(properties.get("sat:relative_orbit")),
        orbit_direction=direction_of(str(properties.get("sat:orbit_state"))),
    )
    listing = listing_of_product(
        source.name,
        kind,
        product,
        footprint=from_any_geojson(item.get("geometry")),
        relative_orbit=made.relative_orbit,
        href=made.href,
        state=_state(item),
    )
    return Candidate(listing, lambda: replace(made, state=listing.state), cheap=True)


def _folder(item: stac.Item, product: Product) -> str:
    """The product's folder, which one of the assets lies in."""
    assets = item.get("assets")
    for asset in assets.values() if isinstance(assets, dict) else ():
        href = str(asset.get("href")) if isinstance(asset, dict) else ""
        above, name, below = href.partition(f"/{product.reference}")
        if name and href.startswith(("s3://", "/")):
            return f"{above}{name}{below.partition('/')[0]}"
    raise SceneError(f"no asset of {product.reference} lies in an s3:// folder of that name")


def _product(item: stac.Item) -> Product | None:
    for text in (known_object(item.get("properties")).get("s2:product_uri"), item.get("id")):
        try:
            product = products.find(str(text))
        except ProductNameError:
            return None
        if product:
            return product
    return None


def _state(item: stac.Item) -> str:
    """Online or offline, in the words of the order and storage extensions and of resto."""
    properties = known_object(item.get("properties"))
    words = (properties.get(name) for name in ("order:status", "storage:tier", "status"))
    said_no = properties.get("online") is False
    return "offline" if said_no or any(str(w).lower() in _OFFLINE for w in words) else "online"


def _self_link(item: stac.Item) -> str | None:
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("rel") == "self":
            return str(link.get("href"))
    return None


def _refuse(why: str) -> Scene | InputProduct:
    raise SceneError(why)
