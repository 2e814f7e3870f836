"""An operator's desk on the bed: checkout, key, state and cloud, and commands run from there."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openstack
import openstack.config
import yaml

from infra.cloud import CloudResource, list_resources
from tests.beds.openstack.places import CLOUDS

ROOT = Path(__file__).resolve().parents[3]
TOOLS = Path(os.environ.get("PULUMI_PREFIX", "/opt/pulumi"), "bin")
STACK = "bed"


@dataclass(frozen=True)
class OperatorDesk:
    """What an operator of the bed's stack works with.

    Attributes:
        root: the checkout.
        project: of the bed's cloud.
    """

    root: Path = ROOT
    project: str = "iac"

    @property
    def folder(self) -> Path:
        """Where key and state are."""
        return self.root / "build" / STACK

    @property
    def key(self) -> Path:
        """The private key; its public half is beside it."""
        return self.folder / "id_ed25519"

    @property
    def settings(self) -> Path:
        """The stack's configuration."""
        return self.root / f"Pulumi.{STACK}.yaml"

    @property
    def inventory(self) -> Path:
        """The stack's inventory."""
        return self.root / "inventory" / STACK

    @property
    def variables(self) -> Path:
        """The operator's choices of roles' variables."""
        return self.inventory / "group_vars/all.yml"

    def make_key(self) -> None:
        """A key, if there is none, and the folder of the state."""
        (self.folder / "state").mkdir(parents=True, exist_ok=True)
        if not self.key.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", STACK, "-f", self.key]
            subprocess.run(command, check=True)

    def set_variables(self, changes: Mapping[str, Any]) -> None:
        """Write choices of roles' variables beside those that are there."""
        known = yaml.safe_load(self.variables.read_text()) if self.variables.exists() else {}
        self.variables.parent.mkdir(parents=True, exist_ok=True)
        self.variables.write_text(f"---\n{yaml.safe_dump(known | dict(changes))}")

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command as the stack's operator; its failure is an error."""
        with self._environment() as env:
            return subprocess.run(command, cwd=self.root, env=env, check=True, **options)

    def output(self, *command: str, stdin: str = "") -> str:
        """The output of a command."""
        ran = self.run(*command, stdout=subprocess.PIPE, input=stdin.encode())
        return ran.stdout.decode()

    def kill(self, *command: str, when: Callable[[], object]) -> None:
        """Start a command, and kill it with what it started as soon as something is so.

        Raises:
            RuntimeError: it ended before.
        """
        with self._environment() as env:
            running = subprocess.Popen(command, cwd=self.root, env=env, start_new_session=True)
            while running.poll() is None and not when():
                time.sleep(0.5)
            at_work = running.poll() is None
            if at_work:
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        if not at_work:
            raise RuntimeError(f"{' '.join(command)} ended before it could be killed")

    def fab(self, task: str, *options: str) -> None:
        """Run an operator's task on the stack."""
        self.run("fab", task, "--stack", STACK, *options)

    def play(self, playbook: str, *variables: str) -> None:
        """Run a playbook on the stack's hosts."""
        options = [word for variable in variables for word in ("--variable", variable)]
        self.run("fab", "play", playbook, "--stack", STACK, *options)

    def configure(self, key: str, value: str) -> None:
        """Set a value of the stack's configuration."""
        self.run("pulumi", "config", "set", "--stack", STACK, "--path", f"cbm:{key}", value)

    def on_host(self, kind: str, command: str, stdin: str = "") -> str:
        """The output of a shell's command on a host, as root."""
        login = ("ssh", "-F", str(self.inventory / "ssh_config"), f"cbm-{STACK}-{kind}")
        return self.output(*login, f"sudo sh -c {shlex.quote(command)}", stdin=stdin)

    def query(self, statement: str) -> str:
        """What psql prints of a statement, without its last newline."""
        psql = f"cd / && runuser -u postgres -- psql -XAtq -d cbm -c {shlex.quote(statement)}"
        return self.on_host("database", psql).strip()

    def connect(self) -> Any:
        """A connection to the cloud's project."""
        clouds = openstack.config.OpenStackConfig(config_files=[str(CLOUDS)])
        return openstack.connection.Connection(config=clouds.get_one(self.project))

    def resources(self) -> list[CloudResource]:
        """All of the stack that is in the cloud."""
        return [one for one in list_resources(self.connect()) if one.belongs_to(STACK)]

    def clear(self) -> None:
        """Remove what was written into the checkout for the stack."""
        self.settings.unlink(missing_ok=True)
        for folder in (self.folder, self.inventory):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _environment(self) -> Iterator[dict[str, str]]:
        own = {
            "PATH": f"{TOOLS}:{self.root / '.venv/bin'}:{os.environ['PATH']}",
            "OS_CLIENT_CONFIG_FILE": str(CLOUDS),
            "OS_CLOUD": self.project,
            "PULUMI_BACKEND_URL": f"file://{self.folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": STACK,
            "PULUMI_SKIP_UPDATE_CHECK": "1",
        }
        with self._agent() as socket:
            yield os.environ | own | {"SSH_AUTH_SOCK": socket}

    @contextmanager
    def _agent(self) -> Iterator[str]:
        """An ssh agent that holds the key, as an operator's does."""
        started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True)
        report = dict(part.split("=", 1) for part in started.stdout.split(";") if "=" in part)
        report = {name.strip(): value for name, value in report.items()}
        env = os.environ | report
        try:
            if self.key.exists():
                subprocess.run(["ssh-add", "-q", str(self.key)], env=env, check=True)
            yield report["SSH_AUTH_SOCK"]
        finally:
            subprocess.run(["ssh-agent", "-k"], env=env, stdout=subprocess.DEVNULL, check=False)
