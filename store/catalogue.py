"""The scene catalogue: what is known of each scene, and its registration, which queues work on it.

What becomes of that work: store.queue.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from store import db
from store.errors import RefusedValueError
from store.grid import Extent
from store.kinds import KINDS

SOFTWARE = f"cbm-appliance {version('cbm-appliance')}"
"""Written on every scene and piece of work: which software made the numbers."""


SCENE_COLUMNS = (
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
"""Fields of Scene that are columns as they are."""

_CASTS = {"cloud_cover_pct": "::real"}
"""Types of columns that hold less than a parameter, and would never equal it."""

_PARAMETERS = ", ".join(f"%({name})s" + _CASTS.get(name, "") for name in SCENE_COLUMNS)

_VALUES = f"{_PARAMETERS}, ST_Multi(ST_GeomFromText(%(footprint_wkt)s, 4326)), %(bands)s"

_KNOWN = f"""
    SELECT obsid, bands, unit, scale, absent,
           ({", ".join(SCENE_COLUMNS)}, footprint, bands) IS DISTINCT FROM ({_VALUES}) AS differs,
           NOT ST_Covers(footprint, ST_GeomFromText(%(footprint_wkt)s, 4326)) AS grows
    FROM scene WHERE reference = %(reference)s"""

# Without a look before, an identity would be used up by every scene that is known already.
_INSERT = f"""
    INSERT INTO scene ({", ".join(SCENE_COLUMNS)}, footprint, bands, absent, software)
    VALUES ({_VALUES}, %(absent)s, %(software)s)
    ON CONFLICT (reference) DO NOTHING"""

_UPDATE = f"""
    UPDATE scene SET ({", ".join(SCENE_COLUMNS)}, footprint, bands, absent, software,
        tile_parts, thinning_flaw) = ROW ({_VALUES}, %(absent)s, %(software)s, NULL, NULL)
    WHERE reference = %(reference)s"""

# In the order of an import's locks; work before scenes, as a worker that finishes has them.
_LOCK_KNOWN = """
    SELECT FROM work WHERE obsid IN (SELECT obsid FROM scene WHERE reference = ANY(%s))
    ORDER BY obsid, set_id FOR NO KEY UPDATE"""

_LOCK_WORK = "SELECT FROM work WHERE obsid = %s ORDER BY set_id FOR UPDATE"

PUT_BACK = """state = 'pending', fence = fence + 1, failures = 0, lost_leases = 0,
        not_before = '-infinity', lease_until = NULL, reason = NULL, changed_at = now(),
        again = again OR signatures IS NOT NULL"""
"""Assignments that put work back into the queue as if it were new."""

_QUEUE_AGAIN = f"UPDATE work SET {PUT_BACK} WHERE obsid = %s AND (%s OR state = 'dead')"

_REQUEUE_SCENES = f"UPDATE work SET {PUT_BACK} WHERE obsid = ANY(%s) AND state = 'done'"

_DONE_WITHOUT = """
    SELECT s.obsid, s.bands, s.absent
    FROM scene s
    WHERE s.bands ?| s.absent AND EXISTS (
        SELECT FROM work w
        JOIN parcel_set p ON p.id = w.set_id
        JOIN campaign c ON c.id = p.campaign_id AND c.state = 'open'
        WHERE w.obsid = s.obsid AND w.state = 'done')"""

_KNOWN_CRS = "SELECT srid FROM public.spatial_ref_sys"

_WEB_HOSTS = """
    SELECT DISTINCT lower(substring(source ->> 'href' FROM '^https?://([A-Za-z0-9.:-]+)/')) AS host
    FROM scene, jsonb_each(bands) AS band (name, source)
    WHERE source ->> 'href' ~ '^https?://[A-Za-z0-9.:-]+/' ORDER BY 1"""

_FLAWED_SCENES = """
    SELECT reference, thinning_flaw FROM scene WHERE thinning_flaw IS NOT NULL
    ORDER BY reference"""

_CLEAR_FLAWS = """
    UPDATE scene SET thinning_flaw = NULL
    WHERE thinning_flaw IS NOT NULL AND (%(reference)s IS NULL OR reference = %(reference)s)"""


@dataclass(frozen=True)
class BandSource:
    """The place of one band of a scene, and the correction of its values.

    Attributes:
        href: absolute local path, s3://bucket/key or http(s):// (see store.objects).
        index: 1-based band number in that file.
        offset: added once to every valid value, in the file's own unit (BOA_ADD_OFFSET for
            Sentinel-2; 0 where the provider applied it already).
        nodata: value that means "no data" besides NaN; None if there is none.
        factor: multiplies every value, once the offset is added: coded values become physical.
        nodata_stated: a description says what means no data; else other usual fill values are
            looked for.
        epsg: CRS of a file that does not say where it lies.
        bounds_m: (west, south, east, north) of such a file, metres.
    """

    href: str
    index: int = 1
    offset: float = 0.0
    nodata: float | None = None
    factor: float = 1.0
    nodata_stated: bool = False
    epsg: int | None = None
    bounds_m: tuple[float, float, float, float] | None = None

    def no_data(self, tag: float | None) -> float | None:
        """The value that means "no data": as described, else by the file's tag, else by custom.

        Args:
            tag: what the file says of itself.
        """
        return self.nodata if self.nodata_stated or tag is None else tag

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "BandSource":
        """The source that the catalogue keeps; what it does not know yet is as by default."""
        bounds = fields.get("bounds_m")
        return cls(**{**fields, "bounds_m": tuple(bounds) if bounds else None})

    @property
    def extent(self) -> Extent | None:
        """Where the file lies, if it does not say so itself."""
        return Extent(self.epsg, *self.bounds_m) if self.epsg and self.bounds_m else None


@dataclass(frozen=True)
class Scene:
    """One analysis-ready scene, as the catalogue keeps it.

    Attributes:
        reference: the provider's product name without .SAFE, unique.
        kind: CARD kind, a key of `store.kinds.KINDS`.
        platform: S2A, S1C ...
        obstime: start of sensing, timezone-aware UTC.
        acquisition: equal for all scenes made of one overpass.
        unit: of the values once offset and factor are applied: a name of `store.units.UNITS`.
        epsg: CRS of the rasters, metres.
        footprint_wkt: MULTIPOLYGON in EPSG:4326.
        bands: by band name (B02 .. B12, SCL; VV, VH).
        scale: dn * scale = reflectance; None where values are physical.
        orbit_direction: ascending or descending, if known.
        relative_orbit: relative orbit number, if known.
        tile: MGRS tile such as 32TMT, if any.
        baseline: processing baseline such as 05.09, '' if unknown.
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
class RegisterReport:
    """The result of a registration.

    Attributes:
        added: new scenes.
        changed: known ones whose description changed; where values would differ, their work is
            queued again.
        unchanged: known ones.
        queued: pieces of work added to the queue, or put back for bands that were missing.
        refused: (reference, reason) of scenes that the database cannot keep.
    """

    added: int
    changed: int
    unchanged: int
    queued: int
    refused: tuple[tuple[str, str], ...] = ()


def register(conn: db.Connection, scenes: Iterable[Scene]) -> RegisterReport:
    """Put scenes into the catalogue and queue them for the campaigns they meet; idempotent.

    A known reference keeps its obsid. Where a new description changes values (bands, offsets,
    unit, scale, the place of a band that was not there), work that was done on the scene is
    queued again; so is dead work, by any change, and work that was done without files which are
    there now. Some hundred scenes are one transaction; one that the database refuses is named.

    Raises:
        DatabaseError: the database is away; what was registered stays.
    """
    done = {"added": 0, "changed": 0, "unchanged": 0}
    refused: list[tuple[str, str]] = []
    known_crs = {row.srid for row in db.fetch_all(conn, _KNOWN_CRS)}
    for batch in _batches(scenes):
        with db.transaction(conn):
            names = [scene.reference for scene in batch if "\0" not in scene.reference]
            db.fetch_all(conn, _LOCK_KNOWN, (names,))
            for scene in batch:
                try:
                    _refuse_crs(scene, known_crs)
                    with db.savepoint(conn):
                        outcome = _store(conn, scene)
                    done[outcome] += 1
                except RefusedValueError as error:
                    refused.append((scene.reference, str(error)))
    with db.transaction(conn):
        queued = enqueue(conn) + requeue_found(conn, _is_file)
    return RegisterReport(**done, queued=queued, refused=tuple(refused))


def _batches(scenes: Iterable[Scene]) -> Iterator[list[Scene]]:
    remaining = iter(scenes)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


_BATCH = 500
"""Scenes of one transaction."""


def _refuse_crs(scene: Scene, known: set[int]) -> None:
    if scene.epsg not in known:
        raise RefusedValueError(
            f"its CRS EPSG:{scene.epsg} is not known to the database's PostGIS: reproject the "
            "scene, such as to its UTM zone"
        )


def _is_file(source: BandSource) -> bool:
    return source.href.startswith("/") and Path(source.href).is_file()


def _store(conn: db.Connection, scene: Scene) -> str:
    """Insert or update a scene: "added", "changed" or "unchanged"."""
    row = _scene_row(scene)
    known = db.fetch_one(conn, _KNOWN, row)
    if known is None:
        if db.execute(conn, _INSERT, row):
            return "added"
        known = db.fetch_one(conn, _KNOWN, row)  # another registration was quicker
    if not known.differs:
        return "unchanged"
    # Work before scene, as a worker that finishes has them.
    db.fetch_all(conn, _LOCK_WORK, (known.obsid,))
    missing = [name for name in known.absent if name in scene.bands]
    db.execute(conn, _UPDATE, row | {"absent": [*row["absent"], *missing]})
    before = {name: BandSource.from_json(source) for name, source in known.bands.items()}
    values_change = _meaning(before, known.unit, known.scale, known.absent) != _meaning(
        scene.bands, scene.unit, scene.scale, known.absent
    )
    # A merged set counts as outside what its parts did not meet (parcels.sets): look there now.
    db.execute(conn, _QUEUE_AGAIN, (known.obsid, values_change or known.grows))
    return "changed"


def requeue_found(conn: db.Connection, is_there: Callable[[BandSource], bool]) -> int:
    """Put work back that was done without files which are there by now; returns how many.

    Args:
        conn: an open connection.
        is_there: looks for a band's file.
    """
    found = [
        row.obsid
        for row in db.fetch_all(conn, _DONE_WITHOUT)
        if any(
            is_there(BandSource.from_json(row.bands[name]))
            for name in row.absent
            if name in row.bands
        )
    ]
    return db.execute(conn, _REQUEUE_SCENES, (found,))


def enqueue(conn: db.Connection) -> int:
    """Queue every scene for every open campaign whose dates and parcels it meets."""
    return int(db.fetch_one(conn, "SELECT cbm_enqueue() AS added").added)


def web_hosts(conn: db.Connection) -> list[str]:
    """The web hosts that files of scenes lie on, each with its port if it is written, sorted."""
    return [row.host for row in db.fetch_all(conn, _WEB_HOSTS)]


def flawed_scenes(conn: db.Connection) -> list[Any]:
    """Rows (reference, thinning_flaw) of the scenes that are read whole, by reference."""
    return db.fetch_all(conn, _FLAWED_SCENES)


def clear_flaws(conn: db.Connection, reference: str | None = None) -> int:
    """Have flawed scenes, or one of them, read by code blocks again; the number of scenes."""
    return db.execute(conn, _CLEAR_FLAWS, {"reference": reference})


def _scene_row(scene: Scene) -> dict[str, Any]:
    row = {name: getattr(scene, name) for name in SCENE_COLUMNS}
    return row | {
        "footprint_wkt": scene.footprint_wkt,
        "bands": db.Json({name: asdict(source) for name, source in scene.bands.items()}),
        "absent": [band for band in KINDS[scene.kind].band_names if band not in scene.bands],
        "software": SOFTWARE,
    }


def _meaning(
    bands: Mapping[str, BandSource], unit: str, scale: float | None, absent: Sequence[str]
) -> Any:
    """The facts that a scene's values depend on: not the files' places, but for missing ones."""
    sources = {
        name: source if name in absent else replace(source, href="")
        for name, source in bands.items()
    }
    return sources, unit, scale
