"""Questions about parcels, in the JRC's words."""

from collections.abc import Mapping
from typing import Any

from app import replies
from app.asked import CAMPAIGN, GEOMETRY, PARCEL, PLACE, WGS84
from app.campaigns import Campaign, asked_campaign, campaigns, campaigns_of
from app.columns import Columns
from app.errors import ParameterError
from app.info import info
from app.parameters import Parameter, aoi_code, day, one_of, plain_text, truth
from app.parcels import parcel_by_id, parcel_by_location
from app.replies import Reply
from app.route import Call, Route
from app.series import Selection, scl_series, time_series
from store import db

# c1 is the JRC's name for 12-day coherence.
_KINDS = {"s2": "s2", "bs": "bs", "c6": "c6", "c12": "c12", "c1": "c12", "scl": "scl"}
_SERIES = (
    Parameter("tstype", "which series", one_of(_KINDS), default="s2"),
    Parameter("band", "one band, such as B08 or VVb; all if absent", plain_text, default=None),
    Parameter("start", "first day, UTC", day, default=None, aliases=("start_date",)),
    Parameter("end", "last day, included", day, default=None, aliases=("end_date",)),
    Parameter("all", "not only the preferred scene of an acquisition", truth, default=False),
    Parameter("scl", "with SCL histograms (s2)", truth, default=True),
    Parameter("ref", "with the products' names", truth, default=False),
    Parameter("tsformat", "form of the answer", one_of({"json": "json", "csv": "csv"}), "json"),
)


def _parcel_by_id(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        table = parcel_by_id(
            conn,
            asked_campaign(conn, call.user, asked),
            asked["pid"],
            geometry=asked["withGeometry"],
            wgs84=asked["wgs84"],
        )
    return replies.as_json(table)


def _parcel_by_location(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        table = parcel_by_location(
            conn,
            asked_campaign(conn, call.user, asked),
            asked["lon"],
            asked["lat"],
            geometry=asked["withGeometry"],
            wgs84=asked["wgs84"],
        )
    return replies.as_json(table)


def _parcel_time_series(call: Call) -> Reply:
    asked = call.asked
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, asked)
        table = _series_of(conn, campaign, asked)
    if asked["tsformat"] == "json":
        return replies.as_json(table)
    ptype = f"_{campaign.ptype}" if campaign.ptype else ""
    name = f"timeseries_{campaign.aoi}{campaign.year}{ptype}_{asked['pid']}_{asked['tstype']}.csv"
    return replies.as_csv(table, name)


def _series_of(conn: db.Connection, campaign: Campaign, asked: Mapping[str, Any]) -> Columns:
    selection = Selection(asked["start"], asked["end"], asked["all"])
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
        return replies.as_json(info(conn, found))


ROUTES = (
    Route(
        "/query/parcelByID",
        "Attributes of the parcel with an id",
        (*PARCEL, GEOMETRY, WGS84),
        _parcel_by_id,
    ),
    Route(
        "/query/parcelByLocation",
        "Attributes of the parcels at a point",
        (*CAMPAIGN, *PLACE, GEOMETRY, WGS84),
        _parcel_by_location,
    ),
    Route(
        "/query/parcelTimeSeries",
        "Statistics of a parcel's pixels, by observation and band",
        (*PARCEL, *_SERIES),
        _parcel_time_series,
    ),
    Route(
        "/query/info",
        "What the server has for you",
        (Parameter("aoi", "only this one", aoi_code, default=None),),
        _info,
    ),
)
"""Every question that users may ask."""
