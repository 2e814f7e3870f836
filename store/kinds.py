"""The table of CARD kinds: bands, names, units, renderings and scene classes of each.

Every program reads it. A new kind is one entry of `KINDS` and one migration with its rows in
public.band; a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SCL = "SCL"
"""Sentinel-2's scene class band: counted as a histogram of its 12 classes, never averaged."""

MASK = "MASK"
"""A byte band beside backscatter: bit 0 is layover, bit 1 shadow; counted, never averaged."""

COUNTED = frozenset((SCL, MASK))
"""Bands of no unit."""

L2A, CARD_BS, GRD, SLC = "L2A", "CARD-BS", "GRD", "SLC"
"""Product levels; coherence products are called CARD-COH and the days between: 1, 6 or 12."""

INPUT_LEVELS = (GRD, SLC)
"""Levels that are no CARD, but what CARD is made from."""


@dataclass(frozen=True)
class Band:
    """A band with signatures.

    Attributes:
        name: in the catalogue, and in lower case in the columns of the tables.
        jrc_name: in the JRC's tables and in the API.
        stac_names: other names that STAC Items give it.
    """

    name: str
    jrc_name: str
    stac_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Composite:
    """A default rendering: one band in grey, or three in red, green and blue.

    Attributes:
        title: for people.
        bands: names, in the order of the colours.
        percentiles: of the values in sight; they become black and white.
    """

    title: str
    bands: tuple[str, ...]
    percentiles: tuple[float, float] = (5.0, 95.0)


@dataclass(frozen=True)
class CardKind:
    """A kind of analysis-ready scenes, with a table of signatures of its own.

    Attributes:
        name: key in the catalogue and name of the table, such as s2.
        mission: with which names of its platforms begin, such as S2.
        bands: in the order of the columns.
        units: its scenes may have; the first is the default of integers.
        levels: product level -> unit that the level defines; None where the files state it.
        source_levels: levels of products that it can be made from; SLC stands with c6, although
            c1d and c12 are made from it, too.
        stac_types: values of product:type in STAC Items.
        jrc_levels: product levels in the JRC's chip requests.
        tstypes: names of its series in the API.
        composites: default renderings, the first one is shown first.
        classes: band of scene classes beside the others; None if there is none.
        mask: band of layover and shadow, which some products have; None if none has.
    """

    name: str
    mission: str
    bands: tuple[Band, ...]
    units: tuple[str, ...]
    levels: Mapping[str, str | None]
    jrc_levels: tuple[str, ...]
    tstypes: tuple[str, ...]
    composites: tuple[Composite, ...]
    source_levels: tuple[str, ...] = ()
    stac_types: tuple[str, ...] = ()
    classes: str | None = None
    mask: str | None = None

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands with signatures, in the order of the columns."""
        return tuple(band.name for band in self.bands)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all bands to show, scene classes included."""
        return self.band_names if self.classes is None else (*self.band_names, self.classes)

    @property
    def rasters(self) -> tuple[str, ...]:
        """Names of all bands to read."""
        return self.layers if self.mask is None else (*self.layers, self.mask)


def _polarisations(suffix: str) -> tuple[Band, ...]:
    """VV and VH; the JRC tells backscatter and coherence apart by a letter behind them."""
    return tuple(Band(name, name + suffix, (name.lower(),)) for name in ("VV", "VH"))


_GREY = (Composite("VV", ("VV",)), Composite("VH", ("VH",)))


def _coherence(
    name: str, level: str, tstypes: tuple[str, ...], source_levels: tuple[str, ...] = ()
) -> CardKind:
    """A kind of coherence; they differ in the days between the two images alone."""
    return CardKind(
        name=name,
        mission="S1",
        bands=_polarisations("c"),
        units=("coherence",),
        levels={level: "coherence"},
        source_levels=source_levels,
        stac_types=(level,),
        jrc_levels=(level,),
        tstypes=tstypes,
        composites=_GREY,
    )


KINDS: dict[str, CardKind] = {
    kind.name: kind
    for kind in (
        CardKind(
            name="s2",
            mission="S2",
            # STAC's "rededge" alone would be ambiguous.
            bands=(
                Band("B02", "B02", ("blue",)),
                Band("B03", "B03", ("green",)),
                Band("B04", "B04", ("red",)),
                Band("B05", "B05", ("rededge1",)),
                Band("B06", "B06", ("rededge2",)),
                Band("B07", "B07", ("rededge3",)),
                Band("B08", "B08", ("nir",)),
                Band("B8A", "B8A", ("nir08",)),
                Band("B11", "B11", ("swir16",)),
                Band("B12", "B12", ("swir22",)),
            ),
            units=("dn", "reflectance"),
            levels={L2A: None},
            stac_types=("S2MSI2A",),
            jrc_levels=("LEVEL2A", "LEVEL2AP"),
            tstypes=("s2",),
            composites=(
                Composite("Infrared", ("B08", "B04", "B03")),
                Composite("Natural", ("B04", "B03", "B02")),
                Composite("Short-wave", ("B11", "B08", "B04")),
                Composite("Scene classes", (SCL,)),
            ),
            classes=SCL,
        ),
        CardKind(
            name="bs",
            mission="S1",
            bands=_polarisations("b"),
            units=(
                "gamma0_linear",
                "gamma0_terrain_linear",
                "gamma0_ellipsoid_linear",
                "sigma0_linear",
                "gamma0_db",
                "gamma0_terrain_db",
                "gamma0_ellipsoid_db",
                "sigma0_db",
            ),
            levels={CARD_BS: "gamma0_linear"},
            source_levels=(GRD,),
            stac_types=(CARD_BS,),
            jrc_levels=(CARD_BS,),
            tstypes=("bs",),
            composites=_GREY,
            mask=MASK,
        ),
        _coherence("c1d", "CARD-COH1", ("c1d",)),
        _coherence("c6", "CARD-COH6", ("c6",), source_levels=(SLC,)),
        _coherence("c12", "CARD-COH12", ("c12", "c1")),
    )
}
"""CARD kinds by name."""

COHERENCE_DAYS = {"c1d": 1, "c6": 6, "c12": 12}
"""Kinds of coherence -> days between the pair: C and D one after the other, two satellites half a
cycle apart, one satellite a cycle later."""


def kind_of_level(level: str) -> CardKind:
    """The kind that products of a level are, or can be made into.

    Raises:
        KeyError: no kind has the level.
    """
    for kind in KINDS.values():
        if level in kind.levels or level in kind.source_levels:
            return kind
    raise KeyError(level)


def unit_of_level(level: str) -> str | None:
    """The unit that a product level defines; None where it defines none."""
    return next((kind.levels[level] for kind in KINDS.values() if level in kind.levels), None)


def bands_by_stac_name() -> dict[str, str]:
    """Band name by any name that STAC Items give a band, all in lower case."""
    names = {SCL.lower(): SCL}
    for kind in KINDS.values():
        for band in kind.bands:
            names |= dict.fromkeys((band.name.lower(), *band.stac_names), band.name)
    return names


@dataclass(frozen=True)
class SceneClass:
    """A class of Sentinel-2's scene classification.

    Attributes:
        value: pixel value.
        title: for people.
        colour: RRGGBB of ESA's legend.
        clear: whether the ground can be seen and measured there.
    """

    value: int
    title: str
    colour: str
    clear: bool = False


# Snow hides what grows below it, so it is not clear.
SCENE_CLASSES: tuple[SceneClass, ...] = (
    SceneClass(0, "no data", "000000"),
    SceneClass(1, "saturated or defective", "ff0000"),
    SceneClass(2, "dark area", "2f2f2f", clear=True),
    SceneClass(3, "cloud shadow", "643200"),
    SceneClass(4, "vegetation", "00a000", clear=True),
    SceneClass(5, "bare ground", "ffe65a", clear=True),
    SceneClass(6, "water", "0000ff", clear=True),
    SceneClass(7, "unclassified", "808080", clear=True),
    SceneClass(8, "cloud, medium probability", "c0c0c0"),
    SceneClass(9, "cloud, high probability", "ffffff"),
    SceneClass(10, "thin cirrus", "64c8ff"),
    SceneClass(11, "snow or ice", "ff96ff"),
)
"""All classes, by value."""

CLEAR_CLASSES = tuple(each.value for each in SCENE_CLASSES if each.clear)
"""Values of the classes in which the ground is seen."""

CLEAR_SHARE = 0.9
"""A parcel is clear on a date where at least this share of its SCL pixels is, unless a user
chooses another share."""


def clear_share(histogram: Mapping[str, int] | Mapping[int, int] | None) -> float | None:
    """The share of clear pixels in an SCL histogram, 0 to 1.

    Args:
        histogram: pixels by class; keys are numbers or, as in JSON, their texts.

    Returns:
        The share; None where there is no histogram, or no pixel in it: such a date is neither
        clear nor clouded, and a choice of clear dates leaves it out.
    """
    counts = {int(value): pixels for value, pixels in (histogram or {}).items()}
    total = sum(counts.values())
    return sum(counts.get(value, 0) for value in CLEAR_CLASSES) / total if total else None
