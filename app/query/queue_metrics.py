"""Prometheus metrics of the extraction queue, read from the database at each scrape."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from store import db
from store.errors import DatabaseError

_log = logging.getLogger(__name__)

# The database's views of the queue (store/sql/0006), and which of their columns are labels.
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


class QueueMetrics(Collector):
    """The queue's gauges, and whether the database answers."""

    def __init__(self, pool: db.Pool) -> None:
        """Nothing is read yet."""
        self._pool = pool

    def collect(self) -> Iterable[Metric]:
        """Read the gauges; without the database only that it is away."""
        up = GaugeMetricFamily("cbm_database_up", "Whether the database answers the API.")
        try:
            with self._pool.connection() as conn:
                rows = {
                    view: db.fetch_all(conn, db.compose("SELECT * FROM {v}", v=f"figures_{view}"))
                    for view in _VIEWS
                }
        except DatabaseError as error:
            _log.warning("no metrics of the queue: %s", error)
            up.add_metric([], 0)
            return [up]
        up.add_metric([], 1)
        return [up, *(family for view in _VIEWS for family in _families(view, rows[view]))]


def _families(view: str, rows: Sequence[Any]) -> Iterator[Metric]:
    labels = [label for label in _LABELS if rows and label in rows[0]._fields]
    for column, help_text in _VIEWS[view].items():
        family = GaugeMetricFamily(f"cbm_{view}_{column}", help_text, labels=labels)
        for row in rows:
            family.add_metric([getattr(row, label) for label in labels], getattr(row, column))
        yield family
