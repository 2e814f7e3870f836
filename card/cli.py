"""`cbm-card`: scenes and inputs into the catalogue, from folders, buckets and catalogues."""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from card import report
from card.find import bucket, folder, product_reader
from card.find.following import DayReport, Follower
from card.find.footprint import multipolygon_wkt
from card.find.orbits import sync_orbits
from card.find.scan_result import Problem, ScanResult, collect
from card.find.search import search_collection
from card.find.sources import (
    KINDS,
    all_sources,
    default_source,
    find_source,
    sign_in_of_cdse,
)
from card.find.transport import Transport
from card.make.cli import make_group
from card.make.queue_cli import making_group, work_command
from store import catalogue, db, inputs, listings, products
from store.catalogue import Scene
from store.command import CliGroup, log_to_stderr
from store.errors import NotFoundError, WorldError
from store.inputs import InputProduct
from store.parcels import campaigns
from store.parcels.campaigns import Campaign

_log = logging.getLogger(__name__)

_DAY = click.DateTime(["%Y-%m-%d"])
_FOLDER = click.Path(path_type=Path)
_BATCH = 50
"""Products of a bucket that are registered in one transaction."""


@click.group(cls=CliGroup)
@click.option("--verbose", is_flag=True, help="Log details.")
def main(verbose: bool) -> None:
    """Find analysis-ready scenes (CARD) and put them into the catalogue.

    The database is libpq's: PGHOST, PGDATABASE, PGUSER ... Buckets are boto3's: AWS_ENDPOINT_URL,
    AWS_ACCESS_KEY_ID ...
    """
    log_to_stderr(verbose)
    if not verbose:  # GDAL's remarks on headers; what matters of them becomes a problem
        logging.getLogger("rasterio").setLevel(logging.ERROR)


def _campaign_options(*, required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--ptype", default="", help="Of the campaign, if it has one."),
            click.option("--year", type=int, required=required, help="Of the campaign."),
            click.option("--aoi", required=required, help="Of the campaign, such as nl."),
        ):
            command = option(command)
        return command

    return add


_DRY_RUN = click.option("--dry-run", is_flag=True, help="Show what was found, register nothing.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SOURCE = click.option("--source", "source_name", help="Name of a source; see cbm-card sources.")


@main.command("register")
@click.argument("place", metavar="PLACE")
@click.option("--describe", type=_FOLDER, metavar="DIR", help="STAC Items that describe the files.")
@_campaign_options(required=False)
@_DRY_RUN
@_JSON
def register_command(
    place: str,
    describe: Path | None,
    aoi: str | None,
    year: int | None,
    ptype: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Register all scenes below PLACE: SAFE, BEAM-DIMAP, GeoTIFF and JPEG 2000.

    PLACE is a folder, or s3://bucket/prefix: there the products' own metadata are read where they
    lie, so that no catalogue is needed. With --aoi and --year only what meets a campaign's parcels
    is taken. Level-1 GRD and SLC become inputs, which CARD is made from.
    """
    where = (aoi, year, ptype) if aoi is not None or year is not None else None
    if place.startswith("s3://"):
        _register_bucket(place, where, dry_run, as_json)
    elif where:
        raise click.UsageError("--aoi and --year go with s3://bucket/prefix")
    else:
        _put(folder.scan(Path(place), describe), place, dry_run, as_json)


def _register_bucket(
    place: str, where: tuple[str | None, int | None, str] | None, dry_run: bool, as_json: bool
) -> None:
    """Register the products of a bucket in batches: a kill loses no more than one."""
    conn = db.connect("cbm-card") if where or not dry_run else None
    campaign = _campaign(conn, *where) if conn and where else None
    hrefs = list(bucket.find_products(place))
    if conn and campaign:
        footprints = [bucket.footprint_of_name(product) for product in map(products.parse, hrefs)]
        wkts = [None if each is None else multipolygon_wkt(each) for each in footprints]
        met = listings.meet_parcels(conn, campaign, wkts)
        hrefs = [href for href, meets in zip(hrefs, met, strict=True) if meets]
    whole: list[Scene | InputProduct | Problem] = []
    done: report.Registered = (None, None)
    for first in range(0, len(hrefs), _BATCH):
        found = collect(product_reader.read_all(hrefs[first : first + _BATCH]))
        if conn and campaign:
            found = _only_meeting(conn, campaign, found)
        if conn and not dry_run:
            done = report.add_registered(done, _register(conn, found))
        whole += [*found.scenes, *found.inputs, *found.problems]
        click.echo(f"{min(first + _BATCH, len(hrefs))} of {len(hrefs)} products read", err=True)
    _show(collect(whole), done, place, as_json)


def _only_meeting(conn: db.Connection, campaign: Campaign, found: ScanResult) -> ScanResult:
    both: list[Scene | InputProduct] = [*found.scenes, *found.inputs]
    met = listings.meet_parcels(conn, campaign, [one.footprint_wkt for one in both])
    kept = [one for one, meets in zip(both, met, strict=True) if meets]
    return collect([*kept, *found.problems], found.others)


def _campaign(conn: db.Connection, aoi: str | None, year: int | None, ptype: str) -> Campaign:
    if aoi is None or year is None:
        raise click.UsageError("a campaign has both --aoi and --year")
    return campaigns.find(conn, aoi, year, ptype)


@main.command()
@_campaign_options(required=False)
@click.option("--kind", type=click.Choice(KINDS), default="s2", show_default=True)
@_SOURCE
@click.option("--follow", is_flag=True, help="Repeat for ever.")
@click.option("--every", type=click.IntRange(min=10), default=3600, show_default=True,
              metavar="SECONDS", help="With --follow: pause between two rounds.")  # fmt: skip
@click.option("--again", is_flag=True, help="Read all days, whenever they were read.")
@click.option("--list-only", is_flag=True, help="Write down what is listed, register nothing.")
@click.option("--check", is_flag=True, help="Look for each new product in its store, too.")
@click.option("--stac", "url", metavar="URL", help="Without a campaign: root of a STAC API,")
@click.option("--collection", help="its collection, such as sentinel-2-l2a,")
@click.option("--bbox", metavar="W,S,E,N", help="a box in degrees,")
@click.option("--start", type=_DAY, help="first day, UTC,")
@click.option("--end", type=_DAY, help="last day, UTC.")
@_DRY_RUN
@_JSON
def sync(
    aoi: str | None,
    year: int | None,
    ptype: str,
    kind: str,
    source_name: str | None,
    follow: bool,
    every: int,
    again: bool,
    list_only: bool,
    check: bool,
    url: str | None,
    collection: str | None,
    bbox: str | None,
    start: datetime | None,
    end: datetime | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Register the scenes that a source lists for a campaign, or for a place and time.

    With --aoi and --year box and dates are the campaign's, and only what meets its parcels is
    taken. The source is read day by day of sensing; the database knows which days were read, so
    that a repetition goes on where the last one ended, and reads again the days that may have
    changed: recent ones often, old ones seldom, those with products that were offline or absent
    always.
    """
    if aoi is None:
        given = {"stac": url, "collection": collection, "bbox": bbox, "start": start, "end": end}
        if missing := [f"--{name}" for name, value in given.items() if value is None]:
            raise click.UsageError(
                f"give --aoi and --year of a campaign; or else {', '.join(missing)}"
            )
        _sync_collection(**given, dry_run=dry_run, as_json=as_json)
        return
    source = find_source(source_name) if source_name else default_source(kind)
    source.called(kind)
    transport = Transport()
    while True:
        conn = db.connect("cbm-card")
        follower = Follower(
            _campaign(conn, aoi, year, ptype), source, kind, transport, not list_only, check
        )
        try:
            _sync_round(conn, follower, again, dry_run, as_json)
        except WorldError as error:
            if not follow:
                raise
            _log.warning("%s; the next round is in %d s", error, every)
        finally:
            conn.close()
        if not follow or dry_run:
            return
        time.sleep(every)


def _sync_round(
    conn: db.Connection, follower: Follower, again: bool, dry_run: bool, as_json: bool
) -> None:
    area, days = follower.due(conn, datetime.now(UTC).date(), again)
    where = f"{follower.source.name} ({follower.source.title}), {follower.kind}"
    box = ", ".join(f"{degrees:.3f}" for degrees in area.bbox)
    if dry_run:
        span = f": {days[0]} to {days[-1]}" if days else ""
        click.echo(f"Would read {len(days)} days of {where}, box {box}{span}.")
        return
    done: list[DayReport] = []
    try:
        for number, day in enumerate(follower.sync(conn, area, days), 1):
            done.append(day)
            for line in report.day_lines(day, number, len(days)):
                click.echo(line, err=as_json)
    finally:
        summary = report.sync_json(done, len(days))
        click.echo(json.dumps(summary) if as_json else report.sync_line(summary, where))


def _sync_collection(
    *,
    stac: Any,
    collection: Any,
    bbox: Any,
    start: Any,
    end: Any,
    dry_run: bool,
    as_json: bool,
) -> None:
    first = start.replace(tzinfo=UTC)
    last = end.replace(tzinfo=UTC) + timedelta(days=1)  # to its very end: days have no last second
    yielded = search_collection(stac, collection, _numbers(bbox), first, last)
    _put(collect(yielded), f"{collection} of {stac}", dry_run, as_json)


for command in (make_group, work_command, making_group):
    main.add_command(command)


def _numbers(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise click.BadParameter(f"{text!r} is not W,S,E,N in degrees", param_hint="bbox") from None
    return west, south, east, north


def _register(conn: db.Connection, found: ScanResult) -> report.Registered:
    return (
        catalogue.register(conn, found.scenes) if found.scenes else None,
        inputs.register_inputs(conn, found.inputs) if found.inputs else None,
    )


def _put(found: ScanResult, where: str, dry_run: bool, as_json: bool) -> None:
    """Register what was found, and say what that was."""
    done: report.Registered = (None, None)
    if not dry_run and (found.scenes or found.inputs):
        done = _register(db.connect("cbm-card"), found)
    _show(found, done, where, as_json)


def _show(found: ScanResult, done: report.Registered, where: str, as_json: bool) -> None:
    """Say what was found; without any scene that is an error."""
    if as_json:
        click.echo(json.dumps(report.scan_json(found, done), indent=1, default=str))
    else:
        for line in report.scan_lines(found, done):
            click.echo(line)
    if not found.scenes and not found.inputs:
        raise NotFoundError(f"no scene found in {where}; {len(found.problems)} problems are listed")


@main.command()
@_campaign_options(required=True)
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--against", metavar="SOURCE", help="First write down what this source lists.")
@click.option("--products", "each", is_flag=True, help="List the products, too.")
@_JSON
def gaps(
    aoi: str,
    year: int,
    ptype: str,
    kind: str | None,
    against: str | None,
    each: bool,
    as_json: bool,
) -> None:
    """Show what a campaign should have, by month and tile or orbit, and what became of it.

    Expected is what any source lists that was read (cbm-card sync; another one with --against),
    and what the orbits' cycle lets expect although no source lists it.
    """
    conn = db.connect("cbm-card")
    campaign = campaigns.find(conn, aoi, year, ptype)
    if against:
        source = find_source(against)
        follower = Follower(campaign, source, kind or "s2", Transport(), register=False)
        area, days = follower.due(conn, datetime.now(UTC).date())
        for number, day in enumerate(follower.sync(conn, area, days), 1):
            for line in report.day_lines(day, number, len(days)):
                click.echo(line, err=True)
    rows = listings.gaps_by_month(conn, campaign.id, kind)
    missing = listings.gap_products(conn, campaign, kind)
    if as_json:
        click.echo(json.dumps(report.gap_json(rows, missing), indent=1, default=str))
        return
    if not rows:
        raise NotFoundError(
            f"no source was read for {campaign.name}{f' and {kind}' if kind else ''}: run "
            "cbm-card sync, or give --against"
        )
    for line in (*report.gap_lines(rows), *(report.gap_product_lines(missing) if each else ())):
        click.echo(line)


@main.command("sources")
def sources_command() -> None:
    """List the sources, and the kinds each has; CBM_SOURCES names a TOML file with others."""
    for source in all_sources().values():
        click.echo(
            f"{source.name:16} {source.protocol:10} {','.join(source.names):22} {source.url}"
        )


@main.group()
def orbits() -> None:
    """Orbit files of Sentinel-1, which making CARD needs."""


@orbits.command("sync")
@click.option("--to", "place", required=True, metavar="DIR", help="A folder or s3://bucket/prefix.")
@click.option("--start", type=_DAY, help="Of products sensed from this day on, UTC.")
@click.option("--end", type=_DAY, help="Of products sensed until this day, UTC.")
@_SOURCE
@_JSON
def orbits_sync(
    place: str,
    start: datetime | None,
    end: datetime | None,
    source_name: str | None,
    as_json: bool,
) -> None:
    """Fetch the orbit files that the registered GRD and SLC need and DIR lacks.

    Precise ones (POEORB, some 20 days after sensing) where there are, else restituted ones
    (RESORB). The account is CBM_CDSE_USER and CBM_CDSE_PASSWORD, or those names with _FILE.
    """
    wanted = inputs.find_inputs(
        db.connect("cbm-card"),
        start=start and start.replace(tzinfo=UTC),
        stop=end and end.replace(tzinfo=UTC) + timedelta(days=1),
    )
    source = find_source(source_name or "cdse-odata")
    transport = Transport(sign_in=sign_in_of_cdse())
    done = sync_orbits(wanted, place, source, transport)
    if as_json:
        click.echo(json.dumps(report.orbit_json(done), indent=1))
        return
    for line in report.orbit_lines(done):
        click.echo(line)


if __name__ == "__main__":
    main()
