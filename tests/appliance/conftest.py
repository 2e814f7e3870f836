"""A converged appliance on real hosts, named by its inventory in CBM_INVENTORY."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from testinfra.host import Host

from tests.beds.hosts import prepared
from tests.beds.hosts.lab import Lab
from tests.standalone.demo import Demo, new_demo

ROOT = Path(__file__).resolve().parents[2]
DEMO_PARCELS = 60


def pytest_configure(config: pytest.Config) -> None:
    # Ansible is found beside this Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What site.yml promises of a second run comes first: others change what the first made."""
    items.sort(key=lambda item: item.path.name != "test_site.py")


@dataclass(frozen=True)
class Appliance:
    """The hosts under test.

    Attributes:
        inventory: path of its hosts.yml.
    """

    inventory: Path

    def names(self, group: str) -> list[str]:
        """The hosts of a group, as the inventory orders them."""
        groups = yaml.safe_load(self.inventory.read_text())["all"]["children"]
        return list(groups.get(group, {}).get("hosts", {}))

    def host(self, group: str) -> Host:
        """The first host of a group, as root."""
        return self.named(self.names(group)[0])

    def hosts(self, group: str) -> list[Host]:
        """All hosts of a group, as root."""
        return [self.named(name) for name in self.names(group)]

    def named(self, name: str) -> Host:
        """A host by its name in the inventory, as root."""
        # By ssh itself, which keeps its connections: Ansible would start again for every question.
        config = self.inventory.with_name("ssh_config")
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(config), sudo=True)

    def variables(self, name: str) -> dict[str, object]:
        """A host's own variables in the inventory."""
        hosts = yaml.safe_load(self.inventory.read_text())["all"]["hosts"]
        return dict(hosts[name])

    def shared(self, name: str) -> Any:
        """A variable that the inventory gives all hosts."""
        return yaml.safe_load(self.inventory.read_text())["all"]["vars"][name]

    def kinds(self, name: str) -> list[str]:
        """What a host is, in the words of infra/."""
        return list(self.variables(name)["cbm_kinds"])  # type: ignore[call-overload]

    def secret(self, name: str) -> str:
        """One of the operator's secrets."""
        return (self.inventory.parent / "secrets" / name).read_text().strip()

    def sql(self, statement: str) -> str:
        """What psql prints to the database's superuser: a line a row, values apart by |."""
        ask = "cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d cbm -c %s"
        return str(self.host("postgis").check_output(ask, statement))

    def play(self, playbook: str, *options: str, checkout: Path = ROOT) -> str:
        """The output of a playbook of a checkout; its failure fails the test."""
        ran = subprocess.run(
            [
                "ansible-playbook",
                "--inventory",
                self.inventory,
                *options,
                checkout / "playbooks" / playbook,
            ],
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout[-4000:]
        return ran.stdout


@contextmanager
def stopped(host: Host, *units: str) -> Iterator[None]:
    """Around a block: these units of a host are stopped."""
    names = " ".join(units)
    host.run_expect([0], f"systemctl stop {names}")
    try:
        yield
    finally:
        host.run_expect([0], f"systemctl start {names}")


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Five hosts, of this machine's prepared image if there is one that fits.

    They are removed at the end, unless CBM_KEEP_LAB is set or the run was interrupted: the next
    run goes on with them.
    """
    made = Lab("system", "10.77.2")
    if prepared.is_kept():
        made.boot_from(prepared.image_name())
    made.up()
    yield made
    interrupted = request.session.exitstatus == pytest.ExitCode.INTERRUPTED
    if not (interrupted or os.environ.get("CBM_KEEP_LAB")):
        made.down()


@pytest.fixture(scope="session")
def appliance(request: pytest.FixtureRequest) -> Appliance:
    """The appliance that CBM_INVENTORY names, or one made of the lab's hosts by the site playbook.

    Without one no test can run: the whole run ends with the reason, instead of each test.
    """
    named = os.environ.get("CBM_INVENTORY")
    if named:
        if not Path(named).is_file():
            pytest.exit(f"CBM_INVENTORY is {named}, which is no file", returncode=4)
        return Appliance(Path(named))
    try:
        made = Appliance(request.getfixturevalue("lab").inventory)
        began = time.monotonic()
        made.play("site.yml")
    except AssertionError as error:
        pytest.exit(f"there is no appliance to test: {error}", returncode=1)
    hosts = "prepared" if prepared.is_kept() else "bare"
    took_s = time.monotonic() - began
    print(f"site.yml on {len(made.names('common'))} {hosts} hosts: {took_s:.0f} s")
    return made


@pytest.fixture(scope="session")
def demo(appliance: Appliance) -> Appliance:
    """The appliance with the demo's parcels and scenes, extracted by its workers."""
    appliance.play("demo.yml", "--extra-vars", f"demo_parcels={DEMO_PARCELS}")
    return appliance


@pytest.fixture(scope="session")
def standalone() -> Iterator[Demo]:
    """The same parcels and scenes on this machine alone; it makes two of the scenes itself."""
    for made in new_demo():
        yield made.up(f"--synthetic-parcels={DEMO_PARCELS}")
