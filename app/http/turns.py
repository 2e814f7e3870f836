"""Whose turn a request has on the threads: its user's, or first that of what it claims.

Threads serve senders in turn. A sender is known by the credentials at first, and one user may have
many of those: sessions, tokens, the password. Once credentials are proved, requests that claim them
wait in the user's own turn, so that he has his share whatever he sends, and nobody is refused
because he sits at the page and in a notebook at once.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")

_MAX_KNOWN = 10_000


class UserTurn(BaseException):
    """Ends a request that runs in another turn than its user's, before its body is read.

    No `Exception`, as nothing but the worker may take it for an error: it is the way on.

    Attributes:
        sender: the turn that the request belongs to.
    """

    def __init__(self, sender: str) -> None:
        """Name the turn."""
        super().__init__(sender)
        self.sender = sender


class _Running(threading.local):
    claim = sender = ""


_running = _Running()
_senders: OrderedDict[str, str] = OrderedDict()
_lock = threading.Lock()


def find_sender(claim: str) -> str:
    """The sender of requests with a claim: the user that it proved last, else the claim."""
    with _lock:
        return _senders.get(claim, claim)


def run(claim: str, sender: str, call: Callable[[], ResultT]) -> ResultT:
    """Call in a turn: a thread's work for one request.

    Args:
        claim: of the request; a digest of its credentials.
        sender: whose turn it is.
        call: answers the request.
    """
    _running.claim, _running.sender = claim, sender
    try:
        return call()
    finally:
        _running.claim = _running.sender = ""


def go_on_as(user_name: str) -> None:
    """Go on in a user's turn, once the request's credentials are proved.

    Raises:
        UserTurn: this is another turn. Where there are no turns, nothing is raised.
    """
    claim, sender = _running.claim, f"user {user_name}"
    if not claim or _running.sender == sender:
        return
    with _lock:
        _senders[claim] = sender
        _senders.move_to_end(claim)
        while len(_senders) > _MAX_KNOWN:
            _senders.popitem(last=False)
    raise UserTurn(sender)
