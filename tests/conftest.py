"""Fixtures for all tests; each bed (tests/beds) brings its own."""

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest_plugins = ["tests.beds.postgis.fixture"]
if find_spec("tests.beds.s3") and find_spec("tests.beds.s3.fixture"):
    pytest_plugins.append("tests.beds.s3.fixture")

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real sample data, kept beside the repository and never in it."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"the real sample data are not here: {_SHARED_DATA}")
    return _SHARED_DATA
