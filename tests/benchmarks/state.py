"""A Member State in a database: its campaign, its parcels, scenes to extract."""

import itertools
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extraction.worker import Worker
from store import catalogue, db, queue
from store.catalogue import BandSource, Scene
from store.config import WorkerSettings
from store.parcels import campaigns
from store.parcels.campaigns import Campaign
from store.parcels.importing import import_parcels
from store.queue import Claim
from tests.benchmarks.server import Server

AOI, YEAR = "bench", 2024

_FIRST = datetime(2024, 1, 1, 10, 30, tzinfo=UTC)
_EUROPE = "MULTIPOLYGON(((-20 30, 40 30, 40 72, -20 72, -20 30)))"
_LEASE_S = 600.0


@dataclass
class State:
    """A database with one campaign.

    Attributes:
        home: the server it is on.
        name: of the database.
        campaign: the only one.
    """

    home: Server
    name: str
    campaign: Campaign
    _serial: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    def fresh(cls, home: Server, name: str) -> "State":
        """Make a new database, with an empty campaign."""
        home.fresh(name)
        with closing(home.connect(name)) as conn:
            return cls(home, name, campaigns.create(conn, AOI, YEAR))

    @property
    def env(self) -> dict[str, str]:
        """libpq's variables."""
        return self.home.env(self.name)

    def connect(self, application: str = "bench") -> db.Connection:
        """Connect as superuser."""
        return db.connect(application, db.dsn(self.env))

    def import_parcels(self, file: Path) -> NDArray[np.int32]:
        """Import a parcel file as an agency would; the pids."""
        with closing(self.connect()) as conn:
            import_parcels(
                conn,
                self.campaign,
                file,
                id_column="code",
                crop_column="crop",
                crop_code_column="crop_code",
            )
            rows = db.fetch_all(
                conn, db.compose("SELECT pid FROM {parcels} ORDER BY pid", parcels=(AOI, "parcels"))
            )
        return np.array([row.pid for row in rows], np.int32)

    def register(self, kind: str, epsg: int, bands: Mapping[str, BandSource]) -> str:
        """Put one more scene of these files into the catalogue; its reference."""
        number = next(self._serial)
        reference = f"{self.name}-{kind}-{number}"
        scene = Scene(
            reference=reference,
            kind=kind,
            platform="S2A" if kind == "s2" else "S1A",
            obstime=_FIRST + timedelta(days=number),
            acquisition=reference,
            unit="dn" if kind == "s2" else "gamma0_linear",
            epsg=epsg,
            footprint_wkt=_EUROPE,
            bands=bands,
        )
        with closing(self.connect()) as conn:
            catalogue.register(conn, [scene])
        return reference

    def claim(self, conn: db.Connection, reference: str) -> Claim:
        """Claim a registered scene's work, as a worker does."""
        held = queue.claim(conn, "bench", _LEASE_S, 20, reference)
        if len(held) != 1:
            raise RuntimeError(f"{reference} has work for {len(held)} parcel sets, not one")
        return held[0]

    def worker(self, cache: Path) -> Worker:
        """A worker with one thread, as a swarm would run several of."""
        settings = WorkerSettings.from_env(
            {"CBM_CACHE_DIR": str(cache), "CBM_THREADS": "1", "CBM_LEASE_S": str(_LEASE_S)}
        )
        return Worker(settings, self.connect)

    def extract(self, worker: Worker, reference: str) -> None:
        """Let a worker do the work on one scene."""
        if worker.work_on(reference) != 1:
            raise RuntimeError(f"{reference} was not extracted")
