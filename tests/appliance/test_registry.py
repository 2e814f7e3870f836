"""The registry serves members with a login, and what it serves runs without rights."""

import json
import socket

import pytest
from testinfra.host import Host

from tests.appliance.conftest import Appliance

PROGRAMS = {"cbm-card": "card", "cbm-extract": "extraction", "cbm-api": "app"}


@pytest.fixture(scope="module")
def manager(appliance: Appliance) -> Host:
    return appliance.host("registry")


def status(host: Host, registry: str, login: str = "", path: str = "") -> str:
    """What the registry says to a member; the login goes by standard input."""
    config = f"printf 'user = \"{login}\"' | " if login else ""
    accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
    curl = f"curl --silent --output /dev/null --write-out '%{{http_code}}' --header '{accept}'"
    address = f"https://{registry}:5000/v2/{path}"
    return str(host.check_output(f"{config}{curl} {address} {'--config -' if login else ''}"))


def image(manager: Host, program: str) -> str:
    return str(manager.check_output(f"grep -o '[^ ]*@sha256:[0-9a-f]*' /usr/local/bin/{program}"))


def test_registry_needs_a_login(appliance: Appliance, manager: Host) -> None:
    name = appliance.names("registry")[0]
    assert status(manager, name) == "401"
    assert status(manager, name, "cbm:wrong") == "401"
    assert status(manager, name, f"cbm:{appliance.secret('registry')}") == "200"


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
    assert manager.service("docker-registry").is_running
    registry, login = appliance.names("registry")[0], f"cbm:{appliance.secret('registry')}"
    for program in PROGRAMS:
        name, digest = image(manager, program).split("/")[1].split("@")
        assert status(manager, registry, login, f"{name}/manifests/{digest}") == "200"


@pytest.mark.full
def test_images_may_come_from_another_registry(appliance: Appliance, manager: Host) -> None:
    # A folder of our own registry plays the other one.
    registry, login = appliance.names("registry")[0], f"cbm:{appliance.secret('registry')}"
    name, digest = image(manager, "cbm-api").split("@")
    label = '{{index .Config.Labels "org.opencontainers.image.version"}}'
    inspect = f"docker image inspect --format '{label}' {name}@{digest}"
    tag = manager.check_output(inspect)
    there = f"{registry}:5000/upstream/cbm-app:{tag}"
    manager.check_output(f"docker tag {name}@{digest} {there} && docker push --quiet {there}")
    delete = f"curl --silent --fail -X DELETE https://{registry}:5000/v2/cbm-app/manifests/{digest}"
    manager.check_output(f"printf 'user = \"{login}\"' | {delete} --config -")
    assert status(manager, registry, login, f"cbm-app/manifests/{tag}") == "404"
    upstream = f"registry_upstream={registry}:5000/upstream"
    limit = f"{','.join(appliance.names('registry'))},localhost"
    printed = appliance.play("site.yml", "--limit", limit, "--extra-vars", upstream)
    assert "Build the images" not in printed
    assert status(manager, registry, login, f"cbm-app/manifests/{tag}") == "200"
    assert image(manager, "cbm-api") == f"{name}@{digest}"
