"""Markers: events that a detector reports of parcels, imported for the API."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from store import db
from store.delimited import DelimitedRow, open_rows
from store.errors import CallerError
from store.parcels.campaigns import Campaign

_NEEDED = ("code", "marker", "date_start")
_OTHERS = ("marker_type", "date_main", "date_end", "value_1", "value_2", "value_3", "practice")

_STAGE = """
    CREATE TEMPORARY TABLE marker_read ON COMMIT DROP AS
    SELECT campaign_id, code, marker, marker_type, date_start, date_main, date_end,
           value_1, value_2, value_3, practice
    FROM public.marker LIMIT 0"""

_TWINS = """
    SELECT code, marker, date_start FROM marker_read
    GROUP BY code, marker, marker_type, date_start HAVING count(*) > 1
    ORDER BY 1, 2, 3 LIMIT 1"""

_STRANGERS = """
    SELECT DISTINCT code FROM marker_read
    WHERE NOT EXISTS (SELECT FROM {parcels} AS parcel
                      WHERE parcel.campaign_id = %s AND parcel.code = marker_read.code)
    ORDER BY code"""

_KEEP = """
    INSERT INTO public.marker AS kept (campaign_id, code, marker, marker_type, date_start,
        date_main, date_end, value_1, value_2, value_3, practice)
    SELECT * FROM marker_read
    ON CONFLICT (campaign_id, code, marker, marker_type, date_start) DO UPDATE SET
        date_main = EXCLUDED.date_main, date_end = EXCLUDED.date_end,
        value_1 = EXCLUDED.value_1, value_2 = EXCLUDED.value_2, value_3 = EXCLUDED.value_3,
        practice = EXCLUDED.practice"""


def import_markers(
    conn: db.Connection, campaign: Campaign, file: Path, *, replace: bool = False
) -> int:
    """Keep a file's markers; one of the same parcel, marker, type and start is replaced.

    Args:
        conn: an open connection of a role that may write.
        campaign: whose parcels they are about.
        file: CSV with the columns code (the agency's parcel id), marker, date_start, and any of
            marker_type, date_main, date_end, value_1 to value_3, practice. Dates are YYYY-MM-DD.
        replace: forget all other markers of the campaign.

    Returns:
        How many there are in the file.

    Raises:
        CallerError: the file cannot be read, names parcels that there are not, or one marker
            twice; nothing was kept.
    """
    with db.transaction(conn):
        db.execute(conn, _STAGE)
        db.insert_many(conn, "INSERT INTO marker_read VALUES %s", _read(campaign, file))
        _refuse_twins(conn, file)
        _refuse_strangers(conn, campaign, file)
        if replace:
            db.execute(conn, "DELETE FROM public.marker WHERE campaign_id = %s", (campaign.id,))
        return db.execute(conn, _KEEP)


def _read(campaign: Campaign, file: Path) -> Iterator[tuple[Any, ...]]:
    with open_rows(file) as (columns, rows):
        if not set(_NEEDED) <= columns or columns - {*_NEEDED, *_OTHERS}:
            raise CallerError(
                f"{file} needs the columns {', '.join(_NEEDED)} and may have "
                f"{', '.join(_OTHERS)}; it has {', '.join(sorted(columns)) or 'none'}"
            )
        for row in rows:
            yield campaign.id, *_marker(row)


def _marker(row: DelimitedRow) -> tuple[Any, ...]:
    texts = {name: row.cells.get(name, "") for name in (*_NEEDED, *_OTHERS)}
    for name in _NEEDED:
        if not texts[name]:
            raise CallerError(f"{row.place}: {name} is empty")
    try:
        start, main, end = (
            date.fromisoformat(texts[name]) if texts[name] else None
            for name in ("date_start", "date_main", "date_end")
        )
    except ValueError as error:
        raise CallerError(f"{row.place}: {error}") from None
    values = [row.number(name) for name in _OTHERS[3:6]]
    if start and end and end < start:
        raise CallerError(f"{row.place}: it ends before it starts")
    names = (texts["code"], texts["marker"], texts["marker_type"])
    return (*names, start, main, end, *values, texts["practice"] or None)


def _refuse_twins(conn: db.Connection, file: Path) -> None:
    if twin := db.fetch_one(conn, _TWINS):
        raise CallerError(
            f"{file} has a marker twice: {twin.code}, {twin.marker}, from {twin.date_start}"
        )


def _refuse_strangers(conn: db.Connection, campaign: Campaign, file: Path) -> None:
    statement = db.compose(_STRANGERS, parcels=(campaign.aoi, "parcels"))
    missing = [row.code for row in db.fetch_all(conn, statement, (campaign.id,))]
    if missing:
        few = ", ".join(map(repr, missing[:5])) + (" ..." if len(missing) > 5 else "")
        raise CallerError(f"{file}: {campaign.name} lacks {len(missing)} of its parcels: {few}")
