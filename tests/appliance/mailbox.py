"""A mail server of this machine, for the hosts of a lab: TLS and a login, or nothing."""

import email
import email.policy
import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

LOGIN = "cbm"


class Mailbox:
    """What a mail server was given, by clients that knew the password."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.password = secrets.token_hex(8)
        self.letters: list[str] = []

    def authenticate(self, *arguments: object) -> AuthResult:
        """Whether this is the login and its password."""
        right = LoginPassword(LOGIN.encode(), self.password.encode())
        return AuthResult(success=arguments[-1] == right, handled=False)

    async def handle_DATA(  # noqa: N802 - aiosmtpd calls it so
        self, _server: object, _session: object, envelope: Envelope
    ) -> str:
        """Keep the letter."""
        parsed = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)
        text = "".join(part.get_content() for part in parsed.walk() if not part.is_multipart())
        head = "".join(f"{name}: {value}\n" for name, value in parsed.items())
        self.letters.append(head + text)
        return "250 OK"


@contextmanager
def served(address: str, certificate: Path, key: Path) -> Iterator[Mailbox]:
    """The server, for the length of a block.

    Args:
        address: of this machine; the port is any that is free.
        certificate: the server's.
        key: the certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server((address, 0)) as free:
        port = free.getsockname()[1]
    box = Mailbox(f"{address}:{port}")
    server = Controller(
        box,
        hostname=address,
        port=port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        auth_exclude_mechanism=["LOGIN"],  # which aiosmtpd prompts for in words that few expect
        authenticator=box.authenticate,
    )
    server.start()
    try:
        yield box
    finally:
        server.stop()
