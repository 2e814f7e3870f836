"""The registry of campaigns: where the tables' names come from, never from a request."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.users import User
from store import db
from store.errors import NotFoundError


@dataclass(frozen=True)
class Campaign:
    """One declaration, as the database knows it.

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


def campaigns(conn: db.Connection, aois: Iterable[str]) -> list[Campaign]:
    """All campaigns of some aois, by aoi, newest year first."""
    found = db.rows(
        conn,
        "SELECT id, aoi, year, ptype, srid, "
        "array(SELECT jsonb_object_keys(units) ORDER BY 1) AS kinds "
        "FROM public.campaign WHERE aoi = ANY(%s) ORDER BY aoi, year DESC, ptype",
        (list(aois),),
    )
    return [
        Campaign(row.id, row.aoi, row.year, row.ptype, row.srid, tuple(row.kinds)) for row in found
    ]


def campaigns_of(conn: db.Connection, user: User, aoi: str) -> list[Campaign]:
    """The campaigns of an aoi.

    Raises:
        NotFoundError: there is no such aoi.
        ForbiddenError: the user may not ask about it.
    """
    found = campaigns(conn, [aoi])
    if not found:
        raise NotFoundError(f"there is no aoi {aoi}")
    user.require(aoi)
    return found


def asked_campaign(conn: db.Connection, user: User, asked: Mapping[str, Any]) -> Campaign:
    """The campaign that a request names by the parameters aoi, year and ptype.

    Raises:
        NotFoundError: there is none.
        ForbiddenError: the user may not ask about the aoi.
    """
    return choose(campaigns_of(conn, user, asked["aoi"]), asked["year"], asked["ptype"])


def choose(found: Sequence[Campaign], year: int, ptype: str) -> Campaign:
    """The campaign of a year and parcel type, out of those of one aoi.

    Raises:
        NotFoundError: there is none; names those that there are.
    """
    for campaign in found:
        if (campaign.year, campaign.ptype) == (year, ptype):
            return campaign
    known = ", ".join(f"{c.year} {c.ptype}".strip() for c in found)
    asked = f"{year} {ptype}".strip()
    raise NotFoundError(f"{found[0].aoi} has no campaign {asked}; it has {known}")


def named(template: str, campaign: Campaign, **names: tuple[str, ...] | list[str]) -> Any:
    """Put a campaign's tables {parcels}, {hists}, {preferred} and other names into a statement."""
    tables = {table: (campaign.aoi, table) for table in ("parcels", "hists", "preferred")}
    return db.compose(template, **tables, **names)
