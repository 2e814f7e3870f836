"""Pulumi's command line on a stack, in a folder of its own, as an operator would use it."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from tests.infra.project import Project
from tests.printed import command

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
class CommandResult:
    """A command that ended: its exit code, all its output, and how long it took."""

    code: int
    output: str
    took_s: float


@dataclass
class Stack:
    """A stack in its own workspace: the program by link; settings, state and inventory of its own.

    Attributes:
        name: of the stack.
        folder: the workspace.
        project: the OpenStack project it stands in.
        settings: its configuration; `configure` writes it.
        backend: where the state is, as Pulumi reads it from the environment; a folder by default.
    """

    name: str
    folder: Path
    project: Project
    settings: dict[str, Any]
    backend: dict[str, str] = field(default_factory=dict)

    def create(self) -> None:
        """Lay the workspace and make the stack in an empty state."""
        self.lay()
        self.pulumi("stack", "init", self.name)
        self.configure()

    def lay(self) -> None:
        """Lay the workspace: the checkout by link, empty folders of state and inventory."""
        (self.folder / "state").mkdir(parents=True)
        (self.folder / "inventory").mkdir()
        for name in ("Pulumi.yaml", "infra", "fabfile.py", ".venv"):
            (self.folder / name).symlink_to(ROOT / name)

    def at_another_desk(self, folder: Path) -> "Stack":
        """The same stack for another operator, who has settings, backend and secrets."""
        there = replace(self, folder=folder)
        there.lay()
        name = f"Pulumi.{self.name}.yaml"
        (folder / name).write_text((self.folder / name).read_text())
        there.pulumi("stack", "select", self.name)
        return there

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
            | self.backend
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

    def run(self, *command: str, limit_s: float = 420) -> CommandResult:
        """Run a command in the workspace to its end."""
        began = time.monotonic()
        process = self.start(*command)
        output, _ = process.communicate(timeout=limit_s)
        return CommandResult(process.returncode, output, time.monotonic() - began)

    def pulumi(self, *arguments: str) -> CommandResult:
        """Run Pulumi; its failure fails the test."""
        ran = self.run("pulumi", *arguments, "--non-interactive")
        assert ran.code == 0, ran.output
        return ran

    def try_pulumi(self, *arguments: str) -> CommandResult:
        """Run Pulumi, which may fail."""
        return self.run("pulumi", *arguments, "--non-interactive")

    def up(self) -> CommandResult:
        return self.pulumi("up", *UP)

    def destroy(self) -> CommandResult:
        return self.pulumi("destroy", *UP)

    def fab(self, *arguments: str) -> CommandResult:
        """Run the operator's command line; its failure fails the test."""
        ran = self.run("fab", *arguments)
        assert ran.code == 0, ran.output
        return ran

    def printed(self, page: str, begins: str, *changes: tuple[str, str]) -> CommandResult:
        """Run a command as a README prints it, for this stack; its failure fails the test.

        Args:
            page: the README.
            begins: beginning of the command.
            changes: parts of it that are smaller on the bed, and what stands in their place.
        """
        line = command(page, begins, self.name)
        for part, smaller in changes:
            assert part in line, line
            line = line.replace(part, smaller)
        ran = self.run("bash", "-euo", "pipefail", "-c", line, limit_s=3600)
        assert ran.code == 0, f"{line}\n{ran.output[-4000:]}"
        return ran

    def assert_unchanged(self) -> None:
        """Neither the program nor the cloud asks for a change."""
        self.pulumi("preview", "--expect-no-changes", "--refresh", "--diff")

    def outputs(self) -> dict[str, Any]:
        ran = self.pulumi("stack", "output", "--json")
        return json.loads(ran.output)["appliance"]


UP = ("--yes", "--skip-preview", "--suppress-progress")
