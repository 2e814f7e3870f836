"""Routes of chips and backgrounds."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import wraps
from http import HTTPStatus
from typing import Any

from app import replies
from app.asked import LAT, LON, PARCEL, PLACE
from app.campaigns import asked_campaign
from app.chips import pages
from app.chips.addresses import PATH, Name
from app.chips.backgrounds import Background
from app.chips.bands import LEVELS, WORDS, BandSet, band_set, level_name
from app.chips.looks import DEFAULT_LUT, Lut, tidy
from app.chips.pages import Shown
from app.chips.pictures import Picture, RawChip, ShownChip
from app.chips.scenes import ChipScene, named, showing
from app.chips.studio import Studio
from app.chips.subjects import (
    Target,
    background_subject,
    chip_subject,
    parcel_target,
    picture,
)
from app.errors import ParameterError
from app.parameters import (
    Domain,
    Parameter,
    day,
    domain,
    number_within,
    one_of,
    plain_text,
    truth,
    whole_within,
)
from app.replies import Reply
from app.route import JSON, Answer, Call, Part, Route, Who
from store.errors import NotFoundError, ObjectStoreError

_log = logging.getLogger(__name__)

_MOST_CHIPS = 24
_MOST_IN_BATCH = 36
"""As the JRC's: chips of a question, and of a batch (Sentinel-1: products of a batch)."""

_SMALLEST_M, _LARGEST_M = 20, 5120
_AWAY = "the place where the images lie does not answer, or not in time; try again shortly"
_ATTRIBUTION = "Contains modified Copernicus Sentinel data"

HTML, PLAIN, PNG, TIFF = "text/html", "text/plain", "image/png", "image/tiff"


def _words(most: int) -> Domain:
    """Band names joined by _, one or as many as are accepted."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split("_"))
        if len(words) not in {1, most}:
            raise ValueError(f"is not {'one band' if most == 1 else f'one or {most} bands'}")
        band_set(words, None)
        return words

    word = f"({'|'.join(WORDS)})"
    more = f"(_{word}){{{most - 1}}}" if most > 1 else ""
    return Domain(read, {"type": "string", "pattern": f"^{word}({more})?$"})


_SPAN = (
    Parameter("start_date", "first day, UTC", day, aliases=("start",), example="2024-05-01"),
    Parameter("end_date", "last day, included", day, aliases=("end",), example="2024-05-31"),
)
_SIZE = Parameter(
    "chipsize",
    "length of the sides in metres",
    number_within(_SMALLEST_M, _LARGEST_M),
    1280.0,
    example=1280,
)
_LEVEL = Parameter(
    "plevel",
    "product level; that of the bands if absent",
    Domain(level_name, {"type": "string", "enum": list(LEVELS)}),
    default=None,
)
_BANDS = Parameter(
    "bands",
    "one band (SCL in the colours of its classes), or three for red, green and blue",
    _words(3),
    ("B08", "B04", "B03"),
    ("band",),
    example="B08_B04_B03",
)
_BAND = Parameter("band", "one band", _words(1), aliases=("bands",), example="B04")
_LUT = Parameter(
    "lut",
    "two percentiles, or low and high of three bands in the scenes' unit (dB for backscatter)",
    Domain(Lut.read, {"type": "string"}),
    DEFAULT_LUT,
    example="5_95",
)
_FORMAT = Parameter(
    "format",
    "html or json; what the header Accept prefers if absent, else html",
    one_of({"html": "html", "json": "json"}),
    default=None,
)
_ONLY_LIST = Parameter("onlylist", "the products' names instead of chips", truth, default=False)
_OUTLINE = Parameter(
    "withGeometry", "with the parcel's outline", truth, default=False, aliases=("geom",)
)
_CHIPS = (*_SPAN, _BANDS, _LUT, _SIZE, _LEVEL, _FORMAT)
_RAW = (*_SPAN, _BAND, _SIZE, _LEVEL, _ONLY_LIST)

# The JRC cuts batches down to the largest size, as documented; so old scripts go on working.
_BATCH_SIZE = Parameter(
    "chipsize",
    f"length of the sides in metres; {_LARGEST_M} if larger",
    number_within(_SMALLEST_M, 1e6),
    1280.0,
)
_TILES = Parameter(
    "tiles",
    "names of Sentinel-2 products",
    plain_text,
    most=_MOST_IN_BATCH,
    example="S2A_MSIL2A_20240501T103031_N0510_R108_T31UFU_20240501T155001",
)
_BATCH_BANDS = Parameter(
    "bands", "Sentinel-2 bands, each of every product", _words(1), most=12, example="B08"
)
_DATES = Parameter("dates", "first and last day, UTC", day, most=2, example="2024-05-01")
_S1_LEVEL = Parameter(
    "plevel",
    "backscatter or coherence",
    Domain(level_name, {"type": "string", "enum": [name for name in LEVELS if "CARD" in name]}),
    "CARD-BS",
)

_BACKGROUND = (
    Parameter("chipsize", "length of the sides in pixels", whole_within(16, 1280), 256),
    Parameter(
        "extend", "the same on the ground, metres", number_within(10, 50_000), 256.0, ("extent",)
    ),
    Parameter("tms", "background source; Google means the default one", plain_text, "Google"),
    Parameter("iformat", "form of the image", one_of({"png": "png", "tif": "tif"}), "png"),
    Parameter("raw", "the image's address as plain text, not a page", plain_text, default=None),
)


@domain(type="string", pattern="^[0-9a-f]{1,100}$")
def _proof(text: str) -> str:
    return _of_address(r"[0-9a-f]{1,100}", text)


@domain(type="string", pattern="^[0-9a-z_.+-]{1,150}$")
def _subject(text: str) -> str:
    return _of_address(r"[0-9a-z_.+-]{1,150}", text)


@domain(type="string", pattern="^[0-9A-Za-z_.-]{1,250}$")
def _name(text: str) -> str:
    return _of_address(r"[0-9A-Za-z_.-]{1,250}", text)


def _of_address(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError("is no part of an image's address")
    return text


_ADDRESS = (
    Parameter(
        "proof",
        "that the address was given out",
        _proof,
        example="0066f2b8c05d41402abc4b2a76b9719d911017c592",
    ),
    Parameter("subject", "what is shown", _subject, example="c_17_8.68_47.44_1280.0"),
    Parameter("name", "the file's name", _name, example="20240514T102601.B08.tif"),
)


@dataclass(frozen=True)
class _Item:
    """An image of an answer: what it is, how it is labelled and addressed."""

    picture: Picture
    label: str
    subject: str
    name: Name


def _reaching(answer: Callable[..., Reply]) -> Callable[..., Reply]:
    """Say of scenes that cannot be reached that it is them, not the database."""

    @wraps(answer)
    def guarded(call: Call) -> Reply:
        try:
            return answer(call)
        except ObjectStoreError as error:
            _log.error("%s", error)
            again = {"Retry-After": "5"}
            return replies.as_error(HTTPStatus.SERVICE_UNAVAILABLE, _AWAY, again)

    return guarded


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


def _scenes(call: Call, target: Target, bands: BandSet, most: int | None) -> list[ChipScene]:
    """The scenes of the asked dates, unless there are too many."""
    asked = call.asked
    start, end = asked["start_date"], asked["end_date"]
    return _of_dates(call, target, bands, (start, end), most)


def _of_dates(
    call: Call, target: Target, bands: BandSet, dates: Sequence[date], most: int | None
) -> list[ChipScene]:
    start, end = dates
    if start > end:
        raise ParameterError(f"the first day, {start}, comes after the last, {end}")
    place = target.place(_size_m(call))
    with call.connection() as conn:
        found = showing(conn, place, bands, start, end)
    if most is not None and len(found) > most:
        raise ParameterError(
            f"{len(found)} acquisitions from {start} to {end} show this place, and a request may "
            f"have {most} at most: ask for fewer days at once"
        )
    return found


def _size_m(call: Call) -> float:
    return min(float(call.asked["chipsize"]), float(_LARGEST_M))


def _made(call: Call, items: Sequence[_Item]) -> list[Shown]:
    """Labels and addresses of those images on which there is something to see."""
    studio = call.part(Studio)
    there = studio.prepare(call.user.name, [item.picture for item in items])
    return [
        Shown(item.label, studio.addresses.of(item.subject, item.name))
        for item, seen in zip(items, there, strict=True)
        if seen
    ]


def _listed(images: Sequence[Shown]) -> Reply:
    return replies.as_json(
        {
            "dates": [image.label for image in images],
            "chips": [image.address for image in images],
        }
    )


@_reaching
def _chips(call: Call) -> Reply:
    """Composites as a page, or as a list of addresses."""
    asked, target = call.asked, _target(call)
    bands = _bands(asked["bands"], asked["plevel"])
    scenes = _scenes(call, target, bands, _MOST_CHIPS)
    images = _made(call, [_shown(call, scene, target, bands.names) for scene in scenes])
    if _form(call) == "json":
        return _listed(images)
    title = f"{'_'.join(bands.names)}, {asked['start_date']} to {asked['end_date']}"
    return _page(pages.page(title, images, _ATTRIBUTION))


def _form(call: Call) -> str:
    accepted = (call.request.header("Accept") or "").lower()
    preferred = "json" if JSON in accepted and HTML not in accepted else "html"
    return str(call.asked["format"] or preferred)


def _page(body: bytes) -> Reply:
    headers = {"Content-Security-Policy": pages.POLICY, "Vary": "Accept"}
    return Reply(HTTPStatus.OK, body, "text/html; charset=utf-8", headers)


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


@_reaching
def _raw_chips(call: Call) -> Reply:
    """GeoTIFFs of one band, or the names of the products they would come from."""
    asked, target = call.asked, _target(call)
    bands = _bands(asked["band"], asked["plevel"])
    if asked["onlylist"]:
        scenes = _scenes(call, target, bands, None)
        return _listed([Shown(scene.label, scene.reference) for scene in scenes])
    scenes = _scenes(call, target, bands, _MOST_CHIPS)
    band = bands.names[0]
    return _listed(_made(call, [_raw(call, scene, target, band, scene.label) for scene in scenes]))


@_reaching
def _raw_batch(call: Call) -> Reply:
    """GeoTIFFs of every asked band of every asked product."""
    asked, target = call.asked, _target(call)
    words = tuple(dict.fromkeys(word for words in asked["bands"] for word in words))
    bands = _bands(words, "LEVEL2A").names
    tiles = list(dict.fromkeys(tile.removesuffix(".SAFE") for tile in asked["tiles"]))
    if len(tiles) * len(bands) > _MOST_IN_BATCH:
        raise ParameterError(
            f"{len(tiles)} products in {len(bands)} bands are {len(tiles) * len(bands)} chips, and "
            f"a batch may have {_MOST_IN_BATCH} at most: ask for fewer at once"
        )
    with call.connection() as conn:
        scenes = named(conn, tiles, ("s2",))
    for scene in scenes:
        if lacking := [band for band in bands if band not in scene.bands]:
            raise NotFoundError(f"{scene.reference} has no {', '.join(lacking)}")
    return _listed(_made(call, _of_each_band(call, scenes, target, bands)))


@_reaching
def _raw_s1_batch(call: Call) -> Reply:
    """GeoTIFFs of VV and VH of every acquisition of some days, linear."""
    asked, target = call.asked, _target(call)
    if len(asked["dates"]) != 2:
        raise ParameterError("dates: needs two days, the first and the last")
    bands = _bands(("VV", "VH"), asked["plevel"])
    scenes = _of_dates(call, target, bands, asked["dates"], _MOST_IN_BATCH)
    return _listed(_made(call, _of_each_band(call, scenes, target, bands.names)))


def _of_each_band(
    call: Call, scenes: Sequence[ChipScene], target: Target, bands: Sequence[str]
) -> list[_Item]:
    return [
        _raw(call, scene, target, band, f"{scene.label}_{band}")
        for scene in scenes
        for band in bands
    ]


@_reaching
def _background(call: Call) -> Reply:
    """A page with a background, or its address as plain text."""
    asked, target, studio = call.asked, _target(call), call.part(Studio)
    source, form = studio.sources.choose(asked["tms"]), asked["iformat"]
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
    item = _Item(wanted, source.name, background_subject(wanted, target, outlined=outlined), name)
    images = _made(call, [item])
    if not images:
        raise NotFoundError(f"background source {source.name} shows nothing there")
    if form == "tif" or asked["raw"] is not None:
        address = f"{call.request.scheme}://{call.request.host}{images[0].address}"
        return Reply(HTTPStatus.OK, address.encode(), "text/plain; charset=utf-8")
    return _page(pages.page(f"Background {source.name}", images, source.attribution))


@_reaching
def _image(call: Call) -> Reply:
    """An image to whoever was given its address."""
    asked, studio = call.asked, call.part(Studio)
    name = Name.read(asked["name"])
    left_s = studio.addresses.check(asked["proof"], asked["subject"], name)
    with call.connection() as conn:
        wanted = picture(conn, studio.sources, asked["subject"], name)
    image = studio.image(wanted)
    if image is None:
        raise NotFoundError("there is nothing to see there any more")
    headers = {
        "Cache-Control": f"private, max-age={left_s}, immutable",
        "Content-Disposition": f"inline; filename={name.text}",
    }
    return Reply(HTTPStatus.OK, image, PNG if name.form == "png" else TIFF, headers)


def _strings(example: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "example": [example]}


_LIST = {
    "type": "object",
    "required": ["dates", "chips"],
    "properties": {
        "dates": {"type": "array", "items": {"type": "string"}},
        "chips": {"type": "array", "items": {"type": "string"}},
    },
}
_CHIP_EXAMPLE = PATH.format(
    proof="006640f1c0" + "0123456789abcdef" * 2,
    subject="c_17_5.39_52.15_1280.0",
    name="S2A_MSIL2A_20240501T103031_N0510_R108_T31UFU_20240501T155001.B04.tif",
)
_LIST_ANSWER = Answer(
    JSON,
    _LIST,
    {"dates": ["20240501T103031"], "chips": [_CHIP_EXAMPLE]},
    "times of sensing, and addresses of images to fetch without credentials",
)
_TEXT = {"type": "string"}
_CHIPS_ANSWERS = (Answer(HTML, _TEXT, meaning="a page with the images"), _LIST_ANSWER)
_BACKGROUND_ANSWERS = (
    Answer(HTML, _TEXT, meaning="a page with the image"),
    Answer(PLAIN, _TEXT, meaning="the image's address, when iformat is tif or raw is given"),
)

_TAG = "images"
ROUTES: tuple[Route, ...] = (
    Route(
        "/query/chipsByLocation",
        "Composites of the scenes that show a point, for people",
        (*PLACE, *_CHIPS),
        _chips,
        answers=_CHIPS_ANSWERS,
        tag=_TAG,
    ),
    Route(
        "/query/chipsByParcelID",
        "Composites of the scenes that show a parcel, for people",
        (*PARCEL, *_CHIPS, _OUTLINE),
        _chips,
        answers=_CHIPS_ANSWERS,
        tag=_TAG,
    ),
    Route(
        "/query/rawChipByLocation",
        "A band of the scenes that show a point, as GeoTIFFs",
        (*PLACE, *_RAW),
        _raw_chips,
        answers=(_LIST_ANSWER,),
        tag=_TAG,
    ),
    Route(
        "/query/rawChipByParcelID",
        "A band of the scenes that show a parcel, as GeoTIFFs",
        (*PARCEL, *_RAW),
        _raw_chips,
        answers=(_LIST_ANSWER,),
        tag=_TAG,
    ),
    Route(
        "/query/rawChipsBatch",
        "Bands of Sentinel-2 products around a point, as GeoTIFFs",
        (LON, LAT, _TILES, _BATCH_BANDS, _BATCH_SIZE),
        _raw_batch,
        method="POST",
        answers=(_LIST_ANSWER,),
        tag=_TAG,
    ),
    Route(
        "/query/rawS1ChipsBatch",
        "VV and VH of the Sentinel-1 scenes that show a point, as GeoTIFFs",
        (LON, LAT, _DATES, _BATCH_SIZE, _S1_LEVEL),
        _raw_s1_batch,
        method="POST",
        answers=(_LIST_ANSWER,),
        tag=_TAG,
    ),
    Route(
        "/query/backgroundByLocation",
        "An image of the ground around a point",
        (*PLACE, *_BACKGROUND),
        _background,
        answers=_BACKGROUND_ANSWERS,
        tag=_TAG,
    ),
    Route(
        "/query/backgroundByParcelID",
        "An image of the ground around a parcel",
        (*PARCEL, *_BACKGROUND, _OUTLINE),
        _background,
        answers=_BACKGROUND_ANSWERS,
        tag=_TAG,
    ),
    Route(
        PATH,
        "An image whose address was given out; needs no credentials",
        _ADDRESS,
        _image,
        who=Who.ANYONE,
        answers=(Answer(PNG), Answer(TIFF)),
        tag=_TAG,
    ),
)
"""Every question about images."""

PARTS: tuple[type[Part], ...] = (Studio,)
"""What a process keeps for them."""
