"""The routes, and the only place that knows hug: it brings requests in and takes replies out.

hug is unmaintained; whoever replaces it rewrites `application` and nothing else.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

from app import replies
from app.campaigns import Campaign, campaigns, choose
from app.errors import ParameterError
from app.info import info
from app.parameters import (
    Parameter,
    aoi_code,
    day,
    number_within,
    one_of,
    parcel_type,
    plain_text,
    truth,
    year_number,
)
from app.parcels import parcel_by_id, parcel_by_location
from app.replies import Reply
from app.series import Selection, scl_series, time_series
from app.service import Route, Service
from app.users import User
from store import db
from store.errors import NotFoundError


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make a module look absent while others are imported."""
    present = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if present is not None:
            sys.modules[module] = present


# hug serves numpy's types where numpy is there, by a name that numpy 2 removed.
with _hidden("numpy"):
    import hug

_AOI = Parameter("aoi", "Member State or region, such as nl", aoi_code)
_YEAR = Parameter("year", "year of the declaration", year_number)
_PTYPE = Parameter("ptype", "parcel type, if a year has several", parcel_type, default="")
_CAMPAIGN = (_AOI, _YEAR, _PTYPE)
_PID = Parameter("pid", "the agency's id of the parcel", plain_text)
_GEOMETRY = (
    Parameter("withGeometry", "with the geometry as GeoJSON", truth, default=False),
    Parameter("wgs84", "geometry in longitude and latitude", truth, default=False),
)
_LON = Parameter("lon", "longitude in degrees, WGS 84", number_within(-180, 180))
_LAT = Parameter("lat", "latitude in degrees, WGS 84", number_within(-90, 90))

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


def _campaigns(conn: db.Connection, user: User, aoi: str) -> list[Campaign]:
    """The campaigns of an aoi, if there is one and the user may ask about it."""
    found = campaigns(conn, [aoi])
    if not found:
        raise NotFoundError(f"there is no aoi {aoi}")
    user.require(aoi)
    return found


def _campaign(conn: db.Connection, user: User, asked: Mapping[str, Any]) -> Campaign:
    return choose(_campaigns(conn, user, asked["aoi"]), asked["year"], asked["ptype"])


def _parcel_by_id(conn: db.Connection, user: User, asked: Mapping[str, Any]) -> Reply:
    table = parcel_by_id(
        conn,
        _campaign(conn, user, asked),
        asked["pid"],
        geometry=asked["withGeometry"],
        wgs84=asked["wgs84"],
    )
    return replies.as_json(table)


def _parcel_by_location(conn: db.Connection, user: User, asked: Mapping[str, Any]) -> Reply:
    table = parcel_by_location(
        conn,
        _campaign(conn, user, asked),
        asked["lon"],
        asked["lat"],
        geometry=asked["withGeometry"],
        wgs84=asked["wgs84"],
    )
    return replies.as_json(table)


def _parcel_time_series(conn: db.Connection, user: User, asked: Mapping[str, Any]) -> Reply:
    campaign = _campaign(conn, user, asked)
    selection = Selection(asked["start"], asked["end"], asked["all"])
    pid, kind = asked["pid"], asked["tstype"]
    if kind == "scl":
        if asked["band"]:
            raise ParameterError("band: histograms (tstype scl) have none")
        table = scl_series(conn, campaign, pid, selection, ref=asked["ref"])
    else:
        wanted = {name: asked[name] for name in ("band", "scl", "ref")}
        table = time_series(conn, campaign, pid, kind, selection, **wanted)
    if asked["tsformat"] == "json":
        return replies.as_json(table)
    ptype = f"_{campaign.ptype}" if campaign.ptype else ""
    name = f"timeseries_{campaign.aoi}{campaign.year}{ptype}_{pid}_{kind}.csv"
    return replies.as_csv(table, name)


def _info(conn: db.Connection, user: User, asked: Mapping[str, Any]) -> Reply:
    aoi = asked["aoi"]
    found = _campaigns(conn, user, aoi) if aoi else campaigns(conn, user.aois)
    return replies.as_json(info(conn, found))


ROUTES = (
    Route(
        "/query/parcelByID",
        "Attributes of the parcel with an id",
        (*_CAMPAIGN, _PID, *_GEOMETRY),
        _parcel_by_id,
    ),
    Route(
        "/query/parcelByLocation",
        "Attributes of the parcels at a point",
        (*_CAMPAIGN, _LON, _LAT, *_GEOMETRY),
        _parcel_by_location,
    ),
    Route(
        "/query/parcelTimeSeries",
        "Statistics of a parcel's pixels, by observation and band",
        (*_CAMPAIGN, _PID, *_SERIES),
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

_SAFETY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer: nothing here is a page, and parcels are personal data."""


def application(service: Service) -> Any:
    """The WSGI callable."""
    api = hug.API("cbm-api")
    for route in ROUTES:
        _serve(api, route.path, partial(_respond, service, route))
    _serve(api, "/healthz", lambda _: service.alive())
    _serve(api, "/readyz", lambda _: service.ready())
    hug.not_found(api=api, output=_as_it_is)(_unknown_address)
    api.http.versions.clear()  # no addresses like /v1/...
    wsgi: Any = api.http.server(None)
    wsgi.set_error_serializer(_refused_by_framework)
    return wsgi


def _respond(service: Service, route: Route, request: Any) -> Reply:
    return service.respond(route, request.method, request.query_string, request.auth)


# hug takes annotations for readers of parameters; so what it calls goes without.
def _serve(api: Any, path: str, answer: Callable[[Any], Reply]) -> None:
    def endpoint(request, response):  # type: ignore[no-untyped-def]
        return _send(response, answer(request))

    hug.http(path, api=api, accept=("GET", "HEAD"), output=_as_it_is)(endpoint)


@hug.format.content_type("application/json")  # type: ignore[untyped-decorator]
def _as_it_is(body: bytes) -> bytes:
    return body


def _send(response: Any, reply: Reply) -> bytes:
    response.status = f"{reply.status.value} {reply.status.phrase}"
    response.content_type = reply.content_type
    response.set_headers(dict(_SAFETY) | dict(reply.headers))
    return reply.body


def _unknown_address(response):  # type: ignore[no-untyped-def]
    return _send(response, replies.as_error(HTTPStatus.NOT_FOUND, "there is no such address"))


def _refused_by_framework(request: Any, response: Any, error: Any) -> None:
    """What falcon refuses itself, such as other methods than GET."""
    status = HTTPStatus(int(error.status.split()[0]))
    detail = error.description or f"{request.method} cannot be done here"
    response.data = _send(response, replies.as_error(status, detail))
