"""Importing a parcel file into a campaign: in one transaction, or not at all.

The rules, once:

- The code is the text of the id column, or the layer's feature id. A feature without one is
  refused.
- The same code and geometry twice is one parcel; the first one's crop is kept (merged).
- The same code with different geometries names no parcel: all of these features are refused.
- A file is the whole declaration: what is not in it, or is refused, leaves the campaign.
- Code and geometry unchanged: the parcel keeps its pid, set and signatures, its crop is updated.
  Otherwise it loses them, and gets a new pid and a place in a new set. A pid is never used again.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from store import db
from store.errors import ConflictError, ParcelFileError
from store.kinds import KINDS
from store.parcels import campaigns, geometry, sets
from store.parcels.campaigns import Campaign
from store.parcels.report import ImportReport, most_common
from store.parcels.source import ParcelSource, open_source, resolve
from store.parcels.staging import Choice, Tally, deduplicate, stage

_LOG = logging.getLogger(__name__)

_IDLE_REMARKS = ("Field format", "GFS file saving")

_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('cbm_import')) AS locked"

_KNOWN_CRS = "SELECT FROM public.spatial_ref_sys WHERE srid = %s"

_LIST_LOST = """
    CREATE TEMP TABLE parcel_lost ON COMMIT DROP AS
    SELECT p.pid, p.set_id, s.code IS NOT NULL AS changed
    FROM {parcels} p LEFT JOIN pg_temp.parcel_stage s ON s.code = p.code
    WHERE p.campaign_id = %s AND (s.code IS NULL OR s.geom_sha <> p.geom_sha)"""

_COUNT = """
    SELECT (SELECT count(*) FROM pg_temp.parcel_stage) AS staged,
           (SELECT count(*) FROM {parcels} WHERE campaign_id = %s) AS existing,
           count(*) FILTER (WHERE changed) AS changed,
           count(*) FILTER (WHERE NOT changed) AS vanished
    FROM pg_temp.parcel_lost"""

_LOST_SETS = "SELECT DISTINCT set_id FROM pg_temp.parcel_lost ORDER BY set_id"

_LOCK_SETS = "SELECT FROM public.parcel_set WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

_LOCK_WORK = """
    SELECT FROM public.work WHERE set_id = ANY(%s) ORDER BY obsid, set_id FOR UPDATE"""

_WITHDRAW = """
    UPDATE public.work SET state = 'pending', fence = fence + 1, holder = NULL,
           lease_until = NULL, changed_at = now()
    WHERE set_id = ANY(%s) AND state = 'claimed'"""

_FORGET = """
    DELETE FROM {table}
    WHERE campaign_id = %s AND pid IN (SELECT pid FROM pg_temp.parcel_lost)"""

_UPDATE_CROPS = """
    UPDATE {parcels} p SET (crop_name, crop_code, attributes)
           = (s.crop_name, s.crop_code, s.attributes::jsonb)
    FROM pg_temp.parcel_stage s
    WHERE p.campaign_id = %s AND p.code = s.code
      AND (p.crop_name, p.crop_code, p.attributes)
          IS DISTINCT FROM (s.crop_name, s.crop_code, s.attributes::jsonb)"""

_NEXT_SET = "SELECT nextval(pg_get_serial_sequence('public.parcel_set', 'id')) AS id"

_INSERT = """
    INSERT INTO {parcels}
           (campaign_id, pid, set_id, code, crop_name, crop_code, geom, geom_sha, attributes)
    SELECT %(campaign)s, %(next)s - 1 + row_number() OVER (ORDER BY s.hilbert, s.code),
           %(set)s, s.code, s.crop_name, s.crop_code,
           ST_GeomFromWKB(s.wkb, %(srid)s), s.geom_sha, s.attributes::jsonb
    FROM pg_temp.parcel_stage s
    WHERE NOT EXISTS (SELECT FROM {parcels} p
                      WHERE p.campaign_id = %(campaign)s AND p.code = s.code)
    ORDER BY s.hilbert, s.code"""

_COUNT_PIDS = "UPDATE public.campaign SET srid = %s, next_pid = next_pid + %s WHERE id = %s"


@dataclass(frozen=True)
class _Difference:
    """Parcels of the file against those of the campaign, counted."""

    staged: int
    existing: int
    changed: int
    vanished: int

    @property
    def unchanged(self) -> int:
        return self.existing - self.changed - self.vanished

    @property
    def new(self) -> int:
        return self.staged - self.unchanged - self.changed


def import_parcels(
    conn: db.Connection,
    campaign: Campaign,
    file: Path | str,
    layer: str | None = None,
    id_column: str | Sequence[str] | None = None,
    crop_column: str | None = None,
    crop_code_column: str | None = None,
    *,
    kept: Sequence[str] | None = (),
    crs: str | None = None,
    encoding: str | None = None,
    dry_run: bool = False,
    accept_losses: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Make a file's features the parcels of a campaign; see the module for the rules.

    Args:
        conn: a connection of the owner role, outside a transaction.
        campaign: an open campaign.
        file: see `source.open_source`.
        layer: needed where several layers hold polygons.
        id_column: holds the agency's parcel id; of several columns the texts are joined by a
            hyphen; without one the layer's feature id is the code.
        crop_column: holds the crop's name.
        crop_code_column: holds the crop's code.
        kept: further columns to keep with the parcels; None for all.
        crs: of the file's coordinates, where it states none or a wrong one.
        encoding: of a shapefile's texts, where it states none or a wrong one.
        dry_run: report the result, write nothing.
        accept_losses: go on although no id is known, so that all parcels lose their signatures.
        progress: called after each batch with features read and, if known, their number or -1.

    Raises:
        ParcelFileError: the file cannot be imported with these options; nothing was changed.
        ConflictError: the campaign is closed, another import is running, or all parcels would
            lose their signatures; nothing was changed.
    """
    file = Path(file)
    with warnings.catch_warnings(record=True) as remarks, db.transaction(conn):
        warnings.simplefilter("always")
        source = open_source(file, layer, encoding)
        choice = _choice(source, id_column, crop_column, crop_code_column, kept)
        campaign = _begin(conn, campaign)
        frame = geometry.resolve_crs(
            source.crs, crs, campaign.srid, lambda code: _known(conn, code)
        )
        tally = stage(conn, source, choice, frame, progress)
        deduplicate(conn, tally)
        _refuse_nothing(file, tally)
        difference = _compare(conn, campaign, lock=not dry_run)
        if not dry_run:
            _refuse_losses(conn, campaign, difference, accept_losses)
            _apply(conn, campaign, frame.srid, difference)
    report = ImportReport(
        campaign=campaign.name,
        file=file.name,
        layer=source.layer,
        srid=frame.srid,
        extent_deg=tally.extent_deg,
        dry_run=dry_run,
        read=tally.read,
        new=difference.new,
        changed=difference.changed,
        unchanged=difference.unchanged,
        vanished=difference.vanished,
        repaired=tuple(tally.repaired),
        merged=tuple(tally.merged),
        refused=tuple(tally.refused),
        notes=(
            *_id_note(choice),
            *_column_notes(source, choice, tally),
            *frame.notes,
            *_place_notes(tally, frame),
            *_remarks(remarks),
        ),
    )
    _LOG.info(
        "parcels imported campaign=%s file=%s read=%d new=%d changed=%d unchanged=%d "
        "vanished=%d refused=%d dry_run=%s",
        report.campaign,
        report.file,
        report.read,
        report.new,
        report.changed,
        report.unchanged,
        report.vanished,
        len(report.refused),
        dry_run,
    )
    return report


def _choice(
    source: ParcelSource,
    id_column: str | Sequence[str] | None,
    crop_column: str | None,
    crop_code_column: str | None,
    kept: Sequence[str] | None,
) -> Choice:
    ids = [id_column] if isinstance(id_column, str) else list(id_column or ())
    name, code = (
        None if column is None else resolve(source, column)
        for column in (crop_column, crop_code_column)
    )
    choice = Choice(tuple(resolve(source, column) for column in ids), name, code)
    others = (
        _others(source, choice) if kept is None else [resolve(source, column) for column in kept]
    )
    return replace(choice, kept=tuple(dict.fromkeys(others)))


def _others(source: ParcelSource, choice: Choice) -> list[str]:
    """Columns without a use yet; of one name only once, and not the feature id's own."""
    counts = Counter(source.columns)
    used = {*choice.columns, *choice.kept, source.fid_column}
    return [name for name in source.columns if name not in used and counts[name] == 1]


def _begin(conn: db.Connection, campaign: Campaign) -> Campaign:
    if not db.fetch_one(conn, _TRY_LOCK).locked:
        raise ConflictError("another import is running on this database: try again when it is done")
    campaign = campaigns.find(conn, campaign.aoi, campaign.year, campaign.ptype)
    if campaign.state != "open":
        raise ConflictError(f"the campaign {campaign.name} is closed: its parcels stay as they are")
    return campaign


def _known(conn: db.Connection, epsg: int) -> bool:
    return db.fetch_one(conn, _KNOWN_CRS, (epsg,)) is not None


def _refuse_nothing(file: Path, tally: Tally) -> None:
    if not tally.read:
        raise ParcelFileError(f"{file.name} has no features")
    if len(tally.refused) + len(tally.merged) == tally.read:
        raise ParcelFileError(
            f"none of the {tally.read:,} features of {file.name} can be "
            f"imported; most often: {most_common(tuple(tally.refused))}"
        )


def _compare(conn: db.Connection, campaign: Campaign, *, lock: bool) -> _Difference:
    """List the parcels that lose their pid in a temporary table, and count."""
    if lock:
        campaigns.lock(conn, campaign)
    parcels = _parcels(campaign)
    db.execute(conn, db.compose(_LIST_LOST, parcels=parcels), (campaign.id,))
    db.execute(conn, "ANALYZE pg_temp.parcel_lost")
    row = db.fetch_one(conn, db.compose(_COUNT, parcels=parcels), (campaign.id,))
    return _Difference(row.staged, row.existing, row.changed, row.vanished)


def _refuse_losses(
    conn: db.Connection, campaign: Campaign, difference: _Difference, accepted: bool
) -> None:
    """Refuse an import that takes all signatures away: most likely a mistake."""
    lost = difference.vanished + difference.changed
    if accepted or not difference.existing or lost < difference.existing:
        return
    if campaigns.contents(conn, campaign).signatures:
        raise ConflictError(
            f"not one parcel of {campaign.name} is in the file as it was, so all of its "
            f"{difference.existing:,} parcels would lose their signatures: {difference.vanished:,} "
            f"ids are not in the file, {difference.changed:,} geometries differ. Are the id column "
            "and the CRS the same as before? If this is meant, accept it (--accept-losses)"
        )


def _apply(conn: db.Connection, campaign: Campaign, srid: int, difference: _Difference) -> None:
    _merge_sets(conn, campaign, srid)
    changed = [row.set_id for row in db.fetch_all(conn, _LOST_SETS)]
    if changed:
        _withdraw(conn, changed)
        _forget(conn, campaign)
    db.execute(conn, db.compose(_UPDATE_CROPS, parcels=_parcels(campaign)), (campaign.id,))
    if difference.new or difference.changed:
        changed.append(_insert(conn, campaign, srid))
    sets.describe(conn, campaign, changed, srid)
    db.execute(conn, "SELECT public.cbm_enqueue()")


def _merge_sets(conn: db.Connection, campaign: Campaign, srid: int) -> None:
    """Merge the sets of earlier imports, as far as they are extracted."""
    if campaign.srid is None:
        return
    merged = sets.merge(conn, campaign, srid)
    for gone, kept in merged.items():
        db.execute(
            conn,
            "UPDATE pg_temp.parcel_lost SET set_id = %s WHERE set_id = %s",
            (kept, gone),
        )
    if merged:
        _LOG.info("parcel sets merged campaign=%s sets=%d", campaign.name, len(merged) + 1)


def _withdraw(conn: db.Connection, changed: list[int]) -> None:
    """Take the work on these sets away from running workers, and hold it until we are done.

    A writer has its work row locked while it writes: once we have the row, either its rows are
    there to be deleted, or its fence is old and it writes nothing. The locks on the sets keep new
    work from being added meanwhile, those on other work keep it from being claimed.
    """
    for statement in (_LOCK_SETS, _LOCK_WORK, _WITHDRAW):
        db.execute(conn, statement, (changed,))


def _forget(conn: db.Connection, campaign: Campaign) -> None:
    for table in (*KINDS, "hists", "parcels"):
        db.execute(conn, db.compose(_FORGET, table=(campaign.aoi, table)), (campaign.id,))


def _insert(conn: db.Connection, campaign: Campaign, srid: int) -> int:
    """Give new and changed parcels their pids, in an order that keeps neighbours together."""
    set_id = int(db.fetch_one(conn, _NEXT_SET).id)
    params = {"campaign": campaign.id, "next": campaign.next_pid, "set": set_id, "srid": srid}
    count = db.execute(conn, db.compose(_INSERT, parcels=_parcels(campaign)), params)
    db.execute(conn, _COUNT_PIDS, (srid, count, campaign.id))
    return set_id


def _parcels(campaign: Campaign) -> tuple[str, str]:
    return (campaign.aoi, "parcels")


def _id_note(choice: Choice) -> tuple[str, ...]:
    note = (
        "No id column was given, so the layer's feature id is the parcel's id; it can change "
        "from one delivery to the next."
    )
    return () if choice.code else (note,)


def _column_notes(source: ParcelSource, choice: Choice, tally: Tally) -> Iterator[str]:
    if tally.unreadable:
        yield (
            f"Values of {', '.join(sorted(tally.unreadable))} could not be kept: lists, pictures, "
            "or texts in another encoding (--encoding)."
        )
    if others := _others(source, choice):
        yield f"Columns that were not kept: {', '.join(others)} (--keep, --keep-all)."


def _place_notes(tally: Tally, frame: geometry.CrsTransform) -> Iterator[str]:
    if tally.outside:
        yield (
            f"{tally.outside:,} features lie outside the area that {frame.source.name} is made "
            "for: are the degrees above those of the country?"
        )
    west, south, east, north = tally.extent_deg
    if _in_europe(south, west, north, east) and not _in_europe(west, south, east, north):
        yield (
            "With latitude and longitude swapped all parcels would lie in Europe: does the file "
            "give the latitude first?"
        )


def _in_europe(west: float, south: float, east: float, north: float) -> bool:
    """Whether an extent in degrees lies on Europe's mainland and its nearer islands."""
    return -11 <= west <= east <= 41 and 34 <= south <= north <= 72


def _remarks(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    texts = dict.fromkeys(str(remark.message) for remark in caught)
    return tuple(
        f"The reading library remarks: {text}"
        for text in texts
        if not text.startswith(_IDLE_REMARKS)
    )
