"""Writes the table of build/bench.json into README.md, between its two markers.

`python -m tests.benchmarks.readme` rewrites it, with --check it only says whether it is up to date.
"""

import sys
from pathlib import Path
from typing import Any

import click

from tests.benchmarks import results

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"

_ROOT = Path(__file__).parents[2]


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; fail if the table is out of date.")
@click.option("--readme", type=click.Path(path_type=Path), default=_ROOT / "README.md")
@click.option("--bench", type=click.Path(path_type=Path), default=_ROOT / "build" / "bench.json")
def main(check: bool, readme: Path, bench: Path) -> None:
    """Put the benchmark's table into README.md."""
    entries = results.load(bench)
    if not entries:
        sys.exit(f"{bench} holds no results: run make bench first")
    old = readme.read_text()
    try:
        new = rewritten(old, section(entries))
    except ValueError as error:
        sys.exit(f"{readme}: {error}")
    if check and new != old:
        sys.exit(f"{readme} does not show {bench}: run python -m tests.benchmarks.readme")
    if not check:
        readme.write_text(new)


def section(entries: list[dict[str, Any]]) -> str:
    """The table, and where its numbers were measured."""
    machines = sorted({entry["machine"] for entry in entries})
    days = sorted({entry["at"][:10] for entry in entries})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"{results.table(entries)}\n\nMeasured {span} on {'; '.join(machines)}. Ratios are of "
        "CPU seconds (client and server), the least of several interleaved rounds."
    )


def rewritten(text: str, middle: str) -> str:
    """The text with what lies between the markers replaced.

    Raises:
        ValueError: the markers are not there, each once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"wants one {BEGIN} and below it one {END}")
    return f"{before}{BEGIN}\n{middle}\n{END}{after}"


if __name__ == "__main__":
    main()
