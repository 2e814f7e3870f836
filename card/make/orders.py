"""CARD made on demand by the Copernicus Data Space: place an order, look after it, fetch it.

The On-Demand Production API: workflows, and production orders with a name of ours, by which an
order is found again whatever became of the process that placed it.
"""

import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from card.find.odata import parse_time
from card.find.sources import find_source, sign_in_of_cdse
from card.find.transport import ArchiveRequest, Transport
from card.make.engine import Progress
from store import products
from store.errors import CallerError, ConfigError, ProductNameError, SceneError, WorldError
from store.kinds import CARD_BS, COHERENCE_DAYS
from store.products import Product
from store.worker import NotReadyError

PRODUCT_TYPES = {"bs": CARD_BS} | {kind: f"CARD-COH{n}" for kind, n in COHERENCE_DAYS.items()}
"""What the archive calls the kinds; a workflow says which it gives."""

_LOOK_EVERY_S = 600.0
_QUOTA_PAUSE_S = 3600.0
_QUOTA_WORDS = ("quota", "too many", "limit")
_ENDED_BADLY = ("failed", "cancelled", "canceled")
_MOST_BYTES = 20 << 30


@dataclass(frozen=True)
class ArchiveJob:
    """A product that the archive is to make.

    Attributes:
        kind: bs, c1d, c6 or c12.
        references: the Level-1 products, all of which are ordered; of a pair the later one first.
        queued_at: orders that failed before do not count.
        into: folder in which the product becomes a folder of its own.
    """

    kind: str
    references: tuple[str, ...]
    queued_at: datetime
    into: Path

    @property
    def name(self) -> str:
        """Of the order, equal for equal products."""
        digest = hashlib.sha256("+".join(self.references).encode()).hexdigest()[:8]
        return f"cbm {self.kind} {self.references[0]} {digest}"

    @property
    def inputs(self) -> str:
        """Names of the Level-1 products, in the one text that an order has for them."""
        return ",".join(f"{reference}.SAFE" for reference in self.references)


@dataclass(frozen=True)
class ArchiveOrders:
    """The orders of an account.

    Attributes:
        url: address above ProductionOrders.
        transport: signs in.
    """

    url: str
    transport: Transport

    @classmethod
    def from_env(cls) -> "ArchiveOrders":
        """Of the source cdse-odata and the account of CBM_CDSE_USER.

        Raises:
            ConfigError: account or address are not set.
        """
        source = find_source("cdse-odata")
        if not source.orders:
            raise ConfigError(f"the source {source.name} has no address for orders")
        return cls(source.orders.rstrip("/"), Transport(sign_in=sign_in_of_cdse()))

    def make(self, job: ArchiveJob, progress: Progress) -> Path:
        """The folder of a product that was ordered and is there.

        Raises:
            NotReadyError: it is ordered now, or not made yet, or the account's quota is used up.
            SceneError: the archive could not make it, or delivers something else.
            ConfigError: the archive refuses the account, or does not make this kind.
            WorldError: the archive does not answer.
        """
        progress(0, 1)
        order = self._find(job)
        if order is None:
            raise NotReadyError(f"ordered: {self._place(job)}", _LOOK_EVERY_S)
        status = str(order.get("Status")).lower()
        key, words = str(order.get("Id")), str(order.get("StatusMessage") or status)
        if status in _ENDED_BADLY:
            raise SceneError(f"order {key} at the archive {status}: {words}")
        if status != "completed":
            raise NotReadyError(f"order {key} at the archive: {words}", _LOOK_EVERY_S)
        archive = job.into / "order.zip"
        request = ArchiveRequest(f"{self.url}/ProductionOrder({_checked(key)})/Product/$value")
        self.transport.get_file(request, archive, _MOST_BYTES)
        folder = _unpack(archive, job)
        progress(1, 1)
        return folder

    def _find(self, job: ArchiveJob) -> Mapping[str, Any] | None:
        """Our order of a product: one that is alive or complete, else the last that failed."""
        wanted = {"$filter": f"Name eq '{job.name}'", "$top": 100}
        entries = self._list(ArchiveRequest(f"{self.url}/ProductionOrders", wanted))
        ours = [entry for entry in entries if entry.get("Name") == job.name]
        good = [one for one in ours if str(one.get("Status")).lower() not in _ENDED_BADLY]
        bad = [one for one in ours if one not in good and _placed_at(one, job) >= job.queued_at]
        return max(good or bad, key=lambda one: _placed_at(one, job), default=None)

    def _list(self, request: ArchiveRequest) -> list[Mapping[str, Any]]:
        page = self.transport.get_json(request)
        entries = page.get("value") if isinstance(page, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise WorldError(f"{request.url} does not answer as OData: no value in it")
        return entries

    def _place(self, job: ArchiveJob) -> str:
        """Place an order, once; its id."""
        body = {
            "WorkflowName": self._workflow(job.kind),
            "InputProductReference": {"Reference": job.inputs},
            "Priority": 1,
            "Name": job.name,
        }
        request = ArchiveRequest(f"{self.url}/ProductionOrder/OData.CSC.Order", body=body)
        try:
            # Not again by itself: whether a stumbling server took it is seen at the next look.
            answer = replace(self.transport, attempts=1).get_json(request)
        except (CallerError, WorldError) as error:
            if any(word in str(error).lower() for word in _QUOTA_WORDS):
                raise NotReadyError(f"not ordered yet: {error}", _QUOTA_PAUSE_S) from error
            raise
        placed = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(placed, dict) or "Id" not in placed:
            raise WorldError(f"{self.url} does not answer an order with its id")
        return str(placed["Id"])

    def _workflow(self, kind: str) -> str:
        """The workflow that gives a kind, as the archive offers them to this account."""
        offered = self._list(ArchiveRequest(f"{self.url}/Workflows"))
        for workflow in offered:
            if workflow.get("OutputProductType") == PRODUCT_TYPES[kind]:
                return str(workflow.get("Name"))
        names = ", ".join(sorted(str(one.get("OutputProductType")) for one in offered)) or "nothing"
        raise ConfigError(
            f"{self.url} makes no {PRODUCT_TYPES[kind]} for this account; it makes {names}"
        )


def _placed_at(order: Mapping[str, Any], job: ArchiveJob) -> datetime:
    return parse_time(order.get("SubmissionDate")) or job.queued_at


def _checked(key: str) -> str:
    """An order's id, which becomes a part of an address."""
    if not key.replace("-", "").isalnum() or not key.isascii():
        raise WorldError(f"the archive gave an order the id {key!r}")
    return key


def _unpack(archive: Path, job: ArchiveJob) -> Path:
    """The product's folder, of the archive's zip."""
    unpacked = job.into / "unpacked"
    try:
        with zipfile.ZipFile(archive) as file:
            _refuse_strange(file)
            file.extractall(unpacked)
    except (zipfile.BadZipFile, EOFError) as error:
        raise WorldError(f"the archive's delivery is no whole zip file: {error}") from error
    archive.unlink()
    inner = list(unpacked.iterdir())
    top = inner[0] if len(inner) == 1 and inner[0].is_dir() else unpacked
    folder = job.into / _name(top.name, job)
    top.rename(folder)
    shutil.rmtree(unpacked, ignore_errors=True)
    return folder


def _refuse_strange(file: zipfile.ZipFile) -> None:
    paths = [PurePosixPath(entry.filename) for entry in file.infolist()]
    if any(path.is_absolute() or ".." in path.parts for path in paths):
        raise SceneError("the archive's delivery has files that lead out of its folder")
    if sum(entry.file_size for entry in file.infolist()) > _MOST_BYTES:
        raise SceneError(f"the archive's delivery unpacks to more than {_MOST_BYTES >> 30} GB")


def _name(delivered: str, job: ArchiveJob) -> str:
    """The product's name: as delivered, if it is one of a CARD product.

    Raises:
        SceneError: it is none, or that of another pair.
    """
    try:
        found = products.find(delivered)
    except ProductNameError:
        found = None
    if found and (job.kind == "bs" or _is_of_pair(found, job)):
        return delivered.removesuffix(".SAFE")
    if found:
        raise SceneError(
            f"the archive delivers {delivered}, which is of another pair than {job.inputs}"
        )
    if job.kind == "bs":
        return f"{job.references[0]}_CARD_BS"
    raise SceneError(f"the archive delivers {delivered!r}, which is no name of a product")


def _is_of_pair(found: Product, job: ArchiveJob) -> bool:
    """Whether coherence is of the days that were ordered; archives may cut slices otherwise."""
    days = {f"{products.parse(each).sensing_start:%Y%m%d}" for each in job.references}
    return {f"{found.sensing_start:%Y%m%d}", found.discriminator[:8]} == days
