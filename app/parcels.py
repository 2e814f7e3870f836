"""Parcels by their code or place."""

from collections.abc import Sequence
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
    found = db.rows(conn, named(_BY_LOCATION, campaign), params)
    if not found:
        raise NotFoundError(f"no parcel of {campaign.aoi} {campaign.year} at {lon:g}, {lat:g}")
    return _parcels(found, geometry)


def internal_pid(conn: db.Connection, campaign: Campaign, code: str) -> int:
    """The key that signatures know a parcel by.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    statement = named("SELECT pid FROM {parcels} WHERE campaign_id = %s AND code = %s", campaign)
    row = db.one(conn, statement, (campaign.id, code))
    if row is None:
        raise _no_such_parcel(campaign, code)
    return int(row.pid)


def _parcels(found: Sequence[Any], geometry: bool) -> Columns:
    names = ["pid", "cropname", "cropcode", "srid", "geom", "area", "clon", "clat"]
    return without(columns(names, found), geom=geometry)


def _no_such_parcel(campaign: Campaign, code: str) -> NotFoundError:
    return NotFoundError(f"{campaign.aoi} {campaign.year} has no parcel {code!r}")
