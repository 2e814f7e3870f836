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
from dataclasses import dataclass, field
from pathlib import Path

import click
from tqdm import tqdm

from infra.standalone import api, cluster, showing, sources
from infra.standalone import campaign as campaigns
from infra.standalone.campaign import Campaign
from infra.standalone.cluster import ClusterError
from infra.standalone.database import LOGINS, Database
from infra.standalone.programs import DemoError, last_line, program, run, start
from infra.standalone.sources import Options, Source

_WORKERS = 2
_POLL_S = 0.5
_PROBLEMS_SHOWN = 5
_ROOM_BYTES = 3_000_000_000
"""Free space to begin with: WAL, the synthetic scenes and what is made of them."""


@dataclass
class Stages:
    """Announces each stage and keeps how long it took, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block, and say what it is before it begins."""
        click.echo(f"{name} ...")
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began


def up(folder: Path, options: Options) -> None:
    """Make the demo, or bring the one that is there up to date.

    Raises:
        DemoError: it cannot go on; the message says why.
        ClusterError: the private cluster cannot be made or started.
    """
    folder = folder.resolve()
    source = sources.chosen(options, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        _check_room(folder)
        sources.remember(folder, source)
        api.stop(folder)
        _make(folder, source, api.pick_port(folder, options.port))


def _make(folder: Path, source: Source, port: int) -> None:
    stages = Stages()
    with stages.stage("Database"):
        database = _database(folder)
    if source.prepare:
        with stages.stage("Synthetic data"):
            run(source.prepare, {}, in_sight=sys.stderr.isatty())
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
        shown = showing.picture(folder, database, campaign, client, credit)
    showing.write_env(folder / "env", showing.settings(database, campaign, client, shown))
    click.echo(
        showing.report(
            folder / "env",
            stages.seconds,
            campaign,
            campaigns.progress(database, campaign),
            campaigns.parcels(database, campaign),
            client,
            shown,
        )
    )


def stop(folder: Path) -> None:
    """Stop the API and the database; the data stay.

    Raises:
        DemoError: the API does not end.
        ClusterError: the database does not end.
    """
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
        showing.write_private(path, json.dumps({name: secrets.token_urlsafe(18) for name in names}))
    known: dict[str, str] = json.loads(path.read_text())
    return known


def _register(source: Source, database: Database) -> None:
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


def _year(source: Source, database: Database) -> int:
    """What the user said, or else the year of most scenes."""
    commonest = campaigns.commonest_year(database)
    if commonest is None:
        raise DemoError(f"no scene was registered from {source.name}")
    return source.year or commonest


def _import(source: Source, database: Database, year: int) -> Campaign:
    owner, store = database.settings("owner"), program("cbm-store")
    of = ("--aoi", source.aoi, "--year", str(year))
    if campaigns.find(database, source.aoi, year) is None:
        run([store, "campaign", "create", *of], owner)
    command = [store, "parcels", "import", str(source.parcels), *of, *source.import_options]
    click.echo(textwrap.indent(run(command, owner).rstrip(), "  "))
    campaign = campaigns.find(database, source.aoi, year)
    if campaign is None:
        raise DemoError(f"cbm-store made no campaign {source.aoi} {year}")
    return campaign


def _extract(folder: Path, database: Database, campaign: Campaign) -> None:
    """Run the workers until nothing is left to do."""
    begun = campaigns.progress(database, campaign)
    if begun.ended == begun.pieces:
        click.echo("  all done already")
        return
    settings = database.settings("worker") | {
        "CBM_CACHE_DIR": str(folder / "spans"),
        "CBM_POLL_S": str(_POLL_S),
    }
    logs = [folder / f"worker-{n}.log" for n in range(1, _WORKERS + 1)]
    command = [program("cbm-extract"), "work", "--until-idle"]
    workers = [start(command, settings, log) for log in logs]
    try:
        _watch(database, campaign, workers)
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    for worker, log in zip(workers, logs, strict=True):
        if worker.returncode != 0:
            raise DemoError(f"a worker failed: {last_line(log.read_text())} (see {log})")


def _watch(
    database: Database, campaign: Campaign, workers: list["subprocess.Popen[bytes]"]
) -> None:
    # Asked of the database: each start of `cbm-extract status` would cost the workers 1.5 CPU s.
    begun = campaigns.progress(database, campaign)
    pause_s = _POLL_S if sys.stderr.isatty() else 10  # a log needs few lines
    with tqdm(
        total=begun.pieces, initial=begun.ended, unit="scene", ncols=80, mininterval=pause_s
    ) as bar:
        while any(worker.poll() is None for worker in workers):
            time.sleep(_POLL_S)
            bar.update(campaigns.progress(database, campaign).ended - bar.n)


def _serve(folder: Path, database: Database, campaign: Campaign, port: int) -> api.Client:
    password = database.passwords[api.USER]
    _admit(database.settings("owner"), campaign.aoi, password)
    url = api.start(folder, port, database.settings("api"))
    return api.Client(url, api.USER, password)


def _admit(owner: Mapping[str, str], aoi: str, password: str) -> None:
    """Make the demo's user, if new, an operator of the aoi: one who also sees failures."""
    users = [program("cbm-api"), "users"]
    names = [line.split("\t")[0] for line in run([*users, "list"], owner).splitlines()]
    if api.USER not in names:
        run([*users, "add", api.USER, "--password-stdin"], owner, stdin=f"{password}\n")
    run([*users, "grant", api.USER, aoi, "--role", "operator"], owner)


class _Command(click.Group):
    """Ends foreseeable errors in one sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (DemoError, ClusterError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"the operating system refuses: {error}") from error


@click.group(cls=_Command)
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
    up(folder, Options(**options))  # type: ignore[arg-type]  # click has typed them


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
