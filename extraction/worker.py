"""The worker: claims scenes, reduces them, writes each in one transaction; survives everything.

What happens to a piece of work that goes wrong depends on whose fault it is: the scene's and ours
are counted until the dead letter, the world's is waited out, a lost lease is simply dropped.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from extraction import scene as scenes
from extraction import spans
from extraction.codestream import TileParts
from extraction.ranges import Sources
from extraction.scene import Outcome
from store import catalogue, db, objects, queue, raster, signatures
from store.catalogue import BandSource
from store.config import WorkerSettings
from store.errors import (
    BandMissingError,
    CbmError,
    ConfigError,
    Fault,
    ImplausibleValueError,
    LostLeaseError,
    SceneError,
    UnitMismatchError,
)
from store.parcels import reading
from store.queue import Claim, SceneClaims, WorkResult
from store.worker import QueueWorker

log = logging.getLogger("cbm.worker")


_LOOK_S = 3600.0
"""Pause between looks for files that were missing, seconds."""


def _is_there(source: BandSource) -> bool:
    try:
        raster.open_dataset(objects.gdal_path(source.href)).close()
    except CbmError:
        return False
    return True


@dataclass
class Worker(QueueWorker[SceneClaims]):
    """One process that extracts scenes, each for all its parcel sets at once.

    Attributes:
        settings: leases, limits and cache.
    """

    program = "cbm-extract"
    settings: WorkerSettings

    def __post_init__(self) -> None:
        """Prepare the span cache."""
        super().__post_init__()
        self._cache = spans.SpanCache(self.settings.cache_dir, self.settings.cache_bytes)
        self._gdal_options = objects.gdal_options(os.environ)
        self._sources = Sources()
        self._next_look = 0.0

    def claim(self, conn: db.Connection) -> SceneClaims | None:
        """See QueueWorker; now and then looks first for files that were missing."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_S
            with raster.gdal_env(self._gdal_options):
                if count := catalogue.requeue_found(conn, _is_there):
                    log.info("event=found_missing_files pieces=%d", count)
        return self._claim(conn) or None

    def _claim(self, conn: db.Connection, reference: str | None = None) -> SceneClaims:
        limits = self.settings
        return queue.claim(
            conn,
            self.holder,
            limits.lease_s,
            limits.max_lost_leases,
            reference,
            limits.claim_order,
        )

    def renew(self, conn: db.Connection, held: SceneClaims) -> bool:
        """See QueueWorker; what is lost of several is left out when it comes to writing."""
        return bool(queue.renew_leases(conn, held, self.settings.lease_s))

    def release(
        self, conn: db.Connection, held: SceneClaims, reason: str | None, delay_s: float
    ) -> None:
        """See QueueWorker."""
        queue.release(conn, held, reason, delay_s)

    def postpone(self, conn: db.Connection, held: SceneClaims, reason: str) -> None:
        """See QueueWorker."""
        limits = self.settings
        queue.postpone(conn, held, reason, limits.max_lost_leases, limits.retry_s)

    def fail(self, conn: db.Connection, held: SceneClaims, error: CbmError) -> None:
        """See QueueWorker.

        The scene's own faults do not heal by trying again: dead letter at once. What the settings
        or the database's rights refuse is no scene's fault, and stops the worker.
        """
        limits = self.settings
        if isinstance(error, BandMissingError):  # it may be there in a moment
            queue.fail(conn, held, str(error), limits.max_failures, limits.retry_s)
        elif error.fault is Fault.SCENE:
            queue.fail(conn, held, str(error), max_failures=1)
        elif isinstance(error, ConfigError):
            queue.release(conn, held, str(error))
            raise error
        else:
            self.postpone(conn, held, str(error))
            self._stop.wait(limits.poll_s)

    def count_open(self, conn: db.Connection) -> int:
        """See QueueWorker."""
        return queue.open_work(conn)

    def process(self, conn: db.Connection, held: SceneClaims, beat: Callable[[], None]) -> bool:
        """Extract a scene; where that fails, for each of its sets by itself."""
        try:
            self._extract(conn, held, beat)
        except Exception as error:
            if len(held) == 1 or not _may_be_of_one_set(error):
                raise
            log.warning("event=sets_apart work=%s reason=%s", held, error)
            own = queue.renew_leases(conn, held, self.settings.lease_s)
            return sum(self._attempt(conn, SceneClaims([claimed])) for claimed in own) > 0
        return True

    def work_on(self, reference: str) -> int:
        """Do the open work on one scene; the number of parcel sets.

        Raises:
            CbmError: the scene or the world fails; the work is released without blame.
        """
        done = 0
        with self._connection("work") as conn:
            while held := self._claim(conn, reference):
                try:
                    with self._heartbeat(held) as beat:
                        done += self._extract(conn, held, beat, accept_missing=True)
                except BaseException as error:
                    queue.release(conn, held, str(error))
                    raise
        return done

    def _extract(
        self,
        conn: db.Connection,
        held: Sequence[Claim],
        beat: Callable[[], None],
        *,
        accept_missing: bool = False,
    ) -> int:
        """Reduce a scene for its parcel sets and write them in one transaction; how many.

        Files that are not there are waited for, and done without only at the last try.
        """
        last = max(each.failures for each in held) + 1 >= self.settings.max_failures
        started, cpu_s = time.monotonic(), time.process_time()
        held, factors = self._convertible(conn, held)
        leaves = {
            campaign: signatures.ensure_partitions(
                conn, campaign, held[0].obsid, held[0].scene.kind
            )
            for campaign in {claimed.campaign_id for claimed in held}
        }
        with raster.gdal_env(self._gdal_options):
            outcome = self._reduce(conn, held, factors, beat, accept_missing or last)
        cpu_s = time.process_time() - cpu_s
        later = SceneClaims(held[len(outcome.sets) :])
        held = SceneClaims(held[: len(outcome.sets)])
        done = _write(conn, held, leaves, outcome, cpu_s)
        if later:
            queue.release(conn, later)
            log.info("event=left_for_later work=%s", later)
        log.info(
            "event=done work=%s signatures=%d outside=%d nodata=%d cpu_s=%.2f wall_s=%.2f",
            held,
            sum(each.signatures for each in done),
            sum(each.outside for each in done),
            sum(each.nodata for each in done),
            cpu_s,
            time.monotonic() - started,
        )
        return len(done)

    def _convertible(
        self, conn: db.Connection, held: Sequence[Claim]
    ) -> tuple[SceneClaims, list[float]]:
        """The claims whose campaigns can take the scene's unit, and the factors of its values.

        The others fail; where none can, the error is raised.
        """
        fit: list[tuple[Claim, float]] = []
        misfits: list[tuple[Claim, UnitMismatchError]] = []
        for claimed in held:
            try:
                fit.append((claimed, scenes.conversion(claimed.scene, claimed.unit)))
            except UnitMismatchError as error:
                misfits.append((claimed, error))
        if not fit:
            raise misfits[0][1]
        for claimed, misfit in misfits:
            self._record_error(conn, SceneClaims([claimed]), misfit)
        return SceneClaims(claimed for claimed, _ in fit), [factor for _, factor in fit]

    def _reduce(
        self,
        conn: db.Connection,
        held: Sequence[Claim],
        factors: Sequence[float],
        checkpoint: Callable[[], None],
        accept_missing: bool,
    ) -> Outcome:
        try:
            return scenes.reduce_scene(
                held[0].scene,
                [self._spans(conn, claimed) for claimed in held],
                factors=factors,
                threads=self.settings.threads,
                checkpoint=checkpoint,
                accept_missing=accept_missing,
                sources=self._sources if self.settings.thin and not held[0].thinning_flaw else None,
                tile_parts=_tile_parts(held[0]),
            )
        except ImplausibleValueError as error:
            claimed = held[error.number]
            code = reading.code(conn, claimed.aoi, claimed.campaign_id, error.pid)
            raise SceneError(f"parcel {code}: {error}") from error

    def _spans(self, conn: db.Connection, held: Claim) -> spans.ParcelSpans:
        """Spans of a claim's parcels, as they were when it was claimed."""

        def read_outlines(epsg: int) -> Iterator[spans.Outlines]:
            yield from reading.geometries(conn, held.aoi, held.campaign_id, held.set_id, epsg)
            if not queue.renew_leases(conn, [held], self.settings.lease_s):
                raise LostLeaseError("the parcels may have changed since the claim")

        return spans.ParcelSpans(self._cache, held.digest, held.buffer_m, read_outlines)


def _write(
    conn: db.Connection,
    held: Sequence[Claim],
    leaves: Mapping[int, tuple[str, str]],
    outcome: Outcome,
    cpu_s: float,
) -> list[WorkResult]:
    """Write what is still ours of a scene's work, in one transaction; the results written.

    The processor's time is shared out by parcels.
    """
    parcels = max(sum(claimed.parcels for claimed in held), 1)
    written = []
    with db.transaction(conn):
        own = queue.lock_claims(conn, held)
        for claimed, found in zip(held, outcome.sets, strict=True):
            if claimed not in own:
                continue
            done = WorkResult(
                found.signatures.pids.size,
                found.outside,
                found.nodata,
                outcome.absent,
                cpu_s * claimed.parcels / parcels,
                "; ".join(outcome.missing) or None,
            )
            of_campaign = leaves[claimed.campaign_id]
            if claimed.rewrite:
                signatures.delete(conn, claimed.aoi, of_campaign, claimed.obsid, claimed.set_id)
            signatures.write(
                conn,
                claimed.aoi,
                of_campaign,
                claimed.campaign_id,
                claimed.obsid,
                found.signatures,
            )
            queue.finish(conn, claimed, done)
            written.append(done)
        queue.note_reading(
            conn,
            held[0],
            {
                href: [list(parts.starts), list(parts.lengths)]
                for href, parts in outcome.tile_parts.items()
            },
            outcome.thinning_flaw or held[0].thinning_flaw,
        )
    return written


def _may_be_of_one_set(error: Exception) -> bool:
    """Whether a scene may fail for the pixels or parcels of one set, and not for others."""
    if not isinstance(error, CbmError):
        return True
    return error.fault in {Fault.SCENE, Fault.OURS} and not isinstance(error, BandMissingError)


def _tile_parts(held: Claim) -> dict[str, TileParts]:
    return {
        href: TileParts(tuple(starts), tuple(lengths))
        for href, (starts, lengths) in held.tile_parts.items()
    }
