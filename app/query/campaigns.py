"""The registry of campaigns: the source of the tables' names, which never come from a request."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.access.users import User
from store import db
from store.errors import NotFoundError


class NoCampaignError(NotFoundError):
    """There is no such aoi, or the aoi has no such campaign."""


@dataclass(frozen=True)
class CampaignView:
    """One declaration, as the database has it.

    Attributes:
        id: its key.
        aoi: Member State or region, the schema of its tables.
        year: of the declaration.
        ptype: parcel type, '' by default.
        srid: EPSG code of its parcels; None before the first import.
        kinds: CARD kinds with signatures.
    """

    id: int
    aoi: str
    year: int
    ptype: str
    srid: int | None
    kinds: tuple[str, ...]


def fetch_campaigns(conn: db.Connection, aois: Iterable[str]) -> list[CampaignView]:
    """All campaigns of some aois, by aoi, newest year first."""
    rows = db.fetch_all(
        conn,
        "SELECT id, aoi, year, ptype, srid, "
        "array(SELECT jsonb_object_keys(units) ORDER BY 1) AS kinds "
        "FROM public.campaign WHERE aoi = ANY(%s) ORDER BY aoi, year DESC, ptype",
        (list(aois),),
    )
    return [
        CampaignView(row.id, row.aoi, row.year, row.ptype, row.srid, tuple(row.kinds))
        for row in rows
    ]


def campaigns_of_aoi(conn: db.Connection, user: User, aoi: str) -> list[CampaignView]:
    """The campaigns of an aoi.

    Raises:
        ForbiddenError: the user has no right to it, whether there is such an aoi or not.
        NoCampaignError: it has no campaign any more.
    """
    user.require(aoi)
    campaigns = fetch_campaigns(conn, [aoi])
    if not campaigns:
        raise NoCampaignError(f"aoi {aoi} has no campaign")
    return campaigns


def find_campaign(conn: db.Connection, user: User, aoi: str, year: int, ptype: str) -> CampaignView:
    """The campaign of an aoi, year and parcel type.

    Raises:
        NoCampaignError: there is none; names those that there are.
        ForbiddenError: the user has no right to the aoi.
    """
    campaigns = campaigns_of_aoi(conn, user, aoi)
    for campaign in campaigns:
        if (campaign.year, campaign.ptype) == (year, ptype):
            return campaign
    known = ", ".join(f"{c.year} {c.ptype}".strip() for c in campaigns)
    name = f"{year} {ptype}".strip()
    raise NoCampaignError(f"{aoi} has no campaign {name}; it has {known}")


def compose(template: str, campaign: CampaignView, **names: db.Name) -> Any:
    """A statement with a campaign's tables {parcels}, {hists}, {preferred} and other names."""
    tables = {table: (campaign.aoi, table) for table in ("parcels", "hists", "preferred")}
    return db.compose(template, **tables, **names)
