"""Pages of the guide that are made of the programs and roles themselves: commands, variables."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import click

from infra import role_docs

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "cbm-store": "store.cli",
    "cbm-card": "card.cli",
    "cbm-extract": "extraction.cli",
    "cbm-api": "app.cli",
    "cbm-standalone": "standalone.cli",
}


def write_pages(folder: Path) -> None:
    """Write the generated pages below the guide's folder."""
    folder.mkdir(exist_ok=True)
    (folder / "commands.md").write_text(commands_page())
    (folder / "roles.md").write_text(roles_page())


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of a program by its whole name."""
    for verb, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {verb}")
        else:
            yield f"{name} {verb}", command


def commands_page() -> str:
    """All commands with their options, as their help has them."""
    head = "On an appliance they are on the manager, with the right login each; elsewhere libpq's "
    parts = [f"# Commands\n\n{head}variables (PGHOST, PGUSER ...) say which database.\n"]
    for program, module in PROGRAMS.items():
        parts.append(f"## {program}\n")
        for name, command in commands(importlib.import_module(module).main, program):
            parts.append(f"### {name}\n\n```text\n{_help(name, command)}\n```\n")
    return "\n".join(parts)


def _help(name: str, command: click.Command) -> str:
    with click.Context(command, info_name=name, max_content_width=100) as context:
        return command.get_help(context).replace(str(Path.home()), "~")


def roles_page() -> str:
    """The variables of every role, as the roles' READMEs have them."""
    head = "# Variables of the roles\n\nSet them in `inventory/<stack>/group_vars/`.\n"
    specs = sorted((ROOT / "roles").glob("*/meta/argument_specs.yml"))
    sections = {
        spec.parents[1].name: role_docs.variables_section(spec.parents[1]) for spec in specs
    }
    tables = (
        section.replace("## Variables", f"## {name}", 1)
        for name, section in sections.items()
        if section
    )
    return "\n".join([head, *tables])
