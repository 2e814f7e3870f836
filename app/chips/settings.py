"""Settings of the images, from the environment."""

import os
import re
import secrets
from pathlib import Path

from pydantic import Field, field_validator

from app.chips.web_hosts import HOST_PATTERN
from store.config import EnvironmentSettings, Whole, Words, cache_folder


class ChipSettings(EnvironmentSettings):
    """Settings of one API process that makes and keeps images.

    Attributes:
        chip_threads: images made at once.
        chip_cache_dir: folder of the images, for all processes of a host.
        chip_cache_bytes: upper bound of that folder's size.
        chip_expiry_s: least lifetime of an image's address.
        secret_key: signs addresses; by default known to this process alone.
        backgrounds: JSON file with the background sources, if any.
        scene_hosts: web hosts that scenes may lie on, such as data.example or data.example:8443.
    """

    chip_threads: Whole = Field(4, ge=1)
    chip_cache_dir: Path = Field(default_factory=lambda: cache_folder(os.environ, "chips"))
    chip_cache_bytes: Whole = Field(2_000_000_000, ge=0)
    chip_expiry_s: Whole = Field(86_400, ge=1)
    secret_key: str = Field(
        default_factory=lambda: secrets.token_hex(32), min_length=32, repr=False
    )
    backgrounds: Path | None = None
    scene_hosts: Words = frozenset()

    @field_validator("scene_hosts")
    @classmethod
    def _are_hosts(cls, hosts: frozenset[str]) -> frozenset[str]:
        for host in sorted(hosts):
            if not re.fullmatch(HOST_PATTERN, host):
                raise ValueError(f"names {host!r}, which is no host in small letters")
        return hosts
