"""Band names as the API's users write them, and the CARD kinds that have them."""

from dataclasses import dataclass

from store.products import BANDS, SCL

_KINDS = (("s2",), ("bs",), ("c6", "c12"))
"""Where bands are looked for when no product level is asked for."""

_LEVELS = {
    "LEVEL2A": "s2",
    "LEVEL2AP": "s2",
    "CARD-BS": "bs",
    "CARD-COH6": "c6",
    "CARD-COH12": "c12",
}
LEVELS = tuple(_LEVELS)
"""Product levels, in the JRC's words."""

# The JRC tells backscatter and coherence apart by a letter behind the polarisation.
_WORDS = {
    "s2": {name: name for name in (*BANDS["s2"], SCL)},
    "bs": {"VV": "VV", "VH": "VH", "VVB": "VV", "VHB": "VH"},
    "c6": {"VV": "VV", "VH": "VH", "VVC": "VV", "VHC": "VH"},
    "c12": {"VV": "VV", "VH": "VH", "VVC": "VV", "VHC": "VH"},
}
WORDS = (*_WORDS["s2"], "VVb", "VHb", "VVc", "VHc", "VV", "VH")
"""Every name that may be asked for."""


@dataclass(frozen=True)
class BandSet:
    """Bands, and the CARD kinds that have all of them.

    Attributes:
        kinds: one, or both kinds of coherence.
        names: as in the catalogue.
    """

    kinds: tuple[str, ...]
    names: tuple[str, ...]


def level_name(text: str) -> str:
    """A product level in any case.

    Raises:
        ValueError: it is none that is kept here.
    """
    if text.upper() not in _LEVELS:
        raise ValueError(f"is none of {', '.join(LEVELS)}; other levels are not kept here")
    return text.upper()


def band_set(words: tuple[str, ...], level: str | None) -> BandSet:
    """Find the kinds that have some bands.

    Args:
        words: names, in any case.
        level: product level; None takes the first kind that has them all.

    Raises:
        ValueError: no kind, or not that of the level, has them all.
    """
    upper = [word.upper() for word in words]
    for kinds in ((_LEVELS[level],),) if level else _KINDS:
        known = _WORDS[kinds[0]]
        if all(word in known for word in upper):
            return BandSet(kinds, tuple(known[word] for word in upper))
    asked = "_".join(words)
    if level:
        known_words = ", ".join(_WORDS[_LEVELS[level]])
        raise ValueError(f"{asked!r} are no bands of {level}, which has {known_words}")
    raise ValueError(f"{asked!r} are no bands of one product; known: {', '.join(WORDS)}")
