"""Parcels by their code or place, and the parcels like them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.campaigns import Campaign, named
from app.columns import Columns, columns, without
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

# Distances count in EPSG:3035, the index is in the campaign's own CRS. The nearest of the index's
# order bound how far the true nearest can lie; `stretch` is the campaign's units per metre at most.
_PEERS = """
    WITH here AS MATERIALIZED (
        SELECT pid, crop_name, geom, flat, 1.01 * sqrt(
            ST_Distance(own, ST_Transform(ST_Translate(spot, 1, 0), %(srid)s)) ^ 2
            + ST_Distance(own, ST_Transform(ST_Translate(spot, 0, 1), %(srid)s)) ^ 2) AS stretch
        FROM (SELECT pid, crop_name, geom, ST_Transform(geom, 3035) AS flat,
                     ST_Centroid(geom) AS own, ST_Transform(ST_Centroid(geom), 3035) AS spot
              FROM {parcels} WHERE campaign_id = %(campaign)s AND code = %(code)s) AS parcel),
    near AS MATERIALIZED (
        SELECT ST_Distance(ST_Transform(peer.geom, 3035), here.flat) AS distance
        FROM here CROSS JOIN LATERAL (
            SELECT peer.geom FROM {parcels} AS peer
            WHERE peer.campaign_id = %(campaign)s AND peer.pid <> here.pid
              AND peer.crop_name = here.crop_name
              AND ST_Area(ST_Transform(peer.geom, 3035)) > %(area)s
              AND ST_DWithin(peer.geom, here.geom, %(distance)s * here.stretch)
            ORDER BY peer.geom <-> here.geom LIMIT %(most)s) AS peer),
    reach AS MATERIALIZED (
        SELECT CASE WHEN count(*) < %(most)s THEN %(distance)s
                    ELSE least(max(distance), %(distance)s) END AS metres FROM near)
    SELECT code, distance FROM (
        SELECT peer.code, peer.pid,
               ST_Distance(ST_Transform(peer.geom, 3035), here.flat) AS distance
        FROM here, reach, {parcels} AS peer
        WHERE peer.campaign_id = %(campaign)s AND peer.pid <> here.pid
          AND peer.crop_name = here.crop_name
          AND ST_Area(ST_Transform(peer.geom, 3035)) > %(area)s
          AND ST_DWithin(peer.geom, here.geom, reach.metres * here.stretch)) AS found
    WHERE distance <= %(distance)s ORDER BY distance, pid LIMIT %(most)s"""

_SMALLEST_PEER_M2 = 3000
"""As with the JRC: smaller parcels have too few pixels to compare with."""


@dataclass(frozen=True)
class Page:
    """Which part of a long list is wanted.

    Attributes:
        limit: rows at most.
        skip: rows before the first one.
        after: the parcel (its code) before the first one; None for the list's start.
    """

    limit: int
    skip: int = 0
    after: str | None = None


def parcel_by_id(
    conn: db.Connection, campaign: Campaign, code: str, *, geometry: bool, wgs84: bool
) -> Columns:
    """A parcel's attributes.

    Args:
        conn: an open connection.
        campaign: where to look.
        code: the agency's parcel id.
        geometry: with column geom, a GeoJSON text.
        wgs84: geometry in EPSG:4326 instead of the campaign's CRS.

    Returns:
        pid (the code), cropname, cropcode, srid, geom if asked for, area (m2 in EPSG:3035), clon
        and clat (centroid, degrees).

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    params = {"campaign": campaign.id, "code": code, "geometry": geometry, "wgs84": wgs84}
    found = db.rows(conn, named(_BY_CODE, campaign), params)
    if not found:
        raise _no_such_parcel(campaign, code)
    return _parcels(found, geometry)


def parcel_by_location(
    conn: db.Connection,
    campaign: Campaign,
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
    found = db.prepared_rows(conn, named(_BY_LOCATION, campaign), point, params)
    if not found:
        raise NotFoundError(f"no parcel of {campaign.aoi} {campaign.year} at {lon:g}, {lat:g}")
    return _parcels(found, geometry)


def parcels_by_polygon(
    conn: db.Connection,
    campaign: Campaign,
    polygon: str,
    page: Page,
    *,
    only_ids: bool,
    geometry: bool,
    wgs84: bool,
) -> tuple[Columns, bool]:
    """The parcels that meet an area, in the order of their import.

    Args:
        conn: an open connection.
        campaign: where to look.
        polygon: well-known text in degrees.
        page: which of them.
        only_ids: pid alone (and geom), not all of parcel_by_id's columns.
        geometry: with column geom.
        wgs84: geometry in EPSG:4326.

    Returns:
        The columns, and whether there are more.

    Raises:
        NotFoundError: the campaign has no parcel page.after.
    """
    if page.after is not None:
        internal_pid(conn, campaign, page.after)
    asked = {
        "campaign": campaign.id,
        "srid": campaign.srid,
        "polygon": polygon,
        "geometry": geometry,
        "wgs84": wgs84,
        **asdict(page),
    }
    found = db.rows(conn, named(_BY_POLYGON, campaign), asked) if campaign.srid else []
    table = _parcels(found[: page.limit], geometry)
    if only_ids:
        table = {name: table[name] for name in ("pid", "geom") if name in table}
    return table, len(found) > page.limit


def peers(
    conn: db.Connection, campaign: Campaign, code: str, distance_m: float, most: int
) -> Columns:
    """Parcels of the same crop around a parcel, nearest first.

    Args:
        conn: an open connection.
        campaign: where to look.
        code: the agency's parcel id.
        distance_m: how far they may lie from its edge, metres in EPSG:3035.
        most: how many at most.

    Returns:
        pids (codes) and distance (metres); parcels below 3000 m2 are none.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    internal_pid(conn, campaign, code)
    asked = {
        "campaign": campaign.id,
        "code": code,
        "srid": campaign.srid,
        "distance": distance_m,
        "most": most,
        "area": _SMALLEST_PEER_M2,
    }
    return columns(["pids", "distance"], db.rows(conn, named(_PEERS, campaign), asked))


def internal_pid(conn: db.Connection, campaign: Campaign, code: str) -> int:
    """The key that signatures know a parcel by.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    asked = {"campaign": campaign.id, "code": code}
    found = db.prepared_rows(conn, named(_PID, campaign), {"code": "text"}, asked)
    if not found:
        raise _no_such_parcel(campaign, code)
    return int(found[0].pid)


def _parcels(found: Sequence[Any], geometry: bool) -> Columns:
    names = ["pid", "cropname", "cropcode", "srid", "geom", "area", "clon", "clat"]
    return without(columns(names, found), geom=geometry)


def _no_such_parcel(campaign: Campaign, code: str) -> NotFoundError:
    return NotFoundError(f"{campaign.aoi} {campaign.year} has no parcel {code!r}")
