"""The scene catalogue, and the queue of work on it.

The queue is a table beside the scenes, so that closing a piece of work is one transaction with its
signatures. Life of work on a scene: pending, claimed (with lease and fence), then done; back to
pending when released or failed; dead after too many failures or lost leases.
"""

from collections.abc import Iterable, Mapping
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

_UPSERT = f"""
    INSERT INTO scene AS known ({", ".join(_SCENE_COLUMNS)}, footprint, bands, absent, software)
    VALUES ({", ".join(f"%({name})s" for name in _SCENE_COLUMNS)},
            ST_Multi(ST_GeomFromText(%(footprint_wkt)s, 4326)), %(bands)s, %(absent)s, %(software)s)
    ON CONFLICT (reference) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _SCENE_COLUMNS[1:])},
        footprint = excluded.footprint, bands = excluded.bands, absent = excluded.absent,
        software = excluded.software
    WHERE ({", ".join(f"known.{name}" for name in _SCENE_COLUMNS)}, known.bands)
        IS DISTINCT FROM
          ({", ".join(f"excluded.{name}" for name in _SCENE_COLUMNS)}, excluded.bands)
    RETURNING obsid, xmax = 0 AS added"""


def register(conn: db.Connection, scenes: Iterable[Scene]) -> Registered:
    """Put scenes into the catalogue and queue them for the campaigns they meet; idempotent.

    A known reference keeps its obsid. Where a new description changes values (bands, offsets,
    unit, scale), work that was done on the scene is queued again.

    Raises:
        DatabaseError: the database is away; nothing was registered.
    """
    added = changed = unchanged = 0
    with db.transaction(conn):
        for scene in scenes:
            before = db.one(
                conn,
                "SELECT bands, unit, scale FROM scene WHERE reference = %s",
                (scene.reference,),
            )
            row = db.one(conn, _UPSERT, _scene_row(scene))
            if row is None:
                unchanged += 1
            elif row.added:
                added += 1
            else:
                changed += 1
                if _meaning(before.bands, before.unit, before.scale) != _meaning(
                    _bands_json(scene), scene.unit, scene.scale
                ):
                    db.execute(
                        conn,
                        "UPDATE work SET state = 'pending', fence = fence + 1, "
                        "failures = 0, not_before = '-infinity', reason = NULL "
                        "WHERE obsid = %s",
                        (row.obsid,),
                    )
        queued = enqueue(conn)
    return Registered(added, changed, unchanged, queued)


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
    row = db.one(conn, _CLAIM, params)
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
        row.fence,
        row.campaign_id,
        row.aoi,
        row.buffer_m,
        _unit(conn, row.campaign_id, scene),
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
        JOIN parcel_set p ON p.id = w.set_id
        JOIN campaign c ON c.id = p.campaign_id AND c.state = 'open'
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
    FROM next, scene s, parcel_set p, campaign c
    WHERE w.obsid = next.obsid AND w.set_id = next.set_id AND s.obsid = w.obsid
      AND p.id = w.set_id AND c.id = p.campaign_id
    RETURNING s.*, ST_AsText(s.footprint) AS footprint_wkt, w.set_id, w.fence, c.id AS campaign_id,
              c.aoi, c.buffer_m, p.digest, w.signatures IS NOT NULL AS rewrite"""


def _unit(conn: db.Connection, campaign_id: int, scene: Scene) -> str:
    """The unit of a campaign's signatures; its first scene of a kind sets it."""
    kind = {"campaign": campaign_id, "kind": scene.kind, "unit": scene.unit}
    db.execute(
        conn,
        "UPDATE campaign SET units = units || jsonb_build_object(%(kind)s, "
        "%(unit)s) WHERE id = %(campaign)s AND NOT units ? %(kind)s",
        kind,
    )
    return str(
        db.one(
            conn, "SELECT units ->> %(kind)s AS unit FROM campaign WHERE id = %(campaign)s", kind
        ).unit
    )


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
    """Lock the work row inside the writing transaction, if it is still ours.

    Raises:
        LostLeaseError: somebody else claimed the work, or it was withdrawn.
    """
    if not db.rows(conn, f"SELECT FROM work WHERE {_OURS} FOR UPDATE", _key(held)):
        raise LostLeaseError(f"{held.scene.reference}: the claim was lost")


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
    """Pieces of work that are pending or claimed, of open campaigns."""
    return int(
        db.one(
            conn,
            """
        SELECT count(*) AS n FROM work w
        JOIN parcel_set p ON p.id = w.set_id
        JOIN campaign c ON c.id = p.campaign_id AND c.state = 'open'
        WHERE w.state IN ('pending', 'claimed')""",
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


def _meaning(bands: dict[str, Any], unit: str, scale: float | None) -> Any:
    """What decides a scene's values, whatever place its files are moved to."""
    sources = {name: (s["index"], s["offset"], s["nodata"]) for name, s in bands.items()}
    return sources, unit, scale
