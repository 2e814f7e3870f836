"""Whole seasons at once: series of many parcels, signatures of whole scenes, streamed."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import pyarrow as pa

from app.campaigns import Campaign, named
from app.columns import without
from app.series import CLASSES, OBSERVED, Selection, bands_of
from app.tables import TYPES, Types, converted, nested
from store import db
from store.errors import NotFoundError
from store.signatures import STATISTICS

_PARCELS_AT_ONCE = 200
"""Whose series one statement sorts; keeps its sort in memory and the time to the first byte low."""

_LONGEST_S = 1800
"""A reader slower than this is left: half an hour for one stream."""

_SERIES_TYPES: Types = {
    name: TYPES[name]
    for name in ("pid", "date_part", "band", *STATISTICS, "hist", "obsid", "reference")
}

_SERIES = (
    """
    SELECT o.code AS pid, o.date_part, v.band, v.count::integer, v.mean, v.std, v.min, v.p25,
           v.p50, v.p75, v.max, o.hist, o.obsid, o.reference
    FROM (SELECT parcel.code, extract(epoch FROM r.obstime)::double precision AS date_part,
                 CASE WHEN h.obsid IS NOT NULL THEN HIST END AS hist, r.*"""
    + OBSERVED
    + """ AND r.pid = ANY(%(pids)s)) AS o
    CROSS JOIN LATERAL (VALUES BANDS) AS v (band, count, mean, std, min, p25, p50, p75, max)
    WHERE v.count IS NOT NULL
    ORDER BY o.pid, o.date_part, v.band, o.obsid"""
)

_SCENE_SIGNATURES = (
    """
    SELECT parcel.code AS pid, extract(epoch FROM r.obstime)::double precision AS date_part,
           r.obsid, r.reference, r.px, r.flags, {statistics}"""
    + OBSERVED
    + " AND r.obsid = ANY(%(obsids)s)"
)

# The view of preferred ones is for parcels: asked for scenes it would rank all that there are. So
# the same is done here among the scenes of the same overpasses alone.
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


def many_series(
    pool: db.Pool,
    campaign: Campaign,
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

    As JSON it is an object: parcel -> the columns that `series.time_series` has for it. A parcel
    without observations has empty columns there, and no row in the other forms.

    Args:
        pool: of connections; one is held until the end.
        campaign: where to look.
        codes: the agency's parcel ids.
        kind: CARD kind.
        selection: which observations.
        form: json, csv, arrow or parquet.
        band: one by its JRC name; None for all.
        scl: with histograms (s2).
        ref: with the products' names; the other forms always have them.

    Raises:
        NotFoundError: the campaign lacks one of the parcels.
        ParameterError: the kind has no such band, or no clouds.
    """
    with pool.connection() as conn:
        bands = bands_of(conn, kind, band)
        pids = _pids(conn, campaign, codes)
        scl = scl and kind == "s2"
        asked = selection.params(campaign, kind, scl=scl)
        asked |= {f"band{n}": jrc_name for n, (_, jrc_name) in enumerate(bands)}
        statement = _series_statement(campaign, kind, selection, bands)
        with _steady(conn):
            rows = _by_parcels(conn, statement, asked, pids, header=form == "csv")
            if form == "json":
                wanted = without(_SERIES_TYPES, pid=False, obsid=False, hist=scl, reference=ref)
                yield from nested(rows, _SERIES_TYPES, codes, wanted)
            else:
                yield from rows if form == "csv" else converted(rows, form, _SERIES_TYPES)


def scene_signatures(
    pool: db.Pool,
    campaign: Campaign,
    kind: str,
    scene: str | None,
    day: date | None,
    selection: Selection,
    form: str,
) -> Generator[bytes, None, None]:
    """Signatures of all parcels in one scene, or in those of a day; a row per parcel and scene.

    Args:
        pool: of connections; one is held until the end.
        campaign: where to look.
        kind: CARD kind.
        scene: the product's name; None for a day's.
        day: in UTC; None for one scene.
        selection: whether only preferred ones, and how clear.
        form: csv, arrow or parquet.

    Raises:
        NotFoundError: no such scene is known.
    """
    with pool.connection() as conn:
        scenes = db.rows(conn, _SCENES, {"kind": kind, "scene": scene, "day": day})
        if not scenes:
            raise NotFoundError(f"no {kind} scene is known: {scene or day}")
        names = [
            f"{name.lower()}_{stat}" for name, _ in bands_of(conn, kind) for stat in STATISTICS
        ]
        statement = named(
            _SCENE_SIGNATURES if selection.every else _PREFERRED_SIGNATURES,
            campaign,
            observations=(campaign.aoi, f"observed_{kind}"),
            statistics=names,
        )
        asked = selection.params(campaign, kind, scl=False)
        asked["obsids"] = [row.obsid for row in scenes]
        asked["twins"] = sorted({obsid for row in scenes for obsid in row.twins})
        with _steady(conn):
            rows = db.copy_csv(conn, statement, asked, header=form == "csv")
            yield from rows if form == "csv" else converted(rows, form, _scene_types(names))


def _pids(conn: db.Connection, campaign: Campaign, codes: Sequence[str]) -> list[int]:
    found = db.rows(conn, named(_CODES, campaign), (campaign.id, list(codes)))
    missing = sorted(set(codes) - {row.code for row in found})
    if missing:
        few = ", ".join(map(repr, missing[:5])) + (" ..." if len(missing) > 5 else "")
        raise NotFoundError(
            f"{campaign.aoi} {campaign.year} lacks {len(missing)} of these parcels: {few}"
        )
    return [row.pid for row in found]


def _series_statement(
    campaign: Campaign, kind: str, selection: Selection, bands: Sequence[tuple[str, str]]
) -> Any:
    places = ", ".join(f"(%(band{n})s, {{columns{n}}})" for n in range(len(bands)))
    columns = {
        f"columns{n}": [f"{name.lower()}_{stat}" for stat in STATISTICS]
        for n, (name, _) in enumerate(bands)
    }
    counts = ", ".join(f"'{n}', nullif(h.{name}, 0)" for n, name in enumerate(CLASSES))
    template = _SERIES.replace("BANDS", places)
    template = template.replace("HIST", f"json_strip_nulls(json_build_object({counts}))")
    view = selection.view(campaign, kind)
    return named(template, campaign, observations=view, **columns)


def _by_parcels(
    conn: db.Connection, statement: Any, asked: dict[str, Any], pids: Sequence[int], *, header: bool
) -> Generator[bytes, None, None]:
    for first in range(0, len(pids), _PARCELS_AT_ONCE):
        some = asked | {"pids": pids[first : first + _PARCELS_AT_ONCE]}
        yield from db.copy_csv(conn, statement, some, header=header and first == 0)


def _scene_types(statistics: Sequence[str]) -> Types:
    return {
        **{name: TYPES[name] for name in ("pid", "date_part", "obsid", "reference")},
        "px": pa.int32(),
        "flags": pa.int16(),
        **{name: pa.float32() for name in statistics},
    }


@contextmanager
def _steady(conn: db.Connection) -> Generator[None, None, None]:
    """One state of the database for all statements, which may take as long as their reader."""
    with db.transaction(conn):
        db.execute(conn, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        db.execute(conn, f"SET LOCAL statement_timeout = '{_LONGEST_S}s'")
        yield
