"""rotate.yml: nothing happens unasked; what is renewed serves at once, the old is refused."""

import base64
import re

import pytest
from testinfra.host import Host

from tests.appliance.conftest import Appliance


def secrets(appliance: Appliance) -> dict[str, bytes]:
    """Content of the operator's secrets, by name."""
    folder = appliance.inventory.parent / "secrets"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def certificates(appliance: Appliance) -> list[str]:
    return [str(host.file("/etc/cbm/tls/host.crt").sha256sum) for host in appliance.hosts("common")]


def test_without_a_yes_it_says_what_it_would_do_and_does_nothing(appliance: Appliance) -> None:
    before = secrets(appliance), certificates(appliance)
    output = appliance.play("rotate.yml")
    assert "a new key and certificate for every host" in output
    assert "new join tokens of the swarm" in output
    assert "add -e yes=true" in output
    assert set(re.findall(r"changed=(\d+)", output)) == {"0"}
    assert (secrets(appliance), certificates(appliance)) == before


def test_an_unknown_choice_is_refused_with_those_there_are(appliance: Appliance) -> None:
    before = secrets(appliance)
    with pytest.raises(AssertionError, match="takes certificates, passwords, registry, tokens"):
        appliance.play("rotate.yml", "--extra-vars", "rotate=everything yes=true")
    assert secrets(appliance) == before


def token(manager: Host) -> str:
    return manager.check_output("docker swarm join-token --quiet worker")


def answers(manager: Host, registry: str, password: str) -> str:
    """The registry's status for a login, without a password in the list of processes."""
    login = base64.b64encode(f"cbm:{password}".encode()).decode()
    return manager.check_output(
        f"printf 'header = \"Authorization: Basic {login}\"' | "
        f"curl --silent --config - --output /dev/null --write-out '%{{http_code}}' https://{registry}:5000/v2/"
    )


@pytest.mark.full
def test_all_is_renewed_and_the_appliance_serves_on(appliance: Appliance) -> None:
    manager, name = appliance.host("registry"), appliance.names("registry")[0]
    before, certified, joined = secrets(appliance), certificates(appliance), token(manager)
    appliance.play("rotate.yml", "--extra-vars", "yes=true")
    now = secrets(appliance)
    renewed = {"registry", *(f"database_{it}" for it in ("owner", "worker", "api", "analyst"))}
    assert {secret for secret in before if now.get(secret) != before[secret]} >= renewed
    assert now["authority.key"] == before["authority.key"]
    assert not set(certificates(appliance)) & set(certified)
    assert token(manager) != joined
    assert answers(manager, name, before["registry"].decode().strip()) == "401"
    assert answers(manager, name, now["registry"].decode().strip()) == "200"
    appliance.play("verify.yml")
