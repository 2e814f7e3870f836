"""Handing a parcel set's geometries to the extraction, in the CRS of a raster."""

from typing import Any

import numpy as np
import numpy.typing as npt

from store import db
from store.parcels.campaigns import Campaign

_PAGE = 20_000


def geometries(
    conn: db.Connection, campaign: Campaign, set_id: int, epsg: int
) -> tuple[npt.NDArray[np.int32], list[bytes]]:
    """Return the parcels of a set as they are, in another CRS.

    Args:
        conn: any role's connection.
        campaign: the set's campaign.
        set_id: key of the parcel set.
        epsg: code of the CRS wanted.

    Returns:
        pids, int32, shape (parcels,), ascending; and as many MultiPolygons as little-endian WKB.
    """
    return _paged(
        conn, campaign, set_id, "ST_AsBinary(ST_Transform(geom, %(epsg)s), 'NDR')", {"epsg": epsg}
    )


def buffered(
    conn: db.Connection, campaign: Campaign, set_id: int, epsg: int, buffer_m: float
) -> tuple[npt.NDArray[np.int32], list[bytes | None]]:
    """Return the parcels of a set in another CRS, each shrunk by an inward buffer there.

    Args:
        conn: any role's connection.
        campaign: the set's campaign.
        set_id: key of the parcel set.
        epsg: code of the CRS wanted; in metres.
        buffer_m: width of the strip taken away along the edges, metres.

    Returns:
        As `geometries`; None for a parcel of which nothing is left.
    """
    expression = """
        (SELECT CASE WHEN NOT ST_IsEmpty(b.inner_geom)
                     THEN ST_AsBinary(ST_Multi(b.inner_geom), 'NDR') END
         FROM (SELECT ST_Buffer(ST_Transform(geom, %(epsg)s), -%(buffer_m)s) AS inner_geom) b)"""
    return _paged(conn, campaign, set_id, expression, {"epsg": epsg, "buffer_m": buffer_m})


def _paged(
    conn: db.Connection, campaign: Campaign, set_id: int, expression: str, values: dict[str, Any]
) -> tuple[npt.NDArray[np.int32], list[Any]]:
    statement = db.compose(
        "SELECT pid, " + expression + " AS wkb FROM {parcels} "
        "WHERE campaign_id = %(campaign)s AND set_id = %(set)s AND pid > %(after)s "
        "ORDER BY pid LIMIT %(page)s",
        parcels=(campaign.aoi, "parcels"),
    )
    pids: list[int] = []
    wkbs: list[Any] = []
    while True:
        page = db.rows(
            conn,
            statement,
            {
                **values,
                "campaign": campaign.id,
                "set": set_id,
                "page": _PAGE,
                "after": pids[-1] if pids else -1,
            },
        )
        pids.extend(row.pid for row in page)
        wkbs.extend(None if row.wkb is None else bytes(row.wkb) for row in page)
        if len(page) < _PAGE:
            return np.array(pids, dtype=np.int32), wkbs
