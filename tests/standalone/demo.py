"""A demo in a folder of its own, run as its user runs it."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARCELS = 3000 if os.environ.get("CBM_TEST_FULL") else 60
"""Of the synthetic Member State."""


@dataclass(frozen=True)
class Demo:
    """A demo in a folder of its own, and what `up` printed."""

    folder: Path
    printed: str = ""

    def make(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "standalone.demo", "--folder", self.folder, *arguments],
            cwd=ROOT,
            env=os.environ | env,
            capture_output=True,
            text=True,
            check=False,
        )

    def up(self, *arguments: str) -> "Demo":
        ran = self.make("up", *arguments)
        log = self.folder / "api.log"
        assert ran.returncode == 0, ran.stderr + (log.read_text() if log.exists() else "")
        return Demo(self.folder, ran.stdout)

    @property
    def counts(self) -> list[int]:
        """Scenes, parcels, signatures, as printed."""
        line = re.search(r"([\d,]+) scenes, ([\d,]+) parcels, ([\d,]+) signatures", self.printed)
        assert line, self.printed
        return [int(number.replace(",", "")) for number in line.groups()]

    @property
    def env(self) -> dict[str, str]:
        lines = (self.folder / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def shell(self, line: str) -> "subprocess.CompletedProcess[str]":
        """Run a line in a plain shell, without our settings."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "CBM_"))}
        return subprocess.run(
            ["sh", "-c", line], cwd=ROOT, env=clean, capture_output=True, text=True, check=False
        )

    def sql(self, statement: str) -> str:
        ran = self.shell(f'set -a; . {self.folder}/env; psql -XtAc "{statement}"')
        return ran.stdout.strip() or ran.stderr.strip()


def new_demo() -> Iterator[Demo]:
    folder = Path(tempfile.mkdtemp(prefix="cbm-test-"))
    folder.chmod(0o711)
    demo = Demo(folder / "demo")
    try:
        yield demo
    finally:
        demo.make("clean")
        folder.rmdir()
