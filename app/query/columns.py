"""Column-oriented tables, as the JRC's clients read them: name -> values, all of one length."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Columns = dict[str, list[Any]]

_Values = TypeVar("_Values")


def to_columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
    """Turn rows into columns; without rows every column is empty."""
    if not rows:
        return {name: [] for name in names}
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def select(table: Mapping[str, _Values], **wanted: bool) -> dict[str, _Values]:
    """The columns but for those that are named False."""
    return {name: values for name, values in table.items() if wanted.get(name, True)}
