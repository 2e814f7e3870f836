"""Writes the table of build/attack.json into the guide's page on security.

`python -m tests.attack.page` rewrites what lies between the page's two markers.
"""

import sys
from pathlib import Path

from tests.attack.outcomes import FILE, HEAD, ROWS, Outcome, load

BEGIN, END = "<!-- attack:begin -->", "<!-- attack:end -->"
PAGE = Path(__file__).parents[2] / "docs" / "operate" / "security.md"


def table(outcomes: list[Outcome]) -> str:
    """The table in Markdown, with the days on which it was measured."""
    days = sorted({outcome.at[:10] for outcome in outcomes})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *(each.cells for each in outcomes)]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{rows}\n\nTried {span}."


def rewritten(text: str, outcomes: list[Outcome]) -> str:
    """The page with the table in place of its old one."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(outcomes)}\n{END}{after}"


def main() -> None:
    """Write the page, once every attack has been tried."""
    outcomes = load()
    missing = [name for name in ROWS if name not in {each.attack for each in outcomes}]
    if missing:
        sys.exit(f"{FILE} lacks {', '.join(missing)}: run make test-attack-full first")
    PAGE.write_text(rewritten(PAGE.read_text(), outcomes))


if __name__ == "__main__":
    main()
