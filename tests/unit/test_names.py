"""Names: each public class has its own, and each module is about something."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("store", "card", "extraction", "app", "infra", "standalone")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def classes(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def test_public_class_names_are_unique() -> None:
    places = defaultdict(list)
    for path in MODULES:
        for name in classes(path):
            places[name].append(path.relative_to(ROOT).as_posix())
    assert {name: at for name, at in places.items() if len(at) > 1} == {}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_a_drawer_for_everything(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_words_of_the_glossary_take_the_place_of_pronouns_and_participles(path: Path) -> None:
    words = re.findall(r"\b(?:asked|told|said|anew|whoever)\b", path.read_text(), re.IGNORECASE)
    assert words == []
