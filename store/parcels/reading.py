"""Handing a parcel set's geometries to the extraction, in the CRS of a raster."""

import numpy as np
import numpy.typing as npt

from store import db

_PAGE = 20_000

# A page in one value: the client decodes one long text instead of thousands of short ones. The
# aggregates take the rows as the subquery sorts them.
_PAGE_OF = """
    SELECT array_agg(pid) AS pids, array_agg(length(wkb)) AS sizes,
           string_agg(wkb, ''::bytea) AS wkb
    FROM (SELECT pid, ST_AsBinary(ST_Transform(geom, %(epsg)s), 'NDR') AS wkb
          FROM {parcels}
          WHERE campaign_id = %(campaign)s AND set_id = %(set)s AND pid > %(after)s
          ORDER BY pid LIMIT %(page)s) AS found"""


def geometries(
    conn: db.Connection, aoi: str, campaign_id: int, set_id: int, epsg: int
) -> tuple[npt.NDArray[np.int32], list[bytes]]:
    """Return the parcels of a set in another CRS, transformed by PostGIS, without any buffer.

    Args:
        conn: any role's connection.
        aoi: schema of the parcels.
        campaign_id: the set's campaign.
        set_id: key of the parcel set.
        epsg: code of the CRS wanted.

    Returns:
        pids, int32, shape (parcels,), ascending; and as many MultiPolygons as little-endian WKB.
    """
    statement = db.compose(_PAGE_OF, parcels=(aoi, "parcels"))
    asked = {"epsg": epsg, "campaign": campaign_id, "set": set_id, "page": _PAGE}
    pids: list[int] = []
    wkb: list[bytes] = []
    while True:
        page = db.one(conn, statement, {**asked, "after": pids[-1] if pids else -1})
        pids.extend(page.pids or ())
        data, at = bytes(page.wkb or b""), 0
        for size in page.sizes or ():
            wkb.append(data[at : at + size])
            at += size
        if len(page.pids or ()) < _PAGE:
            return np.array(pids, dtype=np.int32), wkb
