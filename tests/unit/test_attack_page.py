"""The guide's table of attacks: every attack, and nothing bad."""

import json
from dataclasses import replace

import pytest

from tests.attack import page
from tests.attack.outcomes import HEAD, ROWS, Outcome, load, report, save


def rows() -> list[list[str]]:
    """The cells of the table on the page."""
    text = page.PAGE.read_text().partition(page.BEGIN)[2].partition(page.END)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_every_attack_and_none_was_bad():
    head, _, *attacks = rows()
    assert head == list(HEAD)
    assert [cells[0] for cells in attacks] == list(ROWS)
    for cells in attacks:
        assert int(cells[1].replace(",", "")) > 0, cells
        assert cells[2] == "0", cells


def test_the_page_is_written_from_the_file_of_outcomes(tmp_path):
    file = tmp_path / "attack.json"
    first = [Outcome(name, 10 + n, 0, 5, 0.25, 200.0) for n, name in enumerate(ROWS)]
    save(first[:3], file)
    save([replace(first[0], tried=99), *first[3:]], file)
    outcomes = load(file)
    assert [each.attack for each in outcomes] == list(ROWS)
    assert outcomes[0].tried == 99
    assert json.loads(file.read_text())[1]["tried"] == 11
    text = page.rewritten(page.PAGE.read_text(), outcomes)
    assert f"| {ROWS[0]} | 99 | 0 | 5 | 0.25 s | 200 MB |" in text
    assert page.rewritten(text, outcomes) == text
    assert f"Tried {outcomes[0].at[:10]}." in text


def test_a_bad_outcome_fails_its_test(monkeypatch):
    monkeypatch.setattr("tests.attack.outcomes._outcomes", {})
    with pytest.raises(AssertionError, match="what was bad"):
        report(Outcome(ROWS[0], 1, 1), ["what was bad"])
    with pytest.raises(AssertionError):
        Outcome("unknown", 1, 0)
