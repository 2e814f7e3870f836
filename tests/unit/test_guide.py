"""The guide names what users meet: alerts, commands, roles, columns; its links lead to pages."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs import generated
from store.config import EnvironmentSettings

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs"
PAGES = sorted(GUIDE.rglob("*.md"))
ALERTS = [
    (rule["alert"], rule["labels"]["severity"])
    for file in sorted((ROOT / "roles/monitoring/files/rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
WORDS = "\n".join(page.read_text() for page in [*PAGES, ROOT / "README.md"])


@pytest.mark.parametrize(("alert", "severity"), ALERTS)
def test_every_alert_has_a_page_that_says_what_to_look_at_and_to_do(alert, severity):
    page = (GUIDE / f"operate/alerts/{alert}.md").read_text()
    assert page.startswith(f"# {alert}\n\n**{severity.capitalize()}.**")
    assert re.search(r"^## Look$", page, re.MULTILINE)
    assert re.search(r"^## Do$", page, re.MULTILINE)
    assert (
        f"[{alert}]({alert}.md) | {severity} |" in (GUIDE / "operate/alerts/index.md").read_text()
    )


def test_no_page_is_of_an_alert_that_is_gone():
    pages = {page.stem for page in (GUIDE / "operate/alerts").glob("[A-Z]*.md")}
    assert pages == {alert for alert, _ in ALERTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(GUIDE)))
def test_links_between_pages_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


# What programs hand to their own processes, and notebooks get from their hub.
INTERNAL = {"CBM_RUN_DIR", "CBM_X_FILE"}


def test_every_environment_variable_of_a_program_is_documented():
    sources = (
        file.read_text()
        for package in ("store", "app", "card", "extraction", "standalone")
        for file in (ROOT / package).rglob("*.py")
    )
    names = {name for text in sources for name in re.findall(r"\bCBM_[A-Z0-9_]+\b", text)}
    names |= {
        field.alias or f"CBM_{name.upper()}"
        for settings in _all_below(EnvironmentSettings)
        for name, field in settings.model_fields.items()
    }
    assert len(names) >= 40
    assert not {name.removesuffix("_FILE") for name in names - INTERNAL if not _named(name)}


def _all_below(settings: type) -> Iterator[type]:
    for below in settings.__subclasses__():
        yield below
        yield from _all_below(below)


def _named(variable: str) -> bool:
    return re.search(rf"\b{variable.removesuffix('_FILE')}\b", WORDS) is not None


def test_every_command_has_a_help_that_says_what_it_does():
    for program, module in generated.PROGRAMS.items():
        for name, command in generated.commands(importlib.import_module(module).main, program):
            assert command.help, name


def test_every_variable_of_a_role_is_described():
    page = generated.roles_page()
    assert "| `monitoring_mail" in page
    assert not re.findall(r"^\| `([\w.]+)` \| .* \| *\|$", page, re.MULTILINE)


def test_every_column_of_a_jrc_view_is_in_the_dictionary():
    dictionary = (GUIDE / "analyse/dictionary.md").read_text()
    sql = "\n".join(file.read_text() for file in (ROOT / "store/sql").glob("0*.sql"))
    aliases = set(
        re.findall(r"\bAS (ogc_fid|cropname|cropcode|wkb_geometry|hist|card|sensor)\b", sql)
    )
    assert len(aliases) == 7
    assert not {name for name in aliases if name not in dictionary}


def task_names() -> list[str]:
    """The tasks of fabfile.py, by their own names or those of their functions."""
    module = ast.parse((ROOT / "fabfile.py").read_text())
    return [
        (re.search(r"name='(\w+)'", ast.unparse(decorator)) or [node.name, node.name])[1]
        for node in module.body
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if ast.unparse(decorator).startswith("task")
    ]


def test_the_guide_runs_playbooks_and_tasks_that_there_are():
    text = "\n".join(page.read_text() for page in PAGES)
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    named = set(re.findall(r"fab play ([a-z]+)", text))
    assert named
    assert named <= playbooks
    tasks = {name.replace("_", "-") for name in task_names()}
    used = set(re.findall(r"`fab ([a-z-]+)", text)) | set(
        re.findall(r"^    fab ([a-z-]+)", text, re.M)
    )
    assert used <= tasks
    assert not re.findall(r"fab play [a-z]+[^`\n]* -- ", text)


def test_the_guides_commands_are_those_of_the_programs():
    text = "\n".join(page.read_text() for page in PAGES if "generated" not in page.parts)
    known = {
        name
        for program, module in generated.PROGRAMS.items()
        for name, _ in generated.commands(importlib.import_module(module).main, program)
    }
    for line in re.findall(r"`(cbm-(?:store|card|extract|api|standalone) [a-z -]+)", text):
        words = line.split(" --")[0].split()
        assert any(" ".join(words[:n]) in known for n in (2, 3)) or any(
            name.startswith(" ".join(words)) for name in known
        ), line
