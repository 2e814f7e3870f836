"""Requests of any route, made of what its own description says."""

from collections.abc import Mapping
from typing import Any

import requests

from app.http.parameters import param_schemas
from app.routes.openapi import example
from app.routes.route import Route

GOOD = {
    "aoi": "nl", "year": "2024", "pid": "007", "lon": "5.3148", "lat": "52.0383",
    "start_date": "2024-01-01", "end_date": "2024-12-31", "polygon": "5.3_52.0-5.4_52.0-5.4_52.1",
}  # fmt: skip
"""Parameters of a parcel of filled_api."""


def send(url: str, route: Route, given: Mapping[str, Any], **options: Any) -> requests.Response:
    """Send a request of a route.

    Args:
        url: of the API.
        route: to use.
        given: values of its parameters by name.
        options: of requests, such as auth.
    """
    path, left = route.path, dict(given)
    for inside in route.path_params:
        path = path.replace(
            f"{{{inside}}}", requests.utils.quote(str(left.pop(inside, "x")), safe="")
        )
    as_body = "data" if "form" in route.consumes else "json"
    sent = {"params": left} if route.method == "GET" else {as_body: left}
    options = {"timeout": 60, "allow_redirects": False, **options}
    return requests.request(route.method, url + path, **sent, **options)


def examples(route: Route) -> dict[str, Any]:
    """Good values of all parameters of a route that need one: ours, else its documented example."""
    schemas = param_schemas(route.params)
    needed = {n for n, f in route.params.model_fields.items() if f.is_required()}
    return {
        name: GOOD.get(name) or example(schema)
        for name, schema in schemas.items()
        if name in GOOD or name in route.path_params or name in needed
    }
