"""The JRC's published client, unchanged, in an environment of its own, against the running API."""

import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyproj import Transformer

from tests.integration import test_api_bulk, test_api_routes

api, filled = test_api_routes.api, test_api_routes.filled

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "client-cbm.lock"
HOME = ROOT / ".test" / "client-cbm"
LON, LAT = Transformer.from_crs(28992, 4326, always_xy=True).transform(150_025, 450_050)

ANSWER_ALL = """
import json, sys
import cbm
cbm.set_api_account(sys.argv[1], "ann", "right-word")
for line in sys.stdin:
    asked = json.loads(line)
    function = cbm.get
    for name in asked["function"].split("."):
        function = getattr(function, name)
    answer = function(*asked["args"], **asked["kwargs"])
    answer = answer.decode() if isinstance(answer, bytes) else answer
    print("\\nANSWER", json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of an environment that holds the client; built once per lock file."""
    wanted = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()
    stamp, python = HOME / "stamp", HOME / "venv" / "bin" / "python"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        HOME.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-m", "venv", "--clear", HOME / "venv")
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--require-hashes", "--only-binary", ":all:", "--requirement", LOCK)  # fmt: skip
        stamp.write_text(wanted)
    return python


def run(*command) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the client works and saves."""
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def client(python, api, folder) -> Iterator[Callable]:
    """Calls one of the client's `get` functions, in a process of the client's own."""
    command = [python, "-W", "ignore", "-c", ANSWER_ALL, api.url]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log,
        )  # fmt: skip

    def call(function: str, *args, **kwargs):
        asked = {"function": function, "args": args, "kwargs": kwargs}
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise AssertionError((folder / "log").read_text())

    yield call
    process.stdin.close()
    process.wait(30)


def saved(folder: Path, name: str) -> Path:
    return folder / "temp" / "nl" / "2024" / "007" / name


def test_parcels_by_place_and_by_id_are_those_that_we_say(client, api, folder):
    by_place = client("parcel_info.by_location", "nl", 2024, LON, LAT)
    assert by_place["pid"] == ["007"]
    assert json.loads(by_place["geom"][0])["type"] == "MultiPolygon"
    by_id = client("parcel_info.by_pid", "nl", 2024, "007", wgs84=True)
    told = api.ask("parcelByID", pid="007", withGeometry="True", wgs84="True").json()
    assert by_id == told
    assert json.loads(saved(folder, "info.json").read_text()) == told


def test_a_parcel_that_is_not_there_is_none_to_the_client(client):
    assert client("parcel_info.by_pid", "nl", 2024, "nobody") is None
    assert client("parcel_info.by_location", "nl", 2024, 5.0, 52.0) is None


def test_parcels_in_an_area_come_as_ids_or_with_their_attributes(client):
    area = test_api_bulk.ALL_FOUR
    ids = json.loads(client("parcel_info.by_polygon", "nl", 2024, area))
    assert ids == {"pid": test_api_bulk.CODES}
    more = json.loads(client("parcel_info.by_polygon", "nl", 2024, area, geom=True, wgs84=True))
    assert list(more) == ["pid", "geom"]


def test_peers_are_those_that_we_say(client, api):
    told = api.ask("parcelPeers", pid="007", distance=5000, max=2).json()
    assert client("parcels_list.peers", "nl", 2024, "007", 5000.0, 2) == told
    assert client("parcels_list.peers", "nl", 2024, "007")["pids"] == test_api_bulk.CODES[1:3]


@pytest.mark.parametrize(("tstype", "band"), [("s2", ""), ("s2", "B04"), ("bs", ""), ("c1", "")])
def test_series_are_those_that_we_say_and_saved_as_a_table(client, api, folder, tstype, band):
    told = api.series(tstype=tstype, band=band)
    assert client("time_series.by_pid", "nl", 2024, "007", tstype, band=band) == told
    with saved(folder, f"time_series_{tstype}{band}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["band"] for row in rows] == told["band"]
    assert [float(row["date_part"]) for row in rows] == told["date_part"]


def test_weather_is_that_which_we_say_and_saved_as_a_table(client, api, folder):
    test_api_bulk.put_weather(api.conn)
    told = client("time_series.weather", "nl", 2024, "007")
    assert told == api.ask("weatherTimeSeries", pid="007").json()
    with saved(folder, "time_series_weather.csv").open(newline="") as file:
        assert [row["meteo_date"] for row in csv.DictReader(file)] == told["meteo_date"]
