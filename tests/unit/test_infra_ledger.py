"""The ledger per parcel-year by hand-made numbers, and beside the public price."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from infra import capacity, cost, ledger, settings
from infra.cloud import CloudResource, ServerUsage
from infra.cost import PriceTable
from infra.errors import InfraError
from infra.ledger import CostLedger, LedgerFacts
from tests.unit.infra_examples import ROOT, example

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TABLE = PriceTable("EUR", {"big": 0.2, "small": 0.1}, {"ssd": 0.73, "default": 0.0}, 0.01)
FACTS = LedgerFacts(parcels=1000, extraction_cpu_s=300.0, making_cpu_s=100.0)


def resource(kind: str, hours: float, **properties: object) -> CloudResource:
    made = (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return CloudResource(kind, "id", "cbm-nl-any", properties, made)


def build(
    resources: list[CloudResource], usage: list[ServerUsage], period_h: float = 8760.0
) -> CostLedger:
    nl = settings.validate("nl", example("nl"))
    return ledger.build_ledger(nl, resources, usage, period_h, FACTS, TABLE, NOW)


def test_servers_that_are_gone_count_and_workers_are_divided_by_their_cpu_time() -> None:
    usage = [
        ServerUsage("cbm-nl-database", "big", 100.0),
        ServerUsage("cbm-nl-manager", "small", 100.0),
        ServerUsage("cbm-nl-worker-1", "small", 40.0),
        ServerUsage("cbm-nl-worker-7", "small", 40.0),
        ServerUsage("cbm-nl-api", "small", 50.0),
        ServerUsage("cbm-nl-hub", "small", 50.0),
    ]
    parts = build([], usage).parts
    assert parts == pytest.approx({"statistics": 16, "CARD making": 2, "storage": 20, "API": 10})


def test_volumes_are_storage_and_addresses_the_apis_for_as_long_as_they_are() -> None:
    volumes = [resource("Volume", 10, size=100, volumeType="ssd"), resource("FloatingIp", 10)]
    parts = build(volumes, []).parts
    assert (parts["storage"], parts["API"]) == (pytest.approx(1.0), pytest.approx(0.1))
    network = CloudResource("Network", "id", "cbm-nl", {})  # whose API has no time it was made
    assert build([*volumes, network], []).parts == parts
    old = [resource("Volume", 99_999, size=100, volumeType="ssd")]
    assert build(old, [], period_h=8760.0).parts["storage"] == pytest.approx(876.0)


def test_a_shorter_period_is_a_year_like_it_and_says_so() -> None:
    made = build([], [ServerUsage("cbm-nl-api", "small", 24.0)], period_h=24.0)
    assert made.parts["API"] == pytest.approx(876.0)
    assert made.per_parcel["API"] == pytest.approx(0.876)
    assert made.remarks == ("a year as the last 1.0 days were",)


def test_a_flavor_without_price_is_named_and_not_counted_as_free() -> None:
    made = build([], [ServerUsage("cbm-nl-api", "xx", 24.0)])
    assert "flavor xx has no price" in made.remarks
    assert "flavor xx has no price" in ledger.format_ledger(made)


def test_the_text_shows_cents_beside_the_public_price() -> None:
    parts = {"statistics": 3.0, "CARD making": 1.0, "storage": 4.0, "API": 2.0}
    text = ledger.format_ledger(CostLedger("stack nl", "EUR", 1000, parts))
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["statistics"][1:] == ["3", "0.300", "0.4", "ct"]
    assert lines["storage"][1:] == ["4", "0.400", "-"]
    assert lines["all"][1:] == ["10", "1.000", "2.9", "ct"]
    assert re.search(r"a marker, a tile and month +15 to 18 EUR", text)


def test_a_panel_gets_the_same_as_json() -> None:
    made = build([], [ServerUsage("cbm-nl-api", "small", 10.0)])
    fields = json.loads(ledger.dump_ledger(made))
    assert fields["parcel_year"]["all"] == pytest.approx(0.001)
    assert fields["year"]["API"] == pytest.approx(1.0)
    assert fields["public_price"]["cents"] == {"statistics": 0.4, "all": 2.9}
    assert fields["parcels"] == 1000


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"card": {"hosts": {"manager": {}}}}, "manager: the ledger was not published: .*refused"),
        ({"postgis": {"hosts": {"database": {}}}}, "has no host in group card"),
    ],
)
def test_a_ledger_that_cannot_be_published_says_why(
    tmp_path: Path, groups: dict[str, object], message: str
) -> None:
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    (tmp_path / "ssh_config").write_text("Host manager\n  HostName 127.0.0.1\n  Port 9\n")
    with pytest.raises(InfraError, match=message):
        ledger.publish_ledger(tmp_path, build([], []))


def test_the_public_price_of_the_netherlands_is_what_its_list_gives() -> None:
    statistics = 4000 * 0.50 + 1080 * 1.00
    assert statistics / 770_000 * 100 == pytest.approx(ledger.PUBLIC_CENTS["statistics"], abs=0.001)


def test_the_guide_has_the_figures_of_the_plan() -> None:
    table = cost.read_prices(ROOT / "infra/prices.example.yaml")
    worker = capacity.WorkerFlavor("eo2.xlarge", 4, table.flavors["eo2.xlarge"])
    plan = capacity.plan_year(770_000, 4000, capacity.SLICES, 168, worker, table, capacity.DEFAULTS)
    sizing = (ROOT / "docs/operate/sizing.md").read_text()
    for part, each in plan.ledger.per_parcel.items():
        assert re.search(rf"^\| {part} \|.*\| {100 * each:.3f} \|", sizing, re.MULTILINE), part
    row = f"| 770,000 | 4,000 | 1,080 | {plan.database_gb} GB | {plan.cpu_h:.0f} |"
    assert row in sizing
    decision = (ROOT / "docs/decide/index.md").read_text()
    assert f"**{100 * plan.ledger.per_parcel['all']:.2f} cent a parcel and year**" in decision
    assert f"database volume of {plan.database_gb} GB" in decision
