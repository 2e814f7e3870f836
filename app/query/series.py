"""Time series of a parcel: statistics by observation and band, and SCL histograms."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from operator import itemgetter
from typing import Any

from app.http.errors import ParameterError
from app.query.campaigns import CampaignView, compose
from app.query.columns import Columns, select, to_columns
from app.query.parcels import internal_pid
from store import db
from store.kinds import CLEAR_CLASSES, KINDS, SCENE_CLASSES, Band
from store.signatures import STATISTICS, masked_shares

CLASSES = tuple(f"c{each.value}" for each in SCENE_CLASSES)
"""Columns of the SCL histograms."""

FITNESS = ("px", "valid", "flags")
"""Columns that say how far the statistics of a parcel can be relied on."""

MASK_SHARES = ("layover", "shadow")
"""Of kinds with a mask: columns with the shares of the parcel's pixels that lie there."""

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
           OR ({_CLEAR}) >= %(cloudfree)s::double precision * nullif({_SEEN}, 0))"""
"""The FROM and WHERE of a `Selection`, with its params."""

_VARYING = {"pid": "integer", "start": "date", "end": "date", "cloudfree": "double precision"}
"""The params that differ from request to request about one parcel, in SQL's types."""

_OF_PARCEL = " AND r.pid = %(pid)s ORDER BY r.obstime, r.obsid"

_OBSERVATIONS = (
    """
    SELECT extract(epoch FROM r.obstime)::double precision AS date_part,
           r.obsid, r.reference, r.px, (r.merit).covered AS valid, r.flags,
           {classes}, {statistics}"""
    + OBSERVED
    + _OF_PARCEL
)

_FACTS = 6
"""Columns of an observation before its classes."""

_HISTOGRAMS = (
    "SELECT r.obsid, r.reference, {classes}" + OBSERVED + " AND h.obsid IS NOT NULL" + _OF_PARCEL
)


@dataclass(frozen=True)
class Selection:
    """A filter of observations.

    Attributes:
        start: first day, UTC; None for no bound.
        end: last day, included.
        every: also scenes of whose acquisition another one is preferred.
        cloudfree: least share of the parcel's SCL pixels that show the ground, 0 to 1; None for
            any. Without a histogram an observation is not known to be clear.
    """

    start: date | None = None
    end: date | None = None
    every: bool = False
    cloudfree: float | None = None

    def view(self, campaign: CampaignView, kind: str) -> tuple[str, str]:
        """The view that holds the observations."""
        return campaign.aoi, f"observed_{kind}" if self.every else f"preferred_{kind}"

    def params(self, campaign: CampaignView, kind: str, *, scl: bool) -> dict[str, Any]:
        """The params of `OBSERVED`.

        Raises:
            ParameterError: the kind has no clouds.
        """
        if self.cloudfree is not None and kind != "s2":
            raise ParameterError(f"cloudfree: there are no clouds in {kind}")
        scl = scl or self.cloudfree is not None
        return {"campaign": campaign.id, "scl": scl, **asdict(self)}


def time_series(
    conn: db.Connection,
    campaign: CampaignView,
    code: str,
    kind: str,
    selection: Selection,
    *,
    band: str | None = None,
    scl: bool = True,
    ref: bool = False,
    flags: bool = False,
) -> Columns:
    """A parcel's statistics, one row per observation and band, by time, then band.

    Args:
        conn: an open connection.
        campaign: of the parcel.
        code: the agency's parcel id.
        kind: CARD kind.
        selection: filter of observations.
        band: one band by its JRC name; None for all.
        scl: with column hist (class -> pixels; None where there is no histogram); s2 only.
        ref: with column reference, the product's name.
        flags: with the observation's fitness: px (pixels of the parcel on the finest grid), valid
            (share of them with data, 0 to 1), flags (as the column of the table says); of kinds
            with a mask also layover and shadow (shares of the pixels).

    Returns:
        date_part (seconds since 1970), band, count, mean, std, min, p25, p50, p75, max; hist,
        reference and px, valid, flags if wanted. A band that a product lacks has no row;
        statistics of no pixel are None.

    Raises:
        NotFoundError: the campaign has no such parcel.
        ParameterError: the kind has no such band.
    """
    bands = bands_of(kind, band)
    pid = internal_pid(conn, campaign, code)
    scl = scl and kind == "s2"
    statistics = [f"{each.name.lower()}_{stat}" for each in bands for stat in STATISTICS]
    statement = compose(
        _OBSERVATIONS,
        campaign,
        observations=selection.view(campaign, kind),
        classes=list(CLASSES),
        statistics=statistics,
    )
    params = {"pid": pid, **selection.params(campaign, kind, scl=scl)}
    observations = db.fetch_prepared(conn, statement, _VARYING, params)
    rows = [row for observation in observations for row in _long(observation, bands)]
    rows.sort(key=itemgetter(0, 1))
    names = ["date_part", "band", *STATISTICS, "hist", "reference", *FITNESS, *MASK_SHARES]
    chosen = dict.fromkeys(FITNESS, flags) | dict.fromkeys(
        MASK_SHARES, flags and KINDS[kind].mask is not None
    )
    return select(to_columns(names, rows), hist=scl, reference=ref, **chosen)


def scl_series(
    conn: db.Connection,
    campaign: CampaignView,
    code: str,
    selection: Selection,
    *,
    ref: bool = False,
) -> Columns:
    """A parcel's SCL histograms by time.

    Returns:
        obsid, hist (class -> pixels), reference if wanted.

    Raises:
        NotFoundError: the campaign has no such parcel.
    """
    pid = internal_pid(conn, campaign, code)
    view = selection.view(campaign, "s2")
    statement = compose(_HISTOGRAMS, campaign, observations=view, classes=list(CLASSES))
    params = {"pid": pid, **selection.params(campaign, "s2", scl=True)}
    observations = db.fetch_prepared(conn, statement, _VARYING, params)
    rows = [(row.obsid, _hist(row[2:]), row.reference) for row in observations]
    return select(to_columns(["obsid", "hist", "reference"], rows), reference=ref)


def bands_of(kind: str, only: str | None = None) -> list[Band]:
    """The bands of a kind, or one of them by its name in the tables or the JRC's.

    Raises:
        ParameterError: the kind has no such band.
    """
    bands = KINDS[kind].bands
    chosen = [band for band in bands if only is None or only in (band.name, band.jrc_name)]
    if not chosen:
        names = ", ".join(sorted(band.jrc_name for band in bands))
        raise ParameterError(f"band: {only!r} is none of {kind}'s bands: {names}")
    return chosen


def _long(observation: Any, bands: Sequence[Band]) -> Iterable[tuple[Any, ...]]:
    """A row per band out of a wide row: facts of the observation, classes, statistics."""
    start = _FACTS + len(CLASSES)
    hist = _hist(observation[_FACTS:start])
    flags, valid = observation.flags, min(observation.valid or 0.0, 1.0)
    fitness = observation.px, valid, flags, *masked_shares(flags)
    for band in bands:
        count, *values = observation[start : start + len(STATISTICS)]
        start += len(STATISTICS)
        if count is not None:
            statistics = [_finite(value) for value in values]
            date_part, reference = observation.date_part, observation.reference
            yield (date_part, band.jrc_name, int(count), *statistics, hist, reference, *fitness)


def _hist(classes: Sequence[int | None]) -> dict[str, int] | None:
    """Class -> pixels, of the classes that occur; None if there is no histogram."""
    if classes[0] is None:
        return None
    return {str(n): pixels for n, pixels in enumerate(classes) if pixels}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
