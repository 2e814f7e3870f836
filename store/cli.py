"""`cbm-store`: the schema, campaigns, parcels, weather, markers and cost."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import click

from store import db, schema
from store.command import CliGroup
from store.cost import publish_ledger
from store.dump import dump_aoi
from store.errors import CallerError
from store.markers import import_markers
from store.parcels import campaigns
from store.parcels.importing import import_parcels
from store.weather import import_weather

_CREATE_EXAMPLE = """\b
Example:
  cbm-store campaign create --aoi nl --year 2024
"""
_IMPORT_EXAMPLES = """\b
Examples:
  cbm-store parcels import brp_2024.gpkg --aoi nl --year 2024 --id-column id \\
      --crop-column gewas --crop-code-column gewascode
  cbm-store parcels import lpis.zip --aoi pt --year 2024 --layer Culturas --dry-run
"""
_WEATHER_EXAMPLE = """\b
Example:
  cbm-store weather import era5_2024_tmin.nc era5_2024_tmax.nc
"""
_MARKERS_EXAMPLE = """\b
Example:
  cbm-store markers import mowing.csv --aoi nl --year 2024
"""
_DUMP_EXAMPLES = """\b
Examples:
  cbm-store dump nl nl.sql.gz
  zcat nl.sql.gz | psql --single-transaction --set ON_ERROR_STOP=1 --dbname new
"""
_COST_EXAMPLE = """\b
Example:
  cbm-store cost publish < ledger.json
"""
_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group(cls=CliGroup)
def main() -> None:
    """Keep the store: its schema, campaigns and parcels.

    The database is the one that libpq's variables name (PGHOST, PGDATABASE, PGUSER, PGSERVICE
    ...). `migrate` needs a superuser, all else the role cbm_owner or a member of it.
    """


@main.command()
@click.option("--dry-run", is_flag=True, help="List the missing migrations, apply none.")
def migrate(dry_run: bool) -> None:
    """Bring the database to this version's schema; safe to repeat."""
    conn = db.connect("cbm-store migrate")
    applied = schema.pending(conn) if dry_run else schema.migrate(conn)
    for migration in applied:
        click.echo(f"{'would apply' if dry_run else 'applied'} {migration.name}")
    if not applied:
        click.echo("the schema is up to date")


@main.command(epilog=_DUMP_EXAMPLES)
@click.argument("aoi")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def dump(aoi: str, file: Path) -> None:
    """Write all that the database knows of AOI into FILE, a gzipped script for psql.

    Campaigns, parcels, the catalogue's scenes that concern them, work, signatures, histograms and
    markers, as they are at one moment; workers and readers need not wait. Not in it: users, tokens,
    weather, the scenes' files. It holds personal data, so that only you may read the file. Load it
    into a new database after `cbm-store migrate`.
    """
    conn = db.connect("cbm-store dump")
    report = dump_aoi(conn, aoi.lower(), file, lambda part: click.echo(f"{part} ...", err=True))
    click.echo(f"{file}, {report}")


def _of_campaign(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name a campaign."""
    command = click.option("--ptype", default="", help="If a year has several declarations.")(
        command
    )
    command = click.option("--year", type=int, required=True, help="Of the declaration.")(command)
    return click.option("--aoi", required=True, help="Member State or region, as in nl, bewa.")(
        command
    )


@main.group()
def campaign() -> None:
    """Make, list, close and drop campaigns."""


@campaign.command(epilog=_CREATE_EXAMPLE)
@_of_campaign
@click.option("--start", type=_DAY, help="First day of scenes [1 October of the year before].")
@click.option("--end", type=_DAY, help="Last day of scenes [31 December of the year].")
@click.option(
    "--buffer",
    "buffer_m",
    type=float,
    default=0.0,
    show_default=True,
    help="Strip taken off inside every parcel's edge, metres.",
)
def create(
    aoi: str, year: int, ptype: str, start: datetime | None, end: datetime | None, buffer_m: float
) -> None:
    """Make an empty campaign."""
    campaign = campaigns.create(
        db.connect("cbm-store campaign create"),
        aoi,
        year,
        ptype,
        start.date() if start else None,
        end.date() if end else None,
        buffer_m,
    )
    click.echo(
        f"made {campaign.name}: scenes from {campaign.start} to {campaign.end}, "
        f"buffer {campaign.buffer_m:g} m"
    )


@campaign.command(name="list")
def list_() -> None:
    """List all campaigns with their numbers of parcels, scenes and signatures."""
    conn = db.connect("cbm-store campaign list")
    known = campaigns.find_all(conn)
    click.echo(
        f"{'campaign':<20}{'state':<8}{'from':<12}{'to':<12}{'buffer m':>9}{'EPSG':>7}"
        f"{'parcels':>12}{'scenes':>9}{'signatures':>15}"
    )
    for campaign in known:
        held = campaigns.contents(conn, campaign)
        click.echo(
            f"{campaign.name:<20}{campaign.state:<8}{campaign.start!s:<12}{campaign.end!s:<12}"
            f"{campaign.buffer_m:>9g}{campaign.srid or '-':>7}"
            f"{held.parcels:>12,}{held.scenes:>9,}{held.signatures:>15,}"
        )


@campaign.command()
@_of_campaign
def close(aoi: str, year: int, ptype: str) -> None:
    """Let no further scene join and no parcel change; all data stay."""
    conn = db.connect("cbm-store campaign close")
    campaign = campaigns.find(conn, aoi, year, ptype)
    campaigns.close(conn, campaign)
    click.echo(f"closed {campaign.name}")


@campaign.command()
@_of_campaign
@click.option("--yes", is_flag=True, help="Erase without a prompt.")
def drop(aoi: str, year: int, ptype: str, yes: bool) -> None:
    """Erase a campaign: parcels, signatures, views and queue. There is no way back."""
    conn = db.connect("cbm-store campaign drop")
    campaign = campaigns.find(conn, aoi, year, ptype)
    held = campaigns.contents(conn, campaign)
    lost = (
        f"{campaign.name} with {held.parcels:,} parcels and {held.signatures:,} signatures "
        f"of {held.scenes:,} scenes"
    )
    if not yes and click.prompt(f"This erases {lost}. Type its name to go on", err=True) != (
        campaign.name
    ):
        raise CallerError(f"that is not the name, {campaign.name} stays")
    campaigns.drop(conn, campaign)
    click.echo(f"dropped {lost}")


@main.group()
def parcels() -> None:
    """Import parcels."""


@parcels.command(name="import", epilog=_IMPORT_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@_of_campaign
@click.option(
    "--id-column",
    "id_columns",
    multiple=True,
    help="Holds the agency's parcel id; may be given again for ids of several columns, which are "
    "joined by a hyphen [the layer's feature id].",
)
@click.option("--crop-column", help="Holds the crop's name.")
@click.option("--crop-code-column", help="Holds the crop's code.")
@click.option(
    "--keep",
    "kept",
    multiple=True,
    help="A further column to keep, in the column attributes of the parcels; may be given again.",
)
@click.option("--keep-all", is_flag=True, help="Keep all columns: none may be of a person.")
@click.option("--layer", help="Needed where several layers hold polygons.")
@click.option("--crs", help="Of the coordinates, if the file states none or a wrong one.")
@click.option("--encoding", help="Of a shapefile's texts, if it states none or a wrong one.")
@click.option("--dry-run", is_flag=True, help="Report the result, write nothing.")
@click.option(
    "--accept-losses",
    is_flag=True,
    help="Go on although no id is known yet and all signatures are lost.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, all cases in it.")
def import_(
    file: Path,
    aoi: str,
    year: int,
    ptype: str,
    id_columns: tuple[str, ...],
    crop_column: str | None,
    crop_code_column: str | None,
    kept: tuple[str, ...],
    keep_all: bool,
    layer: str | None,
    crs: str | None,
    encoding: str | None,
    dry_run: bool,
    accept_losses: bool,
    as_json: bool,
) -> None:
    """Make a file's features the parcels of a campaign; all of it, or nothing.

    FILE is a GeoPackage, shapefile, GeoJSON or GML, also zipped, or GeoParquet. It is taken for
    the whole declaration. On a repeated import a parcel with the same id and geometry keeps its
    signatures; one that changed or is no longer there loses them.
    """
    conn = db.connect("cbm-store parcels import")
    campaign = campaigns.find(conn, aoi, year, ptype)
    with _bar() as progress:
        report = import_parcels(
            conn,
            campaign,
            file,
            layer,
            id_columns,
            crop_column,
            crop_code_column,
            kept=None if keep_all else kept,
            crs=crs,
            encoding=encoding,
            dry_run=dry_run,
            accept_losses=accept_losses,
            progress=progress,
        )
    click.echo(report.as_json() if as_json else str(report))


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal; elsewhere none."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="Reading features", file=sys.stderr) as bar:

        def show(read: int, features: int) -> None:
            bar.length = max(features, read)
            bar.update(read - bar.pos)

        yield show


@main.group()
def weather() -> None:
    """Import daily weather."""


@weather.command(name="import", epilog=_WEATHER_EXAMPLE)
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
def import_weather_(files: tuple[Path, ...]) -> None:
    """Keep the weather in CSV or NetCDF files; earlier values of a point and day are replaced.

    A CSV has the columns lon, lat, date and some of tmin, tmax, tmean (degrees Celsius) and prec
    (mm). A NetCDF file has some of these variables by day, or ERA5's mn2t, mx2t, t2m and tp.
    """
    conn = db.connect("cbm-store weather import")
    for file in files:
        click.echo(f"{file}: {import_weather(conn, file)}")


@main.group()
def markers() -> None:
    """Import markers."""


@markers.command(name="import", epilog=_MARKERS_EXAMPLE)
@click.argument("file", type=click.Path(path_type=Path))
@_of_campaign
@click.option("--replace", is_flag=True, help="Delete all other markers of the campaign.")
def import_markers_(file: Path, aoi: str, year: int, ptype: str, replace: bool) -> None:
    """Keep a CSV file's markers: all of them, or none.

    Columns: code (the agency's parcel id), marker, date_start, and any of marker_type, date_main,
    date_end, value_1, value_2, value_3, practice. A repeated import replaces.
    """
    conn = db.connect("cbm-store markers import")
    campaign = campaigns.find(conn, aoi, year, ptype)
    count = import_markers(conn, campaign, file, replace=replace)
    click.echo(f"{count} markers of {campaign.name}")


@main.group()
def cost() -> None:
    """Publish what the appliance costs."""


@cost.command(epilog=_COST_EXAMPLE)
@click.argument("file", type=click.File("rb"), default="-")
def publish(file: BinaryIO) -> None:
    """Show operators a cost ledger on the status page, instead of the one before.

    FILE, by default the standard input, is JSON as `fab cost --as-json` prints it; `fab cost
    --publish` calls this command.
    """
    ledger = publish_ledger(db.connect("cbm-store cost publish"), file.read())
    amount = f"{ledger.year['all']:,.0f} {ledger.currency} a year"
    click.echo(f"published: {ledger.title}, {ledger.parcels:,} parcels, {amount}")
