"""A lab of the bed from Python: hosts made, unplugged and removed by its scripts."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("HOSTS_CACHE") or "/var/cache/lab-hosts")


@dataclass(frozen=True)
class Lab:
    """Hosts on a bridge of their own.

    Attributes:
        name: seven letters at most.
        net: the first three numbers of its network.
    """

    name: str = "lab"
    net: str = "10.77.0"

    @property
    def folder(self) -> Path:
        """What the scripts keep of it."""
        return CACHE / self.name

    @property
    def inventory(self) -> Path:
        """What Ansible reads of it: a group per role."""
        return self.folder / "stack" / "hosts.yml"

    def boot_from(self, image: str) -> None:
        """Make hosts of this image, a name of Docker's; a lab that has hosts keeps its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "tag").exists():
            (self.folder / "tag").write_text(f"{image}\n")

    def up(self, *hosts: str) -> None:
        """Make these hosts, or start those that are off; rewrite the inventory."""
        self._run(HERE / "up", *hosts)
        self._run(HERE / "base")
        self._run(sys.executable, "-m", "tests.beds.hosts.inventory", self.folder)

    def down(self, *hosts: str) -> None:
        """Pull the plug of these hosts; with none remove the lab."""
        self._run(HERE / "down", *hosts)

    def _run(self, *command: str | Path) -> None:
        environment = os.environ | {"LAB": self.name, "NET": self.net}
        ran = subprocess.run(
            command,
            env=environment,
            cwd=HERE.parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
