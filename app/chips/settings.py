"""Settings of the images, from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from store.config import number
from store.errors import ConfigError

_SHORTEST_SECRET = 32


@dataclass(frozen=True)
class ChipSettings:
    """How one API process makes and keeps images.

    Attributes:
        threads: images made at once (CBM_CHIP_THREADS).
        cache_dir: where made images are kept, for all processes of a host (CBM_CHIP_CACHE_DIR).
        cache_bytes: upper bound of that folder's size (CBM_CHIP_CACHE_BYTES).
        expiry_s: how long an image's address is good, at least (CBM_CHIP_EXPIRY_S).
        secret: what addresses are signed with (CBM_SECRET_KEY); '' for one made and kept in
            cache_dir, which is enough for one host.
        backgrounds: JSON file that names the background sources (CBM_BACKGROUNDS), if any.
    """

    threads: int
    cache_dir: Path
    cache_bytes: int
    expiry_s: int
    secret: str
    backgrounds: Path | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "ChipSettings":
        """Build the settings from environment variables.

        Raises:
            ConfigError: a variable has a value that cannot be used.
        """
        home = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        secret = env.get("CBM_SECRET_KEY", "")
        if 0 < len(secret) < _SHORTEST_SECRET:
            raise ConfigError(f"CBM_SECRET_KEY is shorter than {_SHORTEST_SECRET} characters")
        sources = env.get("CBM_BACKGROUNDS")
        return cls(
            threads=int(number(env, "CBM_CHIP_THREADS", 4, minimum=1)),
            cache_dir=Path(env.get("CBM_CHIP_CACHE_DIR") or home / "cbm" / "chips"),
            cache_bytes=int(number(env, "CBM_CHIP_CACHE_BYTES", 2e9, minimum=0)),
            expiry_s=int(number(env, "CBM_CHIP_EXPIRY_S", 86_400, minimum=1)),
            secret=secret,
            backgrounds=Path(sources) if sources else None,
        )
