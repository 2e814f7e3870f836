"""Routes of chips and backgrounds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from http import HTTPStatus
from itertools import product
from typing import Any, TypeVar

import shapely

from app.access import users
from app.chips import chip_request, scenes
from app.chips.backgrounds import BackgroundJob
from app.chips.bands import BandSet, band_set
from app.chips.chip_request import BackgroundRequest, ChipRequest, ImageRequest, ParcelKey
from app.chips.image_jobs import ChipJob, ImageJob
from app.chips.image_service import ImageService
from app.chips.rendering import Lut
from app.chips.scenes import Acquisition, ChipScene
from app.chips.signed_urls import PREFIX, TICKET_PREFIX, UrlHolder
from app.chips.window import ChipWindow
from app.http.byte_ranges import byte_range
from app.http.errors import ForbiddenError, ParameterError
from app.http.response import HTML, JSON, PNG, TEXT, TIFF, Response, json_response
from app.pages import gallery
from app.pages.gallery import GalleryImage
from app.query.parcels import fetch_outline, outline_by_key
from app.routes import chip_params
from app.routes.params import PointParams, campaign_of
from app.routes.response_docs import CHIP_LIST, ResponseDoc
from app.routes.route import Access, AppResource, Lane, RequestContext, Route, make_route
from store import db
from store.errors import NotFoundError

_MAX_CHIPS = 24
"""As the JRC's: chips of a request."""

_ATTRIBUTION = "Contains modified Copernicus Sentinel data"

_JobT = TypeVar("_JobT", bound=ImageJob)


@dataclass(frozen=True)
class _Target:
    """The centre of a request's images: a point, or the centroid of a parcel.

    Attributes:
        lon: degrees, rounded to a centimetre, so that near points share cached images.
        lat: the same.
        aoi: of the parcel; '' for a point.
        key: of the parcel whose outline is drawn, if any.
        polygons: of that outline.
    """

    lon: float
    lat: float
    aoi: str = ""
    key: ParcelKey | None = None
    polygons: shapely.Geometry | None = None


def _target(context: RequestContext[Any], *, drawn: bool = True) -> _Target:
    """The target of a request.

    Raises:
        NotFoundError: there is no such parcel.
        ForbiddenError: the user has no right to the parcel's aoi.
    """
    params = context.params
    if isinstance(params, PointParams):
        return _Target(round(params.lon, 7), round(params.lat, 7))
    with campaign_of(context) as (conn, campaign):
        outline = fetch_outline(conn, campaign, params.pid)
    lon, lat = round(outline.lon, 7), round(outline.lat, 7)
    if not (drawn and getattr(params, "outline", False)):
        return _Target(lon, lat, campaign.aoi)
    key = ParcelKey(outline.campaign_id, outline.pid)
    return _Target(lon, lat, campaign.aoi, key, outline.polygons)


def _window(context: RequestContext[Any], target: _Target) -> ChipWindow:
    return ChipWindow(target.lon, target.lat, context.params.size_m)


def _band_set(words: tuple[str, ...], level: str | None) -> BandSet:
    try:
        return band_set(words, level)
    except ValueError as error:
        raise ParameterError(f"bands: {error}") from None


def _acquisitions(
    context: RequestContext[Any],
    target: _Target,
    bands: BandSet,
    days: tuple[date, date],
    most: int | None,
) -> list[Acquisition]:
    """The acquisitions that show a target's window on some days.

    Raises:
        ParameterError: there are more than `most`, or the days are in the wrong order.
    """
    start, end = days
    if start > end:
        raise ParameterError(f"the first day, {start}, comes after the last, {end}")
    with context.connection() as conn:
        acquisitions = scenes.find_acquisitions(conn, _window(context, target), bands, start, end)
    if most is not None and len(acquisitions) > most:
        raise ParameterError(
            f"{len(acquisitions)} acquisitions from {start} to {end} show this place, and a "
            f"request may have {most} at most: request fewer days at once"
        )
    return acquisitions


def _choose(context: RequestContext[Any], choices: Iterable[Sequence[_JobT]]) -> list[_JobT]:
    """Of each choice the first image on which there is something to see; they are made now."""
    service = context.resource(ImageService)
    open_choices: dict[int, Sequence[_JobT]] = dict(enumerate(choices))
    chosen: dict[int, _JobT] = {}
    while open_choices:
        first = {n: jobs[0] for n, jobs in open_choices.items()}
        visible = service.prepare(context.user.name, list(first.values()))
        chosen |= {n: first[n] for n, seen in zip(first, visible, strict=True) if seen}
        open_choices = {
            n: jobs[1:] for n, jobs in open_choices.items() if n not in chosen and len(jobs) > 1
        }
    return [chosen[n] for n in sorted(chosen)]


def _choose_chips(
    context: RequestContext[Any],
    target: _Target,
    acquisitions: Iterable[Acquisition],
    band_sets: Iterable[tuple[str, ...]],
    lut: Lut | None = None,
) -> list[ChipJob]:
    """Chips of each set of bands of each acquisition, of the best scene that shows something."""
    window = _window(context, target)
    delivered = getattr(context.params, "delivered", False)

    def job(scene: ChipScene, bands: tuple[str, ...]) -> ChipJob:
        label = scene.file_label
        request = ChipRequest(scene.obsid, window, bands, lut, target.key, label, delivered)
        return ChipJob(request, scene, target.polygons)

    chips = product(acquisitions, band_sets)
    return _choose(context, [[job(scene, bands) for scene in each] for each, bands in chips])


def _sign(context: RequestContext[Any], target: _Target, job: ImageJob, label: str) -> GalleryImage:
    holder = UrlHolder(context.user.id, target.aoi)
    ticket = getattr(context.params, "tickets", False)
    address = context.resource(ImageService).urls.sign(holder, job.request, ticket=ticket)
    return GalleryImage(label, address)


def _list(images: Sequence[GalleryImage]) -> Response:
    return json_response(
        {"dates": [image.label for image in images], "chips": [image.address for image in images]}
    )


def _gallery(title: str, images: Sequence[GalleryImage], attribution: str) -> Response:
    headers = {"Content-Security-Policy": gallery.POLICY, "Vary": "Accept"}
    page = gallery.render(title, images, attribution)
    return Response(HTTPStatus.OK, page, HTML, headers)


def _chips(context: RequestContext[Any]) -> Response:
    """Composites as a page, or as a list of addresses."""
    params: chip_params.ChipParams = context.params
    target, days = _target(context), (params.start_date, params.end_date)
    bands = _band_set(params.bands, params.plevel)
    acquisitions = _acquisitions(context, target, bands, days, _MAX_CHIPS)
    jobs = _choose_chips(context, target, acquisitions, [bands.names], params.lut)
    images = [_sign(context, target, job, job.scene.label) for job in jobs]
    if _wants_json(context):
        return _list(images)
    title = f"{'_'.join(bands.names)}, {days[0]} to {days[1]}"
    return _gallery(title, images, _ATTRIBUTION)


def _wants_json(context: RequestContext[Any]) -> bool:
    accept = (context.request.header("Accept") or "").lower()
    preferred = "json" if JSON in accept and "text/html" not in accept else "html"
    return (context.params.format or preferred) == "json"


def _raw_chips(context: RequestContext[Any]) -> Response:
    """GeoTIFFs of a band, or the names of their products."""
    params: chip_params.RawChipParams = context.params
    target = _target(context)
    bands = _band_set((params.band,), params.plevel)
    days = params.start_date, params.end_date
    most = None if params.onlylist else _MAX_CHIPS
    acquisitions = _acquisitions(context, target, bands, days, most)
    if params.onlylist:
        return _list([GalleryImage(best.label, best.reference) for best, *_ in acquisitions])
    jobs = _choose_chips(context, target, acquisitions, [bands.names])
    return _list([_sign(context, target, job, job.scene.label) for job in jobs])


def _raw_batch(context: RequestContext[chip_params.BatchParams]) -> Response:
    """GeoTIFFs of some bands of some products."""
    params, target = context.params, _target(context)
    bands = _band_set(tuple(dict.fromkeys(params.bands)), "LEVEL2A").names
    references = list(dict.fromkeys(tile.removesuffix(".SAFE") for tile in params.tiles))
    chips = len(references) * len(bands)
    if chips > chip_params.MAX_BATCH:
        raise ParameterError(
            f"{len(references)} products in {len(bands)} bands are {chips} chips, and "
            f"a batch may have {chip_params.MAX_BATCH} at most: request fewer at once"
        )
    with context.connection() as conn:
        products = scenes.scenes_by_reference(conn, references, ("s2",))
    return _batch(context, target, [[scene] for scene in products], bands)


def _raw_radar_batch(context: RequestContext[chip_params.RadarBatchParams]) -> Response:
    """GeoTIFFs of VV and VH of every acquisition of some days, linear."""
    params, target = context.params, _target(context)
    if len(params.dates) != 2:
        raise ParameterError("dates: needs two days, the first and the last")
    bands = _band_set(("VV", "VH"), params.plevel)
    first, last = params.dates
    acquisitions = _acquisitions(context, target, bands, (first, last), chip_params.MAX_BATCH)
    return _batch(context, target, acquisitions, bands.names)


def _batch(
    context: RequestContext[Any],
    target: _Target,
    acquisitions: Sequence[Acquisition],
    bands: Sequence[str],
) -> Response:
    jobs = _choose_chips(context, target, acquisitions, [(band,) for band in bands])
    return _list([_sign(context, target, j, f"{j.scene.label}_{j.request.bands[0]}") for j in jobs])


def _background(context: RequestContext[Any]) -> Response:
    """A page with a background, or its address as plain text."""
    params: chip_params.BackgroundParams = context.params
    form = params.iformat
    target = _target(context, drawn=form == "png")
    source = context.resource(ImageService).sources.find(params.tms, params.default_names)
    at = target.lon, target.lat, params.chipsize, params.extend
    request = BackgroundRequest(source.name, *at, form, target.key, params.tms.lower())
    jobs = _choose(context, [[BackgroundJob(request, source, target.polygons)]])
    if not jobs:
        raise NotFoundError(f"background source {source.name} shows nothing there")
    image = _sign(context, target, jobs[0], source.name)
    if form == "tif" or params.raw:
        address = f"{context.request.scheme}://{context.request.host}{image.address}"
        return Response(HTTPStatus.OK, address.encode(), TEXT)
    return _gallery(f"Background {source.name}", [image], source.attribution)


def _image(context: RequestContext[chip_params.AddressParams]) -> Response:
    """An image by its address, as long as the address's user has the right to it."""
    params, service = context.params, context.resource(ImageService)
    request = chip_request.parse_path(f"{params.subject}/{params.name}")
    holder = UrlHolder.parse(params.holder)
    left_s = service.urls.verify(params.proof, holder, request)
    with context.connection() as conn:
        if not users.has_right(conn, holder.user_id, holder.aoi):
            raise ForbiddenError("the user of this address has no right to it any more")
        job = _job(conn, service, request)
    image = service.get(str(holder.user_id), job)
    if image is None:
        raise NotFoundError("there is nothing to see there any more")
    headers = {
        "Cache-Control": f"private, max-age={left_s}, immutable",
        "Content-Disposition": f"inline; filename={params.name}",
    }
    media_type = PNG if request.form == "png" else TIFF
    return byte_range(context.request, Response(HTTPStatus.OK, image, media_type, headers))


def _image_by_ticket(context: RequestContext[Any]) -> Response:
    """The same by an address in three parts."""
    proof, holder, subject = context.params.ticket.split(",")
    params = chip_params.AddressParams(
        proof=proof, holder=holder, subject=subject, name=context.params.name
    )
    return _image(replace(context, params=params))


def _job(conn: db.Connection, service: ImageService, request: ImageRequest) -> ImageJob:
    """The job of a request.

    Raises:
        NotFoundError: its scene, band, source or parcel does not exist any more.
    """
    key = request.parcel
    polygons = outline_by_key(conn, key.campaign_id, key.pid).polygons if key else None
    if isinstance(request, BackgroundRequest):
        return BackgroundJob(request, service.sources.find(request.source), polygons)
    return ChipJob(request, scenes.scene_by_obsid(conn, request.obsid), polygons)


_TEXT = {"type": "string"}
_IMAGE = tuple(
    ResponseDoc(form, description=f"the image{part}", status=status)
    for status, part in ((200, ""), (206, ", the part that the header Range names"))
    for form in (PNG, TIFF)
)
_PAGE = ResponseDoc("text/html", _TEXT, description="a page with the images")
_ADDRESS = ResponseDoc(
    "text/plain", _TEXT, description="the image's address, when iformat is tif or raw is given"
)

_route = partial(make_route, tag="images", lane=Lane.IMAGE)

ROUTES: tuple[Route[Any], ...] = (
    _route(
        "/query/chipsByLocation", "Composites of the scenes that show a point",
        chip_params.ChipPointParams, _chips, _PAGE, CHIP_LIST,
    ),
    _route(
        "/query/chipsByParcelID", "Composites of the scenes that show a parcel",
        chip_params.ChipParcelParams, _chips, _PAGE, CHIP_LIST,
    ),
    _route(
        "/query/rawChipByLocation", "A band as GeoTIFFs, of the scenes that show a point",
        chip_params.RawChipPointParams, _raw_chips, CHIP_LIST,
    ),
    _route(
        "/query/rawChipByParcelID", "A band as GeoTIFFs, of the scenes that show a parcel",
        chip_params.RawChipParcelParams, _raw_chips, CHIP_LIST,
    ),
    _route(
        "/query/rawChipsBatch", "Bands of Sentinel-2 products around a point, as GeoTIFFs",
        chip_params.BatchParams, _raw_batch, CHIP_LIST, method="POST",
    ),
    _route(
        "/query/rawS1ChipsBatch",
        "VV and VH of the Sentinel-1 scenes that show a point, as GeoTIFFs",
        chip_params.RadarBatchParams, _raw_radar_batch, CHIP_LIST, method="POST",
    ),
    _route(
        "/query/backgroundByLocation", "An image of the ground around a point",
        chip_params.BackgroundPointParams, _background, _PAGE, _ADDRESS,
    ),
    _route(
        "/query/backgroundByParcelID", "An image of the ground around a parcel",
        chip_params.BackgroundParcelParams, _background, _PAGE, _ADDRESS,
    ),
    _route(
        f"{PREFIX}/{{proof}}/{{holder}}/{{subject}}/{{name}}",
        "An image by its signed address; needs no credentials",
        chip_params.AddressParams, _image, *_IMAGE, access=Access.PUBLIC,
    ),
    _route(
        f"{TICKET_PREFIX}/{{ticket}}/{{name}}",
        "The same by an address in the three parts that the JRC's scripts expect",
        chip_params.TicketParams, _image_by_ticket, *_IMAGE, access=Access.PUBLIC,
    ),
)  # fmt: skip
"""Routes of images."""

RESOURCES: tuple[type[AppResource], ...] = (ImageService,)
"""Resources of these routes."""
