"""Daily weather at a parcel: that of the nearest point of the grid."""

from datetime import date

from app.query.campaigns import CampaignView, compose
from app.query.columns import Columns, to_columns
from app.query.parcels import internal_pid
from store import db
from store.errors import NotFoundError

_MAX_DISTANCE_DEG = 0.5
"""A parcel farther from all points of the grid has no weather: ERA5's lie 0.25 apart."""

_CELL = """
    SELECT cell.id FROM {parcels} AS parcel, public.weather_cell AS cell
    WHERE parcel.campaign_id = %(campaign)s AND parcel.pid = %(pid)s
      AND ST_DWithin(cell.centre, ST_Transform(ST_Centroid(parcel.geom), 4326), %(distance)s)
    ORDER BY cell.centre <-> ST_Transform(ST_Centroid(parcel.geom), 4326) LIMIT 1"""

_DAYS = """
    SELECT day.day::text AS meteo_date, tmin_c, tmax_c, tmean_c, prec_mm
    FROM public.weather_day AS day, public.campaign AS campaign
    WHERE day.cell_id = %(cell)s AND campaign.id = %(campaign)s
      AND day.day BETWEEN coalesce(%(start)s::date, campaign.start_date)
                      AND coalesce(%(end)s::date, campaign.end_date)
    ORDER BY day.day"""


def fetch_weather(
    conn: db.Connection, campaign: CampaignView, code: str, start: date | None, end: date | None
) -> Columns:
    """The daily weather at a parcel.

    Args:
        conn: an open connection.
        campaign: of the parcel.
        code: the agency's parcel id.
        start: first day; None for the campaign's.
        end: last day, included; None for the campaign's.

    Returns:
        meteo_date (YYYY-MM-DD), tmin, tmax, tmean (degrees Celsius), prec (mm).

    Raises:
        NotFoundError: there is no such parcel, or no weather near it.
    """
    pid = internal_pid(conn, campaign, code)
    params = {"campaign": campaign.id, "pid": pid, "distance": _MAX_DISTANCE_DEG}
    cell = db.fetch_one(conn, compose(_CELL, campaign), params)
    if cell is None:
        raise NotFoundError(f"no weather is known within {_MAX_DISTANCE_DEG:g} degrees of {code!r}")
    days = {"campaign": campaign.id, "cell": cell.id, "start": start, "end": end}
    names = ["meteo_date", "tmin", "tmax", "tmean", "prec"]
    return to_columns(names, db.fetch_all(conn, _DAYS, days))
