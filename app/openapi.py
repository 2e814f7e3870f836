"""The OpenAPI 3.1 document, made of the route tables: what is served is what it says."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from app.parameters import REQUIRED, Parameter
from app.route import FORM, JSON, Answer, Route, Who
from app.sessions import COOKIE

_DESCRIPTION = (
    "Statistics of Sentinel-1 and -2 scenes by agricultural parcel, with the paths and parameters "
    "of the JRC's CbM API. Days are UTC, the last one of a span is included. "
    "Contains modified Copernicus Sentinel data."
)

_ERRORS = {
    HTTPStatus.BAD_REQUEST: "A parameter cannot be used; detail names it and says why.",
    HTTPStatus.UNAUTHORIZED: "Nobody known asks.",
    HTTPStatus.FORBIDDEN: "Not yours to ask.",
    HTTPStatus.NOT_FOUND: "There is no such thing.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too often; Retry-After says when to come back.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database or the storage is away; try again shortly.",
}
_BODY_ERRORS = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is of another type than is taken.",
}

_HTTP_ERRORS = {
    HTTPStatus.REQUEST_URI_TOO_LONG: "The address is longer than 8190 bytes; HTTP refuses it.",
}
"""What the server refuses before it is a request of ours, in words of its own."""

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "detail": {"type": "string"}},
    "required": ["error", "detail"],
    "additionalProperties": False,
}

_SECURITY = {
    "basic": {"type": "http", "scheme": "basic"},
    "token": {"type": "http", "scheme": "bearer"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}

_TEXT = "text"

_WRITTEN = {True: "True", False: "False"}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Describe routes.

    Args:
        routes: all of them.
        version: of the software.
    """
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "CbM API", "version": version, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "responses": {
                f"{status.value}": _refused(status, meaning)
                for status, meaning in (_ERRORS | _BODY_ERRORS).items()
            }
            | {
                f"{status.value}": {"description": meaning, "content": {"text/html": {}}}
                for status, meaning in _HTTP_ERRORS.items()
            },
            "securitySchemes": _SECURITY,
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    told = [p for p in route.parameters if route.method == "GET" or p.name in route.in_path]
    operation = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").rstrip("_"),
        "summary": route.meaning,
        "tags": [route.tag],
        "security": [] if route.who is Who.ANYONE else [{name: []} for name in _SECURITY],
        "parameters": [_parameter(p, "path" if p.name in route.in_path else "query") for p in told],
        "responses": _responses(route),
    }
    if route.method == "POST":
        operation["requestBody"] = _body(route)
    return operation


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": place,
        "description": _meaning(parameter),
        "required": place == "path" or parameter.default is REQUIRED,
        "schema": _schema(parameter),
    }
    # What a form is filled with in advance; so only what has to be given.
    return described | ({"example": example(parameter)} if described["required"] else {})


def _meaning(parameter: Parameter) -> str:
    names = ", ".join(parameter.aliases)
    return parameter.meaning + (f" (other names: {names})" if names else "")


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.domain.schema)
    if parameter.most > 1:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": parameter.most}
    default = _plain(parameter.default, schema)
    if default is not None:
        schema["default"] = default
    return schema | {"examples": [example(parameter)]}


def example(parameter: Parameter) -> Any:
    """A value to show: the given one, the default, one that the schema names, or just a text."""
    schema = parameter.domain.schema
    plain = _plain(parameter.default, schema)
    known = [parameter.example, plain, *schema.get("enum", ())[:1], schema.get("minimum"), _TEXT]
    shown = next((value for value in known if value is not None), None)
    return [shown] if parameter.most > 1 and not isinstance(shown, list) else shown


def _plain(value: Any, schema: Mapping[str, Any]) -> Any:
    """A default as a request would write it; None if it cannot be written."""
    if value in ("", None) or value is REQUIRED:
        return None
    if isinstance(value, bool):
        return _WRITTEN[value]
    kinds: Mapping[str, tuple[type, ...]] = {
        "integer": (int,),
        "number": (int, float),
        "string": (str,),
    }
    fits = kinds.get(schema.get("type", ""), ())
    return value if isinstance(value, fits) else None


def _body(route: Route) -> dict[str, Any]:
    given = [p for p in route.parameters if p.name not in route.in_path]
    schema = {
        "type": "object",
        "properties": {p.name: _schema(p) | {"description": _meaning(p)} for p in given},
        "required": [p.name for p in given if p.default is REQUIRED],
    }
    filled = {p.name: example(p) for p in given if p.default is REQUIRED}
    media_type = FORM if route.takes == FORM else JSON
    return {"required": True, "content": {media_type: {"schema": schema, "example": filled}}}


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in route.answers:
        response = responses.setdefault(f"{answer.status}", {"description": answer.meaning})
        response.setdefault("content", {})[answer.media_type] = _content(answer)
    if route.who is Who.PAGE:
        responses["303"] = {"description": "To the page where one logs in."}
    if route.is_page:
        told = _refused(HTTPStatus.SERVICE_UNAVAILABLE, "Away; browsers get a page that waits.")
        responses["503"] = told | {"content": {"text/html": {}, **told["content"]}}
    errors = _ERRORS | _HTTP_ERRORS | (_BODY_ERRORS if route.method == "POST" else {})
    for status in errors:
        responses.setdefault(f"{status.value}", {"$ref": f"#/components/responses/{status.value}"})
    return responses


def _content(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": dict(answer.schema)}
    if answer.example is not None:
        content["example"] = answer.example
    return content


def _refused(status: HTTPStatus, meaning: str) -> dict[str, Any]:
    shown = {"error": status.phrase, "detail": "what happened, why, and what to do"}
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": meaning, "content": {JSON: {"schema": schema, "example": shown}}}
