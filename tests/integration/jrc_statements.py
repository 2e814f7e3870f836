"""The predecessor's own statements, and a season for them."""

from store import db
from tests.integration import small_state

SCENES = 6

SERIES = """
    SELECT extract('epoch' from d.obstime) AS date_part, s.band, s.count, s.mean, s.std, s.min,
           s.p25, s.p50, s.p75, s.max, h.hist, d.reference
    FROM tt.parcels_2024 p, tt.sigs_2024 s, dias_catalogue d, tt.hists_2024 h
    WHERE p.ogc_fid = s.pid And p.code = 'p7' And s.obsid = d.id
      And s.pid = h.pid And h.obsid = s.obsid {more}
    ORDER By obstime, band asc"""

BANDS = "And band IN ('B02', 'B03', 'B04', 'B05', 'B08', 'B11')"

MOWING = """
    SELECT DISTINCT ON (tt.sigs_2024.pid, obstime)
           tt.sigs_2024.pid as db_id, tt.parcels_2024.code as parcel_id, tt.sigs_2024.obsid,
           obstime, max(count)::integer as count_10m,
           max(mean) filter(where band = 'B04') b04_mean,
           max(mean) filter(where band = 'B08') b08_mean, hist::text
    FROM tt.sigs_2024, tt.parcels_2024, tt.hists_2024, public.dias_catalogue
    WHERE card = 's2' and tt.parcels_2024.ogc_fid = tt.sigs_2024.pid
      and tt.sigs_2024.obsid = public.dias_catalogue.id
      and tt.sigs_2024.pid = tt.hists_2024.pid and tt.sigs_2024.obsid = tt.hists_2024.obsid
      {conditions}
    GROUP BY tt.sigs_2024.pid, tt.sigs_2024.obsid, tt.parcels_2024.code, obstime, hist::text
    ORDER BY tt.sigs_2024.pid, obstime"""

RADAR = """
    SELECT DISTINCT ON (tt.sigs_2024.pid, obstime::date)
           tt.sigs_2024.pid as db_id, tt.parcels_2024.code as parcel_id, tt.sigs_2024.obsid,
           obstime, max(count)::integer as count, max(mean) filter(where band = 'VH{k}') vh_mean,
           case when obstime::time < '12:00' then 'D' else 'A' end orbit,
           max(mean) filter(where band = 'VV{k}') vv_mean
    FROM tt.sigs_2024, tt.parcels_2024, public.dias_catalogue
    WHERE card = '{card}' and tt.parcels_2024.ogc_fid = tt.sigs_2024.pid
      and tt.sigs_2024.obsid = public.dias_catalogue.id
      and tt.parcels_2024.code IN ('p7', 'p9')
    GROUP BY tt.sigs_2024.pid, tt.sigs_2024.obsid, tt.parcels_2024.code, obstime
    ORDER BY tt.sigs_2024.pid, obstime::date"""

LOCATION = """
    SELECT code::text as pid, st_srid(wkb_geometry) as srid, st_area(wkb_geometry) as area
    FROM tt.parcels_2024
    WHERE st_intersects(wkb_geometry, st_transform(st_geomfromtext(
        'POINT(9.0005 47.404)', 4326), Find_SRID('tt', 'parcels_2024', 'wkb_geometry')))"""

STATEMENTS = {
    "by code": SERIES.format(more=BANDS),
    "by code, one band": SERIES.format(more="And s.band = 'B08' " + BANDS),
    "by pid": "SELECT * FROM tt.sigs_2024 WHERE pid = 7",
    "by pid and band": "SELECT obsid, mean FROM tt.sigs_2024 WHERE pid = 7 AND band = 'B08'",
    "histograms": "SELECT h.obsid, h.hist FROM tt.hists_2024 h, tt.parcels_2024 p "
    "WHERE h.pid = p.ogc_fid And p.code = 'p7' ORDER By h.obsid Asc",
    "marker detection": MOWING.format(conditions="and tt.parcels_2024.code IN ('p7', 'p9')"),
    "marker detection, cloud free": MOWING.format(
        conditions="and (not hist::jsonb?|array['3','8','9','10','11']) "
        "and tt.parcels_2024.code IN ('p7', 'p9')"
    ),
    "marker detection, backscatter": RADAR.format(card="bs", k="b"),
    "marker detection, coherence": RADAR.format(card="c6", k="c"),
}

OF_PARCELS = {
    "parcel by location": LOCATION,
    "parcel by id": "SELECT code::text as pid, cropname, st_asgeojson(wkb_geometry) as geom "
    "FROM tt.parcels_2024 WHERE code = 'p7'",
    "parcels of marker detection": "SELECT * FROM tt.parcels_2024 WHERE code IN ('p7', 'p9')",
}
"""These scan no table of parcels either, nor does the series by code."""


def fill(conn, parcels: int) -> None:
    """Squares in a row; per scene a signature of B04 and B08 each, B02 missing; histograms."""
    squares = [small_state.square(4 * (n // 1000), 4 * (n % 1000)) for n in range(parcels)]
    campaign = small_state.add_campaign(conn, squares[:10])
    db.execute(
        conn,
        "INSERT INTO tt.parcels SELECT campaign_id, n, set_id, 'p' || n, crop_name, crop_code, "
        "ST_Translate(geom, 40 * ((n - 1) %% 1000), -40 * ((n - 1) / 1000)), geom_sha "
        "FROM tt.parcels, generate_series(11, %s) AS n WHERE pid = 1",
        (parcels,),
    )
    for number in range(SCENES):
        _add_scene(conn, small_state.a_scene(number))
    for obsid in range(1, SCENES + 1):
        for table in ("s2", "hists"):
            db.fetch_one(conn, "SELECT cbm_leaf(%s::smallint, %s, %s)", (campaign, table, obsid))
    db.execute(
        conn,
        "INSERT INTO tt.s2 (campaign_id, flags, pid, obsid, px, b04_count, b04_mean, b08_count) "
        "SELECT %s, 0, pid, obsid, 4, 4, 100 * obsid, 0 "
        "FROM generate_series(1, %s) AS pid, generate_series(1, %s) AS obsid",
        (campaign, parcels, SCENES),
    )
    db.execute(
        conn,
        "INSERT INTO tt.hists SELECT %s, pid, obsid, 0, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0 "
        "FROM generate_series(1, %s) AS pid, generate_series(1, %s) AS obsid",
        (campaign, parcels, SCENES),
    )
    db.execute(conn, "ANALYZE")


def add_radar(conn, parcels: int) -> None:
    """A scene each of backscatter and of coherence with a signature of VV and VH per parcel."""
    for number, kind in enumerate(("bs", "c6"), SCENES):
        _add_scene(conn, small_state.a_scene(number, reference=f"S1_{kind}", kind=kind))
        db.fetch_one(conn, "SELECT cbm_leaf(1::smallint, %s, %s)", (kind, number + 1))
        insert = (
            "INSERT INTO {table} (campaign_id, flags, pid, obsid, px, vv_count, vv_mean, vh_count, "
            "vh_mean) SELECT 1, 0, pid, %s, 4, 4, 0.1, 4, 0.01 FROM generate_series(1, %s) AS pid"
        )
        db.execute(conn, db.compose(insert, table=("tt", kind)), (number + 1, parcels))
    db.execute(conn, "ANALYZE")


def _add_scene(conn, scene) -> None:
    db.execute(
        conn,
        "INSERT INTO scene (reference, kind, platform, obstime, acquisition, unit, epsg, "
        "footprint, bands, software) VALUES (%s, %s, %s, %s, %s, 'dn', %s, "
        "ST_GeomFromText(%s, 4326), '{}', 'test')",
        (scene.reference, scene.kind, scene.platform, scene.obstime, scene.acquisition,
         scene.epsg, scene.footprint_wkt),
    )  # fmt: skip
