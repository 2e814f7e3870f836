"""Tables of the roles' variables in their READMEs, from the argument specs.

`python -m infra.role_docs` writes them; a unit test compares.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path("roles")
BEGIN = "<!-- variables: `python -m infra.role_docs` writes them from meta/argument_specs.yml -->"
END = "<!-- end of variables -->"


def variables_section(role: Path) -> str:
    """The section on a role's variables, as Markdown; empty if it has none.

    Args:
        role: its folder.
    """
    defaults = _load(role / "defaults/main.yml")
    specs = _load(role / "meta/argument_specs.yml")["argument_specs"]
    tables: dict[str, str] = {}
    for entry, spec in specs.items():
        rows = "\n".join(_rows(spec.get("options") or {}, defaults))
        if rows and rows not in tables:
            head = "" if entry == "main" else f"Of `tasks_from: {entry}`:\n\n"
            tables[rows] = f"{head}| variable | default | meaning |\n|---|---|---|\n{rows}"
    if not tables:
        return ""
    text = "\n\n".join(tables.values())
    return f"## Variables\n\n{BEGIN}\n{text}\n{END}\n"


def _load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


def _rows(
    options: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    for name, option in options.items():
        default = defaults.get(name, option.get("default"))
        yield f"| `{prefix}{name}` | {_default(option, default)} | {_meaning(option)} |"
        yield from _rows(option.get("options") or {}, {}, f"{prefix}{name}.")


def _default(option: Mapping[str, Any], value: Any) -> str:
    """The default as an operator would write it; one that is computed is described, not shown."""
    if option.get("required"):
        return "required"
    if isinstance(value, str) and "{{" in value:
        return "computed"
    if value is None:
        return "none"
    return (
        f"`{value!r}`" if value == "" else f"`{yaml.safe_dump(value, width=999).split(chr(10))[0]}`"
    )


def _meaning(option: Mapping[str, Any]) -> str:
    description = option["description"]
    text = description if isinstance(description, str) else " ".join(description)
    choices = option.get("choices")
    text += f" Choices: {', '.join(choices)}." if choices else ""
    return re.sub(r"C\(([^)]*)\)", r"`\1`", text).replace("|", "\\|")


def with_section(readme: str, section: str) -> str:
    """A README with its section on variables replaced, or appended."""
    pattern = re.compile(rf"## Variables\n\n{re.escape(BEGIN)}.*?{re.escape(END)}\n", re.DOTALL)
    if pattern.search(readme):
        return pattern.sub(lambda _: section, readme)
    return f"{readme.rstrip()}\n\n{section}" if section else readme


def main() -> None:
    """Write the section of every role's README."""
    for role in sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml")):
        readme = role / "README.md"
        readme.write_text(with_section(readme.read_text(), variables_section(role)))


if __name__ == "__main__":
    main()
