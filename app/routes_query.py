"""Questions about parcels, in the JRC's words."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from app import answers, replies, tables
from app.asked import CAMPAIGN, GEOMETRY, PARCEL, PLACE, WGS84
from app.bulk import many_series, scene_signatures
from app.campaigns import Campaign, asked_campaign, campaigns, campaigns_of
from app.chips.studio import Studio
from app.columns import Columns
from app.errors import ParameterError
from app.info import info
from app.markers import markers
from app.parameters import (
    Parameter,
    aoi_code,
    day,
    number_within,
    one_of,
    plain_text,
    truth,
    whole_within,
)
from app.parcels import Page, parcel_by_id, parcel_by_location, parcels_by_polygon, peers
from app.polygon import polygon
from app.replies import Reply
from app.route import Call, Route
from app.series import CLEAR_CLASSES, Selection, scl_series, time_series
from app.weather import weather
from store import db

# c1 is the JRC's name for 12-day coherence.
_STATISTICS_KINDS = {"s2": "s2", "bs": "bs", "c6": "c6", "c12": "c12", "c1": "c12"}
_KINDS = _STATISTICS_KINDS | {"scl": "scl"}
_REFERENCE = "S2A_MSIL2A_20240501T103031_N0510_R108_T31UFT_20240501T153000"
_FILES = ("csv", "arrow", "parquet")


def _form(*forms: str) -> Parameter:
    """The form of an answer; the first one if none is asked for."""
    accepted = one_of({form: form for form in forms})
    return Parameter("tsformat", "form of the answer", accepted, forms[0], ("format",))


_DATES = (
    Parameter("start", "first day, UTC", day, None, ("start_date",), "2024-04-01"),
    Parameter("end", "last day, included", day, None, ("end_date",), "2024-09-30"),
)
_EVERY = Parameter("all", "not only the preferred scene of an acquisition", truth, False)
_CLOUDFREE = Parameter(
    "cloudfree",
    "least share of the parcel's pixels that show the ground by their SCL class "
    f"({', '.join(map(str, CLEAR_CLASSES))})",
    number_within(0, 1),
    None,
    example=0.9,
)
_TYPE = Parameter("tstype", "which series", one_of(_KINDS), "s2")
_KIND = Parameter("tstype", "which series", one_of(_STATISTICS_KINDS), "s2")
_SERIES = (
    Parameter(
        "band", "one band, such as B08 or VVb; all if absent", plain_text, None, example="B08"
    ),
    *_DATES,
    _EVERY,
    _CLOUDFREE,
    Parameter("scl", "with SCL histograms (s2)", truth, True),
    Parameter("ref", "with the products' names", truth, False),
)
_PIDS = Parameter(
    "pid", "the agency's ids of the parcels", plain_text, example=["007", "008"], most=10_000,
    aliases=("pids",),
)  # fmt: skip
_AREA = (
    Parameter(
        "polygon",
        "an area as lon_lat-lon_lat-..., or GeoJSON",
        polygon,
        example="5.38_52.15-5.40_52.15-5.40_52.16",
    ),
    Parameter("only_ids", "the ids alone", truth, True),
    GEOMETRY,
    WGS84,
    Parameter("limit", "parcels at most", whole_within(1, 10_000), 1000, ("max",)),
    Parameter("page", "which page of so many, from 1", whole_within(1, 1_000_000), 1),
    Parameter("after", "go on after this parcel", plain_text, None, example="007"),
)


def _parcel_by_id(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        table = parcel_by_id(conn, campaign, asked["pid"], **_geometry(asked))
    return replies.as_json(table)


def _parcel_by_location(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        table = parcel_by_location(conn, campaign, asked["lon"], asked["lat"], **_geometry(asked))
    return replies.as_json(table)


def _parcels_by_polygon(call: Call) -> Reply:
    asked = call.asked
    page = Page(asked["limit"], (asked["page"] - 1) * asked["limit"], asked["after"])
    wanted = {"only_ids": asked["only_ids"], **_geometry(asked)}
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        table, more = parcels_by_polygon(conn, campaign, asked["polygon"], page, **wanted)
    return replies.as_json(table, {"X-Truncated": str(more).lower()})


def _geometry(asked: Mapping[str, Any]) -> dict[str, bool]:
    return {"geometry": asked["withGeometry"], "wgs84": asked["wgs84"]}


def _parcel_peers(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        table = peers(conn, campaign, asked["pid"], asked["distance"], asked["max"])
    return replies.as_json(table)


def _parcel_time_series(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        table = _series_of(conn, campaign, asked)
    return _table(table, asked, f"timeseries_{_parcel_name(campaign, asked)}_{asked['tstype']}")


def _many_time_series(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
    rows = many_series(
        call.pool,
        campaign,
        asked["pid"],
        asked["tstype"],
        _selection(asked),
        asked["tsformat"],
        asked["band"],
        scl=asked["scl"],
        ref=asked["ref"],
    )
    if asked["tsformat"] == "json":
        return Reply(HTTPStatus.OK, rows)
    return replies.as_file(rows, asked["tsformat"], f"timeseries_{campaign.aoi}{campaign.year}")


def _scene_signatures(call: Call) -> Reply:
    asked = call.asked
    scene, day = asked["scene"], asked["date"]
    if (scene is None) == (day is None):
        raise ParameterError("scene: one of scene and date has to be given, not both")
    selection = Selection(every=asked["all"] or scene is not None, cloudfree=asked["cloudfree"])
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
    kind, form = asked["tstype"], asked["tsformat"]
    rows = scene_signatures(call.pool, campaign, kind, scene, day, selection, form)
    return replies.as_file(rows, form, f"signatures_{campaign.aoi}{campaign.year}_{scene or day}")


def _weather(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        table = weather(conn, campaign, asked["pid"], asked["start"], asked["end"])
    return _table(table, asked, f"weather_{_parcel_name(campaign, asked)}")


def _markers(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        return replies.as_json(markers(conn, campaign, asked["pid"]))


def _table(table: Columns, asked: Mapping[str, Any], name: str) -> Reply:
    """Columns in the form that is asked for."""
    form = asked["tsformat"]
    if form == "json":
        return replies.as_json(table)
    if form == "csv":
        return replies.as_csv(table, name)
    return replies.as_file(tables.whole(table, form), form, name)


def _parcel_name(campaign: Campaign, asked: Mapping[str, Any]) -> str:
    ptype = f"_{campaign.ptype}" if campaign.ptype else ""
    return f"{campaign.aoi}{campaign.year}{ptype}_{asked['pid']}"


def _selection(asked: Mapping[str, Any]) -> Selection:
    return Selection(asked["start"], asked["end"], asked["all"], asked["cloudfree"])


def _series_of(conn: db.Connection, campaign: Campaign, asked: Mapping[str, Any]) -> Columns:
    selection = _selection(asked)
    pid, kind = asked["pid"], asked["tstype"]
    if kind != "scl":
        wanted = {name: asked[name] for name in ("band", "scl", "ref")}
        return time_series(conn, campaign, pid, kind, selection, **wanted)
    if asked["band"]:
        raise ParameterError("band: histograms (tstype scl) have none")
    return scl_series(conn, campaign, pid, selection, ref=asked["ref"])


def _info(call: Call) -> Reply:
    aoi = call.asked["aoi"]
    with call.connection() as conn:
        found = campaigns_of(conn, call.user, aoi) if aoi else campaigns(conn, call.user.aois)
        return replies.as_json(info(conn, found, call.part(Studio).sources.names))


ROUTES = (
    Route(
        "/query/parcelByID",
        "Attributes of the parcel with an id",
        (*PARCEL, GEOMETRY, WGS84),
        _parcel_by_id,
        answers=(answers.PARCELS,),
    ),
    Route(
        "/query/parcelByLocation",
        "Attributes of the parcels at a point",
        (*CAMPAIGN, *PLACE, GEOMETRY, WGS84),
        _parcel_by_location,
        answers=(answers.PARCELS,),
    ),
    Route(
        "/query/parcelsByPolygon",
        "The parcels that meet an area; header X-Truncated says whether there are more",
        (*CAMPAIGN, *_AREA),
        _parcels_by_polygon,
        answers=(answers.PARCEL_IDS,),
    ),
    Route(
        "/query/parcelsByPolygon",
        "The parcels that meet an area too long for an address",
        (*CAMPAIGN, *_AREA),
        _parcels_by_polygon,
        "POST",
        answers=(answers.PARCEL_IDS,),
    ),
    Route(
        "/query/parcelPeers",
        "Parcels of the same crop around a parcel, nearest first",
        (
            *PARCEL,
            Parameter("distance", "how far at most, metres", number_within(0, 20_000), 1000.0),
            Parameter("max", "how many at most", whole_within(1, 10_000), 10, ("maxPeers",)),
        ),
        _parcel_peers,
        answers=(answers.PEERS,),
    ),
    Route(
        "/query/parcelTimeSeries",
        "Statistics of a parcel's pixels, by observation and band",
        (*PARCEL, _TYPE, *_SERIES, _form("json", *_FILES)),
        _parcel_time_series,
        answers=(answers.SERIES, *answers.files(*_FILES)),
    ),
    Route(
        "/query/parcelTimeSeries",
        "The same of up to 10,000 parcels, streamed",
        (*CAMPAIGN, _PIDS, _KIND, *_SERIES, _form("arrow", "parquet", "csv", "json")),
        _many_time_series,
        "POST",
        answers=(answers.MANY_SERIES, *answers.files(*_FILES)),
    ),
    Route(
        "/query/sceneSignatures",
        "Signatures of all parcels in one scene, or in those of a day, streamed",
        (
            *CAMPAIGN,
            _KIND,
            Parameter("scene", "the product's name", plain_text, None, ("reference",), _REFERENCE),
            Parameter("date", "all scenes of this day, UTC", day, None, example="2024-05-01"),
            _EVERY,
            _CLOUDFREE,
            _form("arrow", "parquet", "csv"),
        ),
        _scene_signatures,
        answers=answers.files(*_FILES),
    ),
    Route(
        "/query/weatherTimeSeries",
        "Daily weather at a parcel, by default of the campaign's days",
        (*PARCEL, *_DATES, _form("json", *_FILES)),
        _weather,
        answers=(answers.WEATHER, *answers.files(*_FILES)),
    ),
    Route(
        "/query/markers",
        "What markers found out about a parcel",
        PARCEL,
        _markers,
        answers=(answers.MARKERS,),
    ),
    Route(
        "/query/info",
        "What the server has for you",
        (Parameter("aoi", "only this one", aoi_code, None, example="nl"),),
        _info,
        answers=(answers.INFO,),
    ),
)
"""Every question about parcels."""
