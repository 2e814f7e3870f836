"""Docker's API at the other end of a command, and its answers as tables."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from infra import status
from infra.errors import InfraError

DIGEST = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
IMAGE = f"manager:5000/cbm-extraction@{DIGEST}"
ANSWERS: dict[str, Any] = {
    "nodes": [
        {
            "ID": "n1",
            "CreatedAt": "2026-05-01T10:00:01.123456789Z",
            "Spec": {"Labels": {"cbm.worker": "true"}, "Role": "worker", "Availability": "drain"},
            "Description": {"Hostname": "worker-1", "Engine": {"EngineVersion": "20.10.24"}},
            "Status": {"State": "ready", "Addr": "10.20.0.100"},
        },
    ],
    "services": [
        {
            "ID": "s1",
            "UpdatedAt": "2026-05-02T11:30:00Z",
            "Spec": {
                "Name": "cbm_extraction",
                "Labels": {"cbm.release": "abc123"},
                "Mode": {"Replicated": {"Replicas": 2}},
                "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}},
            },
        },
    ],
    "tasks": [
        {
            "ServiceID": "s1",
            "Slot": 1,
            "NodeID": "n1",
            "Status": {
                "State": "running",
                "Timestamp": "2026-05-02T11:31:00Z",
                "ContainerStatus": {"ContainerID": "0123456789abcdef"},
            },
        },
        {
            "ServiceID": "s1",
            "Slot": 2,
            "Status": {
                "State": "pending",
                "Timestamp": "2026-05-02T11:32:00Z",
                "Err": "no suitable node",
            },
        },
    ],
    "containers/json": [
        {"Names": ["/cbm-api-8000"], "Image": IMAGE, "Status": "Up 2 hours", "Created": 1777777777},
    ],
}

# An engine on standard input and output: each request is answered by the last part of its path.
ENGINE = """
import json, sys
answers = json.loads(sys.argv[1])
for line in sys.stdin.buffer:
    if line.startswith(b"GET "):
        path = line.split()[1].decode().split("?")[0].split("/", 2)[2]
    elif line == b"\\r\\n":
        body = json.dumps(answers[path]).encode()
        head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
        sys.stdout.buffer.write(head.encode() + body)
        sys.stdout.buffer.flush()
"""


@pytest.fixture
def client() -> Any:
    with status.docker_api([sys.executable, "-c", ENGINE, json.dumps(ANSWERS)]) as client:
        yield client


def test_the_swarm_is_shown_with_nodes_images_and_since_when(client: Any) -> None:
    nodes, services, tasks = status.swarm_tables(client, "manager")
    assert nodes.rows == (
        ("worker-1", "worker", "worker", "drain", "ready", "20.10.24", "2026-05-01 10:00"),
    )
    assert services.rows == (
        ("cbm_extraction", "1 of 2", "cbm-extraction@0123456789ab", "abc123", "2026-05-02 11:30"),
    )
    assert tasks.rows == (
        ("cbm_extraction.1", "worker-1", "running", "2026-05-02 11:31", ""),
        ("cbm_extraction.2", "", "pending", "2026-05-02 11:32", "no suitable node"),
    )


def test_a_container_is_placed_on_its_node_and_a_task_without_one_nowhere(client: Any) -> None:
    assert status._task_nodes(client, "manager") == {"0123456789abcdef": "worker-1"}


def test_containers_of_a_host_are_shown_and_columns_are_aligned(client: Any) -> None:
    text = status.format_tables(status.container_tables(client, "api"))
    assert text.splitlines() == [
        "containers on api",
        "  container     image                        state       since",
        "  cbm-api-8000  cbm-extraction@0123456789ab  Up 2 hours  2026-05-03 03:09",
    ]


def test_a_host_that_does_not_answer_is_named_with_what_to_try(tmp_path: Path) -> None:
    hosts = {"all": {"children": {"registry": {"hosts": {"manager": {}}}}}}
    (tmp_path / "hosts.yml").write_text(json.dumps(hosts))
    (tmp_path / "ssh_config").write_text("Host manager\n  HostName 127.0.0.1\n  Port 9\n")
    with pytest.raises(InfraError, match=r"manager: Docker does not answer: .*sudo docker info"):
        status.read_status(tmp_path)


def test_without_an_inventory_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="run `fab inventory --stack"):
        status.read_status(tmp_path)
