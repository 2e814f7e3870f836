"""A process that pulls work from a queue and survives everything.

What happens to a piece of work that goes wrong depends on whose fault it is: its own and ours are
counted until the dead letter, the world's is waited out, a lost lease is simply dropped.
"""

import logging
import os
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import ClassVar, Generic, TypeVar

from store import db
from store.config import QueueSettings
from store.errors import CbmError, DatabaseError, Fault, LostLeaseError

log = logging.getLogger("cbm.worker")

ClaimT = TypeVar("ClaimT")


class StoppedError(CbmError):
    """The worker has to stop; its work is released."""

    fault = Fault.WORLD


class NotReadyError(CbmError):
    """The work waits for something that is under way; nobody is blamed, and it is looked at again.

    Attributes:
        delay_s: when, seconds from now.
    """

    fault = Fault.WORLD

    def __init__(self, text: str, delay_s: float) -> None:
        """What is waited for, and for how long."""
        super().__init__(text)
        self.delay_s = delay_s


@dataclass
class QueueWorker(ABC, Generic[ClaimT]):
    """One process that pulls work from a queue; a program's worker says which and what to do.

    Attributes:
        settings: leases and limits.
        connect: opens a database connection, named for its purpose.
        holder: name of the process, for people to read.
    """

    program: ClassVar[str]
    settings: QueueSettings
    connect: Callable[[str], db.Connection] = db.connect
    holder: str = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Name the process."""
        self.holder = f"{socket.gethostname()}:{os.getpid()}"

    @abstractmethod
    def claim(self, conn: db.Connection) -> ClaimT | None:
        """Take the next piece of work; None when there is none now."""

    @abstractmethod
    def renew(self, conn: db.Connection, held: ClaimT) -> bool:
        """Extend a lease; False when it is no longer ours."""

    @abstractmethod
    def release(
        self, conn: db.Connection, held: ClaimT, reason: str | None, delay_s: float
    ) -> None:
        """Give work back unfinished, without blame."""

    @abstractmethod
    def postpone(self, conn: db.Connection, held: ClaimT, reason: str) -> None:
        """Give work back after a fault of the world."""

    @abstractmethod
    def fail(self, conn: db.Connection, held: ClaimT, error: CbmError) -> None:
        """Count a failure that is not the world's."""

    @abstractmethod
    def count_open(self, conn: db.Connection) -> int:
        """Pieces of work that are pending or claimed."""

    @abstractmethod
    def process(self, conn: db.Connection, held: ClaimT, beat: Callable[[], None]) -> bool:
        """Do a piece of work and mark it done; False where its end is recorded otherwise.

        Args:
            conn: a connection of its own.
            held: what to do.
            beat: extends the lease if that is due; raises where to stop.
        """

    def stop(self) -> None:
        """End after the step in hand; the work is released."""
        self._stop.set()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT release the work in hand and end the worker."""

        def stop(number: int, _frame: FrameType | None) -> None:
            log.info("event=stopping signal=%s", signal.Signals(number).name)
            self.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def work(self, until_idle: bool) -> int:
        """Work until stopped, or until nothing is pending or claimed; the number of pieces."""
        done = 0
        pause_s = self.settings.poll_s
        while not self._stop.is_set():
            try:
                done += self._drain()
                pause_s = self.settings.poll_s
                if until_idle and self._idle():
                    return done
            except DatabaseError as error:
                log.warning("event=database_away wait_s=%.0f reason=%s", pause_s, error)
                pause_s = min(2 * pause_s, 60.0)
            self._stop.wait(pause_s)
        return done

    def _drain(self) -> int:
        done = 0
        with self._connection("work") as conn:
            while not self._stop.is_set():
                held = self.claim(conn)
                if held is None:
                    return done
                done += self._attempt(conn, held)
        return done

    def _idle(self) -> bool:
        with self._connection("work") as conn:
            return self.count_open(conn) == 0

    def _attempt(self, conn: db.Connection, held: ClaimT) -> bool:
        """Do claimed work; whatever goes wrong ends as a state of the queue."""
        try:
            with self._heartbeat(held) as beat:
                return self.process(conn, held, beat)
        except StoppedError:
            self.release(conn, held, None, 0.0)
            log.info("event=released work=%s", held)
        except NotReadyError as error:
            log.info("event=not_ready work=%s reason=%s", held, error)
            self.release(conn, held, str(error), error.delay_s)
        except LostLeaseError as error:
            log.warning("event=lease_lost work=%s reason=%s", held, error)
            # What is still ours is free at once, for a worker that reads the facts as they are now.
            self.release(conn, held, None, 0.0)
        except DatabaseError:
            raise
        except CbmError as error:
            self._record_error(conn, held, error)
        except Exception as error:
            log.exception("event=defect work=%s", held)
            self.fail(conn, held, CbmError(f"defect: {type(error).__name__}: {error}"))
        return False

    def _record_error(self, conn: db.Connection, held: ClaimT, error: CbmError) -> None:
        if error.fault is Fault.WORLD:
            log.warning("event=world_away work=%s reason=%s", held, error)
            self.postpone(conn, held, str(error))
            self._stop.wait(self.settings.poll_s)
            return
        log.warning("event=failed work=%s reason=%s", held, error)
        self.fail(conn, held, error)

    @contextmanager
    def _heartbeat(self, held: ClaimT) -> Iterator[Callable[[], None]]:
        """Extend the lease from a thread of its own, however long a step takes."""
        over, lost = threading.Event(), threading.Event()

        def extend() -> None:
            while not over.wait(self.settings.lease_s / 4):
                try:
                    with self._connection("heartbeat") as conn:
                        if not self.renew(conn, held):
                            lost.set()
                            return
                except DatabaseError as error:
                    log.warning("event=heartbeat_missed work=%s reason=%s", held, error)

        def beat() -> None:
            if self._stop.is_set():
                raise StoppedError("the worker stops")
            if lost.is_set():
                raise LostLeaseError("the lease was taken over or withdrawn")

        thread = threading.Thread(target=extend, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield beat
        finally:
            over.set()
            thread.join()

    @contextmanager
    def _connection(self, purpose: str) -> Iterator[db.Connection]:
        conn = self.connect(f"{self.program} {purpose} {self.holder}")
        try:
            yield conn
        finally:
            conn.close()
