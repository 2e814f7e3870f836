"""Start and stop the OpenStack bed; see README.md."""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.beds.openstack import databases, install, seed
from tests.beds.openstack.places import (
    APIS,
    BIN,
    CLOUDS,
    ENDPOINTS,
    ETC,
    HERE,
    HOME,
    LAB,
    LAB_CACHE,
    LOG,
    RUN,
    STATE,
    WITH_HOSTS,
)
from tests.beds.openstack.processes import (
    BASE,
    DAEMONS,
    HOSTS_DAEMONS,
    BedError,
    pid,
    session,
    start,
    stop,
    table,
    wait,
)

API_PROCESSES = tuple(f"{name}-api" for name in APIS)
SEEDED = STATE / "seeded"


def main() -> None:
    """The command line."""
    arguments = _parser().parse_args()
    try:
        _do(arguments)
    except BedError as error:
        sys.exit(f"bed: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bed", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="install what is missing, configure, start, seed")
    up.add_argument(
        "--hosts",
        action="store_true",
        help="servers of availability zone `hosts` are real hosts; remembered until wipe",
    )
    verbs.add_parser("down", help="stop it")
    verbs.add_parser("wipe", help="stop it and delete its state, not what was installed")
    verbs.add_parser("status", help="who runs, with memory")
    restart = verbs.add_parser("restart", help="restart some of the processes")
    restart.add_argument("names", nargs="+", choices=sorted(table()), metavar="NAME")
    return parser


def _do(arguments: argparse.Namespace) -> None:
    if arguments.verb == "up":
        up(hosts=arguments.hosts)
    elif arguments.verb == "restart":
        install.configure()
        stop(*arguments.names)
        start(*arguments.names)
        wait(*arguments.names)
    elif arguments.verb == "status":
        status()
    else:
        down(wipe=arguments.verb == "wipe")


def up(*, hosts: bool) -> None:
    """Bring the bed up; what runs already stays as it is."""
    if os.geteuid():
        raise BedError("it needs root: it installs packages, and hosts need network namespaces")
    for folder in (HOME, LOG, RUN, STATE, STATE / "rabbit"):
        folder.mkdir(parents=True, exist_ok=True)
    if hosts:
        WITH_HOSTS.touch()
    with _said("packages of Debian"):
        install.packages()
    with _said("the OpenStack services"):
        install.services()
    image = _image() if WITH_HOSTS.exists() else None
    _control_plane()
    if image:
        with _said("the image of the hosts"):
            _hosts(image)
    if not _is_seeded():
        seed.zones()
        SEEDED.write_text(_wanted())
    print(f"bed: up; export OS_CLIENT_CONFIG_FILE={CLOUDS} OS_CLOUD=iac; {BIN}/openstack")


def _control_plane() -> None:
    install.reconfigure()
    with _said("databases"):
        databases.lay()
        start(*BASE)
        wait(*BASE)
        databases.migrate()
    install.object_store()
    seed.clouds()
    with _said("services"):
        start(*API_PROCESSES)
        wait("keystone-api")
        if not _is_seeded():
            seed.identity()
        start(*(name for name in DAEMONS if name != "nova-compute"))
        wait("nova-conductor")  # nova-compute would sleep 10 s if it came first
        start("nova-compute")
        wait(*API_PROCESSES, *DAEMONS)
    if not _is_seeded():
        with _said("flavors, images, networks"):
            seed.cloud()


def _image() -> subprocess.Popen[bytes]:
    """Make Docker and the image of the hosts ready, beside all else."""
    env = dict(os.environ, LAB="openstack", HOSTS_CACHE=str(LAB_CACHE))
    with (LOG / "image.log").open("wb") as out:
        return subprocess.Popen([LAB / "up", "--image"], env=env, stdout=out, stderr=out)


def _hosts(image: subprocess.Popen[bytes]) -> None:
    if image.wait():
        raise BedError(f"no image for the hosts, see {LOG}/image.log")
    install.room_for_hosts()
    install.reconfigure()  # now the image has a name
    start("wiring")
    wait("wiring")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{RUN}/wiring.sock")
        client.recv(1)  # the networks are there: the proxy has an address
    start(*HOSTS_DAEMONS)
    wait(*HOSTS_DAEMONS)


def _wanted() -> str:
    """What a seeded state is of: another catalogue or other offers are seeded again."""
    return f"{(HERE / 'cloud.json').read_text()}{WITH_HOSTS.exists()}{ENDPOINTS}"


def _is_seeded() -> bool:
    return SEEDED.exists() and SEEDED.read_text() == _wanted()


def down(*, wipe: bool) -> None:
    """Stop it all, the hosts with it."""
    stop(*(name for name in table() if name not in BASE))
    stop(*reversed(BASE))
    if WITH_HOSTS.exists():
        verb = "wipe" if wipe else "down"
        install.run(BIN / "python", HERE / "localcloud/wiring.py", verb)
    for folder in (STATE, LOG, RUN, ETC) if wipe else ():
        shutil.rmtree(folder, ignore_errors=True)


def status() -> None:
    """One line per process, with its memory (PSS)."""
    for name in table():
        number = pid(name)
        memory = sum(_pss_kb(member) for member in session(number)) if number else 0
        print(f"{name:18} {f'pid {number}' if number else 'down':12} {memory // 1024:6} MB")


def _pss_kb(number: int) -> int:
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Say how long something took, if it took long enough to wonder."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    if took > 1:
        print(f"bed: {what}: {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
