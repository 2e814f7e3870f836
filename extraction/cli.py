"""`cbm-extract`: run workers, look at the queue, put work back."""

import json
import os
from collections import defaultdict
from typing import Any

import click

from extraction.worker import Worker
from store import catalogue, db
from store.command import Program, log_to_stderr
from store.config import WorkerSettings
from store.errors import NotFoundError

_STATES = ("pending", "claimed", "done", "dead")


@click.group(cls=Program)
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
    worker = Worker(WorkerSettings.from_env(os.environ))
    worker.stop_on_signals()
    done = worker.work(until_idle)
    click.echo(f"{done} scenes done", err=True)


@main.command()
@click.argument("reference")
def one(reference: str) -> None:
    """Do the open work on one scene, here and now, with its errors shown."""
    log_to_stderr()
    done = Worker(WorkerSettings.from_env(os.environ)).one(reference)
    if not done:
        raise NotFoundError(_why_nothing(reference))
    click.echo(f"{reference}: done for {done} parcel set{'s' if done > 1 else ''}")


def _why_nothing(reference: str) -> str:
    conn = db.connect("cbm-extract one")
    states = [
        row.state
        for row in db.rows(
            conn,
            "SELECT w.state FROM work w JOIN scene s USING (obsid) WHERE s.reference = %s",
            (reference,),
        )
    ]
    if states:
        return (
            f"{reference}: nothing to do, its work is {', '.join(sorted(set(states)))} "
            "(dead work: cbm-extract retry; claimed: cbm-extract release)"
        )
    return f"{reference}: not in the catalogue, or it meets no campaign's dates and parcels"


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show the queue by campaign, kind, month and state, and failures with their reasons."""
    conn = db.connect("cbm-extract status")
    rows, failed = catalogue.progress(conn), catalogue.failures(conn)
    if as_json:
        totals = {state: sum(r.scenes for r in rows if r.state == state) for state in _STATES}
        click.echo(
            json.dumps(
                {
                    "totals": totals,
                    "signatures": sum(r.signatures for r in rows),
                    "progress": [r._asdict() for r in rows],
                    "failures": [r._asdict() for r in failed],
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


def _table(rows: list[Any]) -> str:
    if not rows:
        return "The queue is empty: no scene meets a campaign's dates and parcels."
    lines: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for r in rows:
        campaign = f"{r.aoi} {r.year} {r.ptype}".strip()
        for month in (r.month, "all"):
            lines[campaign, r.kind, month][r.state] += r.scenes
            lines[campaign, r.kind, month]["signatures"] += r.signatures
    columns = (*_STATES, "signatures")
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
    count = catalogue.requeue(db.connect("cbm-extract retry"), "dead", reference)
    click.echo(f"{count} pieces of dead work back in the queue")


@main.command()
@click.argument("reference", required=False)
def release(reference: str | None) -> None:
    """Take claimed work from its workers and put it back; what they still do is not written."""
    count = catalogue.requeue(db.connect("cbm-extract release"), "claimed", reference)
    click.echo(f"{count} claimed pieces of work back in the queue")
