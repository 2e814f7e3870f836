"""What a request may ask: parameters, how their text is read, and why it is refused."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from app.errors import ParameterError

REQUIRED = object()
"""Default of a parameter that must be given."""

NOTHING: Mapping[str, str] = MappingProxyType({})

_MOST_FIELDS = 50
_LONGEST_TEXT = 100
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Domain:
    """The values that a parameter may have.

    Attributes:
        read: turns a text into a value; raises ValueError saying why it cannot.
        schema: JSON schema of the text, for the documentation.
    """

    read: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})

    def __call__(self, text: str) -> Any:
        """Read a text."""
        return self.read(text)


def domain(**schema: Any) -> Callable[[Callable[[str], Any]], Domain]:
    """Make a domain of the function that reads its texts."""
    return lambda read: Domain(read, schema)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a route.

    Attributes:
        name: as in the path, the query string or the body.
        meaning: one sentence for the documentation.
        domain: its values.
        default: value when it is absent or empty; REQUIRED if it must be given.
        aliases: other names that are accepted.
        example: a text for the documentation.
        most: values that may be given, by repeating the name or as an array in a body; with more
            than one the value is a tuple.
        bare: value when the name stands without a text; None for the default.
    """

    name: str
    meaning: str
    domain: Domain
    default: Any = REQUIRED
    aliases: tuple[str, ...] = ()
    example: Any = None
    most: int = 1
    bare: Any = None


Pairs = Sequence[tuple[str, str]]


def parse(
    query: str, parameters: Sequence[Parameter], in_path: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """Read a query string: `values` of its `pairs`."""
    return values(pairs(query), parameters, in_path)


def pairs(query: str) -> Pairs:
    """The names and texts in a query string or the body of a form, percent-encoded.

    Raises:
        ParameterError: it is not UTF-8, or too much.
    """
    try:
        return parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise ParameterError(
            f"the query string is not UTF-8, or has more than {_MOST_FIELDS} parameters"
        ) from None


def members(body: bytes) -> Pairs:
    """The names and texts in a JSON object; an array's elements one by one, other things as JSON.

    Raises:
        ParameterError: it is none.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ParameterError("the body is not a JSON object")
    return [
        (name, element if isinstance(element, str) else json.dumps(element))
        for name, value in content.items()
        for element in (value if isinstance(value, list) else [value])
        if element is not None
    ]


def values(
    given: Pairs, parameters: Sequence[Parameter], in_path: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """Read parameters.

    Args:
        given: names and texts, as sent.
        parameters: all that the route knows.
        in_path: those that stood in the path.

    Returns:
        A value for every parameter, by name.

    Raises:
        ParameterError: one is missing, unknown, given too often or cannot be read; names it.
    """
    texts = _by_name(given, [p for p in parameters if p.name not in in_path])
    texts |= {name: [text] for name, text in in_path.items()}
    return {parameter.name: _value(parameter, texts) for parameter in parameters}


def _by_name(given: Pairs, parameters: Sequence[Parameter]) -> dict[str, list[str]]:
    known = {name: p for p in parameters for name in (p.name, *p.aliases)}
    texts: dict[str, list[str]] = {}
    for key, text in given:
        if key not in known:
            names = ", ".join(parameter.name for parameter in parameters) or "none"
            raise ParameterError(f"{key[:_LONGEST_TEXT]!r} is no parameter here; known: {names}")
        parameter = known[key]
        found = texts.setdefault(parameter.name, [])
        if len(found) >= parameter.most:
            often = "once" if parameter.most == 1 else f"{parameter.most} times"
            raise ParameterError(f"{key}: given more than {often}")
        found.append(text)
    return texts


def _value(parameter: Parameter, given: Mapping[str, Sequence[str]]) -> Any:
    texts = [text for text in given.get(parameter.name, ()) if text]
    if not texts:
        if parameter.bare is not None and parameter.name in given:
            return parameter.bare
        if parameter.default is REQUIRED:
            raise ParameterError(f"{parameter.name}: missing ({parameter.meaning})")
        return parameter.default
    if parameter.most > 1:
        return tuple(_read(parameter, text) for text in texts)
    return _read(parameter, texts[0])


def _read(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.domain.read(text)
    except ValueError as why:
        raise ParameterError(f"{parameter.name}: {text[:_LONGEST_TEXT]!r} {why}") from None


@domain(type="string", maxLength=_LONGEST_TEXT)
def plain_text(text: str) -> str:
    """Up to 100 printable characters."""
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise ValueError(f"is not up to {_LONGEST_TEXT} printable characters")
    return text


@domain(type="string", pattern="^[A-Za-z][A-Za-z0-9]{1,7}$")
def aoi_code(text: str) -> str:
    """The code of a Member State or region, in any case."""
    if not re.fullmatch(r"[a-z][a-z0-9]{1,7}", text.lower(), re.ASCII):
        raise ValueError("is not a letter with one to seven letters or digits")
    return text.lower()


@domain(type="string", pattern="^[0-9]{4}$")
def year_number(text: str) -> int:
    """A year of four digits."""
    if not re.fullmatch(r"[0-9]{4}", text):
        raise ValueError("is not a year of four digits")
    return int(text)


@domain(type="string", pattern="^[a-z0-9]{1,8}$")
def parcel_type(text: str) -> str:
    """The suffix that tells several declarations of one aoi and year apart."""
    if not re.fullmatch(r"[a-z0-9]{1,8}", text):
        raise ValueError("is not one to eight lower-case letters or digits")
    return text


@domain(type="string", enum=["True", "False", "true", "false", "1", "0"])
def truth(text: str) -> bool:
    """A boolean; the JRC's clients write True."""
    if text.lower() not in _TRUTH:
        raise ValueError("is neither True nor False")
    return _TRUTH[text.lower()]


@domain(type="string", format="date")
def day(text: str) -> date:
    """A calendar day in UTC."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("is not a date like 2024-05-31")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("is no day of the calendar") from None


def number_within(low: float, high: float) -> Domain:
    """Numbers from low to high, both included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"is not a number from {low:g} to {high:g}")
        return value

    return Domain(read, {"type": "number", "minimum": low, "maximum": high})


def whole_within(low: int, high: int) -> Domain:
    """Whole numbers from low to high, both included."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(text)

    return Domain(read, {"type": "integer", "minimum": low, "maximum": high})


def one_of(values: Mapping[str, str]) -> Domain:
    """Names, in any case: those accepted, and what each stands for."""

    def read(text: str) -> str:
        if text.lower() not in values:
            raise ValueError(f"is none of {', '.join(values)}")
        return values[text.lower()]

    return Domain(read, {"type": "string", "enum": list(values)})
