"""The prepared image of labs: what playbooks/image.yml makes of a host, kept on this machine.

`python -m tests.beds.hosts.prepared` makes it if the roles' packages or the locks have changed. It
is a cache: the release in it may be an earlier one, then the newer is built on what it has.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.beds.hosts.lab import CACHE, HERE, Lab

ROOT = Path(__file__).resolve().parents[3]
OF_THE_BED = (
    "/etc/apt/apt.conf.d/00proxy",
    "/etc/pip.conf",
    "/etc/npmrc",
    "/etc/hosts",
    "/etc/resolv.conf",
)
"""What `lab-init` writes on a host that boots: an image lacks it."""


def image_name() -> str:
    """Docker's name of the image that fits this checkout, whether there is one or not."""
    fingerprint = _output(ROOT / "roles/image/files/fingerprint", ROOT)
    files = [HERE / "image", ROOT / "Dockerfile", *sorted((ROOT / "requirements").glob("*.lock"))]
    digest = hashlib.sha256(fingerprint.encode())
    for file in files:
        digest.update(file.read_bytes())
    return f"lab/prepared:{digest.hexdigest()[:12]}"


def is_kept() -> bool:
    """Whether labs of this checkout can boot from a prepared image."""
    command = ["docker", "volume", "inspect", engine()]
    found = subprocess.run(command, capture_output=True, check=False)
    return _archive().exists() and found.returncode == 0


def engine() -> str:
    """The volume with what the image's Docker holds."""
    return image_name().replace("lab/prepared:", "prepared-")


def prepare(lab: Lab) -> None:
    """Make the image on a host of this lab, which is removed; nothing if it is there."""
    if is_kept():
        return
    lab.up("builder")
    try:
        ansible = Path(sys.executable).with_name("ansible-playbook")
        _run(
            *(ansible, "--inventory", lab.inventory, "playbooks/image.yml"),
            *("--extra-vars", "image_build_cache=true"),
        )
        _keep(f"{lab.name}-builder")
    finally:
        lab.down()


def _keep(container: str) -> None:
    """A host's disk as an archive, and what its engine holds beside it: that is a volume."""
    _run("docker", "exec", container, "rm", "-f", *OF_THE_BED)
    _run("docker", "stop", container)
    for old in CACHE.glob("lab-prepared-*"):
        old.unlink()
    for volume in _output("docker", "volume", "ls", "-q", "-f", "name=^prepared-").split():
        _run("docker", "volume", "rm", volume)
    archive = _archive()
    part = archive.with_suffix(".part")
    _run("docker", "export", "--output", part, container)
    where = '{{range .Mounts}}{{if eq .Destination "/var/lib/docker"}}{{.Name}}{{end}}{{end}}'
    _run(HERE / "engine", _output("docker", "inspect", "-f", where, container), engine())
    part.rename(archive)


def _archive() -> Path:
    """Where `up` looks for the image of that name."""
    return CACHE / f"{image_name().replace('/', '-').replace(':', '-')}.tar"


def _run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    prepare(Lab("image", "10.77.5"))
