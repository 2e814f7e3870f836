"""The queue of work on scenes: claims, leases, results, dead letters.

The queue is a table beside the scenes, so that closing a piece of work is one transaction with its
signatures. Life of work on a scene: pending, claimed (with lease and fence), then done; back to
pending when released or failed; dead after too many failures or lost leases. Registering scenes
queues their work: store.catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from store import db, leases
from store.catalogue import PUT_BACK, SCENE_COLUMNS, SOFTWARE, BandSource, Scene
from store.errors import LostLeaseError, NotFoundError

ClaimOrder = Literal["new-first", "oldest-first"]
"""Which scene is claimed next: those never extracted before those that are again, or as they were
registered, whatever their work."""

_BURY = leases.bury_sql("work")

_OPEN = """
    w.state IN ('pending', 'claimed')
    AND (w.state = 'pending' AND w.not_before <= now() OR w.lease_until < now())"""

# The scene is locked first, so that no other worker takes, or locks, another part of its work.
_CLAIM_IN_ORDER = """
    WITH next AS (
        SELECT w.obsid
        FROM work w
        JOIN scene s USING (obsid)
        WHERE {open} AND (%(reference)s IS NULL OR s.reference = %(reference)s)
        ORDER BY {order}
        LIMIT 1
        FOR NO KEY UPDATE OF s, w SKIP LOCKED
    ), pieces AS (
        SELECT w.obsid, w.set_id
        FROM work w
        WHERE w.obsid = (SELECT obsid FROM next) AND {open}
        FOR NO KEY UPDATE OF w SKIP LOCKED
    )
    UPDATE work w SET
        state = 'claimed', fence = w.fence + 1, holder = %(holder)s, software = %(software)s,
        lease_until = now() + make_interval(secs => %(lease_s)s), changed_at = now(),
        lost_leases = w.lost_leases + (w.state = 'claimed')::int
    FROM pieces
    WHERE w.obsid = pieces.obsid AND w.set_id = pieces.set_id
    RETURNING w.obsid, w.set_id, w.fence"""

_CLAIM: Mapping[ClaimOrder, str] = {
    "new-first": _CLAIM_IN_ORDER.format(open=_OPEN, order="w.again, w.obsid, w.set_id"),
    "oldest-first": _CLAIM_IN_ORDER.format(open=_OPEN, order="w.obsid, w.set_id"),
}

_CLAIMED = """
    SELECT s.*, ST_AsText(s.footprint) AS footprint_wkt, w.set_id, c.id AS campaign_id, c.aoi,
           c.buffer_m, c.units ->> s.kind AS campaign_unit, p.digest, p.parcels,
           w.signatures IS NOT NULL AS rewrite, w.failures
    FROM work w
    JOIN scene s USING (obsid)
    JOIN parcel_set p ON p.id = w.set_id
    JOIN campaign c ON c.id = p.campaign_id
    WHERE w.obsid = %(obsid)s
      AND (w.set_id, w.fence) IN (SELECT * FROM unnest(%(sets)s::int[], %(fences)s::int[]))
    ORDER BY w.set_id"""

_OURS = """
    obsid = %(obsid)s AND state = 'claimed'
    AND (set_id, fence) IN (SELECT * FROM unnest(%(sets)s::int[], %(fences)s::int[]))"""

_RENEW = f"""
    UPDATE work SET lease_until = now() + make_interval(secs => %(lease_s)s) WHERE {_OURS}
    RETURNING set_id"""

_STILL_OURS = f"SELECT set_id FROM work WHERE {_OURS}"

_LOCK_CLAIMS = f"{_STILL_OURS} ORDER BY set_id FOR UPDATE"

_SET_UNIT = """
    UPDATE campaign SET units = units || jsonb_build_object(%(kind)s, %(unit)s)
    WHERE id = %(campaign)s AND NOT units ? %(kind)s"""

_UNIT = "SELECT units ->> %(kind)s AS unit FROM campaign WHERE id = %(campaign)s"

_FINISH = f"""
    UPDATE work SET
        state = 'done', lease_until = NULL, reason = %(reason)s, failures = 0,
        signatures = %(signatures)s, outside = %(outside)s, nodata = %(nodata)s,
        cpu_s = %(cpu_s)s, changed_at = now()
    WHERE {_OURS}"""

_LOCK_SCENE = "SELECT FROM scene WHERE obsid = %(obsid)s FOR NO KEY UPDATE"

# Bands whose files others did without stay listed until that work is done again (requeue_found).
_SET_ABSENT = """
    UPDATE scene s SET absent = now.absent
    FROM (SELECT %(absent)s::text[] || ARRAY(
              SELECT name FROM scene k, unnest(k.absent) AS name
              WHERE k.obsid = %(obsid)s AND k.bands ? name AND name <> ALL (%(absent)s::text[])
                AND EXISTS (SELECT FROM work w WHERE w.obsid = k.obsid AND w.state = 'done'
                            AND w.reason IS NOT NULL)) AS absent) AS now
    WHERE s.obsid = %(obsid)s AND s.absent IS DISTINCT FROM now.absent"""

_NOTE_READING = """
    UPDATE scene SET tile_parts = %(tile_parts)s, thinning_flaw = %(flaw)s
    WHERE obsid = %(obsid)s"""

_RELEASE = leases.release_sql("work", _OURS)

_POSTPONE = leases.postpone_sql("work", _OURS)

_FAIL = leases.fail_sql("work", _OURS)

_REQUEUE = f"""
    UPDATE work w SET {PUT_BACK}
    FROM scene s
    WHERE s.obsid = w.obsid AND w.state = %(state)s
      AND (%(reference)s IS NULL OR s.reference = %(reference)s)"""

_PROGRESS = """
    SELECT c.aoi, c.year, c.ptype, s.kind, to_char(s.obstime, 'YYYY-MM') AS month, w.state,
           count(*) AS scenes, coalesce(sum(w.signatures), 0)::bigint AS signatures
    FROM work w
    JOIN scene s USING (obsid)
    JOIN parcel_set p ON p.id = w.set_id
    JOIN campaign c ON c.id = p.campaign_id
    GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"""

_CAMPAIGN_PROGRESS = """
    SELECT count(*) FILTER (WHERE w.state IN ('done', 'dead')) AS ended, count(*) AS pieces,
           count(DISTINCT w.obsid) AS scenes, coalesce(sum(w.signatures), 0) AS signatures,
           count(DISTINCT w.obsid) FILTER (WHERE w.state = 'dead') AS failed,
           min(w.reason) FILTER (WHERE w.state = 'dead') AS reason
    FROM work w JOIN parcel_set p ON p.id = w.set_id
    WHERE p.campaign_id = %s"""

_FAILURES = """
    SELECT s.reference, w.set_id, w.state, w.failures, w.lost_leases, w.reason
    FROM work w JOIN scene s USING (obsid)
    WHERE w.reason IS NOT NULL ORDER BY w.state, s.reference, w.set_id"""

_OPEN_WORK = "SELECT count(*) AS n FROM work WHERE state IN ('pending', 'claimed')"

_CHOSEN = """
    state = 'done' AND (%(references)s::text[] IS NULL OR obsid IN
    (SELECT obsid FROM scene WHERE reference = ANY(%(references)s)))"""

_REDO = f"UPDATE work SET {PUT_BACK} WHERE {_CHOSEN}"

_COUNT_REDO = f"SELECT count(*) AS n FROM work WHERE {_CHOSEN}"

_KNOWN_REFERENCES = "SELECT reference FROM scene WHERE reference = ANY(%s)"

_STATES = """
    SELECT DISTINCT w.state FROM work w JOIN scene s USING (obsid)
    WHERE s.reference = %s ORDER BY w.state"""


@dataclass(frozen=True)
class Claim:
    """A piece of work held by one worker: a scene for a parcel set.

    A worker holds all the open work on a scene at once; each piece has a fence of its own.

    Attributes:
        obsid: the scene's key.
        set_id: the parcel set's key.
        fence: number of this claim; a later claim or a withdrawal has a higher one.
        campaign_id: the set's campaign.
        aoi: its aoi, the schema of its tables.
        buffer_m: its inward buffer, metres.
        unit: unit of its signatures of the scene's kind.
        digest: of the set's pids and geometries.
        parcels: of the set.
        rewrite: rows of an earlier run are there.
        failures: of earlier tries.
        scene: what to reduce.
        tile_parts: as an earlier run noted them (see note_reading).
        thinning_flaw: why the scene is to be read whole, if it is.
    """

    obsid: int
    set_id: int
    fence: int
    campaign_id: int
    aoi: str
    buffer_m: float
    unit: str
    digest: str
    parcels: int
    rewrite: bool
    failures: int
    scene: Scene
    tile_parts: Mapping[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    thinning_flaw: str | None = None


class SceneClaims(tuple[Claim, ...]):
    """The claims on one scene, in the order of sets."""

    def __str__(self) -> str:
        """For logs."""
        sets = ",".join(str(claimed.set_id) for claimed in self)
        return f"{self[0].scene.reference}:{sets}"


@dataclass(frozen=True)
class WorkResult:
    """The result of a finished piece of work.

    Attributes:
        signatures: parcels with rows.
        outside: parcels without a pixel on the raster.
        nodata: parcels on the raster without one valid pixel.
        absent: bands that the product lacks.
        cpu_s: processor seconds it took.
        reason: what is missing, if anything is.
    """

    signatures: int
    outside: int
    nodata: int
    absent: tuple[str, ...]
    cpu_s: float
    reason: str | None = None


@dataclass(frozen=True)
class CampaignProgress:
    """How far the work on a campaign's scenes is.

    Attributes:
        ended: pieces of work that are done or dead.
        pieces: all pieces of work; a scene has one for each parcel set.
        scenes: scenes that meet the campaign's dates and parcels.
        signatures: (parcel, scene) rows written.
        failed: scenes with dead work.
        reason: why one of them failed.
    """

    ended: int
    pieces: int
    scenes: int
    signatures: int
    failed: int
    reason: str | None


def claim(
    conn: db.Connection,
    holder: str,
    lease_s: float,
    max_lost_leases: int,
    reference: str | None = None,
    order: ClaimOrder = "new-first",
) -> SceneClaims:
    """Take the next scene with all its open work: pending, or claimed under a lease that ran out.

    Args:
        conn: autocommit connection.
        holder: name of the worker, for people to read.
        lease_s: seconds until the claims may be taken over, unless extended.
        max_lost_leases: lost leases after which work goes to dead letter.
        reference: only work on this scene.
        order: which scene is the next one.

    Returns:
        A claim for each parcel set, in the order of sets; none when there is no work now.
    """
    params = {
        "holder": holder,
        "lease_s": lease_s,
        "max": max_lost_leases,
        "reference": reference,
        "software": SOFTWARE,
    }
    db.execute(conn, _BURY, params)
    taken = db.fetch_all(conn, _CLAIM[order], params)
    if not taken:
        return SceneClaims()
    # Read only now: every change of the scene or the parcels after the claim raises its fence.
    return _read_claims(conn, taken[0].obsid, {row.set_id: row.fence for row in taken})


def _read_claims(conn: db.Connection, obsid: int, fences: Mapping[int, int]) -> SceneClaims:
    """The claims on a scene by set and fence, as far as they still hold."""
    params = {"obsid": obsid, "sets": list(fences), "fences": list(fences.values())}
    rows = db.fetch_all(conn, _CLAIMED, params)
    if not rows:
        return SceneClaims()
    scene = Scene(
        **{name: getattr(rows[0], name) for name in SCENE_COLUMNS},
        footprint_wkt=rows[0].footprint_wkt,
        bands={name: BandSource.from_json(source) for name, source in rows[0].bands.items()},
    )
    return SceneClaims(
        Claim(
            row.obsid,
            row.set_id,
            fences[row.set_id],
            row.campaign_id,
            row.aoi,
            row.buffer_m,
            row.campaign_unit or scene.unit,
            row.digest,
            row.parcels,
            row.rewrite,
            row.failures,
            scene,
            row.tile_parts or {},
            row.thinning_flaw,
        )
        for row in rows
    )


def renew_leases(conn: db.Connection, held: Sequence[Claim], lease_s: float) -> list[Claim]:
    """Extend the leases of a scene's claims (the heartbeat); those of them that are still ours."""
    return _still(held, db.fetch_all(conn, _RENEW, _keys(held) | {"lease_s": lease_s}))


def lock_claims(conn: db.Connection, held: Sequence[Claim]) -> list[Claim]:
    """Lock a scene's work rows at the start of the writing transaction; those still ours.

    The first scene of a kind decides the unit of its campaign's signatures.

    Raises:
        LostLeaseError: none is: others claimed the work, or it was withdrawn; or another worker
            decided for another unit meanwhile.
    """
    own = _still(held, db.fetch_all(conn, _STILL_OURS, _keys(held)))
    # Campaign before work, as an import of parcels locks them; campaigns in one order.
    of_campaign = {claimed.campaign_id: claimed for claimed in own}
    for campaign in sorted(of_campaign):
        _set_unit(conn, of_campaign[campaign])
    own = _still(own, db.fetch_all(conn, _LOCK_CLAIMS, _keys(own))) if own else []
    if not own:
        raise LostLeaseError(f"{held[0].scene.reference}: the claim was lost")
    return own


def _still(held: Sequence[Claim], rows: Sequence[Any]) -> list[Claim]:
    sets = {row.set_id for row in rows}
    return [claimed for claimed in held if claimed.set_id in sets]


def _set_unit(conn: db.Connection, held: Claim) -> None:
    kind = {"campaign": held.campaign_id, "kind": held.scene.kind, "unit": held.unit}
    db.execute(conn, _SET_UNIT, kind)
    row = db.fetch_one(conn, _UNIT, kind)
    if row is not None and row.unit != held.unit:  # without a campaign the claim is gone too
        raise LostLeaseError(f"{held.scene.reference}: its campaign's unit was set meanwhile")


def finish(conn: db.Connection, held: Claim, done: WorkResult) -> None:
    """Mark a piece of work done, inside the transaction that wrote its rows."""
    db.execute(conn, _FINISH, _keys([held]) | asdict(done))
    scene = {"obsid": held.obsid, "absent": list(done.absent)}
    for statement in (_LOCK_SCENE, _SET_ABSENT):
        db.execute(conn, statement, scene)


def note_reading(
    conn: db.Connection,
    held: Claim,
    tile_parts: Mapping[str, Sequence[Sequence[int]]],
    thinning_flaw: str | None,
) -> None:
    """Keep with a scene where the tiles of its files lie, and why it is read whole, if it is."""
    if (tile_parts, thinning_flaw) == (held.tile_parts, held.thinning_flaw):
        return
    parts = db.Json(tile_parts) if tile_parts else None
    params = {"obsid": held.obsid, "tile_parts": parts, "flaw": thinning_flaw}
    db.execute(conn, _NOTE_READING, params)


def release(
    conn: db.Connection, held: Sequence[Claim], reason: str | None = None, delay_s: float = 0.0
) -> None:
    """Give a scene's work back unfinished, without blame; others may claim it after delay_s."""
    db.execute(conn, _RELEASE, _keys(held) | {"reason": reason, "delay_s": delay_s})


def postpone(
    conn: db.Connection, held: Sequence[Claim], reason: str, max_times: int, delay_s: float
) -> None:
    """Give work back after a fault of the world; the pause doubles, up to 128 times.

    Counted with the lost leases: work that the world prevents again and again, such as by one
    forbidden file among others, goes to dead letter.
    """
    params = _keys(held) | {"reason": reason, "max": max_times, "delay_s": delay_s}
    db.execute(conn, _POSTPONE, params)


def fail(
    conn: db.Connection,
    held: Sequence[Claim],
    reason: str,
    max_failures: int,
    delay_s: float = 0.0,
) -> None:
    """Count a failure; after max_failures the work goes to dead letter with its reason."""
    params = _keys(held) | {"reason": reason, "max": max_failures, "delay_s": delay_s}
    db.execute(conn, _FAIL, params)


def _keys(held: Sequence[Claim]) -> dict[str, Any]:
    return {
        "obsid": held[0].obsid,
        "sets": [claimed.set_id for claimed in held],
        "fences": [claimed.fence for claimed in held],
    }


def requeue(conn: db.Connection, state: str, reference: str | None = None) -> int:
    """Put dead ('dead') or stuck ('claimed') work back into the queue; the number of pieces.

    Raises:
        NotFoundError: the reference is not in the catalogue.
    """
    _refuse_unknown(conn, [reference] if reference else [])
    return db.execute(conn, _REQUEUE, {"state": state, "reference": reference})


def redo(conn: db.Connection, references: Sequence[str] | None, *, dry_run: bool = False) -> int:
    """Put done work back into the queue; returns how many pieces.

    Args:
        conn: an open connection.
        references: of which scenes; None for all.
        dry_run: only count.

    Raises:
        NotFoundError: a reference is not in the catalogue.
    """
    params = {"references": None if references is None else list(references)}
    _refuse_unknown(conn, references or ())
    if dry_run:
        return int(db.fetch_one(conn, _COUNT_REDO, params).n)
    return db.execute(conn, _REDO, params)


def _refuse_unknown(conn: db.Connection, references: Sequence[str]) -> None:
    rows = db.fetch_all(conn, _KNOWN_REFERENCES, (list(references),))
    if unknown := sorted(set(references) - {row.reference for row in rows}):
        raise NotFoundError(f"no scene {', '.join(unknown)} in the catalogue")


def progress(conn: db.Connection) -> list[Any]:
    """Rows (aoi, year, ptype, kind, month, state, scenes, signatures), in that order."""
    return db.fetch_all(conn, _PROGRESS)


def campaign_progress(conn: db.Connection, campaign_id: int) -> CampaignProgress:
    """How far the work on one campaign is."""
    row = db.fetch_one(conn, _CAMPAIGN_PROGRESS, (campaign_id,))
    return CampaignProgress(**row._asdict())


def failures(conn: db.Connection) -> list[Any]:
    """Rows (reference, set_id, state, failures, lost_leases, reason) of work with a reason."""
    return db.fetch_all(conn, _FAILURES)


def open_work(conn: db.Connection) -> int:
    """Pieces of work that are pending or claimed."""
    return int(db.fetch_one(conn, _OPEN_WORK).n)


def states(conn: db.Connection, reference: str) -> list[str]:
    """States of the work on a scene; none where there is no work, or no such scene."""
    return [row.state for row in db.fetch_all(conn, _STATES, (reference,))]
