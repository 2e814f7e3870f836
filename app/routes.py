"""The routes, and the only place that knows hug: it brings requests in and takes replies out.

hug is unmaintained; whoever replaces it rewrites `application` and nothing else.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app import routes_chips, routes_health, routes_pages, routes_query
from app.replies import Reply
from app.request import Request
from app.routes_docs import with_docs
from app.service import Service


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make a module look absent while others are imported."""
    present = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if present is not None:
            sys.modules[module] = present


# hug serves numpy's types where numpy is there, by a name that numpy 2 removed.
with _hidden("numpy"):
    import hug

ROUTES = with_docs(
    (
        *routes_query.ROUTES,
        *routes_chips.ROUTES,
        *routes_pages.ROUTES,
        *routes_health.ROUTES,
    )
)
"""Every question that may be asked."""

PARTS = (*routes_chips.PARTS, *routes_pages.PARTS, *routes_health.PARTS)
"""What a process keeps between requests for some of them."""


def application(service: Service) -> Any:
    """The WSGI callable."""
    api = hug.API("cbm-api")

    # hug takes annotations for readers of parameters; so what it calls goes without.
    def endpoint(request, response):  # type: ignore[no-untyped-def]
        return _send(request, response, service.respond(_request(request)))

    hug.sink("/", api=api, output=_as_it_is, parse_body=False)(endpoint)
    return api.http.server(None)


def _request(request: Any) -> Request:
    return Request(
        method=request.method,
        path=request.path,
        query=request.query_string,
        headers=request.headers,
        stream=request.stream,
        remote=request.remote_addr,
        scheme=request.scheme,
        host=request.netloc,
    )


@hug.format.content_type("application/json")  # type: ignore[untyped-decorator]
def _as_it_is(body: bytes) -> bytes:
    return body


def _send(request: Any, response: Any, reply: Reply) -> bytes | None:
    response.status = f"{reply.status.value} {reply.status.phrase}"
    response.content_type = reply.content_type
    for name, value in reply.headers.items():
        # What falcon offers for setting headers refuses cookies.
        response.append_header(name, value)
    if isinstance(reply.body, bytes):
        return reply.body
    if request.method == "HEAD":
        reply.body.close()
        return b""
    response.stream = reply.body
    return None
