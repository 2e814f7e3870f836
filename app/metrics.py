"""Figures for Prometheus: of the requests, of all worker processes together; and of the queue.

Each gunicorn worker counts in files of its own in PROMETHEUS_MULTIPROC_DIR, which `cbm-api serve`
makes; whichever worker is asked adds them up. Without that folder a process counts for itself.
"""

import hmac
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
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

# Open and dead work have indexes of their own; what is done is not counted: it only grows.
_QUEUE = """
    SELECT c.aoi, w.state, count(*) AS pieces,
           extract(epoch FROM now() - min(w.changed_at))::float AS oldest_s
    FROM public.work w
    JOIN public.parcel_set p ON p.id = w.set_id
    JOIN public.campaign c ON c.id = p.campaign_id AND c.state = 'open'
    WHERE w.state IN ('pending', 'claimed') OR w.state = 'dead'
    GROUP BY 1, 2"""


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
                found = db.rows(conn, _QUEUE)
        except DatabaseError as error:
            _log.warning("no figures of the queue: %s", error)
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        return [up, *_families(found)]


def _families(found: Iterable[Any]) -> tuple[Metric, Metric]:
    pieces = GaugeMetricFamily(
        "cbm_work", "Scenes to extract, of open campaigns, by state.", labels=("aoi", "state")
    )
    oldest = GaugeMetricFamily(
        "cbm_work_oldest_seconds",
        "How long the oldest of them has been in its state.",
        labels=("aoi", "state"),
    )
    for row in found:
        pieces.add_metric([row.aoi, row.state], row.pieces)
        oldest.add_metric([row.aoi, row.state], row.oldest_s)
    return pieces, oldest
