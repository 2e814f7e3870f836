"""A private PostgreSQL + PostGIS cluster in a folder of ours; no system cluster is ever touched.

The server listens on a free loopback port only, with scram-sha-256 passwords and no Unix socket.
PostgreSQL refuses to run as root: there the server runs as the distribution's account `postgres`,
and where that account cannot reach the folder (a checkout under /root), the data lie under
/var/lib/cbm-standalone, noted in the folder.
"""

import fcntl
import hashlib
import json
import logging
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from store.errors import CbmError, Fault

_log = logging.getLogger(__name__)

_AWAY = Path("/var/lib/cbm-standalone")
_MARKER = "cluster.json"
_START_ATTEMPTS = 5


class ClusterError(CbmError):
    """The private cluster cannot be made, started or used; the message says what to do."""

    fault = Fault.WORLD


@dataclass(frozen=True)
class Cluster:
    """A cluster that was made completely.

    Attributes:
        folder: the folder that the user names; it holds the marker.
        home: folder of the server's account: data, password, log.
        bindir: folder of the PostgreSQL programs of its version.
    """

    folder: Path
    home: Path
    bindir: Path

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.home / "data"

    def port(self) -> int | None:
        """The port the server answers on; None if it does not run."""
        try:
            port = int((self.data / "postmaster.pid").read_text().splitlines()[3])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        ready = _run(self.bindir / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port))
        return port if ready.returncode == 0 else None

    def start(self) -> int:
        """Start the server unless it runs, and return its port.

        The port of last time is taken again if it is free.

        Raises:
            ClusterError: the server does not start; the message holds the end of its log.
        """
        with _locked(self.folder):
            running = self.port()
            return running if running else self._start()

    def _start(self) -> int:
        last_port = self.folder / "port"
        port = int(last_port.read_text()) if last_port.exists() else free_port()
        for attempt in range(_START_ATTEMPTS):
            began = self._log_size()
            result = self._pg_ctl(
                "start", "-w", "-t", "60", "-l", str(self.home / "log"), "-o", f"-p {port}"
            )
            if result.returncode == 0:
                last_port.write_text(f"{port}\n")
                return port
            # The port may be taken; backends of a killed server may need a moment to end.
            port = free_port()
            time.sleep(attempt / 2)
        raise ClusterError(
            f"the private PostgreSQL server in {self.home} does not start: {self._complaint(began)}"
        )

    def stop(self) -> None:
        """Stop the server if it runs; open connections are ended.

        Raises:
            ClusterError: the server does not end.
        """
        with _locked(self.folder):
            result = self._pg_ctl("stop", "-m", "fast", "-w", "-t", "60")
            # It also fails where no server runs, or where a killed one vanishes meanwhile.
            if result.returncode != 0 and self._pg_ctl("status").returncode == 0:
                raise ClusterError(
                    f"the private PostgreSQL server in {self.home} does not stop: "
                    f"{_last_line(result.stderr)}"
                )

    def environment(self, dbname: str = "postgres") -> dict[str, str]:
        """The superuser's connection, as libpq's variables.

        Raises:
            ClusterError: the server does not run.
        """
        port = self.port()
        if port is None:
            raise ClusterError(f"the private PostgreSQL server in {self.folder} does not run")
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "postgres",
            "PGPASSWORD": (self.home / "password").read_text().strip(),
            "PGDATABASE": dbname,
        }

    def _pg_ctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return _run(
            self.bindir / "pg_ctl",
            "-D",
            str(self.data),
            *arguments,
            account=server_account(),
            cwd=self.home,
        )

    def _log_size(self) -> int:
        log = self.home / "log"
        return log.stat().st_size if log.exists() else 0

    def _complaint(self, began: int) -> str:
        lines = (self.home / "log").read_bytes()[began:].decode(errors="replace").splitlines()
        fatal = [line for line in lines if "FATAL" in line or "ERROR" in line]
        return (fatal or lines or ["it wrote no log"])[0]


def make(folder: Path, durable: bool = True) -> Cluster:
    """Make a cluster in a folder, or open the one that is there.

    The marker is written last: data without it are those of an interrupted run, hold nothing,
    and are removed.

    Args:
        folder: made if missing.
        durable: False gives up fsync, for clusters that live as long as a test run.

    Raises:
        ClusterError: PostgreSQL or PostGIS are missing, or initdb fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        cluster = find(folder)
        if cluster:
            return cluster
        bindir = _bindir()
        home = _home(folder)
        if home.exists():
            _log.warning("%s holds a half-made cluster of an interrupted run: it is removed", home)
            shutil.rmtree(home)
        _make_home(home)
        cluster = Cluster(folder, home, bindir)
        _initdb(cluster, durable)
        _write_marker(cluster)
        return cluster


def find(folder: Path) -> Cluster | None:
    """The complete cluster of a folder, or None.

    Raises:
        ClusterError: its data are gone, or no PostgreSQL of their version is installed.
    """
    try:
        home = folder / json.loads((folder / _MARKER).read_text())["home"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise ClusterError(
            f"{folder / _MARKER} is damaged: remove {folder} and start again (make demo-clean)"
        ) from error
    try:
        version = (home / "data" / "PG_VERSION").read_text().strip()
    except FileNotFoundError as error:
        raise ClusterError(
            f"the cluster's data in {home} are gone: remove {folder} and start "
            "again (make demo-clean)"
        ) from error
    return Cluster(folder, home, _bindir(version))


def remove(folder: Path) -> None:
    """Stop the folder's cluster and remove the folder and its data, wherever they lie.

    Raises:
        ClusterError: the server does not end.
    """
    cluster = find(folder) if (folder / _MARKER).exists() else None
    if cluster:
        cluster.stop()
    for path in (cluster.home if cluster else _home(folder), folder):
        if path.exists():
            shutil.rmtree(path)


def free_port() -> int:
    """A loopback TCP port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_account() -> pwd.struct_passwd | None:
    """The account the server runs as when we are root; None stands for ourselves.

    Raises:
        ClusterError: we are root, and the distribution's account is missing.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise ClusterError(
            "PostgreSQL refuses to run as root and there is no account 'postgres': "
            "install the distribution's package postgresql"
        ) from None


def _home(folder: Path) -> Path:
    """Where the server's files lie: in the folder if its account can get there."""
    account = server_account()
    if account is None or _run("test", "-x", str(folder), account=account).returncode == 0:
        return folder / "server"
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    return _AWAY / digest[:12]


def _make_home(home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(mode=0o700)
    if home.is_relative_to(_AWAY):
        _log.warning("the account postgres cannot reach this checkout: the data lie in %s", home)
    if account := server_account():
        os.chown(home, account.pw_uid, account.pw_gid)


def _initdb(cluster: Cluster, durable: bool) -> None:
    password = cluster.home / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    account = server_account()
    if account:
        os.chown(password, account.pw_uid, account.pw_gid)
    result = _run(
        cluster.bindir / "initdb",
        "-D",
        str(cluster.data),
        "--username=postgres",
        "--auth=scram-sha-256",
        f"--pwfile={password}",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        *([] if durable else ["--no-sync"]),
        account=account,
        cwd=cluster.home,
    )
    if result.returncode != 0:
        raise ClusterError(f"initdb failed in {cluster.data}: {_last_line(result.stderr)}")
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.writelines(f"{key} = '{value}'\n" for key, value in _settings(durable).items())


def _settings(durable: bool) -> dict[str, str]:
    """Settings sized for a machine that has other things to do: an eighth of its memory."""
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "60",
        "shared_buffers": f"{min(max(memory_mb // 8, 64), 1024)}MB",
        "effective_cache_size": f"{max(memory_mb // 2, 128)}MB",
        "maintenance_work_mem": f"{min(max(memory_mb // 16, 32), 512)}MB",
        "work_mem": "16MB",
        "max_wal_size": "2GB",
        "checkpoint_completion_target": "0.9",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if not durable:
        settings |= {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
        }
    return settings


def _write_marker(cluster: Cluster) -> None:
    inside = cluster.home.is_relative_to(cluster.folder)
    home = cluster.home.relative_to(cluster.folder) if inside else cluster.home
    half = cluster.folder / f"{_MARKER}.new"
    half.write_text(json.dumps({"home": str(home)}) + "\n")
    half.replace(cluster.folder / _MARKER)


def _bindir(version: str | None = None) -> Path:
    """The programs of an installed PostgreSQL that has PostGIS, of a version or the newest.

    Raises:
        ClusterError: there is none.
    """
    for bindir in _installed():
        share = Path(_run(bindir / "pg_config", "--sharedir").stdout.strip())
        has_postgis = (share / "extension" / "postgis.control").exists()
        if has_postgis and version in (None, _major(bindir)):
            return bindir
    wanted = f"PostgreSQL {version}" if version else "PostgreSQL"
    raise ClusterError(
        f"no {wanted} with PostGIS is installed: install the distribution's "
        "packages postgresql and postgresql-postgis (make setup)"
    )


def _installed() -> list[Path]:
    bindirs = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda path: int(path.parent.name),
        reverse=True,
    )
    if shutil.which("pg_config"):
        bindirs.append(Path(_run("pg_config", "--bindir").stdout.strip()))
    return [
        bindir
        for bindir in bindirs
        if all((bindir / name).exists() for name in ("initdb", "postgres", "pg_config"))
    ]


def _major(bindir: Path) -> str:
    """Such as 15, from "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"."""
    return _run(bindir / "postgres", "--version").stdout.split()[2].split(".")[0]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time makes, starts or stops the cluster of a folder."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(
    program: Path | str,
    *arguments: str,
    account: pwd.struct_passwd | None = None,
    cwd: Path = Path("/"),
) -> "subprocess.CompletedProcess[str]":
    # Without the caller's libpq settings, and in English, so that messages can be read.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    return subprocess.run(  # noqa: S603 - fixed programs, no shell
        [str(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=env | {"LC_ALL": "C.UTF-8"},
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
