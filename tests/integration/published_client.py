"""The predecessor's published client, in an environment of its own."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration import filled_api

api, filled = filled_api.api, filled_api.filled

ROOT = Path(__file__).resolve().parents[2]

LOCK = ROOT / "requirements" / "client-cbm.lock"

HOME = ROOT / ".test" / "client-cbm"

UV = Path(sys.executable).with_name("uv")

ANSWER_ALL = """
import json, sys
import cbm
cbm.set_api_account(sys.argv[1], "ann", "right-word")
for line in sys.stdin:
    request = json.loads(line)
    function = cbm.get
    for name in request["function"].split("."):
        function = getattr(function, name)
    answer = function(*request["args"], **request["kwargs"])
    answer = answer.decode() if isinstance(answer, bytes) else answer
    print("\\nANSWER", json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of an environment that holds the client; built once per lock file."""
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    stamp, python = HOME / "stamp", HOME / "venv" / "bin" / "python"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        HOME.mkdir(parents=True, exist_ok=True)
        run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, HOME / "venv")
        run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes",
            "--only-binary", ":all:", "--requirement", LOCK)  # fmt: skip
        stamp.write_text(wanted)
    return python


def run(*command) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the client works and saves."""
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def client(python, api, folder) -> Iterator[Callable]:
    """Calls one of the client's `get` functions, in a process of the client's own."""
    command = [python, "-W", "ignore", "-c", ANSWER_ALL, api.url]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log,
        )  # fmt: skip

    def call(function: str, *args, **kwargs):
        request = {"function": function, "args": args, "kwargs": kwargs}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise AssertionError((folder / "log").read_text())

    yield call
    process.stdin.close()
    process.wait(30)
