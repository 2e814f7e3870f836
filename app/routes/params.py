"""Parameters that several routes share, and the campaign that they name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import AliasChoices, Field

from app.http.parameters import AoiCode, Flag, Params, ParcelType, Text, Year
from app.query.campaigns import CampaignView, find_campaign
from app.routes.route import RequestContext
from store import db


class CampaignParams(Params):
    """Which declaration."""

    aoi: AoiCode = Field(description="Member State or region", examples=["nl"])
    year: Year = Field(description="year of the declaration", examples=["2024"])
    ptype: ParcelType = Field("", description="parcel type, if a year has several", examples=["g"])


@contextmanager
def campaign_of(context: RequestContext[Any]) -> Iterator[tuple[db.Connection, CampaignView]]:
    """A connection, and the campaign of the request.

    Raises:
        NotFoundError: there is none.
        ForbiddenError: the user has no right to the aoi.
    """
    params: CampaignParams = context.params
    with context.connection() as conn:
        yield conn, find_campaign(conn, context.user, params.aoi, params.year, params.ptype)


class ParcelParams(CampaignParams):
    """Which parcel."""

    pid: Text = Field(description="the agency's id of the parcel", examples=["007"])


class PointParams(Params):
    """Which point."""

    lon: float = Field(ge=-180, le=180, description="longitude in degrees, WGS 84", examples=[5.39])
    lat: float = Field(ge=-90, le=90, description="latitude in degrees, WGS 84", examples=[52.15])


class GeometryParams(Params):
    """Whether parcels come with their geometry, and in which CRS."""

    geometry: Flag = Field(
        False,
        validation_alias=AliasChoices("withGeometry", "geom"),
        description="with the geometry as GeoJSON",
    )
    wgs84: Flag = Field(False, description="geometry in longitude and latitude")
