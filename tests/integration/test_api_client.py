"""The JRC's published client, unchanged, in an environment of its own, against the running API."""

import csv
import json
from pathlib import Path

import pytest
from pyproj import Transformer

from tests.integration import bulk_requests, published_client

api, filled = published_client.api, published_client.filled
client, folder, python = published_client.client, published_client.folder, published_client.python

LON, LAT = Transformer.from_crs(28992, 4326, always_xy=True).transform(150_025, 450_050)


def saved(folder: Path, name: str) -> Path:
    return folder / "temp" / "nl" / "2024" / "007" / name


def test_parcels_by_place_and_by_id_are_those_that_we_say(client, api, folder):
    by_place = client("parcel_info.by_location", "nl", 2024, LON, LAT)
    assert by_place["pid"] == ["007"]
    assert json.loads(by_place["geom"][0])["type"] == "MultiPolygon"
    by_id = client("parcel_info.by_pid", "nl", 2024, "007", wgs84=True)
    served = api.ask("parcelByID", pid="007", withGeometry="True", wgs84="True").json()
    assert by_id == served
    assert json.loads(saved(folder, "info.json").read_text()) == served


def test_a_parcel_that_is_not_there_is_none_to_the_client(client):
    assert client("parcel_info.by_pid", "nl", 2024, "nobody") is None
    assert client("parcel_info.by_location", "nl", 2024, 5.0, 52.0) is None


def test_parcels_in_an_area_come_as_ids_or_with_their_attributes(client):
    area = bulk_requests.ALL_FOUR
    ids = json.loads(client("parcel_info.by_polygon", "nl", 2024, area))
    assert ids == {"pid": bulk_requests.CODES}
    more = json.loads(client("parcel_info.by_polygon", "nl", 2024, area, geom=True, wgs84=True))
    assert list(more) == ["pid", "geom"]


def test_peers_are_those_that_we_say(client, api):
    served = api.ask("parcelPeers", pid="007", distance=5000, max=2).json()
    assert client("parcels_list.peers", "nl", 2024, "007", 5000.0, 2) == served
    assert client("parcels_list.peers", "nl", 2024, "007")["pids"] == bulk_requests.CODES[1:3]


@pytest.mark.parametrize(("tstype", "band"), [("s2", ""), ("s2", "B04"), ("bs", ""), ("c1", "")])
def test_series_are_those_that_we_say_and_saved_as_a_table(client, api, folder, tstype, band):
    served = api.series(tstype=tstype, band=band)
    assert client("time_series.by_pid", "nl", 2024, "007", tstype, band=band) == served
    with saved(folder, f"time_series_{tstype}{band}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["band"] for row in rows] == served["band"]
    assert [float(row["date_part"]) for row in rows] == served["date_part"]


def test_weather_is_that_which_we_say_and_saved_as_a_table(client, api, folder):
    bulk_requests.put_weather(api.conn)
    served = client("time_series.weather", "nl", 2024, "007")
    assert served == api.ask("weatherTimeSeries", pid="007").json()
    with saved(folder, "time_series_weather.csv").open(newline="") as file:
        assert [row["meteo_date"] for row in csv.DictReader(file)] == served["meteo_date"]
