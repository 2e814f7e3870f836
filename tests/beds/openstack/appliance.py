"""A whole appliance on the bed, stood up as an operator would: `make appliance`.

The small example with two workers, on real hosts (zone `hosts`), as stack `bed` of the checkout.
What the bed cannot do is output in inventory/bed/group_vars/all.yml, as an operator would.

    python -m tests.beds.openstack.appliance rebuild
    python -m tests.beds.openstack.appliance run fab scale --stack bed --workers 3

take it down but for its kept volumes, stand it up around them and compare all data; and run any
command as the stack's operator.
"""

import json
import shlex
import subprocess
import sys
import time

import yaml

from infra.cloud import remove
from tests.beds.hosts.inventory import BED
from tests.beds.openstack.desk import ROOT, STACK, OperatorDesk
from tests.beds.openstack.places import EODATA, PROXY_PORT, proxy_address
from tests.printed import command

PARCELS = 300
DESK = OperatorDesk()


def up() -> None:
    """Servers, volumes and networks; roles; data; one query over TLS."""
    prepare()
    DESK.fab("appliance")


def rebuild() -> None:
    """Down, but for the kept volumes, and up again: the same rows, and a query over TLS."""
    before = digests()
    DESK.fab("destroy", "--yes")
    began = time.monotonic()
    DESK.fab("up")
    DESK.run(*shlex.split(command("README.md", "fab play site", STACK)))
    took_s, after = time.monotonic() - began, digests()
    changed = sorted(table for table in before if after.get(table) != before[table])
    if changed or not before:
        sys.exit(f"other rows than before in: {', '.join(changed) or 'nothing was there'}")
    rows = sum(table["rows"] for table in before.values())
    print(f"stood up again in {took_s:.0f} s: {rows} rows in {len(before)} tables, all as before")
    DESK.play("demo")


def destroy(desk: OperatorDesk = DESK) -> None:
    """All of it, its kept volumes and what it wrote into the checkout as well."""
    desk.fab("destroy", "--yes")
    remove(desk.connect(), desk.resources())
    desk.run("pulumi", "stack", "rm", STACK, "--yes", "--preserve-config")
    desk.clear()


def digests() -> dict[str, dict[str, int]]:
    """Rows and a digest of each table of the demo, and of the catalogue."""
    fingerprint = "cd / && runuser -u postgres -- /usr/local/sbin/cbm-backup fingerprint"
    tables = json.loads(DESK.on_host("database", fingerprint))["tables"]
    ours = ("demo.", "public.scene", "public.work")
    return {name: table for name, table in tables.items() if name.startswith(ours)}


def prepare(parcels: int = PARCELS) -> None:
    """The stack with its settings and variables, and an archive with the scenes of so many parcels.

    Args:
        parcels: to synthesize.
    """
    DESK.make_key()
    example = yaml.safe_load((ROOT / "Pulumi.small.yaml").read_text())["config"]
    hosts = example["cbm:hosts"]
    hosts["manager"]["kinds"] = ["manager"]
    hosts["worker"] = {"kinds": ["worker"], "flavor": "eo1.medium", "count": 2}
    own = {
        "cbm:availability_zone": "hosts",
        "cbm:operators": [f"{proxy_address()}/32"],
        "cbm:public_key": DESK.key.with_suffix(".pub").read_text().strip(),
        "cbm:hosts": hosts,
        "cbm:volumes": example["cbm:volumes"] | {"cache": {"size_gb": 2, "type": "ssd"}},
    }
    salted = yaml.safe_load(DESK.settings.read_text()) if DESK.settings.exists() else {}
    DESK.settings.write_text(yaml.safe_dump(salted | {"config": example | own}))
    proxy = f"http://{proxy_address()}:{PROXY_PORT}"
    limits = {name: value for name, value in BED.items() if name != "postgis_memory_mb"}
    limits["common_ssh_from"] = [proxy_address()]
    limits["demo_parcels"] = parcels
    limits["registry_build_arguments"] = {"http_proxy": proxy, "https_proxy": proxy}
    DESK.set_variables(limits)
    lay_archive(parcels)
    DESK.run("pulumi", "stack", "select", "--create", STACK)


def lay_archive(parcels: int) -> None:
    """Lay a synthetic Member State where the provider keeps scenes, and the demo takes it from."""
    state, link = EODATA / "demo", DESK.inventory / "demo"
    EODATA.mkdir(exist_ok=True)
    DESK.run("cbm-standalone", "synthesize", str(state), f"--parcels={parcels}")
    (state / "scenes.tar").unlink(missing_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(state)


if __name__ == "__main__":
    try:
        tasks = {"up": up, "rebuild": rebuild, "destroy": destroy, "run": DESK.run}
        tasks[sys.argv[1]](*sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[0]} failed as output above")
