"""Sessions of the pages: who logged in with this browser."""

from app.request import Request
from app.users import User
from store import db


def user_of(conn: db.Connection, request: Request) -> User | None:  # noqa: ARG001 - no sessions yet
    """The user whose session a request belongs to; None if it has none."""
    return None
