"""The completeness ledger: what sources list, how far they were read, what of it is here."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

from store import db
from store.parcels.campaigns import Campaign

STATES = (
    "extracted",
    "waiting",
    "registered",
    "input",
    "dead",
    "missing",
    "offline",
    "absent",
    "unusable",
    "unlisted",
)
"""What may have become of an expected scene (store/sql/0010_find.sql), the good states first."""

GAPS = ("dead", "missing", "offline", "absent", "unusable", "unlisted")
"""States of scenes that a campaign should have and has not."""


@dataclass(frozen=True)
class Listing:
    """A product in a source's list.

    Attributes:
        source: name of the source.
        reference: the provider's product name without .SAFE.
        kind: CARD kind, or grd or slc.
        platform: S2A, S1C ...
        acquisition: equal for all products of one overpass.
        sensed_at: start of sensing, whole seconds, timezone-aware UTC.
        tile: MGRS tile (Sentinel-2).
        relative_orbit: relative orbit number, if known.
        baseline: processing baseline, '' if there is none.
        footprint_wkt: MULTIPOLYGON in EPSG:4326, if known.
        href: where the product lies, if known.
        size_bytes: of the product, if known.
        state: online, offline, absent or unusable.
        reason: why it cannot be used now.
    """

    source: str
    reference: str
    kind: str
    platform: str
    acquisition: str
    sensed_at: datetime
    tile: str | None = None
    relative_orbit: int | None = None
    baseline: str = ""
    footprint_wkt: str | None = None
    href: str | None = None
    size_bytes: int | None = None
    state: str = "online"
    reason: str | None = None


@dataclass(frozen=True)
class Area:
    """Where the parcels of a campaign lie.

    Attributes:
        bbox: west, south, east, north in degrees.
        digest: changes with the parcels.
    """

    bbox: tuple[float, float, float, float]
    digest: str


def campaign_area(conn: db.Connection, campaign: Campaign) -> Area | None:
    """The box around a campaign's parcels; None before its first import."""
    row = db.fetch_one(
        conn,
        "SELECT ST_XMin(box) AS west, ST_YMin(box) AS south, ST_XMax(box) AS east, "
        "ST_YMax(box) AS north, digest FROM (SELECT ST_Extent(extent) AS box, "
        "md5(string_agg(id || digest, ' ' ORDER BY id)) AS digest FROM parcel_set "
        "WHERE campaign_id = %s) AS sets WHERE box IS NOT NULL",
        (campaign.id,),
    )
    return row and Area((row.west, row.south, row.east, row.north), row.digest)


def meet_parcels(
    conn: db.Connection, campaign: Campaign, footprints: Sequence[str | None]
) -> list[bool]:
    """Whether each footprint holds a part of a parcel; unknown footprints (None) may.

    Args:
        conn: an open connection.
        campaign: whose parcels.
        footprints: MULTIPOLYGON in EPSG:4326 as WKT.
    """
    rows = db.fetch_all(
        conn,
        # Edges of footprints are straight in degrees: points on them keep them so in metres.
        db.compose(
            "SELECT f.wkt IS NULL OR EXISTS (SELECT FROM {parcels} AS p "
            "WHERE p.campaign_id = %(campaign)s AND ST_Intersects(p.geom, ST_Transform("
            "ST_Segmentize(ST_GeomFromText(f.wkt, 4326), 0.1), %(srid)s::integer))) AS met "
            "FROM unnest(%(footprints)s::text[]) WITH ORDINALITY AS f (wkt, n) ORDER BY n",
            parcels=(campaign.aoi, "parcels"),
        ),
        {"campaign": campaign.id, "srid": campaign.srid, "footprints": list(footprints)},
    )
    return [row.met for row in rows]


_DUE = """
    SELECT d::date AS day
    FROM generate_series(%(first)s::timestamp, %(last)s::timestamp, '1 day') AS d
    LEFT JOIN sync_day s ON s.campaign_id = %(campaign)s AND s.source = %(source)s
                        AND s.kind = %(kind)s AND s.day = d::date
    WHERE s.day IS NULL OR NOT s.complete OR s.area <> %(area)s
       OR now() - s.looked_at >= greatest((s.looked_at - d) / 10, interval '1 hour')
       OR EXISTS (SELECT FROM listed_product l
                  WHERE l.source = %(source)s AND l.kind = %(kind)s
                    AND l.state IN ('offline', 'absent')
                    AND l.sensed_at >= d AND l.sensed_at < d + interval '1 day')
    ORDER BY d"""


def due_days(
    conn: db.Connection, campaign: Campaign, source: str, kind: str, area: Area, today: date
) -> list[date]:
    """Days of sensing that a source is to be read for, the oldest first.

    Those that were never read or not to their end, those with products that were offline or
    absent, all when the parcels changed; and again all in time, as products come late and archives
    are reprocessed: a day that was n days old when it was read, n / 10 days later.
    """
    return [
        row.day
        for row in db.fetch_all(
            conn,
            _DUE,
            {
                "campaign": campaign.id,
                "source": source,
                "kind": kind,
                "area": area.digest,
                "first": campaign.start,
                "last": min(campaign.end, today),
            },
        )
    ]


def known_references(conn: db.Connection, references: Sequence[str]) -> set[str]:
    """Those products that are registered, as scenes or as inputs."""
    rows = db.fetch_all(
        conn,
        "SELECT reference FROM scene WHERE reference = ANY(%(all)s) UNION "
        "SELECT reference FROM input_product WHERE reference = ANY(%(all)s) AND state = 'online'",
        {"all": list(references)},
    )
    return {row.reference for row in rows}


_LIST = """
    INSERT INTO listed_product (source, reference, kind, platform, acquisition, sensed_at, tile,
        relative_orbit, baseline, footprint, href, size_bytes, state, reason)
    VALUES (%(source)s, %(reference)s, %(kind)s, %(platform)s, %(acquisition)s,
        date_trunc('second', %(sensed_at)s::timestamptz), %(tile)s, %(relative_orbit)s,
        %(baseline)s, ST_Multi(ST_GeomFromText(%(footprint_wkt)s, 4326)), %(href)s,
        %(size_bytes)s, %(state)s, %(reason)s)
    ON CONFLICT (source, reference) DO UPDATE SET
        kind = excluded.kind, footprint = coalesce(excluded.footprint, listed_product.footprint),
        relative_orbit = excluded.relative_orbit, href = excluded.href,
        size_bytes = excluded.size_bytes, state = excluded.state, reason = excluded.reason,
        seen_at = now()"""


def list_products(conn: db.Connection, listings: Iterable[Listing]) -> None:
    """Write down what a source lists, inside a transaction; idempotent."""
    for listing in sorted(listings, key=lambda listing: listing.reference):
        db.execute(conn, _LIST, asdict(listing))


def close_day(
    conn: db.Connection,
    campaign: Campaign,
    source: str,
    kind: str,
    day: date,
    area: Area,
    listings: Sequence[Listing],
    complete: bool,
) -> None:
    """Write down what a source lists of a day, and that it was read: one transaction."""
    with db.transaction(conn):
        list_products(conn, listings)
        db.execute(
            conn,
            "INSERT INTO sync_day (campaign_id, source, kind, day, area, listed, complete) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (campaign_id, source, kind, day) "
            "DO UPDATE SET area = excluded.area, listed = excluded.listed, "
            "complete = excluded.complete, looked_at = now()",
            (campaign.id, source, kind, day, area.digest, len(listings), complete),
        )


def gaps_by_month(conn: db.Connection, campaign_id: int, kind: str | None = None) -> list[Any]:
    """Rows (kind, month, place, expected, then one count for each of STATES), in that order.

    Place is the MGRS tile, or of Sentinel-1 the relative orbit such as R037.
    """
    counts = ", ".join(f"count(*) FILTER (WHERE state = '{s}') AS {s}" for s in STATES)
    return db.fetch_all(
        conn,
        "SELECT kind, to_char(day, 'YYYY-MM') AS month, "
        "coalesce(tile, 'R' || lpad(relative_orbit::text, 3, '0'), '') AS place, "
        f"count(*) AS expected, {counts} FROM cbm_expected(%(campaign)s::smallint) "
        "WHERE %(kind)s IS NULL OR kind = %(kind)s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        {"campaign": campaign_id, "kind": kind},
    )


def gap_products(conn: db.Connection, campaign: Campaign, kind: str | None = None) -> list[Any]:
    """Rows (kind, day, place, state, reference, reason) of scenes in one of the GAPS."""
    return db.fetch_all(
        conn,
        "SELECT kind, day, coalesce(tile, 'R' || lpad(relative_orbit::text, 3, '0'), '') AS place, "
        "state, reference, reason FROM cbm_expected(%(campaign)s::smallint) "
        "WHERE state = ANY(%(gaps)s) AND (%(kind)s IS NULL OR kind = %(kind)s) "
        "ORDER BY kind, day, place, reference",
        {"campaign": campaign.id, "kind": kind, "gaps": list(GAPS)},
    )
