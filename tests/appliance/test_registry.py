"""The registry serves members with a login, and what it serves runs without rights."""

import json
import socket
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from tests.appliance.conftest import Appliance

PROGRAMS = {"cbm-card": "card", "cbm-extract": "extraction", "cbm-api": "app"}


@pytest.fixture(scope="module")
def manager(appliance: Appliance) -> Host:
    return appliance.host("registry")


def status(host: Host, registry: str, login: str = "", path: str = "", method: str = "GET") -> str:
    """What the registry says to a member; the login goes by standard input."""
    config = f"printf 'user = \"{login}\"' | " if login else ""
    accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
    curl = f"curl --silent --output /dev/null --write-out '%{{http_code}}' --header '{accept}'"
    address = f"--request {method} https://{registry}:5000/v2/{path}"
    return str(host.check_output(f"{config}{curl} {address} {'--config -' if login else ''}"))


def image(manager: Host, program: str) -> str:
    return str(manager.check_output(f"grep -o '[^ ]*@sha256:[0-9a-f]*' /usr/local/bin/{program}"))


def test_registry_needs_a_login(appliance: Appliance, manager: Host) -> None:
    name = appliance.names("registry")[0]
    assert status(manager, name) == "401"
    assert status(manager, name, "cbm:wrong") == "401"
    assert status(manager, name, f"cbm:{appliance.secret('registry')}") == "200"


def test_the_login_of_members_brings_nothing_in_and_removes_nothing(
    appliance: Appliance, manager: Host
) -> None:
    worker, registry = appliance.host("swarm"), appliance.names("registry")[0]
    login = f"cbm:{appliance.secret('registry')}"
    name, digest = image(manager, "cbm-api").split("/")[1].split("@")
    for method, path in (
        ("POST", f"{name}/blobs/uploads/"),
        ("PUT", f"{name}/manifests/another"),
        ("DELETE", f"{name}/manifests/{digest}"),
    ):
        assert status(worker, registry, login, path, method) == "405", path
    assert status(worker, registry, login, f"{name}/manifests/{digest}") == "200"


@pytest.fixture
def open_to_root(manager: Host) -> Iterator[Host]:
    """While the registry runs that images come in by."""
    manager.check_output("systemctl start cbm-registry-push")
    yield manager
    manager.check_output("systemctl stop cbm-registry-push")


def test_images_come_in_by_root_of_the_manager_alone(manager: Host, open_to_root: Host) -> None:
    ask = "curl -s -o /dev/null http://127.0.0.1:5001/v2/"
    assert open_to_root.run(ask).rc == 0
    assert open_to_root.run(f"runuser -u nobody -- {ask}").rc == 7
    # What an upload needs is not cleared away under it.
    manager.check_output("systemctl start cbm-registry-retire")
    assert manager.service("cbm-registry-push").is_running
    ended = "systemctl show --property=Result --value cbm-registry-retire"
    assert manager.check_output(ended) == "exec-condition"


def test_no_way_in_for_images_is_open_when_none_come(manager: Host) -> None:
    assert not manager.service("cbm-registry-push").is_running
    assert manager.run("curl -s http://127.0.0.1:5001/v2/").rc == 7


def test_registry_is_closed_to_strangers(appliance: Appliance) -> None:
    address = str(appliance.variables(appliance.names("registry")[0])["ansible_host"])
    with pytest.raises(TimeoutError):
        socket.create_connection((address, 5000), timeout=3)


def test_passwords_are_kept_as_bcrypt(manager: Host) -> None:
    file = manager.file("/etc/docker/registry/htpasswd")
    assert file.content_string.startswith("cbm:$2")
    assert file.mode == 0o640


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs_unprivileged_from_a_digest(manager: Host, program: str) -> None:
    name, scratch = image(manager, program), "--tmpfs /tmp --env NUMBA_CACHE_DIR=/tmp"
    assert f"/cbm-{PROGRAMS[program]}@sha256:" in name
    assert manager.check_output(f"docker run --rm --read-only {scratch} {name} --help").startswith(
        "Usage"
    )
    inspected = json.loads(manager.check_output(f"docker image inspect {name}"))
    assert inspected[0]["Config"]["User"] == "10001:10001"


@pytest.mark.parametrize("program", PROGRAMS)
def test_image_has_no_tools_to_build_with(manager: Host, program: str) -> None:
    find = "import shutil; print([t for t in ('pip', 'gcc', 'git', 'curl') if shutil.which(t)])"
    run = f"docker run --rm --entrypoint python {image(manager, program)}"
    assert manager.check_output(f'{run} -c "{find}"') == "[]"


@pytest.mark.parametrize("program", PROGRAMS)
def test_image_tells_no_address_of_its_build(
    appliance: Appliance, manager: Host, program: str
) -> None:
    name = image(manager, program)
    assert "proxy=" not in manager.check_output(f"docker history --no-trunc {name}")
    assert "proxy" not in manager.check_output(f"docker image inspect {name}").lower()


def test_old_releases_are_removed_and_the_present_one_stays(
    appliance: Appliance, manager: Host
) -> None:
    manager.check_output("systemctl start cbm-registry-retire.service")
    ended = "systemctl show --property=Result --value cbm-registry-retire"
    assert manager.check_output(ended) == "success"
    registry, login = appliance.names("registry")[0], f"cbm:{appliance.secret('registry')}"
    for program in PROGRAMS:
        name, digest = image(manager, program).split("/")[1].split("@")
        assert status(manager, registry, login, f"{name}/manifests/{digest}") == "200"


@pytest.mark.full
@pytest.mark.usefixtures("open_to_root")
def test_images_may_come_from_another_registry(appliance: Appliance, manager: Host) -> None:
    # A folder of our own registry plays the other one.
    registry, login = appliance.names("registry")[0], f"cbm:{appliance.secret('registry')}"
    name, digest = image(manager, "cbm-api").split("@")
    label = '{{index .Config.Labels "org.opencontainers.image.version"}}'
    inspect = f"docker image inspect --format '{label}' {name}@{digest}"
    tag = manager.check_output(inspect)
    there = f"127.0.0.1:5001/upstream/cbm-app:{tag}"
    manager.check_output(f"docker tag {name}@{digest} {there} && docker push --quiet {there}")
    delete = "curl --silent --fail -X DELETE http://127.0.0.1:5001/v2/cbm-app/manifests/"
    manager.check_output(f"{delete}{digest}")
    assert status(manager, registry, login, f"cbm-app/manifests/{tag}") == "404"
    upstream = f"registry_upstream={registry}:5000/upstream"
    limit = f"{','.join(appliance.names('registry'))},localhost"
    printed = appliance.play("site.yml", "--limit", limit, "--extra-vars", upstream)
    assert "Build the images" not in printed
    assert status(manager, registry, login, f"cbm-app/manifests/{tag}") == "200"
    assert image(manager, "cbm-api") == f"{name}@{digest}"
