"""CARD kinds in the database: the rows of the table in Python; a new kind needs nothing else."""

import numpy as np
import pytest

from card.find.stac import scene_from_item
from extraction.worker import Worker
from store import catalogue, db
from store.config import WorkerSettings
from store.kinds import KINDS, Band, CardKind, Composite
from store.units import UNITS, Unit
from tests.integration.small_state import add_campaign, square, write_band

MADE_UP = CardKind(
    name="lai",
    mission="S2",
    bands=(Band("LAI", "LAI"), Band("FAPAR", "FAPAR", ("fraction",))),
    units=("index",),
    levels={"L3": "index"},
    stac_types=("S2-L3",),
    jrc_levels=("LEVEL3",),
    tstypes=("lai",),
    composites=(Composite("Leaf area", ("LAI",)),),
)
MIGRATION = """
    ALTER TABLE public.scene DROP CONSTRAINT scene_kind_check,
        ADD CONSTRAINT scene_kind_check CHECK (kind IN ('s2', 'bs', 'c6', 'c12', 'lai'));
    INSERT INTO public.band (kind, name, position, jrc_name) VALUES
        ('lai', 'LAI', 1, 'LAI'), ('lai', 'FAPAR', 2, 'FAPAR')"""


def rows(conn):
    return {
        tuple(row)
        for row in db.fetch_all(conn, "SELECT kind, name, position, jrc_name FROM public.band")
    }


def declared_rows():
    return {
        (kind.name, band.name, position, band.jrc_name)
        for kind in KINDS.values()
        for position, band in enumerate(kind.bands, 1)
    }


def test_the_rows_of_the_database_are_those_of_the_table(database):
    assert rows(database) == declared_rows()
    check = db.fetch_one(
        database,
        "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint "
        "WHERE conname = 'scene_kind_check'",
    ).text
    assert all(f"'{kind}'" in check for kind in KINDS)


@pytest.fixture
def made_up_kind(monkeypatch):
    monkeypatch.setitem(UNITS, "index", Unit("index", 0.0, 10.0))
    monkeypatch.setitem(KINDS, "lai", MADE_UP)


def test_a_new_kind_is_an_entry_of_the_table_and_a_migration(database, made_up_kind, tmp_path):
    db.execute(database, MIGRATION)
    assert rows(database) == declared_rows()
    campaign = add_campaign(database, [square(1, 1)])
    path = write_band(tmp_path / "lai.tif", np.full((20, 20), 3.5, np.float32))
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "A_LAI_PRODUCT",
        "geometry": None,
        "bbox": [8.9, 47.3, 9.1, 47.5],
        "properties": {
            "datetime": "2024-05-01T10:00:00Z",
            "platform": "sentinel-2a",
            "product:type": "S2-L3",
            "unit": "index",
        },
        "assets": {"lai": {"href": str(path)}},
    }
    scene = scene_from_item(item, tmp_path)
    assert (scene.kind, scene.unit, list(scene.bands)) == ("lai", "index", ["LAI"])
    catalogue.register(database, [scene])
    settings = WorkerSettings(cache_dir=tmp_path / "cache", poll_s=0.05)
    assert Worker(settings).work(until_idle=True) == 1
    stored = db.fetch_one(
        database, "SELECT lai_count, lai_mean, fapar_count FROM tt.lai WHERE campaign_id = %s",
        (campaign,),
    )  # fmt: skip
    assert tuple(stored) == (4, 3.5, None)
    long = db.fetch_all(database, "SELECT band, mean FROM tt.sigs_2024")
    assert [tuple(row) for row in long] == [("LAI", 3.5)]
