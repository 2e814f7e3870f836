"""Campaigns from creation to drop, in a real database."""

from datetime import date

import numpy as np
import pyogrio
import pytest

from store import catalogue, db
from store.errors import CallerError, ConflictError, NotFoundError
from store.parcels import campaigns
from store.parcels.importing import import_parcels
from tests.integration.small_state import a_scene, square


def parcel_file(path, count=2):
    geometries = [square(10 * k, 0).wkb for k in range(count)]
    pyogrio.raw.write(
        path, np.array(geometries, dtype=object),
        [np.array([f"secret-{k}" for k in range(count)], dtype=object)], ["id"],
        geometry_type="Polygon", crs="EPSG:32632", driver="GPKG",
    )  # fmt: skip
    return path


def everything(conn):
    """All our relations with their number of rows."""
    return {
        (row.schema, row.name): db.fetch_one(
            conn, db.compose("SELECT count(*) AS n FROM {t}", t=(row.schema, row.name))
        ).n
        for row in db.fetch_all(
            conn,
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'v') AND n.nspname !~ '^(pg_|information_schema)' "
            "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') "
            "AND c.relname <> 'cbm_migration'",
        )
    }


def test_dates_run_from_october_before_to_the_end_of_the_declared_year(database):
    made = campaigns.create(database, "nl", 2024)
    assert (made.start, made.end) == (date(2023, 10, 1), date(2024, 12, 31))
    assert (made.name, made.ptype, made.buffer_m, made.state) == ("nl_2024", "", 0, "open")
    assert made.srid is None


def test_dates_ptype_and_buffer_can_be_chosen(database):
    made = campaigns.create(
        database, "bewa", 2024, "g", date(2024, 1, 1), date(2024, 6, 30), buffer_m=5
    )
    assert campaigns.find(database, "bewa", 2024, "g") == made
    assert made.name == "bewa_2024_g"
    assert (made.start, made.end, made.buffer_m) == (date(2024, 1, 1), date(2024, 6, 30), 5)


@pytest.mark.parametrize(
    "aoi", ["", "n", "NL", "1nl", "n-l", "toolongname", "nl\n", "public", "ñl"]
)
def test_an_aoi_that_cannot_be_a_schema_is_refused_and_the_rule_is_told(database, aoi):
    with pytest.raises(CallerError, match="two to eight lower-case letters and digits"):
        campaigns.create(database, aoi, 2024)
    assert not campaigns.find_all(database)


@pytest.mark.parametrize(
    "values",
    [
        {"year": 1999},
        {"year": 2101},
        {"ptype": "A"},
        {"ptype": "toolongtype"},
        {"start": date(2025, 1, 1)},
        {"buffer_m": -1},
        {"buffer_m": float("nan")},
        {"buffer_m": float("inf")},
    ],
)
def test_impossible_values_are_refused_and_nothing_is_made(database, values):
    with pytest.raises(CallerError):
        campaigns.create(database, **{"aoi": "nl", "year": 2024} | values)
    assert not campaigns.find_all(database)
    assert not db.fetch_all(database, "SELECT FROM aoi")


def test_a_second_campaign_of_the_same_name_is_refused(database):
    campaigns.create(database, "nl", 2024)
    with pytest.raises(ConflictError, match="nl_2024 exists already"):
        campaigns.create(database, "nl", 2024)


def test_a_schema_of_somebody_else_is_left_alone(database):
    db.execute(database, "CREATE SCHEMA tiger")
    with pytest.raises(ConflictError, match="schema tiger that is not ours"):
        campaigns.create(database, "tiger", 2024)


def test_an_unknown_campaign_names_the_command_that_makes_it(database):
    with pytest.raises(NotFoundError, match="campaign create --aoi nl --year 2024 --ptype g"):
        campaigns.find(database, "nl", 2024, "g")


def test_campaigns_are_listed_by_name(database):
    for aoi, year in (("nl", 2024), ("at", 2024), ("nl", 2023)):
        campaigns.create(database, aoi, year)
    assert [c.name for c in campaigns.find_all(database)] == ["at_2024", "nl_2023", "nl_2024"]


def test_a_closed_campaign_takes_no_scene_and_no_file_and_keeps_its_data(database, tmp_path):
    made = campaigns.create(database, "nl", 2024)
    import_parcels(database, made, parcel_file(tmp_path / "p.gpkg"), id_column="id")
    campaigns.close(database, made)
    assert campaigns.find(database, "nl", 2024).state == "closed"
    assert catalogue.register(database, [a_scene(1)]).queued == 0
    with pytest.raises(ConflictError, match="is closed"):
        import_parcels(database, made, tmp_path / "p.gpkg", id_column="id")
    assert campaigns.contents(database, made).parcels == 2


def test_drop_erases_all_data_of_the_campaign_and_nothing_of_another(database, tmp_path):
    catalogue.register(database, [a_scene(1)])
    file = parcel_file(tmp_path / "p.gpkg")
    kept = campaigns.create(database, "nl", 2023, end=date(2024, 12, 31))
    import_parcels(database, kept, file, id_column="id")
    write_signatures(database, kept)
    before = everything(database)

    made = campaigns.create(database, "nl", 2024)
    import_parcels(database, made, file, id_column="id")
    write_signatures(database, made)
    held = campaigns.contents(database, made)
    assert (held.parcels, held.scenes) == (2, 1)
    assert everything(database) != before

    campaigns.drop(database, made)
    assert everything(database) == before
    with pytest.raises(NotFoundError):
        campaigns.find(database, "nl", 2024)
    with pytest.raises(NotFoundError, match="was dropped"):
        campaigns.drop(database, made)


def write_signatures(conn, campaign):
    """One row per parcel and table for the only scene, written by hand."""
    rest = {"hists": [f"c{n}" for n in range(12)]}
    for table in ("s2", "bs", "c6", "c12", "hists"):
        own = rest.get(table, ["flags", "px"])
        db.fetch_one(conn, "SELECT cbm_leaf(%s::smallint, %s, 1)", (campaign.id, table))
        statement = db.compose(
            "INSERT INTO {t} ({columns}) SELECT campaign_id, pid, 1, "
            + ", ".join("1" for _ in own)
            + " FROM {parcels} WHERE campaign_id = %s",
            t=(campaign.aoi, table),
            columns=["campaign_id", "pid", "obsid", *own],
            parcels=(campaign.aoi, "parcels"),
        )
        db.execute(conn, statement, (campaign.id,))


def test_a_dropped_campaign_can_be_made_anew(database):
    campaigns.drop(database, campaigns.create(database, "nl", 2024))
    assert campaigns.create(database, "nl", 2024).name == "nl_2024"


def test_the_owner_role_is_enough_to_make_fill_and_drop(database, tmp_path):
    db.execute(database, "SET ROLE cbm_owner")
    made = campaigns.create(database, "nl", 2024)
    assert import_parcels(database, made, parcel_file(tmp_path / "p.gpkg"), id_column="id").new == 2
    campaigns.drop(database, made)
