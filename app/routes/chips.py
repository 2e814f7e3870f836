"""Routes of chips and backgrounds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from itertools import product
from operator import itemgetter
from typing import Any, TypeVar

import shapely

from app.access import users
from app.chips import chip_request, scenes
from app.chips.backgrounds import BackgroundJob
from app.chips.bands import BandSet, band_set
from app.chips.chip_request import BackgroundRequest, ChipRequest, ImageRequest, ParcelKey
from app.chips.image_jobs import ChipJob, ImageJob
from app.chips.image_service import ImageService
from app.chips.rendering import Lut, safe_filename
from app.chips.scenes import Acquisition, ChipScene
from app.chips.signed_urls import PREFIX, TICKET_PREFIX, UrlHolder
from app.chips.window import ChipWindow
from app.http.byte_ranges import byte_range
from app.http.errors import ForbiddenError, ParameterError
from app.http.parameters import ParamsT
from app.http.response import HTML, JSON, PNG, TEXT, TIFF, Response, json_response
from app.pages import gallery
from app.pages.gallery import GalleryImage
from app.query.campaigns import find_campaign
from app.query.parcels import ParcelOutline, fetch_outline, outline_by_key
from app.routes import chip_params
from app.routes.params import PointParams
from app.routes.response_docs import CHIP_LIST, ResponseDoc
from app.routes.route import Access, AppResource, Lane, RequestContext, Route
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
        outline: of the parcel, to be drawn; None without.
    """

    lon: float
    lat: float
    aoi: str = ""
    outline: ParcelOutline | None = None

    @property
    def key(self) -> ParcelKey | None:
        """The key of the outline."""
        outline = self.outline
        return ParcelKey(outline.campaign_id, outline.pid) if outline else None

    @property
    def polygons(self) -> shapely.Geometry | None:
        """The polygons of the outline."""
        return self.outline.polygons if self.outline else None


def _target(context: RequestContext[Any], *, drawn: bool = True) -> _Target:
    """The target of a request.

    Raises:
        NotFoundError: there is no such parcel.
        ForbiddenError: the user has no right to the parcel's aoi.
    """
    params = context.params
    if isinstance(params, PointParams):
        return _Target(round(params.lon, 7), round(params.lat, 7))
    with context.connection() as conn:
        campaign = find_campaign(conn, context.user, params.aoi, params.year, params.ptype)
        outline = fetch_outline(conn, campaign, params.pid)
    lon, lat = round(outline.lon, 7), round(outline.lat, 7)
    is_drawn = drawn and getattr(params, "outline", False)
    return _Target(lon, lat, campaign.aoi, outline if is_drawn else None)


def _window(context: RequestContext[Any], target: _Target) -> ChipWindow:
    return ChipWindow(target.lon, target.lat, context.params.size_m)


def _band_set(words: tuple[str, ...], level: str | None) -> BandSet:
    try:
        return band_set(words, level)
    except ValueError as error:
        raise ParameterError(f"bands: {error}") from None


def _acquisitions(
    context: RequestContext[Any],
    window: ChipWindow,
    bands: BandSet,
    days: tuple[date, date],
    most: int | None,
) -> list[Acquisition]:
    """The acquisitions that show a window on some days.

    Raises:
        ParameterError: there are more than `most`, or the days are in the wrong order.
    """
    start, end = days
    if start > end:
        raise ParameterError(f"the first day, {start}, comes after the last, {end}")
    with context.connection() as conn:
        acquisitions = scenes.find_acquisitions(conn, window, bands, start, end)
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
    return [job for _, job in sorted(chosen.items(), key=itemgetter(0))]


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
    window = _window(context, target)
    bands = _band_set(params.bands, params.plevel)
    acquisitions = _acquisitions(context, window, bands, days, _MAX_CHIPS)
    jobs = _choose(
        context,
        [
            [_composite(scene, window, bands, params.lut, target) for scene in a]
            for a in acquisitions
        ],
    )
    images = [_sign(context, target, job, job.scene.label) for job in jobs]
    if _wants_json(context):
        return _list(images)
    title = f"{'_'.join(bands.names)}, {days[0]} to {days[1]}"
    return _gallery(title, images, _ATTRIBUTION)


def _composite(
    scene: ChipScene, window: ChipWindow, bands: BandSet, lut: Lut, target: _Target
) -> ChipJob:
    label = safe_filename(scene.reference)
    request = ChipRequest(scene.obsid, window, bands.names, lut, target.key, label)
    return ChipJob(request, scene, target.polygons)


def _wants_json(context: RequestContext[Any]) -> bool:
    accept = (context.request.header("Accept") or "").lower()
    preferred = "json" if JSON in accept and "text/html" not in accept else "html"
    return (context.params.format or preferred) == "json"


def _raw_jobs(
    context: RequestContext[Any],
    acquisitions: Iterable[Acquisition],
    window: ChipWindow,
    bands: Iterable[str],
) -> list[list[ChipJob]]:
    """GeoTIFFs of each band of each acquisition; of its scenes the best first."""
    delivered = getattr(context.params, "delivered", False)

    def job(scene: ChipScene, band: str) -> ChipJob:
        label = safe_filename(scene.reference)
        request = ChipRequest(scene.obsid, window, (band,), label=label, delivered=delivered)
        return ChipJob(request, scene)

    return [
        [job(scene, band) for scene in acquisition]
        for acquisition, band in product(acquisitions, bands)
    ]


def _raw_chips(context: RequestContext[Any]) -> Response:
    """GeoTIFFs of a band, or the names of their products."""
    params: chip_params.RawChipParams = context.params
    target = _target(context)
    window = _window(context, target)
    bands = _band_set((params.band,), params.plevel)
    days = params.start_date, params.end_date
    most = None if params.onlylist else _MAX_CHIPS
    acquisitions = _acquisitions(context, window, bands, days, most)
    if params.onlylist:
        return _list([GalleryImage(best.label, best.reference) for best, *_ in acquisitions])
    jobs = _choose(context, _raw_jobs(context, acquisitions, window, bands.names))
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
    window = _window(context, target)
    acquisitions = _acquisitions(context, window, bands, (first, last), chip_params.MAX_BATCH)
    return _batch(context, target, acquisitions, bands.names)


def _batch(
    context: RequestContext[Any],
    target: _Target,
    acquisitions: Sequence[Acquisition],
    bands: Sequence[str],
) -> Response:
    jobs = _choose(context, _raw_jobs(context, acquisitions, _window(context, target), bands))
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
    params = context.params
    return _signed_image(context, params.proof, params.holder, params.subject, params.name)


def _image_by_ticket(context: RequestContext[chip_params.TicketParams]) -> Response:
    """The same by an address in three parts."""
    proof, holder, subject = context.params.ticket.split(",")
    return _signed_image(context, proof, holder, subject, context.params.name)


def _signed_image(
    context: RequestContext[Any], proof: str, holder_text: str, subject: str, name: str
) -> Response:
    service = context.resource(ImageService)
    request = chip_request.parse_path(f"{subject}/{name}")
    holder = UrlHolder.parse(holder_text)
    left_s = service.urls.verify(proof, holder, request)
    with context.connection() as conn:
        if not users.has_right(conn, holder.user_id, holder.aoi):
            raise ForbiddenError("the user of this address has no right to it any more")
        job = _job(conn, service, request)
    image = service.get(str(holder.user_id), job)
    if image is None:
        raise NotFoundError("there is nothing to see there any more")
    headers = {
        "Cache-Control": f"private, max-age={left_s}, immutable",
        "Content-Disposition": f"inline; filename={name}",
    }
    media_type = PNG if request.form == "png" else TIFF
    return byte_range(context.request, Response(HTTPStatus.OK, image, media_type, headers))


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


def _route(
    name: str,
    summary: str,
    params: type[ParamsT],
    handler: Callable[[RequestContext[ParamsT]], Response],
    *responses: ResponseDoc,
    method: str = "GET",
) -> Route[ParamsT]:
    path = f"/query/{name}"
    options: dict[str, Any] = {"responses": responses, "tag": "images", "lane": Lane.IMAGE}
    return Route(path, summary, params, handler, method, **options)


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

ROUTES: tuple[Route[Any], ...] = (
    _route(
        "chipsByLocation", "Composites of the scenes that show a point",
        chip_params.ChipPointParams, _chips, _PAGE, CHIP_LIST,
    ),
    _route(
        "chipsByParcelID", "Composites of the scenes that show a parcel",
        chip_params.ChipParcelParams, _chips, _PAGE, CHIP_LIST,
    ),
    _route(
        "rawChipByLocation", "A band as GeoTIFFs, of the scenes that show a point",
        chip_params.RawChipPointParams, _raw_chips, CHIP_LIST,
    ),
    _route(
        "rawChipByParcelID", "A band as GeoTIFFs, of the scenes that show a parcel",
        chip_params.RawChipParcelParams, _raw_chips, CHIP_LIST,
    ),
    _route(
        "rawChipsBatch", "Bands of Sentinel-2 products around a point, as GeoTIFFs",
        chip_params.BatchParams, _raw_batch, CHIP_LIST, method="POST",
    ),
    _route(
        "rawS1ChipsBatch", "VV and VH of the Sentinel-1 scenes that show a point, as GeoTIFFs",
        chip_params.RadarBatchParams, _raw_radar_batch, CHIP_LIST, method="POST",
    ),
    _route(
        "backgroundByLocation", "An image of the ground around a point",
        chip_params.BackgroundPointParams, _background, _PAGE, _ADDRESS,
    ),
    _route(
        "backgroundByParcelID", "An image of the ground around a parcel",
        chip_params.BackgroundParcelParams, _background, _PAGE, _ADDRESS,
    ),
    Route(
        f"{PREFIX}/{{proof}}/{{holder}}/{{subject}}/{{name}}",
        "An image by its signed address; needs no credentials",
        chip_params.AddressParams,
        _image,
        access=Access.PUBLIC,
        responses=_IMAGE,
        tag="images",
        lane=Lane.IMAGE,
    ),
    Route(
        f"{TICKET_PREFIX}/{{ticket}}/{{name}}",
        "The same by an address in the three parts that the JRC's scripts expect",
        chip_params.TicketParams,
        _image_by_ticket,
        access=Access.PUBLIC,
        responses=_IMAGE,
        tag="images",
        lane=Lane.IMAGE,
    ),
)  # fmt: skip
"""Routes of images."""

RESOURCES: tuple[type[AppResource], ...] = (ImageService,)
"""Resources of these routes."""
