"""From a release at least one migration older to this one's, while users ask and workers work.

On hosts of its own: a schema never goes back, so an appliance that is at this release already does
not serve. CBM_UPGRADE_INVENTORY may name hosts that are bare, or at the old release.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.appliance.conftest import ROOT, Appliance
from tests.appliance.way_in import Answer, WayIn, asked_without_end
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
def older() -> str:
    """The newest commit that can be deployed and lacks this one's last migration."""
    last = _git("ls-tree", "--name-only", "HEAD", "store/sql/").split()
    last = [name for name in last if name.endswith(".sql")]
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", last[-1])
    _git("cat-file", "-e", f"{added}^:app/Dockerfile")
    return _git("rev-parse", f"{added}^")


@pytest.fixture(scope="module")
def old(bare: Appliance, older: str) -> Appliance:
    """An appliance at the older release, with the demo's scenes and series."""
    bare.play("site.yml", "-e", f"cbm_release={older}")
    bare.play("demo.yml", "-e", f"cbm_release={older}")
    return bare


def test_an_upgrade_is_only_told_of_unless_it_is_asked_for(old: Appliance) -> None:
    before = _running(old)
    told = old.play("upgrade.yml")
    assert "Nothing is done yet" in told
    assert _newest_migration() in told
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
    with asked_without_end(user, QUESTIONS, pause_s=0.1) as answers:
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


def test_going_back_needs_a_word_and_keeps_the_schema(old: Appliance, older: str) -> None:
    now = _running(old)
    with pytest.raises(AssertionError, match="is older than what ran"):
        old.play("upgrade.yml", "-e", f"cbm_release={older}", "-e", "yes=true")
    assert _running(old) == now
    back = ("-e", f"cbm_release={older}", "-e", "back=true", "-e", "yes=true")
    old.play("upgrade.yml", *back)
    assert not now & _running(old)
    assert _newest_migration() in old.sql("SELECT name FROM public.cbm_migration")
    assert WayIn.of(old).ask("/readyz").status == 200


def _git(*arguments: str) -> str:
    ran = subprocess.run(
        ["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def _newest_migration() -> str:
    names = _git("ls-tree", "--name-only", "HEAD", "store/sql/").split()
    return max(name for name in names if name.endswith(".sql")).rpartition("/")[2]


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
