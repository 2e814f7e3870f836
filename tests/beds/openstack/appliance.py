"""A whole appliance on the bed, stood up as an operator would: `make appliance`.

The small example with two workers, on real hosts (zone `hosts`), as stack `bed` of the checkout.
What the bed cannot do is said in inventory/bed/group_vars/all.yml, as an operator would.

    python -m tests.beds.openstack.appliance rebuild
    python -m tests.beds.openstack.appliance run fab scale --stack bed --workers 3

take it down but for its kept volumes, stand it up around them and compare all data; and run any
command as the stack's operator.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openstack
import openstack.config
import yaml

from infra.cloud import remove, survey
from tests.beds.hosts.inventory import BED
from tests.beds.openstack.places import CLOUDS, PROXY_PORT, proxy_address

ROOT = Path(__file__).resolve().parents[3]
TOOLS = Path(os.environ.get("PULUMI_PREFIX", "/opt/pulumi"), "bin")
STACK, PROJECT = "bed", "iac"
PARCELS = 300
FOLDER = ROOT / "build" / STACK
KEY = FOLDER / "id_ed25519"
SETTINGS = ROOT / f"Pulumi.{STACK}.yaml"
VARIABLES = ROOT / "inventory" / STACK / "group_vars" / "all.yml"


def up() -> None:
    """Servers, volumes and networks; roles; data; one query over TLS."""
    _prepare()
    _run("pulumi", "stack", "select", "--create", STACK)
    _run("fab", "appliance", "--stack", STACK)


def rebuild() -> None:
    """Down, but for the kept volumes, and up again: the same rows, and a query over TLS."""
    before = _digests()
    _run("fab", "destroy", "--stack", STACK, "--yes")
    began = time.monotonic()
    _run("fab", "up", "--stack", STACK)
    _run("fab", "play", "site", "--stack", STACK)
    took_s, after = time.monotonic() - began, _digests()
    changed = sorted(table for table in before if after.get(table) != before[table])
    if changed or not before:
        sys.exit(f"other rows than before in: {', '.join(changed) or 'nothing was there'}")
    rows = sum(table["rows"] for table in before.values())
    print(f"stood up again in {took_s:.0f} s: {rows} rows in {len(before)} tables, all as before")
    _run("fab", "play", "demo", "--stack", STACK)


def destroy() -> None:
    """All of it, its kept volumes and what it wrote into the checkout as well."""
    _run("fab", "destroy", "--stack", STACK, "--yes")
    clouds = openstack.config.OpenStackConfig(config_files=[str(CLOUDS)])
    cloud = openstack.connection.Connection(config=clouds.get_one(PROJECT))
    remove(cloud, [thing for thing in survey(cloud) if thing.belongs(STACK)])
    _run("pulumi", "stack", "rm", STACK, "--yes", "--preserve-config")
    SETTINGS.unlink(missing_ok=True)
    for folder in (FOLDER, VARIABLES.parents[1]):
        shutil.rmtree(folder, ignore_errors=True)


def _digests() -> dict[str, dict[str, int]]:
    """Rows and a digest of each table of the demo, and of the catalogue."""
    fingerprint = "sudo runuser -u postgres -- /usr/local/sbin/cbm-backup fingerprint"
    config, host = f"inventory/{STACK}/ssh_config", f"cbm-{STACK}-database"
    said = _run("ssh", "-F", config, host, f"cd / && {fingerprint}", stdout=subprocess.PIPE).stdout
    tables = json.loads(said)["tables"]
    ours = ("demo.", "public.scene", "public.work")
    return {name: table for name, table in tables.items() if name.startswith(ours)}


def _prepare() -> None:
    (FOLDER / "state").mkdir(parents=True, exist_ok=True)
    if not KEY.exists():
        make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", STACK, "-f", str(KEY)]
        subprocess.run(make_key, check=True)
    example = yaml.safe_load((ROOT / "Pulumi.small.yaml").read_text())["config"]
    hosts = example["cbm:hosts"]
    hosts["manager"]["kinds"] = ["manager"]
    hosts["worker"] = {"kinds": ["worker"], "flavor": "eo1.small", "count": 2}
    own = {
        "cbm:availability_zone": "hosts",
        "cbm:operators": [f"{proxy_address()}/32"],
        "cbm:public_key": KEY.with_suffix(".pub").read_text().strip(),
        "cbm:hosts": hosts,
        "cbm:volumes": example["cbm:volumes"] | {"cache": {"size_gb": 2, "type": "ssd"}},
    }
    salted = yaml.safe_load(SETTINGS.read_text()) if SETTINGS.exists() else {}
    SETTINGS.write_text(yaml.safe_dump(salted | {"config": example | own}))
    VARIABLES.parent.mkdir(parents=True, exist_ok=True)
    VARIABLES.write_text(f"---\n{yaml.safe_dump(_variables())}")


def _variables() -> dict[str, object]:
    proxy = f"http://{proxy_address()}:{PROXY_PORT}"
    limits = {name: value for name, value in BED.items() if name != "postgis_memory_mb"}
    return limits | {
        "common_ssh_from": [proxy_address()],
        "demo_parcels": PARCELS,
        "registry_build_arguments": {"http_proxy": proxy, "https_proxy": proxy},
    }


def _run(*command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {
        "PATH": f"{TOOLS}:{ROOT / '.venv/bin'}:{os.environ['PATH']}",
        "OS_CLIENT_CONFIG_FILE": str(CLOUDS),
        "OS_CLOUD": PROJECT,
        "PULUMI_BACKEND_URL": f"file://{FOLDER / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": STACK,
        "PULUMI_SKIP_UPDATE_CHECK": "1",
    }
    with _agent() as socket:
        environment |= {"SSH_AUTH_SOCK": socket}
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, **options)


@contextmanager
def _agent() -> Iterator[str]:
    """An ssh agent that holds the key, as an operator's does."""
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True)
    told = dict(part.split("=", 1) for part in started.stdout.split(";") if "=" in part)
    told = {name.strip(): value for name, value in told.items()}
    environment = os.environ | told
    try:
        if KEY.exists():
            subprocess.run(["ssh-add", "-q", str(KEY)], env=environment, check=True)
        yield told["SSH_AUTH_SOCK"]
    finally:
        subprocess.run(["ssh-agent", "-k"], env=environment, stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    try:
        {"up": up, "rebuild": rebuild, "destroy": destroy, "run": _run}[sys.argv[1]](*sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[0]} failed as said above")
