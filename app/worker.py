"""gunicorn's worker process: clients' sockets without threads, and lanes of threads by routes.

gunicorn's own threads read requests and write responses themselves, so a few clients that are slow
on purpose hold them all. Here the main thread collects a request until it is whole, a thread of the
route's lane answers it, and what the client does not take at once the main thread sends. A thread
waits for a client only where a response is too large to be kept, with a deadline.
"""

import errno
import hashlib
import re
import select
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors as parse_errors
from gunicorn.http import get_parser
from gunicorn.workers.gthread import TConn, ThreadWorker

from app.http import metrics, turns
from app.http.errors import (
    BusyError,
    SlowRequestError,
    TooLargeError,
    headers_of,
    status_of,
)
from app.http.fair_threads import FairThreads
from app.http.response import error_response
from app.routes.route import API_HEADERS, Lane
from app.routes.table import find_lane
from app.settings import LOGIN_THREADS

_MAX_HEAD_BYTES = 1 << 16
_MAX_REQUEST_BYTES = 1 << 21
"""A larger request is refused as it arrives; no route takes more than 1 MiB."""
_MAX_KEPT_RESPONSE_BYTES = 4 << 20
_MAX_KEPT_BYTES = 64 << 20
"""Of all requests of a process that arrive, of all that wait for a thread or have one, and of all
responses that leave."""
_SMALL_REQUEST_BYTES = 1 << 14
"""Requests up to this size are as many as may wait: what is bounded is the room for bodies."""

_HEAD_S = 10.0
_BODY_S = 30.0
"""From the first byte of a request to its last, without and with a body."""
_TURN_S = 20.0
"""How long a request waits for a thread of its lane."""
_LINGER_S = 2.0
_SWEEP_S = 0.25
_LEAST_BYTES_PER_S = 16_384
_SEND_BYTES = 1 << 16

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[^\r\n]{0,200}\r\n")
_MAX_CHUNK_LINE_BYTES = 256
_CREDENTIALS = re.compile(rb"\r\n(?:authorization|cookie):([^\r]*)", re.IGNORECASE)
_SESSION = re.compile(rb"\bcbm_session=([^;\s]*)")
_FORWARDED = re.compile(rb"\r\nx-forwarded-for:([^\r]*)", re.IGNORECASE)

_USE_POST = (
    "the address is too long: send the same parameters as the JSON body of a POST, "
    "such as POST /query/parcelsByPolygon"
)
_PARSE_STATUS: dict[type[Exception], HTTPStatus] = {
    parse_errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    parse_errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    parse_errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    parse_errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    parse_errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
    parse_errors.ParseException: HTTPStatus.BAD_REQUEST,
}


class ClientSocket(socket.socket):
    """A client's socket, for threads that must not wait for the client.

    Attributes:
        unsent: what the client did not take yet.
        read_until: when a thread gives a request up, on the monotonic clock.
    """

    def __init__(self, accepted: socket.socket) -> None:
        """Take an accepted socket over."""
        super().__init__(fileno=accepted.detach())
        self.unsent = bytearray()
        self.read_until = 0.0

    def sendall(self, data: Any, _flags: int = 0, /) -> None:
        """Send what goes at once and keep the rest; wait where that is too much.

        Raises:
            BrokenPipeError: the client takes less than the least rate.
        """
        self.unsent += data
        self.send_now()
        while len(self.unsent) > _MAX_KEPT_RESPONSE_BYTES - _SEND_BYTES:
            self._wait_for_piece()

    def recv(self, size: int, _flags: int = 0, /) -> bytes:
        """Wait for bytes, no longer than the deadline of the request.

        Raises:
            ConnectionResetError: the client did not send them in time.
        """
        if self.getblocking() and not _ready(self, select.POLLIN, self.read_until):
            raise ConnectionResetError(errno.ECONNRESET, "the request did not arrive in time")
        return super().recv(size)

    def send_now(self) -> None:
        """Send what goes without waiting."""
        taken = 0
        with memoryview(self.unsent) as view:
            while taken < len(view):
                try:
                    taken += self.send(view[taken : taken + (1 << 20)], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
        del self.unsent[:taken]

    def _wait_for_piece(self) -> None:
        wanted = len(self.unsent) - _SEND_BYTES
        until = time.monotonic() + patience_s(_SEND_BYTES)
        while len(self.unsent) > wanted:
            if not _ready(self, select.POLLOUT, until):
                raise BrokenPipeError(errno.EPIPE, "the client takes too little")
            self.send_now()


def patience_s(size: int) -> float:
    """How long a client may take for some bytes, seconds."""
    return 10 + size / _LEAST_BYTES_PER_S


def _ready(sock: socket.socket, event: int, until: float) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))


class ClientConnection(TConn):  # type: ignore[misc]
    """A connection with the request that arrives on it.

    Attributes:
        arrived: bytes of the request.
        began: when the request was awaited, on the monotonic clock.
        until: when the state it is in ends.
        chunk_at: where the next chunk of its body begins, if that comes in chunks.
        result: of the request's thread, while the response leaves.
        head: of the request that a thread has.
        dispatched_bytes: of that request, with its body.
    """

    def __init__(self, *args: Any, linger: Callable[["ClientConnection"], None]) -> None:
        """As gunicorn's; `linger` takes over at the end."""
        super().__init__(*args)
        self._linger = linger
        self.arrived = bytearray()
        self.began = self.until = 0.0
        self.chunk_at = 0
        self.result: Future[Any] | None = None
        self.head = b""
        self.dispatched_bytes = 0

    def close(self, graceful: bool = False) -> None:
        """Close without waiting for the client, as gunicorn would do in the main thread."""
        if graceful:
            self._linger(self)
        else:
            util.close(self.sock)

    def is_whole(self) -> bool:
        """Whether all of the request arrived, or what is none; answers Expect: 100-continue."""
        arrived, head = self.arrived, self.arrived.find(b"\r\n\r\n") + 4
        if head < 4:
            return len(arrived) > _MAX_HEAD_BYTES
        if expect := _EXPECT.search(arrived, 0, head):
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            del arrived[expect.start() : expect.end()]
            head -= len(expect[0])
        if _CHUNKED.search(arrived, 0, head):
            return self._has_last_chunk(head)
        length = _LENGTH.search(arrived, 0, head)
        return length is None or len(arrived) - head >= int(length[1])

    def _has_last_chunk(self, head: int) -> bool:
        """Whether the body's last chunk is there, with its trailers, or what is no chunk."""
        arrived, at = self.arrived, max(self.chunk_at, head)
        while size := _CHUNK.match(arrived, at):
            length = int(size[1], 16)
            if not length:
                return arrived.find(b"\r\n\r\n", size.end() - 2) >= 0
            at = size.end() + length + 2
            if at > len(arrived):
                return False
            self.chunk_at = at
        return len(arrived) - at > _MAX_CHUNK_LINE_BYTES or b"\r\n" in arrived[at:]

    def claim(self) -> str:
        """Whose request it seems to be: its credentials, else where it comes from."""
        fields = bytes(self.arrived[:_MAX_HEAD_BYTES])
        claim = _CREDENTIALS.search(fields) or _FORWARDED.search(fields)
        if claim:
            session = _SESSION.search(claim[1])
            return hashlib.sha256(session[1] if session else claim[1].strip()).hexdigest()
        return str(self.client[0] if isinstance(self.client, tuple) else self.client)

    def lane(self) -> Lane:
        """The lane of the request's route, by the path that gunicorn and hug will read."""
        line = bytes(self.arrived[:_MAX_HEAD_BYTES]).partition(b"\r\n")[0].decode("latin-1")
        method, _, rest = line.partition(" ")
        with suppress(ValueError):
            path = util.unquote_to_wsgi_str(util.split_request_uri(rest.partition(" ")[0]).path)
            return find_lane(method, path.removesuffix("/") or "/")
        return Lane.QUERY


class _Lanes:
    """The threads of a process, by lane; an executor as far as gunicorn uses one."""

    def __init__(self, threads: int) -> None:
        half = max(1, threads // 2)
        self._by_lane = {
            Lane.HEALTH: _fair_threads("health", 1),
            Lane.LOGIN: _fair_threads("login", LOGIN_THREADS),
            Lane.QUERY: _fair_threads("query", threads),
            Lane.IMAGE: _fair_threads("image-request", half),
            Lane.STREAM: _fair_threads("stream", half),
        }

    def submit(
        self, conn: ClientConnection, call: Callable[[], Any], sender: str = ""
    ) -> "Future[Any]":
        claim = conn.claim()
        sender = sender or turns.find_sender(claim)
        return self._by_lane[conn.lane()].submit(sender, partial(turns.run, claim, sender, call))

    def expire(self) -> None:
        for threads in self._by_lane.values():
            threads.expire()

    def shutdown(self, wait: bool = False) -> None:  # noqa: ARG002 - as an executor's
        for threads in self._by_lane.values():
            threads.shutdown()


def _fair_threads(name: str, threads: int) -> FairThreads:
    """Some threads, of which one user may hold some: a quarter is left for the others."""
    per_user = max(1, threads - max(1, threads // 4))
    return FairThreads(name, threads, per_user=per_user, max_waiting=128, max_wait_s=_TURN_S)


class LaneWorker(ThreadWorker):  # type: ignore[misc]
    """A worker process of gunicorn whose threads never wait for a client's bytes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As gunicorn's."""
        super().__init__(*args, **kwargs)
        self._receiving: dict[ClientConnection, None] = {}
        self._sending: dict[ClientConnection, None] = {}
        self._lingering: dict[ClientConnection, None] = {}
        self._dispatched_bytes = 0
        self._sweep_at = 0.0

    def get_thread_pool(self) -> _Lanes:
        """The lanes instead of gunicorn's threads."""
        return _Lanes(self.cfg.threads)

    def accept(self, listener: socket.socket) -> None:
        """Accept a client; without a request within seconds it is left."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        sock, name = ClientSocket(accepted), listener.getsockname()
        self.enqueue_req(ClientConnection(self.cfg, sock, address, name, linger=self._linger))

    def enqueue_req(self, conn: ClientConnection) -> None:
        """Begin a request of a connection: collect it, then give it to a thread."""
        if not conn.initialized:
            conn.init()
        conn.arrived = bytearray(conn.parser.unreader.take_buffered())
        conn.chunk_at = 0
        conn.began = time.monotonic()
        conn.until = conn.began + _HEAD_S
        conn.sock.setblocking(False)
        self._receiving[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._receive, conn))
        if conn.arrived and conn.is_whole():
            self._dispatch(conn)

    def _receive(self, conn: ClientConnection, _sock: Any = None) -> None:
        if conn not in self._receiving:
            return
        try:
            piece = conn.sock.recv(_SEND_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            piece = b""
        if not piece and not conn.arrived:
            self._leave(conn, self._receiving)
            return
        conn.arrived += piece
        if len(conn.arrived) > _MAX_REQUEST_BYTES:
            self._forget(conn, self._receiving)
            self._refuse(conn, TooLargeError("the request is longer than any that is accepted"))
            return
        if not piece or conn.is_whole():
            self._dispatch(conn)
            return
        if b"\r\n\r\n" in conn.arrived:
            conn.until = conn.began + _BODY_S
        self._bound(self._receiving, lambda each: len(each.arrived))

    def _dispatch(self, conn: ClientConnection, sender: str = "") -> None:
        """Give a request to a thread of its lane; its result comes back to finish_request.

        Args:
            conn: with the request.
            sender: whose turn it is; by the request's claim if ''.
        """
        self._forget(conn, self._receiving)
        size = len(conn.arrived)
        if size > _SMALL_REQUEST_BYTES and self._dispatched_bytes + size > _MAX_KEPT_BYTES:
            self._refuse(conn, BusyError("too many requests with long bodies wait already"))
            return
        self._dispatched_bytes += size
        conn.dispatched_bytes = size
        conn.sock.read_until = time.monotonic() + _HEAD_S
        conn.head = bytes(conn.arrived[: conn.arrived.find(b"\r\n\r\n") + 4])
        conn.parser.unreader.unread(bytes(conn.arrived))
        try:
            future = self.tpool.submit(conn, partial(self.handle, conn), sender)
        except BusyError as error:
            self._release(conn)
            self._refuse(conn, error)
        else:
            conn.arrived = bytearray()
            future.add_done_callback(
                lambda done: self.method_queue.defer(self.finish_request, conn, done)
            )

    def finish_request(self, conn: ClientConnection, done: "Future[Any]") -> None:
        """Send what is left of a response; then go on as gunicorn does."""
        self._release(conn)
        error = None if done.cancelled() else done.exception()
        if isinstance(error, BusyError):
            self._refuse(conn, error)
        elif isinstance(error, turns.UserTurn):
            # Nothing of the body was read, so the request begins again.
            conn.arrived = bytearray(conn.head + conn.parser.unreader.take_buffered())
            conn.parser = get_parser(conn.cfg, conn.sock, conn.client)
            self._dispatch(conn, error.sender)
        elif conn.sock.unsent and conn.sock.fileno() >= 0:
            conn.result = done
            conn.sock.setblocking(False)
            conn.until = time.monotonic() + patience_s(len(conn.sock.unsent))
            self._sending[conn] = None
            self.poller.register(conn.sock, selectors.EVENT_WRITE, partial(self._send, conn))
            self._bound(self._sending, lambda each: len(each.sock.unsent))
        else:
            super().finish_request(conn, done)

    def _send(self, conn: ClientConnection, _sock: Any = None) -> None:
        if conn not in self._sending:
            return
        try:
            conn.sock.send_now()
        except OSError:
            self._leave(conn, self._sending)
            return
        if not conn.sock.unsent:
            self._forget(conn, self._sending)
            super().finish_request(conn, conn.result)

    def _linger(self, conn: ClientConnection) -> None:
        """Close when the client has read all (RFC 9112, section 9.6), or a moment later."""
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):
            util.close(conn.sock)
            return
        self.nr_conns += 1
        conn.until = time.monotonic() + _LINGER_S
        self._lingering[conn] = None

    def _drain(self, conn: ClientConnection, _sock: Any = None) -> None:
        try:
            if conn not in self._lingering or conn.sock.recv(_SEND_BYTES):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._leave(conn, self._lingering)

    def murder_pending(self) -> None:
        """Leave the clients whose time is over; gunicorn calls this after all events."""
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + _SWEEP_S
        self.tpool.expire()
        for conn in list(self._receiving):
            if conn.until < now and conn.arrived:
                self._forget(conn, self._receiving)
                self._refuse(conn, SlowRequestError("the request did not arrive in time"))
            elif conn.until < now or not (self.alive or conn.arrived):
                self._leave(conn, self._receiving)
        for state in (self._sending, self._lingering):
            for conn in [conn for conn in state if conn.until < now]:
                self._leave(conn, state)

    def _bound(
        self, state: dict[ClientConnection, None], size: Callable[[ClientConnection], int]
    ) -> None:
        """Leave the clients that are the longest in a state while it keeps too many bytes."""
        kept = sum(map(size, state))
        for conn in list(state):
            if kept <= _MAX_KEPT_BYTES:
                return
            kept -= size(conn)
            self._leave(conn, state)

    def _release(self, conn: ClientConnection) -> None:
        """Give the room of a request back."""
        self._dispatched_bytes -= conn.dispatched_bytes
        conn.dispatched_bytes = 0

    def _forget(self, conn: ClientConnection, state: dict[ClientConnection, None]) -> None:
        state.pop(conn, None)
        with suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)

    def _leave(self, conn: ClientConnection, state: dict[ClientConnection, None]) -> None:
        self._forget(conn, state)
        self.nr_conns -= 1
        util.close(conn.sock)

    def _refuse(self, conn: ClientConnection, error: Exception) -> None:
        """Send an error before the application, and close."""
        conn.arrived = bytearray()
        status = status_of(error)
        with suppress(OSError):
            conn.sock.sendall(_error(status, str(error), headers_of(error, status)))
        self.nr_conns -= 1
        conn.close(graceful=True)

    def handle_error(self, _req: Any, client: ClientSocket, _addr: Any, exc: Exception) -> None:
        """Answer a request that is no HTTP, or a failure outside of the application, in JSON."""
        parse_status = (_PARSE_STATUS[cls] for cls in type(exc).__mro__ if cls in _PARSE_STATUS)
        status = next(parse_status, HTTPStatus.INTERNAL_SERVER_ERROR)
        detail = _USE_POST if status is HTTPStatus.REQUEST_URI_TOO_LONG else str(exc)[:200]
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.exception("a request failed outside of the application")
            detail = "an unexpected error"
        with suppress(OSError):
            client.sendall(_error(status, detail, {}))


def _error(status: HTTPStatus, detail: str, headers: Mapping[str, str]) -> bytes:
    """An error as the whole of a response, which the access log does not know."""
    metrics.count_request("", "other", status, 0)
    response = error_response(status, detail)
    fields = {
        "Connection": "close",
        "Content-Type": response.content_type,
        "Content-Length": str(len(response.body)),  # type: ignore[arg-type]
        **API_HEADERS,
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    start = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    return f"{start}{head}\r\n".encode("latin-1") + response.body  # type: ignore[operator]
