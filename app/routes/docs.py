"""Routes of the documentation: the OpenAPI document and Swagger UI."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from app.http.parameters import Params
from app.http.response import JSON, Response
from app.pages.site import BuiltPages
from app.routes.openapi import document
from app.routes.response_docs import ResponseDoc
from app.routes.route import API_HEADERS, Access, Route, make_route

_PAGE_HEADERS = {
    **API_HEADERS,
    # Swagger UI sets styles and has icons within itself.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
}


def with_docs(routes: Sequence[Route[Any]]) -> tuple[Route[Any], ...]:
    """Some routes, and those that document all of them and themselves."""
    openapi: list[bytes] = []
    every = (
        *routes,
        make_route(
            "/openapi.json", "This document", Params,
            lambda _: Response(HTTPStatus.OK, openapi[0]),
            ResponseDoc(JSON, {"type": "object"}, {"openapi": "3.1.0"}),
            access=Access.PUBLIC, logged=False, tag="docs",
        ),
        make_route(
            "/docs", "Swagger UI: this document to read and to try", Params,
            lambda context: context.resource(BuiltPages).serve("docs.html", context.request),
            ResponseDoc("text/html", {"type": "string"}),
            access=Access.PAGE, headers=_PAGE_HEADERS, tag="docs",
        ),
    )  # fmt: skip
    openapi.append(json.dumps(document(every, version("cbm-appliance"))).encode())
    return every
