"""From a release at least one migration older to this one's, while users ask and workers work.

On hosts of its own: a schema never goes back, so an appliance that is at this release already does
not serve. CBM_UPGRADE_INVENTORY may name hosts that are bare, or at the old release;
CBM_UPGRADE_FROM the commit of the old release, where the newest is not meant.
"""

import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.appliance.conftest import ROOT, Appliance
from tests.appliance.way_in import Answer, WayIn, requests_without_end
from tests.beds.hosts.lab import Lab

pytestmark = pytest.mark.full

QUESTIONS = ("/readyz", "/openapi.json", "/query/info") * 2


@pytest.fixture(scope="module")
def bare() -> Iterator[Appliance]:
    named = os.environ.get("CBM_UPGRADE_INVENTORY")
    if named:
        yield Appliance(Path(named))
        return
    lab = Lab("upgrade", "10.77.3")
    lab.up("db", "manager", "worker1", "api")
    try:
        yield Appliance(lab.inventory)
    finally:
        if not os.environ.get("CBM_KEEP_LAB"):
            lab.down()


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout of the newest release that can be installed and lacks only the last migrations."""
    now = _migrations()
    commits = _git("rev-list", "--first-parent", "HEAD").split()
    commit = os.environ.get("CBM_UPGRADE_FROM") or next(
        each for each in commits if _leads_to(now, each) and _installable(each)
    )
    assert _leads_to(now, commit)
    checkout = tmp_path_factory.mktemp("older") / "checkout"
    _git("worktree", "add", "--detach", str(checkout), commit)
    _set_up(checkout)
    yield checkout
    _git("worktree", "remove", "--force", str(checkout))


def _set_up(checkout: Path) -> None:
    """Its own programs and what they were locked to: its playbooks call them on this machine."""
    uv, python = ROOT / ".venv/bin/uv", checkout / ".venv/bin/python"
    install = (uv, "pip", "install", "--quiet", "--python", python)
    for command in (
        (uv, "venv", "--quiet", "--python", sys.executable, checkout / ".venv"),
        (*install, "--require-hashes", "--requirement", checkout / "requirements/dev.lock"),
        (*install, "--no-deps", "--no-build-isolation", "--editable", checkout),
    ):
        subprocess.run(command, check=True)


def _leads_to(now: list[str], commit: str) -> bool:
    """Whether a commit has the first of these migrations, unchanged, and not all of them.

    Of branches that were developed side by side one may lack a migration in the middle.
    """
    then = _migrations(commit)
    return then != now and then == now[: len(then)]


def _installable(commit: str) -> bool:
    """Whether a release of this commit has all packages that its wheel is built from."""
    project = tomllib.loads(_git("show", f"{commit}:pyproject.toml"))
    packages = project["tool"]["setuptools"]["packages"]
    shared = yaml.safe_load(_git("show", f"{commit}:playbooks/group_vars/all.yml"))
    return {name.split(".")[0] for name in packages} <= set(shared["cbm_release_paths"])


@pytest.fixture(scope="module")
def old(bare: Appliance, older: Path) -> Appliance:
    """An appliance of the older release by its own playbooks, with the demo's scenes and series."""
    bare.play("site.yml", checkout=older)
    bare.play("demo.yml", checkout=older)
    return bare


def test_an_upgrade_is_only_told_of_unless_it_is_asked_for(old: Appliance) -> None:
    before = _running(old)
    report = old.play("upgrade.yml")
    assert "Nothing is done yet" in report
    assert _newest_migration() in report
    assert _running(old) == before


def test_an_upgrade_under_load_fails_no_request_and_loses_no_scene(old: Appliance) -> None:
    user = WayIn.of(old).as_user("admin", old.secret("api_first_user"))
    # By name: HEAD may move while it lasts.
    newest = _git("rev-parse", "HEAD")
    before, signatures = _running(old), _signatures(old)
    pieces = int(old.sql("SELECT count(*) FROM public.work"))
    assert pieces > 0
    assert _newest_migration() not in old.sql("SELECT name FROM public.cbm_migration")
    # All of it is to be done again, so that workers are replaced in the middle of scenes.
    old.sql("UPDATE public.work SET state = 'pending', fence = fence + 1, failures = 0")
    began = time.monotonic()
    with requests_without_end(user, QUESTIONS, pause_s=0.1) as answers:
        old.play("upgrade.yml", "-e", "yes=true", "-e", f"cbm_release={newest}")
    print(f"{len(answers)} requests in the {time.monotonic() - began:.0f} s of the upgrade")
    print(f"of them failed: {_failures(answers)}")

    assert _newest_migration() in old.sql("SELECT name FROM public.cbm_migration")
    assert not before & _running(old)
    failed = [answer for answer in answers if answer.status != 200]
    assert {answer.status for answer in failed} <= {503}
    assert not failed or failed[-1].at - failed[0].at < 1
    assert _all_done(old, pieces)
    assert _signatures(old) == signatures


def test_going_back_needs_a_word_and_keeps_the_schema(old: Appliance, older: Path) -> None:
    commit = subprocess.check_output(["git", "-C", older, "rev-parse", "HEAD"], text=True).strip()
    now = _running(old)
    with pytest.raises(AssertionError, match="is older than what ran"):
        old.play("upgrade.yml", "-e", f"cbm_release={commit}", "-e", "yes=true")
    assert _running(old) == now
    back = ("-e", f"cbm_release={commit}", "-e", "back=true", "-e", "yes=true")
    old.play("upgrade.yml", *back)
    assert not now & _running(old)
    assert _newest_migration() in old.sql("SELECT name FROM public.cbm_migration")
    assert WayIn.of(old).ask("/readyz").status == 200


def _git(*arguments: str) -> str:
    ran = subprocess.run(
        ["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def _migrations(commit: str = "HEAD") -> list[str]:
    """Digest and name of each."""
    lines = _git("ls-tree", "--format=%(objectname) %(path)", commit, "store/sql/").splitlines()
    names = [line for line in lines if re.fullmatch(r"\w+ store/sql/\d+_\w+\.sql", line)]
    return sorted(names, key=lambda line: line.split()[1])


def _newest_migration() -> str:
    return _migrations()[-1].rpartition("/")[2]


def _running(appliance: Appliance) -> set[str]:
    """The images that the API's instances run."""
    line = "docker inspect --format '{{.Config.Image}}' cbm-api-8000 cbm-api-8001"
    return set(appliance.host("api").check_output(line).split())


def _signatures(appliance: Appliance) -> str:
    """How many rows of statistics there are, and a checksum of them."""
    views = appliance.sql(
        "SELECT format('%I.%I', schemaname, viewname) FROM pg_views WHERE viewname LIKE 'sigs_%'"
    )
    rows = " UNION ALL ".join(f"SELECT v::text AS row FROM {view} v" for view in views.split())
    return appliance.sql(f"SELECT count(*), sum(hashtextextended(row, 0)) FROM ({rows}) a")


def _all_done(appliance: Appliance, pieces: int) -> bool:
    for _ in range(120):
        if int(appliance.sql("SELECT count(*) FROM work WHERE state = 'done'")) == pieces:
            return True
        time.sleep(5)
    return False


def _failures(answers: list[Answer]) -> list[tuple[int, str]]:
    return [(a.status, a.body[:80].decode(errors="replace")) for a in answers if a.status != 200]
