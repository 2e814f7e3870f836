"""Time series of a parcel: statistics by observation and band, and SCL histograms."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import Any

from app.campaigns import Campaign, named
from app.columns import Columns, columns, without
from app.errors import ParameterError
from app.parcels import internal_pid
from store import db

_STATISTICS = ("count", "mean", "std", "min", "p25", "p50", "p75", "max")
"""In the order of the tables' columns; the JRC's answers have the same."""

_CLASSES = tuple(f"c{n}" for n in range(12))
"""Columns of the SCL histograms, class 0 to 11."""

_OBSERVATIONS = """
    SELECT extract(epoch FROM scene.obstime)::double precision AS date_part,
           r.obsid, scene.reference, {classes}, {statistics}
    FROM {signatures} AS r
    JOIN public.scene AS scene USING (obsid)
    LEFT JOIN {hists} AS h
      ON %(scl)s AND h.campaign_id = %(campaign)s AND h.pid = %(pid)s AND h.obsid = r.obsid
    WHERE r.campaign_id = %(campaign)s AND r.pid = %(pid)s"""

_HISTOGRAMS = """
    SELECT r.obsid, scene.reference, {classes}
    FROM {hists} AS r
    JOIN public.scene AS scene USING (obsid)
    WHERE r.campaign_id = %(campaign)s AND r.pid = %(pid)s"""

_PICKED = """
      AND (%(start)s::date IS NULL OR scene.obstime >= %(start)s::date)
      AND (%(end)s::date IS NULL OR scene.obstime < %(end)s::date + 1)
      AND (%(every)s OR r.obsid IN (
           SELECT obsid FROM {preferred}
           WHERE kind = %(kind)s AND campaign_id = %(campaign)s AND pid = %(pid)s))
    ORDER BY scene.obstime, r.obsid"""


@dataclass(frozen=True)
class Selection:
    """Which observations of a parcel are wanted.

    Attributes:
        start: first day, UTC; None for no bound.
        end: last day, included.
        every: also those of which the same acquisition has a preferred one.
    """

    start: date | None = None
    end: date | None = None
    every: bool = False


def time_series(
    conn: db.Connection,
    campaign: Campaign,
    code: str,
    kind: str,
    selection: Selection,
    *,
    band: str | None = None,
    scl: bool = True,
    ref: bool = False,
) -> Columns:
    """A parcel's statistics, one row per observation and band, by time, then band.

    Args:
        conn: an open connection.
        campaign: where to look.
        code: the agency's parcel id.
        kind: CARD kind.
        selection: which observations.
        band: one band by its JRC name; None for all.
        scl: with column hist (class -> pixels; None where there is no histogram); s2 only.
        ref: with column reference, the product's name.

    Returns:
        date_part (seconds since 1970), band, count, mean, std, min, p25, p50, p75, max, hist and
        reference if asked for. A band that a product lacks has no row; statistics of no pixel
        are None.

    Raises:
        NotFoundError: the campaign has no such parcel.
        ParameterError: the kind has no such band.
    """
    bands = _bands(conn, kind, band)
    pid = internal_pid(conn, campaign, code)
    scl = scl and kind == "s2"
    statistics = [f"{name.lower()}_{stat}" for name, _ in bands for stat in _STATISTICS]
    statement = named(
        _OBSERVATIONS + _PICKED,
        campaign,
        signatures=(campaign.aoi, kind),
        classes=list(_CLASSES),
        statistics=statistics,
    )
    found = db.rows(conn, statement, {"scl": scl, **_picked(campaign, pid, kind, selection)})
    rows = [row for observation in found for row in _long(observation, bands)]
    rows.sort(key=itemgetter(0, 1))
    table = columns(["date_part", "band", *_STATISTICS, "hist", "reference"], rows)
    return without(table, hist=scl, reference=ref)


def scl_series(
    conn: db.Connection, campaign: Campaign, code: str, selection: Selection, *, ref: bool = False
) -> Columns:
    """A parcel's SCL histograms by time.

    Returns:
        obsid, hist (class -> pixels), reference if asked for.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    pid = internal_pid(conn, campaign, code)
    statement = named(_HISTOGRAMS + _PICKED, campaign, classes=list(_CLASSES))
    found = db.rows(conn, statement, _picked(campaign, pid, "s2", selection))
    rows = [(row.obsid, _hist(row[2:]), row.reference) for row in found]
    return without(columns(["obsid", "hist", "reference"], rows), reference=ref)


def _bands(conn: db.Connection, kind: str, only: str | None) -> list[tuple[str, str]]:
    known = [
        (row.name, row.jrc_name)
        for row in db.rows(conn, "SELECT name, jrc_name FROM public.band WHERE kind = %s", (kind,))
    ]
    wanted = [(name, jrc) for name, jrc in known if only in (None, jrc)]
    if not wanted:
        names = ", ".join(sorted(jrc for _, jrc in known))
        raise ParameterError(f"band: {only!r} is none of {kind}'s bands: {names}")
    return wanted


def _picked(campaign: Campaign, pid: int, kind: str, selection: Selection) -> dict[str, Any]:
    return {
        "campaign": campaign.id,
        "pid": pid,
        "kind": kind,
        "start": selection.start,
        "end": selection.end,
        "every": selection.every,
    }


def _long(observation: Any, bands: Sequence[tuple[str, str]]) -> Iterable[tuple[Any, ...]]:
    """One row per band of a wide row: date_part, obsid, reference, classes, statistics."""
    hist = _hist(observation[3 : 3 + len(_CLASSES)])
    place = 3 + len(_CLASSES)
    for _, jrc_name in bands:
        count, *values = observation[place : place + len(_STATISTICS)]
        place += len(_STATISTICS)
        if count is not None:
            statistics = [_finite(value) for value in values]
            date_part, reference = observation.date_part, observation.reference
            yield (date_part, jrc_name, int(count), *statistics, hist, reference)


def _hist(classes: Sequence[int | None]) -> dict[str, int] | None:
    """Class -> pixels, of the classes that occur; None if there is no histogram."""
    if classes[0] is None:
        return None
    return {str(n): pixels for n, pixels in enumerate(classes) if pixels}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
