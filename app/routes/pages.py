"""Routes of the pages, and of the files and data that they load."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.access.sessions import Sessions, require_same_origin
from app.chips.backgrounds import BackgroundJob
from app.chips.chip_request import BackgroundRequest
from app.chips.image_service import ImageService
from app.http.errors import TooManyError, UnauthenticatedError
from app.http.parameters import Params, Text, Whole
from app.http.response import (
    FORM,
    HTML,
    JSON,
    PNG,
    Response,
    accepts_gzip,
    compress,
    json_response,
    redirect,
    revalidate,
)
from app.pages.guide import GuidePages
from app.pages.login import render_login, safe_onward
from app.pages.site import HEADERS, BuiltPages
from app.query import progress
from app.query.campaigns import fetch_campaigns
from app.query.tiles import MAX_ZOOM, MIN_ZOOM, TileAddress, fetch_etag, fetch_tile
from app.routes.params import CampaignParams, campaign_of
from app.routes.response_docs import ResponseDoc
from app.routes.route import LOGIN, Access, AppResource, Lane, RequestContext, Route, make_route
from store import listings
from store.errors import NotFoundError
from store.kinds import CLEAR_CLASSES, CLEAR_SHARE, KINDS

_TILE_PX = 256
_MAX_BACKGROUND_ZOOM = 19
_MAX_INDEX = (1 << _MAX_BACKGROUND_ZOOM) - 1
_MVT = "application/vnd.mapbox-vector-tile"
_HTML_DOC = ResponseDoc("text/html")


def _password(text: str) -> str:
    if len(text) > 1000:
        raise ValueError("is longer than 1000 characters")
    return text


class _PageParams(Params):
    aoi: Text | None = Field(None, description="to be shown")
    year: Text | None = Field(None, description="to be shown")
    ptype: Text | None = Field(None, description="to be shown")
    pid: Text | None = Field(None, description="to be shown")


class _NextParams(Params):
    next: Text = Field("/", description="page after the login")


class _LoginParams(_NextParams):
    name: Text = Field("", description="of the user")
    password: Annotated[str, BeforeValidator(_password)] = Field("", description="of the user")


class _FileParams(Params):
    name: Text = Field(description="of the file", examples=["style.css"])


class _LibraryFileParams(_FileParams):
    library: Text = Field(description="of the file", examples=["uplot"])


_PART = "of the file's path"
_OWN = "of the guide's own pages, which read it themselves"


class _GuideParams(Params):
    part1: Text = Field("", description=_PART, examples=["index.html"])
    part2: Text = Field("", description=_PART, examples=["index.html"])
    part3: Text = Field("", description=_PART, examples=["index.html"])
    part4: Text = Field("", description=_PART, examples=["index.html"])
    part5: Text = Field("", description=_PART, examples=["index.html"])
    v: Text | None = Field(None, description=_OWN)
    digest: Text | None = Field(None, description=_OWN)
    q: Text | None = Field(None, description=_OWN)
    highlight: Text | None = Field(None, description=_OWN)


class _TilePositionParams(Params):
    x: Whole = Field(ge=0, le=_MAX_INDEX, description="column", examples=[4218])
    y: Whole = Field(ge=0, le=_MAX_INDEX, description="row", examples=[2702])


class _BackgroundTileParams(_TilePositionParams):
    z: Whole = Field(ge=0, le=_MAX_BACKGROUND_ZOOM, description="zoom", examples=[13])


class _ParcelTileParams(_TilePositionParams, CampaignParams):
    z: Whole = Field(ge=MIN_ZOOM, le=MAX_ZOOM, description="zoom", examples=[13])


def _login_page(
    context: RequestContext[Any], status: HTTPStatus = HTTPStatus.OK, message: str = ""
) -> Response:
    body = render_login(context.resource(BuiltPages), context.params.next, message)
    return Response(status, body, HTML, {"Cache-Control": "no-store"})


def _log_in(context: RequestContext[_LoginParams]) -> Response:
    request, params = context.request, context.params
    require_same_origin(request)
    try:
        with context.connection() as conn:
            user = context.authenticator.check_password(
                conn, params.name, params.password, request.remote
            )
            cookie = context.resource(Sessions).begin(conn, user, request)
    except UnauthenticatedError:
        message = "The name or the password is wrong."
        return _login_page(context, HTTPStatus.UNAUTHORIZED, message)
    except TooManyError as error:
        message = f"Too many attempts. Try again in {error.retry_after_s} seconds."
        return _login_page(context, HTTPStatus.TOO_MANY_REQUESTS, message)
    return redirect(safe_onward(params.next), cookie)


def _log_out(context: RequestContext[Params]) -> Response:
    require_same_origin(context.request)
    with context.connection() as conn:
        return redirect(LOGIN, context.resource(Sessions).end(conn, context.request))


def _file(context: RequestContext[_FileParams]) -> Response:
    return context.resource(BuiltPages).serve(context.params.name, context.request)


def _library_file(context: RequestContext[_LibraryFileParams]) -> Response:
    name = f"vendor/{context.params.library}/{context.params.name}"
    return context.resource(BuiltPages).serve(name, context.request)


def _guide_start(_: RequestContext[Params]) -> Response:
    return redirect(f"{_GUIDE}/index.html")


def _guide_file(context: RequestContext[_GuideParams]) -> Response:
    params = context.params
    parts = (params.part1, params.part2, params.part3, params.part4, params.part5)
    return context.resource(GuidePages).serve("/".join(filter(None, parts)), context.request)


def _tile(context: RequestContext[_ParcelTileParams]) -> Response:
    params = context.params
    tile = TileAddress(params.z, params.x, params.y)
    with campaign_of(context) as (conn, campaign):
        etag = fetch_etag(conn, campaign, tile) if tile.exists else None
        if etag is None:
            return Response(HTTPStatus.NO_CONTENT, b"", _MVT)
        headers = {"Cache-Control": "private, no-cache", "ETag": f'"{etag}"'}
        empty = Response(HTTPStatus.OK, b"", _MVT, headers)
        if (unchanged := revalidate(context.request, empty)) is not empty:
            return unchanged
        response = Response(HTTPStatus.OK, fetch_tile(conn, campaign, tile), _MVT, headers)
    return compress(response) if accepts_gzip(context.request) else response


def _campaigns(context: RequestContext[Params]) -> Response:
    with context.connection() as conn:
        campaigns = fetch_campaigns(conn, context.user.aois)
        overview = progress.fetch_overview(conn, campaigns)
    sources = context.resource(ImageService).sources
    source = sources.by_name.get(sources.default)
    return json_response(
        {
            "user": context.user.name,
            "campaigns": overview,
            "background": source and {"attribution": source.attribution},
            "clear_classes": CLEAR_CLASSES,
            "clear_share": CLEAR_SHARE,
            "composites": {"_".join(c.bands): c.title for c in KINDS["s2"].composites},
        }
    )


def _background(context: RequestContext[_BackgroundTileParams]) -> Response:
    params = context.params
    tile = TileAddress(params.z, params.x, params.y)
    if not tile.exists:
        raise NotFoundError(f"zoom {tile.z} has no such tile")
    service = context.resource(ImageService)
    source = service.sources.find(service.sources.default)
    request = BackgroundRequest(source.name, *tile.centre, _TILE_PX, tile.ground_m, "png")
    image = service.get(context.user.name, BackgroundJob(request, source))
    headers = {"Cache-Control": "private, max-age=86400"}
    if image is None:
        return Response(HTTPStatus.NO_CONTENT, b"", PNG, headers)
    return Response(HTTPStatus.OK, image, PNG, headers)


def _progress(context: RequestContext[Params]) -> Response:
    user = context.user
    with context.connection() as conn:
        campaigns = fetch_campaigns(conn, user.aois)
        content = [progress.fetch_progress(conn, user, campaign) for campaign in campaigns]
        cost = progress.fetch_cost(conn, user)
    return json_response({"user": user.name, "campaigns": content, "cost": cost})


def _completeness(context: RequestContext[CampaignParams]) -> Response:
    with campaign_of(context) as (conn, campaign):
        rows = listings.gaps_by_month(conn, campaign.id)
    return json_response({"gaps": listings.GAPS, "rows": [row._asdict() for row in rows]})


_route = partial(make_route, tag="pages")


def _page(path: str, summary: str, file: str) -> Route[_PageParams]:
    """A page for users; anyone else is redirected to the login."""

    def handler(context: RequestContext[_PageParams]) -> Response:
        return context.resource(BuiltPages).serve(file, context.request)

    return _route(
        path, summary, _PageParams, handler, _HTML_DOC, access=Access.PAGE, headers=HEADERS
    )


_PUBLIC: dict[str, Any] = {"access": Access.PUBLIC, "headers": HEADERS, "lane": Lane.LOGIN}
_FORM: dict[str, Any] = {"method": "POST", "consumes": FORM, "max_body_bytes": 1 << 14}
_JSON_DOC = ResponseDoc(JSON, {"type": "object"})

_GUIDE = "/guide"
_GUIDE_DEPTH = 5
"""Levels of folders and file of Sphinx's theme."""

_GUIDE_ROUTES: tuple[Route[Any], ...] = (
    _route(
        _GUIDE, "The guide's first page", Params, _guide_start,
        ResponseDoc("text/plain", description="on to the page", status=303),
        logged=False, **_PUBLIC,
    ),
    *(
        _route(
            _GUIDE + "".join(f"/{{part{n}}}" for n in range(1, depth + 1)),
            "A file of the guide, where it is built",
            _GuideParams, _guide_file, ResponseDoc("*/*"), logged=False, **_PUBLIC,
        )
        for depth in range(1, _GUIDE_DEPTH + 1)
    ),
)  # fmt: skip

ROUTES: tuple[Route[Any], ...] = (
    *_GUIDE_ROUTES,
    _page("/", "The page of a parcel", "parcel.html"),
    _page("/status", "The page of the extraction's progress", "status.html"),
    _route(LOGIN, "The page to log in", _NextParams, _login_page, _HTML_DOC, **_PUBLIC),
    _route(
        LOGIN, "Log in: begins a session and redirects to a page", _LoginParams, _log_in,
        ResponseDoc("text/plain", description="on to the page", status=303),
        ResponseDoc("text/html", description="the login page with the reason", status=401),
        ResponseDoc("text/html", description="the same: too many failed logins", status=429),
        **_PUBLIC, **_FORM,
    ),
    _route(
        "/logout", "Log out: ends the session", Params, _log_out,
        ResponseDoc("text/plain", description="on to the login", status=303),
        **_PUBLIC, **_FORM,
    ),
    _route(
        "/static/{name}", "A file of the pages",
        _FileParams, _file, ResponseDoc("*/*"), logged=False, **_PUBLIC,
    ),
    _route(
        "/static/vendor/{library}/{name}", "A file of a library that the pages load",
        _LibraryFileParams, _library_file, ResponseDoc("*/*"), logged=False, **_PUBLIC,
    ),
    _route(
        "/tiles/{aoi}/{year}/{z}/{x}/{y}",
        "Parcels as a vector tile (MVT) of the usual web-mercator scheme", _ParcelTileParams, _tile,
        ResponseDoc(_MVT), ResponseDoc(_MVT, description="no parcel there", status=204),
    ),
    _route(
        "/page/background/{z}/{x}/{y}", "A tile of the operator's default background, if any",
        _BackgroundTileParams, _background,
        ResponseDoc(PNG), ResponseDoc(PNG, description="nothing there", status=204), logged=False,
        lane=Lane.IMAGE,
    ),
    _route(
        "/page/campaigns", "The user's campaigns for the parcel page",
        Params, _campaigns, _JSON_DOC, logged=False,
    ),
    _route(
        "/page/progress",
        "The progress of the extraction of the user's campaigns; for operators the cost",
        Params, _progress, _JSON_DOC, logged=False,
    ),
    _route(
        "/page/completeness", "What sources list for a campaign, and what became of it",
        CampaignParams, _completeness, _JSON_DOC, logged=False,
    ),
)  # fmt: skip
"""Routes of the pages."""

RESOURCES: tuple[type[AppResource], ...] = (BuiltPages, GuidePages, Sessions)
"""Resources of these routes."""
