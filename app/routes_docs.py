"""Routes of the documentation: the OpenAPI document, and Swagger UI to read and try it."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version

from app.openapi import document
from app.replies import Reply
from app.route import API_HEADERS, JSON, Answer, Route, Who

_VENDOR = "/static/vendor/swagger-ui"

_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>CbM API</title>
<link rel="stylesheet" href="{_VENDOR}/swagger-ui.css">
</head>
<body>
<main id="swagger-ui"></main>
<script src="{_VENDOR}/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

_START = """\
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""

_PAGE_HEADERS = {
    **API_HEADERS,
    # Swagger UI sets styles and shows icons that it carries in itself.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
}

_HTML, _SCRIPT = "text/html", "text/javascript"


def with_docs(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Routes, and those that document all of them and themselves."""
    written: list[bytes] = []
    every = (
        *routes,
        Route(
            "/openapi.json",
            "This document",
            (),
            lambda _: Reply(HTTPStatus.OK, written[0]),
            who=Who.ANYONE,
            answers=(Answer(JSON, {"type": "object"}, {"openapi": "3.1.0"}),),
            audited=False,
            tag="docs",
        ),
        Route(
            "/docs",
            "The page to read and try it",
            (),
            lambda _: _text(_PAGE, _HTML),
            who=Who.PAGE,
            answers=(Answer(_HTML, {"type": "string"}),),
            headers=_PAGE_HEADERS,
            tag="docs",
        ),
        Route(
            "/docs/start.js",
            "What starts that page",
            (),
            lambda _: _text(_START, _SCRIPT),
            who=Who.ANYONE,
            answers=(Answer(_SCRIPT, {"type": "string"}),),
            audited=False,
            tag="docs",
        ),
    )
    written.append(json.dumps(document(every, version("cbm-appliance"))).encode())
    return every


def _text(text: str, media_type: str) -> Reply:
    return Reply(HTTPStatus.OK, text.encode(), f"{media_type}; charset=utf-8")
