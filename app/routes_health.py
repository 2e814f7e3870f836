"""Routes for those who watch over the service."""

from app import replies
from app.replies import Reply
from app.route import JSON, Answer, Call, Route, Who
from store import db


def _alive(_: Call) -> Reply:
    return replies.as_json({"status": "alive"})


def _ready(call: Call) -> Reply:
    with call.connection() as conn:
        db.one(conn, "SELECT FROM public.campaign LIMIT 1")
    return replies.as_json({"status": "ready"})


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
)
"""Liveness and readiness."""
