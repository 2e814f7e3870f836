"""The stages of the long form: faults, a moment between two writes, another cloud and operator."""

import contextlib
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import yaml

from tests.beds.drill.bucket import ENDPOINT, BackupStore, open_way
from tests.beds.drill.recovery import FOLDER, Drill, time_steps
from tests.beds.drill.stages import DrillStage, Facts
from tests.beds.openstack import appliance
from tests.beds.openstack.desk import ROOT, STACK, OperatorDesk
from tests.beds.openstack.processes import start, stop, wait

BUCKET = f"cbm-{STACK}-backups"
REPOSITORY, VAULT = FOLDER / "repository", FOLDER / "vault"
OTHER = OperatorDesk(FOLDER / "desk" / "cbm", "tests")
"""The second operator's desk, and the other cloud."""
OUTAGE_S = 20
AT_ONCE = 8
_OPEN = "SELECT count(*) FROM public.work WHERE state IN ('pending', 'claimed')"
_CLAIMS = "SELECT count(*) FROM public.work WHERE state = 'claimed'"
_HOLDERS = "SELECT DISTINCT split_part(holder, ':', 1) FROM public.work"
_LOST = "SELECT sum(lost_leases) FROM public.work"


def scale_out(drill: Drill) -> Facts:
    """Two workers become eight; the seconds until each has extracted."""
    drill.desk.fab("scale", "--workers", "2")
    steps = {
        "to 8": lambda: drill.desk.fab("scale", "--workers", str(AT_ONCE)),
        "all extract": lambda: _extract_by_all(drill, AT_ONCE),
    }
    return time_steps(steps)


def _extract_by_all(drill: Drill, workers: int) -> None:
    """The season again and again, until so many workers have done a piece of it."""
    since = drill.desk.query("SELECT now()")
    statement = f"{_HOLDERS} WHERE state IN ('claimed', 'done') AND changed_at > '{since}'"
    holders: set[str] = set()
    while len(holders) < workers:
        if _is_extracted(drill):
            drill.desk.on_host("manager", "cbm-extract redo --all")
        holders |= set(drill.desk.query(statement).split())
        time.sleep(1)
    until(lambda: _is_extracted(drill))


def lose_worker(drill: Drill) -> Facts:
    """The season again, and the plug of a worker's host pulled in it: the others do its work."""
    drill.desk.fab("scale", "--workers", "3")
    drill.desk.on_host("manager", "cbm-extract redo --all")
    until(lambda: int(drill.desk.query(_CLAIMS)) > 1)
    name = drill.workers[-1]
    servers = {one.name: one.id for one in drill.desk.resources() if one.kind == "Instance"}
    subprocess.run(["docker", "kill", servers[name]], check=True, stdout=subprocess.DEVNULL)
    took_s = time_steps({"season": lambda: until(lambda: _is_extracted(drill))})
    lost = drill.desk.query(_LOST)
    drill.desk.fab("down-workers")
    return {"host": name, "leases that ran out": lost} | took_s


def _is_extracted(drill: Drill) -> bool:
    return drill.desk.query(_OPEN) == "0"


def until(happened: Callable[[], bool], limit_s: float = 1800) -> None:
    """Wait for something.

    Raises:
        RuntimeError: it did not happen in time.
    """
    end = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > end:
            raise RuntimeError(f"it did not happen in {limit_s:.0f} s")
        time.sleep(1)


def write_and_lose(drill: Drill) -> Facts:
    """A write, a moment, and a mistake: the campaign is dropped."""
    later = "cbm-api users add later --password-stdin"
    drill.desk.on_host("manager", later, stdin=secrets.token_urlsafe(18) + "\n")
    time.sleep(2)
    moment, last_write = drill.desk.query("SELECT now()"), drill.last_write()
    began = float(drill.desk.query(f"SELECT extract(epoch FROM '{moment}'::timestamptz)"))
    time.sleep(2)
    drill.desk.on_host("manager", "cbm-store campaign drop --aoi demo --year 2024 --yes")
    return {"moment": moment, "moments": {"began": began, "last_write": last_write}}


def destroy_killed(drill: Drill) -> Facts:
    """The destroy's command line is killed when servers go; the next one ends it."""
    if servers := _servers(drill):
        command = ("fab", "destroy", "--stack", STACK, "--yes")
        drill.desk.kill(*command, when=lambda: _servers(drill) < servers)
    drill.desk.fab("destroy", "--yes")
    return drill.audit()


def _servers(drill: Drill) -> int:
    return sum(one.kind == "Instance" for one in drill.desk.resources())


def rebuild_with_faults(drill: Drill) -> Facts:
    """The command line killed, then the network's API down in an up; then as of the moment."""
    drill.lose_database()
    drill.desk.kill("fab", "up", "--stack", STACK, when=lambda: _servers(drill) > 0)
    with ThreadPoolExecutor(1) as pool:
        outage = pool.submit(_interrupt, "neutron-api")
        with contextlib.suppress(subprocess.CalledProcessError):
            drill.desk.fab("up")
        outage.result()
    facts = drill.rebuild(drill.journal.facts("two writes")["moment"])
    users = drill.desk.on_host("manager", "cbm-api users list").split()
    return {**facts, "the write before the moment": "is there" if "later" in users else "IS LOST"}


def _interrupt(api: str) -> None:
    """Stop an API of the cloud for a while, some seconds from now."""
    time.sleep(15)
    stop(api)
    time.sleep(OUTAGE_S)
    start(api)
    wait(api)


def send_backups_to_bucket(drill: Drill) -> Facts:
    """From now on backups go to the stack's bucket."""
    drill.desk.configure("bucket", BUCKET)
    drill.desk.fab("up")
    _choose_bucket(drill.desk)
    _open_way(drill)
    drill.desk.play("site")
    drill.desk.play("backup", "backup_type=full")
    return {"objects": BackupStore.of(drill.desk).count(BUCKET)}


def _open_way(drill: Drill) -> None:
    open_way(drill.desk.inventory / "secrets", FOLDER)


def destroy_with_bucket(drill: Drill) -> Facts:
    """All but volumes and bucket; the database's last writes still go there."""
    _open_way(drill)
    return drill.destroy()


def _choose_bucket(desk: OperatorDesk) -> None:
    """The variables and the secret of backups in the bucket."""
    key = BackupStore.of(desk)
    desk.set_variables({"backup_s3_endpoint": ENDPOINT, "backup_s3_key_id": key.key_id})
    secret = desk.inventory / "secrets/backup_s3"
    secret.touch(mode=0o600)
    secret.write_text(key.secret)


def lose_laptop(drill: Drill) -> Facts:
    """A second operator has a clone, the repository and the vault's password, and no more."""
    _keep_repository(drill.desk)
    shutil.rmtree(OTHER.root.parent, ignore_errors=True)
    mine = OTHER.root.parent / f"cbm-{STACK}"
    _git("clone", "--quiet", ROOT, OTHER.root)
    _git("clone", "--quiet", REPOSITORY, mine)
    (OTHER.root / ".venv").symlink_to(ROOT / ".venv")
    OTHER.settings.symlink_to(mine / OTHER.settings.name)
    OTHER.inventory.symlink_to(mine / "inventory")
    _vault("decrypt", mine / "inventory/secrets.tar", OTHER.root)
    unpack = ["tar", "-xf", mine / "inventory/secrets.tar", "-C", mine / "inventory"]
    subprocess.run(unpack, check=True)
    (mine / "inventory/demo").symlink_to((drill.desk.inventory / "demo").resolve())
    OTHER.make_key()
    return {"commit": OTHER.output("git", "rev-parse", "HEAD").strip()}


def _keep_repository(desk: OperatorDesk) -> None:
    """The operator's own repository: settings, variables, and secrets that are encrypted."""
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    (REPOSITORY / "inventory/group_vars").mkdir(parents=True)
    shutil.copy(desk.settings, REPOSITORY)
    shutil.copy(desk.variables, REPOSITORY / "inventory/group_vars")
    archive = REPOSITORY / "inventory/secrets.tar"
    subprocess.run(["tar", "-cf", archive, "-C", desk.inventory, "secrets"], check=True)
    VAULT.touch(mode=0o600)
    VAULT.write_text(VAULT.read_text() or secrets.token_urlsafe(24))
    _vault("encrypt", archive, desk.root)
    _git("init", "--quiet", REPOSITORY)
    _git("-C", REPOSITORY, "add", "--all")
    author = ("-c", "user.name=operator", "-c", "user.email=operator@example.org")
    _git(*author, "-C", REPOSITORY, "commit", "--quiet", "--message", "The stack as it is")


def _vault(verb: str, file: Path, root: Path) -> None:
    vault = [root / ".venv/bin/ansible-vault", verb, "--vault-password-file", VAULT, file]
    subprocess.run(vault, check=True, stdout=subprocess.DEVNULL)


def _git(*words: str | Path) -> None:
    subprocess.run(["git", *words], check=True)


def move(drill: Drill) -> Facts:
    """Another cloud: servers, the bucket's copy, the database of it, roles."""
    _open_way(drill)
    base = yaml.safe_load(OTHER.settings.read_text())["config"].get("cbm:base_image")
    OTHER.run("pulumi", "stack", "select", "--create", STACK)
    OTHER.configure("public_key", OTHER.key.with_suffix(".pub").read_text().strip())
    if base:  # the prepared image is the first cloud's
        OTHER.configure("image", base)
        OTHER.run("pulumi", "config", "rm", "--stack", STACK, "cbm:base_image")
    OTHER.fab("up")
    BackupStore.of(drill.desk).copy(BUCKET, BackupStore.of(OTHER))
    _choose_bucket(OTHER)
    return replace(drill, desk=OTHER).rebuild("latest")


def long_form(drill: Drill) -> tuple[DrillStage, ...]:
    """The stages of the long form, after those of the short one."""
    return (
        DrillStage("eight workers", "from two, until all extract", lambda: scale_out(drill)),
        DrillStage("worker lost", "its host killed in the season", lambda: lose_worker(drill)),
        DrillStage(
            "replay of that",
            "the transcript, on what was extracted again",
            lambda: drill.compare("extracted again, a worker's host killed"),
        ),
        DrillStage("two writes", "and a moment between them", lambda: write_and_lose(drill)),
        DrillStage("destroy third", "the command line killed in it", lambda: destroy_killed(drill)),
        DrillStage(
            "moment",
            "empty, as of the moment; command line killed, API down",
            lambda: rebuild_with_faults(drill),
        ),
        DrillStage(
            "replay of the moment",
            "the transcript, as of the moment",
            lambda: drill.replay("empty volume, to a moment", "two writes", "moment"),
        ),
        DrillStage("bucket", "backups go to a bucket", lambda: send_backups_to_bucket(drill)),
        DrillStage(
            "destroy fourth", "all but volumes and bucket", lambda: destroy_with_bucket(drill)
        ),
        DrillStage("laptop lost", "a second operator goes on", lambda: lose_laptop(drill)),
        DrillStage("other cloud", "bucket, repository and secrets alone", lambda: move(drill)),
        DrillStage(
            "replay elsewhere",
            "the transcript, in the other cloud",
            lambda: replace(drill, desk=OTHER).replay(
                "another cloud, by another operator", "destroy fourth", "other cloud"
            ),
        ),
        DrillStage("end", "the other cloud is emptied", lambda: appliance.destroy(OTHER)),
    )
