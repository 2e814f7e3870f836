"""Parcel sets: what a campaign's parcels are extracted by; described by their parcels, and merged.

Each import that brings new parcels makes a set, so that only they are extracted for the scenes
that are there. Once that is done the set has served its purpose.
"""

from collections.abc import Sequence

from store import db
from store.parcels.campaigns import Campaign

_DESCRIBE_SETS = """
    INSERT INTO public.parcel_set (id, campaign_id, digest, parcels, extent)
    OVERRIDING SYSTEM VALUE
    SELECT d.set_id, %(campaign)s, d.digest, d.parcels,
           ST_Transform(ST_Segmentize(d.box, ST_Perimeter(d.box) / 128), 4326)
    FROM (SELECT set_id, count(*) AS parcels,
                 encode(sha256(string_agg(int4send(pid) || geom_sha, ''::bytea ORDER BY pid)),
                        'hex') AS digest,
                 ST_SetSRID(ST_Extent(geom)::geometry, %(srid)s) AS box
          FROM {parcels} WHERE campaign_id = %(campaign)s AND set_id = ANY(%(sets)s)
          GROUP BY set_id) d
    ON CONFLICT (id) DO UPDATE
    SET digest = excluded.digest, parcels = excluded.parcels, extent = excluded.extent"""

_DROP_EMPTY_SETS = """
    DELETE FROM public.parcel_set c
    WHERE c.id = ANY(%(sets)s) AND NOT EXISTS (
        SELECT FROM {parcels} WHERE campaign_id = %(campaign)s AND set_id = c.id)"""

_LOCK_SETS = "SELECT FROM public.parcel_set WHERE campaign_id = %s ORDER BY id FOR UPDATE"

_QUIET_SETS = """
    SELECT p.id FROM public.parcel_set p
    WHERE p.campaign_id = %s AND NOT EXISTS (
        SELECT FROM public.work w WHERE w.set_id = p.id AND w.state IN ('pending', 'claimed'))
    ORDER BY p.parcels DESC, p.id"""

_LOCK_WORK = """
    SELECT set_id, state FROM public.work WHERE set_id = ANY(%s)
    ORDER BY obsid, set_id FOR UPDATE"""

_MOVE_PARCELS = """
    UPDATE {parcels} SET set_id = %(kept)s
    WHERE campaign_id = %(campaign)s AND set_id = ANY(%(gone)s)"""

# A scene that a set does not meet has no work for it: the set's parcels are outside.
_MERGED_WORK = """
    CREATE TEMP TABLE merged_work (LIKE public.work) ON COMMIT DROP;
    INSERT INTO pg_temp.merged_work (obsid, set_id, state, fence, holder, not_before, failures,
        lost_leases, reason, signatures, outside, nodata, cpu_s, software, changed_at, again)
    SELECT w.obsid, %(kept)s, CASE WHEN bool_or(w.state = 'dead') THEN 'dead' ELSE 'done' END,
           max(w.fence) + 1, max(w.holder), '-infinity', max(w.failures), max(w.lost_leases),
           max(w.reason), sum(w.signatures),
           sum(w.outside) + (SELECT sum(parcels) FROM public.parcel_set WHERE id = ANY(%(sets)s))
               - sum(p.parcels),
           sum(w.nodata), sum(w.cpu_s), max(w.software), max(w.changed_at), true
    FROM public.work w
    JOIN public.parcel_set p ON p.id = w.set_id
    WHERE w.set_id = ANY(%(sets)s)
    GROUP BY w.obsid"""


def describe(conn: db.Connection, campaign: Campaign, sets: Sequence[int], srid: int) -> None:
    """Bring the rows of these sets in line with their parcels; a set without any goes."""
    params = {"campaign": campaign.id, "sets": list(sets), "srid": srid}
    for statement in (_DESCRIBE_SETS, _DROP_EMPTY_SETS):
        db.execute(conn, db.compose(statement, parcels=(campaign.aoi, "parcels")), params)


def merge(conn: db.Connection, campaign: Campaign, srid: int) -> dict[int, int]:
    """Merge a campaign's sets that have no open work into the largest of them.

    Nothing is extracted again: signatures belong to parcels, and the work of the merged set says
    of each scene what its parts report.

    Args:
        conn: a connection of the owner role, within a transaction that holds the campaign.
        campaign: whose sets.
        srid: of its parcels.

    Returns:
        The set that took each set that is gone.
    """
    kept, *gone = _mergeable(conn, campaign) or [0]
    if not gone:
        return {}
    sets = [kept, *gone]
    db.execute(
        conn,
        db.compose(_MOVE_PARCELS, parcels=(campaign.aoi, "parcels")),
        {"campaign": campaign.id, "kept": kept, "gone": gone},
    )
    db.execute(conn, _MERGED_WORK, {"kept": kept, "sets": sets})
    db.execute(conn, "DELETE FROM public.work WHERE set_id = ANY(%s)", (sets,))
    db.execute(conn, "INSERT INTO public.work SELECT * FROM pg_temp.merged_work")
    db.execute(conn, "DROP TABLE pg_temp.merged_work")
    describe(conn, campaign, sets, srid)
    return dict.fromkeys(gone, kept)


def _mergeable(conn: db.Connection, campaign: Campaign) -> list[int]:
    """Sets whose work is all done or dead, the largest first; they and their work are locked."""
    db.execute(conn, _LOCK_SETS, (campaign.id,))
    sets = [row.id for row in db.fetch_all(conn, _QUIET_SETS, (campaign.id,))]
    # Dead work may be put back into the queue meanwhile.
    states = db.fetch_all(conn, _LOCK_WORK, (sets,))
    opened = {row.set_id for row in states if row.state in {"pending", "claimed"}}
    return [each for each in sets if each not in opened]
