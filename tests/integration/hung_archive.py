"""A server of images that takes connections and never answers."""

import socket
import threading
from collections.abc import Iterator

import pytest

IMAGE = "/query/backgroundByLocation?lon=5.3148&lat=52.0383&tms=hung&chipsize={}&extend=256"


@pytest.fixture(scope="module")
def hung() -> Iterator[int]:
    """The port of a server that accepts and is silent."""
    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:

        def accept() -> None:
            while True:
                try:
                    clients.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
    for client in clients:
        client.close()
