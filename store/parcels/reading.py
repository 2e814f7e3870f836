"""Handing a parcel set's geometries to the extraction, in the CRS of a raster."""

from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from store import db

_PAGE = 20_000
"""Parcels of a page; their WKB is some megabytes."""

# A page in one value: the client decodes one long text instead of thousands of short ones. The
# aggregates take the rows as the subquery sorts them.
_PAGE_OF = """
    SELECT array_agg(pid) AS pids, array_agg(length(wkb)) AS sizes,
           string_agg(wkb, ''::bytea) AS wkb
    FROM (SELECT pid, ST_AsBinary(ST_Transform(geom, %(epsg)s), 'NDR') AS wkb
          FROM {parcels}
          WHERE campaign_id = %(campaign)s AND set_id = %(set)s AND pid > %(after)s
          ORDER BY pid LIMIT %(page)s) AS page"""


def geometries(
    conn: db.Connection, aoi: str, campaign_id: int, set_id: int, epsg: int
) -> Iterator[tuple[npt.NDArray[np.int32], list[bytes]]]:
    """Yield the parcels of a set in another CRS, page by page, without any buffer.

    Args:
        conn: any role's connection.
        aoi: schema of the parcels.
        campaign_id: the set's campaign.
        set_id: key of the parcel set.
        epsg: code of the CRS wanted; PostGIS transforms.

    Yields:
        pids, int32, shape (parcels,), ascending over all pages; and as many MultiPolygons as
        little-endian WKB. Pages are read one by one: a change of the set meanwhile shows. One
        page at least, which is empty where no parcel is there.
    """
    statement = db.compose(_PAGE_OF, parcels=(aoi, "parcels"))
    params = {"epsg": epsg, "campaign": campaign_id, "set": set_id, "page": _PAGE}
    after, full = -1, True
    while full:
        page = db.fetch_one(conn, statement, {**params, "after": after})
        pids, sizes, data = page.pids or [], page.sizes or [], bytes(page.wkb or b"")
        ends = accumulate(sizes)
        yield (
            np.array(pids, dtype=np.int32),
            [data[end - size : end] for end, size in zip(ends, sizes, strict=True)],
        )
        after, full = pids[-1] if pids else after, len(pids) == _PAGE


def code(conn: db.Connection, aoi: str, campaign_id: int, pid: int) -> str:
    """The agency's id of a parcel; its key where it is not there any more."""
    statement = db.compose(
        "SELECT code FROM {parcels} WHERE campaign_id = %s AND pid = %s", parcels=(aoi, "parcels")
    )
    row = db.fetch_one(conn, statement, (campaign_id, pid))
    return str(row.code) if row else f"with pid {pid}"
