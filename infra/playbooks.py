"""Command lines that run our playbooks on a stack's hosts."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from infra.errors import InfraError
from infra.inventory import FOLDER

PLAYBOOKS = Path("playbooks")


def is_converged(stack: str) -> bool:
    """Whether site.yml has run on this stack: it leaves its secrets beside the inventory."""
    return (FOLDER / stack / "secrets").is_dir()


def playbook_command(
    stack: str,
    playbook: str,
    variables: Sequence[str] = (),
    check: bool = False,
    hosts: str = "hosts.yml",
) -> str:
    """The command line of a playbook, for a shell.

    Args:
        stack: whose hosts; its folder of the inventory is read.
        playbook: its name in playbooks/, without ending.
        variables: NAME=VALUE each, the value as it is: text, also with spaces. No secrets: they
            would show in the list of processes.
        check: change nothing, say what would change.
        hosts: the inventory's file in the stack's folder.

    Raises:
        InfraError: there is no such playbook, the stack has no inventory, or a variable no value.
    """
    path = PLAYBOOKS / f"{playbook}.yml"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in PLAYBOOKS.glob("*.yml")))
        raise InfraError(f"{path} does not exist; there are: {known}")
    inventory = FOLDER / stack / hosts
    if not inventory.exists():
        raise InfraError(f"{inventory} is missing: run `fab inventory --stack {stack}` first")
    words = ["ansible-playbook", "--inventory", str(inventory), str(path)]
    words += ["--check"] if check else []
    for variable in variables:
        name, sign, value = variable.partition("=")
        if not sign:
            raise InfraError(f"variable {variable!r} has no value: give NAME=VALUE")
        words += ["--extra-vars", json.dumps({name: value})]  # Ansible would part words at spaces
    return shlex.join(words)
