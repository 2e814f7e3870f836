"""Every command that the READMEs and the guide print is one that its program understands."""

import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from invoke.collection import Collection
from invoke.parser import Parser

import fabfile
from docs import generated

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()
PROGRAMS = ("fab", "make", *generated.PROGRAMS)


def printed() -> Iterator[tuple[str, str]]:
    """File and command of each line of code that runs one of ours, without its remark."""
    for name in TRACKED:
        text = re.sub(r"\\\n *", " ", (ROOT / name).read_text())
        fenced = "\n".join(re.findall(r"^```(?:bash|sh)?\n(.*?)^```$", text, re.M | re.S))
        lines = [*re.findall(r"^ {4}(\S.*)$", text, re.M), *fenced.splitlines()]
        for line in lines:
            for command in re.split(r" && |; | \| ", re.sub(r" +# .*|\[[^\]]*\]| >\S*", "", line)):
                program = command.removeprefix(".venv/bin/").partition(" ")[0]
                if program in PROGRAMS:
                    yield name, command.removeprefix(".venv/bin/").strip()


COMMANDS = sorted(set(printed()))


def of(*programs: str) -> list[tuple[str, str]]:
    return [(name, command) for name, command in COMMANDS if command.split()[0] in programs]


def test_the_pages_print_commands_of_every_program():
    printed_programs = {command.split()[0] for _, command in COMMANDS}
    assert printed_programs >= {"fab", "make", "cbm-store", "cbm-card", "cbm-extract", "cbm-api"}


@pytest.mark.parametrize(("page", "command"), of(*generated.PROGRAMS))
def test_our_programs_understand_the_commands_printed_for_them(page, command):
    program, *words = shlex.split(command)
    at: click.Command = importlib.import_module(generated.PROGRAMS[program]).main
    context = None
    while isinstance(at, click.Group):
        word = words.pop(0)
        assert word in at.commands, command
        at, context = at.commands[word], click.Context(at, parent=context)
    if "--help" not in words:
        at.make_context(at.name, words, parent=context)


@pytest.mark.parametrize(("page", "command"), of("fab"))
def test_fab_understands_the_commands_printed_for_it(page, command):
    parser = Parser(contexts=Collection.from_module(fabfile).to_contexts())
    words = shlex.split(command)[1:]
    for context in parser.parse_argv(words):
        if context.name == "play":
            assert (ROOT / f"playbooks/{context.args['playbook'].value}.yml").exists(), command


@pytest.mark.parametrize(("page", "command"), of("make"))
def test_make_has_the_targets_printed(page, command):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    options = set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.M))
    for word in shlex.split(command)[1:]:
        assert word in targets or word.partition("=")[0] in options | {"PYTHON"}, command
