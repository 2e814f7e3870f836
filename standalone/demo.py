"""The whole appliance on one machine, from scenes and parcels to a REST API: `make demo`."""

import contextlib
import fcntl
import json
import logging
import secrets
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click
from tqdm import tqdm

from standalone import api, cluster, parcel_choice, sources, summary
from standalone.database import LOGINS, Database
from standalone.programs import DemoError, last_line, program, run, start
from standalone.sources import DemoOptions, DemoSource
from store import catalogue
from store.command import CliGroup
from store.errors import NotFoundError
from store.parcels import campaigns
from store.parcels.campaigns import Campaign
from store.parcels.importing import import_parcels
from store.queue import CampaignProgress, campaign_progress

_WORKERS = 2
_POLL_S = 0.5
_PROBLEMS_SHOWN = 5
_ROOM_BYTES = 3_000_000_000
"""Free space to begin with: WAL, the synthetic scenes and what is made of them."""


@dataclass
class Stages:
    """The stages of a run with their times, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block; its name is printed first."""
        click.echo(f"{name} ...")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began


def up(folder: Path, options: DemoOptions) -> None:
    """Make the demo, or bring the one that is there up to date.

    Raises:
        DemoError: it cannot go on; the message says why.
        ClusterError: the private cluster cannot be made or started.
    """
    folder = folder.resolve()
    source = sources.choose_source(options, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        _check_room(folder)
        sources.remember(folder, source)
        api.stop(folder)
        _make(folder, source, api.pick_port(folder, options.port))


def _make(folder: Path, source: DemoSource, port: int) -> None:
    stages = Stages()
    with stages.stage("Database"):
        database = _database(folder)
    if source.prepare:
        with stages.stage("Synthetic data"):
            run(source.prepare, {}, in_sight=sys.stderr.isatty())
    if source.card_commands:
        with stages.stage("CARD"):
            _make_card(source)
    with stages.stage("Scenes"):
        _register(source, database)
        year = _year(source, database)
    with stages.stage("Parcels"):
        campaign = _import(source, database, year)
    with stages.stage("Signatures"):
        _extract(folder, database, campaign)
    with stages.stage("API"):
        client = _serve(folder, database, campaign, port)
    with stages.stage("Picture"):
        credit = source.credit.format(year=campaign.year)
        plotted = summary.draw_plots(folder, database, campaign, client, credit, source.own_card)
    request = summary.choose_request(database, campaign, plotted)
    progress = _progress(database, campaign)
    summary.write_env(folder / "env", summary.settings(database, campaign, client, request))
    summary.write_env(folder / "owner.env", database.settings("owner"))
    click.echo(
        summary.report(
            folder / "env",
            stages.seconds,
            campaign,
            progress,
            _parcel_count(database, campaign),
            client,
            plotted,
            request,
            summary.explain(database, campaign, progress, bool(plotted)),
        )
    )


def stop(folder: Path) -> None:
    """Stop the API and the database; the data stay.

    Raises:
        DemoError: the API does not end.
        ClusterError: the database does not end.
    """
    folder = folder.resolve()
    if not folder.exists():
        click.echo(f"There is no demo in {folder}.")
        return
    with _alone(folder):
        api.stop(folder)
        made = cluster.find(folder / "cluster")
        if made:
            made.stop()
    click.echo(f"The demo in {folder} is stopped; make demo starts it again.")


def clean(folder: Path) -> None:
    """Stop the demo and remove everything it made.

    Raises:
        DemoError: the API does not end.
        ClusterError: the database does not end.
    """
    folder = folder.resolve()
    if not folder.exists():
        click.echo(f"There is no demo in {folder}.")
        return
    with _alone(folder):
        api.stop(folder)
        cluster.remove(folder / "cluster")
        shutil.rmtree(folder)
    click.echo(f"The demo in {folder} is removed.")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another make demo is at work in {folder}: wait for it") from None
        yield


def _check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _ROOM_BYTES:
        raise DemoError(
            f"only {free / 1e9:.1f} GB are free in {folder}, and the demo needs "
            f"{_ROOM_BYTES / 1e9:.0f} GB: make room"
        )


def _database(folder: Path) -> Database:
    made = cluster.make(folder / "cluster")
    _check_room(made.home)
    made.start()
    database = Database(made, _passwords(folder / "passwords.json"))
    database.make()
    return database


def _passwords(path: Path) -> dict[str, str]:
    """By login and API user: those of the first run, or new random ones."""
    if not path.exists():
        names = [*LOGINS, api.USER]
        summary.write_private(path, json.dumps({name: secrets.token_urlsafe(18) for name in names}))
    known: dict[str, str] = json.loads(path.read_text())
    return known


def _make_card(source: DemoSource) -> None:
    """Make CARD of the source's Level-1 products; one that is made already is left as it is."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        for printed in pool.map(lambda command: run(command, {}), source.card_commands):
            click.echo(f"  {Path(printed.splitlines()[0]).name}")


def _register(source: DemoSource, database: Database) -> None:
    try:
        printed = run(source.register, database.settings("worker"))
    except DemoError as error:
        if not _echo_problems(error.output):
            raise
        raise DemoError(
            f"no scene can be taken from {source.name}: see the problems above "
            "(DESCRIBE=DIR names a folder of STAC Items that say what the files do not)"
        ) from error
    _echo_problems(printed)
    for line in printed.splitlines()[-2:]:
        click.echo(f"  {line}")


def _echo_problems(printed: str) -> int:
    """Show the first problems cbm-card met, and return how many there are."""
    problems = [line for line in printed.splitlines() if line.startswith("PROBLEM")]
    for line in problems[:_PROBLEMS_SHOWN]:
        click.echo(f"  {line}")
    if len(problems) > _PROBLEMS_SHOWN:
        click.echo(f"  ... and {len(problems) - _PROBLEMS_SHOWN} more problems")
    return len(problems)


def _year(source: DemoSource, database: Database) -> int:
    """The user's year, or else the year of most scenes."""
    with database.connect("analyst") as conn:
        commonest = parcel_choice.commonest_year(conn)
    if commonest is None:
        raise DemoError(f"no scene was registered from {source.name}")
    return source.year or commonest


def _import(source: DemoSource, database: Database, year: int) -> Campaign:
    with database.connect("owner") as conn:
        try:
            campaign = campaigns.find(conn, source.aoi, year)
        except NotFoundError:
            campaign = campaigns.create(conn, source.aoi, year)
        report = import_parcels(
            conn,
            campaign,
            source.parcels,
            id_column=source.id_column,
            crop_column=source.crop_column,
            crop_code_column=source.crop_code_column,
        )
    click.echo(textwrap.indent(str(report), "  "))
    return campaign


def _progress(database: Database, campaign: Campaign) -> CampaignProgress:
    with database.connect("analyst") as conn:
        return campaign_progress(conn, campaign.id)


def _parcel_count(database: Database, campaign: Campaign) -> int:
    with database.connect("analyst") as conn:
        return campaigns.contents(conn, campaign).parcels


def _extract(folder: Path, database: Database, campaign: Campaign) -> None:
    """Run the workers until nothing is left to do."""
    begun = _progress(database, campaign)
    if begun.ended == begun.pieces:
        click.echo(f"  {_why_nothing(begun)}")
        return
    settings = database.settings("worker") | {
        "CBM_CACHE_DIR": str(folder / "spans"),
        "CBM_POLL_S": str(_POLL_S),
    }
    logs = [folder / f"worker-{n}.log" for n in range(1, _WORKERS + 1)]
    command = [program("cbm-extract"), "work", "--until-idle"]
    workers = [start(command, settings, log) for log in logs]
    try:
        _watch(database, campaign, workers, logs)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    for worker, log in zip(workers, logs, strict=True):
        if worker.returncode != 0:
            raise DemoError(f"a worker failed: {last_line(log.read_text())} (see {log})")


def _why_nothing(progress: CampaignProgress) -> str:
    if not progress.pieces:
        return "nothing to do: no scene meets the parcels"
    if progress.failed:
        return f"nothing left to do: {progress.failed} of {progress.scenes} scenes failed before"
    return "all done already"


def _watch(
    database: Database,
    campaign: Campaign,
    workers: list["subprocess.Popen[bytes]"],
    logs: list[Path],
) -> None:
    # From the database: each start of `cbm-extract status` would cost the workers 1.5 CPU s.
    begun = _progress(database, campaign)
    pause_s = _POLL_S if sys.stderr.isatty() else 10  # a log needs few lines
    with (
        database.connect("analyst") as conn,
        tqdm(
            total=begun.pieces, initial=begun.ended, unit="scene", ncols=80, mininterval=pause_s
        ) as bar,
    ):
        silent = True
        while any(worker.poll() is None for worker in workers):
            time.sleep(_POLL_S)
            if silent and any("event=compiling" in log.read_text() for log in logs):
                bar.write("  compiling the loops, once on this machine: half a minute", sys.stdout)
                silent = False
            bar.update(campaign_progress(conn, campaign.id).ended - bar.n)


def _serve(folder: Path, database: Database, campaign: Campaign, port: int) -> api.ApiClient:
    password = database.passwords[api.USER]
    _admit(database.settings("owner"), campaign.aoi, password)
    with database.connect("owner") as conn:
        hosts = {"CBM_SCENE_HOSTS": ",".join(catalogue.web_hosts(conn))}
    url = api.start(folder, port, database.settings("api") | hosts)
    return api.ApiClient(url, api.USER, password)


def _admit(owner: Mapping[str, str], aoi: str, password: str) -> None:
    """Make the demo's user, if new, an operator of the aoi: one who also sees failures."""
    users = [program("cbm-api"), "users"]
    names = [line.split("\t")[0] for line in run([*users, "list"], owner).splitlines()]
    if api.USER not in names:
        run([*users, "add", api.USER, "--password-stdin"], owner, stdin=f"{password}\n")
    run([*users, "grant", api.USER, aoi, "--role", "operator"], owner)


class _DemoGroup(CliGroup):
    """Commands whose refusals by the operating system end in a sentence, too."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OSError as error:
            raise click.ClickException(f"the operating system refuses: {error}") from error


@click.group(cls=_DemoGroup)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".demo"), show_default=True)
@click.pass_context
def main(context: click.Context, folder: Path) -> None:
    """The whole appliance on one machine, from scenes and parcels to a REST API."""
    logging.basicConfig(format="%(message)s")
    context.obj = folder


@main.command("up")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of scenes.")
@click.option("--parcels", type=click.Path(path_type=Path), help="Parcel file.")
@click.option("--id", "id_column", help="Its column of parcel ids.")
@click.option("--crop", "crop_column", help="Its column of crop names.")
@click.option("--crop-code", "crop_code_column", help="Its column of crop codes.")
@click.option("--describe", type=click.Path(path_type=Path), help="Folder of STAC Items.")
@click.option(
    "--synthetic-parcels", type=int, default=3000, show_default=True, help="Size of what is made."
)
@click.option("--stac", help="Address of a STAC API.")
@click.option("--collection", help="Collection to search there.")
@click.option("--bbox", help="West,south,east,north in degrees.")
@click.option("--start", help="First day, YYYY-MM-DD.")
@click.option("--end", help="Last day, YYYY-MM-DD.")
@click.option("--aoi", help="Code of the Member State or region.")
@click.option("--year", type=int, help="The campaign's year; otherwise that of most scenes.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the API; otherwise a free one."
)
@click.pass_obj
def up_command(folder: Path, /, **options: object) -> None:
    """Make the demo, or bring it up to date; synthetic unless --data or --stac is given."""
    up(folder, DemoOptions(**options))  # type: ignore[arg-type]  # click has typed them


@main.command("stop")
@click.pass_obj
def stop_command(folder: Path) -> None:
    """Stop the API and the database; the data stay."""
    stop(folder)


@main.command("clean")
@click.pass_obj
def clean_command(folder: Path) -> None:
    """Stop the demo and remove everything it made."""
    clean(folder)


if __name__ == "__main__":
    main()
