"""The scene catalogue, and the queue of work on it.

The queue is a table beside the scenes, so that closing a piece of work is one transaction with its
signatures. Life of work on a scene: pending, claimed (with lease and fence), then done; back to
pending when released or failed; dead after too many failures or lost leases.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Any

from store import db
from store.errors import LostLeaseError, NotFoundError
from store.products import BANDS

SOFTWARE = f"cbm-appliance {version('cbm-appliance')}"
"""Written on every scene and piece of work: which software made the numbers."""


@dataclass(frozen=True)
class BandSource:
    """Where one band of a scene lies and what its values need.

    Attributes:
        href: absolute local path, s3://bucket/key, http(s):// or vrt:/// (see store.objects).
        index: 1-based band number in that file.
        offset: added once to every valid value, in the file's own unit (BOA_ADD_OFFSET for
            Sentinel-2; 0 where the provider applied it already).
        nodata: value that means "no data" besides NaN; None if there is none.
    """

    href: str
    index: int = 1
    offset: float = 0.0
    nodata: float | None = None


@dataclass(frozen=True)
class Scene:
    """One analysis-ready scene, as the catalogue keeps it.

    Attributes:
        reference: the provider's product name without .SAFE, unique.
        kind: CARD kind: s2, bs, c6 or c12.
        platform: S2A, S1C ...
        obstime: start of sensing, timezone-aware UTC.
        acquisition: equal for all scenes made of one overpass.
        unit: of the values once offset is added: dn, reflectance, gamma0_linear, sigma0_linear,
            gamma0_db, sigma0_db or coherence.
        epsg: CRS of the rasters, metres.
        footprint_wkt: MULTIPOLYGON in EPSG:4326.
        bands: by band name (B02 .. B12, SCL; VV, VH).
        scale: dn * scale = reflectance; None where values are physical.
        orbit_direction: ascending or descending, if known.
        relative_orbit: relative orbit number, if known.
        tile: MGRS tile such as 32TMT, if any.
        baseline: processing baseline such as 05.09, '' if unknown; compares as text.
        produced_at: when the product was made, if known.
        cloud_cover_pct: as the provider says it, if it does.
    """

    reference: str
    kind: str
    platform: str
    obstime: datetime
    acquisition: str
    unit: str
    epsg: int
    footprint_wkt: str
    bands: Mapping[str, BandSource] = field(default_factory=dict)
    scale: float | None = None
    orbit_direction: str | None = None
    relative_orbit: int | None = None
    tile: str | None = None
    baseline: str = ""
    produced_at: datetime | None = None
    cloud_cover_pct: float | None = None


@dataclass(frozen=True)
class Registered:
    """What registering did.

    Attributes:
        added: new scenes.
        changed: known ones whose description changed; where values would differ, their work is
            queued again.
        unchanged: known ones.
        queued: pieces of work added to the queue.
    """

    added: int
    changed: int
    unchanged: int
    queued: int


@dataclass(frozen=True)
class Claim:
    """A piece of work held by one worker: a scene for a parcel set.

    Attributes:
        obsid: the scene's key.
        set_id: the parcel set's key.
        fence: number of this claim; a later claim or a withdrawal has a higher one.
        campaign_id: the set's campaign.
        aoi: its aoi, the schema of its tables.
        buffer_m: its inward buffer, metres.
        unit: unit of its signatures of the scene's kind.
        digest: of the set's pids and geometries.
        rewrite: rows of an earlier run are there.
        scene: what to reduce.
    """

    obsid: int
    set_id: int
    fence: int
    campaign_id: int
    aoi: str
    buffer_m: float
    unit: str
    digest: str
    rewrite: bool
    scene: Scene


@dataclass(frozen=True)
class Done:
    """How a piece of work ended well.

    Attributes:
        signatures: parcels with rows.
        outside: parcels without a pixel on the raster.
        nodata: parcels on the raster without one valid pixel.
        absent: bands that the product lacks.
        cpu_s: processor seconds it took.
    """

    signatures: int
    outside: int
    nodata: int
    absent: tuple[str, ...]
    cpu_s: float


_SCENE_COLUMNS = (
    "reference",
    "kind",
    "platform",
    "obstime",
    "acquisition",
    "unit",
    "epsg",
    "scale",
    "orbit_direction",
    "relative_orbit",
    "tile",
    "baseline",
    "produced_at",
    "cloud_cover_pct",
)

_VALUES = (
    f"{', '.join(f'%({name})s' for name in _SCENE_COLUMNS)}, "
    "ST_Multi(ST_GeomFromText(%(footprint_wkt)s, 4326)), %(bands)s"
)

_KNOWN = f"""
    SELECT obsid, bands, unit, scale, absent,
           ({", ".join(_SCENE_COLUMNS)}, footprint, bands) IS DISTINCT FROM ({_VALUES}) AS differs
    FROM scene WHERE reference = %(reference)s"""

# Without a look before, an identity would be used up by every scene that is known already.
_INSERT = f"""
    INSERT INTO scene ({", ".join(_SCENE_COLUMNS)}, footprint, bands, absent, software)
    VALUES ({_VALUES}, %(absent)s, %(software)s)
    ON CONFLICT (reference) DO NOTHING"""

_UPDATE = f"""
    UPDATE scene SET ({", ".join(_SCENE_COLUMNS)}, footprint, bands, absent, software)
        = ROW ({_VALUES}, %(absent)s, %(software)s)
    WHERE reference = %(reference)s"""


def register(conn: db.Connection, scenes: Iterable[Scene]) -> Registered:
    """Put scenes into the catalogue and queue them for the campaigns they meet; idempotent.

    A known reference keeps its obsid. Where a new description changes values (bands, offsets,
    unit, scale, the place of a band that was not there), work that was done on the scene is
    queued again; so is dead work, by any change.

    Raises:
        DatabaseError: the database is away; nothing was registered.
    """
    done = {"added": 0, "changed": 0, "unchanged": 0}
    with db.transaction(conn):
        for scene in scenes:
            done[_store(conn, scene)] += 1
        queued = enqueue(conn)
    return Registered(**done, queued=queued)


def _store(conn: db.Connection, scene: Scene) -> str:
    """Insert or update a scene: "added", "changed" or "unchanged"."""
    row = _scene_row(scene)
    known = db.one(conn, _KNOWN, row)
    if known is None:
        if db.execute(conn, _INSERT, row):
            return "added"
        known = db.one(conn, _KNOWN, row)  # another registration was quicker
    if not known.differs:
        return "unchanged"
    # Work before scene, as a worker that finishes has them.
    db.rows(conn, "SELECT 1 FROM work WHERE obsid = %s ORDER BY set_id FOR UPDATE", (known.obsid,))
    db.execute(conn, _UPDATE, row)
    values_change = _meaning(known.bands, known.unit, known.scale, known.absent) != _meaning(
        row["bands"].adapted, scene.unit, scene.scale, known.absent
    )
    db.execute(
        conn,
        "UPDATE work SET state = 'pending', fence = fence + 1, failures = 0, lost_leases = 0, "
        "not_before = '-infinity', lease_until = NULL, reason = NULL, changed_at = now() "
        "WHERE obsid = %s AND (%s OR state = 'dead')",
        (known.obsid, values_change),
    )
    return "changed"


def enqueue(conn: db.Connection) -> int:
    """Queue every scene for every open campaign whose dates and parcels it meets."""
    return int(db.one(conn, "SELECT cbm_enqueue() AS added").added)


def claim(
    conn: db.Connection,
    holder: str,
    lease_s: float,
    max_lost_leases: int,
    reference: str | None = None,
) -> Claim | None:
    """Take the next piece of work: pending, or claimed by somebody whose lease ran out.

    Args:
        conn: autocommit connection.
        holder: who asks, for people to read.
        lease_s: seconds until the claim may be taken over, unless extended.
        max_lost_leases: lost leases after which work goes to dead letter.
        reference: only work on this scene.

    Returns:
        The claim, or None when nothing is to be had now.
    """
    params = {
        "holder": holder,
        "lease_s": lease_s,
        "max": max_lost_leases,
        "reference": reference,
        "software": SOFTWARE,
    }
    db.execute(conn, _BURY, params)
    key = db.one(conn, _CLAIM, params)
    # Read only now: whatever changes the scene or the parcels after the claim raises its fence.
    row = key and db.one(conn, _CLAIMED, key._asdict())
    if row is None:
        return None
    scene = Scene(
        **{name: getattr(row, name) for name in _SCENE_COLUMNS},
        footprint_wkt=row.footprint_wkt,
        bands={name: BandSource(**source) for name, source in row.bands.items()},
    )
    return Claim(
        row.obsid,
        row.set_id,
        key.fence,
        row.campaign_id,
        row.aoi,
        row.buffer_m,
        row.campaign_unit or scene.unit,
        row.digest,
        row.rewrite,
        scene,
    )


_BURY = """
    UPDATE work SET state = 'dead', changed_at = now(), lease_until = NULL,
           reason = format('the lease was lost %%s times, last by %%s: '
                           'the worker dies on it, or the lease is too short',
                           lost_leases + 1, holder)
    WHERE state = 'claimed' AND lease_until < now() AND lost_leases + 1 >= %(max)s"""

_CLAIM = """
    WITH next AS (
        SELECT w.obsid, w.set_id
        FROM work w
        JOIN scene s USING (obsid)
        WHERE w.state IN ('pending', 'claimed')
          AND (w.state = 'pending' AND w.not_before <= now() OR w.lease_until < now())
          AND (%(reference)s IS NULL OR s.reference = %(reference)s)
        ORDER BY w.obsid, w.set_id
        LIMIT 1
        FOR UPDATE OF w SKIP LOCKED
    )
    UPDATE work w SET
        state = 'claimed', fence = w.fence + 1, holder = %(holder)s, software = %(software)s,
        lease_until = now() + make_interval(secs => %(lease_s)s), changed_at = now(),
        lost_leases = w.lost_leases + (w.state = 'claimed')::int
    FROM next
    WHERE w.obsid = next.obsid AND w.set_id = next.set_id
    RETURNING w.obsid, w.set_id, w.fence"""

_CLAIMED = """
    SELECT s.*, ST_AsText(s.footprint) AS footprint_wkt, w.set_id, c.id AS campaign_id, c.aoi,
           c.buffer_m, c.units ->> s.kind AS campaign_unit, p.digest,
           w.signatures IS NOT NULL AS rewrite
    FROM work w
    JOIN scene s USING (obsid)
    JOIN parcel_set p ON p.id = w.set_id
    JOIN campaign c ON c.id = p.campaign_id
    WHERE w.obsid = %(obsid)s AND w.set_id = %(set_id)s AND w.fence = %(fence)s"""


def extend(conn: db.Connection, held: Claim, lease_s: float) -> bool:
    """Extend a lease (the heartbeat); False when it is no longer ours."""
    return (
        db.execute(
            conn,
            f"UPDATE work SET lease_until = now() + make_interval(secs => %(s)s) WHERE {_OURS}",
            _key(held) | {"s": lease_s},
        )
        == 1
    )


def hold(conn: db.Connection, held: Claim) -> None:
    """Lock the work row at the start of the writing transaction, if it is still ours.

    The first scene of a kind decides the unit of its campaign's signatures.

    Raises:
        LostLeaseError: somebody else claimed the work, or it was withdrawn; or another worker
            decided for another unit meanwhile.
    """
    _settle_unit(conn, held)  # campaign before work, as an import of parcels locks them
    if not db.rows(conn, f"SELECT FROM work WHERE {_OURS} FOR UPDATE", _key(held)):
        raise LostLeaseError(f"{held.scene.reference}: the claim was lost")


def _settle_unit(conn: db.Connection, held: Claim) -> None:
    kind = {"campaign": held.campaign_id, "kind": held.scene.kind, "unit": held.unit}
    db.execute(
        conn,
        "UPDATE campaign SET units = units || jsonb_build_object(%(kind)s, %(unit)s) "
        "WHERE id = %(campaign)s AND NOT units ? %(kind)s",
        kind,
    )
    found = "SELECT units ->> %(kind)s AS unit FROM campaign WHERE id = %(campaign)s"
    if db.one(conn, found, kind).unit != held.unit:
        raise LostLeaseError(f"{held.scene.reference}: its campaign's unit was set meanwhile")


def finish(conn: db.Connection, held: Claim, done: Done) -> None:
    """Mark the work done, inside the transaction that wrote its rows."""
    db.execute(
        conn,
        f"UPDATE work SET state = 'done', lease_until = NULL, reason = NULL, "
        "failures = 0, signatures = %(signatures)s, outside = %(outside)s, "
        "nodata = %(nodata)s, cpu_s = %(cpu_s)s, changed_at = now() "
        f"WHERE {_OURS}",
        _key(held) | asdict(done),
    )
    db.execute(
        conn,
        "UPDATE scene SET absent = %s WHERE obsid = %s AND absent IS DISTINCT FROM %s",
        (list(done.absent), held.obsid, list(done.absent)),
    )


def release(
    conn: db.Connection, held: Claim, reason: str | None = None, delay_s: float = 0.0
) -> None:
    """Give work back unfinished, without blame; others may claim it after delay_s."""
    db.execute(
        conn,
        f"UPDATE work SET state = 'pending', fence = fence + 1, lease_until = NULL, "
        "reason = %(reason)s, not_before = now() + make_interval(secs => %(delay)s), "
        f"changed_at = now() WHERE {_OURS}",
        _key(held) | {"reason": reason, "delay": delay_s},
    )


def put_off(conn: db.Connection, held: Claim, reason: str, max_times: int, delay_s: float) -> None:
    """Give work back that the world kept from being done; the pause doubles, up to 128 times.

    Counted with the lost leases: what the world refuses so often, such as one forbidden file
    among others, goes to dead letter.
    """
    db.execute(
        conn,
        "UPDATE work SET lost_leases = lost_leases + 1, fence = fence + 1, "
        "state = CASE WHEN lost_leases + 1 >= %(max)s THEN 'dead' ELSE 'pending' END, "
        "lease_until = NULL, reason = %(reason)s, changed_at = now(), "
        "not_before = now() + make_interval(secs => %(delay)s * 2 ^ least(lost_leases, 7)) "
        f"WHERE {_OURS}",
        _key(held) | {"reason": reason, "max": max_times, "delay": delay_s},
    )


def fail(
    conn: db.Connection, held: Claim, reason: str, max_failures: int, delay_s: float = 0.0
) -> None:
    """Count a failure; after max_failures the work goes to dead letter with its reason."""
    db.execute(
        conn,
        f"UPDATE work SET failures = failures + 1, fence = fence + 1, "
        "state = CASE WHEN failures + 1 >= %(max)s THEN 'dead' ELSE 'pending' END, "
        "lease_until = NULL, reason = %(reason)s, changed_at = now(), "
        f"not_before = now() + make_interval(secs => %(delay)s) WHERE {_OURS}",
        _key(held) | {"reason": reason, "max": max_failures, "delay": delay_s},
    )


_OURS = "obsid = %(obsid)s AND set_id = %(set_id)s AND fence = %(fence)s AND state = 'claimed'"


def _key(held: Claim) -> dict[str, Any]:
    return {"obsid": held.obsid, "set_id": held.set_id, "fence": held.fence}


def requeue(conn: db.Connection, state: str, reference: str | None = None) -> int:
    """Put dead ('dead') or stuck ('claimed') work back into the queue; returns how many.

    Raises:
        NotFoundError: the reference is not in the catalogue.
    """
    if reference and not db.one(conn, "SELECT 1 FROM scene WHERE reference = %s", (reference,)):
        raise NotFoundError(f"no scene {reference} in the catalogue")
    return db.execute(
        conn,
        "UPDATE work w SET state = 'pending', fence = fence + 1, failures = 0, "
        "lost_leases = 0, not_before = '-infinity', lease_until = NULL, "
        "changed_at = now() FROM scene s WHERE s.obsid = w.obsid "
        "AND w.state = %(state)s "
        "AND (%(reference)s IS NULL OR s.reference = %(reference)s)",
        {"state": state, "reference": reference},
    )


def progress(conn: db.Connection) -> list[Any]:
    """Rows (aoi, year, ptype, kind, month, state, scenes, signatures), in that order."""
    return db.rows(
        conn,
        """
        SELECT c.aoi, c.year, c.ptype, s.kind, to_char(s.obstime, 'YYYY-MM') AS month, w.state,
               count(*) AS scenes, coalesce(sum(w.signatures), 0)::bigint AS signatures
        FROM work w
        JOIN scene s USING (obsid)
        JOIN parcel_set p ON p.id = w.set_id
        JOIN campaign c ON c.id = p.campaign_id
        GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6""",
    )


def failures(conn: db.Connection) -> list[Any]:
    """Rows (reference, set_id, state, failures, lost_leases, reason) of work with a reason."""
    return db.rows(
        conn,
        """
        SELECT s.reference, w.set_id, w.state, w.failures, w.lost_leases, w.reason
        FROM work w JOIN scene s USING (obsid)
        WHERE w.reason IS NOT NULL ORDER BY w.state, s.reference, w.set_id""",
    )


def open_work(conn: db.Connection) -> int:
    """Pieces of work that are pending or claimed."""
    return int(
        db.one(
            conn,
            """
        SELECT count(*) AS n FROM work WHERE state IN ('pending', 'claimed')""",
        ).n
    )


def _bands_json(scene: Scene) -> dict[str, Any]:
    return {name: asdict(source) for name, source in scene.bands.items()}


def _scene_row(scene: Scene) -> dict[str, Any]:
    row = {name: getattr(scene, name) for name in _SCENE_COLUMNS}
    return row | {
        "footprint_wkt": scene.footprint_wkt,
        "bands": db.Json(_bands_json(scene)),
        "absent": [band for band in BANDS[scene.kind] if band not in scene.bands],
        "software": SOFTWARE,
    }


def _meaning(bands: dict[str, Any], unit: str, scale: float | None, absent: Sequence[str]) -> Any:
    """What decides a scene's values: not where files lie, but for those that were not there."""
    sources = {
        name: (s["index"], s["offset"], s["nodata"], s["href"] if name in absent else None)
        for name, s in bands.items()
    }
    return sources, unit, scale
