"""The worker: claims scenes, reduces them, writes each in one transaction; survives everything.

What happens to a piece of work that goes wrong depends on whose fault it is: the scene's and ours
are counted until the dead letter, the world's is waited out, a lost lease is simply dropped.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from extraction import scene as scenes
from extraction import spans
from store import catalogue, db, objects, raster, signatures
from store.catalogue import Claim, Done
from store.config import WorkerSettings
from store.errors import CbmError, DatabaseError, Fault, LostLeaseError
from store.grid import Lattice
from store.parcels import reading

log = logging.getLogger("cbm.worker")


class StoppedError(CbmError):
    """The worker was asked to stop; its work is released."""

    fault = Fault.WORLD


@dataclass
class Worker:
    """One process that pulls work from the queue.

    Attributes:
        settings: how it behaves.
        connect: opens a database connection, named for its purpose.
    """

    settings: WorkerSettings
    connect: Callable[[str], db.Connection] = db.connect
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Prepare the span cache."""
        self._cache = spans.SpanCache(self.settings.cache_dir, self.settings.cache_bytes)
        self._gdal_options = objects.gdal_options(os.environ)
        self._holder = f"{socket.gethostname()}:{os.getpid()}"

    def stop(self) -> None:
        """End after the block being read; the scene in hand is released."""
        self._stop.set()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT release the scene in hand and end the worker."""

        def stop(number: int, _frame: FrameType | None) -> None:
            log.info("event=stopping signal=%s", signal.Signals(number).name)
            self.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def work(self, until_idle: bool) -> int:
        """Work until stopped, or until nothing is pending or claimed; returns scenes done."""
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

    def one(self, reference: str) -> int:
        """Do the open work on one scene; returns for how many parcel sets.

        Raises:
            CbmError: what went wrong; the work is released without blame.
        """
        done = 0
        with self._connection("work") as conn:
            while held := self._claim(conn, reference):
                try:
                    self._process(conn, held)
                except BaseException as error:
                    catalogue.release(conn, held, str(error))
                    raise
                done += 1
        return done

    def _drain(self) -> int:
        """Do work while there is some; returns how many pieces were done."""
        done = 0
        with self._connection("work") as conn:
            while not self._stop.is_set():
                held = self._claim(conn)
                if held is None:
                    return done
                done += self._attempt(conn, held)
        return done

    def _idle(self) -> bool:
        with self._connection("work") as conn:
            return catalogue.open_work(conn) == 0

    def _claim(self, conn: db.Connection, reference: str | None = None) -> Claim | None:
        return catalogue.claim(
            conn, self._holder, self.settings.lease_s, self.settings.max_lost_leases, reference
        )

    def _attempt(self, conn: db.Connection, held: Claim) -> bool:
        """Process a claim; whatever goes wrong ends as a state of the queue."""
        name = held.scene.reference
        try:
            self._process(conn, held)
        except StoppedError:
            catalogue.release(conn, held)
            log.info("event=released scene=%s set=%d", name, held.set_id)
        except LostLeaseError as error:
            log.warning("event=lease_lost scene=%s set=%d reason=%s", name, held.set_id, error)
        except DatabaseError:
            raise
        except CbmError as error:
            self._settle(conn, held, error)
        except Exception as error:
            log.exception("event=defect scene=%s set=%d", name, held.set_id)
            self._fail(conn, held, f"defect: {type(error).__name__}: {error}")
        else:
            return True
        return False

    def _settle(self, conn: db.Connection, held: Claim, error: CbmError) -> None:
        if error.fault is Fault.WORLD:
            log.warning(
                "event=world_away scene=%s set=%d reason=%s",
                held.scene.reference,
                held.set_id,
                error,
            )
            catalogue.put_off(
                conn, held, str(error), self.settings.max_lost_leases, self.settings.retry_s
            )
            self._stop.wait(self.settings.poll_s)
            return
        log.warning(
            "event=failed scene=%s set=%d reason=%s", held.scene.reference, held.set_id, error
        )
        self._fail(conn, held, str(error))

    def _fail(self, conn: db.Connection, held: Claim, reason: str) -> None:
        catalogue.fail(conn, held, reason, self.settings.max_failures, self.settings.retry_s)

    def _process(self, conn: db.Connection, held: Claim) -> None:
        """Reduce a scene for a parcel set and write it, in one transaction."""
        started, cpu_s = time.monotonic(), time.process_time()
        leaves = signatures.leaves(conn, held.campaign_id, held.obsid, held.scene.kind)
        with self._heartbeat(held) as checkpoint, raster.gdal_env(self._gdal_options):
            outcome = scenes.reduce_scene(
                held.scene,
                self._indices(conn, held),
                factor=scenes.conversion(held.scene, held.unit),
                threads=self.settings.threads,
                checkpoint=checkpoint,
            )
            done = Done(
                outcome.signatures.pids.size,
                outcome.outside,
                outcome.nodata,
                outcome.absent,
                time.process_time() - cpu_s,
            )
            with db.transaction(conn):
                catalogue.hold(conn, held)
                if held.rewrite:
                    signatures.delete(conn, held.aoi, leaves, held.obsid, held.set_id)
                signatures.write(
                    conn, held.aoi, leaves, held.campaign_id, held.obsid, outcome.signatures
                )
                catalogue.finish(conn, held, done)
        log.info(
            "event=done scene=%s set=%d signatures=%d outside=%d nodata=%d cpu_s=%.2f wall_s=%.2f",
            held.scene.reference,
            held.set_id,
            done.signatures,
            done.outside,
            done.nodata,
            done.cpu_s,
            time.monotonic() - started,
        )

    def _indices(self, conn: db.Connection, held: Claim) -> Callable[[Lattice], spans.SpanIndex]:
        """Give the span indices of a claim's parcels: cached ones, or built and then cached."""
        fetched: dict[int, tuple[Any, list[bytes]]] = {}

        def index_on(lattice: Lattice) -> spans.SpanIndex:
            index = self._cache.get(held.digest, lattice, held.buffer_m)
            if index is None:
                if lattice.epsg not in fetched:
                    fetched[lattice.epsg] = self._parcels(conn, held, lattice.epsg)
                index = spans.build(*fetched[lattice.epsg], lattice, held.buffer_m)
                self._cache.put(held.digest, lattice, held.buffer_m, index)
            return index

        return index_on

    def _parcels(self, conn: db.Connection, held: Claim, epsg: int) -> tuple[Any, list[bytes]]:
        """The pids and outlines of a claim's parcels, as they were when it was claimed."""
        found = reading.geometries(conn, held.aoi, held.campaign_id, held.set_id, epsg)
        if not catalogue.extend(conn, held, self.settings.lease_s):
            raise LostLeaseError("the parcels may have changed since the claim")
        return found

    @contextmanager
    def _heartbeat(self, held: Claim) -> Iterator[Callable[[], None]]:
        """Extend the lease from a thread of its own; yields a check that raises when to stop."""
        over, lost = threading.Event(), threading.Event()

        def beat() -> None:
            while not over.wait(self.settings.lease_s / 4):
                try:
                    with self._connection("heartbeat") as conn:
                        if not catalogue.extend(conn, held, self.settings.lease_s):
                            lost.set()
                            return
                except DatabaseError as error:
                    log.warning(
                        "event=heartbeat_missed scene=%s reason=%s", held.scene.reference, error
                    )

        def checkpoint() -> None:
            if self._stop.is_set():
                raise StoppedError("asked to stop")
            if lost.is_set():
                raise LostLeaseError("the lease was taken over or withdrawn")

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield checkpoint
        finally:
            over.set()
            thread.join()

    @contextmanager
    def _connection(self, purpose: str) -> Iterator[db.Connection]:
        conn = self.connect(f"cbm-extract {purpose} {self._holder}")
        try:
            yield conn
        finally:
            conn.close()
