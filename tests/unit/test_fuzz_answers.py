"""Anything for names, answers and manifests: it is used, or refused by one of our errors."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from card.find import level1
from card.find.candidate import Candidate, Query
from card.find.following import describe
from card.find.orbits import parse_orbit
from card.find.search import search
from card.find.sources import Source
from card.find.transport import ArchiveRequest, Transport, check_address
from store import products
from store.errors import CbmError, ConfigError, ProductNameError
from tests.beds.archive import _feature, _item, _product, held, s2_product
from tests.fuzzing import quickly

L2A = "S2A_MSIL2A_20230815T095031_N0509_R079_T33TWL_20230815T155057"
SLC = "S1A_IW_SLC__1SDV_20141012T232927_20141012T232957_002803_003287_0018"
DAY = datetime(2024, 4, 1, tzinfo=UTC)
QUERY = Query("s2", (9.0, 47.0, 10.0, 48.0), DAY, DAY)
ENTRY = held(s2_product(DAY))

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)


@quickly(100)
@given(st.text(max_size=120) | st.from_regex(products._S1) | st.from_regex(products._S2))
def test_names_are_read_or_refused(name):
    for read in (products.parse, products.find):
        try:
            found = read(name)
        except ProductNameError:
            continue
        assert found is None or found.reference in name
    parse_orbit(name)


@quickly(100)
@given(st.text(max_size=80))
def test_addresses_are_https_or_refused(text):
    for address in (text, f"https://{text}", f"http://{text}"):
        try:
            check_address(address)
        except ConfigError:
            continue
        assert address.startswith(("https://", "http://"))


def changed(value: Any, path: list[Any], new: Any) -> Any:
    """A JSON value with one of its parts replaced, whichever the path leads to."""
    if not path or not isinstance(value, dict | list) or not value:
        return new
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    copy = value.copy()
    copy[key] = changed(value[key], path[1:], new)
    return copy


PAGES = {
    "stac": {"features": [_item(ENTRY)], "links": [], "numberMatched": 1},
    "odata": {"value": [_product(ENTRY)], "@odata.count": 1, "@odata.nextLink": None},
    "opensearch": {
        "features": [_feature(ENTRY)],
        "properties": {"links": [], "totalResults": 1, "exactCount": 1},
    },
}


class Answers(requests.Session):
    """A session without a server: each request gets the same text."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text

    def request(self, method: str, url: str, **_: Any) -> requests.Response:  # type: ignore[override]
        root = {"links": [{"rel": "search", "href": "https://x.org/search", "method": "POST"}]}
        response = requests.Response()
        response.status_code, response.url = 200, url
        text = json.dumps(root).encode() if url.endswith("/root") else self.text
        response._content, response._content_consumed = text, True  # type: ignore[assignment]
        return response


def searched(protocol: str, text: bytes, kind: str) -> int:
    """Search and describe: nothing but our errors comes out."""
    names = {"s2": "S2MSI2A", "slc": "IW_SLC__1S"}
    url = "https://x.org/root"
    source = Source("x", "x", protocol, url, names, store="/nowhere")  # type: ignore[arg-type]
    transport = Transport(pause=lambda _seconds: None, session=Answers(text))
    query = Query(kind, QUERY.bbox, QUERY.start, QUERY.end)
    with suppress(CbmError):
        found = search(source, query, transport)
        for candidate in found.candidates:
            assert isinstance(candidate, Candidate)
            describe(candidate)
        return len(found.candidates)
    return 0


QUICKLY = quickly(150)


@pytest.mark.parametrize("protocol", PAGES)
def test_a_sound_answer_is_used(protocol):
    assert searched(protocol, json.dumps(PAGES[protocol]).encode(), "s2") == 1


@pytest.mark.parametrize("kind", ["s2", "slc"])
@pytest.mark.parametrize("protocol", PAGES)
@QUICKLY
@given(path=st.lists(st.integers(0, 20), max_size=7), new=anything)
def test_an_answer_with_anything_in_it_is_used_or_refused(protocol, kind, path, new):
    searched(protocol, json.dumps(changed(PAGES[protocol], path, new)).encode(), kind)


@pytest.mark.parametrize("protocol", PAGES)
@QUICKLY
@given(text=st.binary(max_size=60))
def test_an_answer_that_is_no_json_is_refused(protocol, text):
    searched(protocol, text, "s2")
    searched(protocol, b"[" * 100_000, "s2")


@QUICKLY
@given(text=st.binary(max_size=80), place=st.integers(0, 900))
def test_a_manifest_with_anything_in_it_is_used_or_refused(text, place):
    manifest = (
        b"<x:XFDU xmlns:x='u'><x:startTime>2014-10-12T23:29:27</x:startTime>"
        b"<x:stopTime>2014-10-12T23:29:57Z</x:stopTime>"
        b"<x:relativeOrbitNumber>31</x:relativeOrbitNumber><x:pass>ASCENDING</x:pass>"
        b"<x:coordinates>1,2 1,3 2,3 2,2</x:coordinates></x:XFDU>"
    )
    product = products.parse(SLC)
    assert level1.of_manifest(product, "s3://x", manifest).relative_orbit == 31
    place %= len(manifest)
    with suppress(CbmError):
        level1.of_manifest(product, "s3://x", manifest[:place] + text + manifest[place + 10 :])


def test_characters_that_no_database_takes_are_left_out():
    transport = Transport(session=Answers(b'{"id": "a\\u0000b\\ud800c", "x": "\\u00e9"}'))
    assert transport.get_json(ArchiveRequest("https://x.org/")) == {"id": "ab?c", "x": "\u00e9"}


def test_requests_that_are_equal_have_one_key():
    assert ArchiveRequest("a", {"x": 1, "y": 2}).key == ArchiveRequest("a", {"y": 2, "x": 1}).key
    assert (
        len({ArchiveRequest("a").key, ArchiveRequest("a", body={}).key, ArchiveRequest("b").key})
        == 3
    )
