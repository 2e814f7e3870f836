"""The edge to hug: our routes as hug's, requests in, responses out. No other hug import.

hug 2.6.1 and falcon 2.0 are unmaintained; replacing them means rewriting this module alone. hug
matches path and method and finds the parameters in the path. Of their own behaviour these would
break the API's promises and are turned off or overruled here:

- Parameters of a function: those of the query would replace those of the path.
- Parsing of bodies by their Content-Type: routes read theirs, up to their own bound.
- A second address /v{version}/... for every route, and answers to OPTIONS.
- Errors in falcon's words, without our headers and access log: for other methods, unknown ones too.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from app.http.errors import MethodError
from app.http.request import Request
from app.http.response import Response
from app.routes.route import Route
from app.service import Service
from store.errors import NotFoundError


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Imports in this block find a module missing."""
    present = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if present is not None:
            sys.modules[module] = present


# hug serves numpy's types where numpy is there, by a name that numpy 2 removed.
with _without("numpy"):
    import falcon
    import hug


def application(service: Service, routes: Sequence[Route[Any]]) -> Any:
    """The WSGI callable of some routes."""
    api = hug.API("cbm-api")
    options = {"api": api, "output": _as_it_is, "parse_body": False}
    for route in routes:
        hug.http(route.path, accept=route.methods, **options)(_endpoint(service, route))

    def refuse_method(request, response):  # type: ignore[no-untyped-def]
        same_path = [route for route in routes if route.path == request.uri_template]
        allowed = [method for route in same_path for method in route.methods]
        error = MethodError(request.method, allowed)
        return _send(request, response, service.refuse(_request(request), error))

    def on_falcon_error(request, response, *_):  # type: ignore[no-untyped-def]
        response.data = refuse_method(request, response)  # type: ignore[no-untyped-call]

    def refuse_path(request, response):  # type: ignore[no-untyped-def]
        error = NotFoundError("there is no such address")
        return _send(request, response, service.refuse(_request(request), error))

    for path in {route.path for route in routes}:
        hug.options(path, **options)(refuse_method)
    hug.not_found(api=api, output=_as_it_is)(refuse_path)
    api.http.versions.clear()
    api.http.add_middleware(_PathParams())
    wsgi = api.http.server(None)
    wsgi.add_error_handler(falcon.HTTPError, on_falcon_error)
    return wsgi


def _endpoint(service: Service, route: Route[Any]) -> Any:
    # hug takes annotations for readers of parameters; so this function goes without.
    def endpoint(request, response):  # type: ignore[no-untyped-def]
        path_params = request.context.path_params
        return _send(request, response, service.respond(_request(request), route, path_params))

    return endpoint


class _PathParams:
    """falcon's middleware that keeps the parameters in the path for the endpoint."""

    def process_resource(
        self, request: Any, _response: Any, _resource: Any, params: dict[str, str]
    ) -> None:
        request.context.path_params = dict(params)


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


def _send(request: Any, response: Any, ours: Response) -> bytes | None:
    response.status = f"{ours.status.value} {ours.status.phrase}"
    response.content_type = ours.content_type
    for name, value in ours.headers.items():
        # falcon's method for setting headers refuses cookies.
        response.append_header(name, value)
    if isinstance(ours.body, bytes):
        return ours.body
    if request.method == "HEAD":
        ours.body.close()
        return b""
    response.stream = ours.body
    return None
