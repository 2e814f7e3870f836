"""Bringing a file's features into a temporary table, as far as they can be parcels."""

import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from store import db
from store.parcels import shape
from store.parcels.report import Case
from store.parcels.source import Batch, Source

_MAX_CODE = 200
_STAGED = ["fid", "code", "crop_name", "crop_code", "hilbert", "geom_sha", "wkb"]
_STAGE = """
    CREATE TEMP TABLE parcel_stage (
        fid bigint NOT NULL, code text COLLATE "C" NOT NULL, crop_name text, crop_code text,
        hilbert bigint NOT NULL, geom_sha bytea NOT NULL, wkb bytea NOT NULL
    ) ON COMMIT DROP"""
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = struct.pack(">h", -1)


@dataclass(frozen=True)
class Choice:
    """What of a layer becomes code and crop.

    Attributes:
        code: column of the parcel's id; None for the layer's feature id.
        crop_name: column of the crop's name, if any.
        crop_code: column of the crop's code, if any.
    """

    code: str | None
    crop_name: str | None
    crop_code: str | None

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        return sorted({name for name in (self.code, self.crop_name, self.crop_code) if name})


@dataclass
class Tally:
    """Where the features read so far went, apart from those that are parcels.

    Attributes:
        read: features seen.
        repaired: those whose geometry was repaired.
        merged: those that repeat another one.
        refused: those that cannot be parcels.
        extent_deg: west, south, east, north of the parcels' centres, degrees.
    """

    read: int = 0
    repaired: list[Case] = field(default_factory=list)
    merged: list[Case] = field(default_factory=list)
    refused: list[Case] = field(default_factory=list)
    extent_deg: tuple[float, float, float, float] = (np.inf, np.inf, -np.inf, -np.inf)


def stage(
    conn: db.Connection,
    source: Source,
    choice: Choice,
    frame: shape.Frame,
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
    for batch in source.batches(choice.columns):
        data = io.BytesIO(b"".join((_COPY_HEAD, *_rows(batch, choice, frame, tally), _COPY_END)))
        db.copy_binary(conn, ("pg_temp", "parcel_stage"), _STAGED, data)
        if progress is not None:
            progress(tally.read, source.features)
    db.execute(conn, "ANALYZE pg_temp.parcel_stage")
    return tally


def _rows(batch: Batch, choice: Choice, frame: shape.Frame, tally: Tally) -> Iterator[bytes]:
    fids = batch.fids.tolist()
    nothing: list[str | None] = [None] * len(fids)
    codes = batch.columns[choice.code] if choice.code else [str(fid) for fid in fids]
    names = batch.columns[choice.crop_name] if choice.crop_name else nothing
    crops = batch.columns[choice.crop_code] if choice.crop_code else nothing
    shapes = shape.storable(batch.wkb, frame)
    tally.read += len(fids)
    tally.extent_deg = _grown(tally.extent_deg, shapes.degrees)
    for index, (fid, code, wkb) in enumerate(zip(fids, codes, shapes.wkb, strict=True)):
        fault = _code_fault(code) or shapes.refused.get(index)
        if fault is not None or code is None or wkb is None:
            tally.refused.append(Case(fid, code, str(fault)))
            continue
        if index in shapes.repaired:
            tally.repaired.append(Case(fid, code, shapes.repaired[index]))
        yield _row(fid, code, names[index], crops[index], int(shapes.hilbert[index]), wkb)


def _row(
    fid: int, code: str, name: str | None, crop: str | None, hilbert: int, wkb: bytes
) -> bytes:
    digest = hashlib.sha256(wkb).digest()[:16]
    return b"".join(
        (
            struct.pack(">h", len(_STAGED)),
            struct.pack(">iq", 8, fid),
            _field(code.encode()),
            _field(name and name.encode()),
            _field(crop and crop.encode()),
            struct.pack(">iq", 8, hilbert),
            _field(digest),
            _field(wkb),
        )
    )


def _field(value: bytes | str | None) -> bytes:
    if not isinstance(value, bytes):
        return struct.pack(">i", -1)
    return struct.pack(">i", len(value)) + value


def _code_fault(code: str | None) -> str | None:
    if code is None:
        return "no id"
    return f"an id of more than {_MAX_CODE} characters" if len(code) > _MAX_CODE else None


def _grown(
    extent: tuple[float, float, float, float], degrees: shape.Coordinates
) -> tuple[float, float, float, float]:
    found = degrees[~np.isnan(degrees[:, 0])]
    if not len(found):
        return extent
    (west, south), (east, north) = found.min(axis=0).tolist(), found.max(axis=0).tolist()
    return (
        min(extent[0], west),
        min(extent[1], south),
        max(extent[2], east),
        max(extent[3], north),
    )


def single_out(conn: db.Connection, tally: Tally) -> None:
    """Leave each code in the stage at most once."""
    for row in db.rows(
        conn,
        """
            DELETE FROM pg_temp.parcel_stage s
            USING (SELECT DISTINCT ON (code, geom_sha) code, geom_sha, fid, crop_name, crop_code,
                          count(*) OVER (PARTITION BY code, geom_sha) AS times
                   FROM pg_temp.parcel_stage ORDER BY code, geom_sha, fid) k
            WHERE k.times > 1 AND s.code = k.code AND s.geom_sha = k.geom_sha AND s.fid <> k.fid
            RETURNING s.fid, s.code, k.fid AS kept, (s.crop_name, s.crop_code)
                      IS DISTINCT FROM (k.crop_name, k.crop_code) AS differs""",
    ):
        crop = ", with another crop" if row.differs else ""
        tally.merged.append(Case(row.fid, row.code, f"repeats feature {row.kept}{crop}"))
    for row in db.rows(
        conn,
        """
            DELETE FROM pg_temp.parcel_stage s
            USING (SELECT code FROM pg_temp.parcel_stage GROUP BY code HAVING count(*) > 1) k
            WHERE s.code = k.code RETURNING s.fid, s.code""",
    ):
        tally.refused.append(Case(row.fid, row.code, "the same id for several geometries"))
    gone = {case.fid for case in (*tally.merged, *tally.refused)}
    tally.repaired = [case for case in tally.repaired if case.fid not in gone]
