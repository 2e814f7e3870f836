"""The stages of the short form: an appliance up, its answers, down, up again in two ways."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from infra.cloud import remove
from infra.inventory import list_groups
from tests.beds.drill import transcript
from tests.beds.drill.stages import DrillJournal, DrillStage, Facts
from tests.beds.openstack import appliance
from tests.beds.openstack.desk import ROOT, STACK, OperatorDesk

FOLDER = ROOT / "build" / "drill"
TRANSCRIPT = FOLDER / "transcript.jsonl"
GUEST = "guest"
PARCELS = 60
WORKERS = 2
DATABASE_VOLUME = f"cbm-{STACK}-database"

# A minute's season in a quarter of an hour: more workers than there may be, and none right after.
AUTOSCALE = ("--max", "3", "--deadline", "15m", "--idle", "1m", "--cores", "1", "--once")

# The last write that users can see: a row of the access log, which every logged request leaves.
_LAST_WRITE = "SELECT coalesce(extract(epoch FROM max(at)), 0) FROM public.api_audit"
_FIRST_PIECES = """
    SELECT json_agg(first) FROM (SELECT extract(epoch FROM min(changed_at)) AS first
        FROM public.work WHERE state = 'done' GROUP BY split_part(holder, ':', 1)) AS firsts"""
_IMAGES = "docker ps --no-trunc --format '{{.Image}}'"


@dataclass(frozen=True)
class Drill:
    """What the stages of a drill share.

    Attributes:
        journal: of this drill.
        desk: of the operator.
    """

    journal: DrillJournal
    desk: OperatorDesk = appliance.DESK

    @property
    def workers(self) -> list[str]:
        """The worker hosts in the inventory."""
        return [name for name in list_groups(self.desk.inventory)["common"] if "-worker-" in name]

    def up(self) -> Facts:
        """From nothing to a healthy appliance of five hosts."""
        appliance.prepare(PARCELS)
        return self.stand_up()

    def stand_up(self, restore_to: str = "") -> Facts:
        """Servers, the database from its backups if there is a moment, roles; all verified.

        Args:
            restore_to: a moment, or `latest`.
        """
        steps: dict[str, Callable[[], object]] = {"up": lambda: self.desk.fab("up")}
        if restore_to:
            variables = ("yes=true", f"restore_to={restore_to}")
            steps["restore"] = lambda: self.desk.play("restore", *variables)
        took_s = time_steps(steps | {"site": lambda: self.desk.play("site")})
        status = self.open_door().send(transcript.Call("", "GET", "/readyz")).status_code
        answered_at = time.time()
        if status != 200:
            raise RuntimeError(f"the API answers {status} to /readyz after site.yml")
        took_s |= time_steps({"verify": lambda: self.desk.play("verify")})
        hosts = len(list_groups(self.desk.inventory)["common"])
        return {"hosts": hosts} | took_s | {"moments": {"answered": answered_at}}

    def prepare_image(self) -> None:
        """An image with all that roles install; hosts of from now on begin with it."""
        self.desk.fab("image")
        image = yaml.safe_load(self.desk.settings.read_text())["config"]["cbm:image"]
        if image != "prepared":
            self.desk.configure("base_image", image)
            self.desk.configure("image", "prepared")

    def extract_season(self) -> Facts:
        """The synthetic season, extracted by the workers that autoscaling brings."""
        self.desk.fab("down-workers")
        # The manager alone would be done with so small a season before the first host is up.
        self.desk.on_host("manager", "docker service scale --detach cbm_extraction=0")
        with self._autoscaling():
            self.desk.play("demo")
        self.add_guest()
        decision, firsts = self._last_decision("up"), json.loads(self.desk.query(_FIRST_PIECES))
        decided_at = datetime.fromisoformat(f"{decision[:19]}+00:00").timestamp()
        return {
            "decision": decision,
            "workers that extracted": len(firsts),
            "all at work, s": round(max(firsts) - decided_at),
        }

    def _last_decision(self, direction: str) -> str:
        """The last line of autoscaling's log that went up, or down."""
        log = (self.desk.inventory / "autoscale.log").read_text().splitlines()
        return [line for line in log if f" {direction} to " in line][-1]

    @contextmanager
    def _autoscaling(self) -> Iterator[None]:
        """`fab autoscale` over and over, as an operator's timer runs it."""
        ended = threading.Event()

        def scale() -> None:
            while not ended.wait(10):
                self.desk.fab("autoscale", *AUTOSCALE)

        with ThreadPoolExecutor(1) as pool:
            scaling = pool.submit(scale)
            try:
                yield
            finally:
                ended.set()
            scaling.result()

    def add_guest(self) -> None:
        """A user who may read and no more; its password is kept for the replays."""
        path = FOLDER / GUEST
        if path.exists():
            return
        password = secrets.token_urlsafe(18)
        program = f"cbm-api users add {GUEST} --aoi demo --password-stdin"
        self.desk.on_host("manager", program, stdin=password + "\n")
        path.touch(mode=0o600)
        path.write_text(password)

    def give_workers_back(self) -> Facts:
        """No worker is left, by autoscaling's own decision.

        Raises:
            RuntimeError: some are, after as many turns as an idle time has.
        """
        for _ in range(20):
            if not self.workers:
                return {"decision": self._last_decision("down")}
            self.desk.fab("autoscale", *AUTOSCALE)
            time.sleep(10)
        raise RuntimeError(f"autoscaling keeps {', '.join(self.workers)}")

    def open_door(self) -> transcript.ApiDoor:
        """The appliance's API over TLS, for its first user and the guest."""
        hosts = yaml.safe_load((self.desk.inventory / "hosts.yml").read_text())["all"]
        name = next(iter(hosts["children"]["api"]["hosts"]))
        kept = {"admin": self.desk.inventory / "secrets/api_first_user", GUEST: FOLDER / GUEST}
        passwords = {user: file.read_text().strip() for user, file in kept.items() if file.exists()}
        address = hosts["hosts"][name]["cbm_public_address"]
        authority = self.desk.inventory / "secrets/authority.crt"
        return transcript.ApiDoor(f"https://{address}", passwords, authority)

    def record(self) -> Facts:
        """Record the transcript."""
        door = self.open_door()
        subjects = transcript.find_subjects(door, "admin")
        calls = transcript.build_calls(subjects, list(door.passwords))
        entries = list(transcript.record(door, calls))
        transcript.write(TRANSCRIPT, entries)
        kinds = transcript.count_kinds(entries)
        rows = [["request, status", "times"], *([kind, n] for kind, n in sorted(kinds.items()))]
        reasons = [["left out of the comparison"], *([p.reason] for p in transcript.VARIABLE)]
        reasons += [[f"{path}: {reason}"] for path, reason in transcript.UNCOVERED.items()]
        return {
            "requests": len(entries),
            "tables": {"Transcript": rows, "What may differ": reasons},
        }

    def destroy(self) -> Facts:
        """Take the appliance down but for what it keeps; when, and its last write."""
        moments = {"last_write": self.last_write(), "began": time.time()}
        before = len(self.desk.resources())
        self.desk.fab("destroy", "--yes")
        return {"removed": before - len(self.desk.resources()), "moments": moments}

    def last_write(self, before: float | None = None) -> float:
        """The last write, or the last before a moment, seconds since 1970."""
        limit = f" WHERE at < to_timestamp({before})" if before else ""
        return float(self.desk.query(_LAST_WRITE + limit))

    def audit(self) -> Facts:
        """Nothing of the stack is in the cloud but what it keeps.

        Raises:
            RuntimeError: something else is.
        """
        left = self.desk.resources()
        if wrong := [f"{one.kind} {one.name}" for one in left if not one.kept]:
            raise RuntimeError(f"left over in the cloud: {', '.join(wrong)}")
        return {"kept": ", ".join(sorted(one.name for one in left))}

    def lose_database(self) -> None:
        """Delete the database's volume, as a provider may lose it."""
        lost = [one for one in self.desk.resources() if one.name == DATABASE_VOLUME]
        remove(self.desk.connect(), lost)

    def rebuild(self, restore_to: str = "") -> Facts:
        """Stand the appliance up around its volumes; an empty one is filled from the backups."""
        self.desk.configure("hosts.worker.count", str(WORKERS))
        return self.stand_up(restore_to)

    def replay(self, case: str, destroyed: str, rebuilt: str) -> Facts:
        """Compare all answers; the case's RPO and RTO.

        Args:
            case: for the report.
            destroyed: the stage that took the appliance down.
            rebuilt: the stage that stood it up again.
        """
        before = self.journal.facts(destroyed)["moments"]
        recovery = {
            "rpo_s": max(0.0, before["last_write"] - self.last_write(before["began"])),
            "rto_s": self.journal.facts(rebuilt)["moments"]["answered"] - before["began"],
        }
        return {**self.compare(case), "recovery": {case: recovery}}

    def compare(self, case: str) -> Facts:
        """The transcript's calls, answered now; what differs from then."""
        known = transcript.read(TRANSCRIPT)
        found = [difference for _, difference in transcript.replay(self.open_door(), known)]
        differences = [f"{case}: {difference}" for difference in found if difference]
        return {"replayed": len(found), "differences": differences}

    def describe(self) -> Facts:
        """The ledger, the versions and the digests of what ran."""
        ledger = json.loads(
            self.desk.output("fab", "cost", "--stack", STACK, "--as-json", "--publish")
        )
        costs = [["part", f"{ledger['currency']} a year", "ct a parcel-year"]]
        costs += [
            [name, f"{ledger['year'][name]:.2f}", f"{100 * ledger['parcel_year'][name]:.1f}"]
            for name in ledger["year"]
        ]
        listed = [self.desk.on_host(host, _IMAGES).split() for host in ("manager", "api")]
        images = sorted({image for images in listed for image in images})
        return {
            "tables": {
                f"Cost of {ledger['parcels']} parcels, {'; '.join(ledger['remarks'])}": costs,
                "Versions": [["what", "version"], *self._versions()],
                "Images": [["image"], *([image] for image in images)],
            }
        }

    def _versions(self) -> Iterator[list[str]]:
        desk = self.desk
        docker = "docker version --format '{{.Server.Version}}'"
        yield ["commit", desk.output("git", "rev-parse", "HEAD").strip()]
        yield ["Pulumi", desk.output("pulumi", "version").strip()]
        yield ["PostgreSQL", desk.query("SHOW server_version")]
        yield ["PostGIS", desk.query("SELECT postgis_lib_version()")]
        yield ["last migration", desk.query("SELECT max(version) FROM public.cbm_migration")]
        yield ["Docker", desk.on_host("manager", docker).strip()]


def time_steps(steps: Mapping[str, Callable[[], Any]]) -> dict[str, int]:
    """Run steps in order; the seconds of each."""
    took_s = {}
    for name, step in steps.items():
        began = time.monotonic()
        step()
        took_s[f"{name}, s"] = round(time.monotonic() - began)
    return took_s


def short_form(drill: Drill) -> tuple[DrillStage, ...]:
    """The stages of the short form."""
    return (
        DrillStage("up", "servers and roles, from the base image", drill.up),
        DrillStage("image", "a prepared image, for hosts from now on", drill.prepare_image),
        DrillStage("season", "extracted by workers that autoscaling ups", drill.extract_season),
        DrillStage("transcript", "200 requests as two users, with digests", drill.record),
        DrillStage(
            "backup", "a full backup", lambda: drill.desk.play("backup", "backup_type=full")
        ),
        DrillStage("idle", "autoscaling gives the workers back", drill.give_workers_back),
        DrillStage("destroy", "all but the kept volumes", drill.destroy),
        DrillStage("audit", "the cloud has kept volumes alone", drill.audit),
        DrillStage("up again", "around the old volumes", drill.rebuild),
        DrillStage(
            "replay",
            "the transcript, on the old volumes",
            lambda: drill.replay("around the old volumes", "destroy", "up again"),
        ),
        DrillStage("destroy again", "all but the kept volumes", drill.destroy),
        DrillStage("empty", "the database's volume is lost", drill.lose_database),
        DrillStage(
            "restore", "an empty volume, to the last write", lambda: drill.rebuild("latest")
        ),
        DrillStage(
            "replay again",
            "the transcript, on the restored database",
            lambda: drill.replay("empty volume, to the last write", "destroy again", "restore"),
        ),
        DrillStage("ledger", "cost, versions and digests", drill.describe),
    )
