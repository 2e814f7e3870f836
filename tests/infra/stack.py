"""Pulumi's command line on a stack, in a folder of its own, as an operator would use it."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.infra.project import Project

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("PULUMI_PREFIX", "/opt/pulumi"), "bin")
PASSPHRASE = "a passphrase of the tests"


def until(happened: Callable[[], object], limit_s: float = 60) -> None:
    """Wait for something; a failure if it does not happen in time."""
    end = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


@dataclass(frozen=True)
class Ran:
    """A command that ended: its exit code, all it said, and how long it took."""

    code: int
    said: str
    took_s: float


@dataclass
class Stack:
    """A stack in its own workspace: the program by link; settings, state and inventory of its own.

    Attributes:
        name: of the stack.
        folder: the workspace.
        project: the OpenStack project it stands in.
        settings: its configuration; `configure` writes it.
    """

    name: str
    folder: Path
    project: Project
    settings: dict[str, Any]

    def create(self) -> None:
        """Lay the workspace and make the stack in an empty state."""
        (self.folder / "state").mkdir(parents=True)
        (self.folder / "inventory").mkdir()
        for name in ("Pulumi.yaml", "infra", "fabfile.py", ".venv"):
            (self.folder / name).symlink_to(ROOT / name)
        self.pulumi("stack", "init", self.name)
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Write the stack's settings with these changes; secrets' salt stays where it is."""
        self.settings |= changes
        path = self.folder / f"Pulumi.{self.name}.yaml"
        whole = yaml.safe_load(path.read_text()) if path.exists() else {}
        whole = (whole or {}) | {"config": {f"cbm:{k}": v for k, v in self.settings.items()}}
        path.write_text(yaml.safe_dump(whole))

    @property
    def env(self) -> dict[str, str]:
        """The environment of an operator of this stack."""
        return (
            dict(os.environ)
            | self.project.env
            | {
                "PATH": f"{TOOLS}:{ROOT / '.venv/bin'}:{os.environ['PATH']}",
                "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
                "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
                "PULUMI_SKIP_UPDATE_CHECK": "1",
            }
        )

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the workspace, leader of a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, limit_s: float = 420) -> Ran:
        """Run a command in the workspace to its end."""
        began = time.monotonic()
        process = self.start(*command)
        said, _ = process.communicate(timeout=limit_s)
        return Ran(process.returncode, said, time.monotonic() - began)

    def pulumi(self, *arguments: str) -> Ran:
        """Run Pulumi; its failure fails the test."""
        ran = self.run("pulumi", *arguments, "--non-interactive")
        assert ran.code == 0, ran.said
        return ran

    def try_pulumi(self, *arguments: str) -> Ran:
        """Run Pulumi, which may fail."""
        return self.run("pulumi", *arguments, "--non-interactive")

    def up(self) -> Ran:
        return self.pulumi("up", *UP)

    def destroy(self) -> Ran:
        return self.pulumi("destroy", *UP)

    def fab(self, *arguments: str) -> Ran:
        """Run the operator's command line; its failure fails the test."""
        ran = self.run("fab", *arguments)
        assert ran.code == 0, ran.said
        return ran

    def assert_unchanged(self) -> None:
        """Neither the program nor the cloud asks for a change."""
        self.pulumi("preview", "--expect-no-changes", "--refresh", "--diff")

    def outputs(self) -> dict[str, Any]:
        ran = self.pulumi("stack", "output", "--json")
        return json.loads(ran.said)["appliance"]


UP = ("--yes", "--skip-preview", "--suppress-progress")
