"""infra/README's way to a stack from nothing, each line run as it is printed there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.infra.project import Project
from tests.infra.stack import ROOT, TOOLS
from tests.printed import STACK, command

FIRST = (
    "export OS_CLOUD", "export PULUMI_BACKEND_URL", "export PULUMI_CONFIG_PASSPHRASE",
)  # fmt: skip
"""What an operator's shell knows from then on."""


@pytest.fixture(scope="module")
def desk(
    project: Project, operator_key: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """An operator's checkout by links, and a home with a key, a cloud and a folder for states."""
    folder = tmp_path_factory.mktemp("desk")
    checkout, home = folder / "checkout", folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / "cbm-state").mkdir()
    shutil.copy(operator_key.with_suffix(".pub"), home / ".ssh")
    (checkout / "inventory").mkdir(parents=True)
    for name in ("Pulumi.yaml", "Pulumi.small.yaml", "infra", "fabfile.py", ".venv"):
        (checkout / name).symlink_to(ROOT / name)
    [cloud] = yaml.safe_load(project.clouds.read_text())["clouds"].values()
    (home / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"mycloud": cloud}}))
    yield folder
    shell(folder, f"pulumi destroy --stack {STACK} --yes --skip-preview --non-interactive")


def shell(desk: Path, *lines: str) -> str:
    """Output of lines in one shell of the operator's."""
    home = desk / "home"
    plugins = os.environ.get("PULUMI_HOME", str(Path.home() / ".pulumi"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("OS_")} | {
        "HOME": str(home),
        "PATH": f"{TOOLS}:{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "OS_CLIENT_CONFIG_FILE": str(home / "clouds.yaml"),
        "PULUMI_HOME": plugins,
        "PULUMI_SKIP_UPDATE_CHECK": "1",
    }
    known = [command("infra/README.md", begins) for begins in FIRST]
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join((*known, *lines))],
        cwd=desk / "checkout", env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, f"{lines}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


def test_a_stack_from_nothing_is_made_by_the_lines_of_the_readme(desk: Path, project: Project):
    for begins in (
        "cp Pulumi.small.yaml", "pulumi stack init nl",
        "pulumi config set --stack nl cbm:public_key", "pulumi config set --stack nl --path",
        "fab preflight", "fab up",
    ):  # fmt: skip
        shell(desk, command("infra/README.md", begins))
    written = yaml.safe_load((desk / f"checkout/Pulumi.{STACK}.yaml").read_text())["config"]
    assert written["cbm:operators"] == ["192.0.2.0/24"]
    assert written["cbm:public_key"].startswith("ssh-ed25519 ")
    hosts = {f"cbm-{STACK}-{name}" for name in written["cbm:hosts"]}
    assert project.ids("Instance").keys() == hosts
    assert (desk / f"checkout/inventory/{STACK}/hosts.yml").exists()
    assert "left over: 0" in shell(desk, command("infra/README.md", "fab drift"))


def test_prepared_images_are_chosen_by_the_lines_of_the_readme(desk: Path):
    for begins in ("cbm:image", "cbm:base_image"):
        shell(desk, command("infra/README.md", f"pulumi config set --stack nl {begins}"))
    written = yaml.safe_load((desk / f"checkout/Pulumi.{STACK}.yaml").read_text())["config"]
    assert (written["cbm:image"], written["cbm:base_image"]) == ("prepared", "Debian 12")
