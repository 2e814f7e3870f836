"""Fixtures of the system tests of infra/: a project, a stack in it, and nothing left at the end."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.beds.openstack.places import CLOUDS
from tests.infra.project import Project, new_project
from tests.infra.stack import ROOT, TOOLS, Stack


@pytest.fixture(scope="session", autouse=True)
def _bed() -> None:
    """The bed and the tools are there; `make test-infra` sees to that."""
    if not CLOUDS.exists() or not (TOOLS / "pulumi").exists():
        pytest.exit("the OpenStack bed or Pulumi is missing: run `make test-infra`", returncode=2)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """An empty OpenStack project."""
    with new_project(tmp_path_factory.mktemp("project")) as project:
        yield project


@pytest.fixture(scope="session")
def operator_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An operator's ssh key; its public half is beside it."""
    key = tmp_path_factory.mktemp("key") / "id_ed25519"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", str(key)]
    subprocess.run(command, check=True)
    return key


@pytest.fixture(scope="module")
def operator_agent(operator_key: Path) -> Iterator[None]:
    """An ssh agent with the operator's key, for all that runs meanwhile."""
    socket = operator_key.with_name("agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSH_AUTH_SOCK", str(socket))
        while not socket.exists():
            time.sleep(0.05)
        subprocess.run(["ssh-add", "-q", str(operator_key)], check=True)
        yield
    agent.terminate()
    agent.wait()


@pytest.fixture(scope="module")
def small(operator_key: Path) -> dict[str, Any]:
    """The settings of the documented small example, with an operator's key and this machine."""
    example = yaml.safe_load((ROOT / "Pulumi.small.yaml").read_text())["config"]
    settings = {key.removeprefix("cbm:"): value for key, value in example.items()}
    return settings | {"public_key": operator_key.with_suffix(".pub").read_text().strip()}


@pytest.fixture(scope="module")
def new_stack(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Stack]:
    """Makes a stack with the given settings in the module's project."""

    def make(name: str, settings: dict[str, Any], backend: dict[str, str] | None = None) -> Stack:
        folder = tmp_path_factory.mktemp(name) / "work"
        stack = Stack(name, folder, project, dict(settings), backend or {})
        stack.create()
        return stack

    return make
