"""Parcels by code, point or area, the outline of a parcel, and its peers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import shapely

from app.query.campaigns import CampaignView, compose
from app.query.columns import Columns, select, to_columns
from app.query.packed_columns import PackedColumns
from store import db
from store.errors import NotFoundError

_PARCEL = """
    SELECT code AS pid, crop_name AS cropname, crop_code AS cropcode, ST_SRID(geom) AS srid,
           CASE WHEN %(geometry)s THEN ST_AsGeoJSON(
               CASE WHEN %(wgs84)s THEN ST_Transform(geom, 4326) ELSE geom END) END AS geom,
           ST_Area(ST_Transform(geom, 3035))::integer AS area,
           ST_X(ST_Transform(ST_Centroid(geom), 4326)) AS clon,
           ST_Y(ST_Transform(ST_Centroid(geom), 4326)) AS clat
    FROM {parcels} AS parcel"""

_PID = "SELECT pid FROM {parcels} WHERE campaign_id = %(campaign)s AND code = %(code)s"

_BY_CODE = _PARCEL + " WHERE campaign_id = %(campaign)s AND code = %(code)s"

# A point far outside a CRS's area cannot be transformed; so it has to lie near the parcels first.
_BY_LOCATION = (
    """
    WITH here AS MATERIALIZED (
        SELECT ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326) AS point
        FROM public.parcel_set
        WHERE campaign_id = %(campaign)s
          AND ST_DWithin(extent, ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326), 0.1)
        LIMIT 1)"""
    + _PARCEL
    + """, here WHERE campaign_id = %(campaign)s
        AND ST_Intersects(geom, ST_Transform(here.point, %(srid)s))
    ORDER BY parcel.pid"""
)

# Outside of the campaign's area there are no parcels, and its CRS may not even reach there.
_BY_POLYGON = (
    """
    WITH here AS MATERIALIZED (
        SELECT ST_Transform(ST_Segmentize(ST_Intersection(
            ST_GeomFromText(%(polygon)s, 4326),
            ST_SetSRID(ST_Expand(ST_Extent(extent)::public.geometry, 0.1), 4326)
        ), 0.1), %(srid)s) AS area
        FROM public.parcel_set WHERE campaign_id = %(campaign)s),
    start AS MATERIALIZED (
        SELECT pid AS after FROM {parcels}
        WHERE campaign_id = %(campaign)s AND code = %(after)s)"""
    + _PARCEL
    + """, here WHERE campaign_id = %(campaign)s AND ST_Intersects(geom, here.area)
        AND (%(after)s IS NULL OR parcel.pid > (SELECT after FROM start))
    ORDER BY parcel.pid OFFSET %(skip)s LIMIT %(limit)s + 1"""
)

# By their names, or by their codes where the file had codes alone, as France's has.
_SAME_CROP = """(peer.crop_name = here.crop_name OR (here.crop_name IS NULL
                   AND peer.crop_name IS NULL AND peer.crop_code = here.crop_code))"""

# Distances count in EPSG:3035, the index is in the campaign's own CRS. The nearest of the index's
# order bound how far the true nearest can lie; `stretch` is the campaign's units per metre at most.
_PEERS = (
    """
    WITH here AS MATERIALIZED (
        SELECT pid, crop_name, crop_code, geom, flat, 1.01 * sqrt(
            ST_Distance(own, ST_Transform(ST_Translate(spot, 1, 0), %(srid)s)) ^ 2
            + ST_Distance(own, ST_Transform(ST_Translate(spot, 0, 1), %(srid)s)) ^ 2) AS stretch
        FROM (SELECT pid, crop_name, crop_code, geom, ST_Transform(geom, 3035) AS flat,
                     ST_Centroid(geom) AS own, ST_Transform(ST_Centroid(geom), 3035) AS spot
              FROM {parcels} WHERE campaign_id = %(campaign)s AND code = %(code)s) AS parcel),
    near AS MATERIALIZED (
        SELECT ST_Distance(ST_Transform(peer.geom, 3035), here.flat) AS distance
        FROM here CROSS JOIN LATERAL (
            SELECT peer.geom FROM {parcels} AS peer
            WHERE peer.campaign_id = %(campaign)s AND peer.pid <> here.pid
              AND """
    + _SAME_CROP
    + """
              AND ST_Area(ST_Transform(peer.geom, 3035)) > %(area)s
              AND ST_DWithin(peer.geom, here.geom, %(distance)s * here.stretch)
            ORDER BY peer.geom <-> here.geom LIMIT %(limit)s) AS peer),
    reach AS MATERIALIZED (
        SELECT CASE WHEN count(*) < %(limit)s THEN %(distance)s
                    ELSE least(max(distance), %(distance)s) END AS metres FROM near)
    SELECT code, distance FROM (
        SELECT peer.code, peer.pid,
               ST_Distance(ST_Transform(peer.geom, 3035), here.flat) AS distance
        FROM here, reach, {parcels} AS peer
        WHERE peer.campaign_id = %(campaign)s AND peer.pid <> here.pid
          AND """
    + _SAME_CROP
    + """
          AND ST_Area(ST_Transform(peer.geom, 3035)) > %(area)s
          AND ST_DWithin(peer.geom, here.geom, reach.metres * here.stretch)) AS peers
    WHERE distance <= %(distance)s ORDER BY distance, pid LIMIT %(limit)s"""
)

_OUTLINE = """
    SELECT ST_AsBinary(ST_Transform(geom, 4326)) AS polygons,
           ST_X(ST_Transform(ST_Centroid(geom), 4326)) AS lon,
           ST_Y(ST_Transform(ST_Centroid(geom), 4326)) AS lat
    FROM {parcels} WHERE campaign_id = %s AND pid = %s"""

_EXAMPLES = "SELECT code FROM {parcels} WHERE campaign_id = %s ORDER BY pid LIMIT %s"

_COLUMNS = ("pid", "cropname", "cropcode", "srid", "geom", "area", "clon", "clat")

_ROWS_AT_ONCE = 200

_MIN_PEER_M2 = 3000
"""As with the JRC: smaller parcels have too few pixels to compare with."""


@dataclass(frozen=True)
class ParcelPage:
    """A part of a long list of parcels.

    Attributes:
        limit: number of rows at most.
        skip: rows before the first one.
        after: code of the parcel before the first row; None for the list's start.
    """

    limit: int
    skip: int = 0
    after: str | None = None


@dataclass(frozen=True)
class ParcelOutline:
    """The polygons of a parcel.

    Attributes:
        campaign_id: key of its campaign.
        pid: its key.
        polygons: in EPSG:4326.
        lon: of its centroid, degrees.
        lat: of its centroid, degrees.
    """

    campaign_id: int
    pid: int
    polygons: shapely.Geometry
    lon: float
    lat: float


def parcel_by_id(
    conn: db.Connection, campaign: CampaignView, code: str, *, geometry: bool, wgs84: bool
) -> Columns:
    """The attributes of a parcel.

    Args:
        conn: an open connection.
        campaign: of the parcels.
        code: the agency's parcel id.
        geometry: with column geom, a GeoJSON text.
        wgs84: geometry in EPSG:4326 instead of the campaign's CRS.

    Returns:
        pid (the code), cropname, cropcode, srid, geom if wanted, area (m2 in EPSG:3035), clon
        and clat (centroid, degrees).

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    params = {"campaign": campaign.id, "code": code, "geometry": geometry, "wgs84": wgs84}
    rows = db.fetch_all(conn, compose(_BY_CODE, campaign), params)
    if not rows:
        raise _no_such_parcel(campaign, code)
    return _parcels(rows, geometry)


def parcel_by_location(
    conn: db.Connection,
    campaign: CampaignView,
    lon: float,
    lat: float,
    *,
    geometry: bool,
    wgs84: bool,
) -> Columns:
    """The parcels at a point in degrees; several where they overlap. Columns as parcel_by_id.

    Raises:
        NotFoundError: no parcel of the campaign lies there.
    """
    params = {
        "campaign": campaign.id,
        "srid": campaign.srid,
        "lon": lon,
        "lat": lat,
        "geometry": geometry,
        "wgs84": wgs84,
    }
    point = {"lon": "double precision", "lat": "double precision"}
    rows = db.fetch_prepared(conn, compose(_BY_LOCATION, campaign), point, params)
    if not rows:
        raise NotFoundError(f"no parcel of {campaign.aoi} {campaign.year} at {lon:g}, {lat:g}")
    return _parcels(rows, geometry)


def parcels_by_polygon(
    conn: db.Connection,
    campaign: CampaignView,
    polygon: str,
    page: ParcelPage,
    *,
    only_ids: bool,
    geometry: bool,
    wgs84: bool,
) -> tuple[PackedColumns, bool]:
    """The parcels that meet an area, in the order of their import.

    Args:
        conn: an open connection.
        campaign: of the parcels.
        polygon: well-known text in degrees.
        page: the part of them.
        only_ids: pid alone (and geom), not all of parcel_by_id's columns.
        geometry: with column geom.
        wgs84: geometry in EPSG:4326.

    Returns:
        The columns, and whether there are more parcels.

    Raises:
        NotFoundError: the campaign has no parcel page.after.
    """
    if page.after is not None:
        internal_pid(conn, campaign, page.after)
    params = {
        "campaign": campaign.id,
        "srid": campaign.srid,
        "polygon": polygon,
        "geometry": geometry,
        "wgs84": wgs84,
        **asdict(page),
    }
    wanted = dict.fromkeys(_COLUMNS) if not only_ids else dict.fromkeys(("pid", "geom"))
    table = PackedColumns(list(select(wanted, geom=geometry)))
    room, more = page.limit, False
    if campaign.srid:
        for rows in db.fetch_batches(conn, compose(_BY_POLYGON, campaign), params, _ROWS_AT_ONCE):
            more = len(rows) > room
            table.append(rows[:room])
            room -= min(len(rows), room)
    return table, more


def fetch_peers(
    conn: db.Connection, campaign: CampaignView, code: str, distance_m: float, limit: int
) -> Columns:
    """Parcels of the same crop around a parcel, nearest first.

    Args:
        conn: an open connection.
        campaign: of the parcels.
        code: the agency's parcel id.
        distance_m: how far they may lie from its edge, metres in EPSG:3035.
        limit: number of peers at most.

    Returns:
        pids (codes) and distance (metres); parcels below 3000 m2 are left out.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    internal_pid(conn, campaign, code)
    params = {
        "campaign": campaign.id,
        "code": code,
        "srid": campaign.srid,
        "distance": distance_m,
        "limit": limit,
        "area": _MIN_PEER_M2,
    }
    return to_columns(["pids", "distance"], db.fetch_all(conn, compose(_PEERS, campaign), params))


def fetch_outline(conn: db.Connection, campaign: CampaignView, code: str) -> ParcelOutline:
    """The outline of a parcel.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    return _outline(conn, campaign.aoi, campaign.id, internal_pid(conn, campaign, code))


def outline_by_key(conn: db.Connection, campaign_id: int, pid: int) -> ParcelOutline:
    """The outline of the parcel with a key.

    Raises:
        NotFoundError: it does not exist any more.
    """
    row = db.fetch_one(conn, "SELECT aoi FROM public.campaign WHERE id = %s", (campaign_id,))
    if row is None:
        raise NotFoundError("the parcel does not exist any more")
    return _outline(conn, row.aoi, campaign_id, pid)


def _outline(conn: db.Connection, aoi: str, campaign_id: int, pid: int) -> ParcelOutline:
    statement = db.compose(_OUTLINE, parcels=(aoi, "parcels"))
    row = db.fetch_one(conn, statement, (campaign_id, pid))
    if row is None:
        raise NotFoundError("the parcel does not exist any more")
    polygons = shapely.from_wkb(bytes(row.polygons))
    return ParcelOutline(campaign_id, pid, polygons, row.lon, row.lat)


def internal_pid(conn: db.Connection, campaign: CampaignView, code: str) -> int:
    """The parcel's integer key in the database.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    params = {"campaign": campaign.id, "code": code}
    rows = db.fetch_prepared(conn, compose(_PID, campaign), {"code": "text"}, params)
    if not rows:
        raise _no_such_parcel(campaign, code)
    return int(rows[0].pid)


def fetch_example_codes(conn: db.Connection, campaign: CampaignView, limit: int) -> list[str]:
    """Codes of the first parcels of a campaign, in the order of their import."""
    rows = db.fetch_all(conn, compose(_EXAMPLES, campaign), (campaign.id, limit))
    return [row.code for row in rows]


def _parcels(rows: Sequence[Any], geometry: bool) -> Columns:
    return select(to_columns(_COLUMNS, rows), geom=geometry)


def _no_such_parcel(campaign: CampaignView, code: str) -> NotFoundError:
    return NotFoundError(f"{campaign.aoi} {campaign.year} has no parcel {code!r}")
