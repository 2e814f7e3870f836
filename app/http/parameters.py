"""Request parameters as pydantic models: types of their values, and reading them from a request.

A model's fields are the parameters of a route; their JSON schemas become the OpenAPI document.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic.fields import FieldInfo

from app.http.errors import ParameterError
from store.config import AOI_IN_ANY_CASE

_MAX_FIELDS = 50
_MAX_TEXT = 100
_FLAGS = {"true": True, "1": True, "false": False, "0": False}

Pairs = Sequence[tuple[str, str]]
"""Names and texts as sent."""


class Params(BaseModel):
    """Base of the models: unknown names are refused, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ParamsT = TypeVar("ParamsT", bound=Params)


def text_reader(read: Callable[[str], Any], **schema: Any) -> BeforeValidator:
    """A validator of texts.

    Args:
        read: from the text to the value, or to what the type itself reads; raises ValueError with
            the reason, such as "is not a year of four digits".
        schema: constraints of the text in the documentation: pattern, max_length.
    """
    documented = Annotated[str, StringConstraints(**schema)]
    return BeforeValidator(read, json_schema_input_type=documented)


def matching(pattern: str, reason: str) -> BeforeValidator:
    """A validator of texts that match a regular expression, of ASCII, as a whole."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(reason)
        return text

    return text_reader(check, pattern=f"^({pattern})$")


def _plain_text(text: str) -> str:
    if len(text) > _MAX_TEXT or not text.isprintable():
        raise ValueError(f"is not up to {_MAX_TEXT} printable characters")
    return text


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("is neither True nor False")
    return _FLAGS[text.lower()]


def _iso_day(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("is not a date like 2024-05-31")
    return text


def _digits(text: str) -> str:
    return text if re.fullmatch(r"-?[0-9]{1,18}", text) else ""


Text = Annotated[str, text_reader(_plain_text, max_length=_MAX_TEXT)]
"""Up to 100 printable characters."""

AoiCode = Annotated[
    str,
    StringConstraints(to_lower=True),
    matching(AOI_IN_ANY_CASE, "is not a letter with one to seven letters or digits"),
]
"""The code of a Member State or region, in any case; lower case as a value."""

Year = Annotated[int, matching("[0-9]{4}", "is not a year of four digits")]

ParcelType = Annotated[
    str, matching("[a-z0-9]{1,8}", "is not one to eight lower-case letters or digits")
]

_FlagText = Literal["True", "False", "true", "false", "1", "0"]
Flag = Annotated[bool, BeforeValidator(_flag, json_schema_input_type=_FlagText)]
"""A boolean; the JRC's clients write True."""

Presence = Annotated[bool, PlainValidator(lambda _: True, json_schema_input_type=Text)]
"""True if the parameter is given at all, even without a value (its field allows empty ones)."""

Day = Annotated[date, BeforeValidator(_iso_day)]
"""A calendar day in UTC."""

Whole = Annotated[int, BeforeValidator(_digits)]
"""A whole number in digits."""


def choice_of(values: Mapping[str, str]) -> BeforeValidator:
    """A validator of names, in any case: those accepted, and the value of each."""

    def read(text: str) -> str:
        if text.lower() not in values:
            raise ValueError(f"is none of {', '.join(values)}")
        return values[text.lower()]

    documented = Annotated[str, WithJsonSchema({"type": "string", "enum": list(values)})]
    return BeforeValidator(read, json_schema_input_type=documented)


def query_pairs(query: str) -> Pairs:
    """The names and texts in a query string or the body of a form, percent-encoded.

    Raises:
        ParameterError: it is not UTF-8, or too much.
    """
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise ParameterError(
            f"the query string is not UTF-8, or has more than {_MAX_FIELDS} parameters"
        ) from None


def json_pairs(body: bytes) -> Pairs:
    """The names and texts in a JSON object; an array's elements one by one, other values as JSON.

    Raises:
        ParameterError: the body is no JSON object.
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


def read_params(
    model: type[ParamsT], pairs: Pairs, in_path: Mapping[str, str] = MappingProxyType({})
) -> ParamsT:
    """Validate the parameters of a request.

    Args:
        model: of the route.
        pairs: names and texts of the query or the body.
        in_path: names and texts of the path.

    Raises:
        ParameterError: one is missing, unknown, repeated or has an unusable value; names it.
    """
    texts = {**_collect(model, pairs, in_path), **in_path}
    try:
        return model.model_validate(texts)
    except ValidationError as error:
        raise ParameterError(_reason(model, texts, error)) from None


def param_names(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The names that a field has in requests; the first one is that of the documentation."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (alias,) if isinstance(alias, str) else (name,)


@cache
def param_schemas(model: type[Params]) -> Mapping[str, Mapping[str, Any]]:
    """JSON schemas of a model's parameters by their documented names; null is left out."""
    properties = model.model_json_schema().get("properties", {})
    return {name: _without_null(schema) for name, schema in properties.items()}


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Schema of the values that can be written: an optional parameter is just left out."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    flat = {**kinds[0], **schema} if kinds else dict(schema)
    return {name: value for name, value in flat.items() if name not in {"anyOf", "title"}}


def _collect(
    model: type[Params], pairs: Pairs, in_path: Mapping[str, str]
) -> dict[str, str | list[str]]:
    """The texts by parameter; those that are empty count as absent."""
    names = [param_names(name, field) for name, field in model.model_fields.items()]
    known = {alias: first for first, *more in names for alias in (first, *more)}
    schemas = param_schemas(model)
    texts: dict[str, str | list[str]] = {}
    counts: dict[str, int] = {}
    for key, text in pairs:
        name = known.get(key)
        if name is None or name in in_path:
            others = ", ".join(first for first, *_ in names if first not in in_path) or "none"
            raise ParameterError(f"{key[:_MAX_TEXT]!r} is no parameter here; known: {others}")
        schema = schemas[name]
        is_list, most = schema["type"] == "array", schema.get("maxItems", 1)
        counts[name] = counts.get(name, 0) + 1
        if counts[name] > most:
            raise ParameterError(
                f"{key}: given more than {'once' if most == 1 else f'{most} times'}"
            )
        if not text and not schema.get("allowEmptyValue"):
            continue
        if is_list:
            texts.setdefault(name, []).append(text)  # type: ignore[union-attr]
        else:
            texts[name] = text
    return texts


def _reason(
    model: type[Params], texts: Mapping[str, str | list[str]], error: ValidationError
) -> str:
    """What is wrong with the first parameter that cannot be used."""
    first = error.errors(include_url=False)[0]
    name, *place = first["loc"]
    schema = param_schemas(model)[str(name)]
    if first["type"] == "missing":
        return f"{name}: missing ({schema['description']})"
    text = texts[str(name)][place[0]] if place else texts[str(name)]  # type: ignore[index]
    element = schema["items"] if place else schema
    return f"{name}: {text[:_MAX_TEXT]!r} {_refusal(first, element)}"


def _refusal(error: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if "enum" in schema:
        return f"is none of {', '.join(schema['enum'])}"
    if "pattern" in schema:
        return f"is not like {schema['examples'][0]}"
    if schema.get("format") == "date":
        return "is no day of the calendar"
    kind = "whole number" if schema["type"] == "integer" else "number"
    return f"is not a {kind} from {schema['minimum']:.15g} to {schema['maximum']:.15g}"
