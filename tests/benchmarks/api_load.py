"""Clients that ask the API at a given pace, and note what each got."""

import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class TimedRequest:
    """One request.

    Attributes:
        at: when it was sent, by the monotonic clock.
        question: which kind it was.
        status: of the reply; 0 if there was none.
        took_s: until its last byte.
    """

    at: float
    question: str
    status: int
    took_s: float


Question = Callable[[int], str]
"""From a number to an address: the same kind of question about another parcel each time."""


@dataclass
class Load:
    """Clients at work.

    Attributes:
        port: of the API on loopback.
        user: name and password.
        questions: by name; sent in turn.
        clients: threads, each with a connection of its own.
        per_s: requests per second of all clients; None for as fast as they are answered.
    """

    port: int
    user: tuple[str, str]
    questions: dict[str, Question]
    clients: int = 8
    per_s: float | None = None

    def for_seconds(
        self, seconds: float, meanwhile: Callable[[], None] | None = None
    ) -> list[TimedRequest]:
        """Ask for some time; the caller may do something meanwhile.

        Args:
            seconds: how long.
            meanwhile: runs in this thread while the clients work.
        """
        until = time.monotonic() + seconds
        return self._run(lambda made: time.monotonic() < until, meanwhile)

    def times(self, requests: int) -> list[TimedRequest]:
        """Ask so often, all clients together."""
        each = requests // self.clients
        return self._run(lambda made: made < each, None)

    def _run(
        self, more: Callable[[int], bool], meanwhile: Callable[[], None] | None
    ) -> list[TimedRequest]:
        noted: list[list[TimedRequest]] = [[] for _ in range(self.clients)]
        threads = [
            threading.Thread(target=self._client, args=(number, more, noted[number]))
            for number in range(self.clients)
        ]
        for thread in threads:
            thread.start()
        if meanwhile:
            meanwhile()
        for thread in threads:
            thread.join()
        return sorted((sent for each in noted for sent in each), key=lambda sent: sent.at)

    def _client(self, number: int, more: Callable[[int], bool], noted: list[TimedRequest]) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        pause = self.clients / self.per_s if self.per_s else 0.0
        due = time.monotonic() + number / self.clients * pause
        made = 0
        while more(made):
            due += pause
            if pause and due > time.monotonic():
                time.sleep(due - time.monotonic())
            noted.append(self._ask(connection, number + made * self.clients))
            made += 1
        connection.close()

    def _ask(self, connection: HTTPConnection, number: int) -> TimedRequest:
        names = list(self.questions)
        name = names[number // self.clients % len(names)]
        at = time.monotonic()
        try:
            connection.request("GET", self.questions[name](number), headers=basic(*self.user))
            reply = connection.getresponse()
            reply.read()
            status = reply.status
        except (OSError, HTTPException):
            connection.close()
            status = 0
        return TimedRequest(at, name, status, time.monotonic() - at)


def basic(user: str, password: str) -> dict[str, str]:
    """The header of HTTP Basic."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def percentile_ms(sent: Sequence[TimedRequest], share: float) -> float:
    """The time within which a share of the requests was answered, milliseconds."""
    took = sorted(each.took_s for each in sent)
    return took[min(int(share * len(took)), len(took) - 1)] * 1000


def statuses(sent: Sequence[TimedRequest]) -> dict[str, int]:
    """How often each status came."""
    return {str(status): n for status, n in sorted(Counter(a.status for a in sent).items())}
