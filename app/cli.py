"""cbm-api: run the API; manage its users, tokens and access log."""

import os
import socket
import sys
from pathlib import Path

import click

from app import server
from app.access import access_log, tokens, users
from app.settings import ApiSettings
from store import db
from store.command import CliGroup

_password_from_stdin = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, not a prompt."
)


@click.group(cls=CliGroup)
def main() -> None:
    """The REST API of the CbM appliance, on the database of libpq's PG* variables."""


@main.command()
@click.option("--bind", default="127.0.0.1:8000", show_default=True, help="HOST:PORT.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--pid", type=click.Path(path_type=Path), help="File to write the process id to.")
def serve(bind: str, workers: int, pid: Path | None) -> None:
    """Serve the API under gunicorn until SIGTERM."""
    threads = ApiSettings.from_env().api_threads
    _check_bind(bind)
    server.prepare()
    arguments = ["app.wsgi:application", "--config=python:app.server", f"--bind={bind}"]
    arguments += [f"--workers={workers}", f"--threads={threads}"]
    arguments += [f"--pid={pid}"] if pid else []
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])  # noqa: S606 - own arguments, no shell


def _check_bind(bind: str) -> None:
    """Refuse an unusable address at once: gunicorn would retry for seconds and end in a log."""
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
    """List the users, their aois, and * where they are operators."""
    for user in users.fetch_all(db.connect("cbm-api")):
        aois = (f"{aoi}*" if aoi in user.operated else aoi for aoi in sorted(user.aois))
        click.echo(f"{user.name}\t{' '.join(aois)}")


@users_group.command("grant")
@click.argument("name")
@click.argument("aoi")
@click.option(
    "--role",
    type=click.Choice(users.ROLES),
    default=users.ROLES[0],
    show_default=True,
    help="Operators also see the progress of the aoi's extraction.",
)
def users_grant(name: str, aoi: str, role: str) -> None:
    """Give a user the right to an aoi; granting again changes the role."""
    users.grant(db.connect("cbm-api"), name, aoi, role)
    click.echo(f"{name} may query {aoi} as {role}")


@users_group.command("ungrant")
@click.argument("name")
@click.argument("aoi")
def users_ungrant(name: str, aoi: str) -> None:
    """Take a user's right to an aoi."""
    users.ungrant(db.connect("cbm-api"), name, aoi)
    click.echo(f"{name} may no longer query {aoi}")


@users_group.command("remove")
@click.argument("name")
def users_remove(name: str) -> None:
    """Remove a user with all rights and tokens."""
    users.remove(db.connect("cbm-api"), name)
    click.echo(f"removed {name}")


@main.group("tokens")
def tokens_group() -> None:
    """Tokens of scripts with a user's rights: Authorization: Bearer <token>."""


@tokens_group.command("create")
@click.argument("name")
@click.option("--expires", default="90d", show_default=True, help="Days such as 90d, or never.")
@click.option("--note", default="", help="Purpose of the token.")
def tokens_create(name: str, expires: str, note: str) -> None:
    """Make a token with a user's rights; it is shown now and never again."""
    lifetime = tokens.parse_lifetime(expires)
    click.echo(tokens.create(db.connect("cbm-api"), name, lifetime, note))


@tokens_group.command("list")
@click.argument("name", required=False)
def tokens_list(name: str | None) -> None:
    """List all tokens or a user's: id, user, last day, note."""
    for token in tokens.fetch_all(db.connect("cbm-api"), name):
        until = f"until {token.expires_at:%Y-%m-%d}" if token.expires_at else "never expires"
        click.echo(f"{token.id}\t{token.user_name}\t{until}\t{token.note}")


@tokens_group.command("revoke")
@click.argument("token_id")
def tokens_revoke(token_id: str) -> None:
    """End a token by its id; it counts at once."""
    tokens.revoke(db.connect("cbm-api"), token_id)
    click.echo(f"revoked {token_id}")


@main.group("audit")
def audit_group() -> None:
    """The access log: a row per request with its user, address and status."""


@audit_group.command("show")
@click.option("--user", "user_name", help="Only of this user name, authenticated or not.")
@click.option("--status", type=click.IntRange(100, 599), help="Only with this status.")
@click.option("--days", type=click.IntRange(1), default=1, show_default=True, help="How far back.")
@click.option("--most", type=click.IntRange(1), default=100, show_default=True, help="Rows.")
def audit_show(user_name: str | None, status: int | None, days: int, most: int) -> None:
    """Show the newest rows: time, user, token, address, status, ms, request."""
    for row in access_log.fetch_newest(db.connect("cbm-api"), user_name, status, days, most):
        client = (row.user_name or "-", row.token_id or "-", row.address or "-")
        request = f"{row.method} {row.path}" + (f"?{row.query}" if row.query else "")
        line = (f"{row.at:%Y-%m-%dT%H:%M:%SZ}", *client, row.status, f"{row.took_ms:.1f}", request)
        click.echo("\t".join(_on_one_line(str(cell)) for cell in line))


@audit_group.command("prune")
@click.option("--days", type=click.IntRange(30), help="Days to keep; CBM_AUDIT_DAYS by default.")
def audit_prune(days: int | None) -> None:
    """Delete old rows now; the API does so by itself once a day."""
    kept = days or ApiSettings.from_env().audit_days
    deleted = access_log.prune(db.connect("cbm-api"), kept)
    click.echo(f"deleted {deleted} rows older than {kept} days")


def _on_one_line(text: str) -> str:
    """Text from the network must not control the operator's terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
