"""Playbooks on a stack's hosts, as an operator would call them."""

import shlex
from pathlib import Path

from infra.errors import InfraError
from infra.inventory import FOLDER


def command(
    stack: str, playbook: str, limit: tuple[str, ...] = (), check: bool = False, **variables: str
) -> str:
    """The command line of a playbook.

    Args:
        stack: whose hosts; its folder of the inventory is read.
        playbook: its name in playbooks/, without ending.
        limit: only these hosts.
        check: change nothing, say what would change.
        variables: Ansible's extra variables; empty ones are left out. No secrets: they would show.

    Raises:
        InfraError: the stack has no inventory.
    """
    hosts = FOLDER / stack / "hosts.yml"
    if not hosts.exists():
        raise InfraError(f"{hosts} is not there: run `fab inventory --stack {stack}` first")
    words = ["ansible-playbook", "--inventory", str(hosts), f"playbooks/{playbook}.yml"]
    words += ["--limit", ",".join(limit)] if limit else []
    words += ["--check"] if check else []
    for name, value in variables.items():
        words += ["--extra-vars", f"{name}={shlex.quote(value)}"] if value else []
    return shlex.join(words)


def playbooks() -> list[str]:
    """The playbooks there are, by name."""
    return sorted(path.stem for path in Path("playbooks").glob("*.yml"))
