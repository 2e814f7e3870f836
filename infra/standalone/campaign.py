"""What the database says of the demo's campaign, read as the analyst."""

from dataclasses import dataclass

from infra.standalone.database import Database

_YEARS = """
    SELECT extract(year FROM obstime AT TIME ZONE 'UTC')::int AS year
    FROM public.scene GROUP BY 1 ORDER BY count(*) DESC, 1 DESC"""

_FIND = """
    SELECT id FROM public.campaign WHERE aoi = :'aoi' AND year = :year AND ptype = ''"""

_PARCELS = """SELECT count(*) AS parcels FROM :"aoi".parcels WHERE campaign_id = :campaign"""

_PROGRESS = """
    SELECT count(*) FILTER (WHERE w.state IN ('done', 'dead')) AS ended, count(*) AS pieces,
           count(DISTINCT w.obsid) AS scenes, coalesce(sum(w.signatures), 0) AS signatures,
           count(DISTINCT w.obsid) FILTER (WHERE w.state = 'dead') AS failed,
           min(w.reason) FILTER (WHERE w.state = 'dead') AS reason
    FROM public.work w JOIN public.parcel_set p ON p.id = w.set_id
    WHERE p.campaign_id = :campaign"""

# The parcel with red and near infrared on most days, a day counting as far as the parcel was seen
# (some products are valid in a part of it only); of equals the largest.
_BEST_OPTICAL = """
    SELECT p.code FROM (
        SELECT pid, sum(share) AS days FROM (
            SELECT s.pid, max(least(s.b04_count / s.px, 1)) AS share
            FROM :"aoi".s2 s JOIN public.scene c USING (obsid)
            WHERE s.campaign_id = :campaign AND s.b04_count > 0
              AND (s.b08_count > 0 OR s.b8a_count > 0)
            GROUP BY s.pid, date_trunc('day', c.obstime)) day
        GROUP BY pid) seen
    JOIN :"aoi".parcels p ON p.campaign_id = :campaign AND p.pid = seen.pid
    ORDER BY seen.days DESC, public.ST_Area(p.geom) DESC, p.code LIMIT 1"""

_BEST_RADAR = """
    SELECT p.code, seen.unit FROM (
        SELECT s.pid, count(*) AS dates, min(c.unit) AS unit
        FROM :"aoi".bs s JOIN public.scene c USING (obsid)
        WHERE s.campaign_id = :campaign AND greatest(s.vv_count, s.vh_count) > 0
        GROUP BY s.pid) seen
    JOIN :"aoi".parcels p ON p.campaign_id = :campaign AND p.pid = seen.pid
    ORDER BY seen.dates DESC, public.ST_Area(p.geom) DESC, p.code LIMIT 1"""


@dataclass(frozen=True)
class Campaign:
    """The campaign the demo's parcels and scenes belong to.

    Attributes:
        aoi: code of the Member State or region.
        year: year of the declaration.
        id: its key in the database.
    """

    aoi: str
    year: int
    id: int


@dataclass(frozen=True)
class Progress:
    """How far the campaign's scenes are.

    Attributes:
        ended: pieces of work that are done or given up.
        pieces: all pieces of work; a scene has one for each parcel set.
        scenes: scenes that meet the campaign's dates and parcels.
        signatures: (parcel, scene) rows written.
        failed: scenes given up.
        reason: why one of them was.
    """

    ended: int
    pieces: int
    scenes: int
    signatures: int
    failed: int
    reason: str | None


def commonest_year(database: Database) -> int | None:
    """The year most scenes of the catalogue were taken in; None if there is no scene."""
    years = database.rows(_YEARS)
    return int(years[0]["year"]) if years else None


def find(database: Database, aoi: str, year: int) -> Campaign | None:
    """The campaign of an aoi and year, or None."""
    found = database.rows(_FIND, aoi=aoi, year=year)
    return Campaign(aoi, year, found[0]["id"]) if found else None


def progress(database: Database, of: Campaign) -> Progress:
    """How far the campaign's scenes are."""
    return Progress(**database.rows(_PROGRESS, campaign=of.id)[0])


def parcels(database: Database, of: Campaign) -> int:
    """The number of its parcels."""
    return int(database.rows(_PARCELS, aoi=of.aoi, campaign=of.id)[0]["parcels"])


def best_optical(database: Database, of: Campaign) -> str | None:
    """Code of the parcel with red and near infrared on most days, of equals the largest."""
    found = database.rows(_BEST_OPTICAL, aoi=of.aoi, campaign=of.id)
    return str(found[0]["code"]) if found else None


def best_radar(database: Database, of: Campaign) -> tuple[str, str] | None:
    """Code of the parcel with Sentinel-1 on most dates, of equals the largest; and the unit."""
    found = database.rows(_BEST_RADAR, aoi=of.aoi, campaign=of.id)
    return (str(found[0]["code"]), str(found[0]["unit"])) if found else None
