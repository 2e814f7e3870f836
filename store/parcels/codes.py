"""Parcel codes: the agency's own ids, kept letter for letter, valid in every route and table."""

import unicodedata

MAX_LETTERS = 100
"""Longest code; the API's parameters accept as much."""

SEPARATOR = "-"
"""Between the parts of a code that is made of several columns."""


def flaw(code: str | None) -> str | None:
    """A sentence on a code that cannot be one; None for a good one."""
    if code is None:
        return "no id"
    if len(code) > MAX_LETTERS:
        return f"an id of more than {MAX_LETTERS} characters"
    strange = next((letter for letter in code if not letter.isprintable()), None)
    if strange is None:
        return None
    name = unicodedata.name(strange, "control character").lower()
    return f"an id with a character that cannot be seen (U+{ord(strange):04X}, {name})"


def join(parts: list[list[str | None]]) -> list[str | None]:
    """Codes of columns: the parts of each row joined; None where one is missing.

    Args:
        parts: of each column, its texts.
    """
    rows = zip(*parts, strict=True)
    return [None if None in row else SEPARATOR.join(map(str, row)) for row in rows]
