"""Searching STAC APIs: recorded answers served over loopback, and servers that misbehave."""

import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from card.find.scan_result import ScanResult, collect
from card.find.search import search_collection
from card.find.transport import Transport
from store.errors import CallerError, WorldError
from tests.beds.recorded_stac import RecordedApi, serving

BBOX = (9.0, 47.0, 10.0, 48.0)
START, END = datetime(2020, 3, 1, tzinfo=UTC), datetime(2020, 3, 5, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def recorded(shared_data):
    """Three recorded pages of one search."""
    folder = shared_data / "catalogue/earthsearch_paging"
    return [json.loads((folder / f"page{n}.json").read_text())["response"] for n in (1, 2, 3)]


IMPATIENT = Transport(pause=lambda _seconds: None, timeout_s=0.5)


def found(api: RecordedApi, collection: str = "sentinel-2-l2a") -> ScanResult:
    return collect(search_collection(api.url, collection, BBOX, START, END, IMPATIENT))


def alone(page: dict[str, Any]) -> dict[str, Any]:
    """A recorded page as the only one of its search."""
    return page | {"links": [], "numberMatched": len(page["features"]), "context": {}}


def test_all_pages_are_read(recorded):
    with serving(*recorded) as api:
        result = found(api)
    assert (len(result.scenes), result.problems) == (16, ())
    assert len(api.requests) == 3
    first, second, _ = api.requests
    assert (first["collections"], first["bbox"]) == (["sentinel-2-l2a"], list(BBOX))
    assert first["datetime"] == "2020-03-01T00:00:00Z/2020-03-05T23:59:59Z"
    assert second["next"].startswith("2020-03-02T10:27:44")


def test_reprocessed_twins_are_two_scenes_of_one_overpass(recorded):
    with serving(*recorded) as api:
        scenes = [scene for scene in found(api).scenes if scene.tile == "32TMT"]
    march5 = [scene for scene in scenes if scene.obstime.day == 5]
    assert {scene.baseline for scene in march5} == {"02.14", "05.00"}
    assert len({scene.acquisition for scene in march5}) == 1
    assert {band.offset for scene in march5 for band in scene.bands.values()} == {0.0}
    assert march5[0].produced_at != march5[1].produced_at


def test_the_archives_own_items_are_read(shared_data):
    path = "catalogue/cdse_stac/search_sentinel-2-l2a_20200701_20200705_bbox9_47.json"
    with serving(json.loads((shared_data / path).read_text())["response"]) as api:
        result = found(api)
    assert {scene.tile for scene in result.scenes} == {"32TMT", "32TNT"}
    hrefs = {band.href for scene in result.scenes for band in scene.bands.values()}
    assert all(href.startswith("s3://eodata/Sentinel-2/MSI/L2A_N0500/") for href in hrefs)


def test_an_empty_answer_finds_nothing(shared_data):
    path = shared_data / "catalogue/cdse_stac/search_empty_result.json"
    with serving(json.loads(path.read_text())["response"]) as api:
        assert found(api) == ScanResult((), (), 0)


def test_an_item_that_is_no_scene_is_a_problem_and_the_others_stay(recorded):
    page = alone(recorded[1])
    del page["features"][0]["properties"]["platform"]
    page["features"][0]["properties"]["s2:product_uri"] = None
    with serving(page) as api:
        result = found(api)
    assert len(result.scenes) == 5
    [problem] = result.problems
    assert problem.what == "item S2A_32TNT_20200302_1_L2A"
    assert "properties.platform" in problem.why


def test_an_item_listed_twice_is_one_scene(recorded):
    page = alone(recorded[1])
    page["features"].append(page["features"][0])
    with serving(page) as api:
        result = found(api)
    assert (len(result.scenes), result.problems) == (6, ())


def test_a_stumbling_server_is_asked_again(recorded):
    with serving(503, recorded[0], 502, *recorded[1:]) as api:
        assert len(found(api).scenes) == 16
    assert len(api.requests) == 5


def test_a_refusal_is_the_callers_fault():
    with serving(404) as api, pytest.raises(CallerError, match="refuses"):
        found(api)


def test_a_server_that_stays_out_of_order_is_said():
    with serving() as api, pytest.raises(WorldError, match=r"not answer soundly.*HTTP 503"):
        found(api)


@pytest.mark.parametrize("answer", ["<html>", {"features": 3, "links": []}, []])
def test_answers_of_something_else_are_said(answer):
    expected = "not answer as a STAC API|no JSON"
    with serving(*[answer] * 6) as api, pytest.raises(WorldError, match=expected):
        found(api)


def test_no_server_is_said():
    with serving() as api:
        pass
    with pytest.raises(WorldError, match=api.url):
        found(api)


@pytest.mark.timeout(30)
def test_a_server_that_takes_the_question_and_never_answers_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WorldError, match=f"{url} .*silent"):
            list(search_collection(url, "sentinel-2-l2a", BBOX, START, END, IMPATIENT))


@pytest.mark.parametrize("bbox", [(9.0, 48.0, 10.0, 47.0), (500000.0, 47.0, 510000.0, 48.0)])
def test_a_senseless_box_is_refused_before_asking(bbox):
    with pytest.raises(CallerError, match="west, south, east, north"):
        collect(search_collection("http://127.0.0.1:1", "x", bbox, START, END))


def test_a_senseless_time_is_refused_before_asking():
    with pytest.raises(CallerError, match="after the end"):
        collect(search_collection("http://127.0.0.1:1", "x", BBOX, END, START))
