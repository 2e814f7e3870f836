"""A long answer whose database goes away in its middle: its reader is told that it is not whole."""

import io
import json

import pyarrow.parquet as pq
import pytest
import requests
from pyarrow.lib import ArrowInvalid

from store import db
from store.products import BANDS
from tests.integration import test_api_routes
from tests.integration.test_api_routes import ANN, EPOCH, SCENE, Api, audited, leaf, wait_for

api, filled = test_api_routes.api, test_api_routes.filled

PARCELS, SCENES = range(100, 3100), range(10)
CODES = [f"n{pid}" for pid in PARCELS]


@pytest.fixture(scope="module")
def season(api) -> Api:
    """3000 parcels in ten scenes: 300,000 rows, too many for what lies between us and the API."""
    conn = api.conn
    db.execute(
        conn,
        "INSERT INTO nl.parcels SELECT 1, pid, 1, 'n' || pid, 'Maize', '0259', geom, '' "
        "FROM generate_series(%s, %s) AS pid, "
        "(SELECT geom FROM nl.parcels WHERE campaign_id = 1 AND pid = 1) AS one",
        (PARCELS[0], PARCELS[-1]),
    )
    # Noise, so that no form can be packed into nothing.
    values = "90" + ", random()" * 7
    bands = ", ".join([values] * len(BANDS["s2"]))
    for number in SCENES:
        at = EPOCH + number * 86400
        row = db.one(conn, SCENE, (f"LONG{number}", "s2", at, f"LONG{number}", "05.10"))
        leaf(conn, "s2", row.obsid)
        db.execute(
            conn,
            f"INSERT INTO nl.s2 SELECT 1, 0, pid, %s, 90, {bands} "
            "FROM generate_series(%s, %s) AS pid",
            (row.obsid, PARCELS[0], PARCELS[-1]),
        )
    db.execute(conn, "ANALYZE")
    return api


def asked(api: Api, form: str) -> requests.Response:
    body = {"aoi": "nl", "year": 2024, "pid": CODES, "tsformat": form}
    return requests.post(
        f"{api.url}/query/parcelTimeSeries", json=body, auth=ANN, timeout=60, stream=True
    )


def begun(api: Api, form: str) -> requests.Response:
    """A stream, as soon as the API has a place for it."""
    found = []
    wait_for(lambda: found.append(asked(api, form)) or found[-1].status_code == 200)
    return found[-1]


def end_all(api: Api, how: str) -> None:
    """End the API's transactions: as a restart of the database does, or as a timeout."""
    ended = db.rows(
        api.elsewhere,
        f"SELECT {how}(pid) FROM pg_stat_activity "
        "WHERE application_name = 'cbm-api' AND query LIKE 'COPY%%' AND state <> 'idle'",
    )
    assert ended != []


@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("csv", "pg_terminate_backend"),
        ("csv", "pg_cancel_backend"),
        ("json", "pg_terminate_backend"),
        ("arrow", "pg_terminate_backend"),
        ("parquet", "pg_terminate_backend"),
    ],
)
def test_an_answer_that_is_cut_ends_in_an_error_for_its_reader(season, form, how):
    already = audited(season, "").count(500)
    answer = begun(season, form)
    pieces = answer.iter_content(1 << 12)
    taken = [next(pieces)]
    end_all(season, how)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        taken.extend(pieces)
    cut = b"".join(taken)
    if form == "json":
        with pytest.raises(json.JSONDecodeError):
            json.loads(cut)
    if form == "parquet":
        with pytest.raises(ArrowInvalid):
            pq.read_table(io.BytesIO(cut))
    wait_for(lambda: audited(season, "").count(500) == already + 1)
    assert season.ask("parcelByID", pid="007").status_code == 200


def test_who_reads_on_gets_all_of_it(season):
    answer = begun(season, "json")
    series = answer.json()
    assert len(series) == len(CODES)
    assert {len(columns["band"]) for columns in series.values()} == {100}


def test_a_reader_who_leaves_gives_the_connection_back(season):
    for _ in range(12):
        begun(season, "csv").close()
    assert season.ask("parcelByID", pid="007").status_code == 200


def test_slow_readers_take_half_of_the_threads_and_no_more(season):
    slow = [begun(season, "csv") for _ in range(4)]
    try:
        refused = asked(season, "csv")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert "too busy" in refused.json()["detail"]
        assert [season.ask("parcelByID", pid="007").status_code for _ in range(20)] == [200] * 20
    finally:
        for answer in slow:
            answer.close()
    begun(season, "csv").close()
