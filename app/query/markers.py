"""Markers of a parcel."""

from app.query.campaigns import CampaignView
from app.query.columns import Columns, to_columns
from app.query.parcels import internal_pid
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


def fetch_markers(conn: db.Connection, campaign: CampaignView, code: str) -> Columns:
    """The markers of a parcel by date; columns as the JRC's.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    internal_pid(conn, campaign, code)
    return to_columns(_NAMES, db.fetch_all(conn, _MARKERS, (campaign.id, code)))
