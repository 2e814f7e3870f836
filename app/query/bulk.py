"""Streams of whole seasons: series of many parcels, signatures of whole scenes."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import pyarrow as pa

from app.query.campaigns import CampaignView, compose
from app.query.columns import select
from app.query.series import CLASSES, OBSERVED, Selection, bands_of
from app.query.tables import TYPES, Types, encode_by_key, encode_stream
from store import db
from store.errors import NotFoundError
from store.kinds import Band
from store.signatures import STATISTICS

_PARCELS_AT_ONCE = 200
"""Parcels of one statement: keeps its sort in memory and the time to the first byte low."""

MAX_STREAM_S = 1800
"""A stream ends after half an hour, however slow its reader is."""

_MAX_PAUSE_S = 120
"""Between two of its statements, for the reader."""

_SERIES_TYPES: Types = {
    name: TYPES[name]
    for name in ("pid", "date_part", "band", *STATISTICS, "hist", "obsid", "reference")
}

_SCENE_TYPES: Types = {
    name: TYPES[name] for name in ("pid", "date_part", "obsid", "reference", "px", "flags")
}
"""Types of the columns before a scene's statistics."""

_HIST = ", ".join(f"'{n}', nullif(h.{name}, 0)" for n, name in enumerate(CLASSES))

_SERIES = (
    f"""
    SELECT o.code AS pid, o.date_part, v.band, v.count::integer, v.mean, v.std, v.min, v.p25,
           v.p50, v.p75, v.max, o.hist, o.obsid, o.reference
    FROM (SELECT parcel.code, extract(epoch FROM r.obstime)::double precision AS date_part,
                 CASE WHEN h.obsid IS NOT NULL THEN
                      json_strip_nulls(json_build_object({_HIST})) END AS hist, r.*"""
    + OBSERVED
    + """ AND r.pid = ANY(%(pids)s)) AS o
    CROSS JOIN LATERAL (VALUES {values}) AS v (band, count, mean, std, min, p25, p50, p75, max)
    WHERE v.count IS NOT NULL
    ORDER BY o.pid, o.date_part, v.band, o.obsid"""
)

_SCENE_SIGNATURES = (
    """
    SELECT parcel.code AS pid, extract(epoch FROM r.obstime)::double precision AS date_part,
           r.obsid, r.reference, r.px, r.flags, {statistics}"""
    + OBSERVED
    + " AND r.obsid = ANY(%(obsids)s) ORDER BY r.pid, r.obsid"
)

# The view of preferred observations is made for parcels: with scenes it would rank all that there
# are. So the same is done here among the scenes of the same overpasses alone.
_PREFERRED_SIGNATURES = _SCENE_SIGNATURES.replace(
    "{observations} AS r",
    """(
        SELECT DISTINCT ON (pid, acquisition) * FROM {observations}
        WHERE campaign_id = %(campaign)s AND obsid = ANY(%(twins)s)
        ORDER BY pid, acquisition, merit DESC) AS r""",
)

_SCENES = """
    SELECT scene.obsid,
           array(SELECT twin.obsid FROM public.scene AS twin
                 WHERE twin.kind = scene.kind AND twin.acquisition = scene.acquisition) AS twins
    FROM public.scene AS scene
    WHERE kind = %(kind)s AND (reference = %(scene)s
        OR obstime >= %(day)s::date AND obstime < %(day)s::date + 1)
    ORDER BY obsid"""

_CODES = "SELECT pid, code FROM {parcels} WHERE campaign_id = %s AND code = ANY(%s) ORDER BY pid"


def stream_series(
    pool: db.Pool,
    campaign: CampaignView,
    codes: Sequence[str],
    kind: str,
    selection: Selection,
    form: str,
    band: str | None,
    *,
    scl: bool,
    ref: bool,
) -> Generator[bytes, None, None]:
    """The series of many parcels, by parcel, time and band.

    As JSON it is an object: parcel -> its columns of `series.time_series`. A parcel
    without observations has empty columns there, and no row in the other forms.

    Args:
        pool: of connections; the stream holds one until its end.
        campaign: of the parcels.
        codes: the agency's parcel ids.
        kind: CARD kind.
        selection: filter of observations.
        form: json, csv, arrow or parquet.
        band: one band by its JRC name; None for all.
        scl: with histograms (s2).
        ref: with the products' names; the other forms always have them.

    Raises:
        NotFoundError: the campaign lacks one of the parcels.
        ParameterError: the kind has no such band, or no clouds.
    """
    with pool.connection() as conn:
        bands = bands_of(kind, band)
        pids = _pids(conn, campaign, codes)
        scl = scl and kind == "s2"
        params = selection.params(campaign, kind, scl=scl)
        params |= {f"band{n}": each.jrc_name for n, each in enumerate(bands)}
        statement = _series_statement(campaign, kind, selection, bands)
        with _snapshot(conn):
            rows = _by_parcels(conn, statement, params, pids, header=form == "csv")
            if form == "json":
                wanted = select(_SERIES_TYPES, pid=False, obsid=False, hist=scl, reference=ref)
                yield from encode_by_key(rows, _SERIES_TYPES, codes, wanted)
            else:
                yield from rows if form == "csv" else encode_stream(rows, form, _SERIES_TYPES)


def stream_scene_signatures(
    pool: db.Pool,
    campaign: CampaignView,
    kind: str,
    scene: str | None,
    day: date | None,
    selection: Selection,
    form: str,
) -> Generator[bytes, None, None]:
    """Signatures of all parcels in one scene, or in those of a day; a row per parcel and scene.

    Rows are in the order of parcels and scenes, so that equal states give equal bytes.

    Args:
        pool: of connections; the stream holds one until its end.
        campaign: of the parcels.
        kind: CARD kind.
        scene: the product's name; None for those of a day.
        day: in UTC; None for one scene.
        selection: filter of observations.
        form: csv, arrow or parquet.

    Raises:
        NotFoundError: no such scene is known.
    """
    with pool.connection() as conn:
        scenes = db.fetch_all(conn, _SCENES, {"kind": kind, "scene": scene, "day": day})
        if not scenes:
            raise NotFoundError(f"no {kind} scene is known: {scene or day}")
        names = [f"{band.name.lower()}_{stat}" for band in bands_of(kind) for stat in STATISTICS]
        statement = compose(
            _SCENE_SIGNATURES if selection.every else _PREFERRED_SIGNATURES,
            campaign,
            observations=(campaign.aoi, f"observed_{kind}"),
            statistics=names,
        )
        params = selection.params(campaign, kind, scl=False)
        params["obsids"] = [row.obsid for row in scenes]
        params["twins"] = sorted({obsid for row in scenes for obsid in row.twins})
        with _snapshot(conn):
            rows = db.copy_csv(conn, statement, params, header=form == "csv")
            types = {**_SCENE_TYPES, **dict.fromkeys(names, pa.float32())}
            yield from rows if form == "csv" else encode_stream(rows, form, types)


def _pids(conn: db.Connection, campaign: CampaignView, codes: Sequence[str]) -> list[int]:
    rows = db.fetch_all(conn, compose(_CODES, campaign), (campaign.id, list(codes)))
    missing = sorted(set(codes) - {row.code for row in rows})
    if missing:
        few = ", ".join(map(repr, missing[:5])) + (" ..." if len(missing) > 5 else "")
        raise NotFoundError(
            f"{campaign.aoi} {campaign.year} lacks {len(missing)} of these parcels: {few}"
        )
    return [row.pid for row in rows]


def _series_statement(
    campaign: CampaignView, kind: str, selection: Selection, bands: Sequence[Band]
) -> Any:
    rows = [
        db.compose(
            f"(%(band{n})s, {{columns}})",
            columns=[f"{band.name.lower()}_{statistic}" for statistic in STATISTICS],
        )
        for n, band in enumerate(bands)
    ]
    view = selection.view(campaign, kind)
    return compose(_SERIES, campaign, observations=view, values=db.join(rows))


def _by_parcels(
    conn: db.Connection,
    statement: Any,
    params: dict[str, Any],
    pids: Sequence[int],
    *,
    header: bool,
) -> Generator[bytes, None, None]:
    for first in range(0, len(pids), _PARCELS_AT_ONCE):
        batch = params | {"pids": pids[first : first + _PARCELS_AT_ONCE]}
        yield from db.copy_csv(conn, statement, batch, header=header and first == 0)


@contextmanager
def _snapshot(conn: db.Connection) -> Generator[None, None, None]:
    """One state of the database for all statements, which may take as long as a stream."""
    with db.transaction(conn):
        db.execute(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        db.execute(conn, f"SET LOCAL statement_timeout = '{MAX_STREAM_S}s'")
        # Between two statements a reader may stop for good: that must not keep what others lock.
        db.execute(conn, f"SET LOCAL idle_in_transaction_session_timeout = '{_MAX_PAUSE_S}s'")
        yield
