"""Time series of a parcel: statistics by observation and band, and SCL histograms."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from operator import itemgetter
from typing import Any

from app.campaigns import Campaign, named
from app.columns import Columns, columns, without
from app.errors import ParameterError
from app.parcels import internal_pid
from store import db
from store.signatures import STATISTICS

CLASSES = tuple(f"c{n}" for n in range(12))
"""Columns of the SCL histograms, class 0 to 11."""

_BANDS = "SELECT name, jrc_name FROM public.band WHERE kind = %s ORDER BY position"

CLEAR_CLASSES = (2, 4, 5, 6, 7)
"""SCL classes of pixels that show the ground: dark, vegetation, bare, water, unclassified. Not
nodata, defective, cloud shadow, the three of clouds, cirrus, snow."""

_CLEAR = " + ".join(f"h.c{n}" for n in CLEAR_CLASSES)
_SEEN = " + ".join(f"h.{name}" for name in CLASSES)

OBSERVED = f"""
    FROM {{observations}} AS r
    LEFT JOIN {{hists}} AS h
      ON %(scl)s AND h.campaign_id = %(campaign)s AND h.pid = r.pid AND h.obsid = r.obsid
    JOIN {{parcels}} AS parcel ON parcel.campaign_id = %(campaign)s AND parcel.pid = r.pid
    WHERE r.campaign_id = %(campaign)s
      AND (%(start)s::date IS NULL OR r.obstime >= %(start)s::date)
      AND (%(end)s::date IS NULL OR r.obstime < %(end)s::date + 1)
      AND (%(cloudfree)s IS NULL
           OR ({_CLEAR}) >= %(cloudfree)s::double precision * ({_SEEN}))"""
"""What a `Selection` picks, by its names and params."""

_ASKED = {"pid": "integer", "start": "date", "end": "date", "cloudfree": "double precision"}
"""What differs from question to question about one parcel, in SQL's types."""

_OF_PARCEL = " AND r.pid = %(pid)s ORDER BY r.obstime, r.obsid"

_OBSERVATIONS = (
    """
    SELECT extract(epoch FROM r.obstime)::double precision AS date_part,
           r.obsid, r.reference, {classes}, {statistics}"""
    + OBSERVED
    + _OF_PARCEL
)

_HISTOGRAMS = (
    "SELECT r.obsid, r.reference, {classes}" + OBSERVED + " AND h.obsid IS NOT NULL" + _OF_PARCEL
)


@dataclass(frozen=True)
class Selection:
    """Which observations of a parcel are wanted.

    Attributes:
        start: first day, UTC; None for no bound.
        end: last day, included.
        every: also those of which the same acquisition has a preferred one.
        cloudfree: least share of the parcel's SCL pixels that show the ground, 0 to 1; None for
            any. Without a histogram an observation is not known to be clear.
    """

    start: date | None = None
    end: date | None = None
    every: bool = False
    cloudfree: float | None = None

    def view(self, campaign: Campaign, kind: str) -> tuple[str, str]:
        """The view to read the observations from."""
        return campaign.aoi, f"observed_{kind}" if self.every else f"preferred_{kind}"

    def params(self, campaign: Campaign, kind: str, *, scl: bool) -> dict[str, Any]:
        """What `OBSERVED` asks for.

        Raises:
            ParameterError: the kind cannot be judged by clouds.
        """
        if self.cloudfree is not None and kind != "s2":
            raise ParameterError(f"cloudfree: there are no clouds in {kind}")
        scl = scl or self.cloudfree is not None
        return {"campaign": campaign.id, "scl": scl, **asdict(self)}


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
    bands = bands_of(conn, kind, band)
    pid = internal_pid(conn, campaign, code)
    scl = scl and kind == "s2"
    statistics = [f"{name.lower()}_{stat}" for name, _ in bands for stat in STATISTICS]
    statement = named(
        _OBSERVATIONS,
        campaign,
        observations=selection.view(campaign, kind),
        classes=list(CLASSES),
        statistics=statistics,
    )
    asked = {"pid": pid, **selection.params(campaign, kind, scl=scl)}
    found = db.prepared_rows(conn, statement, _ASKED, asked)
    rows = [row for observation in found for row in _long(observation, bands)]
    rows.sort(key=itemgetter(0, 1))
    table = columns(["date_part", "band", *STATISTICS, "hist", "reference"], rows)
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
    view = selection.view(campaign, "s2")
    statement = named(_HISTOGRAMS, campaign, observations=view, classes=list(CLASSES))
    asked = {"pid": pid, **selection.params(campaign, "s2", scl=True)}
    found = db.prepared_rows(conn, statement, _ASKED, asked)
    rows = [(row.obsid, _hist(row[2:]), row.reference) for row in found]
    return without(columns(["obsid", "hist", "reference"], rows), reference=ref)


def bands_of(conn: db.Connection, kind: str, only: str | None = None) -> list[tuple[str, str]]:
    """The bands of a kind, or one: names in the tables and in the JRC's answers.

    Raises:
        ParameterError: the kind has no such band.
    """
    known = [(row.name, row.jrc_name) for row in db.rows(conn, _BANDS, (kind,))]
    wanted = [(name, jrc) for name, jrc in known if only in (None, jrc)]
    if not wanted:
        names = ", ".join(sorted(jrc for _, jrc in known))
        raise ParameterError(f"band: {only!r} is none of {kind}'s bands: {names}")
    return wanted


def _long(observation: Any, bands: Sequence[tuple[str, str]]) -> Iterable[tuple[Any, ...]]:
    """One row per band of a wide row: date_part, obsid, reference, classes, statistics."""
    hist = _hist(observation[3 : 3 + len(CLASSES)])
    place = 3 + len(CLASSES)
    for _, jrc_name in bands:
        count, *values = observation[place : place + len(STATISTICS)]
        place += len(STATISTICS)
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
