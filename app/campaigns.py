"""The registry of campaigns: where the tables' names come from, never from a request."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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
