"""The example stacks of the project, with changes."""

import copy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIRyXxl7EXyO03f3XTKJALre3ZdHUTqjoRh8HJdzXq54 me"


def example(name: str) -> dict[str, Any]:
    values = yaml.safe_load((ROOT / f"Pulumi.{name}.yaml").read_text())["config"]
    return {key.removeprefix("cbm:"): value for key, value in values.items()} | {"public_key": KEY}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The large example with one value changed; None takes the key out."""
    values = copy.deepcopy(example("nl"))
    *parents, last = path.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[last] = value
    if value is None:
        del place[last]
    return values
