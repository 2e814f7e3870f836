"""Parcels as vector tiles, made by PostGIS: https://github.com/mapbox/vector-tile-spec (2.1)."""

import hashlib
import math
from dataclasses import asdict, dataclass

from app.query.campaigns import CampaignView, compose
from store import db

MIN_ZOOM = 11
"""Such a tile is 12 km wide at 52 degrees north and holds some thousand parcels."""

MAX_ZOOM = 15
"""Browsers enlarge its tiles: 4096 steps on 800 m are finer than parcels are surveyed."""

_MAX_PARCELS = 50_000

_WORLD_M = 40_075_016.7
"""Width of the world in EPSG:3857."""

_STATE = """
    SELECT id, digest FROM public.parcel_set
    WHERE campaign_id = %(campaign)s
      AND extent && ST_Transform(ST_TileEnvelope(%(z)s, %(x)s, %(y)s), 4326)
    ORDER BY id"""

# Outlines are thinned in their own CRS, to a twelfth of a thousandth of the tile's width (half a
# pixel on a screen), before they are transformed: that is most of the work.
_TILE = """
    WITH tile AS MATERIALIZED (
        SELECT envelope, box, (ST_XMax(box) - ST_XMin(box)) / 1024 AS step
        FROM (SELECT envelope, ST_Transform(ST_Expand(envelope, %(margin)s), %(srid)s) AS box
              FROM ST_TileEnvelope(%(z)s, %(x)s, %(y)s) AS envelope) AS e),
    parcel AS (
        SELECT p.code, p.crop_name AS crop,
               ST_AsMVTGeom(
                   ST_Transform(ST_Simplify(p.geom, tile.step / 2, true), 3857),
                   tile.envelope, 4096, 64, true) AS geom
        FROM {parcels} AS p, tile
        WHERE p.campaign_id = %(campaign)s AND p.geom && tile.box
        LIMIT %(limit)s)
    SELECT ST_AsMVT(parcel, 'parcels', 4096, 'geom') AS tile FROM parcel WHERE geom IS NOT NULL"""


@dataclass(frozen=True)
class TileAddress:
    """A tile of the web-mercator scheme.

    Attributes:
        z: zoom.
        x: column, from the west.
        y: row, from the north.
    """

    z: int
    x: int
    y: int

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of its middle, degrees."""
        tiles = 1 << self.z
        north = math.pi * (1 - 2 * (self.y + 0.5) / tiles)
        return (self.x + 0.5) / tiles * 360 - 180, math.degrees(math.atan(math.sinh(north)))

    @property
    def ground_m(self) -> float:
        """Length of its sides on the ground at its middle, metres."""
        return _WORLD_M / (1 << self.z) * math.cos(math.radians(self.centre[1]))

    @property
    def exists(self) -> bool:
        """Whether the zoom has such a tile."""
        return max(self.x, self.y) < 1 << self.z


def fetch_etag(conn: db.Connection, campaign: CampaignView, tile: TileAddress) -> str | None:
    """A digest that changes whenever a tile's content may; None if the tile is empty."""
    sets = db.fetch_all(conn, _STATE, _params(campaign, tile))
    if not sets or campaign.srid is None:
        return None
    text = f"{tile} {campaign.id} {[tuple(row) for row in sets]}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fetch_tile(conn: db.Connection, campaign: CampaignView, tile: TileAddress) -> bytes:
    """The parcels of a tile: layer parcels, with their code and crop."""
    margin = _WORLD_M / (1 << tile.z) / 64
    params = {**_params(campaign, tile), "srid": campaign.srid, "margin": margin}
    row = db.fetch_one(conn, compose(_TILE, campaign), {**params, "limit": _MAX_PARCELS})
    return bytes(row.tile)


def _params(campaign: CampaignView, tile: TileAddress) -> dict[str, int]:
    return {"campaign": campaign.id, **asdict(tile)}
