"""Stages that go on where they stopped, and the report of a drill."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.beds.drill.faults import long_form
from tests.beds.drill.recovery import Drill, short_form
from tests.beds.drill.report import build_report
from tests.beds.drill.stages import DrillJournal, DrillStage, Facts, StageResult, run_stages
from tests.beds.openstack.desk import OperatorDesk


def test_a_drill_goes_on_after_the_stage_that_failed(tmp_path: Path) -> None:
    ran: list[str] = []
    broken = [True]

    def second() -> Facts:
        ran.append("second")
        if broken.pop():
            raise RuntimeError("the cloud is away")
        return {"servers": 5}

    stages = [
        DrillStage("first", "begin", lambda: ran.append("first")),
        DrillStage("second", "go on", second),
    ]
    with pytest.raises(RuntimeError):
        run_stages(stages, DrillJournal(tmp_path / "journal.json"), print)
    broken.append(False)
    lines: list[str] = []
    journal = DrillJournal(tmp_path / "journal.json")
    run_stages(stages, journal, lines.append)
    assert ran == ["first", "second", "second"]
    assert lines[0] == "first: done before"
    assert journal.facts("second") == {"servers": 5}
    with pytest.raises(LookupError, match="third is not done"):
        DrillJournal(tmp_path / "journal.json").facts("third")


def result(name: str, **facts: object) -> StageResult:
    return StageResult(name, f"do {name}", "2026-05-01T10:00:00+00:00", 61.4, facts)


def test_a_report_has_seconds_recovery_and_tables_in_both_forms() -> None:
    report = build_report(
        "Drill of <nl>",
        [
            result("destroy", removed=12),
            result("replay", replayed=200, differences=[], recovery={
                "around the old volumes": {"rpo_s": 0.0, "rto_s": 601.0}}),
            result("versions", tables={"Images": [["image", "digest"], ["cbm-app", "0123"]]}),
        ],
    )  # fmt: skip
    assert (report.passed, report.verdict) == (True, "200 answers were the same bytes as before")
    text = report.text()
    assert "Stages, 184 s together" in text
    assert "destroy   61  2026-05-01 10:00:00  do destroy   removed: 12" in text
    assert "around the old volumes  0                    601" in text
    page = report.page()
    assert "<title>Drill of &lt;nl&gt;</title>" in page
    assert "<tr><td>cbm-app</td><td>0123</td></tr>" in page
    assert "src=" not in page
    assert "href=" not in page


def test_a_report_of_answers_that_differ_names_them_and_does_not_pass() -> None:
    report = build_report(
        "Drill", [result("replay", replayed=2, differences=["ann: GET / a -> b"])]
    )
    assert (report.passed, report.verdict) == (False, "1 of 2 answers differ")
    assert "ann: GET / a -> b" in report.text()


def test_a_drill_without_a_replay_has_not_passed() -> None:
    assert not build_report("Drill", [result("up")]).passed


def test_the_forms_replay_after_each_destroy_and_the_long_one_goes_on(tmp_path: Path) -> None:
    drill = Drill(DrillJournal(tmp_path / "journal.json"))
    short = [stage.name for stage in short_form(drill)]
    names = short + [stage.name for stage in long_form(drill)]
    assert len(set(names)) == len(names)
    turns = [name for name in short if name.startswith(("destroy", "replay"))]
    assert turns == ["destroy", "replay", "destroy again", "replay again"]
    turns = [name.split()[0] for name in names[len(short) :]]
    assert turns.count("replay") == 3
    assert turns.index("two") < turns.index("destroy") < turns.index("moment")
    assert names.index("season") < names.index("transcript") < names.index("destroy")
    assert names.index("empty") < names.index("restore") < names.index("replay again")


def test_a_command_is_killed_with_what_it_started_and_one_that_ended_before_is_no_fault(
    tmp_path: Path,
) -> None:
    desk = OperatorDesk(tmp_path)
    mark = tmp_path / "mark"
    program = f"(echo began >{mark}; sleep 60; echo ended >{mark}) & wait"
    desk.kill("sh", "-c", program, when=mark.exists)
    assert mark.read_text() == "began\n"
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(mark) not in listed.stdout
    with pytest.raises(RuntimeError, match="ended before it could be killed"):
        desk.kill("true", when=lambda: False)


def test_an_operators_choices_are_written_beside_those_that_are_there(tmp_path: Path) -> None:
    desk = OperatorDesk(tmp_path)
    desk.set_variables({"demo_parcels": 60, "backup_s3_region": "here"})
    desk.set_variables({"demo_parcels": 300})
    kept = yaml.safe_load(desk.variables.read_text())
    assert kept == {"demo_parcels": 300, "backup_s3_region": "here"}
