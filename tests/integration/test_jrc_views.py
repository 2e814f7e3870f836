"""The JRC's own statements on our views: the rows that they mean, by index, at any size."""

import csv
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pyogrio
import pytest
import shapely

from store import db, schema
from store.errors import ConfigError, DatabaseError
from tests.integration import small_state
from tests.integration.jrc_statements import OF_PARCELS, SCENES, STATEMENTS, add_radar, fill


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scanned(conn, statement: str) -> set[str]:
    """The tables that a statement's plan reads from one end to the other."""
    [row] = db.fetch_all(conn, "EXPLAIN (FORMAT JSON) " + statement.replace("%", "%%"))
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return {n["Relation Name"] for n in nodes(plan[0]["Plan"]) if n["Node Type"] == "Seq Scan"}


@pytest.mark.parametrize("parcels", [3000, 20_000])
def test_the_jrcs_statements_scan_no_signatures(database, parcels):
    fill(database, parcels)
    add_radar(database, parcels)
    of_signatures = ("s2_", "bs_", "c6_", "c12_", "hists_")
    for name, statement in STATEMENTS.items():
        read = {t for t in scanned(database, statement) if t.startswith(of_signatures)}
        assert not read, name
    for name, statement in (OF_PARCELS | {"series": STATEMENTS["by code"]}).items():
        assert not scanned(database, statement) & {"parcels_c1"}, name


def test_marker_detections_statements_have_a_row_for_each_parcel_and_scene(database):
    fill(database, 20)
    add_radar(database, 20)
    for kind in ("backscatter", "coherence"):
        rows = db.fetch_all(database, STATEMENTS[f"marker detection, {kind}"])
        assert [(row.parcel_id, row.orbit, row.count) for row in rows] == [
            ("p7", "D", 4),
            ("p9", "D", 4),
        ]
        assert [row.vv_mean for row in rows] == pytest.approx([0.1, 0.1])
    assert len(db.fetch_all(database, STATEMENTS["marker detection, cloud free"])) == 2 * SCENES


def test_a_series_has_a_row_for_each_band_that_the_product_has(database):
    fill(database, 20)
    rows = db.fetch_all(database, STATEMENTS["by code"])
    assert [row.band for row in rows] == ["B04", "B08"] * SCENES
    assert [row.mean for row in rows[:4]] == [100, None, 200, None]
    assert [row.count for row in rows[:2]] == [4, 0]
    assert rows[0].hist == {"4": 3, "5": 1}
    assert len(db.fetch_all(database, STATEMENTS["marker detection"])) == 2 * SCENES
    assert db.fetch_all(database, "SELECT FROM tt.sigs_2024 WHERE band = 'B02'") == []


def test_the_views_state_their_srid_before_and_after_an_upgrade(empty_database):
    conn = empty_database
    schema.migrate(conn, upto=10)
    small_state.add_campaign(conn, [small_state.square(0, 0)])
    schema.migrate(conn)
    small_state.add_campaign(conn, [small_state.square(0, 0)], year=2025)
    for year in (2024, 2025):
        find = "SELECT Find_SRID('tt', %s, 'wkb_geometry') AS srid"
        assert db.fetch_one(conn, find, (f"parcels_{year}",)).srid == 32632
        db.fetch_all(conn, f"SELECT FROM tt.sigs_{year}, tt.hists_{year}")
    area = db.fetch_one(
        conn,
        "SELECT Find_SRID('public', 'aois', 'wkb_geometry') AS srid, "
        "ST_AsText(wkb_geometry) AS area FROM aois WHERE name = 'tt'",
    )
    assert (area.srid, area.area) == (4326, "MULTIPOLYGON(((15 40,5 40,5 55,15 55,15 40)))")


def test_the_catalogue_tells_a_scenes_state(database):
    fill(database, 10)
    db.execute(database, "SELECT cbm_enqueue()")
    db.execute(database, "UPDATE work SET state = 'done', signatures = 3 WHERE obsid = 1")
    db.execute(database, "UPDATE work SET state = 'dead' WHERE obsid = 2")
    states = db.fetch_all(database, "SELECT status FROM dias_catalogue ORDER BY id LIMIT 3")
    assert [row.status for row in states] == ["extracted", "failed", "ingested"]


def test_analysts_write_in_their_own_schema_alone(database):
    fill(database, 10)
    db.execute(database, "SET ROLE cbm_analyst")
    db.execute(database, "CREATE TABLE cbm_scratch.mine AS SELECT * FROM tt.parcels_2024")
    db.execute(database, "CREATE VIEW cbm_scratch.seen AS SELECT * FROM tt.sigs_2024")
    for statement in (
        "CREATE TABLE tt.mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine ()",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SET temp_file_limit = -1",
    ):
        with pytest.raises(ConfigError, match="refuses this role"):
            db.execute(database, statement)
    kept = db.fetch_one(database, "SELECT * FROM figures_scratch")
    assert (kept.owner, kept.tables, kept.bytes > 0) == ("cbm_analyst", 1, True)


def test_what_an_analyst_built_on_a_campaign_does_not_keep_it_from_being_dropped(database):
    fill(database, 10)
    db.execute(database, "SET ROLE cbm_analyst")
    db.execute(database, "CREATE VIEW cbm_scratch.seen AS SELECT * FROM tt.sigs_2024")
    db.execute(database, "RESET ROLE")
    db.execute(database, "SELECT cbm_drop_campaign(1::smallint)")
    left = db.fetch_one(database, "SELECT to_regclass('cbm_scratch.seen') AS seen").seen
    assert left is None


def test_statements_of_analysts_end_after_a_time_that_they_cannot_lift(database):
    db.execute(database, "CREATE ROLE slow_analyst LOGIN PASSWORD 'slow' IN ROLE cbm_analyst")
    try:
        with closing(db.connect("test", "user=slow_analyst password=slow")) as analyst:
            db.execute(analyst, "SET statement_timeout = 0")
            with ThreadPoolExecutor(1) as pool:
                sleeping = pool.submit(db.execute, analyst, "SELECT pg_sleep(60)")
                wait_for_sleep(database)
                cancel = "SELECT cbm_cancel_analysts('{}') AS ended"
                assert db.fetch_one(database, cancel.format("1 hour")).ended == 0
                db.execute(database, "SET ROLE cbm_owner")
                assert db.fetch_one(database, cancel.format("0 s")).ended == 1
                with pytest.raises(DatabaseError):
                    sleeping.result(30)
            with pytest.raises(ConfigError, match="refuses this role"):
                db.execute(analyst, cancel.format("0 s"))
    finally:
        db.execute(database, "RESET ROLE")
        db.execute(database, "DROP ROLE slow_analyst")


def wait_for_sleep(conn) -> None:
    sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    for _ in range(200):
        if db.fetch_all(conn, sleeping):
            return
        time.sleep(0.05)
    raise AssertionError("the statement did not begin")


# --- GDAL, and what stands on it such as QGIS ---------------------------------------------------


@pytest.fixture
def gdal(database) -> Iterator[Callable[..., str]]:
    """Runs a program of GDAL as the login of an analyst; DB stands for the database."""
    if shutil.which("ogr2ogr") is None:
        pytest.skip("ogr2ogr (package gdal-bin) is not here")
    fill(database, 10)
    db.execute(database, "CREATE ROLE gdal_analyst LOGIN PASSWORD 'gdal' IN ROLE cbm_analyst")
    source = "PG:host={PGHOST} port={PGPORT} dbname={PGDATABASE} user=gdal_analyst password=gdal"

    def run(*command: str) -> str:
        words = [source.format_map(os.environ) if word == "DB" else word for word in command]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    db.execute(database, "DROP ROLE gdal_analyst")


def test_ogr2ogr_copies_a_campaigns_parcels_with_their_crs(gdal, tmp_path):
    copy = tmp_path / "parcels.gpkg"
    gdal("ogr2ogr", "-f", "GPKG", str(copy), "DB", "tt.parcels_2024")
    info, _, wkb, (codes, crops) = pyogrio.raw.read(copy, columns=["code", "cropname"])
    assert (info["crs"], info["geometry_type"]) == ("EPSG:32632", "MultiPolygon")
    assert sorted(codes) == sorted(f"p{n}" for n in range(1, 11))
    assert set(crops) == {"maize"}
    assert all(shapely.from_wkb(shape).area == 400 for shape in wkb)


def test_ogr2ogr_takes_the_jrcs_views_by_name_place_and_sql(gdal):
    layers = gdal("ogrinfo", "-q", "DB")
    for view in ("tt.parcels_2024 (Multi Polygon)", "aois (Multi Polygon)", "dias_catalogue"):
        assert view in layers
    box = ["-spat", "500000", "5249990", "500010", "5250000"]
    to_csv = ("ogr2ogr", "-f", "CSV", "/vsistdout/")
    found = csv.DictReader(gdal(*to_csv, *box, "DB", "tt.parcels_2024").splitlines())
    assert [row["code"] for row in found] == ["p1"]
    join = (
        "SELECT p.code, s.obsid, s.mean FROM tt.parcels_2024 p "
        "JOIN tt.sigs_2024 s ON s.pid = p.ogc_fid WHERE s.band = 'B04' AND p.code = 'p7'"
    )
    rows = csv.DictReader(gdal(*to_csv, "DB", "-sql", join).splitlines())
    assert sorted(float(row["mean"]) for row in rows) == [100.0 * n for n in range(1, SCENES + 1)]
