"""Markers of a parcel."""

from app.campaigns import Campaign
from app.columns import Columns, columns
from app.parcels import internal_pid
from store import db

_NAMES = (
    "foi_id", "marker", "marker_type", "date_start", "date_main", "date_end", "duration_days",
    "value_1", "value_2", "value_3", "pid", "practice",
)  # fmt: skip

_MARKERS = """
    SELECT code AS foi_id, marker, marker_type, date_start::text, date_main::text, date_end::text,
           date_end - date_start AS duration_days, value_1, value_2, value_3, code AS pid, practice
    FROM public.marker WHERE campaign_id = %s AND code = %s
    ORDER BY date_start, marker, marker_type"""


def markers(conn: db.Connection, campaign: Campaign, code: str) -> Columns:
    """What markers found out about a parcel, by date; columns as the JRC's.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    internal_pid(conn, campaign, code)
    return columns(_NAMES, db.rows(conn, _MARKERS, (campaign.id, code)))
