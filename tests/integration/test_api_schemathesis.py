"""Schemathesis against the OpenAPI document; the long run is goal A4 of the benchmark."""

import pytest

from tests.benchmarks.api_contract import explore
from tests.benchmarks.api_server import UNLIMITED
from tests.integration.small_api import ANN, serving

MAX_S = 60


@pytest.mark.timeout(300)
@pytest.mark.full
def test_whatever_the_document_allows_or_forbids_gets_a_documented_answer(
    cluster, template, tmp_path
):
    with serving(cluster, template, tmp_path, **UNLIMITED) as api:
        found = explore(api.url, ANN, tmp_path, examples=10, seed=1, max_s=MAX_S)
    assert found.failed == ""
    assert found.server_errors == 0
    assert found.requests > 300
