"""The S3 server as a pytest fixture; load with pytest_plugins = ["tests.beds.s3.fixture"]."""

from collections.abc import Iterator

import pytest

from tests.beds.s3 import server


@pytest.fixture(scope="session")
def s3() -> Iterator[server.S3Server]:
    """OpenStack Swift speaking S3, empty at first, one for the whole test session."""
    with server.running() as running:
        yield running
