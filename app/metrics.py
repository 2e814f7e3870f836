"""Figures for Prometheus: of the requests, of all worker processes together; and of the queue.

Each gunicorn worker counts in files of its own in PROMETHEUS_MULTIPROC_DIR, which `cbm-api serve`
makes; whichever worker is asked adds them up. Without that folder a process counts for itself.
"""

import hmac
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.request import Request
from store import db
from store.errors import DatabaseError

_log = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_REQUESTS = Counter("cbm_api_requests", "Requests answered.", ("route", "method", "status"))
_SECONDS = Histogram(
    "cbm_api_request_seconds",
    "From request to the last byte of the answer.",
    ("route",),
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60),
)
_IN_USE = Gauge(
    "cbm_api_connections_in_use",
    "Database connections that are lent.",
    multiprocess_mode="livesum",
)
AUDIT_WAITING = Gauge(
    "cbm_api_audit_rows_waiting",
    "Audit rows that are not yet written.",
    multiprocess_mode="livesum",
)
AUDIT_LOST = Counter("cbm_api_audit_rows_lost", "Audit rows that were given up.")

_METHODS = frozenset({"GET", "HEAD", "POST"})

# What the database tells of the queue (store/sql/0006): a view each, and which columns name a row.
_LABELS = ("aoi", "campaign", "state")
_VIEWS = {
    "work": {
        "pieces": "Scenes to extract, each once per parcel set, by state.",
        "oldest_seconds": "How long the oldest of them has been in its state.",
        "overdue_seconds": "How long a worker's lease has run out, with nobody taking over.",
    },
    "done": {
        "pieces": "Scenes extracted in the last 24 hours, each once per parcel set.",
        "signatures": "Signatures they brought.",
        "idle_seconds": "Since the last of them; a day at most.",
    },
}


def count(route: str, method: str, status: int, took_s: float) -> None:
    """Count a request that is over.

    Args:
        route: path of the route, without what parameters put into it; '' for none.
        method: of HTTP.
        status: of the reply.
        took_s: until its last byte, seconds.
    """
    known = method if method in _METHODS else "other"
    _REQUESTS.labels(route, known, int(status)).inc()
    _SECONDS.labels(route).observe(took_s)


class Pool(db.Pool):
    """A pool of connections that counts those lent."""

    @contextmanager
    def connection(self) -> Iterator[db.Connection]:
        """Borrow a connection for a block; as db.Pool."""
        with super().connection() as conn, _IN_USE.track_inprogress():
            yield conn


def exposition(pool: db.Pool) -> bytes:
    """All figures in Prometheus' text format; those of the queue only if the database answers."""
    queue = CollectorRegistry()
    queue.register(_Queue(pool))
    return generate_latest(_requests()) + generate_latest(queue)


@dataclass(frozen=True)
class Readers:
    """Who may see the figures.

    Attributes:
        token: whoever sends this one as Bearer (CBM_METRICS_TOKEN); None: whoever asks from the
            API's own host.
    """

    token: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read the setting."""
        return cls(env.get("CBM_METRICS_TOKEN") or None)

    def close(self) -> None:
        """Nothing is held."""


def may_read(request: Request, token: str | None) -> bool:
    """Whether a request may see the figures.

    Args:
        request: with `Authorization: Bearer <token>`; or, where no token is set, sent from this
            host itself, and not on somebody's behalf by a proxy on it.
        token: what CBM_METRICS_TOKEN says.
    """
    if token:
        given = (request.authorization or "").encode()
        return hmac.compare_digest(given, f"Bearer {token}".encode())
    proxied = request.header("X-Forwarded-For") or request.header("Forwarded")
    return request.remote in ("127.0.0.1", "::1") and not proxied


def _requests() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class _Queue(Collector):
    """What waits for extraction, asked for when the figures are."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        """Ask the database."""
        up = GaugeMetricFamily("cbm_database_up", "Whether the database answers the API.")
        try:
            with self._pool.connection() as conn:
                found = {
                    view: db.rows(conn, db.compose("SELECT * FROM {v}", v=f"figures_{view}"))
                    for view in _VIEWS
                }
        except DatabaseError as error:
            _log.warning("no figures of the queue: %s", error)
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        return [up, *(family for view in _VIEWS for family in _families(view, found[view]))]


def _families(view: str, rows: Sequence[Any]) -> Iterator[Metric]:
    labels = [label for label in _LABELS if rows and label in rows[0]._fields]
    for column, meaning in _VIEWS[view].items():
        family = GaugeMetricFamily(f"cbm_{view}_{column}", meaning, labels=labels)
        for row in rows:
            family.add_metric([getattr(row, label) for label in labels], getattr(row, column))
        yield family
