"""Markers: what a detector found out about parcels, imported for the API to tell."""

import csv
import math
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from store import db
from store.errors import CallerError
from store.parcels.campaigns import Campaign

_NEEDED = ("code", "marker", "date_start")
_OTHERS = ("marker_type", "date_main", "date_end", "value_1", "value_2", "value_3", "practice")

_STAGE = """
    CREATE TEMPORARY TABLE marker_read ON COMMIT DROP AS
    SELECT campaign_id, code, marker, marker_type, date_start, date_main, date_end,
           value_1, value_2, value_3, practice
    FROM public.marker LIMIT 0"""

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
    rows = list(_read(campaign, file))
    _refuse_twins(file, rows)
    with db.transaction(conn):
        db.execute(conn, _STAGE)
        db.insert_many(conn, "INSERT INTO marker_read VALUES %s", rows)
        _refuse_strangers(conn, campaign, file)
        if replace:
            db.execute(conn, "DELETE FROM public.marker WHERE campaign_id = %s", (campaign.id,))
        db.execute(conn, _KEEP)
    return len(rows)


def _read(campaign: Campaign, file: Path) -> Iterator[tuple[Any, ...]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            columns = set(reader.fieldnames or ())
            unknown = columns - {*_NEEDED, *_OTHERS}
            if not set(_NEEDED) <= columns or unknown:
                raise CallerError(
                    f"{file} needs the columns {', '.join(_NEEDED)} and may have "
                    f"{', '.join(_OTHERS)}; it has {', '.join(sorted(columns)) or 'none'}"
                )
            for number, line in enumerate(reader, 2):
                yield campaign.id, *_row(file, number, line)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CallerError(f"cannot read {file}: {error}") from None


def _row(file: Path, number: int, line: Mapping[str, str | None]) -> tuple[Any, ...]:
    told = {name: (line.get(name) or "").strip() for name in (*_NEEDED, *_OTHERS)}
    for name in _NEEDED:
        if not told[name]:
            raise CallerError(f"{file}, line {number}: {name} is empty")
    try:
        start, main, end = (
            date.fromisoformat(told[name]) if told[name] else None
            for name in ("date_start", "date_main", "date_end")
        )
        values = [float(told[name]) if told[name] else None for name in _OTHERS[3:6]]
    except ValueError as error:
        raise CallerError(f"{file}, line {number}: {error}") from None
    if start and end and end < start:
        raise CallerError(f"{file}, line {number}: it ends before it starts")
    if not all(value is None or math.isfinite(value) for value in values):
        raise CallerError(f"{file}, line {number}: a value is not finite")
    names = (told["code"], told["marker"], told["marker_type"])
    return (*names, start, main, end, *values, told["practice"] or None)


def _refuse_twins(file: Path, rows: list[tuple[Any, ...]]) -> None:
    seen = set()
    for row in rows:
        if row[:5] in seen:
            raise CallerError(f"{file} has a marker twice: {row[1]}, {row[2]}, from {row[4]}")
        seen.add(row[:5])


def _refuse_strangers(conn: db.Connection, campaign: Campaign, file: Path) -> None:
    statement = db.compose(_STRANGERS, parcels=(campaign.aoi, "parcels"))
    missing = [row.code for row in db.rows(conn, statement, (campaign.id,))]
    if missing:
        few = ", ".join(map(repr, missing[:5])) + (" ..." if len(missing) > 5 else "")
        raise CallerError(f"{file}: {campaign.name} lacks {len(missing)} of its parcels: {few}")
