"""Searching STAC APIs for scenes."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pystac.errors import STACError
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests import RequestException
from urllib3 import Retry

from card import stac
from card.found import Problem
from store.catalogue import Scene
from store.errors import CallerError, SceneError, WorldError

_TIMEOUT_S = 30.0
_RETRIES = Retry(
    total=5,
    connect=3,
    read=1,  # a server that is silent for half a minute is rarely quicker the sixth time
    backoff_factor=0.5,
    status_forcelist=(429, 502, 503, 504),
    allowed_methods=None,  # a search is a POST that changes nothing
)


def search(
    url: str,
    collection: str,
    bbox: tuple[float, float, float, float],
    start: datetime,
    end: datetime,
) -> Iterator[Scene | Problem]:
    """All scenes of a search, page by page; items that are no scene come as problems.

    Args:
        url: root of a STAC API.
        collection: id of one of its collections.
        bbox: west, south, east, north in degrees.
        start: first moment, timezone-aware.
        end: last moment, timezone-aware.

    Raises:
        CallerError: the request makes no sense, or the API refuses it.
        WorldError: the API does not answer, or not as a STAC API would.
    """
    west, south, east, north = bbox
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise CallerError(f"bbox {bbox} is not west, south, east, north in degrees")
    if start > end:
        raise CallerError(f"the start {start:%Y-%m-%d} is after the end {end:%Y-%m-%d}")
    for item in _items(url, collections=[collection], bbox=bbox, datetime=(start, end)):
        what = f"item {item.get('id')}"
        try:
            yield stac.scene_from_item(item, _self_link(item) or url)
        except (SceneError, CallerError) as error:
            yield Problem(what, str(error).removeprefix(f"{what}: "))


def _items(url: str, **criteria: Any) -> Iterator[stac.Item]:
    """Items of a search, with pystac-client's many ways to fail told apart by whose fault."""
    try:
        # The timeout goes to open(), which overwrites that of the StacApiIO it is given.
        api = StacApiIO(max_retries=_RETRIES)
        client = Client.open(url, stac_io=api, timeout=_TIMEOUT_S)
        yield from client.search(limit=100, **criteria).items_as_dicts()
    except APIError as error:
        status = getattr(error, "status_code", None)  # none when no answer came at all
        if status in (400, 404, 422):
            raise CallerError(f"the STAC API {url} refuses: {_brief(error)}") from error
        raise WorldError(f"the STAC API {url} is out of order: {_brief(error)}") from error
    except (
        AttributeError,
        NotImplementedError,
        LookupError,
        TypeError,
        ValueError,
        STACError,
    ) as error:
        raise WorldError(f"{url} does not answer as a STAC API: {_brief(error)}") from error
    except (RequestException, OSError) as error:
        raise WorldError(f"the STAC API {url} does not answer: {_brief(error)}") from error


def _self_link(item: stac.Item) -> str | None:
    links = item.get("links") or ()
    return next((link["href"] for link in links if link.get("rel") == "self"), None)


def _brief(error: Exception) -> str:
    """The first line of an error, which may be a server's whole page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
