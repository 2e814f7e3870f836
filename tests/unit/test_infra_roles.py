"""Facts that roles, Dockerfile and documentation repeat are the same."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import role_docs
from tests.unit.infra_examples import ROOT

ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
SHARED = yaml.safe_load((ROOT / "playbooks/group_vars/all.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_lists_the_roles_variables(role: Path) -> None:
    readme = (role / "README.md").read_text()
    assert role_docs.with_section(readme, role_docs.variables_section(role)) == readme, (
        "run `python -m infra.role_docs`"
    )


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_default_is_described_and_every_described_default_is_true(role: Path) -> None:
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    options = {
        name: one for spec in specs.values() for name, one in (spec.get("options") or {}).items()
    }
    defaults = load(role / "defaults/main.yml")
    assert defaults.keys() <= options.keys()
    described = {name: one["default"] for name, one in options.items() if "default" in one}
    assert {name: defaults[name] for name in described if name in defaults} == described


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_variable_without_the_internal_prefix_is_described(role: Path) -> None:
    specs = load(role / "meta/argument_specs.yml")["argument_specs"]
    described = {name for spec in specs.values() for name in spec.get("options") or {}}
    own = load(role / "vars/main.yml").keys()
    assert not {name for name in own if not name.startswith("__")} - described


def test_programs_are_targets_of_the_dockerfile() -> None:
    targets = re.findall(r"^FROM base AS (\w+)$", DOCKERFILE, re.MULTILINE)
    assert sorted(targets) == sorted(SHARED["cbm_programs"])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(targets) <= extras.keys()


def test_the_uid_of_the_images_is_that_of_the_roles() -> None:
    uid = SHARED["cbm_uid"]
    assert f"useradd --uid {uid} " in DOCKERFILE
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == [f"{uid}:{uid}"] * 3
    others = [
        path
        for path in (ROOT / "roles").rglob("*")
        if path.suffix in (".yml", ".j2") and str(uid) in path.read_text()
    ]
    assert others == []


def test_a_release_has_every_package_and_a_build_sees_it() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name.split(".")[0] for name in setuptools["packages"]}
    assert packages <= set(SHARED["cbm_release_paths"])
    visible = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(SHARED["cbm_release_paths"]) - visible == {"Dockerfile"}


def test_passwords_are_generated_in_a_single_place() -> None:
    files = [
        path.relative_to(ROOT)
        for folder in ("roles", "playbooks")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "ansible.builtin.password'" in path.read_text(errors="ignore")
    ]
    # The other is a throw-away password, which is kept nowhere.
    assert sorted(map(str, files)) == [
        "playbooks/group_vars/all.yml",
        "playbooks/tasks/demo_page.yml",
    ]


def test_the_backup_program_needs_nothing_but_psycopg2() -> None:
    imported = set()
    for path in (ROOT / "roles/backup/files/cbm_backup").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    third_party = imported - set(sys.stdlib_module_names)
    assert third_party == {"cbm_backup", "psycopg2"}


@pytest.mark.parametrize(
    ("lock", "packages"),
    [
        ("store", ["store"]),
        ("app", ["store", "app"]),
        ("card", ["store", "card"]),
        ("extraction", ["store", "extraction"]),
    ],
)
def test_an_image_has_the_libraries_that_its_program_imports(
    lock: str, packages: list[str]
) -> None:
    locked = {
        match[1].lower().replace("_", "-")
        for name in {"store", lock}
        for match in re.finditer(
            r"^([\w.-]+)==", (ROOT / f"requirements/{name}.lock").read_text(), re.MULTILINE
        )
    }
    distributions = packages_distributions()
    imported = {module for package in packages for module in third_party(ROOT / package)}
    missing = {
        module
        for module in imported
        if not {name.lower().replace("_", "-") for name in distributions[module]} & locked
    }
    assert missing == set()


def third_party(folder: Path) -> set[str]:
    """The modules that a package imports at the head of its modules, without ours and Python's."""
    ours = {"store", "app", "card", "extraction", "standalone", "infra", "analysis"}
    modules = set()
    for path in folder.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(str(node.module).split(".")[0])
    return modules - ours - set(sys.stdlib_module_names)
