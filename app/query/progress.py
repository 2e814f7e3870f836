"""Facts for the pages: campaigns, the progress of their extraction, what the appliance costs."""

from collections.abc import Sequence
from typing import Any

from app.access.users import User
from app.query.campaigns import CampaignView
from app.query.parcels import fetch_example_codes
from app.query.tiles import MAX_ZOOM, MIN_ZOOM
from store import db

_MAX_REASONS = 50
_DAYS = 30

_EXTENTS = """
    SELECT c.id, c.units, c.start_date, c.end_date,
           coalesce(sum(p.parcels), 0) AS parcels,
           min(ST_XMin(p.extent)) AS west, min(ST_YMin(p.extent)) AS south,
           max(ST_XMax(p.extent)) AS east, max(ST_YMax(p.extent)) AS north
    FROM public.campaign AS c
    LEFT JOIN public.parcel_set AS p ON p.campaign_id = c.id
    WHERE c.id = ANY(%s)
    GROUP BY c.id"""

_WORK = """
    FROM public.work AS w
    JOIN public.parcel_set AS p ON p.id = w.set_id
    JOIN public.scene AS s USING (obsid)
    WHERE p.campaign_id = %(campaign)s"""

_MONTHS = f"""
    SELECT to_char(date_trunc('month', s.obstime), 'YYYY-MM-DD') AS month, w.state,
           count(*) AS scenes, coalesce(sum(w.signatures), 0) AS signatures,
           min(w.changed_at) AS oldest,
           count(*) FILTER (WHERE w.state IN ('pending', 'claimed') AND w.failures > 0) AS retried
    {_WORK} GROUP BY 1, 2 ORDER BY 1"""

_ROWS_BY_DAY = f"""
    SELECT day::date::text AS day, coalesce(sum(done.signatures), 0) AS rows
    FROM generate_series(current_date - %(days)s + 1, current_date, '1 day') AS day
    LEFT JOIN (SELECT w.changed_at, w.signatures {_WORK} AND w.state = 'done') AS done
      ON done.changed_at >= day AND done.changed_at < day + interval '1 day'
    GROUP BY 1 ORDER BY 1"""

_FAILURES = f"""
    SELECT coalesce(w.reason, 'no reason was written down') AS reason, count(*) AS scenes,
           max(s.reference) AS reference
    {_WORK} AND w.state = 'dead' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT %(limit)s"""

_COST = "SELECT at, ledger FROM public.cost_ledger ORDER BY at DESC LIMIT 1"


def fetch_overview(conn: db.Connection, campaigns: Sequence[CampaignView]) -> list[dict[str, Any]]:
    """Campaigns as the parcel page needs them: units of series, bounds in degrees, examples."""
    extents = {row.id: row for row in db.fetch_all(conn, _EXTENTS, ([c.id for c in campaigns],))}
    return [_overview(conn, campaign, extents[campaign.id]) for campaign in campaigns]


def _overview(conn: db.Connection, campaign: CampaignView, row: Any) -> dict[str, Any]:
    bounds = [row.west, row.south, row.east, row.north]
    return {
        **_name(campaign),
        "units": row.units,
        "start": row.start_date.isoformat(),
        "end": row.end_date.isoformat(),
        "parcels": int(row.parcels),
        "bounds": None if row.west is None else bounds,
        "min_zoom": MIN_ZOOM,
        "max_zoom": MAX_ZOOM,
        "examples": fetch_example_codes(conn, campaign, 3),
    }


def fetch_progress(conn: db.Connection, user: User, campaign: CampaignView) -> dict[str, Any]:
    """The progress of a campaign's extraction.

    Returns:
        Scenes by state per month of acquisition, rows in all and per day (UTC), since when the
        oldest waits, how many are tried again, and failures by reason (for operators only, since
        reasons contain the scenes' paths; None for others).
    """
    params = {"campaign": campaign.id, "days": _DAYS, "limit": _MAX_REASONS}
    months = db.fetch_all(conn, _MONTHS, params)
    waiting = [row.oldest for row in months if row.state == "pending"]
    days = db.fetch_all(conn, _ROWS_BY_DAY, params)
    failures = db.fetch_all(conn, _FAILURES, params) if campaign.aoi in user.operated else None
    return {
        **_name(campaign),
        "months": _by_month(months),
        "days": [{"day": row.day, "rows": int(row.rows)} for row in days],
        "signatures": sum(int(row.signatures) for row in months),
        "oldest": min(waiting).isoformat() if waiting else None,
        "retried": sum(row.retried for row in months),
        "failures": None if failures is None else [row._asdict() for row in failures],
    }


def fetch_cost(conn: db.Connection, user: User) -> dict[str, Any] | None:
    """The cost ledger that was published last, and when.

    Returns:
        None if none was published, and for all but operators (of any aoi: the cost is not by aoi).
    """
    row = db.fetch_one(conn, _COST) if user.operated else None
    return None if row is None else {"at": row.at.isoformat(), **row.ledger}


def _by_month(rows: Sequence[Any]) -> list[dict[str, Any]]:
    months: dict[str, dict[str, Any]] = {}
    for row in rows:
        months.setdefault(row.month, {"month": row.month})[row.state] = row.scenes
    return list(months.values())


def _name(campaign: CampaignView) -> dict[str, Any]:
    return {"aoi": campaign.aoi, "year": campaign.year, "ptype": campaign.ptype}
