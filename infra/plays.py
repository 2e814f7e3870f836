"""Playbooks on a stack's hosts, as an operator would call them."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from infra.errors import InfraError
from infra.inventory import FOLDER

PLAYBOOKS = Path("playbooks")


def converged(stack: str) -> bool:
    """Whether site.yml has begun with this stack's hosts: it leaves the secrets it made."""
    return (FOLDER / stack / "secrets").is_dir()


def command(stack: str, playbook: str, variables: Sequence[str] = (), check: bool = False) -> str:
    """The command line of a playbook, for a shell.

    Args:
        stack: whose hosts; its folder of the inventory is read.
        playbook: its name in playbooks/, without ending.
        variables: NAME=VALUE each. No secrets: they would show in the list of processes.
        check: change nothing, say what would change.

    Raises:
        InfraError: there is no such playbook, or the stack has no inventory.
    """
    path = PLAYBOOKS / f"{playbook}.yml"
    if not path.exists():
        known = ", ".join(sorted(path.stem for path in PLAYBOOKS.glob("*.yml")))
        raise InfraError(f"{path} is not there; there are: {known}")
    hosts = FOLDER / stack / "hosts.yml"
    if not hosts.exists():
        raise InfraError(f"{hosts} is not there: run `fab inventory --stack {stack}` first")
    words = ["ansible-playbook", "--inventory", str(hosts), str(path)]
    words += ["--check"] if check else []
    for variable in variables:
        words += ["--extra-vars", variable]
    return shlex.join(words)
