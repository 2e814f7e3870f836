"""`fab scale` and `fab autoscale` in a folder of their own: draining that fails, a replay."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.unit.infra_examples import ROOT, example


def lay_out(folder: Path) -> str:
    """The operator's program and the large example as stack nl; returns the example's text."""
    values = {f"cbm:{key}": value for key, value in example("nl").items()}
    (folder / "Pulumi.nl.yaml").write_text(text := yaml.safe_dump({"config": values}))
    for name in ("fabfile.py", "infra"):
        (folder / name).symlink_to(ROOT / name)
    return text


def run_fab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    return subprocess.run(
        [str(shutil.which("fab", path=tools)), *arguments],
        cwd=folder,
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_count_stays_when_workers_cannot_be_drained(tmp_path: Path) -> None:
    before = lay_out(tmp_path)
    hosts = {f"cbm-nl-worker-{number}": {"ansible_connection": "local"} for number in (1, 2)}
    inventory = {"all": {"hosts": hosts, "children": {"common": {"hosts": hosts}}}}
    (tmp_path / "inventory/nl/secrets").mkdir(parents=True)
    (tmp_path / "inventory/nl/hosts.yml").write_text(yaml.safe_dump(inventory))
    refusal = {"ansible.builtin.fail": {"msg": "{{ remove }} cannot leave"}}
    play = [{"hosts": "all", "gather_facts": False, "tasks": [refusal]}]
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/leave.yml").write_text(yaml.safe_dump(play))
    ran = run_fab(tmp_path, "scale", "--stack=nl", "--workers=1")
    assert ran.returncode == 1
    assert "cbm-nl-worker-2 cannot leave" in ran.stdout
    assert "playbook leave failed" in ran.stdout + ran.stderr
    assert (tmp_path / "Pulumi.nl.yaml").read_text() == before


def test_a_variable_reaches_the_playbook_as_it_is_also_with_spaces(tmp_path: Path) -> None:
    lay_out(tmp_path)
    inventory = {"all": {"hosts": {"here": {"ansible_connection": "local"}}}}
    (tmp_path / "inventory/nl").mkdir(parents=True)
    (tmp_path / "inventory/nl/hosts.yml").write_text(yaml.safe_dump(inventory))
    shown = {"ansible.builtin.debug": {"msg": "to {{ restore_to }}, {{ yes | bool }}"}}
    play = [{"hosts": "all", "gather_facts": False, "tasks": [shown]}]
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/restore.yml").write_text(yaml.safe_dump(play))
    moment = "2026-05-01 12:00:00.5+00"
    words = ("play", "restore", "--stack=nl", "-v", f"restore_to={moment}", "-v", "yes=true")
    assert f"to {moment}, True" in run_fab(tmp_path, *words).stdout
    refused = run_fab(tmp_path, "play", "restore", "--stack=nl", "-v", "yes")
    assert (refused.returncode, "give NAME=VALUE" in refused.stderr) == (1, True)


def test_a_recorded_season_is_replayed_with_reasons_and_cost_and_changes_nothing(
    tmp_path: Path,
) -> None:
    before = lay_out(tmp_path)
    lines = [
        {"at": f"2026-05-{day:02}T00:00:00+00:00", "queues": {"extraction": {
            "pending": 900, "claimed": 0, "done": 900 * (day - 1)}}}
        for day in (1, 2, 3)
    ]  # fmt: skip
    (tmp_path / "season.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    options = ("--stack=nl", "--min=0", "--max=20", "--deadline=6h", "--dry-run")
    ran = run_fab(tmp_path, "autoscale", *options, "--replay=season.jsonl")
    assert ran.returncode == 0, ran.stderr
    changes = [line for line in ran.stdout.splitlines() if " up to " in line or " down to " in line]
    assert changes[0].startswith("2026-05-01 00:00 up to 2: 900 pieces wait")
    assert changes[0].endswith("EUR in 2.9 h)")
    assert len(changes) == 6
    assert "2700 pieces; at most 2 hosts" in ran.stdout
    assert "0 pieces were late" in ran.stdout
    assert (tmp_path / "Pulumi.nl.yaml").read_text() == before
    kept = run_fab(tmp_path, "autoscale", *options, "--idle=22h", "--replay=season.jsonl").stdout
    assert kept.count(" down to 0") == 1, "they are kept until the next day's pieces come"
    refused = run_fab(tmp_path, "autoscale", *options, "--replay=none.jsonl")
    assert (refused.returncode, "nothing to replay" in refused.stderr) == (1, True)
