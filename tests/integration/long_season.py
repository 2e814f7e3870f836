"""A season too long for the buffers between a client and the API."""

from store import db
from store.kinds import KINDS
from tests.integration.filled_api import EPOCH, SCENE, leaf

PARCELS, SCENES = range(100, 3100), range(10)

CODES = [f"n{pid}" for pid in PARCELS]


def fill_season(conn: db.Connection) -> None:
    """3000 parcels in ten scenes: 300,000 rows, too many for what lies between us and the API."""
    db.execute(
        conn,
        "INSERT INTO nl.parcels SELECT 1, pid, 1, 'n' || pid, 'Maize', '0259', geom, '' "
        "FROM generate_series(%s, %s) AS pid, "
        "(SELECT geom FROM nl.parcels WHERE campaign_id = 1 AND pid = 1) AS one",
        (PARCELS[0], PARCELS[-1]),
    )
    # Noise, so that no form can be packed into nothing.
    values = "90" + ", random()" * 7
    bands = ", ".join([values] * len(KINDS["s2"].band_names))
    for number in SCENES:
        at = EPOCH + number * 86400
        row = db.fetch_one(conn, SCENE, (f"LONG{number}", "s2", at, f"LONG{number}", "05.10"))
        leaf(conn, "s2", row.obsid)
        db.execute(
            conn,
            f"INSERT INTO nl.s2 SELECT 1, 0, pid, %s, 90, {bands} "
            "FROM generate_series(%s, %s) AS pid",
            (row.obsid, PARCELS[0], PARCELS[-1]),
        )
    db.execute(conn, "ANALYZE")
