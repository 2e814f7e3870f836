"""Band names in requests of chips, and the CARD kinds that have them."""

from dataclasses import dataclass

from store.kinds import KINDS, CardKind

_LEVELS = {level: kind for kind in KINDS.values() for level in kind.jrc_levels}
LEVELS = tuple(_LEVELS)
"""Product levels, in the JRC's words."""


def _words(kind: CardKind) -> dict[str, str]:
    """Names of a kind's bands in requests, in capitals -> name in the catalogue."""
    names = {name.upper(): name for name in kind.layers}
    return names | {band.jrc_name.upper(): band.name for band in kind.bands}


WORDS = tuple(
    dict.fromkeys(
        [
            *(name for kind in KINDS.values() if kind.classes for name in kind.layers),
            *(band.jrc_name for kind in KINDS.values() for band in kind.bands),
            *(name for kind in KINDS.values() for name in kind.layers),
        ]
    )
)
"""Every name that requests may have."""


OLD_WORDS = {"B2": "B02", "B3": "B03", "B4": "B04", "B5": "B05", "B8": "B08", "SC": "SCL"}
"""Names in the JRC's first tables and scripts -> in the catalogue; those of VV and VH are alike."""


@dataclass(frozen=True)
class BandSet:
    """Bands, and the CARD kinds that have all of them.

    Attributes:
        kinds: one, or several with the same names in requests (both kinds of coherence).
        names: as in the catalogue.
    """

    kinds: tuple[str, ...]
    names: tuple[str, ...]


def parse_level(text: str) -> str:
    """A product level, in any case.

    Raises:
        ValueError: it is not kept here.
    """
    if text.upper() not in _LEVELS:
        raise ValueError(f"is none of {', '.join(LEVELS)}; other levels are not kept here")
    return text.upper()


def band_set(words: tuple[str, ...], level: str | None) -> BandSet:
    """The bands, and the kinds that have all of them.

    Args:
        words: names, in any case.
        level: product level; None for the first kind that has them all, and those of its names.

    Raises:
        ValueError: no kind, or not that of the level, has them all.
    """
    upper = [word.upper() for word in words]
    for kind in [_LEVELS[level]] if level else KINDS.values():
        known = _words(kind)
        if all(word in known for word in upper):
            alike = [kind] if level else [k for k in KINDS.values() if _words(k) == known]
            names = tuple(known[word] for word in upper)
            return BandSet(tuple(each.name for each in alike), names)
    name = "_".join(words)
    if level:
        others = ", ".join(_words(_LEVELS[level]))
        raise ValueError(f"{name!r} are no bands of {level}, which has {others}")
    raise ValueError(f"{name!r} are no bands of one product; known: {', '.join(WORDS)}")
