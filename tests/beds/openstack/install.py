"""What the bed needs of this machine: packages, the services in a venv, their settings."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.beds.openstack.places import (
    APIS,
    BIN,
    ETC,
    HERE,
    HOME,
    LOCK,
    LOG,
    PROXY_PORT,
    RABBIT_PORT,
    STATE,
    SWIFT,
    VENV,
    WITH_HOSTS,
    conf,
    environment,
    image_tag,
    proxy_address,
)
from tests.beds.openstack.processes import BedError, stop

PACKAGES = {  # name: a file it brings
    "mariadb-server-core": "/usr/sbin/mariadbd",
    "mariadb-client-core": "/usr/bin/my_print_defaults",
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "qemu-utils": "/usr/bin/qemu-img",
    "nftables": "/usr/sbin/nft",
}
S3 = HERE.parent / "s3"
INOTIFY_INSTANCES = 1024
FOLDERS = ("lock", "images", "instances", "volumes", "coordination", "conversion")


def run(*command: str | Path, log: str = "commands", env: dict[str, str] | None = None) -> None:
    """Run a command with its output in a log.

    Raises:
        BedError: it failed.
    """
    words = [str(word) for word in command]
    with (LOG / f"{log}.log").open("ab") as out:
        out.write(f"$ {' '.join(words)}\n".encode())
        out.flush()
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env or environment(),
            check=False,
        )
    if done.returncode:
        raise BedError(f"failed: {' '.join(words)}\nsee {LOG / log}.log")


def packages() -> None:
    """Debian's packages, without the daemons that they would start."""
    missing = [name for name, file in PACKAGES.items() if not Path(file).exists()]
    if not missing:
        return
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    apt = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600")
    try:
        run(*apt, "update", env=env)
        run(*apt, "install", "-y", "--no-install-recommends", *missing, env=env)
    finally:
        if ours:
            policy.unlink()


def services() -> None:
    """The venv of the locked OpenStack services, with our drivers where they look for them."""
    done = VENV / "requirements.lock"
    if not done.exists() or done.read_text() != LOCK.read_text():
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", VENV)
        uv = Path(sys.executable).with_name("uv")
        python = ("--python", BIN / "python")
        run(uv, "pip", "install", *python, "--compile-bytecode", "--require-hashes", "-r", LOCK)
        shutil.copy(LOCK, done)
    _drivers(next(VENV.glob("lib/python3*/site-packages")))


def _drivers(site: Path) -> None:
    (site / "localcloud.pth").write_text(f"{HERE}\n")
    for name, file in (("localcloud", "compute"), ("localhosts", "hosts")):
        driver = site / f"nova/virt/{name}.py"  # nova loads drivers from nova.virt only
        driver.unlink(missing_ok=True)
        driver.symlink_to(HERE / f"localcloud/{file}.py")
    info = site / "localcloud-1.dist-info"  # ML2 takes drivers from entry points only
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: localcloud\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[neutron.ml2.mechanism_drivers]\nlocalcloud = localcloud.network:MechanismDriver\n"
    )


def configure() -> None:
    """Rewrite every service's settings from the templates in etc/."""
    shutil.rmtree(ETC, ignore_errors=True)
    for name in APIS:
        for folder in FOLDERS:
            (STATE / name / folder).mkdir(parents=True, exist_ok=True)
        _render(conf(name), ["common", name, "database"], name)
        for paste in (VENV / "etc" / name).glob("*"):
            if paste.is_file() and paste.suffix in {".ini", ".json"}:
                shutil.copy(paste, ETC / name)
    _render(ETC / "nova/nova-compute.conf", ["common", "nova"], "nova")
    _render(ETC / "nova/nova-compute-hosts.conf", ["common", "nova", "hosts"], "nova")
    _render(ETC / "my.cnf", ["my"], "mariadb")
    _render(ETC / "rabbitmq.conf", ["rabbitmq"], "rabbit")
    (ETC / "rabbit-plugins").write_text("[].\n")
    for name, port in SWIFT.items():
        template = "swift-proxy" if name == "proxy" else "swift-storage"
        _render(ETC / f"swift/{name}.conf", [template], name, port)


def object_store() -> None:
    """An empty device for Swift and the rings that lead to it, if there are none yet."""
    folder = STATE / "swift"
    if (folder / "swift.conf").exists():
        return
    (folder / "devices/disk").mkdir(parents=True, exist_ok=True)
    storage = [f"{name}={port}" for name, port in SWIFT.items() if name != "proxy"]
    run(BIN / "python", S3 / "make_rings.py", folder, *storage)
    shutil.copy(S3 / "swift.conf", folder)


def room_for_hosts() -> None:
    """Let some dozens of systemds run: each takes inotify instances of root's, 128 without this."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < INOTIFY_INSTANCES:
        limit.write_text(str(INOTIFY_INSTANCES))


def reconfigure() -> None:
    """Rewrite the settings and stop what must read them again, to be started once more."""
    file = ETC / "nova/nova-compute-hosts.conf"
    before = file.read_text() if file.exists() else ""
    configure()
    if file.read_text() != before:
        stop("nova-compute-hosts")


def _render(target: Path, parts: list[str], service: str, port: int = 0) -> None:
    values = {
        "@PORT@": str(port),
        "@HOME@": str(HOME),
        "@RABBIT@": str(RABBIT_PORT),
        "@PROXY@": f"http://{proxy_address()}:{PROXY_PORT}",
        "@IMAGE@": image_tag() if WITH_HOSTS.exists() else "",
        "@SVC@": service,
    }
    files = [next((HERE / "etc").glob(f"{part}.c*nf")) for part in parts]
    text = "".join(file.read_text() for file in files)
    for key, value in values.items():
        text = text.replace(key, value)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
