"""The JRC's contract below /jrc, where its scripts need what our own routes do better otherwise.

Values of chips are as delivered, sizes are cut to what is possible, addresses of images have three
parts, old names of routes and bands hold, and what is not there is an empty list: scripts that
repeat a request until it succeeds would repeat one with status 404 for ever.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field, create_model

from app.chips.bands import OLD_WORDS
from app.http.parameters import Params, Text
from app.http.response import JSON, Response
from app.query.campaigns import NoCampaignError
from app.routes import chip_params, chips, query
from app.routes.chip_params import MAX_BATCH, MAX_SIZE_M, MIN_SIZE_M, OldBand, OldComposite
from app.routes.query import SeriesParams
from app.routes.route import RequestContext, Route
from store.errors import NotFoundError

PREFIX = "/jrc"


class _Size(chip_params.SizeParams):
    tickets: ClassVar[bool] = True

    chipsize: float = Field(
        1280.0,
        ge=0,
        le=1e6,
        description=f"length of the sides in metres; {MIN_SIZE_M} if smaller, {MAX_SIZE_M} if "
        "larger",
    )


class _DeliveredSize(chip_params.OffsetParams, _Size):
    offset: Annotated[str, chip_params.OffsetForm] = Field(
        "delivered", description="delivered: the file's own values and dtype; applied: with offset"
    )


class _Composite(_Size):
    bands: OldComposite = Field(
        "B08_B04_B03",
        validate_default=True,
        validation_alias=AliasChoices("bands", "band"),
        description="one band, or three for red, green, blue; B8 is B08, SC is SCL",
    )


class _RawChip(_DeliveredSize):
    band: OldBand = Field(
        validation_alias=AliasChoices("band", "bands"),
        description="one band; B4 is B04, SC is SCL",
        examples=["B04"],
    )


class _Batch(_DeliveredSize):
    tiles: tuple[Text, ...] = Field(
        (), max_length=MAX_BATCH, description="names of Sentinel-2 products", examples=[["S2A"]]
    )
    bands: tuple[OldBand, ...] = Field(
        (), max_length=12, description="Sentinel-2 bands, each of every product", examples=[["B08"]]
    )


class _Background(chip_params.BackgroundParams):
    default_names: ClassVar[frozenset[str]] = frozenset({"google", "bing", "esri", "ags", "osm"})

    tms: Text = Field(
        "Google",
        description="background source; the JRC's names Google, Bing, ESRI, AGS and OSM mean the "
        "default one where there is none of that name",
    )


class _Series(Params):
    band: Annotated[Text, BeforeValidator(lambda text: OLD_WORDS.get(text, text))] | None = Field(
        None,
        description="one band, such as B08 or VVb; B8 is B08, VV is VVb or VVc",
        examples=["B08"],
    )


_PARAMS: Mapping[str, type[Params]] = {
    "chipsByLocation": _Composite,
    "chipsByParcelID": _Composite,
    "rawChipByLocation": _RawChip,
    "rawChipByParcelID": _RawChip,
    "rawChipsBatch": _Batch,
    "rawS1ChipsBatch": _Size,
    "backgroundByLocation": _Background,
    "backgroundByParcelID": _Background,
    "parcelTimeSeries": _Series,
}
"""The parameters that are others here than those of our own route of the name."""

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
    params = route.params
    if known in _PARAMS:
        params = create_model(f"Jrc{params.__name__}", __base__=(_PARAMS[known], params))
    if known == "parcelTimeSeries":
        route = replace(route, handler=_time_series)
    return replace(
        route,
        path=f"{PREFIX}/query/{name}",
        params=params,
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
