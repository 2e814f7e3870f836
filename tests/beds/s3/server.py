"""A real S3 server for tests: OpenStack Swift with s3api, as plain processes on loopback."""

import fcntl
import getpass
import hashlib
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import boto3

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LOCK = ROOT / "requirements" / "bed-s3.lock"
HOME = ROOT / ".test" / "s3"
ACCESS_KEY = "cbm:bed"
SECRET_KEY = "bed-secret"
REGION = "us-east-1"
STORAGE = ("account", "container", "object")
START_S = 60


class BedError(Exception):
    """The bed cannot be built or does not start."""


@dataclass(frozen=True)
class Endpoint:
    """One way to reach the server.

    Attributes:
        url: http or https address, without a path.
        access_key: whose secret is secret_key.
        secret_key: its secret.
        ca_file: the authority that signed the server's certificate; None for plain HTTP.
    """

    url: str
    access_key: str
    secret_key: str
    ca_file: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        """The settings that boto3 and our programs read from the environment."""
        ca = {"AWS_CA_BUNDLE": str(self.ca_file)} if self.ca_file else {}
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            **ca,
        }


@dataclass
class S3Server:
    """Swift's processes and the two doors to them.

    Attributes:
        folder: configuration, rings, data and logs; gone after stop().
        http: the plain door.
        https: the door over TLS, under a throwaway authority.
    """

    folder: Path
    http: Endpoint
    https: Endpoint
    _ports: dict[str, int]
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def new_bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bed-{secrets.token_hex(6)}"
        boto3.client(
            "s3",
            endpoint_url=self.http.url,
            aws_access_key_id=self.http.access_key,
            aws_secret_access_key=self.http.secret_key,
            region_name=REGION,
        ).create_bucket(Bucket=name)
        return name

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Take servers down for a while: account, container, object, http or https."""
        for name in names:
            self._stop(name)
        try:
            yield
        finally:
            self._launch(names)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Let a server accept connections but never answer."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _launch(self, names: tuple[str, ...]) -> None:
        for name in names:
            self._processes[name] = _spawn(self.folder, name)
        for name in names:
            self._await(name)

    def _stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + START_S
        while not _healthy(name, self._ports[name]):
            if self._processes[name].poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{name}.log").read_text()[-2000:]
                raise BedError(f"Swift's {name} server did not start:\n{log}")
            time.sleep(0.05)


def start() -> S3Server:
    """Build what is missing, lay a fresh empty store, start it and wait until it answers.

    Raises:
        BedError: it cannot be built or does not start; the message says why.
    """
    _build_venv()
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=HOME))
    names = (*STORAGE, "http", "https")
    server = _describe(folder, dict(zip(names, _free_ports(len(names)), strict=True)))
    try:
        _lay(folder, server._ports)
        server._launch(names)
    except BaseException:
        stop(server)
        raise
    return server


def stop(server: S3Server) -> None:
    """End its processes and remove its folder."""
    for name in list(server._processes):
        server._stop(name)
    shutil.rmtree(server.folder, ignore_errors=True)


@contextmanager
def running() -> Iterator[S3Server]:
    """A server for the length of a with block."""
    server = start()
    try:
        yield server
    finally:
        stop(server)


def _describe(folder: Path, ports: dict[str, int]) -> S3Server:
    keys = (ACCESS_KEY, SECRET_KEY)
    http = Endpoint(f"http://127.0.0.1:{ports['http']}", *keys)
    https = Endpoint(f"https://127.0.0.1:{ports['https']}", *keys, ca_file=folder / "ca.pem")
    return S3Server(folder, http, https, ports)


def _build_venv() -> None:
    """Install Swift into its own venv, once per lock file; parallel test runs wait here."""
    HOME.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    stamp = HOME / "venv" / "lock.sha256"
    with ExitStack() as stack:
        if not stamp.exists() or stamp.read_text() != wanted:
            lock = stack.enter_context((HOME / "build.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        _run(sys.executable, "-m", "venv", "--clear", HOME / "venv")
        _run(HOME / "venv/bin/pip", "install", "--quiet", "--require-hashes", "-r", LOCK)
        stamp.write_text(wanted)


def _sweep() -> None:
    """Remove the folders of test runs that were killed."""
    for folder in HOME.glob("run-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _lay(folder: Path, ports: dict[str, int]) -> None:
    """Write configuration, rings, certificates and the empty device."""
    (folder / "devices" / "disk").mkdir(parents=True)
    shutil.copy(HERE / "swift.conf", folder)
    common = {"user": getpass.getuser(), "folder": folder, "secret": SECRET_KEY}
    cert = f"cert_file = {folder}/server.pem\nkey_file = {folder}/server.key"
    for name, port in ports.items():
        template = "storage.conf" if name in STORAGE else "proxy.conf"
        text = Template((HERE / template).read_text()).substitute(
            common, port=port, kind=name, tls=cert if name == "https" else ""
        )
        (folder / f"{name}.conf").write_text(text)
    _run(
        HOME / "venv/bin/python",
        HERE / "make_rings.py",
        folder,
        *(f"{kind}={ports[kind]}" for kind in STORAGE),
    )
    _make_certificates(folder)


def _make_certificates(folder: Path) -> None:
    def certify(name: str, section: str, *signer: str | Path) -> None:
        _run(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-days",
            "2",
            "-config",
            HERE / "openssl.cnf",
            "-extensions",
            section,
            "-subj",
            f"/O=CbM test bed/CN={name}",
            *signer,
            "-keyout",
            folder / f"{name}.key",
            "-out",
            folder / f"{name}.pem",
        )

    certify("ca", "ca")
    certify("server", "server", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key")


def _spawn(folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start one server; it dies with the process that started it."""
    program = name if name in STORAGE else "proxy"
    with (folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                HOME / f"venv/bin/swift-{program}-server",
                folder / f"{name}.conf",
                "--verbose",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _healthy(name: str, port: int) -> bool:
    scheme, context = (
        ("https", ssl._create_unverified_context()) if name == "https" else ("http", None)
    )
    try:
        with urllib.request.urlopen(
            f"{scheme}://127.0.0.1:{port}/healthcheck", timeout=5, context=context
        ) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
    except FileNotFoundError as error:
        raise BedError(f"{error.filename} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise BedError(f"{command[0]} failed:\n{error.stderr[-2000:]}") from error
