"""The S3 bed for hosts of a lab: on their bridge's gateway, TLS by the appliance's authority."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.beds.s3 import server


@dataclass(frozen=True)
class Bucket:
    """Where hosts reach an empty bucket.

    Attributes:
        endpoint: host:port, TLS.
        name: the bucket's.
        key_id: of the key.
        secret: its secret.
    """

    endpoint: str
    name: str
    key_id: str
    secret: str


@contextmanager
def bucket(gateway: str, secrets: Path, folder: Path) -> Iterator[Bucket]:
    """An empty bucket for the length of a block.

    Args:
        gateway: this machine's address on the lab's bridge.
        secrets: folder with authority.key and authority.crt.
        folder: for the door's key and certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(gateway, secrets, folder))
    with server.running() as s3, socket.create_server((gateway, 0), backlog=50) as door:
        behind = ("127.0.0.1", int(s3.http.url.rsplit(":", 1)[1]))
        threading.Thread(target=serve, args=(door, context, behind), daemon=True).start()
        port = door.getsockname()[1]
        name = s3.new_bucket()
        yield Bucket(f"{gateway}:{port}", name, s3.http.access_key, s3.http.secret_key)


def certificate(gateway: str, secrets: Path, folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine by the appliance's authority, and its key.

    Args:
        gateway: this machine's address on the lab's bridge.
        secrets: folder with authority.key and authority.crt.
        folder: for both.
    """
    key, request, signed = folder / "door.key", folder / "door.csr", folder / "door.crt"
    names = folder / "names"
    names.write_text(f"subjectAltName=IP:{gateway},DNS:{gateway}\n")
    _openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=door"
    )
    signing = (
        "-CA",
        secrets / "authority.crt",
        "-CAkey",
        secrets / "authority.key",
        "-CAcreateserial",
    )
    serial = ("-CAserial", folder / "serial")
    _openssl(
        "x509",
        "-req",
        "-in",
        request,
        *signing,
        *serial,
        "-days",
        "1",
        "-extfile",
        names,
        "-out",
        signed,
    )
    return signed, key


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def serve(door: socket.socket, context: ssl.SSLContext, behind: tuple[str, int]) -> None:
    """Carry what comes through the door, TLS outside, until it is closed."""
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(client, context, behind), daemon=True).start()


def _carry(client: socket.socket, context: ssl.SSLContext, behind: tuple[str, int]) -> None:
    try:
        with (
            context.wrap_socket(client, server_side=True) as outer,
            socket.create_connection(behind) as inner,
        ):
            back = threading.Thread(target=_copy, args=(inner, outer), daemon=True)
            back.start()
            _copy(outer, inner)
            back.join()
    except OSError:
        client.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()
