"""The operator's front: `fab -l` lists the tasks, `fab -h TASK` explains one.

OpenStack is the one that OS_CLOUD names in clouds.yaml; Pulumi's state is in PULUMI_BACKEND_URL,
its secrets under PULUMI_CONFIG_PASSPHRASE. See infra/README.md.
"""

import functools
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from fabric import Connection, task
from invoke.exceptions import Exit

from infra import audit as auditing
from infra import cloud, layout, plays, recovery, settings, state
from infra import cost as costs
from infra import inventory as inventories
from infra import plan as plans
from infra import preflight as preflights
from infra.errors import InfraError

PRICES = "infra/prices.example.yaml"
BENCH = Path("build/bench.json")


def _spoken(body: Callable[..., None]) -> Callable[..., None]:
    """Errors that an operator can act on end a task in a sentence, not in a traceback."""

    @functools.wraps(body)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            body(*arguments, **options)
        except InfraError as error:
            raise Exit(f"Error: {error}", code=1) from error

    return run


def _engine(c: Connection, stack: str, command: str) -> None:
    """Run Pulumi in sight; a lock that a dead run left is dropped, and the command run again."""
    line = f"pulumi {command} --stack {stack}"
    ran = c.run(line, warn=True)
    said = ran.stdout + ran.stderr
    if ran.failed and recovery.LOCKED in said:
        recovery.drop_dead_locks(stack, said, click.echo)
        ran = c.run(line, warn=True)
    if ran.failed:
        raise InfraError(
            f"`{line}` failed as said above; `fab up` or `fab destroy` may be repeated"
        )


def _recover(stack: str) -> None:
    with cloud.connected() as connection:
        recovery.recover(connection, stack, click.echo)


def _audit(stack: str) -> auditing.Audit:
    with cloud.connected() as connection:
        return auditing.audit(stack, cloud.survey(connection), state.read(stack))


def _failures(stack: str) -> list[str]:
    """What the cloud says of servers that it could not make."""
    try:
        with cloud.connected() as connection:
            things = cloud.survey(connection)
    except InfraError as error:
        return [str(error)]
    failed = [one for one in things if one.facts.get("status", "").startswith("ERROR")]
    return [f"{one.name}: {one.facts['status']}" for one in failed if one.belongs(stack)]


def _confirm(question: str, yes: bool) -> None:
    if not yes and not click.confirm(question):
        raise Exit("nothing was changed", code=1)


@task
@_spoken
def preflight(_c: Connection, stack: str) -> None:
    """Ask the cloud whether it can take this stack; makes nothing."""
    wanted = settings.read(stack)
    with cloud.connected() as connection:
        preflights.check(connection, wanted, cloud.survey(connection), state.State())
    click.echo(f"stack {stack}: {len(layout.hosts(wanted))} hosts fit this cloud")


@task
@_spoken
def up(c: Connection, stack: str) -> None:
    """Make or change a stack as its configuration says, then write its inventory."""
    _recover(stack)
    try:
        _engine(c, stack, "up --yes --skip-preview --suppress-outputs")
    except InfraError as error:
        raise InfraError("\n".join([str(error), *_failures(stack)])) from error
    click.echo(f"wrote {inventories.write(stack)}")


@task(help={"yes": "do not ask"})
@_spoken
def destroy(c: Connection, stack: str, yes: bool = False) -> None:
    """Take a stack down, all but its database and backup volumes; shows what goes, and asks."""
    _recover(stack)
    _engine(c, stack, "destroy --preview-only")
    _confirm(f"Destroy stack {stack}? The database and backup volumes stay.", yes)
    _engine(c, stack, "destroy --yes --skip-preview")
    _show(_audit(stack))


@task(help={"identity": "private key to log in with, if ssh would not find it itself"})
@_spoken
def inventory(_c: Connection, stack: str, identity: str = "") -> None:
    """Write inventory/STACK/hosts.yml and ssh_config from a stack's outputs."""
    click.echo(f"wrote {inventories.write(stack, identity or None)}")


@task(help={"workers": "how many there shall be"})
@_spoken
def scale(c: Connection, stack: str, workers: int) -> None:
    """Set the number of workers: those that leave end their work first, new ones join in.

    On a stack that site.yml has not converged yet it only makes, greets and removes hosts.
    """
    pool = layout.workers(settings.read(stack))
    if pool is None:
        raise InfraError(f"Pulumi.{stack}.yaml has no pool of kinds [worker] alone: add one")
    key = ("config", "set", "--stack", stack, "--path", f"cbm:hosts.{pool.name}.count")
    state.pulumi(*key, str(workers))
    try:
        wanted = {f"{settings.prefix(stack)}-{h.name}" for h in layout.hosts(settings.read(stack))}
    except InfraError:
        state.pulumi(*key, str(pool.count))
        raise
    known, converged = inventories.hosts(stack), plays.converged(stack)
    leaving, new = sorted(known - wanted), sorted(wanted - known)
    if converged and leaving:
        _play(c, stack, "leave", [f"remove={','.join(leaving)}"])
    up(c, stack)
    if new:
        _greet(c, stack, new)
    if converged:
        _play(c, stack, "scale")


def _greet(c: Connection, stack: str, hosts: list[str]) -> None:
    limit = ",".join(hosts)
    ansible = f"ansible --inventory inventory/{stack}/hosts.yml --limit {limit} all"
    if c.run(f"{ansible} -m wait_for_connection -a timeout=300", warn=True).failed:
        raise InfraError(f"not all of {limit} answer: see above")


@task(
    positional=["playbook"],
    iterable=["variable"],
    help={
        "playbook": "its name in playbooks/: validate, site, verify, upgrade, backup, restore ...",
        "variable": "NAME=VALUE for the playbook; may be repeated",
        "check": "change nothing, say what would change",
    },
)
@_spoken
def play(
    c: Connection, stack: str, playbook: str, variable: list[str], check: bool = False
) -> None:
    """Run one of our playbooks on a stack's hosts."""
    _play(c, stack, playbook, variable, check)


def _play(
    c: Connection, stack: str, playbook: str, variables: Sequence[str] = (), check: bool = False
) -> None:
    line = plays.command(stack, playbook, variables, check)
    if c.run(line, warn=True, pty=sys.stdout.isatty()).failed:
        raise InfraError(f"playbook {playbook} failed as said above; it may be repeated")


@task
@_spoken
def appliance(c: Connection, stack: str) -> None:
    """From nothing to an appliance that answers: up, site, a synthetic Member State, a query."""
    stages = {
        "up": lambda: up(c, stack),
        "site": lambda: _play(c, stack, "site"),
        "demo": lambda: _play(c, stack, "demo"),
    }
    took_s = {}
    for name, stage in stages.items():
        began = time.monotonic()
        stage()
        took_s[name] = time.monotonic() - began
    click.echo(", ".join(f"{name} {seconds:.0f} s" for name, seconds in took_s.items()))


@task
@_spoken
def down_workers(c: Connection, stack: str) -> None:
    """Remove all workers; the queue keeps what they had not finished."""
    scale(c, stack, 0)


@task(help={"prices": "price table, see infra/prices.example.yaml"})
@_spoken
def cost(_c: Connection, stack: str, prices: str = PRICES) -> None:
    """What of a stack runs since when, flavor by flavor, and its cost per hour and so far."""
    table = costs.prices(Path(prices))
    with cloud.connected() as connection:
        mine = [thing for thing in cloud.survey(connection) if thing.belongs(stack)]
    if prices == PRICES:
        click.echo(f"{PRICES} has made-up prices; give your provider's with --prices")
    click.echo(costs.table(costs.lines(mine, table, datetime.now(UTC)), table.currency))


@task(
    help={
        "parcels": "how many",
        "granules": "Sentinel-2 granules a year",
        "deadline": "in which a whole year must be extracted, such as 7d or 36h",
        "prices": "price table, see infra/prices.example.yaml",
        "flavor": "of the workers",
        "cores": "vCPUs of that flavor",
    }
)
@_spoken
def plan(
    _c: Connection,
    parcels: int = 770_000,
    granules: int = 4000,
    deadline: str = "7d",
    prices: str = PRICES,
    flavor: str = "eo2.xlarge",
    cores: int = 4,
) -> None:
    """Workers, hours, volumes, cost and configuration for a campaign; what the EU would take."""
    table, measured = costs.prices(Path(prices)), plans.rates(BENCH)
    worker = plans.Worker(flavor, cores, plans.price(table, flavor))
    limit = plans.hours(deadline)
    one = plans.plan(parcels, granules, limit, worker, table, measured)
    eu = plans.plan(parcels * plans.EU, granules * plans.EU, limit, worker, table, measured)
    click.echo(f"{plans.report(one, table.currency)}\n\n{plans.whole_eu(one, eu)}")
    click.echo(f"\nA configuration to start from (Pulumi.<ms>.yaml):\n\n{plans.configuration(one)}")


@task
@_spoken
def audit(_c: Connection, stack: str) -> None:
    """Everything in the project: the stack's own, kept, left over, missing, changed by hand."""
    found = _audit(stack)
    _show(found)
    if not found.clean:
        raise Exit("the cloud and the state differ: `fab up` mends, `fab sweep` removes", code=1)


@task(help={"yes": "do not ask"})
@_spoken
def sweep(_c: Connection, stack: str, yes: bool = False) -> None:
    """Remove what `fab audit` calls left over; never a data volume. Asks first."""
    found = _audit(stack).left_over
    for thing in found:
        click.echo(f"{thing.kind} {thing.name} ({thing.id})")
    if found:
        _confirm(f"Remove these {len(found)} things?", yes)
        with cloud.connected() as connection:
            cloud.remove(connection, found)


def _show(found: auditing.Audit) -> None:
    for title, things in (
        ("belongs to the stack", found.belongs),
        ("kept after destroy", found.kept),
        ("left over", found.left_over),
        ("missing", found.missing),
        ("not this stack's", found.foreign),
    ):
        click.echo(f"{title}: {len(things)}")
        for thing in things:
            click.echo(f"  {thing.kind} {thing.name} ({thing.id})")
    click.echo(f"changed by hand: {len(found.changed)}")
    for sentence in found.changed:
        click.echo(f"  {sentence}")
