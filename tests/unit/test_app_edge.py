"""The edge imports hug beside today's numpy, and disturbs nothing else."""

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_hug_is_imported_beside_a_numpy_that_was_there_and_one_that_comes_later():
    assert run("import numpy, app.edge; print(numpy.array([1]).sum())") == "1"
    assert run("import app.edge, numpy; print(numpy.array([1]).sum())") == "1"
    assert run("import numpy as n, app.edge, numpy; print(n is numpy)") == "True"


def test_only_the_edge_knows_hug():
    code = "import sys, app.service, app.routes.table; print('hug' in sys.modules)"
    assert run(code) == "False"
