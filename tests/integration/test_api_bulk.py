"""Whole seasons, areas, peers, weather and markers over HTTP: small numbers made by hand."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from store import db
from tests.integration import filled_api
from tests.integration.bulk_requests import ALL_FOUR, CODES, TO_DEGREES, jrc, put_weather
from tests.integration.filled_api import ANN, EPOCH, Api

api, filled = filled_api.api, filled_api.filled


def post(api: Api, question: str, **body) -> requests.Response:
    return requests.post(
        f"{api.url}/query/{question}", json={"aoi": "nl", "year": 2024} | body, auth=ANN, timeout=20
    )


# --- areas -----------------------------------------------------------------------------------


def test_an_area_has_the_ids_of_the_parcels_it_meets_in_order(api):
    answer = api.ask("parcelsByPolygon", polygon=ALL_FOUR)
    assert answer.json() == {"pid": CODES}
    assert answer.headers["X-Truncated"] == "false"
    few = api.ask("parcelsByPolygon", polygon=jrc(150_160, 450_010, 150_170, 450_020))
    assert few.json() == {"pid": ["008"]}


def test_an_area_without_parcels_has_empty_columns(api):
    for area in (jrc(170_000, 450_000, 171_000, 451_000), "-8.5_40.1--8.4_40.1--8.4_40.2"):
        answer = api.ask("parcelsByPolygon", polygon=area)
        assert (answer.status_code, answer.json()) == (200, {"pid": []})


def test_geojson_stands_for_an_area_in_the_address_and_in_a_body(api):
    west, south, east, north = 5.3, 52.0, 5.5, 52.1
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    area = {"type": "Polygon", "coordinates": [ring]}
    assert api.ask("parcelsByPolygon", polygon=json.dumps(area)).json() == {"pid": CODES}
    feature = {"type": "Feature", "properties": {}, "geometry": area}
    assert post(api, "parcelsByPolygon", polygon=feature).json() == {"pid": CODES}


def test_more_parcels_than_the_limit_are_said_to_be_left_and_can_be_paged(api):
    first = api.ask("parcelsByPolygon", polygon=ALL_FOUR, limit=3)
    assert first.json() == {"pid": CODES[:3]}
    assert first.headers["X-Truncated"] == "true"
    for rest in ({"page": 2}, {"after": CODES[2]}):
        answer = api.ask("parcelsByPolygon", polygon=ALL_FOUR, limit=3, **rest)
        assert answer.json() == {"pid": CODES[3:]}
        assert answer.headers["X-Truncated"] == "false"
    exact = api.ask("parcelsByPolygon", polygon=ALL_FOUR, limit=4)
    assert exact.headers["X-Truncated"] == "false"


def test_an_area_can_bring_attributes_and_geometry(api):
    answer = api.ask("parcelsByPolygon", polygon=ALL_FOUR, only_ids="False").json()
    assert list(answer) == ["pid", "cropname", "cropcode", "srid", "area", "clon", "clat"]
    answer = api.ask("parcelsByPolygon", polygon=ALL_FOUR, withGeometry="True", wgs84="True").json()
    assert list(answer) == ["pid", "geom"]
    first = json.loads(answer["geom"][0])["coordinates"][0][0][0]
    assert first == pytest.approx(TO_DEGREES(150_000, 450_000), abs=1e-6)


@pytest.mark.parametrize(
    "area",
    ["5.1_52", "5_52-6_52", "5_52-6_52-6_53-", "5_52-6_52-5_52", "5_52-6_53-6_52-5_53", "x",
     "500_52-600_52-600_53", '{"type":"Point","coordinates":[5,52]}', "{", '{"type":"Polygon"}'],
)  # fmt: skip
def test_what_is_no_area_is_refused(api, area):
    answer = api.ask("parcelsByPolygon", polygon=area)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("polygon:")


# --- peers -----------------------------------------------------------------------------------


def test_peers_are_of_the_same_crop_nearest_first_in_metres(api):
    found = api.ask("parcelPeers", pid="007").json()
    assert list(found) == ["pids", "distance"]
    assert found["pids"] == CODES[1:3]
    assert found["distance"] == [0, pytest.approx(900, rel=0.01)]
    far = api.ask("parcelPeers", pid="007", distance=5000).json()
    assert far["pids"] == CODES[1:]
    assert api.ask("parcelPeers", pid="007", distance=5000, maxPeers=2).json() == found
    assert api.ask("parcelPeers", pid="007", distance=5000, max=1).json()["pids"] == ["008"]


def test_peers_are_neither_small_nor_of_another_crop(api):
    for pid, crop, size in ((50, "Maize", 50), (51, "Rye", 100)):
        db.execute(api.conn, "INSERT INTO nl.parcels VALUES (1, %s, 1, %s, %s, '', ST_Multi("
                   "ST_MakeEnvelope(150300, 450000, 150300 + %s, 450000 + %s, 28992)), '')",
                   (pid, f"x{pid}", crop, size, size))  # fmt: skip
    assert api.ask("parcelPeers", pid="007").json()["pids"] == CODES[1:3]
    assert api.ask("parcelPeers", pid="x51").json() == {"pids": [], "distance": []}
    db.execute(api.conn, "DELETE FROM nl.parcels WHERE pid >= 50")


def test_a_parcel_in_another_crs_has_peers_by_the_same_metres(api):
    assert api.ask("parcelPeers", pid="utm", year=2023).json() == {"pids": [], "distance": []}


# --- series as files -------------------------------------------------------------------------


def read(answer: requests.Response) -> list[dict]:
    assert answer.status_code == 200, answer.text
    kind = answer.headers["Content-Type"]
    if kind.startswith("text/csv"):
        return list(csv.DictReader(io.StringIO(answer.text)))
    if kind == "application/vnd.apache.arrow.stream":
        return pa.ipc.open_stream(answer.content).read_all().to_pylist()
    assert kind == "application/vnd.apache.parquet"
    return pq.read_table(io.BytesIO(answer.content)).to_pylist()


@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
def test_a_series_is_the_same_in_every_form(api, form):
    series = api.series(band="B04", ref="True")
    rows = read(api.ask("parcelTimeSeries", pid="007", band="B04", ref="True", tsformat=form))
    assert list(rows[0]) == list(series)
    assert [float(row["date_part"]) for row in rows] == series["date_part"]
    assert [float(row["mean"]) for row in rows] == series["mean"]
    assert [json.loads(row["hist"]) if row["hist"] else None for row in rows] == series["hist"]


@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
def test_series_of_many_parcels_are_streamed_as_those_of_one_by_one(api, form):
    answer = post(api, "parcelTimeSeries", pid=["008", "007"], tsformat=form)
    rows = read(answer)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert {row["pid"] for row in rows} == {"007"}  # 008 has no signatures
    one = api.series()
    assert [row["band"] for row in rows] == one["band"]
    assert [float(row["date_part"]) for row in rows] == one["date_part"]
    means = [float(row["mean"]) if row["mean"] not in ("", "NaN", None) else None for row in rows]
    assert means == one["mean"]
    assert [json.loads(row["hist"]) if row["hist"] else None for row in rows] == one["hist"]


@pytest.mark.parametrize(
    "params", [{}, {"band": "B05"}, {"scl": False, "ref": True}, {"all": True}, {"tstype": "bs"}]
)
def test_series_of_many_parcels_in_json_are_by_parcel_what_each_has_alone(api, params):
    answer = post(api, "parcelTimeSeries", pid=CODES, format="json", **params)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    alone = {name: str(value) for name, value in params.items()}
    assert answer.json() == {code: api.series(pid=code, **alone) for code in CODES}
    assert answer.json()["007"]["band"] != []


def test_histograms_alone_are_not_for_many_parcels(api):
    answer = post(api, "parcelTimeSeries", pid=CODES, tstype="scl")
    assert answer.status_code == 400
    assert answer.json()["detail"] == "tstype: 'scl' is none of s2, bs, c1d, c6, c12, c1"


def test_an_unknown_parcel_among_many_is_an_honest_404(api):
    answer = post(api, "parcelTimeSeries", pid=["007", "no", "none"])
    assert answer.status_code == 404
    assert "lacks 2 of these parcels: 'no', 'none'" in answer.json()["detail"]


def test_more_than_ten_thousand_parcels_are_refused(api):
    answer = post(api, "parcelTimeSeries", pid=[str(n) for n in range(10_001)])
    assert answer.status_code == 400
    assert "pid: given more than 10000 times" in answer.json()["detail"]


def test_bodies_that_cannot_be_used_are_refused(api):
    url = f"{api.url}/query/parcelTimeSeries"

    def send(**how) -> int:
        return requests.post(url, auth=ANN, timeout=20, **how).status_code

    assert send(data="{", headers={"Content-Type": "application/json"}) == 400
    assert send(data="[1]", headers={"Content-Type": "application/json"}) == 400
    assert send(data={"aoi": "nl"}) == 415
    assert send(data="{}", headers={"Content-Type": "text/plain"}) == 415
    assert send(json={"aoi": "nl", "year": 2024, "pid": ["x" * 99] * 20_000}) == 413
    assert requests.post(f"{url}?aoi=nl", json={}, auth=ANN, timeout=20).status_code == 400


# --- clouds ----------------------------------------------------------------------------------


def test_clear_observations_only(api):
    assert set(api.series(band="B04")["date_part"]) == {EPOCH, EPOCH + 5 * 86400, EPOCH + 864000}
    assert api.series(band="B04", cloudfree=1)["date_part"] == [EPOCH]
    assert api.series(band="B04", cloudfree=0)["date_part"] == [EPOCH, EPOCH + 864000]
    assert api.series(tstype="scl", cloudfree="0.9")["hist"] == [{"4": 186, "5": 1}]
    assert "hist" not in api.series(band="B04", cloudfree="0.9", scl="False")
    many = post(api, "parcelTimeSeries", pid="007", band="B04", cloudfree=0.9, tsformat="csv")
    assert [row["date_part"] for row in read(many)] == [str(EPOCH)]


def test_a_histogram_without_pixels_is_not_clear(api):
    db.execute(api.conn, "CREATE TEMPORARY TABLE kept AS TABLE nl.hists")
    none = ", ".join(f"c{n} = 0" for n in range(12))
    db.execute(api.conn, f"UPDATE nl.hists SET {none}")
    try:
        assert api.series(band="B04", cloudfree=0)["date_part"] == []
    finally:
        db.execute(api.conn, "DELETE FROM nl.hists")
        db.execute(api.conn, "INSERT INTO nl.hists SELECT * FROM kept")


def test_there_are_no_clouds_in_radar(api):
    answer = api.ask("parcelTimeSeries", pid="007", tstype="bs", cloudfree=0.5)
    assert (answer.status_code, answer.json()["detail"][:9]) == (400, "cloudfree")
    assert post(api, "parcelTimeSeries", pid="007", tstype="bs", cloudfree=0.5).status_code == 400


# --- scenes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
def test_a_scene_has_a_row_per_parcel_with_all_its_statistics(api, form):
    rows = read(api.ask("sceneSignatures", scene="S2A_HALF", tsformat=form))
    assert [row["pid"] for row in rows] == ["007"]
    assert float(rows[0]["b04_mean"]) == 700.25
    assert int(rows[0]["b04_count"]) == 45
    assert (rows[0]["reference"], int(rows[0]["px"])) == ("S2A_HALF", 100)


def test_a_day_has_the_preferred_scenes_unless_all_are_wanted(api):
    def scenes(**params) -> list[str]:
        rows = read(api.ask("sceneSignatures", date="2024-05-01", **params))
        return sorted(row["reference"] for row in rows)

    assert scenes() == ["S2A_WHOLE"]
    assert scenes(all="True") == ["S2A_HALF", "S2A_WHOLE"]
    assert scenes(cloudfree=0.5) == ["S2A_WHOLE"]
    assert scenes(tstype="bs") == ["S1A_BS"]


def test_a_scene_of_which_nothing_is_stored_is_an_empty_table(api):
    row = db.fetch_one(
        api.conn, "INSERT INTO scene (reference, kind, platform, obstime, acquisition, "
                 "unit, epsg, footprint, bands, software) SELECT 'EMPTY', kind, platform, obstime, "
                 "'E', unit, epsg, footprint, bands, software FROM scene WHERE obsid = 1 "
                 "RETURNING obsid")  # fmt: skip
    for form in ("csv", "arrow", "parquet"):
        assert read(api.ask("sceneSignatures", scene="EMPTY", tsformat=form)) == []
    db.execute(api.conn, "DELETE FROM scene WHERE obsid = %s", (row.obsid,))


def test_scenes_that_cannot_be_told_are_refused(api):
    assert api.ask("sceneSignatures", scene="NONE").status_code == 404
    assert api.ask("sceneSignatures", date="2020-01-01").status_code == 404
    assert api.ask("sceneSignatures").status_code == 400
    assert api.ask("sceneSignatures", scene="S2A_HALF", date="2024-05-01").status_code == 400
    assert api.ask("sceneSignatures", scene="S2A_HALF", aoi="be").status_code == 403


def test_heads_of_streams_give_their_connection_back(api):
    for _ in range(30):
        answer = requests.head(f"{api.url}/query/sceneSignatures", auth=ANN, timeout=20,
                               params={"aoi": "nl", "year": 2024, "scene": "S2A_HALF"})  # fmt: skip
        assert answer.status_code == 200
    assert api.get("/query/info").status_code == 200


# --- weather and markers ---------------------------------------------------------------------


def test_weather_is_that_of_the_nearest_point_on_the_campaigns_days(api):
    put_weather(api.conn)
    answer = api.ask("weatherTimeSeries", pid="007").json()
    assert answer == {
        "meteo_date": ["2024-05-01", "2024-05-02"],
        "tmin": [8.5, 8.5],
        "tmax": [19.25, 19.25],
        "tmean": [5.25, 5.25],
        "prec": [None, None],
    }
    early = api.ask("weatherTimeSeries", pid="007", start="2023-09-01", end="2024-05-01").json()
    assert early["meteo_date"] == ["2023-09-30", "2024-05-01"]
    rows = read(api.ask("weatherTimeSeries", pid="007", tsformat="csv"))
    assert rows[0] == {"meteo_date": "2024-05-01", "tmin": "8.5", "tmax": "19.25",
                       "tmean": "5.25", "prec": ""}  # fmt: skip
    assert read(api.ask("weatherTimeSeries", pid="007", tsformat="arrow"))[0]["tmin"] == 8.5
    assert api.ask("weatherTimeSeries", pid="utm", year=2023).status_code == 404
    assert api.ask("weatherTimeSeries", pid="nobody").status_code == 404


def test_markers_have_the_jrcs_columns_by_date(api):
    marker = "INSERT INTO marker VALUES (1, '007', %s, %s, %s, %s, %s, %s, NULL, NULL, %s)"
    for row in (
        ("mowing", "drop", "2024-06-20", "2024-06-25", "2024-07-02", 0.25, None),
        ("ploughing", "", "2024-04-02", None, None, None, "till"),
    ):
        db.execute(api.conn, marker, row)
    answer = api.ask("markers", pid="007").json()
    assert list(answer) == [
        "foi_id", "marker", "marker_type", "date_start", "date_main", "date_end", "duration_days",
        "value_1", "value_2", "value_3", "pid", "practice",
    ]  # fmt: skip
    assert answer["marker"] == ["ploughing", "mowing"]
    assert answer["duration_days"] == [None, 12]
    assert answer["date_start"] == ["2024-04-02", "2024-06-20"]
    assert answer["practice"] == ["till", None]
    assert api.ask("markers", pid="008").json()["marker"] == []
    assert api.ask("markers", pid="nobody").status_code == 404


def test_answers_bear_the_attribution_of_copernicus(api):
    for answer in (api.get("/query/info"), api.ask("parcelByID", pid="007")):
        assert "Copernicus Sentinel" in answer.headers["X-Attribution"]
