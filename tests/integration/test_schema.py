"""The schema: the same whatever version a database comes from; roles that may do little."""

import pytest

from store import db, schema
from store.errors import ConfigError, ConflictError
from store.parcels import campaigns
from tests.beds.postgis import schema as readable

LATEST = schema.migrations()[-1].version

# Everything we made, as PostgreSQL describes it; what extensions made is left out. Privileges are
# sorted, since the order in which they were granted means nothing.
CATALOGUE = """
    WITH ours AS (
        SELECT n.nspname || '.' || c.relname AS name, c.*
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^(pg_|information_schema$)' AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ), functions AS (
        SELECT p.* FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^(pg_|information_schema$)' AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
    ), grants AS (
        SELECT 'relation ' || name AS what, relacl AS acl FROM ours
        UNION ALL SELECT 'column ' || o.name || '.' || a.attname, a.attacl
        FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid
        UNION ALL SELECT 'schema ' || nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_'
        UNION ALL SELECT 'function ' || oid::regprocedure, proacl FROM functions
        UNION ALL SELECT 'database', datacl FROM pg_database WHERE datname = current_database()
    )
    SELECT 'relation ' || name AS what, concat_ws(' ', relkind, relowner::regrole, relispartition,
           pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid), obj_description(oid, 'pg_class'),
           CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END) AS detail
    FROM ours WHERE relkind <> 'i'
    UNION ALL
    SELECT 'column ' || o.name || '.' || a.attname, concat_ws(' ', a.attnum,
           format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
           pg_get_expr(d.adbin, d.adrelid), col_description(o.oid, a.attnum))
    FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
    WHERE o.relkind <> 'i'
    UNION ALL
    SELECT 'constraint ' || o.name || ' ' || c.conname, pg_get_constraintdef(c.oid)
    FROM ours o JOIN pg_constraint c ON c.conrelid = o.oid
    UNION ALL
    SELECT 'index ' || name, pg_get_indexdef(oid) FROM ours WHERE relkind IN ('i', 'I')
    UNION ALL
    SELECT 'function ' || oid::regprocedure, proowner::regrole || pg_get_functiondef(oid)
    FROM functions
    UNION ALL
    SELECT 'grants ' || g.what, (
        SELECT string_agg(concat_ws(' ', grantor::regrole, 'to', grantee::regrole, privilege_type,
                                    is_grantable), ', ' ORDER BY grantee::regrole::text,
                          privilege_type, grantor::regrole::text)
        FROM aclexplode(g.acl)) FROM grants g WHERE g.acl IS NOT NULL"""


def described(conn):
    return {row.what: row.detail for row in db.fetch_all(conn, CATALOGUE)}


def some_contents(conn):
    """A campaign with a leaf: what later versions of the schema will find in a database."""
    if db.fetch_one(conn, "SELECT to_regprocedure('cbm_leaf(smallint, text, integer)') AS f").f:
        db.execute(
            conn,
            "SELECT cbm_leaf(cbm_make_campaign('xx', 2024, '', '2023-10-01', '2024-12-31', 0), "
            "'s2', 1)",
        )


@pytest.mark.parametrize("version", range(LATEST + 1))
def test_every_earlier_version_ends_in_the_same_schema(empty_database, database, version):
    if version:
        schema.migrate(empty_database, upto=version)
    some_contents(empty_database)
    contents = db.fetch_one(empty_database, "SELECT to_regnamespace('xx') AS made").made
    schema.migrate(empty_database)
    if not contents:
        some_contents(empty_database)
    some_contents(database)
    assert described(empty_database) == described(database)


def test_the_readable_schema_is_that_of_the_migrations(empty_database, database, cluster):
    text = readable.FILE.read_text()
    if f"PostgreSQL {readable.major(cluster)})" in text:
        assert text == readable.dump(cluster, database.info.dbname), "run `make schema`"
    db.execute(empty_database, "SET check_function_bodies = false")
    db.execute(empty_database, text)
    made, wanted = described(empty_database), described(database)
    for contents in (made, wanted):
        contents.pop("grants database", None)  # no part of a schema's dump
    assert made == wanted


def test_the_description_sees_a_difference(database):
    before = described(database)
    assert {"relation public.scene", "column public.scene.footprint"} <= before.keys()
    for change in (
        "ALTER TABLE work ALTER failures TYPE integer",
        "ALTER TABLE work DROP CONSTRAINT work_pkey",
        "DROP INDEX scene_obstime",
        "GRANT DELETE ON scene TO cbm_analyst",
        "ALTER FUNCTION cbm_enqueue() SECURITY INVOKER",
        "GRANT UPDATE (kind) ON scene TO cbm_api",
    ):
        db.execute(database, change)
        after = described(database)
        assert after != before, change
        before = after


def test_migrating_twice_applies_nothing(empty_database):
    assert [m.version for m in schema.migrate(empty_database)] == [
        m.version for m in schema.migrations()
    ]
    before = described(empty_database)
    assert schema.migrate(empty_database) == []
    assert described(empty_database) == before


def test_a_database_of_a_newer_version_is_left_alone(database):
    db.execute(database, "INSERT INTO cbm_migration VALUES (9999, '9999_future.sql', 'x', now())")
    with pytest.raises(ConflictError, match="use the newer version"):
        schema.migrate(database)


def test_a_file_changed_after_it_was_applied_is_noticed(database):
    db.execute(database, "UPDATE cbm_migration SET sha256 = 'x' WHERE version = 1")
    with pytest.raises(ConflictError, match="migration 1 was changed"):
        schema.migrate(database)


def test_a_migration_that_fails_leaves_nothing_behind(empty_database, monkeypatch):
    broken = schema.Migration(9999, "9999_broken.sql", "CREATE TABLE x (); SELECT 1 / 0")
    monkeypatch.setattr(schema, "migrations", lambda: [broken])
    with pytest.raises(Exception, match="division by zero"):
        schema.migrate(empty_database)
    left = db.fetch_one(
        empty_database, "SELECT to_regclass('x') AS x, to_regclass('cbm_migration') AS m"
    )
    assert (left.x, left.m) == (None, None)


@pytest.fixture
def filled(database):
    """A database with a campaign and a leaf of every table."""
    made = campaigns.create(database, "xx", 2024)
    for table in ("s2", "bs", "c6", "c12", "hists"):
        db.fetch_one(database, "SELECT cbm_leaf(%s::smallint, %s, 1)", (made.id, table))
    return database


def privileges(conn, role, *kinds):
    """{(relation, privilege)} that a role has on any of our relations, whole or by column."""
    return {
        (row.name, row.kind)
        for row in db.fetch_all(
            conn,
            "SELECT n.nspname || '.' || c.relname AS name, k.kind FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace, unnest(%(kinds)s) AS k (kind) "
            "WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname !~ '^(pg_|information_schema$)' "
            "AND CASE WHEN k.kind IN ('DELETE', 'TRUNCATE', 'TRIGGER') "
            "THEN has_table_privilege(%(role)s, c.oid, k.kind) "
            "ELSE has_any_column_privilege(%(role)s, c.oid, k.kind) END",
            {"role": role, "kinds": list(kinds)},
        )
    }


WRITING = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
GIS = {(f"public.{name}", "SELECT") for name in (
    "geometry_columns", "geography_columns", "spatial_ref_sys",
)}  # fmt: skip
TABLES = ("s2", "bs", "c6", "c12", "hists")
LEDGER = ("input_product", "listed_product", "sync_day", "making")


def test_the_api_writes_nothing_but_its_audit(filled):
    assert privileges(filled, "cbm_api", *WRITING) == {("public.api_audit", "INSERT")}
    db.execute(filled, "SET ROLE cbm_api")
    db.execute(
        filled, "INSERT INTO api_audit (method, path, query, status, took_ms) "
        "VALUES ('GET', '/', '', 200, 1)"
    )  # fmt: skip
    for statement in (
        "SELECT FROM api_audit",
        "UPDATE api_user SET password_hash = NULL",
        "DELETE FROM xx.parcels",
        "INSERT INTO aoi (code) VALUES ('yy')",
        "CREATE TABLE public.mine ()",
        "CREATE TABLE xx.mine ()",
        "SELECT cbm_enqueue()",
    ):
        with pytest.raises(ConfigError, match="refuses this role"):
            db.execute(filled, statement)


def test_the_analyst_reads_all_but_users_grants_audit_and_cost(filled):
    assert privileges(filled, "cbm_analyst", *WRITING) == set()
    readable = {name for name, _ in privileges(filled, "cbm_analyst", "SELECT")}
    everything = {name for name, _ in privileges(filled, "cbm_owner", "SELECT")}
    private = {"public.api_user", "public.api_grant", "public.api_audit", "public.cost_ledger"}
    leafless = {name for name in everything if name.startswith("xx.")} - readable
    # Leaves' parents of one campaign are reached through the table they belong to.
    assert all("_c" in name for name in leafless), leafless
    assert private.isdisjoint(readable)
    db.execute(filled, "SET ROLE cbm_analyst")
    for name in ("xx.s2", "xx.parcels", "xx.parcels_2024", "xx.sigs_2024", "xx.hists_2024",
                 "xx.preferred", "dias_catalogue", "scene", "work"):  # fmt: skip
        db.fetch_all(filled, db.compose("SELECT FROM {t}", t=tuple(name.split("."))))
    for statement in ("SELECT FROM api_user", "SELECT FROM api_grant", "DELETE FROM scene"):
        with pytest.raises(ConfigError, match="refuses this role"):
            db.execute(filled, statement)


def test_monitoring_reads_figures_alone(filled):
    assert privileges(filled, "pg_monitor", *WRITING, "SELECT") - GIS == {
        ("public.figures_work", "SELECT"),
        ("public.figures_done", "SELECT"),
        ("public.figures_decoding", "SELECT"),
        ("public.figures_gaps", "SELECT"),
        ("public.figures_sync", "SELECT"),
        ("public.figures_making", "SELECT"),
        ("public.figures_scratch", "SELECT"),
    }
    db.execute(filled, "SET ROLE pg_monitor")
    assert db.fetch_all(filled, "SELECT * FROM figures_done")[0].campaign == "2024"
    for figures in ("figures_work", "figures_gaps", "figures_sync", "figures_making"):
        assert db.fetch_all(filled, db.compose("SELECT FROM {v}", v=figures)) == []
    with pytest.raises(ConfigError, match="refuses this role"):
        db.fetch_all(filled, "SELECT FROM cbm_expected(1::smallint)")
    assert db.fetch_one(filled, "SELECT count(*) AS n FROM pg_ls_archive_statusdir()").n == 0
    for name in ("scene", "work", "api_user", "api_audit", "xx.parcels", "xx.s2"):
        with pytest.raises(ConfigError, match="refuses this role"):
            db.fetch_all(filled, db.compose("SELECT FROM {t}", t=tuple(name.split("."))))


def test_the_worker_writes_scenes_work_and_leaves_and_drops_nothing(filled):
    leaves = {f"xx.{table}_c1_0" for table in TABLES}
    assert privileges(filled, "cbm_worker", *WRITING) == {
        ("public.scene", "INSERT"),
        ("public.scene", "UPDATE"),
        ("public.work", "UPDATE"),
        ("public.campaign", "UPDATE"),
        *((f"public.{table}", kind) for table in LEDGER for kind in ("INSERT", "UPDATE")),
        *((leaf, kind) for leaf in leaves for kind in ("INSERT", "DELETE")),
    }
    db.execute(filled, "SET ROLE cbm_worker")
    for statement in (
        "DROP TABLE xx.s2_c1_0",
        "DROP SCHEMA xx CASCADE",
        "TRUNCATE xx.s2_c1_0",
        "SELECT cbm_drop_campaign(1::smallint)",
        "SELECT cbm_make_campaign('yy', 2024, '', '2024-01-01', '2024-12-31', 0)",
        "UPDATE campaign SET state = 'closed'",
        "DELETE FROM xx.parcels",
        "DELETE FROM scene",
        "SELECT FROM api_user",
    ):
        with pytest.raises(ConfigError, match="refuses this role"):
            db.execute(filled, statement)
    db.execute(filled, "UPDATE campaign SET units = '{}'")


def test_places_that_stood_in_addresses_become_numbers(empty_database):
    schema.migrate(empty_database, upto=8)
    vrt = "vrt:///data/B04.tif?a_srs=EPSG:32633&a_ullr=499980,5200020,609780,5090220.5"
    db.execute(
        empty_database,
        "INSERT INTO scene (reference, kind, platform, obstime, acquisition, unit, epsg, "
        "footprint, bands, software) VALUES ('x', 's2', 'S2A', now(), 'a', 'dn', 32633, "
        "ST_Multi(ST_MakeEnvelope(15, 45, 16, 46, 4326)), %s, '')",
        (db.Json({"B04": {"href": vrt, "index": 1}, "B08": {"href": "/data/B08.tif"}}),),
    )
    schema.migrate(empty_database)
    assert db.fetch_one(empty_database, "SELECT bands FROM scene").bands == {
        "B04": {"href": "/data/B04.tif", "index": 1, "epsg": 32633,
                "bounds_m": [499980, 5090220.5, 609780, 5200020]},
        "B08": {"href": "/data/B08.tif"},
    }  # fmt: skip
