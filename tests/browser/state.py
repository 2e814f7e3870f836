"""A Member State of nine square parcels and a few scenes, whose numbers are known by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from store import catalogue, db, listings
from store.catalogue import BandSource, Scene
from store.kinds import KINDS
from store.listings import Listing
from tests.integration.small_state import a_scene, add_campaign, footprint, square, write_band

CODES = [f"p{n}" for n in range(1, 10)]
MIDDLE = "p5"
COLOURS = ("B02", "B03", "B04", "B08", "B11")
MEANS = {"B02": 500, "B03": 800, "B04": 1000, "B08": 3000, "B11": 2000}
"""Of the first scene: an NDVI of (3000 - 1000) / (3000 + 1000) = 0.5."""

CLOUDY = 1
"""Place of the scene that shows a cloud only."""


def fill(conn: db.Connection, folder: Path) -> None:
    """Make campaign tt 2024 with its parcels, scenes, images, series and work."""
    squares = [square(5 + 30 * row, 5 + 30 * col, size=29) for row in range(3) for col in range(3)]
    campaign = add_campaign(conn, squares)
    db.execute(
        conn,
        "UPDATE parcel_set SET extent = (SELECT ST_Envelope(ST_Transform(ST_Collect(geom), 4326)) "
        "FROM tt.parcels)",
    )
    units = """'{"s2": "dn", "bs": "gamma0_linear"}'"""
    db.execute(conn, f"UPDATE campaign SET units = {units} WHERE id = %s", (campaign,))
    scenes = [_optical(folder, number) for number in range(4)]
    radar = replace(a_scene(9), reference="S1A_BS", kind="bs", acquisition="S1", bands={})
    catalogue.register(conn, [*scenes, radar])
    for number, scene in enumerate(scenes):
        _extract(conn, campaign, scene, {b: v + 500 * number for b, v in MEANS.items()})
        _classify(conn, campaign, scene, 9 if number == CLOUDY else 4)
    _extract(conn, campaign, radar, {"VV": 0.1, "VH": 0.01})
    _tell(conn, scenes)
    _list(conn, scenes)


def _optical(folder: Path, number: int) -> Scene:
    ramp = np.add.outer(np.arange(100), np.arange(100)).astype(np.uint16)
    sources = {
        band: BandSource(str(write_band(folder / f"{number}_{band}.tif", ramp * place + 500)))
        for place, band in enumerate(COLOURS, 1)
    }
    return a_scene(number, sources, footprint_wkt=footprint((100, 100)), tile="32TNT")


def _extract(conn: db.Connection, campaign: int, scene: Scene, means: dict[str, float]) -> None:
    obsid = _obsid(conn, scene)
    db.fetch_one(conn, "SELECT cbm_leaf(%s::smallint, %s, %s)", (campaign, scene.kind, obsid))
    values = [
        value for band in KINDS[scene.kind].band_names for value in _statistics(means.get(band))
    ]
    places = ", %s" * len(values)
    statement = f"INSERT INTO tt.{scene.kind} VALUES (%s, 0, %s, %s, 841{places})"
    for pid in range(1, len(CODES) + 1):
        db.execute(conn, statement, (campaign, pid, obsid, *values))


def _statistics(mean: float | None) -> list[float | None]:
    """count, mean, std, min, p25, p50, p75, max."""
    return [None] * 8 if mean is None else [841, mean, 1, mean, mean, mean, mean, mean]


def _classify(conn: db.Connection, campaign: int, scene: Scene, scene_class: int) -> None:
    obsid = _obsid(conn, scene)
    db.fetch_one(conn, "SELECT cbm_leaf(%s::smallint, 'hists', %s)", (campaign, obsid))
    counts = [210 if number == scene_class else 0 for number in range(12)]
    for pid in range(1, len(CODES) + 1):
        values = (campaign, pid, obsid, *counts)
        db.execute(conn, f"INSERT INTO tt.hists VALUES (%s, %s, %s{', %s' * 12})", values)


def _tell(conn: db.Connection, scenes: list[Scene]) -> None:
    """Two scenes are extracted, one has failed, one waits."""
    states = [("done", 9, None), ("done", 9, None), ("dead", None, "B04: the file is cut short")]
    for scene, (state, rows, reason) in zip(scenes, states, strict=False):
        db.execute(
            conn,
            "UPDATE work SET state = %s, signatures = %s, reason = %s WHERE obsid = %s",
            (state, rows, reason, _obsid(conn, scene)),
        )


def _list(conn: db.Connection, scenes: list[Scene]) -> None:
    """A source lists the scenes, and of the next month one more that is not here."""
    lost = a_scene(8, footprint_wkt=scenes[0].footprint_wkt, tile="32TNT")
    with db.transaction(conn):
        listings.list_products(conn, [_listing(scene) for scene in (*scenes, lost)])


def _listing(scene: Scene) -> Listing:
    return Listing(
        source="cdse", reference=scene.reference, kind=scene.kind, platform=scene.platform,
        acquisition=scene.acquisition, sensed_at=scene.obstime, tile=scene.tile,
        baseline=scene.baseline, footprint_wkt=scene.footprint_wkt, state="online",
    )  # fmt: skip


def _obsid(conn: db.Connection, scene: Scene) -> int:
    found = db.fetch_one(conn, "SELECT obsid FROM scene WHERE reference = %s", (scene.reference,))
    return int(found.obsid)
