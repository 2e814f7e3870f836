"""Importing parcel files into a real PostGIS, once and again."""

import hashlib
import json
import threading
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS, Transformer

from store import catalogue, db, queue, signatures
from store.errors import ConflictError, LostLeaseError, NotFoundError, ParcelFileError
from store.parcels import campaigns
from store.parcels.importing import import_parcels
from store.parcels.reading import geometries
from store.queue import WorkResult
from tests.integration.small_state import a_scene, square

TABLES = ("s2", "bs", "c6", "c12", "hists")
ORDINARY = {"P1": square(0, 0), "P2": square(0, 20), "P3": square(20, 0)}


def write(path, features, crs="EPSG:32632", **fields):
    """Write (code, geometry) pairs; further fields by name."""
    columns = {"id": [code for code, _ in features]} | fields
    pyogrio.raw.write(
        path,
        np.array([None if g is None else g.wkb for _, g in features], dtype=object),
        [np.array(values, dtype=object) for values in columns.values()],
        list(columns),
        geometry_type="Unknown",
        crs=crs,
        driver="GPKG",
        layer="parcels",
        append=False,
    )
    return path


@pytest.fixture
def campaign(database):
    return campaigns.create(database, "xx", 2024)


@pytest.fixture
def bring(database, campaign, tmp_path):
    """Import these features into the campaign; the report."""

    def imported(features, **options):
        path = tmp_path / "parcels.gpkg"
        path.unlink(missing_ok=True)
        fields = {key: options.pop(key) for key in ("crop", "number") if key in options}
        crs = options.pop("file_crs", "EPSG:32632")
        write(
            path, list(features.items()) if isinstance(features, dict) else features, crs, **fields
        )
        return import_parcels(database, campaign, path, **{"id_column": "id"} | options)

    return imported


def parcels(conn, aoi="xx"):
    """{code: row} of an aoi's parcels."""
    return {
        row.code: row
        for row in db.fetch_all(
            conn,
            db.compose(
                "SELECT pid, set_id, code, crop_name, crop_code, ST_SRID(geom) AS srid, geom_sha, "
                "ST_AsBinary(geom, 'NDR') AS wkb FROM {t} ORDER BY pid",
                t=(aoi, "parcels"),
            ),
        )
    }


def sets(conn):
    return db.fetch_all(
        conn, "SELECT id, digest, parcels, ST_AsText(extent) AS extent FROM parcel_set ORDER BY id"
    )


def sign(conn, campaign, obsid=1):
    """Write a row for every parcel in every table, by hand."""
    for table in TABLES:
        own = [f"c{n}" for n in range(12)] if table == "hists" else ["flags", "px"]
        db.fetch_one(conn, "SELECT cbm_leaf(%s::smallint, %s, %s)", (campaign.id, table, obsid))
        statement = db.compose(
            "INSERT INTO {t} ({columns}) SELECT campaign_id, pid, %s, "
            + ", ".join("1" for _ in own)
            + " FROM {parcels}",
            t=("xx", table),
            columns=["campaign_id", "pid", "obsid", *own],
            parcels=("xx", "parcels"),
        )
        db.execute(conn, statement, (obsid,))


def signed(conn):
    """{table: pids that have rows}."""
    return {
        table: {
            row.pid
            for row in db.fetch_all(conn, db.compose("SELECT pid FROM {t}", t=("xx", table)))
        }
        for table in TABLES
    }


def sources():
    lpis, fiboa = "lpis", "lpis/fiboa_cli"
    vlg = "Landbouwgebruikspercelen_2023_-_Definitief_(extractie_28-03-2024)_GPKG.zip"
    return [
        (f"{fiboa}/at/inspire_schlaege_2025-1_polygon.gpkg.zip", None, "GEO_ID", "SNAR_BEZEICHNUNG",
         100, 31287, "115641724", "MÄHWIESE/-WEIDE DREI UND MEHR NUTZUNGEN"),
        (f"{fiboa}/be_vlg/{vlg}", None, "REF_ID", "GWSNAM_H", 100, 31370, "2315125369", "Grasland"),
        (f"{fiboa}/de_bb/antrag.zip", None, "ref_ident", "code_bez",
         72, 25833, "DEBBLI2271412686", "Wiesen"),
        (f"{fiboa}/ec_si/SI_2021.zip", None, "ID", "RASTLINA", 100, 3794, "6828583", "soja"),
        (f"{fiboa}/es_cat/Cultius_DUN2023_GPKG.zip", None, None, "cultiu",
         100, 25831, "91", "ALBERCOQUER"),
        (f"{fiboa}/ie/GSAA_2024.zip", None, "localId", None, 100, 4258,
         "7A0A9B2A3E3AD20FD52989A3D731C1887295ED1148AD7BE83598EACCBF96FD20", None),
        (f"{fiboa}/nl/brpgewaspercelen_definitief_2023.gpkg", None, "id", "gewas",
         100, 28992, "47", "Sloot"),
        (f"{fiboa}/pt/Continente.gpkg", "Culturas_Aveiro", "CUL_ID", "CT_português",
         100, 3763, "4924125", "VINHA"),
        (f"{lpis}/fr_lpis_iacs_eolearn.gpkg", None, "id", "code_cultu",
         193, 2154, "7571764", "MIS"),
        (f"{lpis}/es_sigpac_41086/sp22_REC_41086.shp", None, "ID_RECINTO", "CD_USO",
         49, 25830, "1485457645", "PR"),
        ("ch_strickhof_s2_2022/parcels/ZH_Polygons_2020_ESCH_EPSG32632.shp", None, "GIS_ID",
         "NUTZUNG", 281, 32632, "15317", "Übrige Dauerwiesen (ohne Weiden)"),
        ("be_flanders_s1_s2/parcels/Prc_BEFL_2023_10parcels.gpkg", None, "PRC_ID", "GWSCOD_H",
         10, 31370, "1279541851", "60"),
        ("be_flanders_s1_s2/parcels/Prc_BEFL_2023_15parcels.gpkg", None, "UID", "GWSCOD_H",
         15, 31370, "000028104C44425B00000001", "60"),
    ]  # fmt: skip


@pytest.mark.parametrize("source", sources(), ids=lambda source: source[0].split("/")[-2])
def test_national_files_import_as_they_are_delivered(database, campaign, shared_data, source):
    file, layer, id_column, crop, expected, srid, code, crop_name = source
    report = import_parcels(database, campaign, shared_data / file, layer, id_column, crop)
    assert (report.new, report.imported, report.srid) == (expected, expected, srid)
    assert report.read == report.imported + len(report.merged) + len(report.refused)
    stored = parcels(database)
    assert len(stored) == expected
    assert stored[code].crop_name == crop_name
    assert stored[code].srid == srid
    again = import_parcels(database, campaign, shared_data / file, layer, id_column, crop)
    assert (again.unchanged, again.new, again.changed, again.vanished) == (expected, 0, 0, 0)
    assert parcels(database) == stored


@pytest.mark.parametrize(
    ("file", "options", "reason"),
    [
        ("lpis/fiboa_cli/fr/RPG_2-0__GPKG_LAMB93_FXX_2022-01-01.7z.001", {}, "unpack it"),
        (
            "lpis/fiboa_cli/pt/Continente.gpkg",
            {},
            r"Culturas_Aveiro \(100 features\), OcupacoesSolo_Aveiro \(100 features\)",
        ),
        ("lpis/fr_lpis_iacs_eolearn.gpkg", {"id_column": "ID"}, "it has fid, id, created_at"),
        (
            "ch_strickhof_s2_2022/parcels/Bramenwies.shp",
            {"id_column": "id"},
            "none of the 1 features .* most often: no id",
        ),
    ],
)
def test_national_files_that_cannot_be_imported_say_why(
    database, campaign, shared_data, file, options, reason
):
    with pytest.raises(ParcelFileError, match=reason):
        import_parcels(database, campaign, shared_data / file, **options)
    assert parcels(database) == {}


def test_without_an_id_column_the_feature_id_is_the_code_and_the_report_says_so(bring, database):
    report = bring(ORDINARY, id_column=None)
    assert set(parcels(database)) == {"1", "2", "3"}
    assert any("feature id" in note for note in report.notes)


def test_repairs_and_refusals_are_reported_one_by_one(bring, database):
    features = [
        ("good", square(0, 0)),
        (None, square(0, 20)),
        ("  ", square(0, 30)),
        ("none", None),
        ("bow", shapely.Polygon([(5e5, 52e5), (500_010, 5_200_010), (500_010, 52e5),
                                 (5e5, 5_200_010)])),
        ("swapped", shapely.box(5_200_000, 500_000, 5_200_010, 500_010)),
        ("long" * 60, square(0, 60)),
    ]  # fmt: skip
    report = bring(features)
    assert (report.read, report.imported) == (7, 1)
    assert {(case.code, case.fid) for case in report.refused} == {
        (None, 2), (None, 3), ("none", 4), ("bow", 5), ("swapped", 6), ("long" * 60, 7),
    }  # fmt: skip
    reasons = {case.code: case.reason for case in report.refused}
    assert reasons[None] == "no id"
    assert reasons["none"] == "no geometry"
    assert "100.0%" in reasons["bow"]
    assert "swapped" in reasons["swapped"]
    assert "more than 100 characters" in reasons["long" * 60]
    assert set(parcels(database)) == {"good"}


def test_the_same_parcel_twice_is_kept_once_and_reported(bring, database):
    report = bring(
        [("A", square(0, 0)), ("A", square(0, 0)), ("A", square(0, 0)), ("B", square(0, 0))],
        crop=["rye", "rye", "oats", "rye"], crop_column="crop",
    )  # fmt: skip
    assert [(case.fid, case.reason) for case in report.merged] == [
        (2, "repeats feature 1"),
        (3, "repeats feature 1, with another crop"),
    ]
    assert parcels(database)["A"].crop_name == "rye"
    assert report.imported == 2


def test_one_id_for_several_geometries_names_no_parcel(bring, database):
    report = bring([("A", square(0, 0)), ("A", square(0, 20)), ("B", square(0, 40))])
    assert [(case.fid, case.reason) for case in report.refused] == [
        (1, "the same id for several geometries"),
        (2, "the same id for several geometries"),
    ]
    assert set(parcels(database)) == {"B"}


def test_a_file_of_which_nothing_is_left_changes_nothing(bring, database):
    bring(ORDINARY)
    with pytest.raises(ParcelFileError, match=r"none of the 3 features .* several geometries"):
        bring([("A", square(0, 0)), ("A", square(0, 0)), ("A", square(0, 20))])
    assert parcels(database).keys() == ORDINARY.keys()


def test_the_geometry_is_hashed_as_it_is_stored(bring, database):
    bring(ORDINARY)
    for row in parcels(database).values():
        assert hashlib.sha256(bytes(row.wkb)).digest()[:16] == bytes(row.geom_sha)
        assert shapely.from_wkb(bytes(row.wkb)).geom_type == "MultiPolygon"


def test_pids_follow_the_ground_so_that_neighbours_are_near(bring, database):
    rng = np.random.default_rng(1)
    cells = rng.permutation(1024).tolist()
    bring({f"{cell}": square(4 * (cell // 32), 4 * (cell % 32)) for cell in cells})
    pid = {code: row.pid for code, row in parcels(database).items()}
    assert sorted(pid.values()) == list(range(1, 1025))
    order = sorted(pid, key=pid.__getitem__)
    place = np.array([(int(code) // 32, int(code) % 32) for code in order])
    steps = np.abs(np.diff(place, axis=0)).sum(axis=1)
    assert np.median(steps) == 1
    assert steps.mean() < 2  # at random it would be 21


def test_a_file_in_another_crs_is_transformed_to_the_campaigns(bring, database):
    bring(ORDINARY)
    to_degrees = Transformer.from_crs(32632, 4326, always_xy=True)
    moved = shapely.transform(square(40, 0), to_degrees.transform, interleaved=False)
    report = bring({"P9": moved}, file_crs="EPSG:4326")
    assert report.srid == 32632
    assert any("transformed to EPSG:32632" in note for note in report.notes)
    stored = shapely.from_wkb(bytes(parcels(database)["P9"].wkb))
    assert shapely.hausdorff_distance(stored, square(40, 0)) < 0.001


def test_a_crs_without_code_is_stored_in_the_european_one(bring, database):
    own = CRS.from_proj4("+proj=utm +zone=32 +ellps=bessel +units=m").to_wkt()
    report = bring(ORDINARY, file_crs=own)
    assert report.srid == 3035
    assert {row.srid for row in parcels(database).values()} == {3035}
    assert any("no EPSG code" in note for note in report.notes)


def test_a_file_without_crs_is_refused_unless_it_is_given(bring, database):
    with pytest.raises(ParcelFileError, match="does not say which CRS"):
        bring(ORDINARY, file_crs=None)
    assert bring(ORDINARY, file_crs=None, crs="EPSG:32632").imported == 3


def test_a_dry_run_reports_the_same_and_writes_nothing(bring, database, campaign):
    dry = bring(ORDINARY, dry_run=True)
    assert parcels(database) == {}
    assert sets(database) == []
    assert campaigns.find(database, "xx", 2024) == campaign
    assert bring(ORDINARY) == replace(dry, dry_run=False)


def test_the_report_counts_for_people_and_lists_all_for_programs(bring):
    report = bring({"good": square(0, 0)} | {f"n{k}": None for k in range(30)})
    text = str(report)
    assert "refused          30" in text
    assert "Refused: no geometry: feature 2 (n0), 3 (n1)" in text
    assert "and 20 more" in text
    listed = json.loads(report.as_json())
    assert (listed["read"], listed["imported"], len(listed["refused"])) == (31, 1, 30)
    assert listed["refused"][0] == {"fid": 2, "code": "n0", "reason": "no geometry"}


def test_an_import_into_a_dropped_campaign_fails(bring, database, campaign):
    campaigns.drop(database, campaign)
    with pytest.raises(NotFoundError, match="campaign create"):
        bring(ORDINARY)


def test_the_set_describes_its_parcels(bring, database):
    bring(ORDINARY)
    (made,) = sets(database)
    rows = parcels(database).values()
    content = b"".join(row.pid.to_bytes(4, "big") + bytes(row.geom_sha) for row in rows)
    assert made.parcels == 3
    assert made.digest == hashlib.sha256(content).hexdigest()
    extent = shapely.from_wkt(made.extent)
    lon_lat = db.fetch_all(
        database,
        "SELECT ST_AsBinary(ST_Transform(geom, 4326)) AS wkb FROM xx.parcels",
    )
    assert len(extent.exterior.coords) > 60, "not densified"
    assert all(extent.buffer(1e-9).covers(shapely.from_wkb(bytes(r.wkb))) for r in lon_lat)


def test_geometries_are_handed_out_by_pid_in_the_crs_asked_for(bring, database, campaign):
    bring(ORDINARY)
    (made,) = sets(database)
    [(pids, wkb)] = geometries(database, "xx", campaign.id, made.id, 32632)
    assert pids.dtype == np.int32
    assert pids.tolist() == [1, 2, 3]
    codes = {row.pid: code for code, row in parcels(database).items()}
    for pid, geometry in zip(pids.tolist(), wkb, strict=True):
        assert shapely.from_wkb(geometry).equals(ORDINARY[codes[pid]])
    [(_, degrees)] = geometries(database, "xx", campaign.id, made.id, 4326)
    assert shapely.from_wkb(degrees[0]).bounds[0] == pytest.approx(9.0, abs=0.01)


def test_geometries_come_complete_over_several_pages(bring, database, campaign, monkeypatch):
    monkeypatch.setattr("store.parcels.reading._PAGE", 2)
    bring(ORDINARY)
    (made,) = sets(database)
    first, second = geometries(database, "xx", campaign.id, made.id, 32632)
    assert (first[0].tolist(), second[0].tolist()) == ([1, 2], [3])
    assert (len(first[1]), len(second[1])) == (2, 1)
    [(none, nothing)] = geometries(database, "xx", campaign.id, made.id + 1, 32632)
    assert (none.size, nothing) == (0, [])


# Importing again.


def test_unchanged_parcels_keep_pid_and_signatures_and_get_their_new_crop(
    bring, database, campaign
):
    bring(ORDINARY, crop=["rye", "rye", "rye"], crop_column="crop")
    sign(database, campaign)
    before, digest = parcels(database), sets(database)
    report = bring(ORDINARY, crop=["rye", "oats", None], crop_column="crop")
    after = parcels(database)
    assert (report.unchanged, report.new, report.changed, report.vanished) == (3, 0, 0, 0)
    assert [row.crop_name for row in after.values()].count("oats") == 1
    assert after["P3"].crop_name is None
    assert {code: row.pid for code, row in after.items()} == {
        code: row.pid for code, row in before.items()
    }
    assert sets(database) == digest
    assert signed(database) == {table: {1, 2, 3} for table in TABLES}


def test_changed_and_vanished_parcels_lose_their_signatures_and_new_ones_get_new_pids(
    bring, database, campaign
):
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY)
    before, (old,) = parcels(database), sets(database)
    sign(database, campaign)
    db.execute(database, "UPDATE work SET state = 'done', signatures = 3")

    changed = square(0, 20, size=3)
    report = bring({"P1": ORDINARY["P1"], "P2": changed, "P4": square(60, 0)})

    assert (report.unchanged, report.changed, report.vanished, report.new) == (1, 1, 1, 1)
    after = parcels(database)
    assert after.keys() == {"P1", "P2", "P4"}
    assert after["P1"] == before["P1"]
    assert {after["P2"].pid, after["P4"].pid} == {4, 5}, "pids are never used again"
    assert shapely.from_wkb(bytes(after["P2"].wkb)).equals(changed)
    assert signed(database) == {table: {before["P1"].pid} for table in TABLES}

    shrunk, new = sets(database)
    assert (shrunk.id, shrunk.parcels, new.parcels) == (old.id, 1, 2)
    assert shrunk.digest != old.digest
    assert shrunk.extent != old.extent
    states = {row.set_id: row.state for row in db.fetch_all(database, "SELECT * FROM work")}
    assert states == {old.id: "done", new.id: "pending"}
    assert campaigns.find(database, "xx", 2024).next_pid == 6


def test_a_set_that_lost_all_its_parcels_goes_with_its_work(bring, database):
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY)
    (old,) = sets(database)
    bring({"P4": square(60, 0)})
    (new,) = sets(database)
    assert new.id != old.id
    assert [row.set_id for row in db.fetch_all(database, "SELECT set_id FROM work")] == [new.id]


def test_signatures_of_another_campaign_with_the_same_pids_stay(bring, database, campaign):
    bring(ORDINARY)
    sign(database, campaign)
    other = campaigns.create(database, "xx", 2023)
    with closing(db.connect("test")) as conn:
        assert db.fetch_one(conn, "SELECT cbm_leaf(%s::smallint, 's2', 1)", (other.id,))
    db.execute(
        database,
        "INSERT INTO xx.s2 (campaign_id, pid, obsid, flags, px) VALUES (%s, 1, 1, 0, 1)",
        (other.id,),
    )
    bring({"P4": square(60, 0)}, accept_losses=True)
    assert [r.campaign_id for r in db.fetch_all(database, "SELECT campaign_id FROM xx.s2")] == [
        other.id
    ]


def test_a_file_without_any_known_id_must_be_accepted_before_it_takes_all_signatures(
    bring, database, campaign
):
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY, number=["a", "b", "c"])
    sign(database, campaign)
    db.execute(database, "UPDATE work SET state = 'done', signatures = 3")
    with pytest.raises(ConflictError, match="all of its 3 parcels would lose"):
        bring(ORDINARY, number=["a", "b", "c"], id_column="number")
    assert signed(database)["s2"] == {1, 2, 3}
    report = bring(ORDINARY, number=["a", "b", "c"], id_column="number", accept_losses=True)
    assert (report.new, report.vanished) == (3, 3)
    assert signed(database)["s2"] == set()


def test_a_file_whose_geometries_all_differ_must_be_accepted_too(bring, database, campaign):
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY)
    sign(database, campaign)
    db.execute(database, "UPDATE work SET state = 'done', signatures = 3")
    nudged = {code: shapely.transform(shape, lambda xy: xy + 0.001)
              for code, shape in ORDINARY.items()}  # fmt: skip
    with pytest.raises(ConflictError, match="3 geometries differ"):
        bring(nudged)
    assert signed(database)["s2"] == {1, 2, 3}
    assert bring(nudged, accept_losses=True).changed == 3


def test_a_failing_import_changes_nothing(bring, database, campaign):
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY)
    sign(database, campaign)
    before = (parcels(database), sets(database), signed(database))
    # The last step of an import fails.
    db.execute(database, "ALTER FUNCTION cbm_enqueue() RENAME TO cbm_enqueue_away")
    with pytest.raises(Exception, match="cbm_enqueue"):
        bring({"P1": square(0, 0, size=5), "P2": ORDINARY["P2"]})
    assert (parcels(database), sets(database), signed(database)) == before


def test_two_imports_at_once_are_refused(bring, database):
    with closing(db.connect("other")) as other, db.transaction(other):
        db.execute(other, "SELECT pg_advisory_xact_lock(hashtext('cbm_import'))")
        with pytest.raises(ConflictError, match="another import is running"):
            bring(ORDINARY)
    assert bring(ORDINARY).new == 3


# Importing while workers work.


@pytest.fixture
def worker(database, bring, campaign):
    """A worker's connection and its claim on the only scene; three parcels."""
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY)
    with closing(db.connect("worker")) as conn:
        (held,) = queue.claim(conn, "w1", lease_s=60, max_lost_leases=20)
        yield conn, held


def write_rows(conn, held, pids=(1, 2, 3)):
    leaves = signatures.ensure_partitions(conn, held.campaign_id, held.obsid, "s2")
    with db.transaction(conn):
        queue.lock_claims(conn, [held])
        signatures.write(conn, held.aoi, leaves, held.campaign_id, held.obsid, rows_of(pids))
        queue.finish(conn, held, WorkResult(len(pids), 0, 0, (), 0.0))


def rows_of(pids):
    count = len(pids)
    return signatures.Signatures(
        "s2", np.array(pids, np.int32), np.full(count, 4, np.int32), np.zeros(count, np.int16),
        {"B04": np.full((count, 8), 1.0)}, np.zeros((count, 12), np.int64),
    )  # fmt: skip


def work(conn):
    return {row.set_id: (row.state, row.holder) for row in db.fetch_all(conn, "SELECT * FROM work")}


def test_a_worker_whose_parcels_changed_under_it_writes_nothing(worker, bring, database):
    conn, held = worker
    bring(ORDINARY | {"P1": square(0, 0, size=3)})
    assert work(database)[held.set_id] == ("pending", None)
    with pytest.raises(LostLeaseError):
        write_rows(conn, held)
    assert not queue.renew_leases(conn, [held], 60)
    assert signed(database)["s2"] == set()


def test_a_worker_whose_set_only_gets_a_sister_goes_on(worker, bring, database):
    conn, held = worker
    bring(ORDINARY | {"P4": square(60, 0)})
    write_rows(conn, held)
    assert signed(database)["s2"] == {1, 2, 3}


def waits(conn, application="test"):
    """Wait until that application waits for a lock."""
    for _ in range(200):
        if db.fetch_one(
            conn, "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = %s "
            "AND wait_event_type = 'Lock' AND datname = current_database()", (application,)
        ).n:  # fmt: skip
            return True
        time.sleep(0.02)
    return False


def test_rows_that_a_worker_was_just_writing_are_deleted_too(worker, bring, database):
    conn, held = worker
    leaves = signatures.ensure_partitions(conn, held.campaign_id, held.obsid, "s2")
    changed = threading.Thread(
        target=bring, args=(ORDINARY | {"P1": square(0, 0, size=3)},), daemon=True
    )
    gone = parcels(database)["P1"].pid
    with closing(db.connect("watch")) as watch:
        with db.transaction(conn):
            queue.lock_claims(conn, [held])
            signatures.write(conn, "xx", leaves, held.campaign_id, held.obsid, rows_of([1, 2, 3]))
            changed.start()
            assert waits(watch), "the import did not wait for the writer"
            queue.finish(conn, held, WorkResult(3, 0, 0, (), 0.0))
        changed.join(30)
        assert not changed.is_alive()
        assert signed(watch)["s2"] == {1, 2, 3} - {gone}
        assert signed(watch)["hists"] == {1, 2, 3} - {gone}
        assert work(watch)[held.set_id] == ("done", "w1")


def test_nothing_is_claimed_on_a_set_while_an_import_changes_it(worker, bring, database):
    conn, held = worker
    write_rows(conn, held)
    catalogue.register(database, [a_scene(2)])
    changed = threading.Thread(
        target=bring, args=(ORDINARY | {"P1": square(0, 0, size=3)},), daemon=True
    )
    with closing(db.connect("blocker")) as blocker, closing(db.connect("watch")) as watch:
        with db.transaction(blocker):
            db.execute(blocker, "SELECT FROM xx.s2 FOR UPDATE")
            changed.start()
            assert waits(watch), "the import did not come to the signatures"
            assert queue.claim(conn, "w1", 60, 20) == ()
        changed.join(30)
        assert not changed.is_alive()
        claimed, *_ = queue.claim(conn, "w1", 60, 20)
        [(pids, _)] = geometries(conn, "xx", claimed.campaign_id, claimed.set_id, 32632)
        assert parcels(watch)["P1"].set_id != held.set_id
        assert len(pids) == (2 if claimed.set_id == held.set_id else 1)


# Merging sets.


def do_all_work(conn):
    """As a worker would: two parcels have rows at most, the others lie outside."""
    while held := queue.claim(conn, "w1", 60, 20):
        for claimed in held:
            [(pids, _)] = geometries(conn, "xx", claimed.campaign_id, claimed.set_id, 32632)
            leaves = signatures.ensure_partitions(conn, claimed.campaign_id, claimed.obsid, "s2")
            with db.transaction(conn):
                queue.lock_claims(conn, [claimed])
                signatures.write(
                    conn, "xx", leaves, claimed.campaign_id, claimed.obsid, rows_of(pids[:2])
                )
                outside = max(len(pids) - 2, 0)
                result = WorkResult(min(len(pids), 2), outside, 0, (), 1.0)
                queue.finish(conn, claimed, result)


def signature_rows(conn):
    return db.fetch_all(conn, "SELECT * FROM xx.s2 ORDER BY obsid, pid")


def test_sets_that_are_extracted_are_merged_by_the_next_import_and_nothing_is_done_again(
    database, bring, campaign
):
    catalogue.register(database, [a_scene(1), a_scene(2)])
    features = dict(ORDINARY)
    bring(features)
    do_all_work(database)
    for number in range(3):  # three weeks of changes
        features[f"N{number}"] = square(30, 10 * number)
        bring(features)
        do_all_work(database)
    before = signature_rows(database)
    features["last"] = square(40, 0)
    bring(features)
    sets = db.fetch_all(database, "SELECT id, parcels FROM parcel_set ORDER BY id")
    # The first has taken the first two weeks' and the third's; the new one is open.
    assert [row.parcels for row in sets] == [6, 1]
    rows = db.fetch_all(
        database,
        "SELECT state, signatures, outside, cpu_s, again FROM work "
        "WHERE set_id = %s ORDER BY obsid",
        (sets[0].id,),
    )
    assert [tuple(row) for row in rows] == [("done", 5, 1, 4.0, True)] * 2
    assert signature_rows(database) == before
    assert {row.set_id for row in parcels(database).values()} == {row.id for row in sets}
    digests = [row.digest for row in db.fetch_all(database, "SELECT digest FROM parcel_set")]
    assert len(set(digests)) == 2


def test_sets_with_open_work_are_not_merged(database, bring, campaign):
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY)
    bring(ORDINARY | {"P4": square(40, 0)})
    bring(ORDINARY | {"P4": square(40, 0), "P5": square(40, 10)})
    assert db.fetch_one(database, "SELECT count(*) AS n FROM parcel_set").n == 3


def test_a_merged_set_counts_parcels_outside_of_scenes_that_a_part_did_not_meet(
    database, bring, campaign
):
    catalogue.register(database, [a_scene(1)])
    bring(ORDINARY)
    do_all_work(database)
    far = shapely.affinity.translate(square(0, 0), 200_000, 0)
    bring(ORDINARY | {"far": far})
    do_all_work(database)
    assert db.fetch_one(database, "SELECT count(*) AS n FROM work").n == 1
    bring(ORDINARY | {"far": far, "P5": square(40, 10)})
    done = db.fetch_one(database, "SELECT signatures, outside FROM work WHERE state = 'done'")
    assert tuple(done) == (2, 2)


def test_a_parcel_that_changes_after_a_merge_loses_its_signatures_alone(database, bring, campaign):
    catalogue.register(database, [a_scene(1)])
    features = dict(ORDINARY)
    bring(features)
    do_all_work(database)
    bring(features | {"P4": square(40, 0)})
    do_all_work(database)
    kept = {row.pid for row in signature_rows(database)} - {parcels(database)["P1"].pid}
    bring(features | {"P4": square(40, 0), "P1": square(0, 0, size=3)})
    assert {row.pid for row in signature_rows(database)} == kept
    do_all_work(database)
    states = db.fetch_all(database, "SELECT state FROM work")
    assert [row.state for row in states] == ["done", "done"]
