"""Series as the JRC's scripts read them, and whether they can be relied on: px, valid, flags."""

import csv
import io

import pytest

from store import db
from tests.integration import filled_api

api, filled = filled_api.api, filled_api.filled

FITNESS = ["px", "valid", "flags"]


def test_a_series_says_its_pixels_their_valid_share_and_flags_on_request(api):
    table = api.series(flags="True", band="B04", scl="False")
    assert [table[name] for name in FITNESS] == [[100] * 3, [0.9] * 3, [0] * 3]
    assert not set(FITNESS) & api.series().keys()


def test_touched_pixels_and_cuts_are_told_by_observation(api):
    db.execute(api.conn, "UPDATE nl.s2 SET flags = 9, px = 1 WHERE obsid = 1")
    table = api.series(flags="True", band="B04")
    assert [table[name][0] for name in FITNESS] == [1, 1.0, 9]
    assert table["flags"][1:] == [0, 0]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_layover_and_shadow_are_told_of_backscatter_as_shares(api, form):
    db.execute(api.conn, "UPDATE nl.bs SET flags = 8 + (31 << 4) + (7 << 9)")
    answer = api.ask(
        "parcelTimeSeries", pid="007", tstype="bs", band="VV", flags="True", tsformat=form
    )
    if form == "json":
        table = answer.json()
    else:
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        table = {name: [float(row[name]) for row in rows] for name in ("layover", "shadow")}
    assert set(table["layover"]) == {1.0}
    assert table["shadow"] == pytest.approx([7 / 31] * len(table["layover"]))


@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
def test_files_hold_them_too(api, form):
    answer = api.ask("parcelTimeSeries", pid="007", flags="True", tsformat=form)
    assert answer.status_code == 200, answer.text
    if form == "csv":
        assert list(csv.DictReader(io.StringIO(answer.text)).fieldnames)[-3:] == FITNESS


def test_histograms_have_none(api):
    answer = api.ask("parcelTimeSeries", pid="007", tstype="scl", flags="True")
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "flags: histograms (tstype scl) have none",
    )


@pytest.mark.parametrize(
    ("tstype", "band", "name"), [("s2", "B4", "B04"), ("bs", "VV", "VVb"), ("c1", "VH", "VHc")]
)
def test_old_names_of_bands_hold_below_the_prefix(api, tstype, band, name):
    path = "/jrc/query/parcelTimeSeries"
    table = api.get(path, aoi="nl", year=2024, pid="007", tstype=tstype, band=band).json()
    assert set(table["band"]) == {name}


def test_every_observation_has_a_histogram_for_scripts_that_read_one(api):
    params = {"aoi": "nl", "year": 2024, "pid": "007", "band": "B04", "ref": "True"}
    table = api.get("/jrc/query/parcelTimeSeries", **params).json()
    hists = dict(zip(table["reference"], table["hist"], strict=True))
    assert hists["S2B_GAPS"] == {}
    assert hists["S2A_LATE"] == {"9": 187}
    assert None in api.series(band="B04")["hist"]
