"""The JRC's contract below /jrc, where its scripts need what our own routes do better otherwise.

Values of chips are as delivered, sizes are cut to what is possible, addresses of images have three
parts, old names of routes and bands hold, and what is not there is an empty list: scripts that
repeat a request until it succeeds would repeat one with status 404 for ever.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field

from app.chips.bands import OLD_WORDS
from app.http.parameters import Text
from app.http.response import JSON, Response
from app.query.campaigns import NoCampaignError
from app.routes import chip_params, chips, query
from app.routes.chip_params import MAX_BATCH, MAX_SIZE_M, MIN_SIZE_M, OldBand, OldComposite
from app.routes.query import SeriesParams
from app.routes.route import RequestContext, Route
from store.errors import NotFoundError

PREFIX = "/jrc"

_EVERY_BAND = AliasChoices("band", "bands")


class _SizeParams(chip_params.SizeParams):
    tickets: ClassVar[bool] = True

    chipsize: float = Field(
        1280.0,
        ge=0,
        le=1e6,
        description=f"length of the sides in metres; {MIN_SIZE_M} if smaller, {MAX_SIZE_M} if "
        "larger",
    )


class _DeliveredParams(chip_params.OffsetParams, _SizeParams):
    offset: Annotated[str, chip_params.OffsetForm] = Field(
        "delivered", description="delivered: the file's own values and dtype; applied: with offset"
    )


class _CompositeParams(_SizeParams):
    bands: OldComposite = Field(
        "B08_B04_B03",
        validate_default=True,
        validation_alias=AliasChoices("bands", "band"),
        description="one band, or three for red, green, blue; B8 is B08, SC is SCL",
    )


class _RawChipParams(_DeliveredParams):
    band: OldBand = Field(
        validation_alias=_EVERY_BAND,
        description="one band; B4 is B04, SC is SCL",
        examples=["B04"],
    )


class _ChipPointParams(_CompositeParams, chip_params.ChipPointParams):
    pass


class _ChipParcelParams(_CompositeParams, chip_params.ChipParcelParams):
    pass


class _RawChipPointParams(_RawChipParams, chip_params.RawChipPointParams):
    pass


class _RawChipParcelParams(_RawChipParams, chip_params.RawChipParcelParams):
    pass


class _BatchParams(_DeliveredParams, chip_params.BatchParams):
    tiles: tuple[Text, ...] = Field(
        (), max_length=MAX_BATCH, description="names of Sentinel-2 products", examples=[["S2A"]]
    )
    bands: tuple[OldBand, ...] = Field(
        (), max_length=12, description="Sentinel-2 bands, each of every product", examples=[["B08"]]
    )


class _RadarBatchParams(_SizeParams, chip_params.RadarBatchParams):
    pass


class _BackgroundParams(chip_params.BackgroundParams):
    default_names: ClassVar[frozenset[str]] = frozenset({"google", "bing", "esri", "ags", "osm"})

    tms: Text = Field(
        "Google",
        description="background source; the JRC's names Google, Bing, ESRI, AGS and OSM mean the "
        "default one where there is none of that name",
    )


class _BackgroundPointParams(_BackgroundParams, chip_params.BackgroundPointParams):
    pass


class _BackgroundParcelParams(_BackgroundParams, chip_params.BackgroundParcelParams):
    pass


class _SeriesParams(SeriesParams):
    band: Annotated[Text, BeforeValidator(lambda text: OLD_WORDS.get(text, text))] | None = Field(
        None,
        description="one band, such as B08 or VVb; B8 is B08, VV is VVb or VVc",
        examples=["B08"],
    )


_PARAMS: Mapping[str, type[Any]] = {
    "chipsByLocation": _ChipPointParams,
    "chipsByParcelID": _ChipParcelParams,
    "rawChipByLocation": _RawChipPointParams,
    "rawChipByParcelID": _RawChipParcelParams,
    "rawChipsBatch": _BatchParams,
    "rawS1ChipsBatch": _RadarBatchParams,
    "backgroundByLocation": _BackgroundPointParams,
    "backgroundByParcelID": _BackgroundParcelParams,
    "parcelTimeSeries": _SeriesParams,
}

_OLD_NAMES = {
    "parcelById": "parcelByID",
    "parcelByPolygon": "parcelsByPolygon",
    "chipByLocation": "chipsByLocation",
    "chipByParcelID": "chipsByParcelID",
    "backgroundByParcelId": "backgroundByParcelID",
}
"""Of routes, in the JRC's documents and scripts -> the name that it gave them later."""

_POSTED = frozenset({"rawChipsBatch", "rawS1ChipsBatch"})
_OURS = frozenset({"sceneSignatures"})


def _time_series(context: RequestContext[SeriesParams]) -> Response:
    """A series in which an observation without a histogram has an empty one; scripts expect it."""
    table, name = query.fetch_series(context)
    if "hist" in table:
        table["hist"] = [hist or {} for hist in table["hist"]]
    return query.table_response(table, context.params.tsformat, name)


def _handle(route: Route[Any], context: RequestContext[Any]) -> Response:
    """The route's response, or its columns empty where there is nothing of what is requested."""
    try:
        return route.handler(context)
    except NoCampaignError:
        raise
    except NotFoundError:
        empty = _empty(route)
        if empty is None:
            raise
        return query.table_response(empty, getattr(context.params, "tsformat", "json"), "nothing")


def _empty(route: Route[Any]) -> dict[str, list[Any]] | None:
    """The columns of a route that answers a table."""
    example = next((doc.example for doc in route.responses if doc.media_type == JSON), None)
    if not isinstance(example, dict) or not all(isinstance(v, list) for v in example.values()):
        return None
    return {name: [] for name in example}


def _jrc_route(route: Route[Any], name: str) -> Route[Any]:
    known = _OLD_NAMES.get(name, name)
    if known == "parcelTimeSeries":
        route = replace(route, handler=_time_series)
    return replace(
        route,
        path=f"{PREFIX}/query/{name}",
        params=_PARAMS.get(known, route.params),
        handler=lambda context: _handle(route, context),
        tag="jrc",
    )


def _routes() -> tuple[Route[Any], ...]:
    """The JRC's routes by all their names, and that of images."""
    ours = {
        route.path.removeprefix("/query/"): route
        for route in (*query.ROUTES, *chips.ROUTES)
        if route.path.startswith("/query/")
        and (route.method == "POST") == (route.path.removeprefix("/query/") in _POSTED)
    }
    names = {name: name for name in ours if name not in _OURS} | _OLD_NAMES
    image = next(route for route in chips.ROUTES if route.params is chip_params.TicketParams)
    return (
        *(_jrc_route(ours[known], name) for name, known in names.items()),
        replace(image, path=f"{PREFIX}{image.path}", tag="jrc"),
    )


ROUTES: tuple[Route[Any], ...] = _routes()
"""Routes below the prefix."""
