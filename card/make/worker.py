"""The processor: claims products to be made, makes each, publishes and registers it.

A product is made in a staging folder that is named by the claim, published in one step under the
claim's lock, then registered, then marked done. A processor that dies between any two of these
leaves a claim whose lease runs out: the next one makes the same bytes, and finds what is there.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from card.find.orbits import orbits_for
from card.make.backscatter import BackscatterSettings
from card.make.coherence import CoherenceSettings
from card.make.delivery import CardDelivery
from card.make.engine import ENGINES, BackscatterJob, CoherenceJob, Job, Progress
from card.make.orders import ArchiveJob, ArchiveOrders
from store import catalogue, db, making, objects
from store.config import QueueSettings
from store.errors import (
    CallerError,
    CbmError,
    ConfigError,
    DatabaseError,
    LostLeaseError,
    SceneError,
    WorldError,
)
from store.inputs import InputProduct, read_inputs
from store.making import MakingClaim, MakingOrder, MakingResult
from store.worker import QueueWorker

log = logging.getLogger("cbm.processor")

_STAGING = ".making"
_WRITTEN_EVERY_S = 1.0
"""Least time between two tiles whose number is written down."""
_Settings = TypeVar("_Settings", BackscatterSettings, CoherenceSettings)


class ProcessorSettings(QueueSettings):
    """The behaviour of a processor, beside its queue's.

    Attributes:
        card_dir: where products go, a folder or s3://bucket/prefix (CBM_CARD_DIR).
        scratch: folder for products in the making; default is .making in a folder of products, else
            the system's folder for temporary files (CBM_SCRATCH).
        dem: terrain, a raster or a folder (CBM_DEM).
        geoid: what its heights stand on: a grid, or `ellipsoid` (CBM_GEOID).
        orbits: orbit files, a folder or s3://bucket/prefix (CBM_ORBITS).
    """

    card_dir: str = Field("", min_length=0)
    scratch: Path | None = None
    dem: Path | None = None
    geoid: str | None = None
    orbits: str | None = None

    @property
    def shelf(self) -> str:
        """Where products go, absolute.

        Raises:
            ConfigError: it is not set.
        """
        if not self.card_dir:
            raise ConfigError("CBM_CARD_DIR is not set: where do products go?")
        if self.card_dir.startswith("s3://"):
            return self.card_dir.rstrip("/")
        return str(Path(self.card_dir).absolute())

    @property
    def staging(self) -> Path:
        """Where products are made; of a folder of products on the same file system."""
        if self.scratch:
            return self.scratch.absolute() / _STAGING
        local = not self.shelf.startswith("s3://")
        return (Path(self.shelf) if local else Path(tempfile.gettempdir())) / _STAGING

    @property
    def terrain(self) -> Path:
        """The terrain.

        Raises:
            ConfigError: it is not set.
        """
        if self.dem is None:
            raise ConfigError("CBM_DEM is not set: CARD is made over a terrain model")
        return self.dem


@dataclass
class Processor(QueueWorker[MakingClaim]):
    """One process that makes products.

    Attributes:
        settings: leases, limits and places.
        archive: orders products at the Copernicus Data Space; made when first needed.
    """

    program = "cbm-card"
    settings: ProcessorSettings
    archive: ArchiveOrders | None = None
    _tiles: tuple[int, int | None] = field(default=(0, None), init=False)

    def claim(self, conn: db.Connection) -> MakingClaim | None:
        """See QueueWorker."""
        self._tiles = (0, None)
        limits = self.settings
        return making.claim(conn, self.holder, limits.lease_s, limits.max_lost_leases)

    def renew(self, conn: db.Connection, held: MakingClaim) -> bool:
        """See QueueWorker."""
        return making.renew_lease(conn, held, self.settings.lease_s, *self._tiles)

    def release(
        self, conn: db.Connection, held: MakingClaim, reason: str | None, delay_s: float
    ) -> None:
        """See QueueWorker."""
        making.release(conn, held, reason, delay_s)

    def postpone(self, conn: db.Connection, held: MakingClaim, reason: str) -> None:
        """See QueueWorker."""
        limits = self.settings
        making.postpone(conn, held, reason, limits.max_lost_leases, limits.retry_s)

    def fail(self, conn: db.Connection, held: MakingClaim, error: CbmError) -> None:
        """See QueueWorker."""
        making.fail(conn, held, str(error), self.settings.max_failures, self.settings.retry_s)

    def count_open(self, conn: db.Connection) -> int:
        """See QueueWorker."""
        return making.count_open(conn)

    def process(self, conn: db.Connection, held: MakingClaim, beat: Callable[[], None]) -> bool:
        """Make a product, publish it, register it, and mark it done."""
        started, cpu_s = time.monotonic(), _cpu_s()
        needed = read_inputs(conn, held.order.inputs)
        with self._staging_folder(held) as staging:
            made, repeatable = self._make(held, needed, staging, self._progress(held, beat))
            beat()
            delivery = CardDelivery(made, self.settings.shelf, held.replace, repeatable)
            scene, size_bytes = delivery.scene(), delivery.size_bytes
            delivery.deliver(lambda: self._lock(held))
        with self._connection("register") as fresh:  # the other one may have died meanwhile
            if refused := catalogue.register(fresh, [scene]).refused:
                raise SceneError(refused[0][1])
            done = MakingResult(scene.reference, size_bytes, _cpu_s() - cpu_s)
            making.finish(fresh, held, done)
        log.info(
            "event=made product=%s engine=%s bytes=%d cpu_s=%.2f wall_s=%.2f",
            done.product, held.order.engine, size_bytes, done.cpu_s, time.monotonic() - started,
        )  # fmt: skip
        return True

    @contextmanager
    def _lock(self, held: MakingClaim) -> Iterator[None]:
        with self._connection("publish") as conn, db.transaction(conn):
            making.lock_claim(conn, held)
            yield

    def _progress(self, held: MakingClaim, beat: Callable[[], None]) -> Progress:
        """Heartbeat with each tile: the claim is checked, and how far it is written down."""
        written = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal written
            self._tiles = (done, total)
            beat()
            if time.monotonic() - written < _WRITTEN_EVERY_S and done < total:
                return
            written = time.monotonic()
            try:
                with self._connection("heartbeat") as conn:
                    ours = self.renew(conn, held)
            except DatabaseError as error:
                log.warning("event=heartbeat_missed work=%s reason=%s", held, error)
                return
            if not ours:
                raise LostLeaseError("the lease was taken over or withdrawn")

        return advance

    @contextmanager
    def _staging_folder(self, held: MakingClaim) -> Iterator[Path]:
        """A folder for this claim alone; what dead processors left of the product goes away."""
        for left in self.settings.staging.glob(f"{held.id}.*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = self.settings.staging / f"{held.id}.{held.fence}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _make(
        self, held: MakingClaim, needed: list[InputProduct], staging: Path, progress: Progress
    ) -> tuple[Path, bool]:
        """The product's folder, and whether a rerun would give the same bytes."""
        order = held.order
        if order.engine == "cdse":
            self.archive = self.archive or ArchiveOrders.from_env()
            job = ArchiveJob(order.kind, order.inputs, held.queued_at, staging)
            return self.archive.make(job, progress), False
        if order.engine not in ENGINES:
            raise CallerError(f"there is no engine {order.engine}: only cdse, {', '.join(ENGINES)}")
        engine = ENGINES[order.engine]
        return engine.make(self._job(order, needed, staging), progress), engine.repeatable

    def _job(self, order: MakingOrder, needed: list[InputProduct], staging: Path) -> Job:
        terrain, geoid = self.settings.terrain, self.settings.geoid
        source, *pair = (bring_product(product, staging / "input") for product in needed)
        orbits = bring_orbits(self.settings.orbits, needed, staging / "orbits")
        if order.kind == "bs":
            settings = read_settings(BackscatterSettings, order.settings)
            return BackscatterJob(source, terrain, staging, geoid, orbits, settings)
        return CoherenceJob(
            source, tuple(pair), terrain, staging, geoid, orbits,
            read_settings(CoherenceSettings, order.settings),
        )  # fmt: skip


def read_settings(of: type[_Settings], stated: Mapping[str, Any]) -> _Settings:
    """The settings of an order; what it does not state is the default.

    Args:
        of: the dataclass of the kind's settings.
        stated: by name.

    Raises:
        CallerError: a setting is unknown or has a value that cannot be used.
    """
    if strange := sorted(set(stated) - {known.name for known in fields(of)}):
        raise CallerError(f"{of.__name__} has no {', '.join(strange)}")
    try:
        return TypeAdapter(of).validate_python(dict(stated))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CallerError(f"{of.__name__}, {first['loc'][0]}: {first['msg']}") from error


def bring_product(product: InputProduct, into: Path) -> Path:
    """A Level-1 product's folder on this machine: where it lies, or a copy from a bucket.

    Raises:
        SceneError: its folder holds nothing.
        WorldError: it is not there now: offline, or its store does not answer.
    """
    if product.state != "online":
        raise WorldError(
            f"{product.reference} is {product.state} at its archive: order it there; the next "
            "cbm-card sync takes it, and it is tried again"
        )
    if not product.href.startswith("s3://"):
        if not Path(product.href).is_dir():
            raise WorldError(f"{product.href} is not there: is the archive mounted?")
        return Path(product.href)
    folder = into / product.href.rstrip("/").rpartition("/")[2]
    prefix = f"{product.href.rstrip('/')}/"
    for found in objects.list_objects(product.href):
        objects.fetch_object(found.href, folder / found.href.removeprefix(prefix))
    if not folder.is_dir():
        raise SceneError(f"{product.href} holds no files")
    return folder


def bring_orbits(place: str | None, needed: Iterable[InputProduct], into: Path) -> Path | None:
    """A folder with the orbit files of products, if there are any: theirs, or a copy."""
    if not place:
        return None
    if not place.startswith("s3://"):
        return Path(place)
    for href in {href for product in needed for href in orbits_for(place, product)}:
        objects.fetch_object(href, into / href.rpartition("/")[2])
    return into if into.is_dir() else None


def _cpu_s() -> float:
    """Processor seconds of this process and of programs it ran."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
