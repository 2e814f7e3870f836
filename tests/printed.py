"""The commands that the READMEs print, for the tests that run them as they stand there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "infra/README.md", "playbooks/README.md")
STACK = "nl"
"""The stack of the READMEs' commands."""

_SHELL = r"(?:set|export|cp|psql|curl)"
_PROGRAM = r"(?:make|fab|pulumi|ansible(?:-\w+)?|python|(?:\.venv/bin/)?cbm-\w+)"
_STACK = re.compile(rf"(?<=--stack ){STACK}\b|(?<=inventory/){STACK}\b|(?<=init ){STACK}\b")


def commands(page: str) -> list[str]:
    """The commands of a page, without remarks and optional parts.

    Those are its lines of code, and code within a line that has options: the rest of that are
    names of programs and tasks.
    """
    text = re.sub(r"\\\n *", "", (ROOT / page).read_text())
    lines = re.findall(rf"^ {{4}}((?:{_SHELL}|{_PROGRAM}) .*)$", text, re.MULTILINE)
    inline = re.findall(rf"`({_PROGRAM} [^`]*)`", re.sub(r"(?<=\w)\n(?=\S)", " ", text))
    options = [code for code in inline if re.search(r" -", code)]
    whole = [re.sub(r" {2,}#.*| \[[^\]]*\]", "", line).strip() for line in lines]
    return list(dict.fromkeys((*whole, *options)))


def command(page: str, begins: str, stack: str = STACK) -> str:
    """The command of a page that is so, else the only one that begins so; of another stack."""
    printed = commands(page)
    found = [begins] if begins in printed else [t for t in printed if t.startswith(begins)]
    assert len(found) == 1, (page, begins, found)
    return _STACK.sub(stack, found[0])
