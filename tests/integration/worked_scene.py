"""Parcels of one small scene, and a worker that runs until nothing is left."""

import os

from extraction.worker import Worker
from store import catalogue, db
from store.config import WorkerSettings
from tests.integration.small_state import (
    square,
)

PARCELS = [
    square(0, 0, 4),
    square(10, 10, 6),
    square(12, 12, 6),  # overlaps the one before
    square(95, 95, 10),  # half off the raster
    square(300, 300),  # off the raster, within the footprint of the set
    square(40, 40, 30),
]


def work(until_idle=True):
    return Worker(WorkerSettings.from_env(os.environ)).work(until_idle)


def table(conn, name="s2"):
    return db.fetch_all(conn, f"SELECT * FROM tt.{name} ORDER BY obsid, pid")


def split(conn, pids, campaign=1):
    """Put some parcels into a set of their own, queued for every scene."""
    set_id = db.fetch_one(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "SELECT %s, md5(random()::text), %s, extent FROM parcel_set LIMIT 1 RETURNING id",
        (campaign, len(pids)),
    ).id
    db.execute(
        conn,
        "UPDATE tt.parcels SET set_id = %s WHERE campaign_id = %s AND pid = ANY(%s)",
        (set_id, campaign, list(pids)),
    )
    db.execute(conn, "UPDATE parcel_set SET digest = md5(random()::text) WHERE id <> %s", (set_id,))
    catalogue.enqueue(conn)
    return set_id
