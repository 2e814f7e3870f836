"""Signatures: the stored statistics of parcels on scenes, one wide row per (parcel, scene)."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from store import db

STATISTICS = ("count", "mean", "std", "min", "p25", "p50", "p75", "max")
"""In the order of a table's columns (0002_signatures.sql) and of `Signatures.stats`."""

CUT_BY_EDGE = 8
"""Flag: part of the parcel lies off the raster."""

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"

Column = tuple[str, npt.NDArray[Any], str]
"""Name, values, big-endian numpy type."""


@dataclass(frozen=True)
class Signatures:
    """What one scene says of k parcels.

    Attributes:
        kind: CARD kind, the table.
        pids: int32[k].
        px: int32[k], pixels of each parcel on the scene's finest grid.
        flags: int16[k].
        stats: by band: float64[k, 8] in the order of STATISTICS; NaN where count is 0.
        classes: int64[k, 12], SCL histogram; None for scenes without.
    """

    kind: str
    pids: npt.NDArray[np.int32]
    px: npt.NDArray[np.int32]
    flags: npt.NDArray[np.int16]
    stats: Mapping[str, npt.NDArray[np.float64]]
    classes: npt.NDArray[np.int64] | None


def leaves(conn: db.Connection, campaign_id: int, obsid: int, kind: str) -> tuple[str, str]:
    """Make sure of the partitions for a scene's signatures and SCL histograms; their names.

    Call outside the writing transaction: making a partition must not wait for, or hold up, rows.
    """
    row = db.one(
        conn,
        "SELECT cbm_leaf(%(c)s::smallint, %(kind)s, %(o)s) AS signatures, "
        "cbm_leaf(%(c)s::smallint, 'hists', %(o)s) AS hists",
        {"c": campaign_id, "kind": kind, "o": obsid},
    )
    return row.signatures, row.hists


def delete(
    conn: db.Connection, aoi: str, leaf_names: Sequence[str], obsid: int, set_id: int
) -> None:
    """Delete the rows of a scene and a parcel set, before writing them anew."""
    for leaf in leaf_names:
        db.execute(
            conn,
            db.compose(
                "DELETE FROM {leaf} r USING {parcels} p "
                "WHERE r.obsid = %(o)s AND p.set_id = %(s)s AND p.pid = r.pid "
                "AND p.campaign_id = r.campaign_id",
                leaf=(aoi, leaf),
                parcels=(aoi, "parcels"),
            ),
            {"o": obsid, "s": set_id},
        )


def write(
    conn: db.Connection,
    aoi: str,
    leaf_names: tuple[str, str],
    campaign_id: int,
    obsid: int,
    signatures: Signatures,
) -> None:
    """Append a scene's rows; the caller's transaction decides whether they stay."""
    k = signatures.pids.size
    if not k:
        return
    keys: list[Column] = [
        ("campaign_id", np.full(k, campaign_id), ">i2"),
        ("pid", signatures.pids, ">i4"),
        ("obsid", np.full(k, obsid), ">i4"),
    ]
    values: list[Column] = [("flags", signatures.flags, ">i2"), ("px", signatures.px, ">i4")]
    bands = list(signatures.stats)
    names = [name for name, _, _ in keys + values] + [
        f"{band.lower()}_{statistic}" for band in bands for statistic in STATISTICS
    ]
    stream = io.BytesIO(b"".join([_HEADER, *_stat_rows(keys + values, signatures.stats), _TRAILER]))
    db.copy_binary(conn, (aoi, leaf_names[0]), names, stream)
    if signatures.classes is not None:
        classes: list[Column] = [(f"c{n}", signatures.classes[:, n], ">i4") for n in range(12)]
        stream = io.BytesIO(b"".join([_HEADER, _packed(keys + classes, [], k), _TRAILER]))
        db.copy_binary(conn, (aoi, leaf_names[1]), [c[0] for c in keys + classes], stream)


def _stat_rows(
    fixed: list[Column], stats: Mapping[str, npt.NDArray[np.float64]]
) -> Iterator[bytes]:
    """Rows in binary COPY format; those with the same empty bands are packed together."""
    tables = list(stats.values())
    pattern = np.zeros(fixed[0][1].size, np.int64)
    for n, table in enumerate(tables):
        pattern |= (table[:, 0] == 0).astype(np.int64) << n
    for empty in np.unique(pattern):
        same = pattern == empty
        rows = slice(None) if same.all() else same
        chosen = [(name, values[rows], kind) for name, values, kind in fixed]
        bands = [(table[rows], bool(empty >> n & 1)) for n, table in enumerate(tables)]
        yield _packed(chosen, bands, int(same.sum()))


def _packed(
    fixed: list[Column], bands: list[tuple[npt.NDArray[np.float64], bool]], k: int
) -> bytes:
    """Encode k rows of fixed columns and bands, as one array of big-endian structs.

    A band without a valid pixel is its count and seven NULLs (length -1 and no bytes).
    """
    layout: list[Any] = [("columns", ">i2")]
    for name, _, kind in fixed:
        layout += [(f"{name}:length", ">i4"), (name, kind)]
    for n, (_, hollow) in enumerate(bands):
        layout.append(
            (
                f"{n}",
                [("length", ">i4"), ("count", ">f4"), ("nulls", ">i4", (7,))]
                if hollow
                else [("pair", [("length", ">i4"), ("value", ">f4")], (8,))],
            )
        )
    rows = np.zeros(1, np.dtype(layout))
    rows["columns"] = len(fixed) + len(bands) * len(STATISTICS)
    for name, _, kind in fixed:
        rows[f"{name}:length"] = int(kind[-1])
    for n, (_, hollow) in enumerate(bands):
        if hollow:
            rows[f"{n}"]["length"], rows[f"{n}"]["nulls"] = 4, -1
        else:
            rows[f"{n}"]["pair"]["length"] = 4
    rows = np.repeat(rows, k)
    for name, values, _ in fixed:
        rows[name] = values
    for n, (table, hollow) in enumerate(bands):
        if not hollow:
            rows[f"{n}"]["pair"]["value"] = table
    return rows.tobytes()
