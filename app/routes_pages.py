"""Routes of the pages that people look at, and of what these load."""

import html
import re
from http import HTTPStatus
from urllib.parse import quote

from app import progress, replies, sessions, tiles
from app.asked import CAMPAIGN
from app.campaigns import asked_campaign, campaigns
from app.chips.backgrounds import Background
from app.chips.studio import Studio
from app.errors import TooManyError, UnauthenticatedError
from app.pages import HEADERS, HTML, Pages, fresh, squeeze, takes_gzip
from app.parameters import Domain, Parameter, plain_text, whole_within
from app.replies import Reply
from app.route import FORM, JSON, LOGIN, Answer, Call, Part, Route, Who
from app.series import CLEAR_CLASSES
from app.sessions import Sessions
from store.errors import NotFoundError

_PNG = "image/png"
_TILE_PX = 256
_LARGEST_ZOOM = 19
_MVT = "application/vnd.mapbox-vector-tile"
_OURS = re.compile(r"/(?:status|docs)?(?:\?[\x21-\x7e]*)?")
"""Addresses of pages that one may be sent to after the login."""


def _secret(text: str) -> str:
    if len(text) > 1000:
        raise ValueError("is longer than 1000 characters")
    return text


def _page(name: str) -> Route:
    """A page for users; others are sent to the login."""
    path, meaning = _PAGES[name]
    return Route(
        path,
        meaning,
        tuple(Parameter(field, "what is shown", plain_text, None) for field in _SHOWN),
        lambda call: call.part(Pages).answer(name, call.request),
        who=Who.PAGE,
        answers=(Answer("text/html"),),
        headers=HEADERS,
        tag="pages",
    )


_PAGES = {
    "parcel.html": ("/", "The page to look at a parcel"),
    "status.html": ("/status", "The page of the extraction's progress"),
}
_SHOWN = ("aoi", "year", "ptype", "pid")


def _login_page(call: Call) -> Reply:
    return _door(call, HTTPStatus.OK, "")


def _door(call: Call, status: HTTPStatus, message: str) -> Reply:
    text = call.part(Pages).text("login.html")
    shown = f'<p class="note wrong" role="alert">{html.escape(message)}</p>' if message else ""
    onward = html.escape(_onward(call.asked["next"]))
    page = text.replace("<!-- message -->", shown).replace("<!-- next -->", onward)
    return Reply(status, page.encode(), HTML, {"Cache-Control": "no-store"})


def _log_in(call: Call) -> Reply:
    sessions.require_own_page(call.request)
    name, password = call.asked["name"], call.asked["password"]
    try:
        with call.connection() as conn:
            user = call.gate.prove(conn, name, password, call.request.remote)
            cookie = call.part(Sessions).begin(conn, user, call.request)
    except UnauthenticatedError:
        return _door(call, HTTPStatus.UNAUTHORIZED, "The name or the password is wrong.")
    except TooManyError as error:
        wait = f"Too many attempts. Try again in {error.retry_after_s} seconds."
        return _door(call, HTTPStatus.TOO_MANY_REQUESTS, wait)
    reply = replies.as_redirect(_onward(call.asked["next"]))
    return Reply(reply.status, b"", reply.content_type, {**reply.headers, **cookie})


def _log_out(call: Call) -> Reply:
    sessions.require_own_page(call.request)
    reply = replies.as_redirect(LOGIN)
    forgotten = sessions.end(call.request)
    return Reply(reply.status, b"", reply.content_type, {**reply.headers, **forgotten})


def _onward(address: str) -> str:
    return quote(address, safe="/?=&%+.:~-_") if _OURS.fullmatch(address) else "/"


def _static(call: Call) -> Reply:
    return call.part(Pages).answer(call.asked["name"], call.request)


def _tile(call: Call) -> Reply:
    place = tiles.Place(*(call.asked[name] for name in ("z", "x", "y")))
    with call.connection() as conn:
        campaign = asked_campaign(conn, call.user, call.asked)
        state = tiles.state(conn, campaign, place) if place.exists else None
        if state is None:
            return Reply(HTTPStatus.NO_CONTENT, b"", _MVT)
        headers = {"Cache-Control": "private, no-cache", "ETag": f'"{state}"'}
        unchanged = fresh(call.request, Reply(HTTPStatus.OK, b"", _MVT, headers))
        if unchanged.status is HTTPStatus.NOT_MODIFIED:
            return unchanged
        reply = Reply(HTTPStatus.OK, tiles.tile(conn, campaign, place), _MVT, headers)
    return squeeze(reply) if takes_gzip(call.request) else reply


def _campaigns(call: Call) -> Reply:
    with call.connection() as conn:
        found = progress.overview(conn, campaigns(conn, call.user.aois))
    sources = call.part(Studio).sources
    source = sources.known.get(sources.default)
    return replies.as_json(
        {
            "user": call.user.name,
            "campaigns": found,
            "background": source and {"attribution": source.attribution},
            "clear_classes": CLEAR_CLASSES,
        }
    )


def _background(call: Call) -> Reply:
    place = tiles.Place(*(call.asked[name] for name in ("z", "x", "y")))
    if not place.exists:
        raise NotFoundError(f"zoom {place.z} has no such tile")
    studio = call.part(Studio)
    source = studio.sources.choose(studio.sources.default)
    image = studio.image(Background(source, *place.centre, _TILE_PX, place.ground_m, "png"))
    headers = {"Cache-Control": "private, max-age=86400"}
    if image is None:
        return Reply(HTTPStatus.NO_CONTENT, b"", _PNG, headers)
    return Reply(HTTPStatus.OK, image, _PNG, headers)


def _progress(call: Call) -> Reply:
    with call.connection() as conn:
        found = campaigns(conn, call.user.aois)
        told = [progress.progress(conn, call.user, campaign) for campaign in found]
    return replies.as_json({"user": call.user.name, "campaigns": told})


_NEXT = Parameter("next", "page to go to after the login", plain_text, default="/")
_PLACE = (
    Parameter("x", "column", whole_within(0, (1 << _LARGEST_ZOOM) - 1), example=4218),
    Parameter("y", "row", whole_within(0, (1 << _LARGEST_ZOOM) - 1), example=2702),
)
_ZOOM = Parameter("z", "zoom", whole_within(tiles.MIN_ZOOM, tiles.MAX_ZOOM), example=13)
_ANY_ZOOM = Parameter("z", "zoom", whole_within(0, _LARGEST_ZOOM), example=13)

ROUTES: tuple[Route, ...] = (
    *map(_page, _PAGES),
    Route(
        LOGIN,
        "The page to log in",
        (_NEXT,),
        _login_page,
        who=Who.ANYONE,
        answers=(Answer("text/html"),),
        headers=HEADERS,
        tag="pages",
    ),
    Route(
        LOGIN,
        "Log in: begins a session and goes on to a page",
        (
            Parameter("name", "of the user", plain_text, default=""),
            Parameter("password", "of the user", Domain(_secret), default=""),
            _NEXT,
        ),
        _log_in,
        method="POST",
        who=Who.ANYONE,
        answers=(
            Answer("text/plain", meaning="on to the page", status=303),
            Answer("text/html", meaning="the page to log in, and what was wrong", status=401),
            Answer("text/html", meaning="the same: too many logins have failed", status=429),
        ),
        headers=HEADERS,
        takes=FORM,
        body_most=1 << 14,
        tag="pages",
    ),
    Route(
        "/logout",
        "Log out: ends the session",
        (),
        _log_out,
        method="POST",
        who=Who.ANYONE,
        answers=(Answer("text/plain", meaning="on to the login", status=303),),
        headers=HEADERS,
        takes=FORM,
        body_most=1 << 14,
        tag="pages",
    ),
    Route(
        "/static/{name}",
        "What the pages are made of",
        (Parameter("name", "of the file", plain_text, example="style.css"),),
        _static,
        who=Who.ANYONE,
        answers=(Answer("*/*"),),
        headers=HEADERS,
        tail=True,
        audited=False,
        tag="pages",
    ),
    Route(
        "/tiles/{aoi}/{year}/{z}/{x}/{y}",
        "Parcels as a vector tile (MVT) of the usual web-mercator scheme",
        (*CAMPAIGN, _ZOOM, *_PLACE),
        _tile,
        answers=(Answer(_MVT), Answer(_MVT, meaning="no parcel there", status=204)),
        tag="pages",
    ),
    Route(
        "/page/background/{z}/{x}/{y}",
        "A tile of the background that the operator has named, if any",
        (_ANY_ZOOM, *_PLACE),
        _background,
        answers=(Answer(_PNG), Answer(_PNG, meaning="nothing there", status=204)),
        audited=False,
        tag="pages",
    ),
    Route(
        "/page/campaigns",
        "What the parcel page offers",
        (),
        _campaigns,
        answers=(Answer(JSON, {"type": "object"}),),
        audited=False,
        tag="pages",
    ),
    Route(
        "/page/progress",
        "How far the extraction of the user's campaigns is",
        (),
        _progress,
        answers=(Answer(JSON, {"type": "object"}),),
        audited=False,
        tag="pages",
    ),
)
"""Every page."""

PARTS: tuple[type[Part], ...] = (Pages, Sessions)
"""What a process keeps for them."""
