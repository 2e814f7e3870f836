"""The operator's commands: `fab -l` lists the tasks, `fab -h TASK` explains a task.

OS_CLOUD names the cloud in clouds.yaml; Pulumi's state is in PULUMI_BACKEND_URL, its secrets under
PULUMI_CONFIG_PASSPHRASE. See infra/README.md.
"""

import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from fabric import Connection, task
from invoke.exceptions import Exit

from infra import autoscale as autoscaling
from infra import (
    backlog,
    capacity,
    cloud,
    drift,
    images,
    inventory,
    layout,
    playbooks,
    recovery,
    season,
    settings,
    state,
)
from infra import cost as costs
from infra import ledger as ledgers
from infra import preflight as preflights
from infra import status as statuses
from infra.errors import InfraError

PRICES = "infra/prices.example.yaml"
MADE_UP = f"{PRICES} has made-up prices: give your provider's with --prices"
BENCH = Path("build/bench.json")


def _plain_errors(body: Callable[..., None]) -> Callable[..., None]:
    """The task, ended by a sentence instead of a traceback when the operator can act on it."""

    @functools.wraps(body)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            body(*arguments, **options)
        except InfraError as error:
            raise Exit(f"Error: {error}", code=1) from error

    return run


def _run_engine(c: Connection, stack: str, command: str) -> None:
    """Run Pulumi with its output shown; the lock of a dead run is dropped, and the run repeated."""
    line = f"pulumi {command} --stack {stack}"
    result = c.run(line, warn=True)
    output = result.stdout + result.stderr
    if result.failed and recovery.LOCKED in output:
        recovery.drop_dead_locks(stack, output, click.echo)
        result = c.run(line, warn=True)
    if result.failed:
        raise InfraError(f"`{line}` failed, see above; `fab up` or `fab destroy` may be repeated")


def _recover(stack: str) -> None:
    with cloud.connect() as connection:
        recovery.recover(connection, stack, click.echo)


def _compare(stack: str) -> drift.DriftReport:
    with cloud.connect() as connection:
        return drift.compare(stack, cloud.list_resources(connection), state.read(stack))


def _failed_servers(stack: str) -> list[str]:
    """A line on each server that the cloud could not start."""
    try:
        with cloud.connect() as connection:
            resources = cloud.list_resources(connection)
    except InfraError as error:
        return [str(error)]
    own = [resource for resource in resources if resource.belongs_to(stack)]
    states = [(server.name, server.properties.get("status", "")) for server in own]
    return [f"{name}: {status}" for name, status in states if status.startswith("ERROR")]


def _confirm(question: str, yes: bool) -> None:
    if not yes and not click.confirm(question):
        raise Exit("nothing was changed", code=1)


@task
@_plain_errors
def preflight(_c: Connection, stack: str) -> None:
    """Check that the cloud has room for this stack; creates nothing."""
    configured = settings.read(stack)
    with cloud.connect() as connection:
        remarks = preflights.check(
            connection, configured, cloud.list_resources(connection), state.State()
        ).remarks
    for remark in remarks:
        click.echo(remark)
    click.echo(f"stack {stack}: {len(layout.hosts(configured))} hosts fit this cloud")


@task
@_plain_errors
def up(c: Connection, stack: str) -> None:
    """Create or change a stack as its configuration says, then write its inventory."""
    _recover(stack)
    try:
        _run_engine(c, stack, "up --yes --skip-preview --suppress-outputs")
    except InfraError as error:
        raise InfraError("\n".join([str(error), *_failed_servers(stack)])) from error
    click.echo(f"wrote {inventory.write(stack)}")


@task(help={"yes": "do not ask"})
@_plain_errors
def destroy(c: Connection, stack: str, yes: bool = False) -> None:
    """Delete a stack, all but its database and backup volumes; shows what goes, and asks."""
    _recover(stack)
    _run_engine(c, stack, "destroy --preview-only")
    _confirm(f"Destroy stack {stack}? The database and backup volumes stay.", yes)
    _run_engine(c, stack, "destroy --yes --skip-preview")
    _print_drift(_compare(stack))


@task(
    name="inventory",
    help={"identity": "private key to log in with, if ssh would not find it itself"},
)
@_plain_errors
def write_inventory(_c: Connection, stack: str, identity: str = "") -> None:
    """Write inventory/STACK/hosts.yml and ssh_config from a stack's outputs."""
    click.echo(f"wrote {inventory.write(stack, identity or None)}")


@task(
    help={
        "keep": "so many prepared images of the project stay, the newest",
        "flavor": "of the builder; by default that of the stack's with the smallest disk",
        "dry_run": "say what would be made and removed; creates nothing",
    }
)
@_plain_errors
def image(
    c: Connection, stack: str, keep: int = 3, flavor: str = "", dry_run: bool = False
) -> None:
    """Make an image with all that hosts need but their configuration; hosts of it start sooner.

    A builder gets what roles install and the release's images of containers, loses what is its
    own (keys, identity, logs), becomes an image, and is removed. With `image: prepared` and
    `base_image` in Pulumi.STACK.yaml new hosts begin with the newest that fits.
    """
    configured, release = settings.read(stack), images.release_tag()
    if keep < 1:
        raise InfraError(f"--keep {keep}: give 1 or more")
    with cloud.connect() as connection:
        chosen = flavor or images.choose_flavor(connection, configured)
        name = images.image_name(configured.base, release)
        click.echo(f"{name}: {configured.base} and release {release}, on a builder {chosen}")
        if dry_run:
            for old in images.list_prepared(connection)[keep - 1 :]:
                click.echo(f"would remove {old.name} ({old.id})")
            return
        with images.running_builder(connection, configured, chosen) as builder:
            click.echo(f"builder {builder.name} runs at {builder.address}")
            with inventory.written_builder(stack, builder.name, builder.address, builder.id):
                _play(c, stack, "image", hosts="builder.yml")
            click.echo("storing the image")
            made = images.capture(connection, builder, configured, release)
        click.echo(f"made {made.name} ({made.id}); the builder is removed")
        removed, stayed = images.prune(connection, keep)
    for old in removed:
        click.echo(f"removed {old.name} ({old.id})")
    for old in stayed:
        click.echo(f"{old.name} ({old.id}) stays as long as hosts use it")


@task(help={"prices": "price table, see infra/prices.example.yaml"})
@_plain_errors
def status(_c: Connection, stack: str, prices: str = PRICES) -> None:
    """Show nodes, services, tasks, API containers (states, digests, since when in UTC) and cost."""
    click.echo(statuses.format_tables(statuses.read_status(inventory.FOLDER / stack)))
    try:
        ledger = _read_ledger(stack, costs.read_prices(Path(prices)), days=365)
        click.echo(f"\n{ledgers.format_ledger(ledger)}")
    except InfraError as error:
        click.echo(f"\ncost: not known: {error}")


@task(help={"workers": "the new number of worker hosts"})
@_plain_errors
def scale(c: Connection, stack: str, workers: str) -> None:
    """Set the number of workers: drain those that leave, create and join new ones.

    Before site.yml has run it only creates hosts, waits for them, and deletes hosts.
    """
    configured = settings.read(stack)
    pool = layout.worker_pool(configured)
    if pool is None:
        raise InfraError(f"Pulumi.{stack}.yaml has no pool of kinds [worker] alone: add it")
    count = int(workers) if workers.isdecimal() else workers
    target = settings.with_count(configured, pool, count)
    wanted = {f"{target.prefix}-{host.name}" for host in layout.hosts(target)}
    existing = set(inventory.list_groups(inventory.FOLDER / stack)["common"])
    leaving, new = sorted(existing - wanted), sorted(wanted - existing)
    converged = playbooks.is_converged(stack)
    if converged and leaving:
        _play(c, stack, "leave", [f"remove={','.join(leaving)}"])
    key = f"cbm:hosts.{pool}.count"
    state.pulumi("config", "set", "--stack", stack, "--path", key, workers)
    up(c, stack)
    if new:
        _wait_for_hosts(c, stack, new)
    if converged:
        _play(c, stack, "scale")


def _wait_for_hosts(c: Connection, stack: str, hosts: list[str]) -> None:
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
        "check": "change nothing, show what would change",
    },
)
@_plain_errors
def play(
    c: Connection, stack: str, playbook: str, variable: list[str], check: bool = False
) -> None:
    """Run one of our playbooks on a stack's hosts."""
    _play(c, stack, playbook, variable, check)


def _play(
    c: Connection,
    stack: str,
    playbook: str,
    variables: Sequence[str] = (),
    check: bool = False,
    hosts: str = "hosts.yml",
) -> None:
    line = playbooks.playbook_command(stack, playbook, variables, check, hosts)
    if c.run(line, warn=True, pty=sys.stdout.isatty()).failed:
        raise InfraError(f"playbook {playbook} failed, see above; it may be repeated")


@task
@_plain_errors
def appliance(c: Connection, stack: str) -> None:
    """Create an appliance and test it: up, site, a synthetic Member State, a query."""
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
@_plain_errors
def down_workers(c: Connection, stack: str) -> None:
    """Remove all workers; their unfinished scenes return to the queue."""
    scale(c, stack, "0")


@task(
    help={
        "min_": "worker hosts at any time",
        "max_": "worker hosts at any time",
        "deadline": "from the start of a piece's waiting to its end, such as 12h or 2d",
        "idle": "workers are given back when for so long nothing has waited",
        "once": "decide once, for a timer; otherwise every INTERVAL seconds until interrupted",
        "interval": "seconds",
        "dry_run": "change nothing, show what would change",
        "cores": "vCPUs of a worker: its rate until the backlog's record shows it",
        "replay": "a recorded season (inventory/STACK/backlog.jsonl): show what would have been",
        "prices": "price table, see infra/prices.example.yaml",
    }
)
@_plain_errors
def autoscale(
    c: Connection,
    stack: str,
    min_: int = 0,
    max_: int = 20,
    deadline: str = "12h",
    idle: str = "15m",
    once: bool = False,
    interval: int = 120,
    dry_run: bool = False,
    replay: str = "",
    cores: int = 4,
    prices: str = PRICES,
) -> None:
    """Keep as many workers as the backlog needs before its deadline, and none for no work."""
    policy = autoscaling.ScalePolicy(
        min_, max_, capacity.parse_hours(deadline), idle_h=capacity.parse_hours(idle)
    )
    worker = capacity.read_worker(settings.read(stack), costs.read_prices(Path(prices)))
    rates = capacity.host_rates(cores, capacity.read_rates(BENCH))
    if replay:
        _replay_season(Path(replay), policy, worker, rates)
        return
    while True:
        try:
            _autoscale_once(c, stack, policy, worker, rates, dry_run)
        except (InfraError, Exit) as error:  # of `scale`, which is a task, it is the latter
            if once or dry_run:
                raise
            _log_autoscale(stack, f"error: {error}")
        if once or dry_run:
            return
        time.sleep(interval)


def _replay_season(
    path: Path,
    policy: autoscaling.ScalePolicy,
    worker: capacity.WorkerPool,
    rates: Mapping[str, float],
) -> None:
    record = backlog.read_record(path)
    if not record:
        raise InfraError(f"{path} has no sample: there is nothing to replay")
    report = season.replay(record, policy, {**rates, **backlog.measure_rates(record)})
    click.echo(season.format_season(report, policy, worker.host_hour, worker.currency))


def _autoscale_once(
    c: Connection,
    stack: str,
    policy: autoscaling.ScalePolicy,
    worker: capacity.WorkerPool,
    rates: Mapping[str, float],
    dry_run: bool,
) -> None:
    """Read the backlog, decide, log, and change the number of workers where that is due."""
    folder = inventory.FOLDER / stack
    names = inventory.list_groups(folder)["common"]
    workers = sum(name.startswith(f"{worker.prefix}-") for name in names)
    backlog.append_sample(folder, backlog.read_sample(folder, workers))
    record = backlog.tail(backlog.read_record(folder / backlog.FILE), hours=24)
    known = {**rates, **backlog.measure_rates(record)}
    waited_at = backlog.last_waited(record)
    inputs = autoscaling.build_inputs(record[-1], waited_at, known, worker.prefix)
    decision = autoscaling.decide(policy, inputs)
    line = autoscaling.format_decision(decision, worker.host_hour, worker.currency)
    _log_autoscale(stack, f"would go {line}" if dry_run else line)
    if decision.action is not autoscaling.ScaleAction.WAIT and not dry_run:
        scale(c, stack, str(decision.workers))


def _log_autoscale(stack: str, line: str) -> None:
    """Show a line, and keep it with its time beside the inventory."""
    stamped = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}"
    click.echo(stamped)
    with (inventory.FOLDER / stack / "autoscale.log").open("a") as log:
        log.write(stamped + "\n")


@task(
    help={
        "prices": "price table, see infra/prices.example.yaml",
        "days": "that the ledger looks back; of a younger stack all of its life",
        "as_json": "the ledger alone, as JSON for programs",
        "publish": "show the ledger to operators on the status page as well",
    }
)
@_plain_errors
def cost(
    _c: Connection,
    stack: str,
    prices: str = PRICES,
    days: int = 365,
    as_json: bool = False,
    publish: bool = False,
) -> None:
    """Show what of a stack runs since when, its cost so far, and per parcel and year."""
    table = costs.read_prices(Path(prices))
    if not as_json:
        if prices == PRICES:
            click.echo(MADE_UP)
        _print_running(stack, table)
    if not (as_json or publish or playbooks.is_converged(stack)):
        click.echo("\nper parcel and year: no database has any yet")
        return
    ledger = _read_ledger(stack, table, days)
    if prices == PRICES:
        ledger = replace(ledger, remarks=(*ledger.remarks, MADE_UP))
    click.echo(ledgers.dump_ledger(ledger) if as_json else f"\n{ledgers.format_ledger(ledger)}")
    if publish:
        click.echo(ledgers.publish_ledger(inventory.FOLDER / stack, ledger), err=True)


def _print_running(stack: str, table: costs.PriceTable) -> None:
    with cloud.connect() as connection:
        own = [r for r in cloud.list_resources(connection) if r.belongs_to(stack)]
    lines = costs.cost_lines(own, table, datetime.now(UTC))
    click.echo(costs.format_table(lines, table.currency))


def _read_ledger(stack: str, table: costs.PriceTable, days: int) -> ledgers.CostLedger:
    """The ledger of a stack's last days, or of its whole life if that is shorter.

    Raises:
        InfraError: the cloud or the database does not answer, or has no parcels.
    """
    facts = ledgers.read_facts(inventory.FOLDER / stack)
    if not facts.parcels:
        raise InfraError(f"stack {stack} has no parcels yet: there is nothing to divide by")
    now = datetime.now(UTC)
    with cloud.connect() as connection:
        own = [r for r in cloud.list_resources(connection) if r.belongs_to(stack)]
        ages_h = [costs.hours_since(r, now) for r in own if r.kind in ("Instance", "Volume")]
        period_h = min(days * 24.0, max(ages_h, default=days * 24.0))
        usage = cloud.list_usage(connection, stack, now - timedelta(hours=period_h))
    return ledgers.build_ledger(settings.read(stack), own, usage, period_h, facts, table, now)


@task(
    help={
        "parcels": "how many",
        "granules": "Sentinel-2 granules a year",
        "slices": "Sentinel-1 slices a year",
        "deadline": "in which a whole year must be extracted, such as 7d or 36h",
        "prices": "price table, see infra/prices.example.yaml",
        "flavor": "of the workers",
        "cores": "vCPUs of that flavor",
    }
)
@_plain_errors
def plan(
    _c: Connection,
    parcels: int = 770_000,
    granules: int = 4000,
    slices: int = capacity.SLICES,
    deadline: str = "7d",
    prices: str = PRICES,
    flavor: str = "eo2.xlarge",
    cores: int = 4,
) -> None:
    """Estimate workers, hours, volumes, cost and configuration for a campaign, and for the EU."""
    table, rates = costs.read_prices(Path(prices)), capacity.read_rates(BENCH)
    worker = capacity.WorkerFlavor(flavor, cores, capacity.hourly_price(table, flavor))
    limit = capacity.parse_hours(deadline)
    state_plan, eu_plan = (
        capacity.plan_year(
            parcels * times, granules * times, slices * times, limit, worker, table, rates
        )
        for times in (1, capacity.EU)
    )
    click.echo(capacity.format_plan(state_plan))
    click.echo(f"\n{ledgers.format_ledger(state_plan.ledger)}")
    click.echo(f"\n{capacity.format_assumptions(state_plan)}")
    click.echo(f"\n{capacity.format_eu(state_plan, eu_plan)}")
    click.echo("\nA configuration to start from (Pulumi.<ms>.yaml):\n")
    click.echo(capacity.format_configuration(state_plan))


@task(name="drift")
@_plain_errors
def show_drift(_c: Connection, stack: str) -> None:
    """List the project's resources: the stack's own, kept, left over, missing, changed by hand."""
    report = _compare(stack)
    _print_drift(report)
    if not report.clean:
        raise Exit("cloud and state differ: `fab up` repairs, `fab sweep` removes", code=1)


@task(help={"yes": "do not ask"})
@_plain_errors
def sweep(_c: Connection, stack: str, yes: bool = False) -> None:
    """Remove what `fab drift` lists as left over; never a data volume. Asks first."""
    left_over = _compare(stack).left_over
    for resource in left_over:
        click.echo(f"{resource.kind} {resource.name} ({resource.id})")
    if left_over:
        _confirm(f"Remove these {len(left_over)} resources?", yes)
        with cloud.connect() as connection:
            cloud.remove(connection, left_over)


def _print_drift(report: drift.DriftReport) -> None:
    for title, resources in (
        ("belongs to the stack", report.owned),
        ("kept after destroy", report.kept),
        ("left over", report.left_over),
        ("missing", report.missing),
        ("not this stack's", report.foreign),
    ):
        click.echo(f"{title}: {len(resources)}")
        for resource in resources:
            click.echo(f"  {resource.kind} {resource.name} ({resource.id})")
    click.echo(f"changed by hand: {len(report.changed)}")
    for sentence in report.changed:
        click.echo(f"  {sentence}")
