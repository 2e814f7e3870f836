"""Clients by the socket: as slow as a test wants them."""

import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from store import db
from tests.integration.small_api import ANN, SmallApi, run

BOB = ("bob", "right-word")

LARGE = (
    "/query/parcelsByPolygon?aoi=nl&year=2024&only_ids=False&withGeometry=True&limit=10000"
    "&polygon=5.2_51.9-5.5_51.9-5.5_52.2-5.2_52.2"
)

PARCEL = "/query/parcelByID?aoi=nl&year=2024&pid=007"

PARCELS = 5600


def fill(conn: db.Connection) -> None:
    """5600 round parcels: 28 MB as GeoJSON."""
    run("users", "add", "bob", "--aoi", "nl", "--password-stdin", stdin="right-word\n")
    db.execute(
        conn,
        "INSERT INTO nl.parcels SELECT 1, pid, 1, 'r' || pid, 'Maize', '0259', "
        "ST_Multi(ST_Buffer(ST_SetSRID(ST_MakePoint(140000 + 120 * (pid %% 100), "
        "445000 + 120 * (pid / 100)), 28992), 50, 32)), '' FROM generate_series(100, %s) AS pid",
        (PARCELS + 99,),
    )
    db.execute(conn, "ANALYZE")


def opened(api: SmallApi, request: str, receive_bytes: int = 4096) -> socket.socket:
    """A connection that has sent some bytes, with a small buffer for what comes back."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(60)
    client.connect(("127.0.0.1", api.served.port))
    client.sendall(request.encode())
    return client


def head(path: str, auth=ANN, method: str = "GET", **fields: str) -> str:
    credentials = b64encode(":".join(auth).encode()).decode()
    lines = {"Host": "x", "Authorization": f"Basic {credentials}", **fields}
    return "".join(
        f"{line}\r\n"
        for line in (f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in lines.items()), "")
    )


@contextmanager
def held(clients: list[socket.socket]) -> Iterator[None]:
    try:
        yield
    finally:
        for client in clients:
            client.close()
