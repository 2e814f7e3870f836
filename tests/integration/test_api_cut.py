"""A long answer whose database goes away in its middle: its reader sees that it is not whole."""

import io
import json

import pyarrow.parquet as pq
import pytest
import requests
from pyarrow.lib import ArrowInvalid

from store import db
from tests.integration import filled_api
from tests.integration.filled_api import ANN, Api, audited, wait_for
from tests.integration.long_season import CODES, fill_season

api, filled = filled_api.api, filled_api.filled


@pytest.fixture(scope="module")
def season(api) -> Api:
    fill_season(api.conn)
    return api


def send(api: Api, form: str) -> requests.Response:
    body = {"aoi": "nl", "year": 2024, "pid": CODES, "tsformat": form}
    return requests.post(
        f"{api.url}/query/parcelTimeSeries", json=body, auth=ANN, timeout=60, stream=True
    )


def begun(api: Api, form: str) -> requests.Response:
    """A stream, as soon as the API has a place for it."""
    found = []
    wait_for(lambda: found.append(send(api, form)) or found[-1].status_code == 200)
    return found[-1]


def end_all(api: Api, how: str) -> None:
    """End the API's transactions: as a restart of the database does, or as a timeout."""
    ended = db.fetch_all(
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


def test_a_slow_reader_takes_half_of_the_streams_and_no_more(season):
    slow = [begun(season, "csv") for _ in range(2)]
    try:
        refused = send(season, "csv")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
        assert "2 streams of user ann are open" in refused.json()["detail"]
        assert [season.ask("parcelByID", pid="007").status_code for _ in range(20)] == [200] * 20
    finally:
        for answer in slow:
            answer.close()
    begun(season, "csv").close()
