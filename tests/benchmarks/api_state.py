"""30 million signature values twice: in the product's tables, and in the JRC's layout beside them.

500,000 parcels x 10 scenes x 6 bands, with SCL histograms. The JRC's tables are as its documents
make them: parcels by ogr2ogr (a key of their own and GiST, nothing on the agency's id), long rows
with three single-column indexes, histograms as json, a catalogue with its key.
"""

import json
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from store import db, schema, signatures
from store.errors import ConflictError
from store.parcels import campaigns
from store.signatures import Signatures
from tests.benchmarks.context import Bench
from tests.benchmarks.state import AOI, YEAR, State
from tests.benchmarks.storing import statistics

NAME = "bench_api"
EPSG = 28992
BANDS = ("B02", "B03", "B04", "B05", "B08", "B11")
JRC = "jrc"

_SEED = 23
_WEST_M, _SOUTH_M, _PITCH_M, _COLUMNS = 100_000, 400_000, 120, 700

_PARCELS = f"""
    INSERT INTO {AOI}.parcels
    SELECT %(campaign)s, n, %(set)s, 'p' || n, 'crop ' || (n %% 1000) * 7919 %% 20,
           ((n %% 1000) * 7919 %% 20)::text,
           ST_Multi(ST_Buffer(ST_SetSRID(ST_MakePoint(
               {_WEST_M} + (n - 1) %% {_COLUMNS} * {_PITCH_M},
               {_SOUTH_M} + (n - 1) / {_COLUMNS} * {_PITCH_M}), {EPSG}), 40 + n %% 15, 4)),
           ''::bytea
    FROM generate_series(1, %(parcels)s) AS n"""

_SCENE = """
    INSERT INTO scene (reference, kind, platform, obstime, acquisition, unit, epsg, footprint,
                       bands, software, baseline)
    SELECT 'S2A_' || n, 's2', 'S2A', timestamptz '2024-04-01 10:30Z' + n * interval '5 days',
           'A' || n, 'dn', 32631, ST_Multi(ST_MakeEnvelope(3, 50, 8, 54, 4326)), '{}', 'bench',
           '05.10'
    FROM generate_series(1, %s) AS n"""

_LONG = " UNION ALL ".join(
    f"SELECT pid, obsid, '{band}' AS band, {b}_count, {b}_mean, {b}_std, {b}_min, {b}_max, "
    f"{b}_p25, {b}_p50, {b}_p75 FROM {AOI}.s2 WHERE obsid = %(obsid)s"
    for band in BANDS
    for b in [band.lower()]
)

_JRC_TABLES = f"""
    CREATE SCHEMA {JRC};
    CREATE TABLE {JRC}.dias_catalogue (
        id serial PRIMARY KEY, obstime timestamp, reference varchar(120) UNIQUE, sensor char(2),
        card char(2), status varchar(24), footprint geometry(Polygon, 4326));
    INSERT INTO {JRC}.dias_catalogue
    SELECT obsid, obstime, reference, '2A', 's2', 'extracted', ST_GeometryN(footprint, 1)
    FROM scene;
    CREATE INDEX ON {JRC}.dias_catalogue USING gist (footprint);
    CREATE TABLE {JRC}.parcels_{YEAR} (
        ogc_fid serial PRIMARY KEY, parcel_id varchar, crop_name varchar, crop_code varchar,
        wkb_geometry geometry(MultiPolygon, {EPSG}));
    INSERT INTO {JRC}.parcels_{YEAR}
    SELECT pid, code, crop_name, crop_code, geom FROM {AOI}.parcels;
    CREATE INDEX ON {JRC}.parcels_{YEAR} USING gist (wkb_geometry);
    CREATE TABLE {JRC}.sigs_{YEAR} (
        pid integer, obsid integer, band char(3), count real, mean real, std real, min real,
        max real, p25 real, p50 real, p75 real);
    CREATE TABLE {JRC}.hists_{YEAR} (pid integer, obsid integer, hist json);
"""
_JRC_KEYS = f"""
    CREATE INDEX ON {JRC}.sigs_{YEAR} (pid);
    CREATE INDEX ON {JRC}.sigs_{YEAR} (obsid);
    CREATE INDEX ON {JRC}.sigs_{YEAR} (band);
    ALTER TABLE {JRC}.hists_{YEAR} ADD PRIMARY KEY (pid, obsid);
"""


@dataclass(frozen=True)
class Size:
    """How much is stored."""

    parcels: int = 500_000
    scenes: int = 10

    @property
    def values(self) -> int:
        """Signature values, of all parcels, scenes and bands."""
        return self.parcels * self.scenes * len(BANDS)


def load(bench: Bench, size: Size) -> State:
    """The database with both layouts; taken as it is if an earlier run has filled it."""
    made = _filled(bench, size)
    if made:
        return made
    state = State.fresh(bench.server, NAME)
    fill(bench, state, size)
    return state


def _filled(bench: Bench, size: Size) -> State | None:
    with closing(bench.server.connect("postgres")) as admin:
        found = db.fetch_one(admin, "SELECT 1 FROM pg_database WHERE datname = %s", (NAME,))
    if not found:
        return None
    with closing(bench.server.connect(NAME)) as conn:
        note = db.fetch_one(conn, "SELECT shobj_description(oid, 'pg_database') AS size, "
                            "to_regclass('public.cbm_migration') AS ledger "
                            "FROM pg_database WHERE datname = current_database()")  # fmt: skip
        if note.size != json.dumps([size.parcels, size.scenes]):
            return None
        try:
            schema.migrate(conn)
        except ConflictError as error:
            bench.say(f"{NAME} is filled again: {error}")
            return None
        return State(bench.server, NAME, campaigns.find(conn, AOI, YEAR))


def fill(bench: Bench, state: State, size: Size) -> None:
    """Fill both layouts with the same values."""
    with closing(state.connect()) as conn:
        _parcels(conn, state, size)
        bench.say(f"{size.parcels:,} parcels stored")
        db.execute(conn, _SCENE, (size.scenes,))
        _signatures(bench, conn, state, size)
        db.execute(conn, _JRC_TABLES)
        for obsid in range(1, size.scenes + 1):
            _copy_to_jrc(conn, obsid)
            bench.say(f"{obsid} of {size.scenes} scenes in the JRC's layout")
        db.execute(conn, _JRC_KEYS)
        bench.say("vacuum and analyze")
        db.execute(conn, "VACUUM (ANALYZE)")
        db.execute(conn, "CHECKPOINT")
        note = json.dumps([size.parcels, size.scenes])
        db.execute(conn, f"COMMENT ON DATABASE {state.name} IS '{note}'")


def _parcels(conn: db.Connection, state: State, size: Size) -> None:
    campaign = state.campaign.id
    made = db.fetch_one(
        conn,
        "INSERT INTO parcel_set (campaign_id, digest, parcels, extent) "
        "VALUES (%s, 'bench', %s, ST_MakeEnvelope(3, 50, 8, 54, 4326)) RETURNING id",
        (campaign, size.parcels),
    )
    db.execute(conn, _PARCELS, {"campaign": campaign, "set": made.id, "parcels": size.parcels})
    db.execute(
        conn,
        'UPDATE campaign SET srid = %s, next_pid = %s, units = \'{"s2": "dn"}\' WHERE id = %s',
        (EPSG, size.parcels + 1, campaign),
    )


def _signatures(bench: Bench, conn: db.Connection, state: State, size: Size) -> None:
    draws = np.random.default_rng(_SEED)
    n = size.parcels
    found = Signatures(
        "s2",
        np.arange(1, n + 1, dtype=np.int32),
        np.full(n, 60, np.int32),
        np.zeros(n, np.int16),
        {band: statistics(draws, n) for band in BANDS},
        draws.integers(0, 12, (n, 12)),
    )
    for obsid in range(1, size.scenes + 1):
        leaves = signatures.ensure_partitions(conn, state.campaign.id, obsid, "s2")
        with db.transaction(conn):
            signatures.write(conn, AOI, leaves, state.campaign.id, obsid, found)
        bench.say(f"{obsid} of {size.scenes} scenes stored")


def _copy_to_jrc(conn: db.Connection, obsid: int) -> None:
    """The same rows in the order that the JRC's script writes them: by image, then band."""
    db.execute(conn, f"INSERT INTO {JRC}.sigs_{YEAR} {_LONG}", {"obsid": obsid})
    db.execute(
        conn,
        f"INSERT INTO {JRC}.hists_{YEAR} SELECT pid, obsid, hist FROM {AOI}.hists_{YEAR} "
        "WHERE obsid = %s",
        (obsid,),
    )
