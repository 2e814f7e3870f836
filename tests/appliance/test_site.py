"""The whole of site.yml: what a second run and a dry run do, and what the verification says."""

import re
import time

import pytest

from tests.appliance.conftest import Appliance


def recap(printed: str) -> dict[str, dict[str, int]]:
    """Host -> Ansible's counts of a run."""
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", printed, re.MULTILINE)
    pairs = {host: re.findall(r"(\w+)=(\d+)", counts) for host, counts in lines}
    return {host: {name: int(n) for name, n in found} for host, found in pairs.items()}


def changed(printed: str) -> dict[str, int]:
    """Hosts on which something was changed."""
    counts = recap(printed)
    assert counts, printed[-2000:]
    return {host: count["changed"] for host, count in counts.items() if count["changed"]}


def test_second_run_changes_nothing(appliance: Appliance) -> None:
    began = time.monotonic()
    printed = appliance.play("site.yml")
    print(f"second run of site.yml: {time.monotonic() - began:.0f} s")
    assert changed(printed) == {}, _changes(printed)
    assert set(appliance.names("common")) <= set(recap(printed))


@pytest.mark.full
def test_dry_run_of_a_converged_appliance_finds_nothing_to_do(appliance: Appliance) -> None:
    printed = appliance.play("site.yml", "--check")
    assert changed(printed) == {}, _changes(printed)


def test_verification_is_green_on_every_host(appliance: Appliance) -> None:
    verified = recap(appliance.play("verify.yml"))
    assert set(appliance.names("common")) <= set(verified)
    assert all(counts["failed"] == 0 for counts in verified.values())


def _changes(printed: str) -> str:
    """The tasks that changed something, for the message of a failure."""
    task, found = "", []
    for line in printed.splitlines():
        if line.startswith(("TASK [", "RUNNING HANDLER [")):
            task = line
        if line.startswith("changed: "):
            found.append(f"{task} {line}")
    return "\n".join(found)
