"""Quotas, costs and plans by hand-made numbers."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from infra import capacity, cost, preflight, settings
from infra.cloud import CloudResource
from infra.errors import InfraError
from tests.unit.infra_examples import KEY, example

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PRICES = cost.PriceTable(
    "EUR",
    {"eo2.xlarge": 0.1, "hm.xlarge": 0.2, "eo2.large": 0.05},
    {"ssd": 0.73, "default": 0.0},
    0.01,
)


def server(name: str, flavor: str, hours: float) -> CloudResource:
    made = (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return CloudResource("Instance", name, f"cbm-nl-{name}", {"flavorName": flavor}, made)


def test_a_stack_needs_what_its_hosts_add_up_to() -> None:
    flavor = SimpleNamespace(vcpus=4, ram=8192)
    flavors = dict.fromkeys(["hm.xlarge", "eo2.large", "eo2.xlarge", "hm.large"], flavor)
    needs = preflight.needs(settings.validate("nl", example("nl")), flavors)
    assert (needs["instances"], needs["cores"], needs["ram (MB)"]) == (6, 24, 6 * 8192)
    assert (needs["volumes"], needs["gigabytes"]) == (4, 300 + 600 + 2 * 50)
    # manager, API and two workers are on eodata as well; the router has a port too
    assert (needs["ports"], needs["floating IPs"]) == (6 + 4 + 1, 3)


def test_a_quota_counts_only_what_is_not_there_yet() -> None:
    needed, free = Counter(cores=24, volumes=4), {"cores": (10, 40), "volumes": (0, 4)}
    assert preflight.exceeded(needed, Counter(cores=14, volumes=4), free) == []
    (sentence,) = preflight.exceeded(needed, Counter(volumes=4), free)
    assert sentence.startswith("quota of cores: 24 more are needed, 10 of 40 are free; ")
    assert sentence.endswith("ask the provider for 14 more, or configure less")


def test_cost_sums_servers_of_a_flavor_each_since_it_was_made() -> None:
    resources = [server("a", "eo2.xlarge", 10), server("b", "eo2.xlarge", 4)]
    (line,) = cost.cost_lines(resources, PRICES, NOW)
    assert (line.label, line.count, line.since) == (
        "server eo2.xlarge",
        2,
        NOW - timedelta(hours=10),
    )
    assert line.per_hour == pytest.approx(0.2)
    assert line.so_far == pytest.approx(1.4)


def test_a_volume_costs_by_gb_and_a_time_without_zone_is_utc() -> None:
    properties = {"size": 100, "volumeType": "ssd"}
    volume = CloudResource(
        "Volume", "v", "cbm-nl-database", properties, "2026-01-01T00:00:00.000000"
    )
    (line,) = cost.cost_lines([volume], PRICES, NOW)
    assert (line.count, line.per_hour) == (100, pytest.approx(0.1))
    assert line.so_far == pytest.approx(2.4)


def test_a_flavor_without_price_is_said_and_not_counted_as_free() -> None:
    text = cost.format_table(cost.cost_lines([server("a", "xx", 1)], PRICES, NOW), "EUR")
    assert "no price" in text
    assert text.endswith("the sum lacks resources that have no price in the table")


def test_the_example_price_table_is_one(tmp_path: Path) -> None:
    assert (
        cost.read_prices(Path(__file__).parents[2] / "infra/prices.example.yaml").currency == "EUR"
    )
    (tmp_path / "p.yaml").write_text("currency: EUR\n")
    with pytest.raises(InfraError, match="is not a price table"):
        cost.read_prices(tmp_path / "p.yaml")
    with pytest.raises(InfraError, match=r"copy infra/prices\.example\.yaml"):
        cost.read_prices(tmp_path / "none.yaml")


def planned(granules: int, deadline_h: float) -> capacity.CapacityPlan:
    """3600 CPU s a granule, nothing else: as many CPU hours as granules."""
    rates = capacity.MeasuredRates(3600.0, 0.0, 40.0, 0.8e6, 120.0, "by hand")
    worker = capacity.WorkerFlavor("eo2.xlarge", 4, 0.1)
    return capacity.plan_year(1_000_000, granules, 0, deadline_h, worker, PRICES, rates)


def test_workers_are_as_many_as_the_deadline_takes() -> None:
    assert planned(28, 10).workers == 1  # 28 h on 4 cores, 0.7 of them busy: 10 h
    assert planned(28, 10).hours == pytest.approx(10)
    assert planned(280, 10).workers == 10
    assert planned(280, 100).workers == 1


def test_the_database_holds_a_years_signatures_with_room() -> None:
    one = planned(28, 10)
    assert one.signatures == 1_000_000 * 150 * 7
    assert one.database_gb == 90  # 42 GB, twice, in tens
    assert one.backup_gb == 180


def test_the_eu_takes_a_hundred_times_as_much_work() -> None:
    assert planned(2800, 10).cpu_h == pytest.approx(100 * planned(28, 10).cpu_h)
    text = capacity.format_eu(planned(28, 10), planned(2800, 10))
    assert "100 workers" not in text
    assert "one appliance per Member State" in text


def test_the_planned_configuration_is_a_right_one() -> None:
    values = yaml.safe_load(capacity.format_configuration(planned(28, 10)))["config"]
    ours = {key.removeprefix("cbm:"): value for key, value in values.items()}
    assert settings.validate("nl", ours | {"public_key": KEY}).disks["database"].size_gb == 90


def test_rates_are_the_benchs_where_it_measured(tmp_path: Path) -> None:
    assert capacity.read_rates(tmp_path / "bench.json") == capacity.DEFAULTS
    others = {"id": "A1", "details": {}}
    (tmp_path / "bench.json").write_text(json.dumps([others]))
    assert capacity.read_rates(tmp_path / "bench.json") == capacity.DEFAULTS
    result = {"id": "P6", "details": {"jp2 decode all": {"cpu_s": 77.5}}}
    (tmp_path / "bench.json").write_text(json.dumps([others, result]))
    found = capacity.read_rates(tmp_path / "bench.json")
    assert (found.decode_cpu_s, found.reduce_cpu_s) == (77.5, capacity.DEFAULTS.reduce_cpu_s)
    assert found.source.startswith("P6 of ")
    (tmp_path / "bench.json").write_text("{}[")
    with pytest.raises(InfraError, match="not a result of `make bench`"):
        capacity.read_rates(tmp_path / "bench.json")


@pytest.mark.parametrize(
    ("text", "expected"), [("7d", 168), ("36h", 36), ("0.5d", 12), ("15m", 0.25)]
)
def test_times_are_read_in_days_hours_and_minutes(text: str, expected: float) -> None:
    assert capacity.parse_hours(text) == expected


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1w"])
def test_a_time_without_unit_is_refused(text: str) -> None:
    with pytest.raises(InfraError, match="give days, hours or minutes"):
        capacity.parse_hours(text)
