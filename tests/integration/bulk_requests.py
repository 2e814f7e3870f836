"""Parcels, an area and weather for bulk requests."""

from pyproj import Transformer

from store import db

TO_DEGREES = Transformer.from_crs(28992, 4326, always_xy=True).transform


def jrc(west: float, south: float, east: float, north: float) -> str:
    """A box in RD New in the JRC's notation."""
    corners = [(west, south), (east, south), (east, north), (west, north)]
    return "-".join("{:.7f}_{:.7f}".format(*TO_DEGREES(*corner)) for corner in corners)


ALL_FOUR = jrc(149_000, 449_000, 153_000, 451_000)

CODES = ["007", "008", "it's; DROP TABLE nl.parcels; --", "never seen"]


def put_weather(conn: db.Connection) -> None:
    """Three days, one before the campaign, at three points; the mean is the point's longitude."""
    db.execute(conn, "DELETE FROM weather_cell")
    db.execute(
        conn,
        "INSERT INTO weather_cell (centre) SELECT ST_SetSRID(ST_MakePoint(x, 52), 4326) "
        "FROM unnest(ARRAY[5.0, 5.25, 5.5]) AS x",
    )
    db.execute(
        conn,
        "INSERT INTO weather_day SELECT id, day, 8.5, 19.25, ST_X(centre), NULL FROM weather_cell, "
        "unnest(ARRAY['2023-09-30', '2024-05-01', '2024-05-02']::date[]) AS day",
    )
