"""Routes of parcels and their series, with the JRC's names."""

from http import HTTPStatus
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from app.chips.image_service import ImageService
from app.http.errors import ParameterError
from app.http.parameters import AoiCode, Day, Flag, Params, Text, Whole, choice_of
from app.http.response import Response, file_response, json_response
from app.query import parcels, tables
from app.query.bulk import stream_scene_signatures, stream_series
from app.query.campaigns import CampaignView, campaigns_of_aoi, fetch_campaigns
from app.query.columns import Columns
from app.query.info import fetch_info
from app.query.markers import fetch_markers
from app.query.parcels import ParcelPage
from app.query.polygon import PolygonText
from app.query.series import Selection, scl_series, time_series
from app.query.weather import fetch_weather
from app.routes import response_docs as docs
from app.routes.params import CampaignParams, GeometryParams, ParcelParams, PointParams, campaign_of
from app.routes.route import Lane, RequestContext, Route, make_route
from store import db
from store.kinds import CLEAR_CLASSES, KINDS

_STATISTICS_KINDS = {tstype: kind.name for kind in KINDS.values() for tstype in kind.tstypes}


StatisticsKind = Annotated[str, choice_of(_STATISTICS_KINDS)]
SeriesKind = Annotated[str, choice_of(_STATISTICS_KINDS | {"scl": "scl"})]


def _form(*forms: str) -> BeforeValidator:
    return choice_of({form: form for form in forms})


def _form_field(default: str) -> Any:
    names = AliasChoices("tsformat", "format")
    return Field(default, validation_alias=names, description="form of the answer")


TableForm = Annotated[str, _form("json", *tables.MEDIA_TYPES)]
StreamForm = Annotated[str, _form("arrow", "parquet", "csv", "json")]
SignatureForm = Annotated[str, _form("arrow", "parquet", "csv")]


class _ParcelAttributesParams(GeometryParams, ParcelParams):
    pass


class _LocationParams(GeometryParams, PointParams, CampaignParams):
    pass


class _AreaParams(GeometryParams, CampaignParams):
    polygon: PolygonText = Field(
        description="an area as lon_lat-lon_lat-..., or GeoJSON",
        examples=["5.38_52.15-5.40_52.15-5.40_52.16"],
    )
    only_ids: Flag = Field(True, description="the ids alone")
    limit: Whole = Field(
        1000,
        ge=1,
        le=10_000,
        validation_alias=AliasChoices("limit", "max"),
        description="parcels at most",
    )
    page: Whole = Field(1, ge=1, le=1_000_000, description="which page of so many, from 1")
    after: Text | None = Field(None, description="go on after this parcel", examples=["007"])


class _PeersParams(ParcelParams):
    distance: float = Field(1000.0, ge=0, le=20_000, description="how far at most, metres")
    max: Whole = Field(
        10,
        ge=1,
        le=10_000,
        validation_alias=AliasChoices("max", "maxPeers"),
        description="how many at most",
    )


class _PeriodParams(Params):
    start: Day | None = Field(
        None,
        validation_alias=AliasChoices("start", "start_date"),
        description="first day, UTC",
        examples=["2024-04-01"],
    )
    end: Day | None = Field(
        None,
        validation_alias=AliasChoices("end", "end_date"),
        description="last day, included",
        examples=["2024-09-30"],
    )


class _SelectionParams(Params):
    all: Flag = Field(False, description="not only the preferred scene of an acquisition")
    cloudfree: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description=(
            "least share of the parcel's pixels that show the ground by their SCL class "
            f"({', '.join(map(str, CLEAR_CLASSES))})"
        ),
        examples=[0.9],
    )


class _StatisticsParams(_SelectionParams, _PeriodParams):
    band: Text | None = Field(
        None, description="one band, such as B08 or VVb; all if absent", examples=["B08"]
    )
    scl: Flag = Field(True, description="with SCL histograms (s2)")
    ref: Flag = Field(False, description="with the products' names")

    @property
    def selection(self) -> Selection:
        """The filter of observations."""
        return Selection(self.start, self.end, self.all, self.cloudfree)


class SeriesParams(_StatisticsParams, ParcelParams):
    """The series of a parcel."""

    tstype: SeriesKind = Field("s2", description="which series")
    flags: Flag = Field(
        False,
        description="with px (pixels of the parcel), valid (share of them with data) and flags "
        "(sum of 1: by touched pixels, no pixel centre is inside; 2: the same on a coarser grid; "
        "4: the campaign's buffer left nothing; 8: cut by the raster's edge); of bs also layover "
        "and shadow (shares of the parcel's pixels there, 0 where the product has no mask)",
    )
    tsformat: TableForm = _form_field("json")


class _ManySeriesParams(_StatisticsParams, CampaignParams):
    pid: tuple[Text, ...] = Field(
        max_length=10_000,
        validation_alias=AliasChoices("pid", "pids"),
        description="the agency's ids of the parcels",
        examples=[["007", "008"]],
    )
    tstype: StatisticsKind = Field("s2", description="which series")
    tsformat: StreamForm = _form_field("arrow")


class _SceneSignaturesParams(_SelectionParams, CampaignParams):
    tstype: StatisticsKind = Field("s2", description="which series")
    scene: Text | None = Field(
        None,
        validation_alias=AliasChoices("scene", "reference"),
        description="the product's name",
        examples=["S2A_MSIL2A_20240501T103031_N0510_R108_T31UFT_20240501T153000"],
    )
    date: Day | None = Field(
        None, description="all scenes of this day, UTC", examples=["2024-05-01"]
    )
    tsformat: SignatureForm = _form_field("arrow")


class _WeatherParams(_PeriodParams, ParcelParams):
    tsformat: TableForm = _form_field("json")


class _InfoParams(Params):
    aoi: AoiCode | None = Field(None, description="only this aoi", examples=["nl"])


def _parcel_by_id(context: RequestContext[_ParcelAttributesParams]) -> Response:
    params = context.params
    with campaign_of(context) as (conn, campaign):
        table = parcels.parcel_by_id(conn, campaign, params.pid, **_geometry(params))
    return json_response(table)


def _parcel_by_location(context: RequestContext[_LocationParams]) -> Response:
    params = context.params
    with campaign_of(context) as (conn, campaign):
        table = parcels.parcel_by_location(
            conn, campaign, params.lon, params.lat, **_geometry(params)
        )
    return json_response(table)


def _parcels_by_polygon(context: RequestContext[_AreaParams]) -> Response:
    params = context.params
    page = ParcelPage(params.limit, (params.page - 1) * params.limit, params.after)
    options = {"only_ids": params.only_ids, **_geometry(params)}
    with campaign_of(context) as (conn, campaign):
        table, more = parcels.parcels_by_polygon(conn, campaign, params.polygon, page, **options)
    return Response(HTTPStatus.OK, table.json(), headers={"X-Truncated": str(more).lower()})


def _geometry(params: GeometryParams) -> dict[str, bool]:
    return {"geometry": params.geometry, "wgs84": params.wgs84}


def _parcel_peers(context: RequestContext[_PeersParams]) -> Response:
    params = context.params
    with campaign_of(context) as (conn, campaign):
        table = parcels.fetch_peers(conn, campaign, params.pid, params.distance, params.max)
    return json_response(table)


def _parcel_time_series(context: RequestContext[SeriesParams]) -> Response:
    table, name = fetch_series(context)
    return table_response(table, context.params.tsformat, name)


def fetch_series(context: RequestContext[SeriesParams]) -> tuple[Columns, str]:
    """The series of a request, and the name of a file of it.

    Raises:
        NotFoundError: there is no such parcel or campaign.
    """
    params = context.params
    with campaign_of(context) as (conn, campaign):
        table = _series(conn, campaign, params)
    return table, f"timeseries_{_parcel_name(campaign, params.pid)}_{params.tstype}"


def _series(conn: db.Connection, campaign: CampaignView, params: SeriesParams) -> Columns:
    pid, kind, selection = params.pid, params.tstype, params.selection
    if kind != "scl":
        options = {name: getattr(params, name) for name in ("band", "scl", "ref", "flags")}
        return time_series(conn, campaign, pid, kind, selection, **options)
    if params.band or params.flags:
        name = "band" if params.band else "flags"
        raise ParameterError(f"{name}: histograms (tstype scl) have none")
    return scl_series(conn, campaign, pid, selection, ref=params.ref)


def _many_time_series(context: RequestContext[_ManySeriesParams]) -> Response:
    params, form = context.params, context.params.tsformat
    which = params.pid, params.tstype, params.selection, form, params.band
    with campaign_of(context) as (_, campaign):
        rows = stream_series(context.pool, campaign, *which, scl=params.scl, ref=params.ref)
    if form == "json":
        return Response(HTTPStatus.OK, rows)
    return _file(rows, form, f"timeseries_{campaign.aoi}{campaign.year}")


def _scene_signatures(context: RequestContext[_SceneSignaturesParams]) -> Response:
    params = context.params
    scene, day = params.scene, params.date
    if (scene is None) == (day is None):
        raise ParameterError("scene: one of scene and date has to be given, not both")
    selection = Selection(every=params.all or scene is not None, cloudfree=params.cloudfree)
    form, which = params.tsformat, (params.tstype, scene, day)
    with campaign_of(context) as (_, campaign):
        rows = stream_scene_signatures(context.pool, campaign, *which, selection, form)
    return _file(rows, form, f"signatures_{campaign.aoi}{campaign.year}_{scene or day}")


def _weather(context: RequestContext[_WeatherParams]) -> Response:
    params = context.params
    with campaign_of(context) as (conn, campaign):
        table = fetch_weather(conn, campaign, params.pid, params.start, params.end)
    return table_response(table, params.tsformat, f"weather_{_parcel_name(campaign, params.pid)}")


def _markers(context: RequestContext[ParcelParams]) -> Response:
    with campaign_of(context) as (conn, campaign):
        return json_response(fetch_markers(conn, campaign, context.params.pid))


def table_response(table: Columns, form: str, name: str) -> Response:
    """A table in JSON, or as a file of some form and name."""
    if form == "json":
        return json_response(table)
    return _file(tables.encode_table(table, form), form, name)


def _file(body: Any, form: str, name: str) -> Response:
    return file_response(body, tables.MEDIA_TYPES[form], f"{name}.{tables.SUFFIXES[form]}")


def _parcel_name(campaign: CampaignView, code: str) -> str:
    ptype = f"_{campaign.ptype}" if campaign.ptype else ""
    return f"{campaign.aoi}{campaign.year}{ptype}_{code}"


def _info(context: RequestContext[_InfoParams]) -> Response:
    aoi, user = context.params.aoi, context.user
    with context.connection() as conn:
        campaigns = campaigns_of_aoi(conn, user, aoi) if aoi else fetch_campaigns(conn, user.aois)
        sources = context.resource(ImageService).sources.names
        return json_response(fetch_info(conn, campaigns, sources))


ROUTES: tuple[Route[Any], ...] = (
    make_route(
        "/query/parcelByID", "Attributes of the parcel with an id",
        _ParcelAttributesParams, _parcel_by_id, docs.PARCELS,
    ),
    make_route(
        "/query/parcelByLocation", "Attributes of the parcels at a point",
        _LocationParams, _parcel_by_location, docs.PARCELS,
    ),
    make_route(
        "/query/parcelsByPolygon",
        "The parcels that meet an area; header X-Truncated says whether there are more",
        _AreaParams, _parcels_by_polygon, docs.PARCEL_IDS, lane=Lane.STREAM,
    ),
    make_route(
        "/query/parcelsByPolygon", "The parcels that meet an area too long for an address",
        _AreaParams, _parcels_by_polygon, docs.PARCEL_IDS, method="POST", lane=Lane.STREAM,
    ),
    make_route(
        "/query/parcelPeers", "Parcels of the same crop around a parcel, nearest first",
        _PeersParams, _parcel_peers, docs.PEERS,
    ),
    make_route(
        "/query/parcelTimeSeries", "Statistics of a parcel's pixels, by observation and band",
        SeriesParams, _parcel_time_series, docs.SERIES, *docs.FILES,
    ),
    make_route(
        "/query/parcelTimeSeries", "The same of up to 10,000 parcels, streamed",
        _ManySeriesParams, _many_time_series, docs.MANY_SERIES, *docs.FILES, method="POST",
        lane=Lane.STREAM,
    ),
    make_route(
        "/query/sceneSignatures",
        "Signatures of all parcels in one scene, or in those of a day, streamed",
        _SceneSignaturesParams, _scene_signatures, *docs.FILES, lane=Lane.STREAM,
    ),
    make_route(
        "/query/weatherTimeSeries", "Daily weather at a parcel, by default of the campaign's days",
        _WeatherParams, _weather, docs.WEATHER, *docs.FILES,
    ),
    make_route("/query/markers", "The markers of a parcel", ParcelParams, _markers, docs.MARKERS),
    make_route(
        "/query/info", "The user's aois and campaigns, with examples of requests",
        _InfoParams, _info, docs.INFO,
    ),
)  # fmt: skip
"""Routes of parcels and their series."""
