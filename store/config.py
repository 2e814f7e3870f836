"""Settings, read from the environment once, in each program's `main()`.

The database is addressed by libpq's own variables (PGHOST, PGDATABASE, PGUSER, PGPASSWORD,
PGSERVICE ...), the object store by AWS_*; what is ours begins with CBM_.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from store.errors import ConfigError

AOI_PATTERN = r"[a-z][a-z0-9]{1,7}"
"""The code of a Member State or region, which is also the name of its schema."""

AOI_IN_ANY_CASE = AOI_PATTERN.replace("a-z", "A-Za-z")
"""The same as users of the API may write it."""

PTYPE_PATTERN = r"[a-z0-9]{0,8}"
"""The name that tells several declarations of one year apart; '' for the only one."""


def _whole(value: Any) -> Any:
    """An int, also from a text such as 20e9."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError("is not a number") from None
    if not number.is_integer():
        raise ValueError("is not a whole number")
    return int(value) if str(value).isdecimal() else int(number)


Whole = Annotated[int, BeforeValidator(_whole)]
"""Field type of a whole number."""


def _words(value: Any) -> Any:
    """The words of a text, between commas or blanks."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


Words = Annotated[frozenset[str], BeforeValidator(_words)]
"""Field type of a set of words."""


def read_variable(env: Mapping[str, str], name: str) -> str:
    """A variable's value, or the content of the file that NAME_FILE names; '' without both.

    Secrets belong into files: everybody who reads /proc of a process reads its environment.

    Raises:
        ConfigError: the file cannot be read.
    """
    if env.get(name) or not env.get(f"{name}_FILE"):
        return env.get(name, "")
    try:
        return Path(env[f"{name}_FILE"]).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}_FILE cannot be used: {error}") from None


class EnvironmentSettings(BaseModel):
    """Base of settings whose fields are environment variables: CBM_ and the field's name.

    A field with another name states it as its alias. CBM_X_FILE names a file with the value.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; a variable that is unset or empty leaves the default.

        Raises:
            ConfigError: a variable has a value that cannot be used.
        """
        names = {
            field.alias or name: field.alias or f"CBM_{name.upper()}"
            for name, field in cls.model_fields.items()
        }
        values = {key: text for key, name in names.items() if (text := read_variable(env, name))}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = names[str(first["loc"][0])]
            reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
            shown = f"={env[name]}" if first["type"] != "string_too_short" and name in env else ""
            raise ConfigError(f"{name}{shown} cannot be used: it {reason}") from None


def cache_folder(env: Mapping[str, str], name: str) -> Path:
    """The default folder of a cache: cbm/name below XDG_CACHE_HOME or ~/.cache."""
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cbm" / name


class QueueSettings(EnvironmentSettings):
    """The behaviour of a program that pulls work from a queue.

    Attributes:
        lease_s: seconds a claim lasts without a heartbeat (CBM_LEASE_S).
        max_failures: failures of a piece of work before its dead letter (CBM_MAX_FAILURES).
        max_lost_leases: lost leases before the dead letter (CBM_MAX_LOST_LEASES).
        poll_s: pause between looks at an empty queue (CBM_POLL_S).
        retry_s: pause before failed work is offered again (CBM_RETRY_S).
    """

    lease_s: float = Field(120.0, ge=1)
    max_failures: Whole = Field(3, ge=1)
    max_lost_leases: Whole = Field(20, ge=1)
    poll_s: float = Field(5.0, ge=0.05)
    retry_s: float = Field(30.0, ge=0)


class WorkerSettings(QueueSettings):
    """The behaviour of an extraction worker, beside its queue's.

    Attributes:
        threads: threads of the reduction kernels (CBM_THREADS).
        claim_order: new-first or oldest-first, see queue.ClaimOrder (CBM_CLAIM_ORDER).
        thin: decode only the code blocks that parcels need, where a file allows it (CBM_THIN).
        cache_dir: folder of span indices (CBM_CACHE_DIR).
        cache_bytes: upper bound of that folder's size (CBM_CACHE_BYTES).
    """

    threads: Whole = Field(1, ge=1)
    claim_order: Literal["new-first", "oldest-first"] = "new-first"
    thin: bool = True
    cache_dir: Path = Field(default_factory=lambda: cache_folder(os.environ, "spans"))
    cache_bytes: Whole = Field(20_000_000_000, ge=0)
