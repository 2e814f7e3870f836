"""`cbm-card make season` and `making`: the plan first, then the queue; repeated safely."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from card.cli import main
from store import catalogue, db, making
from store.inputs import InputProduct, register_inputs
from tests.integration.small_state import a_scene, add_campaign, square

START = datetime(2024, 5, 1, 5, 30, 12, tzinfo=UTC)
PLACE = "MULTIPOLYGON(((8 46,11 46,11 48,8 48,8 46)))"
ELSEWHERE = "MULTIPOLYGON(((18 46,21 46,21 48,18 48,18 46)))"
EMPTY_PLAN = "no Level-1 product for bs of tt_2024 is registered; cbm-card sync"


def level1(day: int = 0, level: str = "GRD", suffix: str = "AB12", **facts) -> InputProduct:
    start = START + timedelta(days=day)
    stop = start + timedelta(seconds=25)
    name = (
        f"S1A_IW_{level}H_1SDV_{start:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}"
        f"_0532{50 + day:02}_06746C_{suffix}"
    )
    known = {
        "reference": name, "level": level, "product_type": f"IW_{level}", "platform": "S1A",
        "sensing_start": start, "sensing_stop": stop, "orbit_number": 53250 + day,
        "relative_orbit": 45, "footprint_wkt": PLACE, "href": f"/l1/{name}.SAFE",
    }  # fmt: skip
    return InputProduct(**known | facts)


@pytest.fixture
def campaign(database):
    """A campaign whose parcels lie in PLACE."""
    add_campaign(database, [square(0, 0)])
    return database


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*map(str, words)])
    return done.exit_code, done.output


def season(*words: str) -> tuple[int, str]:
    return run("make", "season", "--aoi", "tt", "--year", "2024", *words)


def queued(conn):
    return [tuple(row.inputs) for row in db.fetch_all(conn, "SELECT inputs FROM making ORDER BY 1")]


def test_the_plan_comes_first_and_a_dry_run_queues_nothing(campaign):
    register_inputs(campaign, [level1(0), level1(12), level1(24, state="offline")])
    code, output = season("--dry-run", "--price", "0.05")
    assert code == 0, output
    # 229 x 222 km at 10 m: 508 Mpx of 0.35 CPU seconds, twice.
    assert "to make    2 products" in output
    assert "about      0.1 CPU hours, 6.2 GB" in output
    assert "cost       0.00 EUR at 0.05 EUR a CPU hour" in output
    assert f"1 inputs are offline or absent: {level1(24).reference}" in output
    assert queued(campaign) == []


def test_a_season_is_each_slice_that_meets_the_campaign_once(campaign):
    register_inputs(campaign, [
        level1(0), level1(0, suffix="FFFF"),  # processed twice
        level1(12, state="absent", suffix="FFFF"), level1(12),
        level1(1, footprint_wkt=ELSEWHERE), level1(-300), level1(300), level1(6, "SLC"),
    ])  # fmt: skip
    assert season()[0] == 0
    assert queued(campaign) == [(level1(0, suffix="FFFF").reference,), (level1(12).reference,)]
    _, output = season()
    assert "0 new, 0 again, 2 known" in output


def test_what_is_a_scene_already_is_not_made_unless_it_is_replaced(campaign):
    register_inputs(campaign, [level1(0), level1(12)])
    catalogue.register(campaign, [
        a_scene(0, reference="A_CARD_BS", kind="bs", platform="S1A", unit="gamma0_linear",
                scale=None, obstime=START + timedelta(milliseconds=300)),
    ])  # fmt: skip
    _, output = season()
    assert "to make    1 products" in output
    assert "made       1 are scenes already" in output
    season("--replace")
    assert len(queued(campaign)) == 2


def test_pairs_are_queued_later_product_first(campaign):
    slcs = [level1(day, "SLC") for day in (0, 12, 18)]
    register_inputs(campaign, slcs)
    assert season("--kind", "c12")[0] == 0
    assert queued(campaign) == [(slcs[1].reference, slcs[0].reference)]
    assert season("--kind", "c6")[0] == 0
    assert (slcs[2].reference, slcs[1].reference) in queued(campaign)


def test_pairs_of_a_day_are_of_the_tandem_and_a_kind_of_their_own(campaign):
    slcs = [
        level1(day, "SLC", platform=f"S1{letter}", reference=f"S1{letter}_IW_{day}")
        for day, letter in ((0, "C"), (1, "D"), (12, "C"), (13, "A"))
    ]
    register_inputs(campaign, slcs)
    assert season("--kind", "c1d")[0] == 0
    assert queued(campaign) == [("S1D_IW_1", "S1C_IW_0")]
    assert db.fetch_one(campaign, "SELECT kind FROM making").kind == "c1d"


def test_the_archive_makes_what_is_offline(campaign):
    register_inputs(campaign, [level1(0, state="offline")])
    _, output = season("--engine", "cdse", "--json")
    planned = json.loads(output)
    assert (planned["orders"], planned["away"], planned["cpu_hours"]) == (
        [[level1(0).reference]], [], 0.0,
    )  # fmt: skip
    assert planned["queued"] == {"added": 1, "again": 0, "unchanged": 0}


def test_a_campaign_is_made_one_way(campaign):
    register_inputs(campaign, [level1(0), level1(12)])
    season()
    code, output = season("--radiometry", "gamma0_ellipsoid")
    assert code == 2
    assert "2 products were queued or made by another engine or with other settings" in output
    assert season("--radiometry", "gamma0_ellipsoid", "--replace")[0] == 0
    db.execute(campaign, """UPDATE campaign SET units = '{"bs": "gamma0_terrain_linear"}'""")
    code, output = season("--radiometry", "gamma0_ellipsoid", "--replace")
    assert code == 2
    assert "are in gamma0_terrain_linear, these products would be in gamma0_ellips" in output


def test_a_season_without_inputs_is_done_and_says_where_they_come_from(campaign):
    code, output = season()
    assert (code, EMPTY_PLAN in output) == (0, True)
    assert queued(campaign) == []
    assert season("--kind", "c6", "--engine", "snap")[0] == 2


def test_status_shows_counts_what_is_in_hand_and_reasons(campaign):
    assert "Nothing is to be made" in run("making", "status")[1]
    register_inputs(campaign, [level1(0), level1(12)])
    season()
    held = making.claim(campaign, "host:7", 60, 20)
    making.renew_lease(campaign, held, 60, 3, 12)
    making.fail(campaign, making.claim(campaign, "host:8", 60, 20), "no pixel", 1, 0)
    _, output = run("making", "status")
    assert f"claimed  bs of {level1(12).reference}: 3 of 12 tiles, by host:7" in output
    assert f"dead     bs of {level1(0).reference} (1 failures, 0 lost leases): no pixel" in output
    status = json.loads(run("making", "status", "--json")[1])
    assert status["totals"] == {"pending": 0, "claimed": 1, "done": 0, "dead": 1}


def test_retry_and_release_put_products_back(campaign):
    register_inputs(campaign, [level1(0), level1(12)])
    season()
    making.claim(campaign, "host:7", 60, 20)
    making.fail(campaign, making.claim(campaign, "host:8", 60, 20), "no pixel", 1, 0)
    assert "1 dead products back" in run("making", "retry", level1(0).reference)[1]
    assert "1 claimed products back" in run("making", "release")[1]
    assert making.count_open(campaign) == 2
    assert run("making", "retry", "X")[0] == 2


def test_work_refuses_to_begin_without_a_place(campaign, monkeypatch):
    monkeypatch.delenv("CBM_CARD_DIR", raising=False)
    code, output = run("work", "--until-idle")
    assert (code, "CBM_CARD_DIR is not set" in output) == (2, True)
