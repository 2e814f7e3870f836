"""The OpenAPI 3.1 document, generated from the routes."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from app.access.sessions import COOKIE
from app.http.parameters import Params, param_names, param_schemas
from app.http.response import FORM, JSON
from app.routes.response_docs import ResponseDoc
from app.routes.route import Access, Route

_DESCRIPTION = (
    "Statistics of Sentinel-1 and -2 scenes by agricultural parcel, with the paths and parameters "
    "of the JRC's CbM API. Days are UTC, the last one of a span is included. "
    "Contains modified Copernicus Sentinel data."
)

_ERRORS = {
    HTTPStatus.BAD_REQUEST: "A parameter cannot be used; detail names it and says why.",
    HTTPStatus.UNAUTHORIZED: "The credentials are missing or wrong.",
    HTTPStatus.FORBIDDEN: "The user has no right to this.",
    HTTPStatus.NOT_FOUND: "There is no such thing.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests; Retry-After says when to try again.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database or the storage is away; try again shortly.",
}
_BODY_ERRORS = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The route does not accept the body's media type.",
}

_HTTP_ERRORS = {
    HTTPStatus.REQUEST_TIMEOUT: "The request did not arrive in time.",
    HTTPStatus.REQUEST_URI_TOO_LONG: "The address is longer than 8190 bytes: send a POST.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "A header is longer than 8190 bytes.",
}
"""Refusals of the worker process before there is a route."""

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

_INTERNAL = frozenset({"default", "examples", "description", "allowEmptyValue"})
"""Parts of a parameter's schema that the document has elsewhere, or not at all."""


def document(routes: Sequence[Route[Any]], version: str) -> dict[str, Any]:
    """The document of some routes.

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
                f"{status.value}": _error_response(status, description)
                for status, description in (_ERRORS | _BODY_ERRORS | _HTTP_ERRORS).items()
            },
            "securitySchemes": _SECURITY,
        },
    }


def example(schema: Mapping[str, Any]) -> Any:
    """A value to show: the given one, the default, a choice, a bound, or just a text."""
    candidates = [
        *schema.get("examples", ()),
        _default(schema),
        *schema.get("enum", ())[:1],
        schema.get("minimum"),
        "text",
    ]
    value = next(value for value in candidates if value is not None)
    return [value] if schema["type"] == "array" and not isinstance(value, list) else value


def _operation(route: Route[Any]) -> dict[str, Any]:
    model: type[Params] = route.params
    in_body = route.method == "POST"
    names = [param_names(name, field) for name, field in model.model_fields.items()]
    aliases = {name: others for name, *others in names}
    schemas = {
        name: {**schema, "description": _description(schema, aliases[name])}
        for name, schema in param_schemas(model).items()
    }
    described = [name for name in schemas if not in_body or name in route.path_params]
    operation = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").rstrip("_"),
        "summary": route.summary,
        "tags": [route.tag],
        "security": [] if route.access is Access.PUBLIC else [{name: []} for name in _SECURITY],
        "parameters": [
            _parameter(name, schemas[name], "path" if name in route.path_params else "query")
            for name in described
        ],
        "responses": _responses(route),
    }
    if in_body:
        body = {name: schema for name, schema in schemas.items() if name not in described}
        operation["requestBody"] = _body(body, FORM if route.consumes == FORM else JSON)
    return operation


def _description(schema: Mapping[str, Any], aliases: Sequence[str]) -> str:
    others = f" (other names: {', '.join(aliases)})" if aliases else ""
    return f"{schema['description']}{others}"


def _parameter(name: str, schema: Mapping[str, Any], location: str) -> dict[str, Any]:
    parameter = {
        "name": name,
        "in": location,
        "description": schema["description"],
        "required": location == "path" or "default" not in schema,
        "schema": _schema(schema),
    }
    # Swagger UI fills its form with it; so only what is required.
    return parameter | ({"example": example(schema)} if parameter["required"] else {})


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    public = {name: value for name, value in schema.items() if name not in _INTERNAL}
    if public["type"] == "array":
        public["minItems"] = 1
    default = _default(schema)
    if default is not None:
        public["default"] = default
    return public | {"examples": [example(schema)]}


def _default(schema: Mapping[str, Any]) -> Any:
    """The default as a request writes it; None without."""
    default = schema.get("default")
    if isinstance(default, bool):
        return str(default) if "enum" in schema else None
    return None if default == "" else default


def _body(schemas: Mapping[str, Mapping[str, Any]], media_type: str) -> dict[str, Any]:
    required = [name for name, schema in schemas.items() if "default" not in schema]
    schema = {
        "type": "object",
        "properties": {
            name: _schema(schema) | {"description": schema["description"]}
            for name, schema in schemas.items()
        },
        "required": required,
    }
    body = {name: example(schemas[name]) for name in required}
    return {"required": True, "content": {media_type: {"schema": schema, "example": body}}}


def _responses(route: Route[Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for doc in route.responses:
        response = responses.setdefault(f"{doc.status}", {"description": doc.description})
        response.setdefault("content", {})[doc.media_type] = _content(doc)
    if route.access is Access.PAGE:
        responses["303"] = {"description": "To the login."}
    if route.is_page:
        away = _error_response(HTTPStatus.SERVICE_UNAVAILABLE, "Away; browsers get a page.")
        responses["503"] = away | {"content": {"text/html": {}, **away["content"]}}
    errors = _ERRORS | _HTTP_ERRORS | (_BODY_ERRORS if route.method == "POST" else {})
    for status in errors:
        responses.setdefault(f"{status.value}", {"$ref": f"#/components/responses/{status.value}"})
    return responses


def _content(doc: ResponseDoc) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": dict(doc.schema)}
    if doc.example is not None:
        content["example"] = doc.example
    return content


def _error_response(status: HTTPStatus, description: str) -> dict[str, Any]:
    body = {"error": status.phrase, "detail": "what happened, why, and what to do"}
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {JSON: {"schema": schema, "example": body}}}
