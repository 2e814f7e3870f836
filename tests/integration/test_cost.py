"""The cost ledger from `fab cost --publish` through the database to operators alone."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra import ledger as ledgers
from infra.errors import InfraError
from infra.ledger import CostLedger
from store import cli, db
from store.cost import publish_ledger
from store.errors import CallerError, ConfigError
from tests.integration.small_api import SmallApi, run, serving

LEDGER = CostLedger(
    "stack nl", "CHF", 1000, {"statistics": 30.0, "CARD making": 1.0, "storage": 4.0, "API": 2.0},
    ("a year as the last 30.0 days were",),
)  # fmt: skip
FIELDS = ledgers.ledger_fields(LEDGER)
BOB = ("bob", "right-word")


def changed(**values) -> bytes:
    return json.dumps(FIELDS | values).encode()


def rows(conn: db.Connection) -> list[dict]:
    return [row.ledger for row in db.fetch_all(conn, "SELECT ledger FROM cost_ledger ORDER BY at")]


# --- into the database -------------------------------------------------------------------------


def test_the_command_takes_what_fab_cost_prints_and_keeps_the_order_of_the_parts(database):
    ended = CliRunner().invoke(cli.main, ["cost", "publish"], input=ledgers.dump_ledger(LEDGER))
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout == "published: stack nl, 1,000 parcels, 37 CHF a year\n"
    assert rows(database) == [FIELDS]
    assert [*rows(database)[0]["year"]] == [*ledgers.PARTS, "all"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"\xff{}", "Invalid JSON"),
        (b"[]", "should be an object"),
        (changed(parcels=0), "parcels: .*greater than 0"),
        (changed(parcels="1000"), "parcels: .*valid integer"),
        (changed(title="two\nlines"), "title: "),
        (changed(title="x" * 501), "title: .*500 characters"),
        (changed(remarks=["\x1b[2J"]), "remarks.0: "),
        (changed(year=FIELDS["year"] | {"API": float("nan")}), "year.API: .*finite"),
        (changed(year=FIELDS["year"] | {"API": -1}), "year.API: .*greater than or equal to 0"),
        (changed(year={"API": 1.0}), "same parts"),
        (changed(public_price=FIELDS["public_price"] | {"cents": {"x": 1}}), "year has not"),
        (changed(secret="x"), "secret: Extra inputs"),
    ],
)
def test_what_is_no_ledger_is_refused_with_its_place_and_nothing_is_kept(
    database, document, reason
):
    with pytest.raises(CallerError, match=f"no ledger of `fab cost --as-json`: .*{reason}"):
        publish_ledger(database, document)
    assert rows(database) == []
    ended = CliRunner().invoke(cli.main, ["cost", "publish"], input=document)
    assert (ended.exit_code, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


def test_the_owner_publishes_the_api_reads_and_nobody_else_does_either(database):
    db.execute(database, "SET ROLE cbm_owner")
    publish_ledger(database, changed())
    db.execute(database, "SET ROLE cbm_api")
    assert rows(database) == [FIELDS]
    with pytest.raises(ConfigError, match="refuses this role"):
        publish_ledger(database, changed())
    for role in ("cbm_worker", "cbm_analyst", "pg_monitor"):
        db.execute(database, db.compose("SET ROLE {r}", r=role))
        for refused in (rows, lambda conn: publish_ledger(conn, changed())):
            with pytest.raises(ConfigError, match="refuses this role"):
                refused(database)


# --- from the operator's machine ---------------------------------------------------------------


@pytest.fixture
def inventory(tmp_path, monkeypatch) -> Path:
    """Of a stack whose manager is this machine: `ssh` runs the command here, in a shell."""
    hosts = "all: {children: {card: {hosts: {manager: {}}}}}\n"
    (tmp_path / "hosts.yml").write_text(hosts)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/bash\ncd() { :; }\neval "${@: -1}"\n')
    ssh.chmod(0o755)
    programs = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{ssh.parent}:{programs}:/usr/bin:/bin")
    return tmp_path


def test_fab_gives_the_ledger_to_the_managers_program_and_shows_its_report(database, inventory):
    report = ledgers.publish_ledger(inventory, LEDGER)
    assert report == "published: stack nl, 1,000 parcels, 37 CHF a year"
    assert rows(database) == [FIELDS]


def test_fab_shows_why_the_managers_program_refused(database, inventory):
    with pytest.raises(InfraError, match=r"manager: .*not published: Error: .*currency: "):
        ledgers.publish_ledger(inventory, replace(LEDGER, currency=""))
    assert rows(database) == []


# --- to the page -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(cluster, template, tmp_path_factory) -> Iterator[SmallApi]:
    """Ann may ask about nl and no more, bob operates it."""
    with serving(cluster, template, tmp_path_factory.mktemp("api")) as made:
        run("users", "add", "bob", "--password-stdin", stdin="right-word\n")
        run("users", "grant", "bob", "nl", "--role", "operator")
        yield made


def test_operators_alone_get_the_ledger_that_was_published_last(api):
    def seen(user=BOB):
        return api.get("/page/progress", auth=user).json()["cost"]

    assert seen() is None
    publish_ledger(api.conn, changed(title="an earlier one"))
    publish_ledger(api.conn, changed())
    cost = seen()
    at = db.fetch_one(api.conn, "SELECT max(at) AS at FROM cost_ledger").at
    assert cost == {"at": at.isoformat(), **FIELDS}
    assert [*cost["year"]] == [*ledgers.PARTS, "all"]
    assert seen(("ann", "right-word")) is None
    assert api.get("/page/progress", auth=None).status_code == 401
