"""All routes, and all resources of them."""

from typing import Any

from app.routes import chips, health, jrc, pages, query
from app.routes.docs import with_docs
from app.routes.route import AppResource, Lane, Route

ROUTES: tuple[Route[Any], ...] = with_docs(
    (*query.ROUTES, *chips.ROUTES, *jrc.ROUTES, *pages.ROUTES, *health.ROUTES)
)

RESOURCES: tuple[type[AppResource], ...] = (*chips.RESOURCES, *pages.RESOURCES, *health.RESOURCES)

_OTHER_LANES = tuple(route for route in ROUTES if route.lane is not Lane.QUERY)


def find_lane(method: str, path: str) -> Lane:
    """The lane of a request; that of queries for an address that no route has."""
    for route in _OTHER_LANES:
        if method in route.methods and route.path_pattern.fullmatch(path):
            return route.lane
    return Lane.QUERY
