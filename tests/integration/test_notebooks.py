"""The example notebooks as an analyst runs them: locked environment, real API, real database."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from app.cli import main
from extraction.worker import Worker
from store import catalogue, db
from store.config import WorkerSettings
from tests.beds.postgis.fixture import _database
from tests.integration.chip_api import serving
from tests.integration.small_state import add_campaign, square, write_band, write_scene

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "notebook.lock"
EXAMPLES = ROOT / "roles" / "jupyterhub" / "files" / "notebooks"
HOME = ROOT / ".test" / "notebook"
UV = Path(sys.executable).with_name("uv")
NAMES = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
PARCELS = [square(5, 5, 10), square(20, 5, 10), square(35, 5, 10)]
CLOUDED = 2
"""Over the first parcel; the scenes 1 and 3 are clear there."""


@pytest.fixture(scope="session")
def jupyter() -> Path:
    """The programs of the environment that users get; built once per lock file."""
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    stamp, programs = HOME / "stamp", HOME / "venv" / "bin"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        HOME.mkdir(parents=True, exist_ok=True)
        python = programs / "python"
        run(UV, "venv", "--quiet", "--clear", "--python", sys.executable, HOME / "venv")
        run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes",
            "--only-binary", ":all:", "--no-deps", "--requirement", LOCK)  # fmt: skip
        stamp.write_text(wanted)
    return programs


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=500, **options
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def state(cluster, template, tmp_path_factory) -> Iterator[db.Connection]:
    """Three parcels of maize with the signatures of three scenes; users who may ask and read."""
    folder = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CBM_CHIP_CACHE_DIR", str(folder / "chips"))
        patch.setenv("CBM_CACHE_DIR", str(folder / "spans"))
        for conn in _database(cluster, template, patch):
            add_campaign(conn, PARCELS)
            catalogue.register(conn, [scene(folder, number) for number in (1, 2, 3)])
            assert Worker(WorkerSettings.from_env(os.environ)).work(until_idle=True) == 3
            added = CliRunner().invoke(
                main, ["users", "add", "ann", "--aoi", "tt", "--password-stdin"], input="right-word"
            )
            assert added.exit_code == 0, added.output
            db.execute(conn, "CREATE ROLE analyst LOGIN IN ROLE cbm_analyst PASSWORD 'read-word'")
            yield conn
            db.execute(conn, "DROP ROLE analyst")


def scene(folder: Path, number: int) -> catalogue.Scene:
    """A scene of random pixels under a clear sky, or with one cloud over the first parcel."""
    made = write_scene(folder, number)
    classes = np.full((50, 50), 5, np.uint8)
    if number == CLOUDED:
        classes[:10, :10] = 9
    write_band(folder / f"{number}_SCL.tif", classes, res_m=20.0)
    return made


@pytest.fixture(scope="module")
def url(state, tmp_path_factory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("api"), workers=1) as address:
        yield address


@pytest.fixture
def analyst(url, tmp_path) -> dict[str, str]:
    """The environment of a user's server: where things are; the database's password in the home."""
    pgpass = tmp_path / ".pgpass"
    pgpass.write_text("*:*:*:analyst:read-word\n")
    pgpass.chmod(0o600)
    known = {key: os.environ[key] for key in ("PGHOST", "PGPORT", "PGDATABASE")}
    return known | {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PGUSER": "analyst",
        "CBM_API_URL": url,
        "CBM_API_USER": "ann",
        "CBM_API_PASSWORD": "right-word",
    }


@pytest.fixture
def execute(jupyter, analyst, tmp_path) -> Callable[..., dict[str, Any]]:
    """Runs a copy of an example, as it comes to a home, and returns it with its outputs."""

    def executed(name: str, **more: str) -> dict[str, Any]:
        folder = tmp_path / "examples"
        shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
        run(jupyter / "jupyter", "nbconvert", "--execute", "--to", "notebook", "--inplace", name,
            cwd=folder, env=analyst | more)  # fmt: skip
        return json.loads((folder / name).read_text())

    return executed


def outputs(book: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for cell in book["cells"] for output in cell.get("outputs", [])]


def texts(book: dict[str, Any]) -> str:
    """All that a notebook shows as text."""
    shown = [o.get("text") or o.get("data", {}).get("text/plain", []) for o in outputs(book)]
    return "\n".join("".join(lines) for lines in shown)


def images(book: dict[str, Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(book))


@pytest.mark.full
def test_the_promised_packages_work_together(jupyter, tmp_path):
    code = (
        "import cbm, geopandas, ipyleaflet, matplotlib, pdfme, psycopg2, rasterio, voila, pandas\n"
        "from cbm import ipycbm\n"
        "shown = pandas.Series([1], name='c').plot(legend=True)\n"
        "pandas.DataFrame({'b': [2]}).plot(ax=shown)\n"
        "pandas.DataFrame({'a': [1, 2]}).to_parquet('a.parquet')\n"
        "print(pandas.read_parquet('a.parquet')['a'].sum())"
    )
    assert run(jupyter / "python", "-c", code, cwd=tmp_path).stdout.split()[-1] == "3"


@pytest.mark.parametrize("name", NAMES)
def test_examples_begin_with_text_and_come_without_outputs(name):
    book = json.loads((EXAMPLES / name).read_text())
    assert book["cells"][0]["cell_type"] == "markdown"
    assert not outputs(book)
    assert not any(cell.get("execution_count") for cell in book["cells"])


@pytest.mark.full
def test_the_series_has_every_date_and_band(execute, state):
    book = execute("1_series.ipynb", CBM_AOI="tt", CBM_YEAR="2024", CBM_PID="p2")
    mean = db.fetch_one(
        state, "SELECT b08_mean FROM tt.s2 WHERE pid = 2 ORDER BY obsid LIMIT 1"
    ).b08_mean
    assert f"{mean:.1f}"[:-2] in texts(book)
    assert texts(book).count("2024-04-") == 3
    assert images(book) == 1


@pytest.mark.full
def test_the_clouded_date_is_left_out_of_the_ndvi(execute):
    book = execute("2_ndvi.ipynb", CBM_PID="p1", CBM_AOI="tt", CBM_YEAR="2024")
    assert "2 of 3 dates are clear" in texts(book)
    assert images(book) == 1


@pytest.mark.full
def test_peers_come_by_the_jrcs_client_and_no_password_is_shown_or_kept(execute, tmp_path):
    book = execute("3_peers.ipynb")
    assert "p2" in texts(book)
    assert "p3" in texts(book)
    assert "right-word" not in json.dumps(book)
    assert not list(tmp_path.rglob("main.json"))
    assert images(book) == 1


@pytest.mark.full
def test_chips_are_shown_with_the_outline(execute):
    book = execute("4_chips.ipynb")
    assert "3 chips of B08" in texts(book)
    assert images(book) == 1


@pytest.mark.full
def test_sql_is_read_as_the_analyst_with_the_password_of_the_home(execute, state):
    text = texts(execute("5_sql.ipynb"))
    assert "maize" in text
    mean = db.fetch_one(
        state, "SELECT b08_mean FROM tt.s2 WHERE pid = 1 ORDER BY obsid LIMIT 1"
    ).b08_mean
    assert f"{mean:.1f}"[:-2] in text


@pytest.mark.full
def test_a_wrong_password_is_said_as_the_api_says_it(execute):
    with pytest.raises(AssertionError, match="info: 401: the name or the password is wrong"):
        execute("1_series.ipynb", CBM_API_PASSWORD="wrong-word")
