"""Answers in the JRC's shape: a column name -> its values, all of one length."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Columns = dict[str, list[Any]]

_Values = TypeVar("_Values")


def columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Columns:
    """Turn rows into columns; without rows every column is empty."""
    if not rows:
        return {name: [] for name in names}
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def without(table: Mapping[str, _Values], **wanted: bool) -> dict[str, _Values]:
    """Leave out the columns that are said to be unwanted."""
    return {name: values for name, values in table.items() if wanted.get(name, True)}
