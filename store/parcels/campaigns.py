"""Campaigns: one declaration each (aoi, year, ptype), from creation to drop."""

import re
from dataclasses import dataclass
from datetime import date

from store import db
from store.config import AOI_PATTERN, PTYPE_PATTERN
from store.errors import CallerError, ConflictError, NotFoundError

_YEARS = range(2000, 2101)
_SELECT = (
    'SELECT id, aoi, year, ptype, start_date AS start, end_date AS "end", buffer_m, srid, '
    "next_pid, state "
    "FROM public.campaign "
)
_BY_NAME = _SELECT + "WHERE aoi = %s AND year = %s AND ptype = %s"
_ALL = _SELECT + "ORDER BY aoi, year, ptype"
_LOCK = _SELECT + "WHERE id = %s FOR UPDATE"
_MAKE = "SELECT public.cbm_make_campaign(%s, %s, %s, %s, %s, %s)"
_DROP = "SELECT public.cbm_drop_campaign(%s::smallint)"
_CLOSE = """
    UPDATE public.campaign SET state = 'closed', closed_at = now()
    WHERE id = %s AND state = 'open'"""
_CONTENTS = """
    SELECT (SELECT coalesce(sum(parcels), 0) FROM public.parcel_set
            WHERE campaign_id = %(id)s) AS parcels,
           count(DISTINCT w.obsid) AS scenes,
           coalesce(sum(w.signatures), 0) AS signatures
    FROM public.work w JOIN public.parcel_set p ON p.id = w.set_id
    WHERE p.campaign_id = %(id)s"""
_STRANGE_SCHEMA = """
    SELECT FROM pg_namespace n
    WHERE n.nspname = %s AND NOT EXISTS (SELECT FROM public.aoi WHERE code = n.nspname)"""


@dataclass(frozen=True)
class Campaign:
    """One declaration of parcels, followed over a season.

    Attributes:
        id: key in the database.
        aoi: Member State or region code, also the name of its schema.
        year: of the declaration.
        ptype: tells several declarations of one year apart; '' for the only one.
        start: first day whose scenes are extracted.
        end: last such day, included.
        buffer_m: inward buffer of every parcel before reduction, metres.
        srid: EPSG code of the stored geometries; None before the first import.
        next_pid: the pid the next new parcel gets.
        state: open or closed.
    """

    id: int
    aoi: str
    year: int
    ptype: str
    start: date
    end: date
    buffer_m: float
    srid: int | None
    next_pid: int
    state: str

    @property
    def name(self) -> str:
        """Name for people, such as nl_2024, and with a ptype nl_2024_g."""
        return _name(self.aoi, self.year, self.ptype)


@dataclass(frozen=True)
class Contents:
    """The numbers of a campaign's parcels, scenes and signatures.

    Attributes:
        parcels: parcels of the last import.
        scenes: scenes that joined it, whatever became of them.
        signatures: rows of statistics written, one per (parcel, scene).
    """

    parcels: int
    scenes: int
    signatures: int


def create(
    conn: db.Connection,
    aoi: str,
    year: int,
    ptype: str = "",
    start: date | None = None,
    end: date | None = None,
    buffer_m: float = 0,
) -> Campaign:
    """Make an empty campaign, and the schema of its aoi if this is the first one there.

    Args:
        conn: a connection of the owner role.
        aoi: two to eight lower-case letters and digits, a letter first.
        year: of the declaration, 2000 to 2100.
        ptype: up to eight lower-case letters and digits.
        start: first day of scenes; by default 1 October before the declared year.
        end: last day of scenes, included; by default 31 December of the declared year.
        buffer_m: inward buffer of every parcel before reduction, metres.

    Raises:
        CallerError: a value cannot be used.
        ConflictError: the campaign exists, or the database uses that schema name otherwise.
    """
    start, end = start or date(year - 1, 10, 1), end or date(year, 12, 31)
    _check(aoi, year, ptype, start, end, buffer_m)

    def make() -> None:
        db.execute(conn, "SELECT pg_advisory_xact_lock(hashtext('cbm_campaign'))")
        _refuse_taken(conn, aoi, year, ptype)
        db.execute(conn, _MAKE, (aoi, year, ptype, start, end, buffer_m))

    db.change_tables(conn, make)
    return find(conn, aoi, year, ptype)


def find(conn: db.Connection, aoi: str, year: int, ptype: str = "") -> Campaign:
    """Return the campaign of that name.

    Raises:
        NotFoundError: there is none.
    """
    row = db.fetch_one(conn, _BY_NAME, (aoi, year, ptype))
    if row is None:
        option = f" --ptype {ptype}" if ptype else ""
        raise NotFoundError(
            f"there is no campaign {_name(aoi, year, ptype)}: make it with "
            f"cbm-store campaign create --aoi {aoi} --year {year}{option}"
        )
    return Campaign(**row._asdict())


def find_all(conn: db.Connection) -> list[Campaign]:
    """Return all campaigns, ordered by name."""
    return [Campaign(**row._asdict()) for row in db.fetch_all(conn, _ALL)]


def contents(conn: db.Connection, campaign: Campaign) -> Contents:
    """The numbers of a campaign's parcels, scenes and signatures."""
    row = db.fetch_one(conn, _CONTENTS, {"id": campaign.id})
    return Contents(int(row.parcels), int(row.scenes), int(row.signatures))


def close(conn: db.Connection, campaign: Campaign) -> None:
    """Let no further scene join and no file be imported; queued work is still done."""
    db.execute(conn, _CLOSE, (campaign.id,))


def drop(conn: db.Connection, campaign: Campaign) -> None:
    """Erase a campaign with all its data: parcels, signatures, views and queue.

    Raises:
        NotFoundError: it is gone already.
        LockedError: it was in use all the time.
    """

    def erase() -> None:
        lock(conn, campaign)
        db.execute(conn, _DROP, (campaign.id,))

    db.change_tables(conn, erase)


def lock(conn: db.Connection, campaign: Campaign) -> Campaign:
    """Take a campaign's row lock for this transaction and return it as it stands now.

    Raises:
        NotFoundError: it was dropped in the meantime.
    """
    row = db.fetch_one(conn, _LOCK, (campaign.id,))
    if row is None:
        raise NotFoundError(f"the campaign {campaign.name} was dropped")
    return Campaign(**row._asdict())


def _name(aoi: str, year: int, ptype: str) -> str:
    return f"{aoi}_{year}_{ptype}" if ptype else f"{aoi}_{year}"


def is_aoi(text: str) -> bool:
    """Whether a text can be the code of a Member State or region."""
    return re.fullmatch(AOI_PATTERN, text) is not None and text != "public"


def _check(aoi: str, year: int, ptype: str, start: date, end: date, buffer_m: float) -> None:
    if not is_aoi(aoi):
        raise CallerError(
            f"{aoi!r} cannot be an aoi: use two to eight lower-case letters and "
            "digits, a letter first, such as nl or bewa (and not public)"
        )
    if year not in _YEARS:
        raise CallerError(f"the year {year} is not between {_YEARS[0]} and {_YEARS[-1]}")
    if not re.fullmatch(PTYPE_PATTERN, ptype):
        raise CallerError(
            f"{ptype!r} cannot be a ptype: use up to eight lower-case letters and digits"
        )
    if start > end:
        raise CallerError(f"the campaign would start on {start}, after its end on {end}")
    if not 0 <= buffer_m < float("inf"):
        raise CallerError(
            f"a buffer of {buffer_m:g} m is not possible: it points inwards, give 0 or more"
        )


def _refuse_taken(conn: db.Connection, aoi: str, year: int, ptype: str) -> None:
    if db.fetch_one(conn, _BY_NAME, (aoi, year, ptype)):
        raise ConflictError(f"the campaign {_name(aoi, year, ptype)} exists already")
    if db.fetch_one(conn, _STRANGE_SCHEMA, (aoi,)) is not None:
        raise ConflictError(f"the database has a schema {aoi} that is not ours: use another aoi")
