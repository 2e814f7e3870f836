"""The drill on the joined bed: up, transcript, destroy, up again, the same answers.

    make drill                        the short form: old volumes, and restored ones
    make drill ARGS=--full            also to a moment, in another cloud, and with faults
    make drill ARGS=--new             from the beginning, not from where the last one stopped

Its transcript, journal and report lie in build/drill. The appliance is that of `make appliance`.
"""

import argparse
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import click

from tests.beds.drill.faults import OTHER, long_form
from tests.beds.drill.recovery import FOLDER, Drill, short_form
from tests.beds.drill.report import build_report
from tests.beds.drill.stages import DrillJournal, run_stages
from tests.beds.openstack import appliance


def main() -> None:
    """Run the drill, or go on with it; its report is written whatever it says."""
    parser = argparse.ArgumentParser(prog="drill", description=__doc__)
    parser.add_argument("--new", action="store_true", help="from the beginning")
    parser.add_argument(
        "--full", action="store_true", help="also to a moment, in another cloud, and with faults"
    )
    options = parser.parse_args()
    if options.new:
        _clear()
    FOLDER.mkdir(parents=True, exist_ok=True)
    journal = DrillJournal(FOLDER / "journal.json")
    drill = Drill(journal)
    stages = short_form(drill) + (long_form(drill) if options.full else ())
    try:
        run_stages(stages, journal, click.echo)
    finally:
        report = build_report(f"Drill of {datetime.now(UTC):%Y-%m-%d}", journal.results)
        (FOLDER / "report.txt").write_text(report.text())
        (FOLDER / "report.html").write_text(report.page())
    click.echo(report.text())
    click.echo(f"{FOLDER / 'report.html'}")
    if not report.passed:
        sys.exit(1)


def _clear() -> None:
    """Remove the last drill and its appliances."""
    for desk in (appliance.DESK, OTHER):
        if desk.settings.exists():
            appliance.destroy(desk)
    shutil.rmtree(FOLDER, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"drill: {error.cmd[0]} failed as output above; repeat `make drill` to go on")
