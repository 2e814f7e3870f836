"""Routes of health checks and metrics."""

from functools import partial
from http import HTTPStatus
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from app.http import metrics
from app.http.errors import ForbiddenError
from app.http.parameters import Params
from app.http.response import JSON, Response, json_response
from app.query.queue_metrics import QueueMetrics
from app.routes.response_docs import ResponseDoc
from app.routes.route import Access, AppResource, Lane, RequestContext, Route, make_route
from store import db


def _alive(_: RequestContext[Params]) -> Response:
    return json_response({"status": "alive"})


def _ready(context: RequestContext[Params]) -> Response:
    with context.connection() as conn:
        db.fetch_one(conn, "SELECT FROM public.campaign LIMIT 1")
    return json_response({"status": "ready"})


def _metrics(context: RequestContext[Params]) -> Response:
    if not context.resource(metrics.MetricsAccess).admits(context.request):
        raise ForbiddenError("metrics are for this host itself, or for the token that is set")
    exposition = metrics.exposition(QueueMetrics(context.pool))
    return Response(HTTPStatus.OK, exposition, CONTENT_TYPE_LATEST)


def _status_doc(word: str) -> ResponseDoc:
    schema = {"type": "object", "properties": {"status": {"const": word}}, "required": ["status"]}
    return ResponseDoc(JSON, schema, {"status": word})


_public = partial(make_route, access=Access.PUBLIC, logged=False, tag="health")

ROUTES: tuple[Route[Any], ...] = (
    _public(
        "/healthz", "Whether the process answers at all", Params, _alive, _status_doc("alive"),
        rate_limited=False, lane=Lane.HEALTH,
    ),
    _public("/readyz", "Whether the database can be read", Params, _ready, _status_doc("ready")),
    _public(
        "/metrics", "Prometheus metrics: requests, connections, the queue of extraction", Params,
        _metrics, ResponseDoc("text/plain", {"type": "string"}, "cbm_database_up 1.0"),
        rate_limited=False,
    ),
)  # fmt: skip
"""Liveness, readiness and metrics."""

RESOURCES: tuple[type[AppResource], ...] = (metrics.MetricsAccess,)
"""Resources of these routes."""
