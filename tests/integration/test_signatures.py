"""Signatures as they stand in the tables and in the views that the JRC's users know."""

import threading

import numpy as np
import pytest

from store import catalogue, db, signatures
from store.signatures import Signatures
from tests.integration.small_state import a_scene, add_campaign, square

ROW = [4, 30.5, 2.25, 10, 17.5, 25, 37.5, 60]
EMPTY = [0, *[np.nan] * 7]


@pytest.fixture
def state(database):
    """A campaign of three parcels and two scenes of one overpass."""
    campaign = add_campaign(database, [square(0, 0), square(0, 4), square(0, 8)])
    twin = a_scene(0, reference="newer", baseline="05.11", acquisition=a_scene(0).acquisition)
    catalogue.register(database, [a_scene(0), twin])
    return database, campaign


def write(state, obsid, stats, classes=None, pids=(1, 2, 3), px=4):
    conn, campaign = state
    leaves = signatures.ensure_partitions(conn, campaign, obsid, "s2")
    k = len(pids)
    found = Signatures(
        "s2",
        np.array(pids, np.int32),
        np.full(k, px, np.int32),
        np.arange(k, dtype=np.int16),
        {band: np.array(table, float) for band, table in stats.items()},
        np.array(classes) if classes is not None else None,
    )
    with db.transaction(conn):
        signatures.write(conn, "tt", leaves, campaign, obsid, found)
    return leaves


def test_every_statistic_stands_in_its_own_column(state):
    write(state, 1, {"B04": [ROW] * 3, "B8A": [[9] * 8] * 3})
    row = db.fetch_one(state[0], "SELECT * FROM tt.s2 WHERE pid = 2")
    assert [getattr(row, f"b04_{name}") for name in signatures.STATISTICS] == ROW
    assert row.b8a_mean == 9
    assert (row.campaign_id, row.obsid, row.px, row.flags) == (state[1], 1, 4, 1)


def test_a_lacking_band_is_null_and_an_empty_one_counts_0_with_null_statistics(state):
    write(state, 1, {"B04": [ROW, EMPTY, ROW], "B08": [ROW, ROW, EMPTY]})
    rows = db.fetch_all(state[0], "SELECT * FROM tt.s2 ORDER BY pid")
    assert [r.b04_count for r in rows] == [4, 0, 4]
    assert [r.b04_mean for r in rows] == [30.5, None, 30.5]
    assert [r.b08_max for r in rows] == [60, 60, None]
    assert {r.b02_count for r in rows} == {None}


def test_no_row_holds_a_nan(state):
    write(state, 1, {"B04": [ROW, EMPTY, ROW]})
    assert not db.fetch_all(state[0], "SELECT 1 FROM tt.s2 WHERE b04_mean = 'NaN'::real")


def test_the_long_view_has_a_row_per_band_of_the_product(state):
    write(state, 1, {"B04": [ROW, EMPTY, ROW]})
    rows = db.fetch_all(state[0], "SELECT * FROM tt.sigs_2024 ORDER BY pid")
    assert [(r.pid, r.band, r.count, r.p50) for r in rows] == [
        (1, "B04", 4, 25),
        (2, "B04", 0, None),
        (3, "B04", 4, 25),
    ]


def test_the_histogram_view_has_the_classes_that_occur(state):
    classes = np.zeros((3, 12), int)
    classes[0, [4, 9]] = [186, 5]
    write(state, 1, {"B04": [ROW] * 3}, classes)
    rows = db.fetch_all(state[0], "SELECT pid, hist FROM tt.hists_2024 ORDER BY pid")
    assert rows[0].hist == {"4": 186, "9": 5}
    assert rows[1].hist == {}


def test_parcels_and_catalogue_views_have_the_jrcs_columns(state):
    conn, _ = state
    parcel = db.fetch_one(conn, "SELECT * FROM tt.parcels_2024 ORDER BY ogc_fid")
    assert (parcel.ogc_fid, parcel.code, parcel.cropname, parcel.cropcode) == (
        1,
        "p1",
        "maize",
        "01",
    )
    scene = db.fetch_one(conn, "SELECT * FROM dias_catalogue ORDER BY id")
    assert (scene.id, scene.sensor, scene.card, scene.status) == (1, "2A", "s2", "ingested")


def test_deleting_a_scenes_rows_leaves_other_scenes_and_sets_alone(state):
    conn, campaign = state
    leaves = write(state, 1, {"B04": [ROW] * 3}, np.ones((3, 12), int))
    write(state, 2, {"B04": [ROW] * 3})
    set_id = db.fetch_one(conn, "SELECT set_id FROM tt.parcels WHERE pid = 1").set_id
    other_set = db.fetch_one(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "SELECT campaign_id, 'x', 1, extent FROM parcel_set RETURNING id",
    ).id
    db.execute(conn, "UPDATE tt.parcels SET set_id = %s WHERE pid = 3", (other_set,))
    signatures.delete(conn, "tt", leaves, 1, set_id)
    assert db.fetch_all(conn, "SELECT pid, obsid FROM tt.s2 ORDER BY obsid, pid") == [
        (3, 1),
        (1, 2),
        (2, 2),
        (3, 2),
    ]
    assert db.fetch_all(conn, "SELECT pid FROM tt.hists") == [(3,)]
    assert campaign


def test_the_same_row_cannot_be_written_twice(state):
    write(state, 1, {"B04": [ROW] * 3})
    with pytest.raises(Exception, match="duplicate key"):
        write(state, 1, {"B04": [ROW] * 3})


def test_preferred_is_the_most_covering_scene_then_the_newest_baseline(state):
    cut = [2, *ROW[1:]]
    write(state, 1, {"B04": [ROW, ROW, ROW]})
    write(state, 2, {"B04": [ROW, cut, EMPTY]})
    rows = db.fetch_all(
        state[0], "SELECT pid, obsid FROM tt.preferred WHERE kind = 's2' ORDER BY pid"
    )
    assert rows == [(1, 2), (2, 1), (3, 1)]


def test_obsids_far_apart_go_to_partitions_of_their_own(state):
    conn, campaign = state
    assert signatures.ensure_partitions(conn, campaign, 5, "s2") == (
        f"s2_c{campaign}_0",
        f"hists_c{campaign}_0",
    )
    assert signatures.ensure_partitions(conn, campaign, 128, "s2")[0] == f"s2_c{campaign}_128"


def test_workers_that_need_a_new_partition_at_once_all_get_it(state):
    _, campaign = state
    gate, found = threading.Barrier(4), []

    def ask(obsid):
        conn = db.connect("asker")
        gate.wait()
        found.append(signatures.ensure_partitions(conn, campaign, obsid, "s2"))
        conn.close()

    for first in range(1000, 3000, 200):
        askers = [threading.Thread(target=ask, args=(first,)) for _ in range(4)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
    assert len(found) == 40
