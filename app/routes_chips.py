"""Routes of chips and backgrounds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus

from app import replies, users
from app.answers import CHIP_LIST
from app.asked import PARCEL, PLACE
from app.campaigns import asked_campaign
from app.chips import asked as params
from app.chips import pages
from app.chips.addresses import PATH, Holder, Name
from app.chips.asked import LARGEST_M, MOST_IN_BATCH
from app.chips.backgrounds import Background
from app.chips.bands import BandSet, band_set
from app.chips.looks import tidy
from app.chips.pages import Shown
from app.chips.pictures import Picture, RawChip, ShownChip
from app.chips.scenes import Acquisition, ChipScene, named, showing
from app.chips.studio import Studio
from app.chips.subjects import (
    Target,
    background_subject,
    chip_subject,
    parcel_target,
    picture,
)
from app.errors import ForbiddenError, ParameterError
from app.pages import HTML
from app.parameters import Parameter
from app.replies import Reply
from app.route import JSON, Answer, Call, Part, Route, Who
from store.errors import NotFoundError

_MOST_CHIPS = 24
"""As the JRC's: chips of a question."""

_ATTRIBUTION = "Contains modified Copernicus Sentinel data"

_PLAIN, _PNG, _TIFF = "text/plain; charset=utf-8", "image/png", "image/tiff"


@dataclass(frozen=True)
class _Item:
    """An image of an answer: what it is, how it is labelled and addressed."""

    picture: Picture
    label: str
    subject: str
    name: Name


def _target(call: Call) -> Target:
    """The point, or the parcel's centroid, that a request is about.

    Raises:
        NotFoundError: there is no such parcel.
        ForbiddenError: the user may not ask about the parcel's aoi.
    """
    asked = call.asked
    if "lon" in asked:
        return Target.at(asked["lon"], asked["lat"])
    with call.connection() as conn:
        return parcel_target(conn, asked_campaign(conn, call.user, asked), asked["pid"])


def _bands(words: tuple[str, ...], level: str | None) -> BandSet:
    try:
        return band_set(words, level)
    except ValueError as why:
        raise ParameterError(f"bands: {why}") from None


def _days(call: Call) -> tuple[date, date]:
    return call.asked["start_date"], call.asked["end_date"]


def _acquisitions(
    call: Call, target: Target, bands: BandSet, days: Sequence[date], most: int | None
) -> list[Acquisition]:
    """What shows the place on some days, unless it is too much."""
    start, end = days
    if start > end:
        raise ParameterError(f"the first day, {start}, comes after the last, {end}")
    with call.connection() as conn:
        found = showing(conn, target.place(_size_m(call)), bands, start, end)
    if most is not None and len(found) > most:
        raise ParameterError(
            f"{len(found)} acquisitions from {start} to {end} show this place, and a request may "
            f"have {most} at most: ask for fewer days at once"
        )
    return found


def _size_m(call: Call) -> float:
    return min(float(call.asked["chipsize"]), float(LARGEST_M))


def _made(call: Call, target: Target, choices: Iterable[Sequence[_Item]]) -> list[Shown]:
    """Labels and addresses: of each choice the first image on which there is something to see."""
    studio, holder = call.part(Studio), Holder(call.user.name, target.aoi)
    left: dict[int, Sequence[_Item]] = dict(enumerate(choices))
    chosen: dict[int, _Item] = {}
    while left:
        first = {place: items[0] for place, items in left.items()}
        there = studio.prepare(call.user.name, [item.picture for item in first.values()])
        seen = {place for place, is_there in zip(first, there, strict=True) if is_there}
        chosen |= {place: first[place] for place in seen}
        left = {p: items[1:] for p, items in left.items() if p not in seen and len(items) > 1}
    return [
        Shown(item.label, studio.addresses.of(holder, item.subject, item.name))
        for _, item in sorted(chosen.items())
    ]


def _listed(images: Sequence[Shown]) -> Reply:
    return replies.as_json(
        {
            "dates": [image.label for image in images],
            "chips": [image.address for image in images],
        }
    )


def _chips(call: Call) -> Reply:
    """Composites as a page, or as a list of addresses."""
    asked, target, days = call.asked, _target(call), _days(call)
    bands = _bands(asked["bands"], asked["plevel"])
    found = _acquisitions(call, target, bands, days, _MOST_CHIPS)
    choices = [[_shown(call, scene, target, bands.names) for scene in ranks] for ranks in found]
    images = _made(call, target, choices)
    if _form(call) == "json":
        return _listed(images)
    title = f"{'_'.join(bands.names)}, {days[0]} to {days[1]}"
    return _page(pages.page(title, images, _ATTRIBUTION))


def _form(call: Call) -> str:
    accepted = (call.request.header("Accept") or "").lower()
    preferred = "json" if JSON in accepted and "text/html" not in accepted else "html"
    return str(call.asked["format"] or preferred)


def _page(body: bytes) -> Reply:
    headers = {"Content-Security-Policy": pages.POLICY, "Vary": "Accept"}
    return Reply(HTTPStatus.OK, body, HTML, headers)


def _shown(call: Call, scene: ChipScene, target: Target, bands: tuple[str, ...]) -> _Item:
    lut, size_m, outlined = call.asked["lut"], _size_m(call), bool(call.asked.get("withGeometry"))
    parcel = target.parcel if outlined else None
    return _Item(
        ShownChip(scene, target.place(size_m), bands, lut, parcel),
        scene.label,
        chip_subject(scene.obsid, target, size_m, outlined=outlined),
        Name(tidy(scene.reference), f"{'_'.join(bands)}.{lut.text}", "png"),
    )


def _raw(call: Call, scene: ChipScene, target: Target, band: str, label: str) -> _Item:
    size_m = _size_m(call)
    return _Item(
        RawChip(scene, target.place(size_m), band),
        label,
        chip_subject(scene.obsid, target, size_m, outlined=False),
        Name(tidy(scene.reference), band, "tif"),
    )


def _raw_chips(call: Call) -> Reply:
    """GeoTIFFs of one band, or the names of the products they would come from."""
    asked, target = call.asked, _target(call)
    bands = _bands(asked["band"], asked["plevel"])
    most = None if asked["onlylist"] else _MOST_CHIPS
    found = _acquisitions(call, target, bands, _days(call), most)
    if asked["onlylist"]:
        return _listed([Shown(best.label, best.reference) for best, *_ in found])
    band = bands.names[0]
    choices = [[_raw(call, scene, target, band, scene.label) for scene in r] for r in found]
    return _listed(_made(call, target, choices))


def _raw_batch(call: Call) -> Reply:
    """GeoTIFFs of every asked band of every asked product."""
    asked, target = call.asked, _target(call)
    words = tuple(dict.fromkeys(word for words in asked["bands"] for word in words))
    bands = _bands(words, "LEVEL2A").names
    tiles = list(dict.fromkeys(tile.removesuffix(".SAFE") for tile in asked["tiles"]))
    if len(tiles) * len(bands) > MOST_IN_BATCH:
        raise ParameterError(
            f"{len(tiles)} products in {len(bands)} bands are {len(tiles) * len(bands)} chips, and "
            f"a batch may have {MOST_IN_BATCH} at most: ask for fewer at once"
        )
    with call.connection() as conn:
        scenes = named(conn, tiles, ("s2",))
    for scene in scenes:
        if lacking := [band for band in bands if band not in scene.bands]:
            raise NotFoundError(f"{scene.reference} has no {', '.join(lacking)}")
    return _listed(_of_each_band(call, [[scene] for scene in scenes], target, bands))


def _raw_s1_batch(call: Call) -> Reply:
    """GeoTIFFs of VV and VH of every acquisition of some days, linear."""
    asked, target = call.asked, _target(call)
    if len(asked["dates"]) != 2:
        raise ParameterError("dates: needs two days, the first and the last")
    bands = _bands(("VV", "VH"), asked["plevel"])
    found = _acquisitions(call, target, bands, asked["dates"], MOST_IN_BATCH)
    return _listed(_of_each_band(call, found, target, bands.names))


def _of_each_band(
    call: Call, found: Sequence[Acquisition], target: Target, bands: Sequence[str]
) -> list[Shown]:
    choices = [
        [_raw(call, scene, target, band, f"{scene.label}_{band}") for scene in ranks]
        for ranks in found
        for band in bands
    ]
    return _made(call, target, choices)


def _background(call: Call) -> Reply:
    """A page with a background, or its address as plain text."""
    asked, target = call.asked, _target(call)
    source, form = call.part(Studio).sources.choose(asked["tms"]), asked["iformat"]
    outlined = bool(asked.get("withGeometry")) and form == "png"
    wanted = Background(
        source,
        target.lon,
        target.lat,
        asked["chipsize"],
        float(asked["extend"]),
        form,
        target.parcel if outlined else None,
    )
    name = Name(asked["tms"].lower(), "", form)
    subject = background_subject(wanted, target, outlined=outlined)
    images = _made(call, target, [[_Item(wanted, source.name, subject, name)]])
    if not images:
        raise NotFoundError(f"background source {source.name} shows nothing there")
    if form == "tif" or asked["raw"] is not None:
        address = f"{call.request.scheme}://{call.request.host}{images[0].address}"
        return Reply(HTTPStatus.OK, address.encode(), _PLAIN)
    return _page(pages.page(f"Background {source.name}", images, source.attribution))


def _image(call: Call) -> Reply:
    """An image to whoever has its address, as long as who asked for it may see it."""
    asked, studio = call.asked, call.part(Studio)
    holder, name = Holder.read(asked["holder"]), Name.read(asked["name"])
    left_s = studio.addresses.check(asked["proof"], holder, asked["subject"], name)
    with call.connection() as conn:
        if not users.still_may(conn, holder.user_name, holder.aoi):
            raise ForbiddenError("whoever was given this address may not see it any more")
        wanted = picture(conn, studio.sources, asked["subject"], name)
    image = studio.image(wanted)
    if image is None:
        raise NotFoundError("there is nothing to see there any more")
    headers = {
        "Cache-Control": f"private, max-age={left_s}, immutable",
        "Content-Disposition": f"inline; filename={name.text}",
    }
    return Reply(HTTPStatus.OK, image, _PNG if name.form == "png" else _TIFF, headers)


def _question(
    name: str,
    meaning: str,
    parameters: Sequence[Parameter],
    answer: Callable[[Call], Reply],
    *answers: Answer,
    method: str = "GET",
) -> Route:
    return Route(
        f"/query/{name}", meaning, tuple(parameters), answer, method, answers=answers, tag="images"
    )


def _questions(
    name: str,
    meaning: str,
    parameters: Sequence[Parameter],
    answer: Callable[[Call], Reply],
    *answers: Answer,
    of_parcel: Sequence[Parameter] = (),
) -> tuple[Route, Route]:
    """The same question about a point, and about a parcel, where more may be asked."""
    at, of = (*PLACE, *parameters), (*PARCEL, *parameters, *of_parcel)
    return (
        _question(f"{name}ByLocation", f"{meaning} a point", at, answer, *answers),
        _question(f"{name}ByParcelID", f"{meaning} a parcel", of, answer, *answers),
    )


_TEXT = {"type": "string"}
_PAGE = Answer("text/html", _TEXT, meaning="a page with the images")
_ADDRESS = Answer(
    "text/plain", _TEXT, meaning="the image's address, when iformat is tif or raw is given"
)

ROUTES: tuple[Route, ...] = (
    *_questions(
        "chips", "Composites of the scenes that show", params.CHIPS, _chips, _PAGE, CHIP_LIST,
        of_parcel=[params.OUTLINE],
    ),
    *_questions(
        "rawChip", "A band as GeoTIFFs, of the scenes that show", params.RAW, _raw_chips, CHIP_LIST
    ),
    _question(
        "rawChipsBatch", "Bands of Sentinel-2 products around a point, as GeoTIFFs",
        (*PLACE, *params.BATCH), _raw_batch, CHIP_LIST, method="POST",
    ),
    _question(
        "rawS1ChipsBatch", "VV and VH of the Sentinel-1 scenes that show a point, as GeoTIFFs",
        (*PLACE, *params.S1_BATCH), _raw_s1_batch, CHIP_LIST, method="POST",
    ),
    *_questions(
        "background", "An image of the ground around", params.BACKGROUND, _background,
        _PAGE, _ADDRESS, of_parcel=[params.OUTLINE],
    ),
    Route(
        PATH,
        "An image whose address was given out; needs no credentials",
        params.ADDRESS,
        _image,
        who=Who.ANYONE,
        answers=(Answer(_PNG), Answer(_TIFF)),
        tag="images",
    ),
)  # fmt: skip
"""Every question about images."""

PARTS: tuple[type[Part], ...] = (Studio,)
"""What a process keeps for them."""
