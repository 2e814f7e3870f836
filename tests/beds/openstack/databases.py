"""The services' databases, made and migrated."""

from concurrent.futures import ThreadPoolExecutor

from tests.beds.openstack.install import run
from tests.beds.openstack.places import APIS, BIN, ETC, LOOPBACK, RUN, STATE, conf

NAMES = ("keystone", "glance", "placement", "nova", "nova_api", "nova_cell0", "neutron", "cinder")
_EXECUTE = """
import sys, pymysql
cursor = pymysql.connect(unix_socket=sys.argv[1], user="root", autocommit=True).cursor()
for statement in sys.argv[2:]:
    cursor.execute(statement)
"""


def lay() -> None:
    """An empty MariaDB, if there is none yet."""
    if not (STATE / "mysql").exists():
        run(
            "mariadb-install-db",
            f"--defaults-file={ETC}/my.cnf",
            "--user=root",
            f"--datadir={STATE}/mysql",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        )


def migrate() -> None:
    """Every service's tables, and keystone's first user, once in the life of this state."""
    done = STATE / "migrated"
    if done.exists():
        return
    create = [f"CREATE DATABASE IF NOT EXISTS {name}" for name in NAMES]
    run(BIN / "python", "-c", _EXECUTE, RUN / "mysqld.sock", *create)
    with ThreadPoolExecutor() as pool:
        for job in [pool.submit(each) for each in (_neutron, _nova, _keystone, _rest)]:
            job.result()
    done.touch()


def manage(service: str, *arguments: str) -> None:
    """Run a service's own administration command."""
    tool = "neutron-db-manage" if service == "neutron" else f"{service}-manage"
    run(BIN / tool, "--config-file", conf(service), *arguments, log=f"db-{service}")


def _neutron() -> None:
    manage("neutron", "upgrade", "heads")


def _nova() -> None:
    manage("nova", "api_db", "sync")
    manage("nova", "cell_v2", "map_cell0")
    manage("nova", "cell_v2", "create_cell", "--name", "cell1")
    manage("nova", "db", "sync")


def _keystone() -> None:
    manage("keystone", "db_sync")
    for keys in ("fernet_setup", "credential_setup"):
        manage("keystone", keys, "--keystone-user", "root", "--keystone-group", "root")
    address = f"http://{LOOPBACK}:{APIS['keystone']}/v3"
    urls = [
        w for kind in ("public", "internal", "admin") for w in (f"--bootstrap-{kind}-url", address)
    ]
    first = ("--bootstrap-password", "admin", "--bootstrap-region-id", "RegionOne")
    manage("keystone", "bootstrap", *first, *urls)


def _rest() -> None:
    manage("cinder", "db", "sync")
    manage("glance", "db_sync")
    manage("placement", "db", "sync")
