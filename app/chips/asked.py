"""Parameters of questions about images."""

import re

from app.chips.bands import LEVELS, WORDS, band_set, level_name
from app.chips.looks import DEFAULT_LUT, Lut
from app.parameters import (
    Domain,
    Parameter,
    day,
    number_within,
    one_of,
    plain_text,
    truth,
    whole_within,
)

MOST_IN_BATCH = 36
"""As the JRC's: chips of a batch (Sentinel-1: products of a batch)."""

SMALLEST_M, LARGEST_M = 20, 5120


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
    number_within(SMALLEST_M, LARGEST_M),
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
OUTLINE = Parameter(
    "withGeometry", "with the parcel's outline", truth, default=False, aliases=("geom",)
)
CHIPS = (*_SPAN, _BANDS, _LUT, _SIZE, _LEVEL, _FORMAT)
RAW = (*_SPAN, _BAND, _SIZE, _LEVEL, _ONLY_LIST)

# The JRC cuts batches down to the largest size, as documented; so old scripts go on working.
_BATCH_SIZE = Parameter(
    "chipsize",
    f"length of the sides in metres; {LARGEST_M} if larger",
    number_within(SMALLEST_M, 1e6),
    1280.0,
)
_TILES = Parameter(
    "tiles",
    "names of Sentinel-2 products",
    plain_text,
    most=MOST_IN_BATCH,
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
BATCH = (_TILES, _BATCH_BANDS, _BATCH_SIZE)
S1_BATCH = (_DATES, _BATCH_SIZE, _S1_LEVEL)

BACKGROUND = (
    Parameter("chipsize", "length of the sides in pixels", whole_within(16, 1280), 256),
    Parameter(
        "extend", "the same on the ground, metres", number_within(10, 50_000), 256.0, ("extent",)
    ),
    Parameter("tms", "background source; Google means the default one", plain_text, "Google"),
    Parameter("iformat", "form of the image", one_of({"png": "png", "tif": "tif"}), "png"),
    Parameter(
        "raw",
        "if given at all: the image's address as plain text, not a page",
        plain_text,
        default=None,
        bare="True",
    ),
)


def _part(pattern: str) -> Domain:
    """A part of an image's address."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError("is no part of an image's address")
        return text

    return Domain(read, {"type": "string", "pattern": f"^{pattern}$"})


ADDRESS = (
    Parameter(
        "proof",
        "that the address was given out",
        _part("[0-9a-f]{1,100}"),
        example="0066f2b8c05d41402abc4b2a76b9719d911017c592",
    ),
    Parameter(
        "holder",
        "the user it was given to, and the aoi whose parcel it is about, if any",
        _part("[0-9A-Za-z._@~-]{1,80}"),
        example="ann~nl",
    ),
    Parameter(
        "subject", "what is shown", _part("[0-9a-z_.+-]{1,150}"), example="c_17_8.68_47.44_1280.0"
    ),
    Parameter(
        "name",
        "the file's name",
        _part("[0-9A-Za-z_.-]{1,250}"),
        example="20240514T102601.B08.tif",
    ),
)
