"""The benchmark's framework: results survive one another, README shows what was measured."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.benchmarks import bench, clock, readme, results
from tests.benchmarks.clock import Way
from tests.benchmarks.context import Bench, Part
from tests.benchmarks.results import Figure, Result


def _result(goal: str, value: float = 300.0) -> Result:
    return Result.of(goal, "zonal stage", [Figure(value, 200, at_least=True)], {"sample": 1})


def test_a_goal_holds_only_if_all_its_figures_keep_their_bounds() -> None:
    joint, single = Figure(41.2, 25, True, "joint"), Figure(69.9, 70, True, "single")
    result = Result.of("P2", "zonal stage vs exactextract", [joint, single])
    assert result.measured == "joint 41.2x; single 69.9x"
    assert result.gate == ">= 25x; >= 70x"
    assert not result.holds
    assert Result.of("P2", "", [joint]).holds


def test_a_measured_value_that_is_not_a_number_never_holds() -> None:
    assert not Figure(float("nan"), 1, at_least=True).holds
    assert not Figure(float("nan"), 1, at_least=False).holds


def test_measuring_one_goal_again_keeps_the_others_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    for goal in ("P10", "P2", "P1"):
        results.save(path, _result(goal))
    results.save(path, _result("P2", 150.0))
    entries = json.loads(path.read_text())
    assert [(e["id"], e["holds"]) for e in entries] == [("P1", True), ("P2", False), ("P10", True)]
    assert entries[1] | {"measured": "150x", "gate": ">= 200x"} == entries[1]
    assert list(path.parent.iterdir()) == [path]


def test_a_part_that_breaks_loses_only_its_own_goals(tmp_path: Path) -> None:
    def breaks_halfway(_: Bench, wanted: frozenset[str]) -> Iterator[Result]:
        yield _result("P3")
        raise RuntimeError("disk full")

    def measures(_: Bench, wanted: frozenset[str]) -> Iterator[Result]:
        yield from (_result(goal) for goal in wanted)

    parts = [
        Part(frozenset({"P3", "P7"}), breaks_halfway),
        Part(frozenset({"P8"}), measures),
        Part(frozenset({"P9"}), measures),
    ]
    out = tmp_path / "bench.json"
    broken = bench.run(Bench(tmp_path), parts, frozenset({"P3", "P7", "P8"}), out)
    assert broken == ["P3/P7 broke: disk full"]
    assert [entry["id"] for entry in results.load(out)] == ["P3", "P8"]


def test_an_unknown_goal_is_named_with_the_known_ones(tmp_path: Path) -> None:
    answer = CliRunner().invoke(bench.main, ["--only", "p1,P99", "--build", str(tmp_path)])
    assert answer.exit_code == 2
    assert "no such goal: P99" in answer.output
    assert "P1, P2, P3, P5" in answer.output


def test_interleaved_rounds_keep_the_cheapest_run_of_each_way() -> None:
    order: list[str] = []
    loops = iter([3_000_000, 300_000, 3_000_000])

    def busy(n: int) -> None:
        order.append("busy")
        sum(range(n))

    cost = clock.interleaved(
        {"busy": Way(busy, lambda: next(loops)), "idle": Way(lambda _: order.append("idle"))}, 3
    )
    assert order == ["busy", "idle"] * 3
    dear = clock.measured(Way(busy, lambda: 3_000_000))
    assert 0 < cost["busy"].cpu_s < dear.cpu_s / 2
    assert cost["busy"].server_s == 0


def test_readme_shows_the_table_and_check_tells_when_it_does_not(tmp_path: Path) -> None:
    page, found = tmp_path / "README.md", tmp_path / "bench.json"
    page.write_text(f"Speed\n\n{readme.BEGIN}\nold table\n{readme.END}\n\nMore\n")
    results.save(found, _result("P3"))
    options = ["--readme", str(page), "--bench", str(found)]
    stale = CliRunner().invoke(readme.main, ["--check", *options])
    assert stale.exit_code == 1
    assert "old table" in page.read_text()
    assert CliRunner().invoke(readme.main, options).exit_code == 0
    text = page.read_text()
    assert "| P3   | zonal stage | 300x     | >= 200x | yes   |" in text
    assert "old table" not in text
    assert text.startswith("Speed\n")
    assert text.endswith(f"{readme.END}\n\nMore\n")
    assert CliRunner().invoke(readme.main, ["--check", *options]).exit_code == 0


@pytest.mark.parametrize("text", ["", f"{readme.END} {readme.BEGIN}", readme.BEGIN * 2])
def test_a_readme_without_both_markers_in_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bench:begin"):
        readme.rewritten(text, "table")
