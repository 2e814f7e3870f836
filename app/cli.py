"""cbm-api: run the API, and keep its users."""

import os
import socket
import sys
from pathlib import Path

import click

from app import users
from app.settings import ApiSettings
from store import db
from store.command import Program

_password_from_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, not a prompt."
)


@click.group(cls=Program)
def main() -> None:
    """The REST API of the CbM appliance. PG* (libpq) say which database."""


@main.command()
@click.option("--bind", default="127.0.0.1:8000", show_default=True, help="HOST:PORT.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--pid", type=click.Path(path_type=Path), help="File to write the process id to.")
def serve(bind: str, workers: int, pid: Path | None) -> None:
    """Serve the API under gunicorn until SIGTERM."""
    threads = ApiSettings.from_env().threads
    _refuse_taken(bind)
    arguments = ["app.wsgi:application", f"--bind={bind}", f"--workers={workers}"]
    arguments += ["--worker-class=gthread", f"--threads={threads}", "--graceful-timeout=20"]
    arguments += ["--no-control-socket"]
    arguments += [f"--pid={pid}"] if pid else []
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])  # noqa: S606 - own arguments, no shell


def _refuse_taken(bind: str) -> None:
    """Spare a person the wait: gunicorn would try for seconds and end in a log."""
    host, _, port = bind.rpartition(":")
    if not (host and port.isdecimal()):
        raise click.UsageError(f"--bind {bind!r} is not HOST:PORT")
    try:
        socket.create_server((host, int(port))).close()
    except (OSError, OverflowError) as error:
        raise click.ClickException(f"cannot listen on {bind}: {error}") from None


@main.group("users")
def users_group() -> None:
    """Users of the API, their passwords and rights."""


@users_group.command("add")
@click.argument("name")
@click.option("--aoi", "aois", multiple=True, help="An aoi to grant; may be repeated.")
@_password_from_stdin
def users_add(name: str, aois: tuple[str, ...], password_stdin: bool) -> None:
    """Add a user."""
    users.add(db.connect("cbm-api"), name, _password(password_stdin), aois)
    click.echo(f"added {name}" + (f" for {', '.join(aois)}" if aois else ""))


@users_group.command("password")
@click.argument("name")
@_password_from_stdin
def users_password(name: str, password_stdin: bool) -> None:
    """Give a user another password."""
    users.change_password(db.connect("cbm-api"), name, _password(password_stdin))
    click.echo(f"changed the password of {name}")


@users_group.command("list")
def users_list() -> None:
    """List the users and their aois."""
    for user in users.everybody(db.connect("cbm-api")):
        click.echo(f"{user.name}\t{' '.join(sorted(user.aois))}")


@users_group.command("grant")
@click.argument("name")
@click.argument("aoi")
def users_grant(name: str, aoi: str) -> None:
    """Let a user ask about an aoi."""
    users.grant(db.connect("cbm-api"), name, aoi)
    click.echo(f"{name} may ask about {aoi}")


@users_group.command("remove")
@click.argument("name")
def users_remove(name: str) -> None:
    """Remove a user with all rights."""
    users.remove(db.connect("cbm-api"), name)
    click.echo(f"removed {name}")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
