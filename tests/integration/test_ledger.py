"""The completeness ledger and the inputs of card.make, as the database keeps them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from store import db, inputs, listings
from store.catalogue import BandSource, register
from store.listings import Listing
from store.parcels import campaigns
from tests.integration.small_state import a_scene, add_campaign, footprint, square

PLACE = footprint((100, 100)).replace(", ", ",").replace("N (", "N(")  # as PostGIS spells it


@pytest.fixture
def campaign(database):
    add_campaign(database, [square(10, 10)])
    return campaigns.find(database, "tt", 2024)


def listing(name: str, day: int, **facts) -> Listing:
    """The listing of a scene of 10:15 on a day of April 2024."""
    start = datetime(2024, 4, day, 10, 15, tzinfo=UTC)
    known = {
        "source": "cdse",
        "reference": name,
        "kind": "s2",
        "platform": "S2A",
        "acquisition": f"S2A_{start:%Y%m%dT%H%M%S}_R022",
        "sensed_at": start,
        "tile": "32TNT",
        "relative_orbit": 22,
        "baseline": "05.10",
        "footprint_wkt": PLACE,
    }
    return Listing(**known | facts)


def scene_of(listed: Listing, **facts):
    return a_scene(
        0,
        **{
            "reference": listed.reference,
            "obstime": listed.sensed_at,
            "acquisition": listed.acquisition,
            "tile": listed.tile,
            "baseline": listed.baseline,
            "footprint_wkt": PLACE,
        }
        | facts,
    )


def write(conn, *listed: Listing) -> None:
    with db.transaction(conn):
        listings.list_products(conn, listed)


def fates(conn, campaign, kind=None) -> dict[str, str]:
    """State by reference, of unlisted ones by day."""
    rows = db.fetch_all(conn, "SELECT * FROM cbm_expected(%s::smallint)", (campaign.id,))
    return {row.reference or str(row.day): row.state for row in rows if kind in (None, row.kind)}


def test_each_listed_scene_has_one_of_the_states(database, campaign):
    names = ["waiting", "extracted", "dead", "missing", "offline", "absent", "unusable"]
    listed = [
        listing(name, 1 + n, state=name if name in ("offline", "absent", "unusable") else "online")
        for n, name in enumerate(names)
    ]
    write(database, *listed)
    register(database, [scene_of(one) for one in listed[:3]])
    for name, state in (("extracted", "done"), ("dead", "dead")):
        db.execute(
            database,
            "UPDATE work SET state = %s, reason = 'broken' FROM scene s "
            "WHERE s.obsid = work.obsid AND s.reference = %s",
            (state, name),
        )
    assert fates(database, campaign) == {name: name for name in names}
    gaps = listings.gap_products(database, campaign)
    assert [row.state for row in gaps] == ["dead", "missing", "offline", "absent", "unusable"]
    assert gaps[0].reason == "broken"
    [row] = listings.gaps_by_month(database, campaign.id)
    assert (row.month, row.place, row.expected) == ("2024-04", "32TNT", 7)
    assert {getattr(row, name) for name in names} == {1}


def test_a_product_is_expected_once_whoever_lists_it(database, campaign):
    write(
        database,
        listing("S2A_X", 1, state="offline"),
        listing("S2A_X", 1, source="earthsearch"),
        listing("S2A_X_COG", 1, source="bucket", state="absent"),
    )
    assert list(fates(database, campaign).values()) == ["missing"]
    register(database, [scene_of(listing("S2A_X_COG", 1))])
    assert list(fates(database, campaign).values()) == ["waiting"]


def test_halves_of_a_split_granule_are_both_expected(database, campaign):
    halves = [listing("S2A_X_1", 1), listing("S2A_X_2", 1)]
    write(database, *halves)
    register(database, [scene_of(halves[0])])
    assert fates(database, campaign) == {"S2A_X_1": "waiting", "S2A_X_2": "missing"}


def test_a_reprocessed_product_takes_the_place_of_the_older_one(database, campaign):
    old, new = listing("old", 1, baseline="02.14"), listing("new", 1, baseline="05.00")
    write(database, old, new)
    assert fates(database, campaign) == {"new": "missing"}
    register(database, [scene_of(old)])
    assert fates(database, campaign) == {"new": "missing"}
    register(database, [scene_of(new)])
    assert fates(database, campaign) == {"new": "waiting"}


def test_a_pass_between_its_neighbours_that_nobody_lists_is_seen(database, campaign):
    write(database, *(listing(f"d{day}", day) for day in (1, 21)), listing("other", 25, tile="X"))
    assert fates(database, campaign) == {
        "d1": "missing", "d21": "missing", "other": "missing", "2024-04-11": "unlisted",
    }  # fmt: skip


def test_a_last_pass_is_missed_once_its_satellite_came_again(database, campaign):
    write(database, listing("first", 1), listing("later", 12, tile="32TMT", relative_orbit=65))
    assert fates(database, campaign)["2024-04-11"] == "unlisted"


def test_a_moved_orbit_is_no_gap(database, campaign):
    write(database, *(listing(f"d{day}", day) for day in (1, 4, 14)))
    assert "unlisted" not in fates(database, campaign).values()


def test_scenes_elsewhere_or_at_other_times_are_not_expected(database, campaign):
    write(
        database,
        listing("elsewhere", 1, footprint_wkt="MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))"),
        listing("too late", 1, sensed_at=datetime(2025, 1, 1, tzinfo=UTC)),
    )
    assert fates(database, campaign) == {}


def grd(day: int = 1, **facts) -> inputs.InputProduct:
    start = datetime(2024, 4, day, 5, 30, 7, 123456, tzinfo=UTC)
    known = {
        "reference": f"S1A_IW_GRDH_1SDV_202404{day:02}",
        "level": "GRD",
        "product_type": "IW_GRDH_1S",
        "platform": "S1A",
        "sensing_start": start,
        "sensing_stop": start + timedelta(seconds=25),
        "orbit_number": 53000 + day,
        "relative_orbit": 44,
        "footprint_wkt": PLACE,
        "href": "s3://eodata/Sentinel-1/SAR/IW_GRDH_1S/x.SAFE",
    }
    return inputs.InputProduct(**known | facts)


def listing_of(product: inputs.InputProduct) -> Listing:
    return Listing(
        "cdse", product.reference, product.level.lower(), "S1A",
        f"S1A_{product.orbit_number:06}", product.sensing_start,
        relative_orbit=44, footprint_wkt=PLACE,
    )  # fmt: skip


def test_a_grd_is_an_input_until_its_card_is_made(database, campaign):
    write(database, listing_of(grd()))
    assert list(fates(database, campaign).values()) == ["missing"]
    inputs.register_inputs(database, [grd()])
    assert list(fates(database, campaign).values()) == ["input"]
    made = scene_of(
        listing_of(grd()), reference=f"{grd().reference}_CARD_BS", kind="bs",
        unit="gamma0_linear", scale=None, bands={"VV": BandSource("/nowhere/VV.tif")},
        obstime=grd().sensing_start.replace(microsecond=0),
    )  # fmt: skip
    register(database, [made])
    assert list(fates(database, campaign).values()) == ["waiting"]


def test_inputs_are_registered_once_and_keep_what_other_sources_stated(database):
    first = replace(grd(), size_bytes=12, bursts=("IW1_044_1",))
    assert inputs.register_inputs(database, [first]) == inputs.InputReport(1, 0, 0)
    assert inputs.register_inputs(database, [grd()]) == inputs.InputReport(0, 0, 1)
    assert inputs.find_inputs(database) == [first]
    moved = replace(first, state="absent")
    assert inputs.register_inputs(database, [moved, grd(2)]) == inputs.InputReport(1, 1, 0)
    assert inputs.find_inputs(database, "SLC") == []
    assert inputs.find_inputs(database, "GRD", start=grd(2).sensing_start) == [grd(2)]
    assert inputs.find_inputs(database, stop=grd(2).sensing_start, relative_orbit=44) == [moved]


def test_footprints_are_held_against_the_parcels_themselves(database, campaign):
    beside = footprint((5, 5))  # in the box around the parcels, without a parcel
    assert listings.meet_parcels(database, campaign, [PLACE, beside, None]) == [True, False, True]
    assert listings.meet_parcels(database, campaign, []) == []


def test_days_are_due_by_age_and_by_what_was_left(database, campaign):
    area = listings.campaign_area(database, campaign)
    assert area.bbox == pytest.approx((5, 40, 15, 55))

    def due(today, of_area=area):
        return listings.due_days(database, campaign, "cdse", "s2", of_area, today)

    def close(day, *listed, complete=True):
        listings.close_day(database, campaign, "cdse", "s2", day, area, listed, complete)

    first, today = date(2023, 10, 1), date(2023, 10, 4)
    days = [first + timedelta(days=n) for n in range(4)]
    assert due(today) == days
    for day in days:
        close(day)
    assert due(today) == []
    close(days[0], complete=False)
    close(days[1], listing("gone", 1, state="absent",
                           sensed_at=datetime(2023, 10, 2, 10, 15, tzinfo=UTC)))  # fmt: skip
    assert due(today) == days[:2]
    assert due(today, replace(area, digest="other parcels")) == days
    db.execute(
        database,
        "UPDATE sync_day SET looked_at = day + interval '20 days' "
        "WHERE day = %s", (days[3],),
    )  # fmt: skip
    assert days[3] in due(today)  # read when it was 20 days old, years ago
    assert len(due(date(2030, 1, 1))) == 458 - 4 + 3  # never after the campaign's last day
