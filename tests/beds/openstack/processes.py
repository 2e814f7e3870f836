"""The bed's processes: started apart from their starter, found again by pid and start time."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.beds.openstack.places import (
    APIS,
    BIN,
    EPMD_PORT,
    ETC,
    HERE,
    HOME,
    LAB,
    LAB_CACHE,
    LOG,
    LOOPBACK,
    PROXY_PORT,
    RABBIT_PORT,
    RUN,
    STATE,
    SWIFT,
    conf,
    environment,
    proxy_address,
)

BASE = ("mariadb", "epmd", "rabbit")
DAEMONS = {  # name: what it logs when it is ready; nova-compute last, for it needs the conductor
    "nova-conductor": "Starting conductor node",
    "nova-scheduler": "Starting scheduler node",
    "cinder-scheduler": "Starting cinder-scheduler node",
    "cinder-volume": "Driver initialization completed",
    **{f"swift-{name}": "" for name in SWIFT},
    "nova-compute": "Starting compute node",
}
HOSTS_DAEMONS = {"wiring": "ready", "proxy": "", "nova-compute-hosts": "Starting compute node"}
READY = DAEMONS | HOSTS_DAEMONS
MODULES = {"nova": "nova.wsgi.osapi_compute"}  # of the others it is NAME.wsgi.api
THREADS = {"nova": 8, "neutron": 8, "cinder": 8}  # more processes than one were no faster


class BedError(Exception):
    """The bed failed; the message names the log with the reason."""


@dataclass(frozen=True)
class Process:
    """What to start, and where it listens once it is there: a port, a socket's path, or nothing."""

    argv: list[str]
    listens: int | str | None = None
    env: dict[str, str] = field(default_factory=dict)


def table() -> dict[str, Process]:
    """Every process of the bed by name, in start order."""
    processes = {
        "mariadb": Process(
            ["/usr/sbin/mariadbd", f"--defaults-file={ETC}/my.cnf"], f"{RUN}/mysqld.sock"
        ),
        "epmd": Process(["epmd", "-address", LOOPBACK, "-port", str(EPMD_PORT)], EPMD_PORT),
        "rabbit": Process(["/usr/lib/rabbitmq/bin/rabbitmq-server"], RABBIT_PORT, _rabbit()),
    }
    processes |= {f"{name}-api": _api(name) for name in APIS}
    for name, port in SWIFT.items():
        server = [f"{BIN}/swift-{name}-server", f"{ETC}/swift/{name}.conf"]
        processes[f"swift-{name}"] = Process(server, port)
    for name in (name for name in DAEMONS if name not in processes):
        file = ETC / "nova/nova-compute.conf"
        file = file if name == "nova-compute" else conf(name.split("-", maxsplit=1)[0])
        processes[name] = Process([name, "--config-file", str(file)])
    processes["wiring"] = Process([f"{BIN}/python", f"{HERE}/localcloud/wiring.py"])
    processes["proxy"] = Process(
        [
            *(sys.executable, f"{LAB}/proxy.py"),
            *(proxy_address(), str(PROXY_PORT), f"{LAB_CACHE}/debs"),
        ]
    )
    processes["nova-compute-hosts"] = Process(
        ["nova-compute", "--config-file", f"{ETC}/nova/nova-compute-hosts.conf"]
    )
    return processes


def _api(name: str) -> Process:
    module = MODULES.get(name, f"{name}.wsgi.api")
    arguments = {
        "--http-socket": f"{LOOPBACK}:{APIS[name]}",
        "--module": f"{module}:application",
        "--pyargv": f"--config-file {conf(name)}" if name == "cinder" else "",
        "--threads": str(THREADS.get(name, 4)),
        "--buffer-size": "65535",
        "--add-header": "Connection: close",
        "--listen": "100",
        "--procname": f"{name}-api",
    }
    switches = ["--enable-threads", "--need-app", "--die-on-term", "--http-chunked-input"]
    switches += ["--http-raw-body", "--log-4xx", "--log-5xx", "--disable-logging"]
    flat = [word for pair in arguments.items() for word in pair]
    return Process(["uwsgi", *flat, *switches], APIS[name])


def _rabbit() -> dict[str, str]:
    """RabbitMQ's settings, which keep all its ports on loopback and its threads asleep."""
    return {
        "RABBITMQ_NODENAME": "openstack@localhost",
        "RABBITMQ_CONFIG_FILE": f"{ETC}/rabbitmq.conf",
        "RABBITMQ_MNESIA_BASE": f"{STATE}/rabbit",
        "RABBITMQ_LOG_BASE": str(LOG),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{ETC}/rabbit-plugins",
        "RABBITMQ_DIST_PORT": "25672",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_IO_THREAD_POOL_SIZE": "8",
        "HOME": f"{STATE}/rabbit",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"
        " +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(EPMD_PORT),
    }


def _stat(number: int | str) -> list[str]:
    """/proc/PID/stat from the state on: [0] state, [3] session, [19] start time."""
    return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()


def pid(name: str) -> int:
    """The pid of a process of the bed that still runs, or 0."""
    try:
        number, started = (RUN / f"{name}.pid").read_text().split()
        stat = _stat(number)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0
    return int(number) if stat[19] == started and stat[0] != "Z" else 0


def start(*names: str) -> None:
    """Start those that do not run; their last log is kept as NAME.log.1."""
    processes = table()
    for name in (name for name in names if not pid(name)):
        log = LOG / f"{name}.log"
        if log.exists():
            log.rename(f"{log}.1")
        with log.open("ab") as out:
            started = subprocess.Popen(
                processes[name].argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=HOME,
                start_new_session=True,
                env=environment() | processes[name].env,
            )
        (RUN / f"{name}.pid").write_text(f"{started.pid} {_stat(started.pid)[19]}")


def wait(*names: str, limit_s: float = 300) -> None:
    """Until all of them do their duty.

    Raises:
        BedError: one of them ended, or is not ready in time.
    """
    processes, end = table(), time.time() + limit_s
    for name in names:
        while not _ready(name, processes[name].listens):
            if not pid(name) or time.time() > end:
                raise BedError(f"{name} did not start, see {LOG}/{name}.log")
            time.sleep(0.1)


def _ready(name: str, listens: int | str | None) -> bool:
    if listens:
        return _answers(listens)
    return READY[name] in (LOG / f"{name}.log").read_text()


def _answers(where: int | str) -> bool:
    """It listens; an API also answers, for its port is open long before the service is loaded."""
    unix = isinstance(where, str)
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as client:
        client.settimeout(60)
        if client.connect_ex(where if unix else (LOOPBACK, where)):
            return False
        if where not in APIS.values():
            return True
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            return bool(client.recv(1))
        except OSError:
            return False


def session(number: int) -> list[int]:
    """Every process of the session that `start` opened for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(_stat(folder.name)[3]) == number:
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def stop(*names: str) -> None:
    """End them and what they started: first by asking, then by force."""
    left = {name: pid(name) for name in names if pid(name)}
    for number in left.values():
        os.kill(number, signal.SIGTERM)
    end = time.time() + (60 if "mariadb" in left else 5)
    while time.time() < end and any(pid(name) for name in left):
        time.sleep(0.1)
    for name, number in left.items():
        for member in session(number):
            _kill(member)
        (RUN / f"{name}.pid").unlink(missing_ok=True)


def _kill(number: int) -> None:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return
