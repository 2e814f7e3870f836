"""The guide's cookbook and tutorial do what they say, run as they are printed against a demo."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python|r|sql)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = re.split(r"^## ", (ROOT / "docs/analyse/cookbook.md").read_text(), flags=re.MULTILINE)


def blocks(language: str) -> list[str]:
    """The code of a language, a text per question; what comes before the first is left out."""
    return [
        code for recipe in RECIPES[1:] for name, code in BLOCK.findall(recipe) if name == language
    ]


@pytest.fixture(scope="module")
def cook(synthetic, tmp_path_factory) -> tuple[dict[str, str], Path]:
    """The variables of the cookbook for the demo, and a folder to work in."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "CBM_"))} | synthetic.env
    login, url = (env["CBM_USER"], env["CBM_PASSWORD"]), env["CBM_URL"]
    parcel = {"aoi": env["CBM_AOI"], "year": env["CBM_YEAR"], "pid": env["CBM_PID"]}

    def ask(route: str, **more: object) -> dict:
        answer = requests.get(f"{url}/query/{route}", auth=login, params=parcel | more, timeout=60)
        answer.raise_for_status()
        return answer.json()

    place = ask("parcelByID")
    lon, lat = place["clon"][0], place["clat"][0]
    folder = tmp_path_factory.mktemp("cookbook")
    _import_weather_and_marker(synthetic, folder, lon, lat)
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
    series = ask("parcelTimeSeries", tstype="s2", band="B04", ref="True")
    first = series["reference"][series["mean"].index(max(m for m in series["mean"] if m))]
    day = re.search(r"_(\d{4})(\d{2})(\d{2})T", first)
    env |= {
        "CBM_LON": str(lon),
        "CBM_LAT": str(lat),
        "CBM_AREA": "-".join(f"{lon + 0.01 * x:.5f}_{lat + 0.01 * y:.5f}" for x, y in corners),
        "CBM_DAY": "-".join(day.groups()),
    }
    return env, folder


def _import_weather_and_marker(demo, folder: Path, lon: float, lat: float) -> None:
    """What an operator would have imported: a day of weather, and one marker."""
    env = demo.env
    day = f"{env['CBM_YEAR']}-05-01"
    weather = f"lon,lat,date,tmin,tmax,tmean,prec\n{lon},{lat},{day},5,15,10,1.5\n"
    (folder / "weather.csv").write_text(weather)
    (folder / "markers.csv").write_text(f"code,marker,date_start\n{env['CBM_PID']},mowing,{day}\n")
    owner = f"set -a; . {demo.folder}/owner.env; set +a; {Path(sys.executable).parent}/cbm-store"
    campaign = f"--aoi={env['CBM_AOI']} --year={env['CBM_YEAR']}"
    for line in (
        f"weather import {folder}/weather.csv",
        f"markers import {folder}/markers.csv {campaign}",
    ):
        ran = demo.shell(f"{owner} {line}")
        assert ran.returncode == 0, ran.stderr


def run(cook: tuple[dict[str, str], Path], *command: str, code: str = "") -> str:
    env, folder = cook
    ran = subprocess.run(
        command, input=code, env=env, cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{code or command}\n{ran.stderr[-2000:]}"
    return ran.stdout


def test_every_question_is_answered_in_four_languages():
    assert [len(blocks(language)) for language in ("bash", "python", "r", "sql")] == [20] * 4


@pytest.mark.full
def test_the_cookbooks_curl_lines_are_answered(cook):
    for code in blocks("bash"):
        run(cook, "bash", "-euo", "pipefail", code=code)


@pytest.mark.full
def test_the_cookbooks_python_runs_from_top_to_bottom(cook):
    head = next(code for name, code in BLOCK.findall(RECIPES[0]) if name == "python")
    printed = run(cook, sys.executable, code="\n".join([head, *blocks("python")]))
    assert "clear observations" in printed


@pytest.mark.full
def test_the_cookbooks_sql_runs_with_an_analysts_login(cook):
    env, _ = cook
    names = ("aoi", "year", "pid", "lon", "lat", "day")
    variables = [f"--set={name}={env[f'CBM_{name.upper()}']}" for name in names]
    psql = ("psql", "-X", "--quiet", "--set=ON_ERROR_STOP=1", *variables)
    run(cook, *psql, code="\n".join(blocks("sql")))


@pytest.mark.full
def test_the_cookbooks_r_runs_from_top_to_bottom(cook):
    needed = "stopifnot(all(sapply(c('httr', 'jsonlite'), requireNamespace, quietly = TRUE)))"
    if (
        not shutil.which("Rscript")
        or subprocess.run(["Rscript", "-e", needed], check=False).returncode
    ):
        pytest.skip("R with httr and jsonlite is not installed here")
    head = next(code for name, code in BLOCK.findall(RECIPES[0]) if name == "r")
    run(cook, "Rscript", "-", code="\n".join([head, *blocks("r")]))
