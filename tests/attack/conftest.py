"""The table of attacks: printed at the end, and kept in build/attack.json."""

import pytest

from tests.attack.outcomes import HEAD, of_this_run, save

_LINE = "{:<40}{:>8}{:>6}{:>18}{:>25}{:>10}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    outcomes = of_this_run()
    if not outcomes:
        return
    save(outcomes)
    terminalreporter.section("attacks")
    for cells in (HEAD, *(outcome.cells for outcome in outcomes)):
        terminalreporter.line(_LINE.format(*cells))
