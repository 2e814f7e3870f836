"""The year of a demo's campaign, and the parcel to plot: those with the most observations."""

from store import db
from store.kinds import KINDS
from store.parcels.campaigns import Campaign

_YEARS = """
    SELECT extract(year FROM obstime AT TIME ZONE 'UTC')::int AS year
    FROM public.scene GROUP BY 1 ORDER BY count(*) DESC, 1 DESC"""

# The parcel with red and near infrared on most days, a day counting as far as the parcel was seen
# (some products are valid in a part of it only); of equals the largest.
_BEST_OPTICAL = """
    SELECT p.code FROM (
        SELECT pid, sum(share) AS days FROM (
            SELECT s.pid, max(least(s.b04_count / s.px, 1)) AS share
            FROM {signatures} s JOIN public.scene c USING (obsid)
            WHERE s.campaign_id = %(campaign)s AND s.b04_count > 0
              AND (s.b08_count > 0 OR s.b8a_count > 0)
            GROUP BY s.pid, date_trunc('day', c.obstime)) day
        GROUP BY pid) seen
    JOIN {parcels} p ON p.campaign_id = %(campaign)s AND p.pid = seen.pid
    ORDER BY seen.days DESC, public.ST_Area(p.geom) DESC, p.code LIMIT 1"""

_BEST_RADAR = """
    SELECT p.code, seen.unit FROM (
        SELECT s.pid, count(*) AS dates, min(c.unit) AS unit
        FROM {signatures} s JOIN public.scene c USING (obsid)
        WHERE s.campaign_id = %(campaign)s AND greatest(s.vv_count, s.vh_count) > 0
        GROUP BY s.pid) seen
    JOIN {parcels} p ON p.campaign_id = %(campaign)s AND p.pid = seen.pid
    ORDER BY seen.dates DESC,
             EXISTS (SELECT FROM {coherence} o WHERE o.campaign_id = %(campaign)s
                     AND o.pid = seen.pid AND o.vv_count > 0) DESC,
             public.ST_Area(p.geom) DESC, p.code
    LIMIT 1"""


# Any parcel with a signature; signatures lie in order of the parcels.
_ANY = """
    SELECT p.code FROM {signatures} s
    JOIN {parcels} p ON p.campaign_id = s.campaign_id AND p.pid = s.pid
    WHERE s.campaign_id = %(campaign)s LIMIT 1"""

_FIRST = "SELECT code FROM {parcels} WHERE campaign_id = %s ORDER BY pid LIMIT 1"


def commonest_year(conn: db.Connection) -> int | None:
    """The year with most scenes of the catalogue; None if there is no scene."""
    row = db.fetch_one(conn, _YEARS)
    return int(row.year) if row else None


def best_optical(conn: db.Connection, campaign: Campaign) -> str | None:
    """Code of the parcel with red and near infrared on most days, of equals the largest."""
    row = _best(conn, campaign, _BEST_OPTICAL, "s2")
    return str(row[0]) if row else None


def best_radar(conn: db.Connection, campaign: Campaign) -> tuple[str, str] | None:
    """Code of the parcel with backscatter on most dates, of equals one with coherence; the unit."""
    row = _best(conn, campaign, _BEST_RADAR, "bs")
    return (str(row[0]), str(row[1])) if row else None


def any_extracted(conn: db.Connection, campaign: Campaign) -> tuple[str, str] | None:
    """Code of a parcel that has signatures, and their kind; None where no parcel has any."""
    rows = ((kind, _best(conn, campaign, _ANY, kind)) for kind in KINDS)
    return next(((str(row[0]), kind) for kind, row in rows if row), None)


def first(conn: db.Connection, campaign: Campaign) -> str:
    """Code of the first parcel."""
    statement = db.compose(_FIRST, parcels=(campaign.aoi, "parcels"))
    return str(db.fetch_one(conn, statement, (campaign.id,)).code)


def _best(
    conn: db.Connection, campaign: Campaign, statement: str, kind: str
) -> tuple[str, ...] | None:
    tables = {"signatures": kind, "parcels": "parcels", "coherence": "c12"}
    row: tuple[str, ...] | None = db.fetch_one(
        conn,
        db.compose(statement, **{name: (campaign.aoi, table) for name, table in tables.items()}),
        {"campaign": campaign.id},
    )
    return row
