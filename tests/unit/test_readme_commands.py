"""Which test runs each command of the READMEs as it is printed, or why none can."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.printed import PAGES, ROOT, command, commands
from tests.unit.test_infra_scale import lay_out

DEMO = "tests/standalone/test_readme.py"
STACK = "tests/infra/test_readme.py"
HERE = "tests/unit/test_readme_commands.py"
HOSTS = "tests/infra/test_hosts.py"
BED = "tests/beds/openstack/appliance.py"

RUN_BY = {
    "README.md": {
        "set -a; . .demo/env": DEMO, "psql -c": DEMO, "curl -u": DEMO, "make demo DATA=": DEMO,
        ".venv/bin/cbm-store campaign create": DEMO, ".venv/bin/cbm-store parcels import": DEMO,
        ".venv/bin/cbm-card register": DEMO, "make demo-stop": DEMO, "make demo-clean": DEMO,
        "fab up": HOSTS, "fab play site": BED, "ansible-playbook -i my/": HERE, "fab -l": HERE,
    },
    "infra/README.md": {
        "export OS_CLOUD": STACK, "export PULUMI_BACKEND_URL": STACK,
        "export PULUMI_CONFIG_PASSPHRASE": STACK, "cp Pulumi.small.yaml": STACK,
        "pulumi stack init nl": STACK, "pulumi config set --stack nl cbm:public_key": STACK,
        "pulumi config set --stack nl --path": STACK, "fab preflight": STACK, "fab up": STACK,
        "ansible -i": HOSTS, "fab image": "tests/infra/test_images.py", "cbm:image": STACK,
        "cbm:base_image": STACK, "python -m infra.settings": HERE,
        "fab scale --stack": HOSTS, "fab down-workers": HOSTS, "fab autoscale": HERE,
        "fab plan": HERE, "fab drift": "tests/infra/test_life.py",
    },
    "playbooks/README.md": {
        "ansible-playbook -i inventory/nl": HERE, "ansible-playbook -i inventory/standalone": HERE,
    },
}  # fmt: skip
"""By page and beginning, the file that runs the command; plays here only as far as Ansible reads
them, for the machine would become an appliance: tests/appliance plays them on hosts of the lab."""

NOT_RUN = {
    "README.md": {
        "make demo": "tests/standalone/test_demo.py runs all but make's own set-up, which is the "
        "same for `make demo DATA=`",
        "make test": "it runs this test",
        "make demo STAC=": "the address is the reader's; test_demo_stac.py has one of its own",
        "make tools": "it fetches from Pulumi's own site; the beds build the same (bed-pulumi)",
        "fab play verify": "part of `fab appliance`, by which the bed makes its appliance",
    },
    "infra/README.md": {
        "make tools": "as in README.md",
        "pulumi stack init --secrets-provider": "it needs a key service, and the page says untried",
        "pulumi up --replace": "the reader's host stands in it",
        "fab status": "it needs an appliance: `make drill` runs it",
        "fab cost": "it needs an appliance: `make drill` runs it",
    },
    "playbooks/README.md": {"fab play site": "as in README.md"},
}


@pytest.mark.parametrize(("page", "text"), [(p, text) for p in PAGES for text in commands(p)])
def test_each_command_is_run_by_a_test_or_a_reason_says_why_none_can(page, text):
    exact = {begins for begins in (*RUN_BY[page], *NOT_RUN[page]) if begins == text}
    named = exact or {
        begins
        for begins in (*RUN_BY[page], *NOT_RUN[page])
        if begins in text and begins not in commands(page)
    }
    assert len(named) == 1, f"{page} prints {text!r}: enter the test that runs it, or why none can"


@pytest.mark.parametrize(
    ("page", "begins", "file"), [(p, b, file) for p in PAGES for b, file in RUN_BY[p].items()]
)
def test_the_test_takes_its_command_from_the_page(page, begins, file):
    source = (ROOT / file).read_text()
    assert f'"{begins}' in source, f"{file} does not take {begins!r} from {page}"


@pytest.mark.parametrize("page", PAGES)
def test_no_entry_outlives_its_command(page):
    for begins in (*RUN_BY[page], *NOT_RUN[page]):
        assert any(begins in text for text in commands(page)), begins


def run(folder: Path, line: str) -> str:
    """Output of a line in a folder, with the programs of the tests on its path."""
    tools = Path(sys.executable).parent
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_what_needs_no_cloud_runs_as_printed():
    assert "autoscale" in run(ROOT, command("README.md", "fab -l"))
    schema = json.loads(run(ROOT, command("infra/README.md", "python -m infra.settings")))
    assert "operators" in json.dumps(schema)
    plan = run(ROOT, command("infra/README.md", "fab plan"))
    assert "770,000 parcels, 4,000 granules" in plan
    assert "the deadline is 168 h" in plan


def test_the_autoscaling_that_is_printed_replays_a_season(tmp_path):
    lay_out(tmp_path)
    waiting = {"extraction": {"pending": 9000, "claimed": 0, "done": 0}}
    sample = {"at": "2026-05-01T00:00:00+00:00", "queues": waiting}
    (tmp_path / "season.jsonl").write_text(json.dumps(sample))
    line = command("infra/README.md", "fab autoscale")
    assert "at most" in run(tmp_path, f"{line} --dry-run --replay season.jsonl")


@pytest.mark.parametrize(("page", "begins"), [
    ("README.md", "ansible-playbook -i my/"),
    ("playbooks/README.md", "ansible-playbook -i inventory/nl"),
    ("playbooks/README.md", "ansible-playbook -i inventory/standalone"),
])  # fmt: skip
def test_plays_are_read_as_printed(tmp_path, page, begins):
    for name in ("playbooks", "roles", "ansible.cfg"):
        (tmp_path / name).symlink_to(ROOT / name)
    hosts = (ROOT / "inventory/standalone/hosts.yml").read_text()
    for folder in ("my", "inventory/nl", "inventory/standalone"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "hosts.yml").write_text(hosts)
    line = command(page, begins)
    assert "playbook: playbooks/site.yml" in run(tmp_path, f"{line} --syntax-check")
