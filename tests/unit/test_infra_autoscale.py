"""Autoscaling: the decision by its properties, rates by hand, a season replayed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import autoscale, backlog, season
from infra.autoscale import ScaleAction, ScaleInputs, ScalePolicy
from infra.backlog import BacklogSample, QueueFigures
from infra.errors import InfraError

BEGIN = datetime(2026, 4, 1, tzinfo=UTC)
RATES = {"extraction": 100.0, "making": 60.0}


@st.composite
def policies(draw: st.DrawFn) -> ScalePolicy:
    least = draw(st.integers(0, 5))
    return ScalePolicy(least, least + draw(st.integers(0, 25)), draw(st.floats(0.5, 72)))


@st.composite
def inputs(draw: st.DrawFn) -> ScaleInputs:
    workers = draw(st.integers(0, 30))
    busy = draw(st.frozensets(st.integers(1, max(workers, 1)), max_size=workers))
    pending = draw(st.integers(0, 10**6))
    held = len(busy) + (unplaced := draw(st.integers(0, 2)))
    return ScaleInputs(
        workers,
        busy,
        unplaced,
        pending,
        work_h=(pending + held) * draw(st.floats(0.0001, 2)),
        oldest_h=draw(st.floats(0, 100)) if pending else 0.0,
        idle_h=0.0 if pending else draw(st.floats(0, 5)),
    )


@given(policies(), inputs())
def test_the_count_is_never_raised_above_the_most_nor_left_below_the_least(
    policy: ScalePolicy, now: ScaleInputs
) -> None:
    decision = autoscale.decide(policy, now)
    assert decision.workers >= policy.least
    assert decision.workers <= max(policy.most, now.workers)


@given(policies(), inputs())
def test_no_host_leaves_while_it_holds_work_or_a_piece_waits(
    policy: ScalePolicy, now: ScaleInputs
) -> None:
    decision = autoscale.decide(policy, now)
    if decision.workers < now.workers:
        assert decision.action is ScaleAction.DOWN
        assert not now.pending
        assert not now.unplaced
        assert all(number <= decision.workers for number in now.busy)


@given(policies(), inputs())
def test_an_action_is_what_the_counts_say(policy: ScalePolicy, now: ScaleInputs) -> None:
    decision = autoscale.decide(policy, now)
    change = decision.workers - now.workers
    assert (decision.action is ScaleAction.UP) == (change > 0)
    assert (decision.action is ScaleAction.DOWN) == (change < 0)
    assert decision.reason


@given(policies(), inputs())
def test_a_decision_that_is_carried_out_is_followed_by_none(
    policy: ScalePolicy, now: ScaleInputs
) -> None:
    decision = autoscale.decide(policy, now)
    after = replace(now, workers=decision.workers)
    assert autoscale.decide(policy, after).action is ScaleAction.WAIT


@given(policies(), inputs(), st.lists(st.floats(0.5, 2), max_size=20))
def test_estimates_that_waver_take_no_host_away_and_bring_hosts_by_more_than_a_tenth(
    policy: ScalePolicy, now: ScaleInputs, shares: list[float]
) -> None:
    waiting = replace(now, pending=max(now.pending, 1))
    counts = [waiting.workers]
    for share in shares:
        estimate = replace(waiting, workers=counts[-1], work_h=now.work_h * share)
        counts.append(autoscale.decide(policy, estimate).workers)
    for before, after in pairwise(counts):
        assert after == before or after > before * 1.1 or before < policy.least


def example(**changes: float | frozenset[int]) -> ScaleInputs:
    known = {
        "workers": 0,
        "busy": frozenset(),
        "unplaced": 0,
        "pending": 0,
        "work_h": 0.0,
        "oldest_h": 0.0,
        "idle_h": 0.0,
    }
    return ScaleInputs(**(known | changes))  # type: ignore[arg-type]


POLICY = ScalePolicy(0, 20, 12.0, start_h=0.0)


@pytest.mark.parametrize(
    ("now", "action", "workers", "reason"),
    [
        (example(pending=9000, work_h=90), ScaleAction.UP, 8, "are for 8 hosts"),
        (example(pending=9000, work_h=90, oldest_h=9, workers=8), ScaleAction.UP, 20, "--max"),
        (example(pending=900, work_h=3, oldest_h=11, workers=8), ScaleAction.WAIT, 8, "there are"),
        (example(pending=9, work_h=0.1), ScaleAction.WAIT, 0, "too little for a host"),
        (example(pending=9, work_h=0.1, oldest_h=7), ScaleAction.UP, 1, "are for 1 host"),
        (example(pending=900, work_h=3, oldest_h=40), ScaleAction.UP, 6, "are for 6 hosts"),
        (example(workers=8, busy=frozenset({3}), idle_h=1), ScaleAction.DOWN, 3, "4 to 8 hold no"),
        (example(workers=8, busy=frozenset({8}), idle_h=1), ScaleAction.WAIT, 8, "8 is at work"),
        (example(workers=8, unplaced=1, idle_h=1), ScaleAction.WAIT, 8, "unknown hosts"),
        (example(workers=8, idle_h=0.1), ScaleAction.WAIT, 8, "for 6 min so far"),
        (example(workers=8, idle_h=1), ScaleAction.DOWN, 0, "no host holds"),
        (example(), ScaleAction.WAIT, 0, "nothing waits"),
    ],
)
def test_decisions_by_hand(
    now: ScaleInputs, action: ScaleAction, workers: int, reason: str
) -> None:
    decision = autoscale.decide(POLICY, now)
    assert (decision.action, decision.workers) == (action, workers), decision.reason
    assert reason in decision.reason


def test_a_line_of_the_log_has_the_reason_and_the_cost() -> None:
    decision = autoscale.decide(POLICY, example(pending=9000, work_h=90))
    line = autoscale.format_decision(decision, 0.1, "EUR")
    assert line.startswith("up to 8: 9000 pieces wait, the oldest 0.0 h; 90.0 host-hours in")
    assert line.endswith("(0.8000 EUR/h, 9.00 EUR in 11.2 h)")


@pytest.mark.parametrize(("least", "most"), [(-1, 5), (6, 5)])
def test_bounds_that_contradict_each_other_are_refused(least: int, most: int) -> None:
    with pytest.raises(InfraError, match="0 <= min <= max"):
        ScalePolicy(least, most, 12)


def sample(hours: float, pending: int, claimed: int, done: int, workers: int = 2) -> BacklogSample:
    figures = {"extraction": QueueFigures(pending, claimed, done, 60.0)}
    return BacklogSample(BEGIN + timedelta(hours=hours), figures, ("w-1",), 0, workers)


def test_a_rate_is_measured_where_all_workers_had_work() -> None:
    samples = [sample(0, 500, 2, 0), sample(1, 300, 2, 200), sample(2, 0, 1, 490)]
    assert backlog.measure_rates(samples) == {"extraction": 100.0}
    assert backlog.measure_rates(samples[1:]) == {}
    assert backlog.measure_rates([]) == {}


def test_hosts_are_found_by_the_containers_that_hold_work() -> None:
    nodes = {"0123456789abcdef": "cbm-nl-worker-2", "fedcba9876543210": "cbm-nl-manager"}
    placed = backlog.place_holders(["0123456789ab:7", "fedcba987654:9", "elsewhere:1"], nodes)
    assert placed == (("cbm-nl-manager", "cbm-nl-worker-2"), 1)
    busy = BacklogSample(BEGIN, {}, placed[0], placed[1], workers=3)
    now = autoscale.build_inputs(busy, BEGIN, RATES, "cbm-nl-worker")
    assert (now.busy, now.unplaced) == (frozenset({2}), 1)


def test_idle_time_counts_from_the_last_piece_that_waited() -> None:
    samples = [sample(0, 5, 1, 0), sample(1, 0, 1, 5), sample(2, 0, 0, 6)]
    assert backlog.last_waited(samples) == BEGIN
    assert backlog.last_waited(samples[1:]) == BEGIN + timedelta(hours=1)
    assert backlog.tail(samples, hours=1) == samples[1:]


def test_a_record_is_read_as_it_was_written_and_a_wrong_line_is_named(tmp_path: Path) -> None:
    samples = [sample(0, 5, 1, 0), sample(1, 0, 0, 6)]
    path = tmp_path / "backlog.jsonl"
    path.write_text("".join(backlog.format_sample(one) + "\n" for one in samples))
    assert backlog.read_record(path) == samples
    path.write_text(path.read_text() + '{"at": "2026-04-01T00:00:00", "queues": {}}\n')
    with pytest.raises(InfraError, match=r"backlog.jsonl:3: .*no time zone.*a line is such as"):
        backlog.read_record(path)
    assert backlog.read_record(tmp_path / "none") == []


def a_season(days: int = 60) -> Iterator[BacklogSample]:
    """40 scenes every fifth day; on day 30 the season before it as well: 3,000 of them."""
    done = 0
    for day in range(days):
        new = (40 if day % 5 == 0 else 0) + (3000 if day == 30 else 0)
        yield sample(24 * day, new, 0, done, workers=0)
        done += new


def hosts_between(changes: Sequence[tuple[datetime, autoscale.ScaleDecision]]) -> list[int]:
    return [decision.workers for _, decision in changes]


def test_a_replayed_season_keeps_its_deadline_and_its_bounds() -> None:
    policy = ScalePolicy(0, 20, 12.0)
    report = season.replay(list(a_season()), policy, RATES)
    assert report.pieces == 12 * 40 + 3000
    assert (report.late, report.longest_h <= 12) == (0, True)
    assert report.peak == 3  # 30.4 host-hours in 12 h, less the start
    # 34.8 host-hours of work; the rest is starting, and waiting for more
    assert 34 < report.worker_h < 50
    counts = hosts_between(report.changes)
    assert counts[-1] == 0
    assert all(ups != downs for ups, downs in pairwise(counts))
    assert len(counts) == 2 * 12, "up and down once a burst: no flapping"


def test_a_season_that_the_most_hosts_cannot_do_is_late_and_not_lost() -> None:
    report = season.replay(list(a_season(31)), ScalePolicy(0, 1, 12.0), RATES)
    assert report.pieces == 7 * 40 + 3000
    assert report.peak == 1
    assert report.late > 1000
    text = season.format_season(report, ScalePolicy(0, 1, 12.0), 0.1, "EUR")
    assert "pieces were late" in text
    assert "of which --max allows 1" in text


def test_a_queue_of_products_to_make_counts_as_well() -> None:
    first = BacklogSample(BEGIN, {"making": QueueFigures(120, 0, 0)})
    report = season.replay([first], ScalePolicy(0, 9, 1.0), RATES)
    assert (report.pieces, report.peak) == (120, 3)


def test_what_was_open_when_the_record_began_arrives_with_it() -> None:
    record = [sample(0, 30, 2, 1000), sample(1, 10, 2, 1030)]
    assert [new for _, new in season.list_arrivals(record)] == [
        {"extraction": 32},
        {"extraction": 10},
    ]


def test_the_record_is_lines_of_json_with_utc_times() -> None:
    fields = json.loads(backlog.format_sample(sample(0, 5, 1, 0)))
    assert fields["at"] == "2026-04-01T00:00:00+00:00"
    assert fields["queues"]["extraction"]["pending"] == 5
