"""Status of a stack's containers: nodes, services, tasks and images, from Docker's API over ssh."""

import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
import urllib3
from docker.errors import DockerException
from requests.adapters import HTTPAdapter

from infra.errors import InfraError
from infra.inventory import list_groups
from infra.remote import ssh_login

_Answer = TypeVar("_Answer")

API_VERSION = "1.41"
"""Of Docker 20.10, Debian 12's; later engines speak it too."""
TIMEOUT_S = 30


class _CommandConnection(urllib3.connection.HTTPConnection):
    """HTTP over the standard input and output of a command."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__("localhost")
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Start the command."""
        near, far = socket.socketpair()
        near.settimeout(TIMEOUT_S)
        with far:
            self.process = subprocess.Popen(  # noqa: S603 - ssh, no shell
                self.command, stdin=far.fileno(), stdout=far.fileno(), stderr=subprocess.DEVNULL
            )
        self.sock = near

    def close(self) -> None:
        """End the command."""
        super().close()
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


class _CommandPool(urllib3.HTTPConnectionPool):
    """Connections that are commands; the requests of a session come one after the other."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__("localhost", maxsize=1)
        self.command = command

    def _new_conn(self) -> _CommandConnection:
        return _CommandConnection(self.command)


class _CommandAdapter(HTTPAdapter):
    """Sends all requests of a session through a command."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self._pool = _CommandPool(command)

    def get_connection_with_tls_context(self, *_arguments: Any, **_options: Any) -> _CommandPool:
        """The pool, whatever the address of the request."""
        return self._pool

    def close(self) -> None:
        """End the command."""
        self._pool.close()


@contextmanager
def docker_api(command: Sequence[str]) -> Iterator[docker.APIClient]:
    """Docker's API at the other end of a command, such as `docker system dial-stdio`."""
    client = docker.APIClient("http://localhost:80", version=API_VERSION, timeout=TIMEOUT_S)
    client.mount("http://", _CommandAdapter(command))
    try:
        yield client
    finally:
        client.close()


def ssh_command(folder: Path, host: str) -> list[str]:
    """The command that reaches Docker on a host.

    Args:
        folder: of the stack's inventory.
        host: by its name there.
    """
    return [*ssh_login(folder, host), "--", "sudo", "docker", "system", "dial-stdio"]


@dataclass(frozen=True)
class StatusTable:
    """Rows of one kind with their column titles."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_status(folder: Path) -> list[StatusTable]:
    """The nodes, services and tasks of the swarm, and the containers of the API's hosts.

    Args:
        folder: of the stack's inventory, such as inventory/nl.

    Raises:
        InfraError: there is no inventory, or a host does not answer.
    """
    groups = list_groups(folder)
    tables: list[StatusTable] = []
    for host in groups.get("registry", ()):
        tables += _query(folder, host, swarm_tables)
    for host in groups.get("api", ()):
        tables += _query(folder, host, container_tables)
    return tables


def read_task_nodes(folder: Path) -> dict[str, str]:
    """The node of each running container of the swarm, by the container's id.

    Args:
        folder: of the stack's inventory.

    Raises:
        InfraError: there is no inventory, or the manager does not answer.
    """
    nodes: dict[str, str] = {}
    for host in list_groups(folder).get("registry", ()):
        nodes |= _query(folder, host, _task_nodes)
    return nodes


def _task_nodes(client: docker.APIClient, _host: str) -> dict[str, str]:
    names = {node["ID"]: node["Description"]["Hostname"] for node in client.nodes()}
    tasks = client.tasks({"desired-state": ["running", "shutdown"]})
    containers = (
        ((task["Status"].get("ContainerStatus") or {}).get("ContainerID"), task.get("NodeID"))
        for task in tasks
    )
    return {container: names[node] for container, node in containers if container and node in names}


def _query(folder: Path, host: str, query: Callable[[docker.APIClient, str], _Answer]) -> _Answer:
    try:
        with docker_api(ssh_command(folder, host)) as client:
            return query(client, host)
    except (DockerException, requests.RequestException) as error:
        raise InfraError(
            f"{host}: Docker does not answer: {error}; try `ssh -F {folder}/ssh_config {host} "
            "sudo docker info`"
        ) from error


def swarm_tables(client: docker.APIClient, host: str) -> list[StatusTable]:
    """Nodes, services and tasks, as the manager reports them."""
    nodes = client.nodes()
    services = client.services()
    tasks = client.tasks({"desired-state": ["running", "accepted"]}) if services else []
    names = {node["ID"]: node["Description"]["Hostname"] for node in nodes}
    return [
        StatusTable(
            f"nodes of the swarm of {host}",
            ("node", "role", "kinds", "availability", "state", "engine", "since"),
            tuple(sorted(_node_row(node) for node in nodes)),
        ),
        StatusTable(
            "services",
            ("service", "running", "image", "release", "since"),
            tuple(_service_row(service, tasks) for service in services),
        ),
        StatusTable(
            "tasks",
            ("task", "node", "state", "since", "error"),
            tuple(sorted(_task_row(task, services, names) for task in tasks)),
        ),
    ]


def _node_row(node: Mapping[str, Any]) -> tuple[str, ...]:
    spec, description = node["Spec"], node["Description"]
    kinds = sorted(label.removeprefix("cbm.") for label in spec.get("Labels") or {})
    return (
        description["Hostname"],
        spec["Role"],
        ",".join(kinds),
        spec["Availability"],
        node["Status"]["State"],
        description["Engine"]["EngineVersion"],
        _minute(node["CreatedAt"]),
    )


def _service_row(service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    spec = service["Spec"]
    own = [task for task in tasks if task["ServiceID"] == service["ID"]]
    running = sum(task["Status"]["State"] == "running" for task in own)
    wanted = (spec["Mode"].get("Replicated") or {}).get("Replicas", len(own))
    return (
        spec["Name"],
        f"{running} of {wanted}",
        _image(spec["TaskTemplate"]["ContainerSpec"]["Image"]),
        (spec.get("Labels") or {}).get("cbm.release", ""),
        _minute(service["UpdatedAt"]),
    )


def _task_row(
    task: Mapping[str, Any], services: Sequence[Mapping[str, Any]], nodes: Mapping[str, str]
) -> tuple[str, ...]:
    names = {service["ID"]: service["Spec"]["Name"] for service in services}
    status = task["Status"]
    return (
        f"{names.get(task['ServiceID'], task['ServiceID'])}.{task.get('Slot', '')}",
        nodes.get(task.get("NodeID", ""), ""),
        status["State"],
        _minute(status["Timestamp"]),
        status.get("Err", ""),
    )


def container_tables(client: docker.APIClient, host: str) -> list[StatusTable]:
    """The containers of a host, running or not."""
    rows = tuple(
        (
            container["Names"][0].lstrip("/"),
            _image(container["Image"]),
            container["Status"],
            f"{datetime.fromtimestamp(container['Created'], UTC):%Y-%m-%d %H:%M}",
        )
        for container in client.containers(all=True)
    )
    return [
        StatusTable(
            f"containers on {host}", ("container", "image", "state", "since"), tuple(sorted(rows))
        )
    ]


def _image(reference: str) -> str:
    """An image by its name and the first twelve digits of its digest, without the registry."""
    name, _, digest = reference.rpartition("/")[2].partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name


def _minute(timestamp: str) -> str:
    """A timestamp of Docker's (UTC, with nanoseconds) without its seconds."""
    return timestamp[:16].replace("T", " ")


def format_tables(tables: Iterable[StatusTable]) -> str:
    """The tables as text, columns aligned; times are UTC."""
    return "\n\n".join(_format_table(table) for table in tables)


def _format_table(table: StatusTable) -> str:
    lines = [table.columns, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([table.title, *(f"  {line}" for line in text)])
