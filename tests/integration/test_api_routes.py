"""The API as its users meet it: gunicorn on loopback, a real PostGIS, a small campaign by hand."""

import csv
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import requests
from pyproj import Transformer

from store import db
from store.kinds import KINDS
from tests.integration import filled_api
from tests.integration.filled_api import (
    ANN,
    EPOCH,
    PARCELS,
    audited,
    away,
    cut_off,
    serve,
    wait_for,
)

api, filled = filled_api.api, filled_api.filled

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
    bands = sorted(KINDS["s2"].band_names)
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
        ("parcelByID", {"pid": "007", "aoi": "zz"}, 403, "has no right to aoi zz"),
        ("parcelByID", {"pid": "007", "year": "2019"}, 404, "it has 2024, 2024 g, 2023"),
        ("parcelByID", {"pid": "007", "ptype": "m"}, 404, "nl has no campaign 2024 m"),
        ("parcelByID", {"pid": "007", "aoi": "be"}, 403, "user ann has no right to aoi be"),
        ("parcelByLocation", {"lon": "5"}, 400, "lat: missing"),
        ("parcelByLocation", {"lon": "5", "lat": "91"}, 400, "lat: '91' is not a number from"),
        ("parcelTimeSeries", {"pid": "007", "tstype": "s3"}, 400, "is none of s2, bs, c1d, c6"),
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


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND", "MADEUP"])
def test_a_method_that_a_path_lacks_is_refused_in_json_and_logged(api, method):
    for path, allowed in {"/query/info": "GET, HEAD", "/login": "GET, HEAD, POST"}.items():
        answer = requests.request(method, f"{api.url}{path}?by={method}", auth=ANN, timeout=20)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.json()["detail"] == f"{method} cannot be done here, only {allowed}"
    wait_for(lambda: audited(api, f"by={method}") == [405, 405])


def test_a_query_cannot_replace_a_parameter_of_the_path(api):
    tile = "/tiles/nl/2024/13/4218/2702"
    assert api.get(tile).status_code in {200, 204}
    answer = api.get(f"{tile}?aoi=be")
    assert (answer.status_code, "'aoi' is no parameter" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("name", ["request", "response", "self", "_Interfaces__hug_internal_self"])
def test_no_parameter_reaches_into_the_framework(api, name):
    for path in ("/query/info", "/tiles/nl/2024/13/4218/2702", "/healthz"):
        answer = api.get(f"{path}?{name}=1&api_version=1")
        assert answer.status_code == 400
        assert "is no parameter here" in answer.json()["detail"]


def test_head_has_the_headers_of_get_and_no_body(api):
    answer = requests.head(f"{api.url}/query/info", auth=ANN, timeout=20)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"] == "application/json"


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
    calls = {"parcelByID": {"pid": "007"}, "parcelByLocation": {"lon": "5", "lat": "52"},
             "parcelTimeSeries": {"pid": "007"}, "info": {}}  # fmt: skip
    for question, params in calls.items():
        for text in HOSTILE:
            answer = api.ask(question, **params | {name: text})
            assert answer.status_code in (400, 403, 404), (question, text, answer.text)
            assert list(answer.json()) == ["error", "detail"]
            assert "argon2" not in answer.text
    assert db.fetch_one(api.conn, "SELECT count(*) FROM nl.parcels_2024").count == len(PARCELS)


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
    wait_for(lambda: len(db.fetch_all(api.conn, noted)) >= 2)
    found, refused = db.fetch_all(api.conn, noted)
    assert (found.user_name, found.method, found.path) == ("ann", "GET", "/query/parcelByID")
    assert (found.query, found.status) == ("aoi=nl&year=2024&pid=audited", 404)
    assert 0 < found.took_ms < 20000
    assert (refused.user_name, refused.status) == ("ann", 401)


def test_the_api_has_the_rights_of_its_role_only(api):
    api.ask("parcelByID", pid="007")
    roles = db.fetch_all(api.conn, "SELECT DISTINCT usename FROM pg_stat_activity "
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


def test_after_a_restart_of_the_database_the_first_request_is_answered(api):
    assert api.ask("parcelByID", pid="restart").status_code == 404
    wait_for(lambda: audited(api, "restart") == [404])
    cut_off(api.elsewhere)
    assert api.ask("parcelByID", pid="007").status_code == 200


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
