"""Parameters of chips and backgrounds."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field, PlainValidator, WithJsonSchema

from app.chips.bands import LEVELS, OLD_WORDS, WORDS, band_set, parse_level
from app.chips.rendering import Lut
from app.http.parameters import Day, Flag, Params, Presence, Text, Whole, choice_of, text_reader
from app.routes.params import ParcelParams, PointParams

MAX_BATCH = 36
"""As the JRC's: chips of a batch (Sentinel-1: products of a batch)."""

MIN_SIZE_M, MAX_SIZE_M = 20, 5120


def _read_bands(most: int, old: Mapping[str, str] = MappingProxyType({})) -> BeforeValidator:
    """A reader of band names joined by _, one or as many as are accepted; old names are renamed."""

    def read(text: str) -> str | tuple[str, ...]:
        words = tuple(old.get(word.upper(), word) for word in text.split("_"))
        if len(words) not in {1, most}:
            raise ValueError(f"is not {'one band' if most == 1 else f'one or {most} bands'}")
        band_set(words, None)
        return words[0] if most == 1 else words

    word = f"({'|'.join([*WORDS, *old])})"
    more = "" if most == 1 else f"({f'_{word}' * (most - 1)})?"
    return text_reader(read, pattern=f"^{word}{more}$")


def _level(*names: str) -> BeforeValidator:
    """A reader of product levels; the documentation has some of them."""
    documented = Annotated[str, WithJsonSchema({"type": "string", "enum": list(names)})]
    return BeforeValidator(parse_level, json_schema_input_type=documented)


Band = Annotated[str, _read_bands(1)]
Composite = Annotated[tuple[str, ...], _read_bands(3)]
OldBand = Annotated[str, _read_bands(1, OLD_WORDS)]
OldComposite = Annotated[tuple[str, ...], _read_bands(3, OLD_WORDS)]
Level = Annotated[str, _level(*LEVELS)]
RadarLevel = Annotated[str, _level(*(name for name in LEVELS if "CARD" in name))]
LutText = Annotated[Lut, PlainValidator(Lut.parse, json_schema_input_type=str)]


class SizeParams(Params):
    """The ground of a chip.

    Attributes:
        tickets: whether addresses have the three parts of the JRC's.
    """

    tickets: ClassVar[bool] = False

    chipsize: float = Field(
        1280.0, ge=MIN_SIZE_M, le=MAX_SIZE_M, description="length of the sides in metres"
    )

    @property
    def size_m(self) -> float:
        """Length of the sides in metres."""
        return min(max(self.chipsize, float(MIN_SIZE_M)), float(MAX_SIZE_M))


class SearchParams(SizeParams):
    """Which scenes to search for, and the ground of their chips."""

    start_date: Day = Field(
        validation_alias=AliasChoices("start_date", "start"),
        description="first day, UTC",
        examples=["2024-05-01"],
    )
    end_date: Day = Field(
        validation_alias=AliasChoices("end_date", "end"),
        description="last day, included",
        examples=["2024-05-31"],
    )
    plevel: Level | None = Field(None, description="product level; that of the bands if absent")


class OutlineParams(ParcelParams):
    """A parcel, and whether its outline is drawn."""

    outline: Flag = Field(
        False,
        validation_alias=AliasChoices("withGeometry", "geom"),
        description="with the parcel's outline",
    )


class ChipParams(SearchParams):
    """Composites."""

    bands: Composite = Field(
        "B08_B04_B03",
        validate_default=True,
        validation_alias=AliasChoices("bands", "band"),
        description="one band (SCL in the colours of its classes), or three for red, green, blue",
    )
    lut: LutText = Field(
        "5_95",
        validate_default=True,
        description="two percentiles, or low and high of three bands in the scenes' unit (dB for "
        "backscatter)",
    )
    format: Annotated[str, choice_of({"html": "html", "json": "json"})] | None = Field(
        None, description="html or json; what the header Accept prefers if absent, else html"
    )


class ChipPointParams(ChipParams, PointParams):
    """Composites around a point."""


class ChipParcelParams(ChipParams, OutlineParams):
    """Composites around a parcel."""


OffsetForm = choice_of({"applied": "applied", "delivered": "delivered"})


class OffsetParams(Params):
    """Whether the values of GeoTIFFs have the product's offset."""

    offset: Annotated[str, OffsetForm] = Field(
        "applied",
        description="applied: DN with the product's offset added, int32 with nodata -9999; "
        "delivered: the file's own values and dtype, uint16 for Sentinel-2. In both scene classes "
        "are uint8, radar and reflectances float32",
    )

    @property
    def delivered(self) -> bool:
        """Whether the offset is left out."""
        return self.offset == "delivered"


class RawChipParams(OffsetParams, SearchParams):
    """GeoTIFFs of a band."""

    band: Band = Field(
        validation_alias=AliasChoices("band", "bands"), description="one band", examples=["B04"]
    )
    onlylist: Flag = Field(False, description="the products' names instead of chips")


class RawChipPointParams(RawChipParams, PointParams):
    """GeoTIFFs around a point."""


class RawChipParcelParams(RawChipParams, ParcelParams):
    """GeoTIFFs around a parcel."""


class _BatchSizeParams(SizeParams, PointParams):
    # The JRC cuts batches down to the largest size, as documented; so old scripts go on working.
    chipsize: float = Field(
        1280.0,
        ge=MIN_SIZE_M,
        le=1e6,
        description=f"length of the sides in metres; {MAX_SIZE_M} if larger",
    )


class BatchParams(OffsetParams, _BatchSizeParams):
    """GeoTIFFs of Sentinel-2 products."""

    tiles: tuple[Text, ...] = Field(
        max_length=MAX_BATCH,
        description="names of Sentinel-2 products",
        examples=["S2A_MSIL2A_20240501T103031_N0510_R108_T31UFU_20240501T155001"],
    )
    bands: tuple[Band, ...] = Field(
        max_length=12, description="Sentinel-2 bands, each of every product", examples=["B08"]
    )


class RadarBatchParams(_BatchSizeParams):
    """GeoTIFFs of Sentinel-1 products."""

    dates: tuple[Day, ...] = Field(
        max_length=2, description="first and last day, UTC", examples=["2024-05-01"]
    )
    plevel: RadarLevel = Field("CARD-BS", description="backscatter or coherence")


class BackgroundParams(Params):
    """A background.

    Attributes:
        default_names: names that mean the default source where there is no source of that name;
            the client cbm sends Google if its user names none.
    """

    default_names: ClassVar[frozenset[str]] = frozenset({"google"})

    chipsize: Whole = Field(256, ge=16, le=1280, description="length of the sides in pixels")
    extend: float = Field(
        256.0,
        ge=10,
        le=50_000,
        validation_alias=AliasChoices("extend", "extent"),
        description="length of the sides on the ground, metres",
    )
    tms: Text = Field("Google", description="background source; Google means the default one")
    iformat: Annotated[str, choice_of({"png": "png", "tif": "tif"})] = Field(
        "png", description="form of the image"
    )
    raw: Presence = Field(
        False,
        description="if given at all: the image's address as plain text, not a page",
        json_schema_extra={"allowEmptyValue": True},
    )


class BackgroundPointParams(BackgroundParams, PointParams):
    """A background around a point."""


class BackgroundParcelParams(BackgroundParams, OutlineParams):
    """A background around a parcel."""


_FileName = Annotated[
    str,
    Field(
        pattern="^[0-9A-Za-z_.-]{1,250}$",
        description="the file's name",
        examples=["20240514T102601.B08.tif"],
    ),
]


class TicketParams(Params):
    """The address of an image in three parts."""

    ticket: str = Field(
        pattern="^[0-9a-f]{1,100},[0-9A-Za-z._@~-]{1,80},[0-9a-z_.+-]{1,150}$",
        description="time of expiry and signature, user, scene and ground",
        examples=["0066f2b8c05d41402abc4b2a76b9719d911017c592,ann,d_17_8.68_47.44_1280.0"],
    )
    name: _FileName


class AddressParams(Params):
    """The address of an image."""

    proof: str = Field(
        pattern="^[0-9a-f]{1,100}$",
        description="time of expiry and signature",
        examples=["0066f2b8c05d41402abc4b2a76b9719d911017c592"],
    )
    holder: str = Field(
        pattern="^[0-9A-Za-z._@~-]{1,80}$",
        description="user, and the aoi of the parcel, if any",
        examples=["ann~nl"],
    )
    subject: str = Field(
        pattern="^[0-9a-z_.+-]{1,150}$",
        description="scene or source, and ground",
        examples=["c_17_8.68_47.44_1280.0"],
    )
    name: _FileName
