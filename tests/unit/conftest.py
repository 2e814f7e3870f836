"""Fixtures of several unit tests."""

from pathlib import Path

import pytest

from tests import grd


@pytest.fixture(scope="session")
def safes(shared_data, tmp_path_factory) -> dict[str, Path]:
    """Real products without pixels, by the beginning of their names."""
    into = tmp_path_factory.mktemp("safes")
    names = sorted(path.name.split(".")[0] for path in (shared_data / "s1_metadata").glob("*.zip"))
    return {name[:32]: grd.unpack(shared_data, into, name) for name in names}
