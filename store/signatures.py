"""Signatures: the stored statistics of parcels on scenes, one wide row per (parcel, scene)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from store import binary_copy, db
from store.binary_copy import Fields, Nulls

STATISTICS = ("count", "mean", "std", "min", "p25", "p50", "p75", "max")
"""In the order of a table's columns (0002_signatures.sql) and of `Signatures.stats`."""

CUT_BY_EDGE = 8
"""Flag: part of the parcel lies off the raster."""

MASKED = 16
"""Flags from here on: layover or shadow in the parcel."""

_LAYOVER_AT, _SHADOW_AT, _SHARE_BITS = 4, 9, 5
_WHOLE = 2**_SHARE_BITS - 1

_KEY = ("campaign_id", "pid", "obsid")

_ENSURE = """
    SELECT cbm_leaf(%(c)s::smallint, %(kind)s, %(o)s) AS signatures,
           cbm_leaf(%(c)s::smallint, 'hists', %(o)s) AS hists"""

_DELETE = """
    DELETE FROM {leaf} r USING {parcels} p
    WHERE r.obsid = %(o)s AND p.set_id = %(s)s AND p.pid = r.pid
      AND p.campaign_id = r.campaign_id"""


@dataclass(frozen=True)
class Signatures:
    """The statistics of k parcels on one scene.

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


def mask_flags(
    masked_px: npt.NDArray[np.int64], px: npt.NDArray[np.int32]
) -> npt.NDArray[np.int16]:
    """Flags of layover and shadow: the share of each in 31sts, rounded up, so that a pixel shows.

    Args:
        masked_px: int64[k, 2], pixels in layover and in shadow.
        px: int32[k], all pixels of each parcel.

    Returns:
        int16[k]; bits 4 to 8 are the share in layover, bits 9 to 13 that in shadow.
    """
    shares = np.ceil(masked_px * _WHOLE / np.maximum(px, 1)[:, None]).astype(np.int16)
    flags: npt.NDArray[np.int16] = shares[:, 0] << _LAYOVER_AT | shares[:, 1] << _SHADOW_AT
    return flags


def masked_shares(flags: int) -> tuple[float, float]:
    """The shares of a parcel's pixels in layover and in shadow, 0 to 1, by its flags."""
    layover, shadow = (flags >> at & _WHOLE for at in (_LAYOVER_AT, _SHADOW_AT))
    return layover / _WHOLE, shadow / _WHOLE


def ensure_partitions(
    conn: db.Connection, campaign_id: int, obsid: int, kind: str
) -> tuple[str, str]:
    """Names of the partitions for a scene's signatures and SCL histograms, made if missing.

    Call outside the writing transaction: making a partition must not wait for, or hold up, rows.
    """
    params = {"c": campaign_id, "kind": kind, "o": obsid}
    row = db.change_tables(conn, lambda: db.fetch_one(conn, _ENSURE, params))
    return row.signatures, row.hists


def delete(
    conn: db.Connection, aoi: str, leaf_names: Sequence[str], obsid: int, set_id: int
) -> None:
    """Delete the rows of a scene and a parcel set, before they are written again."""
    for leaf in leaf_names:
        statement = db.compose(_DELETE, leaf=(aoi, leaf), parcels=(aoi, "parcels"))
        db.execute(conn, statement, {"o": obsid, "s": set_id})


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
    keys = [
        Fields(np.full(k, campaign_id), ">i2"),
        Fields(signatures.pids, ">i4"),
        Fields(np.full(k, obsid), ">i4"),
    ]
    names = [*_KEY, "flags", "px"] + [
        f"{band.lower()}_{statistic}" for band in signatures.stats for statistic in STATISTICS
    ]
    fixed = [*keys, Fields(signatures.flags, ">i2"), Fields(signatures.px, ">i4")]
    rows = _stat_rows(fixed, list(signatures.stats.values()), k)
    db.copy_binary(conn, (aoi, leaf_names[0]), names, binary_copy.stream(rows))
    if signatures.classes is not None:
        names = [*_KEY, *(f"c{n}" for n in range(signatures.classes.shape[1]))]
        rows = iter([binary_copy.encode_rows([*keys, Fields(signatures.classes, ">i4")], k)])
        db.copy_binary(conn, (aoi, leaf_names[1]), names, binary_copy.stream(rows))


def _stat_rows(
    fixed: list[Fields], tables: list[npt.NDArray[np.float64]], k: int
) -> Iterator[bytes]:
    """Encoded rows; those with the same empty bands together, as these are a count and NULLs."""
    pattern = np.zeros(k, np.int64)
    for n, table in enumerate(tables):
        pattern |= (table[:, 0] == 0).astype(np.int64) << n
    for empty in np.unique(pattern):
        same = pattern == empty
        rows = slice(None) if same.all() else same
        fields: list[Fields | Nulls] = [
            replace(field, values=field.values[rows]) for field in fixed
        ]
        for n, table in enumerate(tables):
            if empty >> n & 1:
                fields += (Fields(table[rows, 0], ">f4"), Nulls(len(STATISTICS) - 1))
            else:
                fields.append(Fields(table[rows], ">f4"))
        yield binary_copy.encode_rows(fields, int(same.sum()))
