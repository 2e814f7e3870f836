"""Prometheus metrics of the requests, added up over all worker processes.

Each gunicorn worker counts in files of its own in PROMETHEUS_MULTIPROC_DIR, which `cbm-api serve`
makes; the worker that is scraped adds them up. Without that folder a process counts for itself.
"""

import hmac
import os

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from pydantic import Field

from app.http.request import Request
from store.config import EnvironmentSettings

_REQUESTS = Counter("cbm_api_requests", "Requests answered.", ("route", "method", "status"))
_SECONDS = Histogram(
    "cbm_api_request_seconds",
    "From request to the last byte of the answer.",
    ("route",),
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60),
)
CONNECTIONS_IN_USE = Gauge(
    "cbm_api_connections_in_use", "Database connections that are lent.", multiprocess_mode="livesum"
)
ACCESS_LOG_WAITING = Gauge(
    "cbm_api_audit_rows_waiting",
    "Audit rows that are not yet written.",
    multiprocess_mode="livesum",
)
ACCESS_LOG_LOST = Counter("cbm_api_audit_rows_lost", "Audit rows that were given up.")

_METHODS = frozenset({"GET", "HEAD", "POST"})


def count_request(route: str, method: str, status: int, duration_s: float) -> None:
    """Count a request that is over.

    Args:
        route: path of the route with the names of its parameters; '' for none.
        method: of HTTP.
        status: of the response.
        duration_s: until its last byte, seconds.
    """
    label = method if method in _METHODS else "other"
    _REQUESTS.labels(route, label, int(status)).inc()
    _SECONDS.labels(route).observe(duration_s)


def exposition(collector: Collector) -> bytes:
    """All metrics in Prometheus' text format.

    Args:
        collector: a further source, read now.
    """
    further = CollectorRegistry()
    further.register(collector)
    return generate_latest(_request_registry()) + generate_latest(further)


def _request_registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class MetricsAccess(EnvironmentSettings):
    """Who may read the metrics.

    Attributes:
        metrics_token: to be sent as Bearer; None admits requests from the API's own host instead.
    """

    metrics_token: str | None = Field(None, repr=False)

    def admits(self, request: Request) -> bool:
        """Whether a request has the token, or, where none is set, comes from this host itself.

        A request that a proxy of this host passed on does not come from the host itself.
        """
        if self.metrics_token:
            credentials = (request.authorization or "").encode()
            return hmac.compare_digest(credentials, f"Bearer {self.metrics_token}".encode())
        proxied = request.header("X-Forwarded-For") or request.header("Forwarded")
        return request.remote in ("127.0.0.1", "::1") and not proxied
