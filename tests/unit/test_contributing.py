"""CONTRIBUTING is true: the files and targets that it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
CHECKLISTS = re.split(r"^### ", TEXT.split("## Checklists")[1], flags=re.MULTILINE)[1:]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def files(text: str) -> list[str]:
    """Names of files and folders in backquotes; NNNN and <name> stand for any."""
    quoted = re.findall(r"`([^`\s]+/[^`\s]*|[a-z_]+\.(?:py|toml|md))`", text)
    return [re.sub(r"NNNN|<\w+>", "*", name) for name in quoted]


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda text: text.split("\n")[0])
def test_a_checklist_names_files_that_exist(checklist: str) -> None:
    named = files(checklist)
    assert named
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == []


def test_the_rules_name_files_that_exist() -> None:
    named = [name for name in files(TEXT.split("## Checklists")[0]) if not name.startswith("..")]
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == []


def test_the_targets_that_are_named_exist() -> None:
    named = set(re.findall(r"`make ([a-z-]+)", TEXT))
    named |= {
        f"{target}{ending}"
        for target, ending in re.findall(r"`make (test-[a-z]+)`, `(-full)`", TEXT)
    }
    assert named - TARGETS == set()


def test_every_folder_of_tests_has_its_target_and_its_line() -> None:
    folders = {path.parent.name for path in ROOT.glob("tests/*/test_*.py")}
    assert folders <= {target.removeprefix("test-") for target in TARGETS}
    assert {folder for folder in folders if f"`tests/{folder}`" not in TEXT} == set()
