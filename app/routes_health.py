"""Routes for those who watch over the service."""

from http import HTTPStatus

from app import metrics, replies
from app.errors import ForbiddenError
from app.replies import Reply
from app.route import JSON, Answer, Call, Part, Route, Who
from store import db


def _alive(_: Call) -> Reply:
    return replies.as_json({"status": "alive"})


def _ready(call: Call) -> Reply:
    with call.connection() as conn:
        db.one(conn, "SELECT FROM public.campaign LIMIT 1")
    return replies.as_json({"status": "ready"})


def _metrics(call: Call) -> Reply:
    if not metrics.may_read(call.request, call.part(metrics.Readers).token):
        raise ForbiddenError("the figures are for this host itself, or for the token that is set")
    return Reply(HTTPStatus.OK, metrics.exposition(call.pool), metrics.CONTENT_TYPE)


def _status(word: str) -> Answer:
    schema = {"type": "object", "properties": {"status": {"const": word}}, "required": ["status"]}
    return Answer(JSON, schema, {"status": word})


ROUTES = (
    Route(
        "/healthz",
        "Whether the process answers at all",
        (),
        _alive,
        who=Who.ANYONE,
        answers=(_status("alive"),),
        audited=False,
        counted=False,
        tag="health",
    ),
    Route(
        "/readyz",
        "Whether the database answers and lets us read",
        (),
        _ready,
        who=Who.ANYONE,
        answers=(_status("ready"),),
        audited=False,
        tag="health",
    ),
    Route(
        "/metrics",
        "Figures for Prometheus: requests, connections, the queue of extraction",
        (),
        _metrics,
        who=Who.ANYONE,
        answers=(Answer("text/plain", {"type": "string"}, "cbm_database_up 1.0"),),
        audited=False,
        counted=False,
        tag="health",
    ),
)
"""Liveness, readiness and figures."""

PARTS: tuple[type[Part], ...] = (metrics.Readers,)
"""What a process keeps for them."""
