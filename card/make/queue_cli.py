"""`cbm-card make season`, `work` and `making`: the queue of products to be made."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, get_args

import click

from card.make.backscatter import Radiometry
from card.make.cli import make_group
from card.make.engine import ENGINES
from card.make.season import KINDS, SeasonPlan, plan_season
from card.make.worker import Processor, ProcessorSettings
from store import db, leases, making
from store.command import log_to_stderr
from store.parcels import campaigns

_LISTED = 10
"""Products that a plan names."""


@make_group.command("season")
@click.option("--aoi", required=True, help="Of the campaign, such as nl.")
@click.option("--year", type=int, required=True, help="Of the campaign.")
@click.option("--ptype", default="", help="Of the campaign, if it has one.")
@click.option("--kind", type=click.Choice(KINDS), default="bs", show_default=True)
@click.option(
    "--engine",
    type=click.Choice([*sorted(ENGINES), "cdse"]),
    default="own",
    show_default=True,
    help="What makes it; cdse orders it at the Copernicus Data Space.",
)
@click.option(
    "--radiometry",
    type=click.Choice(get_args(Radiometry)),
    help="As of make bs; gamma0 if not given.",
)
@click.option("--epsg", type=int, help="CRS of the output; each scene's UTM zone if not given.")
@click.option("--replace", is_flag=True, help="Make again what was made, or queued otherwise.")
@click.option(
    "--price", type=click.FloatRange(min=0), metavar="EUR", help="Of a processor hour (fab plan)."
)
@click.option("--dry-run", is_flag=True, help="Show the plan, queue nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def season_command(
    aoi: str, year: int, ptype: str, kind: str, engine: str, radiometry: str | None,
    epsg: int | None, replace: bool, price: float | None, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Queue what a campaign needs made of the registered Level-1 products, after a plan of it.

    Safe to repeat: what is queued, made or registered already is left alone, and nothing to make is
    no error. cbm-card work makes what is queued.
    """
    conn = db.connect("cbm-card make season")
    campaign = campaigns.find(conn, aoi, year, ptype)
    stated = {"radiometry": radiometry, "epsg": epsg}
    settings = {name: value for name, value in stated.items() if value is not None}
    planned = plan_season(conn, campaign, kind, engine, settings, replace=replace)
    if not as_json:
        for line in plan_lines(planned, campaign.name, price):
            click.echo(line)
    queued = None
    if not dry_run and planned.orders:
        queued = making.enqueue(conn, planned.orders, replace=replace)
    if as_json:
        click.echo(json.dumps(_plan_json(planned, price, queued), indent=1))
    elif queued:
        click.echo(
            f"queued     {queued.added} new, {queued.again} again, {queued.unchanged} known; "
            "cbm-card work makes them, cbm-card making status shows how far they are"
        )
    if not planned.orders and not planned.made and not planned.away:
        level = "grd" if kind == "bs" else "slc"
        click.echo(
            f"nothing    to make: no Level-1 product for {kind} of {campaign.name} is registered; "
            f"cbm-card sync --aoi {aoi} --year {year} --kind {level} looks for them",
            err=as_json,
        )


def plan_lines(planned: SeasonPlan, campaign: str, price: float | None) -> Iterator[str]:
    """A plan for people.

    Args:
        planned: the plan.
        campaign: its name.
        price: EUR of a processor hour.
    """
    yield f"campaign   {campaign}: {planned.kind} by {planned.engine}"
    yield f"to make    {len(planned.orders)} products"
    yield f"made       {len(planned.made)} are scenes already"
    if planned.away:
        names = ", ".join(planned.away[:_LISTED])
        more = f" and {len(planned.away) - _LISTED} more" if len(planned.away) > _LISTED else ""
        yield f"away       {len(planned.away)} inputs are offline or absent: {names}{more}"
    yield f"about      {planned.cpu_hours:.1f} CPU hours, {planned.gigabytes:.1f} GB"
    if price is not None:
        yield f"cost       {planned.cost_eur(price):.2f} EUR at {price:g} EUR a CPU hour"


def _plan_json(
    planned: SeasonPlan, price: float | None, queued: making.EnqueueReport | None
) -> dict[str, Any]:
    return {
        "kind": planned.kind,
        "engine": planned.engine,
        "orders": [list(order.inputs) for order in planned.orders],
        "made": list(planned.made),
        "away": list(planned.away),
        "cpu_hours": planned.cpu_hours,
        "gigabytes": planned.gigabytes,
        "eur": None if price is None else planned.cost_eur(price),
        "queued": queued and vars(queued),
    }


@click.command("work")
@click.option("--until-idle", is_flag=True, help="End when nothing is pending or claimed.")
@click.option("--verbose", is_flag=True, help="Log more.")
def work_command(until_idle: bool, verbose: bool) -> None:
    """Make queued products until stopped.

    CBM_CARD_DIR is where they go (a folder or s3://bucket/prefix), CBM_DEM the terrain, CBM_GEOID
    what its heights stand on, CBM_ORBITS orbit files (a folder or s3://bucket/prefix), CBM_SCRATCH
    a folder for products in the making. SIGTERM and SIGINT release the product in hand; that of a
    killed processor returns to the queue when its lease (CBM_LEASE_S) runs out.
    """
    log_to_stderr(verbose)
    settings = ProcessorSettings.from_env(os.environ)
    settings.shelf  # noqa: B018 -- refused before anything is claimed
    processor = Processor(settings)
    processor.stop_on_signals()
    click.echo(f"{processor.work(until_idle)} products made", err=True)


@click.group("making")
def making_group() -> None:
    """Products in the making: how far they are, and those that were given up."""


@making_group.command("status")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status_command(as_json: bool) -> None:
    """Show the queue by kind, month and state, what is in hand, and reasons."""
    conn = db.connect("cbm-card making status")
    rows, noted = making.progress(conn), making.notes(conn)
    if as_json:
        totals = {
            state: sum(r.products for r in rows if r.state == state) for state in leases.STATES
        }
        click.echo(
            json.dumps(
                {
                    "totals": totals,
                    "progress": [row._asdict() for row in rows],
                    "products": [row._asdict() for row in noted],
                }
            )
        )
        return
    for line in (*_table(rows), *map(_note_line, noted)):
        click.echo(line)


def _table(rows: list[Any]) -> Iterator[str]:
    if not rows:
        yield "Nothing is to be made: cbm-card make season queues a campaign's products."
        return
    lines: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for month in (row.month, "all"):
            lines[row.kind, month][row.state] += row.products
            lines[row.kind, month]["GB"] += row.size_bytes / 1e9
            lines[row.kind, month]["CPU h"] += row.cpu_s / 3600
    columns = (*leases.STATES, "GB", "CPU h")
    yield f"{'kind':4} {'month':7} " + " ".join(f"{name:>8}" for name in columns)
    for (kind, month), counts in sorted(lines.items()):
        figures = " ".join(
            f"{counts[name]:>8.1f}" if name in ("GB", "CPU h") else f"{counts[name]:>8.0f}"
            for name in columns
        )
        yield f"{kind:4} {month:7} {figures}"


def _note_line(row: Any) -> str:
    inputs = " + ".join(row.inputs)
    if row.state == "claimed":
        tiles = f"{row.tiles_done} of {row.tiles} tiles" if row.tiles else "begun"
        return f"claimed  {row.kind} of {inputs}: {tiles}, by {row.holder}"
    return (
        f"{row.state:8} {row.kind} of {inputs} ({row.failures} failures, {row.lost_leases} lost "
        f"leases): {row.reason}"
    )


@making_group.command("retry")
@click.argument("reference", required=False)
def retry_command(reference: str | None) -> None:
    """Put dead products back into the queue: all, or that of one product's or input's name."""
    count = making.requeue(db.connect("cbm-card making retry"), "dead", reference)
    click.echo(f"{count} dead products back in the queue")


@making_group.command("release")
@click.argument("reference", required=False)
def release_command(reference: str | None) -> None:
    """Take products from their processors and put them back; what these make is not published."""
    count = making.requeue(db.connect("cbm-card making release"), "claimed", reference)
    click.echo(f"{count} claimed products back in the queue")
