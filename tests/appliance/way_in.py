"""The way in to an appliance, as its users have it: over TLS, trusting its own authority alone."""

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.appliance.conftest import Appliance


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP; 0 if there was no answer.
        headers: by name in small letters.
        body: all of it.
        at: when it was sent, seconds of the clock that measures.
        took_s: until the last byte.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: float = 0.0
    took_s: float = 0.0

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass(frozen=True)
class WayIn:
    """Where users ask.

    Attributes:
        address: of the host.
        authority: file of the only certificate that is trusted.
        headers: sent with every request.
    """

    address: str
    authority: Path
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, appliance: Appliance, group: str = "api") -> "WayIn":
        """That of the first host of a group."""
        address = appliance.variables(appliance.names(group)[0])["cbm_public_address"]
        return cls(str(address), appliance.inventory.parent / "secrets" / "authority.crt")

    def as_user(self, name: str, password: str) -> "WayIn":
        """The same for a user who logs in with every request."""
        proof = base64.b64encode(f"{name}:{password}".encode()).decode()
        headers = {**self.headers, "Authorization": f"Basic {proof}"}
        return WayIn(self.address, self.authority, headers)

    def connection(self) -> http.client.HTTPSConnection:
        """A connection that lives for several requests."""
        context = ssl.create_default_context(cafile=str(self.authority))
        return http.client.HTTPSConnection(self.address, context=context, timeout=30)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        connection: http.client.HTTPConnection | None = None,
        **headers: str,
    ) -> Answer:
        """Ask once; underscores in names of headers are hyphens."""
        way = connection or self.connection()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        began = time.monotonic()
        try:
            way.request(method, path, body, {**self.headers, **given})
            came = way.getresponse()
            read = came.read()
        finally:
            if connection is None:
                way.close()
        named = {name.lower(): value for name, value in came.getheaders()}
        return Answer(came.status, named, read, began, time.monotonic() - began)

    def ask_plainly(self, path: str) -> Answer:
        """Ask without TLS."""
        return self.ask(path, connection=http.client.HTTPConnection(self.address, timeout=30))


@contextmanager
def requests_without_end(
    way: WayIn, paths: tuple[str, ...], pause_s: float = 0.05
) -> Iterator[list[Answer]]:
    """Around a block: several users ask without end, each on a connection that lives.

    Yields:
        The answers so far; all of them when the block has ended.
    """
    answers: list[Answer] = []
    enough = threading.Event()
    users = [
        threading.Thread(target=_ask_on, args=(way, path, pause_s, enough, answers))
        for path in paths
    ]
    for user in users:
        user.start()
    try:
        yield answers
    finally:
        enough.set()
        for user in users:
            user.join()


def _ask_on(
    way: WayIn, path: str, pause_s: float, enough: threading.Event, answers: list[Answer]
) -> None:
    connection = way.connection()
    while not enough.wait(pause_s):
        began = time.monotonic()
        try:
            answers.append(way.ask(path, connection=connection))
        except (OSError, http.client.HTTPException) as error:
            took_s = time.monotonic() - began
            answers.append(Answer(0, {}, repr(error).encode(), began, took_s))
            connection.close()
