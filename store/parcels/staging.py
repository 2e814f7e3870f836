"""Bringing a file's features into a temporary table, as far as they can be parcels."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from store import binary_copy, db
from store.parcels import codes as codes_of
from store.parcels import geometry
from store.parcels.report import Case
from store.parcels.source import Batch, ParcelSource

_STAGED = ["fid", "code", "crop_name", "crop_code", "hilbert", "geom_sha", "wkb", "attributes"]
_STAGE = """
    CREATE TEMP TABLE parcel_stage (
        fid bigint NOT NULL, code text COLLATE "C" NOT NULL, crop_name text, crop_code text,
        hilbert bigint NOT NULL, geom_sha bytea NOT NULL, wkb bytea NOT NULL,
        attributes text
    ) ON COMMIT DROP"""

_DROP_REPEATS = """
    DELETE FROM pg_temp.parcel_stage s
    USING (SELECT DISTINCT ON (code, geom_sha) code, geom_sha, fid, crop_name, crop_code,
                  count(*) OVER (PARTITION BY code, geom_sha) AS times
           FROM pg_temp.parcel_stage ORDER BY code, geom_sha, fid) k
    WHERE k.times > 1 AND s.code = k.code AND s.geom_sha = k.geom_sha AND s.fid <> k.fid
    RETURNING s.fid, s.code, k.fid AS kept, (s.crop_name, s.crop_code)
              IS DISTINCT FROM (k.crop_name, k.crop_code) AS differs"""

_DROP_AMBIGUOUS = """
    DELETE FROM pg_temp.parcel_stage s
    USING (SELECT code FROM pg_temp.parcel_stage GROUP BY code HAVING count(*) > 1) k
    WHERE s.code = k.code RETURNING s.fid, s.code"""


@dataclass(frozen=True)
class Choice:
    """The columns of a layer that become code and crop, and those that are kept beside them.

    Attributes:
        code: columns of the parcel's id, joined by a hyphen; none for the layer's feature id.
        crop_name: column of the crop's name, if any.
        crop_code: column of the crop's code, if any.
        kept: further columns.
    """

    code: tuple[str, ...]
    crop_name: str | None
    crop_code: str | None
    kept: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        return sorted({name for name in (*self.code, self.crop_name, self.crop_code) if name})


@dataclass
class Tally:
    """Where the features read so far went, apart from those that are parcels.

    Attributes:
        read: features seen.
        repaired: those whose geometry was repaired.
        merged: those that repeat another one.
        refused: those that cannot be parcels.
        extent_deg: west, south, east, north of the parcels' centres, degrees.
        outside: features beyond the area of the file's CRS.
        unreadable: columns of which something could not be kept.
    """

    read: int = 0
    outside: int = 0
    unreadable: frozenset[str] = frozenset()
    repaired: list[Case] = field(default_factory=list)
    merged: list[Case] = field(default_factory=list)
    refused: list[Case] = field(default_factory=list)
    extent_deg: tuple[float, float, float, float] = (np.inf, np.inf, -np.inf, -np.inf)


def stage(
    conn: db.Connection,
    source: ParcelSource,
    choice: Choice,
    frame: geometry.CrsTransform,
    progress: Callable[[int, int], None] | None,
) -> Tally:
    """Bring all features that can be parcels into the temporary table pg_temp.parcel_stage.

    Args:
        conn: a connection inside a transaction; the table lasts as long as that.
        source: the layer.
        choice: its columns.
        frame: its CRS and the stored one.
        progress: called after each batch with features read and their number, -1 if unknown.

    Raises:
        ParcelFileError: the file breaks off, or a column cannot be text.
    """
    tally = Tally()
    db.execute(conn, _STAGE)
    for batch in source.batches(choice.columns, choice.code, choice.kept):
        rows = binary_copy.stream(_rows(batch, choice, frame, tally))
        db.copy_binary(conn, ("pg_temp", "parcel_stage"), _STAGED, rows)
        if progress is not None:
            progress(tally.read, source.features)
    db.execute(conn, "ANALYZE pg_temp.parcel_stage")
    return tally


def _rows(
    batch: Batch, choice: Choice, frame: geometry.CrsTransform, tally: Tally
) -> Iterator[bytes]:
    fids = batch.fids.tolist()
    nothing: list[str | None] = [None] * len(fids)
    parts = [batch.columns[name] for name in choice.code]
    codes = codes_of.join(parts) if parts else [str(fid) for fid in fids]
    names = batch.columns[choice.crop_name] if choice.crop_name else nothing
    crops = batch.columns[choice.crop_code] if choice.crop_code else nothing
    kept = nothing if batch.kept is None else batch.kept
    shapes = geometry.storable(batch.wkb, frame)
    tally.read += len(fids)
    tally.outside += shapes.outside
    tally.unreadable |= batch.unreadable
    tally.extent_deg = _grown(tally.extent_deg, shapes.degrees)
    for index, (fid, code, wkb) in enumerate(zip(fids, codes, shapes.wkb, strict=True)):
        fault = codes_of.flaw(code) or shapes.refused.get(index)
        if fault is not None or code is None or wkb is None:
            tally.refused.append(Case(fid, code, str(fault)))
            continue
        if index in shapes.repaired:
            tally.repaired.append(Case(fid, code, shapes.repaired[index]))
        texts = (code, names[index], crops[index])
        yield _row(fid, texts, int(shapes.hilbert[index]), wkb, kept[index])


def _row(
    fid: int,
    texts: tuple[str, str | None, str | None],
    hilbert: int,
    wkb: bytes,
    kept: str | None,
) -> bytes:
    return binary_copy.encode_row(
        binary_copy.bigint(fid),
        *(text.encode() if text else None for text in texts),
        binary_copy.bigint(hilbert),
        hashlib.sha256(wkb).digest()[:16],
        wkb,
        kept.encode() if kept else None,
    )


def _grown(
    extent: tuple[float, float, float, float], degrees: geometry.Coordinates
) -> tuple[float, float, float, float]:
    known = degrees[~np.isnan(degrees[:, 0])]
    if not len(known):
        return extent
    (west, south), (east, north) = known.min(axis=0).tolist(), known.max(axis=0).tolist()
    return (
        min(extent[0], west),
        min(extent[1], south),
        max(extent[2], east),
        max(extent[3], north),
    )


def deduplicate(conn: db.Connection, tally: Tally) -> None:
    """Leave each code in the stage at most once."""
    for row in db.fetch_all(conn, _DROP_REPEATS):
        crop = ", with another crop" if row.differs else ""
        tally.merged.append(Case(row.fid, row.code, f"repeats feature {row.kept}{crop}"))
    for row in db.fetch_all(conn, _DROP_AMBIGUOUS):
        tally.refused.append(Case(row.fid, row.code, "the same id for several geometries"))
    gone = {case.fid for case in (*tally.merged, *tally.refused)}
    tally.repaired = [case for case in tally.repaired if case.fid not in gone]
