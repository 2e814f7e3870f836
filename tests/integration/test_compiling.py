"""The first worker on a machine says that it compiles, and no later one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from store import catalogue
from tests.integration.small_state import add_campaign, square, write_scene


def log_of_worker(kernels: Path, spans: Path) -> str:
    env = os.environ | {"NUMBA_CACHE_DIR": str(kernels), "CBM_CACHE_DIR": str(spans)}
    program = Path(sys.executable).parent / "cbm-extract"
    ran = subprocess.run(
        [program, "work", "--until-idle"], env=env, capture_output=True, text=True, check=True
    )
    return ran.stderr


@pytest.mark.full
def test_a_worker_without_compiled_loops_says_so_once(database, tmp_path):
    add_campaign(database, [square(0, 0, 4)])
    catalogue.register(database, [write_scene(tmp_path, 0)])
    first = log_of_worker(tmp_path / "kernels", tmp_path / "spans")
    assert first.index("event=compiling") < first.index("event=done")
    assert "event=compiling" not in log_of_worker(tmp_path / "kernels", tmp_path / "spans")
