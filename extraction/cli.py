"""`cbm-extract`: workers, the state of the queue, and work put back into it."""

import json
import logging
import os
from collections import defaultdict
from typing import Any

import click

from extraction.kernels import cache
from extraction.worker import Worker
from store import catalogue, db, leases, queue
from store.command import CliGroup, log_to_stderr
from store.config import WorkerSettings
from store.errors import NotFoundError

_log = logging.getLogger("cbm.worker")


@click.group(cls=CliGroup)
def main() -> None:
    """Reduce scenes to signatures.

    The database comes from PG*, object storage from AWS_*; CBM_LEASE_S, CBM_THREADS and
    CBM_CACHE_DIR, among others, set how a worker behaves (see README).
    """


@main.command()
@click.option("--until-idle", is_flag=True, help="End when nothing is pending or claimed.")
@click.option("--verbose", is_flag=True, help="Log more.")
def work(until_idle: bool, verbose: bool) -> None:
    """Pull scenes from the queue until stopped.

    SIGTERM and SIGINT release the scene in hand; a killed worker's scene returns to the queue when
    its lease runs out.
    """
    log_to_stderr(verbose)
    if not cache.is_filled():
        _log.info("event=compiling what=kernels: once on this machine, for about half a minute")
    worker = Worker(WorkerSettings.from_env(os.environ))
    worker.stop_on_signals()
    done = worker.work(until_idle)
    click.echo(f"{done} scenes done", err=True)


@main.command()
@click.argument("reference")
def one(reference: str) -> None:
    """Do the open work on one scene in this process, and show its errors."""
    log_to_stderr()
    done = Worker(WorkerSettings.from_env(os.environ)).work_on(reference)
    if not done:
        raise NotFoundError(_why_nothing(reference))
    click.echo(f"{reference}: done for {done} parcel set{'s' if done > 1 else ''}")


def _why_nothing(reference: str) -> str:
    if states := queue.states(db.connect("cbm-extract one"), reference):
        return (
            f"{reference}: nothing to do, its work is {', '.join(states)} "
            "(dead work: cbm-extract retry; claimed: cbm-extract release)"
        )
    return f"{reference}: not in the catalogue, or it meets no campaign's dates and parcels"


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show the queue by campaign, kind, month and state, and failures with their reasons."""
    conn = db.connect("cbm-extract status")
    rows, failed = queue.progress(conn), queue.failures(conn)
    flawed = catalogue.flawed_scenes(conn)
    if as_json:
        totals = {state: sum(r.scenes for r in rows if r.state == state) for state in leases.STATES}
        click.echo(
            json.dumps(
                {
                    "totals": totals,
                    "signatures": sum(r.signatures for r in rows),
                    "progress": [r._asdict() for r in rows],
                    "failures": [r._asdict() for r in failed],
                    "read_whole": [r._asdict() for r in flawed],
                }
            )
        )
        return
    click.echo(_table(rows))
    for row in failed:
        click.echo(
            f"{row.state:8} {row.reference} (set {row.set_id}; {row.failures} failures, "
            f"{row.lost_leases} lost leases): {row.reason}"
        )
    for row in flawed:
        click.echo(f"{'whole':8} {row.reference}: {row.thinning_flaw} (cbm-extract thin)")


def _table(rows: list[Any]) -> str:
    if not rows:
        return "The queue is empty: no scene meets a campaign's dates and parcels."
    lines: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for r in rows:
        campaign = f"{r.aoi} {r.year} {r.ptype}".strip()
        for month in (r.month, "all"):
            lines[campaign, r.kind, month][r.state] += r.scenes
            lines[campaign, r.kind, month]["signatures"] += r.signatures
    columns = (*leases.STATES, "signatures")
    head = f"{'campaign':14} {'kind':4} {'month':7} " + " ".join(f"{c:>10}" for c in columns)
    return "\n".join(
        [
            head,
            *(
                f"{campaign:14} {kind:4} {month:7} " + " ".join(f"{counts[c]:>10}" for c in columns)
                for (campaign, kind, month), counts in sorted(lines.items())
            ),
        ]
    )


@main.command()
@click.argument("reference", required=False)
def retry(reference: str | None) -> None:
    """Put dead work back into the queue: all of it, or that of one scene."""
    count = queue.requeue(db.connect("cbm-extract retry"), "dead", reference)
    click.echo(f"{count} pieces of dead work back in the queue")


@main.command()
@click.argument("reference", required=False)
def thin(reference: str | None) -> None:
    """Read scenes by code blocks again that a check had read whole: all of them, or one.

    A worker decodes only the code blocks that parcels need, and checks one tile of each scene
    against the whole tile. Where they differ the scene is read whole from then on; its numbers are
    right. CBM_THIN=0 has a worker read all scenes whole.
    """
    count = catalogue.clear_flaws(db.connect("cbm-extract thin"), reference)
    click.echo(f"{count} scenes are read by code blocks again")


@main.command()
@click.argument("reference", required=False)
def release(reference: str | None) -> None:
    """Take claimed work from its workers and put it back; their results are not written."""
    count = queue.requeue(db.connect("cbm-extract release"), "claimed", reference)
    click.echo(f"{count} claimed pieces of work back in the queue")


@main.command()
@click.argument("references", metavar="REFERENCE...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All scenes that are done.")
@click.option("--dry-run", is_flag=True, help="Only count.")
def redo(references: tuple[str, ...], everything: bool, dry_run: bool) -> None:
    """Put done work back into the queue: its signatures are replaced when it is done again."""
    if bool(references) == everything:
        raise click.UsageError("give references of scenes, or --all")
    conn = db.connect("cbm-extract redo")
    chosen = None if everything else list(references)
    count = queue.redo(conn, chosen, dry_run=dry_run)
    would = "would be " if dry_run else ""
    click.echo(f"{count} pieces of done work {would}back in the queue")
