"""What a request may ask: parameters, how their text is read, and why it is refused."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import parse_qsl

from app.errors import ParameterError

REQUIRED = object()
"""Default of a parameter that must be given."""

_MOST_FIELDS = 50
_LONGEST_TEXT = 100
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a route.

    Attributes:
        name: as in the query string.
        meaning: one sentence for the documentation.
        read: turns its text into a value; raises ValueError saying why it cannot.
        default: value when it is absent or empty; REQUIRED if it must be given.
        aliases: other names that are accepted.
    """

    name: str
    meaning: str
    read: Callable[[str], Any]
    default: Any = REQUIRED
    aliases: tuple[str, ...] = ()


def parse(query: str, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Read a query string.

    Args:
        query: percent-encoded, without the question mark.
        parameters: all that the route knows.

    Returns:
        A value for every parameter, by name.

    Raises:
        ParameterError: one is missing, unknown, given twice or cannot be read; names it.
    """
    given = _fields(query, parameters)
    return {parameter.name: _value(parameter, given) for parameter in parameters}


def _fields(query: str, parameters: Sequence[Parameter]) -> dict[str, str]:
    names = {name: p.name for p in parameters for name in (p.name, *p.aliases)}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise ParameterError(
            f"the query string is not UTF-8, or has more than {_MOST_FIELDS} parameters"
        ) from None
    given: dict[str, str] = {}
    for key, text in pairs:
        if key not in names:
            known = ", ".join(parameter.name for parameter in parameters) or "none"
            raise ParameterError(f"{key[:_LONGEST_TEXT]!r} is no parameter here; known: {known}")
        if names[key] in given:
            raise ParameterError(f"{key}: given more than once")
        given[names[key]] = text
    return given


def _value(parameter: Parameter, given: Mapping[str, str]) -> Any:
    text = given.get(parameter.name)
    if not text:
        if parameter.default is REQUIRED:
            raise ParameterError(f"{parameter.name}: missing ({parameter.meaning})")
        return parameter.default
    try:
        return parameter.read(text)
    except ValueError as why:
        raise ParameterError(f"{parameter.name}: {text[:_LONGEST_TEXT]!r} {why}") from None


def plain_text(text: str) -> str:
    """Up to 100 printable characters."""
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise ValueError(f"is not up to {_LONGEST_TEXT} printable characters")
    return text


def aoi_code(text: str) -> str:
    """The code of a Member State or region, in any case."""
    if not re.fullmatch(r"[a-z][a-z0-9]{1,7}", text.lower(), re.ASCII):
        raise ValueError("is not a letter with one to seven letters or digits")
    return text.lower()


def year_number(text: str) -> int:
    """A year of four digits."""
    if not re.fullmatch(r"[0-9]{4}", text):
        raise ValueError("is not a year of four digits")
    return int(text)


def parcel_type(text: str) -> str:
    """The suffix that tells several declarations of one aoi and year apart."""
    if not re.fullmatch(r"[a-z0-9]{1,8}", text):
        raise ValueError("is not one to eight lower-case letters or digits")
    return text


def truth(text: str) -> bool:
    """A boolean; the JRC's clients write True."""
    if text.lower() not in _TRUTH:
        raise ValueError("is neither True nor False")
    return _TRUTH[text.lower()]


def day(text: str) -> date:
    """A calendar day in UTC."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("is not a date like 2024-05-31")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("is no day of the calendar") from None


def number_within(low: float, high: float) -> Callable[[str], float]:
    """A reader of numbers from low to high, both included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"is not a number from {low:g} to {high:g}")
        return value

    return read


def one_of(values: Mapping[str, str]) -> Callable[[str], str]:
    """A reader of names, in any case: those accepted, and what each stands for."""

    def read(text: str) -> str:
        if text.lower() not in values:
            raise ValueError(f"is none of {', '.join(values)}")
        return values[text.lower()]

    return read
