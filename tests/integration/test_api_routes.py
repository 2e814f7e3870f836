"""The API as its users meet it: gunicorn on loopback, a real PostGIS, a small campaign by hand."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import requests
from click.testing import CliRunner
from pyproj import Transformer

from app.cli import main
from store import db
from store.products import BANDS
from tests.beds.postgis.fixture import _database

ANN = ("ann", "right-word")
EPOCH = 1714559431.024  # 2024-05-01 10:30:31.024 UTC
DAY_S = 86400

# Rectangles in RD New (EPSG:28992): west, south, east, north, metres. 008 overlaps 007.
PARCELS = {
    "007": (150000, 450000, 150100, 450100),
    "008": (150050, 450000, 150200, 450100),
    "it's; DROP TABLE nl.parcels; --": (151000, 450000, 151100, 450100),
    "never seen": (152000, 450000, 152100, 450100),
}

SCENE = """
    INSERT INTO scene (reference, kind, platform, obstime, acquisition, unit, epsg, footprint,
                       bands, software, baseline)
    VALUES (%s, %s, 'S2A', to_timestamp(%s), %s, 'dn', 32631,
            ST_Multi(ST_MakeEnvelope(4, 51, 6, 53, 4326)), '{}', 'test', %s)
    RETURNING obsid"""


def statistics(count, mean, band_shift=0.0):
    """count, mean, std, min, p25, p50, p75, max of made-up pixels."""
    if count == 0:
        return [0, *[None] * 7]
    return [count, *(mean + band_shift + step for step in (0, -0.5, -2, -1, 0.25, 1, 2))]


def fill(conn: db.Connection) -> None:
    """Campaigns nl 2024, nl 2023 (a parcel in UTM); nl 2024 of type g and be 2024, both empty."""
    for aoi, year, ptype in (("nl", 2024, ""), ("nl", 2023, ""), ("nl", 2024, "g"),
                             ("be", 2024, "")):  # fmt: skip
        db.one(conn, "SELECT cbm_make_campaign(%s, %s, %s, '2023-10-01', '2024-12-31', 0::real)",
               (aoi, year, ptype))  # fmt: skip
    db.execute(
        conn,
        """UPDATE campaign SET srid = 28992, units = '{"s2": "dn", "bs": "db"}'
                        WHERE aoi = 'nl' AND year = 2024 AND ptype = ''""",
    )
    db.execute(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "VALUES (1, 'x', 4, ST_MakeEnvelope(5.2, 51.9, 5.5, 52.2, 4326))",
    )
    for pid, (code, box) in enumerate(PARCELS.items(), 1):
        db.execute(conn, "INSERT INTO nl.parcels VALUES (1, %s, 1, %s, 'Maize', '0259', "
                         "ST_Multi(ST_MakeEnvelope(%s, %s, %s, %s, 28992)), '')",
                   (pid, code, *box))  # fmt: skip
    db.execute(
        conn,
        "INSERT INTO nl.parcels VALUES (2, 1, 2, 'utm', 'Rye', '1', "
        "ST_Multi(ST_MakeEnvelope(500000, 5760000, 500100, 5760100, 32632)), '')",
    )
    db.execute(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "VALUES (2, 'x', 1, ST_MakeEnvelope(9.0, 51.9, 9.1, 52.1, 4326))",
    )
    db.execute(conn, "UPDATE campaign SET srid = 32632 WHERE id = 2")
    fill_s2(conn)
    fill_s1(conn)


def fill_s2(conn: db.Connection) -> None:
    """Parcel 007 in two tiles of one overpass, in a scene with gaps, and in one of another day."""
    whole = {band: statistics(90, 800.25, shift) for shift, band in enumerate(BANDS["s2"])}
    half = {band: statistics(45, 700.25) for band in BANDS["s2"]}
    gaps = whole | {"B05": [None] * 8, "B08": statistics(0, 0)}
    gaps["B11"] = [90, 800, float("nan"), 800, 800, 800, 800, 800]
    scenes = [
        ("S2A_WHOLE", EPOCH, "A1", whole, {4: 186, 5: 1}),
        ("S2A_HALF", EPOCH, "A1", half, {4: 90}),
        ("S2B_GAPS", EPOCH + 5 * DAY_S, "A2", gaps, None),
        ("S2A_LATE", EPOCH + 10 * DAY_S, "A3", whole, {9: 187}),
    ]
    for reference, at, acquisition, bands, hist in scenes:
        row = db.one(conn, SCENE, (reference, "s2", at, acquisition, "05.10"))
        put(conn, "s2", row.obsid, 100, bands)
        if hist:
            leaf(conn, "hists", row.obsid)
            db.execute(conn, f"INSERT INTO nl.hists VALUES (1, 1, %s{', %s' * 12})",
                       (row.obsid, *(hist.get(n, 0) for n in range(12))))  # fmt: skip


def fill_s1(conn: db.Connection) -> None:
    for reference, kind, mean in (("S1A_BS", "bs", 0.125), ("S1_COH", "c12", 0.5)):
        row = db.one(conn, SCENE, (reference, kind, EPOCH, reference, ""))
        put(conn, kind, row.obsid, 100, {"VV": statistics(99, mean), "VH": statistics(98, mean)})


def put(conn: db.Connection, kind: str, obsid: int, px: int, bands: dict[str, list]) -> None:
    leaf(conn, kind, obsid)
    values = [value for band in BANDS[kind] for value in bands[band]]
    db.execute(conn, f"INSERT INTO nl.{kind} VALUES (1, 0, 1, %s, %s{', %s' * len(values)})",
               (obsid, px, *values))  # fmt: skip


def leaf(conn: db.Connection, table: str, obsid: int) -> None:
    db.one(conn, "SELECT cbm_leaf(1::smallint, %s, %s)", (table, obsid))


@dataclass(frozen=True)
class Api:
    """A running API: its address, its database, and superusers' connections there and elsewhere."""

    url: str
    dbname: str
    conn: db.Connection
    elsewhere: db.Connection

    def get(self, path: str, auth=ANN, **params) -> requests.Response:
        return requests.get(self.url + path, params=params, auth=auth, timeout=20)

    def ask(self, question: str, **params) -> requests.Response:
        """Ask about nl 2024 unless told otherwise."""
        return self.get(f"/query/{question}", **{"aoi": "nl", "year": "2024"} | params)

    def series(self, **params) -> dict:
        answer = self.ask("parcelTimeSeries", **{"pid": "007"} | params)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def filled(cluster, template) -> Iterator[db.Connection]:
    with pytest.MonkeyPatch.context() as patch:
        for conn in _database(cluster, template, patch):
            patch.setenv("CBM_STATEMENT_TIMEOUT_S", "1")
            patch.setenv("CBM_RATE_PER_S", "1e6")
            fill(conn)
            yield conn


@pytest.fixture(scope="module")
def api(cluster, filled, tmp_path_factory) -> Iterator[Api]:
    added = CliRunner().invoke(
        main, ["users", "add", "ann", "--aoi", "nl", "--password-stdin"], input="right-word\n"
    )
    assert added.exit_code == 0, added.output
    elsewhere = db.connect("test", "dbname=postgres")
    process, url = serve(tmp_path_factory.mktemp("api"))
    yield Api(url, os.environ["PGDATABASE"], filled, elsewhere)
    process.terminate()
    process.wait(30)
    elsewhere.close()


def serve(folder) -> tuple[subprocess.Popen, str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    log = (folder / "log").open("w")
    command = [sys.executable, "-c", "from app.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "serve", "--bind", bind, "--workers", "1", "--pid", str(folder / "pid")],
        stdout=log, stderr=log, env=dict(os.environ),
    )  # fmt: skip
    wait_for(lambda: answers(f"http://{bind}/healthz"), seconds=90)
    assert int((folder / "pid").read_text()) == process.pid
    return process, f"http://{bind}"


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def wait_for(condition, seconds=20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


# --- parcels ---------------------------------------------------------------------------------


def test_a_parcel_by_id_has_the_jrcs_columns_and_types(api):
    answer = api.ask("parcelByID", pid="007")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    parcel = answer.json()
    assert list(parcel) == ["pid", "cropname", "cropcode", "srid", "area", "clon", "clat"]
    lon, lat = Transformer.from_crs(28992, 4326, always_xy=True).transform(150050, 450050)
    assert (parcel["clon"], parcel["clat"]) == ([pytest.approx(lon, abs=1e-6)],
                                                [pytest.approx(lat, abs=1e-6)])  # fmt: skip
    assert parcel["pid"] == ["007"]
    assert parcel["cropname"] == ["Maize"]
    assert parcel["cropcode"] == ["0259"]
    assert parcel["srid"] == [28992]
    # RD New's scale is 0.99991 here: 100 m on its grid are 100.009 m on the ground.
    assert parcel["area"] == [10002]
    assert isinstance(parcel["area"][0], int)


def test_geometry_comes_as_geojson_text_in_the_campaigns_crs_or_in_degrees(api):
    given = api.ask("parcelByID", pid="007", withGeometry="True").json()
    assert list(given)[4] == "geom"
    here = json.loads(given["geom"][0])
    assert here["crs"]["properties"]["name"] == "EPSG:28992"
    assert here["type"] == "MultiPolygon"
    assert [150000, 450000] in here["coordinates"][0][0]
    degrees = json.loads(
        api.ask("parcelByID", pid="007", withGeometry="true", wgs84="1").json()["geom"][0]
    )
    assert "crs" not in degrees
    assert degrees["coordinates"][0][0][0] == pytest.approx([5.3144, 52.0379], abs=1e-3)


def test_the_aoi_may_be_written_in_capitals(api):
    assert api.ask("parcelByID", aoi="NL", pid="007").json()["pid"] == ["007"]


def test_overlapping_parcels_are_all_found_at_a_point(api):
    to_degrees = Transformer.from_crs(28992, 4326, always_xy=True)
    lon, lat = to_degrees.transform(150075, 450050)
    assert api.ask("parcelByLocation", lon=lon, lat=lat).json()["pid"] == ["007", "008"]
    lon, lat = to_degrees.transform(150150, 450050)
    assert api.ask("parcelByLocation", lon=lon, lat=lat).json()["pid"] == ["008"]


@pytest.mark.parametrize(("lon", "lat"), [(5.4, 52.1), (-180, 90), (180, -90), (0, 0)])
def test_a_point_without_parcel_is_not_found_wherever_on_earth_it_lies(api, lon, lat):
    answer = api.ask("parcelByLocation", lon=lon, lat=lat)
    assert answer.status_code == 404
    assert "no parcel of nl 2024 at" in answer.json()["detail"]


def test_a_point_that_the_campaigns_crs_cannot_express_is_not_found(api):
    assert api.ask("parcelByLocation", year="2023", lon=9.0005, lat=51.9915).status_code == 200
    assert api.ask("parcelByLocation", year="2023", lon=95, lat=0).status_code == 404


# --- series ----------------------------------------------------------------------------------

KEYS = ["date_part", "band", "count", "mean", "std", "min", "p25", "p50", "p75", "max"]


def test_a_series_has_the_jrcs_columns_by_time_then_band(api):
    series = api.series()
    assert list(series) == [*KEYS, "hist"]
    bands = sorted(BANDS["s2"])
    without_b05 = [band for band in bands if band != "B05"]
    assert series["band"] == [*bands, *without_b05, *bands]
    assert series["date_part"][0] == EPOCH
    assert series["date_part"] == sorted(series["date_part"])
    assert len({len(values) for values in series.values()}) == 1


def test_the_statistics_are_those_stored(api):
    series = api.series(band="B03")
    first = {key: values[0] for key, values in series.items()}
    assert first == {
        "date_part": EPOCH, "band": "B03", "count": 90, "mean": 801.25, "std": 800.75,
        "min": 799.25, "p25": 800.25, "p50": 801.5, "p75": 802.25, "max": 803.25,
        "hist": {"4": 186, "5": 1},
    }  # fmt: skip
    assert isinstance(first["count"], int)


def test_a_band_without_a_valid_pixel_has_count_0_and_null_statistics(api):
    series = api.series(band="B08")
    assert series["count"] == [90, 0, 90]
    assert [series[key][1] for key in KEYS[3:]] == [None] * 7


def test_a_band_that_the_product_lacks_has_no_row(api):
    assert len(api.series(band="B05")["band"]) == 2


def test_nan_in_the_tables_is_null_in_json(api):
    answer = api.ask("parcelTimeSeries", pid="007", band="B11")
    assert "NaN" not in answer.text
    assert answer.json()["std"][1] is None


def test_an_observation_without_histogram_stays_in_the_series(api):
    assert api.series(band="B04")["hist"] == [{"4": 186, "5": 1}, None, {"9": 187}]
    assert "hist" not in api.series(scl="False")


def test_of_one_acquisition_the_scene_that_covers_more_is_given_unless_all_are_asked_for(api):
    default = api.series(band="B04", ref="True")
    assert default["reference"] == ["S2A_WHOLE", "S2B_GAPS", "S2A_LATE"]
    every = api.series(band="B04", ref="True", all="True")
    assert every["reference"] == ["S2A_WHOLE", "S2A_HALF", "S2B_GAPS", "S2A_LATE"]
    assert api.series(all="True")["band"][:4] == ["B02", "B02", "B03", "B03"]


def test_days_bound_a_series_and_the_last_one_is_included(api):
    def dates(**params):
        series = api.series(band="B04", **params)
        return [datetime.fromtimestamp(at, UTC).day for at in series["date_part"]]

    assert dates(start="2024-05-02") == [6, 11]
    assert dates(end="2024-05-06") == [1, 6]
    assert dates(start="2024-05-06", end="2024-05-06") == [6]
    assert dates(start_date="2024-05-06", end_date="2024-05-11") == [6, 11]
    assert dates(start="2024-06-01") == []


def test_sentinel_1_bands_bear_the_jrcs_names(api):
    backscatter = api.series(tstype="bs")
    assert list(backscatter) == KEYS
    assert (backscatter["band"], backscatter["count"]) == (["VHb", "VVb"], [98, 99])
    coherence = api.series(tstype="c12")
    assert (coherence["band"], coherence["mean"]) == (["VHc", "VVc"], [0.5, 0.5])
    assert api.series(tstype="c1") == coherence
    assert api.series(tstype="BS", band="VVb")["band"] == ["VVb"]


def test_a_series_without_observations_is_its_columns_empty(api):
    assert api.series(tstype="c6") == {key: [] for key in KEYS}
    assert api.series(pid="never seen") == {key: [] for key in [*KEYS, "hist"]}


def test_scl_gives_the_preferred_observations_histograms(api):
    preferred = api.series(tstype="scl")
    assert list(preferred) == ["obsid", "hist"]
    assert preferred["hist"] == [{"4": 186, "5": 1}, {"9": 187}]
    assert len(api.series(tstype="scl", all="True")["obsid"]) == 3


def test_csv_is_an_attachment_named_as_the_jrcs(api):
    answer = api.ask("parcelTimeSeries", pid="007", tsformat="csv", band="B08")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment; filename=timeseries_nl2024_007_s2.csv" in answer.headers[
        "Content-Disposition"]  # fmt: skip
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [line["count"] for line in lines] == ["90", "0", "90"]
    assert lines[1]["mean"] == ""
    assert json.loads(lines[0]["hist"]) == {"4": 186, "5": 1}


# --- info ------------------------------------------------------------------------------------


def test_info_tells_of_the_users_aois_only_and_its_examples_work(api):
    info = api.get("/query/info").json()
    assert list(info) == ["server", "helpers", "aois"]
    assert list(info["aois"]) == ["nl"]
    nl = info["aois"]["nl"]
    assert nl["years"] == ["2024", "2023"]
    assert nl["datasets"] == ["g"]
    assert nl["time_series"] == ["bs", "s2"]
    assert nl["tms"] == []
    assert nl["id_examples_2024"] == list(PARCELS)
    assert nl["id_examples_2024_g"] == []
    assert len(nl["request_examples"]) == 3
    for example in nl["request_examples"].values():
        assert api.get(example).status_code == 200


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "params", "status", "detail"),
    [
        ("parcelByID", {}, 400, "pid: missing"),
        ("parcelByID", {"pid": "007", "year": "24"}, 400, "year: '24' is not a year"),
        ("parcelByID", {"pid": "007", "withGeometry": "please"}, 400, "withGeometry: 'please'"),
        ("parcelByID", {"pid": "007", "geometry": "True"}, 400, "'geometry' is no parameter"),
        ("parcelByID", {"pid": "999"}, 404, "nl 2024 has no parcel '999'"),
        ("parcelByID", {"pid": "007", "aoi": "zz"}, 404, "there is no aoi zz"),
        ("parcelByID", {"pid": "007", "year": "2019"}, 404, "it has 2024, 2024 g, 2023"),
        ("parcelByID", {"pid": "007", "ptype": "m"}, 404, "nl has no campaign 2024 m"),
        ("parcelByID", {"pid": "007", "aoi": "be"}, 403, "user ann has no right to aoi be"),
        ("parcelByLocation", {"lon": "5"}, 400, "lat: missing"),
        ("parcelByLocation", {"lon": "5", "lat": "91"}, 400, "lat: '91' is not a number from"),
        ("parcelTimeSeries", {"pid": "007", "tstype": "s3"}, 400, "is none of s2, bs, c6"),
        ("parcelTimeSeries", {"pid": "007", "band": "B09"}, 400, "'B09' is none of s2's bands"),
        ("parcelTimeSeries", {"pid": "007", "start": "2024-02-30"}, 400, "start: '2024-02-30'"),
        ("parcelTimeSeries", {"pid": "007", "tsformat": "xml"}, 400, "tsformat: 'xml'"),
        ("parcelTimeSeries", {"pid": "999"}, 404, "no parcel '999'"),
        ("parcelTimeSeries", {"pid": "007", "tstype": "scl", "band": "B04"}, 400, "band: "),
    ],
)
def test_what_cannot_be_answered_gets_a_status_and_says_why(api, question, params, status, detail):
    answer = api.ask(question, **params)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error", "detail"]
    assert detail in body["detail"]


def test_other_addresses_and_methods_are_refused_in_json(api):
    assert api.get("/query/nothing").status_code == 404
    assert api.get("/v1/query/info").status_code == 404
    assert api.get("/nowhere").json() == {
        "error": "Not Found",
        "detail": "there is no such address",
    }
    posted = requests.post(api.url + "/query/info", auth=ANN, timeout=20)
    assert posted.status_code == 405
    assert posted.json()["error"] == "Method Not Allowed"


HOSTILE = [
    "'", "' OR '1'='1", "007' OR 'a'='a", "1; DROP TABLE nl.parcels; --", "007'--", '"nl"."s2"',
    "nl.parcels", "public.api_user", "(SELECT password_hash FROM api_user LIMIT 1)",
    "pg_sleep(5)", "\0", "a\0b", "%00", "%s", "%(campaign)s", "{parcels}", "{0.__class__}",
    "../../etc/passwd", "$(id)", "\r\nX-Evil: 1", "\ud83d\ude00".encode("utf-16", "surrogatepass")
    .decode("utf-16"), "9" * 3000, "-1", "1e400", "NaN", "[]", "null",
]  # fmt: skip

NAMES = ["aoi", "year", "ptype", "pid", "lon", "lat", "withGeometry", "wgs84", "tstype", "band",
         "start", "end", "all", "scl", "ref", "tsformat", "start_date"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_in_any_parameter_is_refused_and_harms_nothing(api, name):
    asked = {"parcelByID": {"pid": "007"}, "parcelByLocation": {"lon": "5", "lat": "52"},
             "parcelTimeSeries": {"pid": "007"}, "info": {}}  # fmt: skip
    for question, params in asked.items():
        for text in HOSTILE:
            answer = api.ask(question, **params | {name: text})
            assert answer.status_code in (400, 404), (question, text, answer.text)
            assert list(answer.json()) == ["error", "detail"]
            assert "argon2" not in answer.text
    assert db.one(api.conn, "SELECT count(*) FROM nl.parcels_2024").count == len(PARCELS)


def test_a_hostile_id_that_exists_is_just_an_id(api):
    code = "it's; DROP TABLE nl.parcels; --"
    assert api.ask("parcelByID", pid=code).json()["pid"] == [code]
    answer = api.ask("parcelTimeSeries", pid=code, tsformat="csv")
    assert "filename=timeseries_nl2024_it_s__DROP_" in answer.headers["Content-Disposition"]


# --- who asks --------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, ("ann", "wrong-word"), ("bob", "right-word"), ("", ""),
                                  ("ann' --", "x"), ("a\0b", "x"), ("ann", "")])  # fmt: skip
def test_without_the_right_password_nothing_is_told(api, auth):
    for question in ("info", "parcelByID", "parcelByLocation", "parcelTimeSeries"):
        answer = api.get(f"/query/{question}", auth=auth)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert "nl" not in answer.json()["detail"].split()


def test_rights_given_and_taken_count_at_once(api):
    assert api.ask("parcelByID", pid="007").status_code == 200
    db.execute(api.conn, "DELETE FROM api_grant")
    assert api.ask("parcelByID", pid="007").status_code == 403
    assert api.get("/query/info").json()["aois"] == {}
    db.execute(api.conn, "INSERT INTO api_grant VALUES ('ann', 'nl')")
    assert api.ask("parcelByID", pid="007").status_code == 200


def test_every_answer_bears_the_safety_headers(api):
    for path in ("/query/info", "/healthz", "/nothing"):
        headers = api.get(path, auth=None).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_each_request_leaves_an_audit_row_with_who_what_status_and_time(api):
    api.ask("parcelByID", pid="audited")
    api.get("/query/info?aoi=audited", auth=("ann", "wrong-word"))
    api.get("/healthz?by=audited")
    noted = "SELECT * FROM api_audit WHERE query LIKE '%audited' ORDER BY at"
    wait_for(lambda: len(db.rows(api.conn, noted)) >= 2)
    found, refused = db.rows(api.conn, noted)
    assert (found.user_name, found.method, found.path) == ("ann", "GET", "/query/parcelByID")
    assert (found.query, found.status) == ("aoi=nl&year=2024&pid=audited", 404)
    assert 0 < found.took_ms < 20000
    assert (refused.user_name, refused.status) == ("ann", 401)


def test_the_api_has_the_rights_of_its_role_only(api):
    api.ask("parcelByID", pid="007")
    roles = db.rows(api.conn, "SELECT DISTINCT usename FROM pg_stat_activity "
                              "WHERE application_name = 'cbm-api'")  # fmt: skip
    assert roles
    db.execute(api.conn, "REVOKE SELECT ON nl.parcels FROM cbm_api")
    try:
        answer = api.ask("parcelByID", pid="007")
    finally:
        db.execute(api.conn, "GRANT SELECT ON nl.parcels TO cbm_api")
    assert answer.status_code == 500
    assert "parcels" not in answer.text


# --- trouble ---------------------------------------------------------------------------------


def test_many_at_once_are_all_answered(api):
    def one(_):
        return api.ask("parcelTimeSeries", pid="007").status_code

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(one, range(64))) == {200}


def test_a_defect_is_a_500_without_a_trace_of_its_inside(api):
    db.execute(api.conn, "ALTER TABLE nl.hists RENAME c0 TO gone")
    try:
        answer = api.ask("parcelTimeSeries", pid="007", tstype="scl")
    finally:
        db.execute(api.conn, "ALTER TABLE nl.hists RENAME gone TO c0")
    assert answer.status_code == 500
    assert answer.json()["error"] == "Internal Server Error"
    for inside in ("Traceback", "psycopg2", "SELECT", "c0"):
        assert inside not in answer.text


def test_a_statement_that_takes_too_long_is_a_503(api):
    with db.transaction(api.conn):
        db.execute(api.conn, "LOCK TABLE nl.parcels IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        answer = api.ask("parcelByID", pid="007")
        assert answer.status_code == 503
        assert 0.9 < time.monotonic() - began < 5
    assert api.ask("parcelByID", pid="007").status_code == 200


def audited(api: Api, ending: str) -> list[int]:
    """The statuses noted of requests whose query ends so, in their order."""
    noted = "SELECT status FROM api_audit WHERE query LIKE %s ORDER BY at"
    return [row.status for row in db.rows(api.conn, noted, (f"%{ending}",))]


def cut_off(elsewhere: db.Connection) -> None:
    db.execute(elsewhere, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                              "WHERE application_name = 'cbm-api'")  # fmt: skip


def test_after_a_restart_of_the_database_the_first_request_is_answered(api):
    assert api.ask("parcelByID", pid="restart").status_code == 404
    wait_for(lambda: audited(api, "restart") == [404])
    cut_off(api.elsewhere)
    assert api.ask("parcelByID", pid="007").status_code == 200


@contextmanager
def away(elsewhere: db.Connection, dbname: str) -> Iterator[None]:
    """Without a database for a while."""
    allow = "ALTER DATABASE {name} ALLOW_CONNECTIONS "
    db.execute(elsewhere, db.compose(allow + "false", name=dbname))
    cut_off(elsewhere)
    try:
        yield
    finally:
        db.execute(elsewhere, db.compose(allow + "true", name=dbname))


def test_while_the_database_is_away_there_are_503s_and_then_answers_again(api):
    with away(api.elsewhere, api.dbname):
        refused = api.ask("parcelByID", pid="outage")
        ready = api.get("/readyz", auth=None)
        alive = api.get("/healthz", auth=None)
    assert (refused.status_code, ready.status_code, alive.status_code) == (503, 503, 200)
    assert refused.headers["Retry-After"] == "5"
    assert api.dbname not in refused.text
    assert api.ask("parcelByID", pid="outage").status_code == 404
    assert api.get("/readyz", auth=None).json() == {"status": "ready"}
    wait_for(lambda: audited(api, "outage") == [503, 404])


def test_while_the_database_is_away_people_get_a_page_that_waits_and_programs_json(api):
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    form = {"name": "ann", "password": "right-word"}
    with away(api.elsewhere, api.dbname):
        pages = [requests.get(api.url + path, headers=browser, timeout=20)
                 for path in ("/", "/?aoi=nl&pid=007", "/status", "/docs")]  # fmt: skip
        pages.append(requests.post(f"{api.url}/login", data=form, headers=browser, timeout=20))
        others = [requests.get(api.url + path, headers=browser, auth=ANN, timeout=20)
                  for path in ("/query/info", "/page/campaigns", "/readyz")]  # fmt: skip
        others.append(api.get("/"))
    for page in pages:
        assert (page.status_code, page.headers["Retry-After"]) == (503, "5"), page.url
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Cache-Control"] == "no-store"
        assert '<meta http-equiv="refresh" content="5">' in page.text
    for other in others:
        assert (other.status_code, list(other.json())) == (503, ["error", "detail"]), other.url
    after = requests.get(f"{api.url}/", headers=browser, timeout=20, allow_redirects=False)
    assert (after.status_code, after.headers["Location"]) == (303, "/login?next=/")


def test_stopping_the_api_writes_the_audit_rows_that_wait(api, tmp_path):
    process, url = serve(tmp_path)
    with db.transaction(api.conn):
        db.execute(api.conn, "LOCK TABLE api_audit")
        for word in ("first", "second"):
            requests.get(f"{url}/query/info?{word}=words", timeout=20)
            time.sleep(0.1)
        process.terminate()
        time.sleep(0.3)
    assert process.wait(30) == 0
    assert audited(api, "words") == [401, 401]
