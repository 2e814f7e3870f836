"""Commands on a stack's hosts, by ssh as the operator logs in."""

import subprocess
from pathlib import Path

from infra.errors import InfraError
from infra.inventory import list_groups


def ssh_login(folder: Path, host: str) -> list[str]:
    """The beginning of a command that runs on a host.

    Args:
        folder: of the stack's inventory, such as inventory/nl; its ssh_config says how to log in.
        host: by its name there.
    """
    return ["ssh", "-F", str(folder / "ssh_config"), "-o", "BatchMode=yes", host]


def run_remotely(
    folder: Path, group: str, command: str, stdin: str, timeout_s: float, failure: str
) -> str:
    """What a shell's command prints on the first host of a group.

    Args:
        folder: of the stack's inventory, such as inventory/nl.
        group: of its hosts.yml.
        command: for the host's shell.
        stdin: for the command.
        timeout_s: how long it may take.
        failure: what it means if the command fails, for the error.

    Raises:
        InfraError: the group has no host, or the command fails there, or takes longer.
    """
    host = next(iter(list_groups(folder).get(group, ())), None)
    if host is None:
        raise InfraError(f"{folder}/hosts.yml has no host in group {group}")
    try:
        ran = subprocess.run(  # noqa: S603 - ssh, no shell of ours
            [*ssh_login(folder, host), command],
            input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"{host}: no answer within {timeout_s:g} s") from error
    if ran.returncode != 0:
        raise InfraError(f"{host}: {failure}: {ran.stderr.strip()}")
    return ran.stdout
