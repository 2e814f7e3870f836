"""Half a minute of goal A3 of the benchmark: PostgreSQL is restarted under load."""

import tempfile
from pathlib import Path

import pytest

from tests.benchmarks import api as benchmark
from tests.benchmarks import api_state
from tests.benchmarks.api_state import Size
from tests.benchmarks.context import Bench

SECONDS = 30


@pytest.mark.timeout(300)
def test_a_restart_of_the_database_costs_503s_while_it_is_away_and_nothing_else():
    size = Size(parcels=2000, scenes=3)
    # Not pytest's own folder, which every further run of pytest closes to other accounts.
    with tempfile.TemporaryDirectory(prefix="cbm-test-") as folder:
        Path(folder).chmod(0o711)  # the server's own account must get through
        bench = Bench(Path(folder))
        try:
            state = api_state.load(bench, size)
            with benchmark.served(bench, state) as api:
                found = benchmark.restart(bench, api, benchmark.places_in(state, size), SECONDS)
        finally:
            bench.close()
    assert found.details["wrong"] == []
    assert "503" in found.details["during"]
    assert set(found.details["after"]) == {"200", "404"}
    assert len(found.details["workers_rss_mb"]) > 5
