"""The scenes that show a window: of each acquisition the best, and its substitutes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from app.chips.bands import BandSet
from app.chips.window import ChipWindow
from store import db
from store.catalogue import BandSource
from store.errors import NotFoundError

_COLUMNS = (
    "obsid, reference, obstime, acquisition, unit, public.cbm_baseline_rank(baseline) AS baseline, "
    "produced_at, bands"
)

_BY_WINDOW = f"""
    SELECT {_COLUMNS}, ST_Area(ST_Intersection(footprint, chip)) / ST_Area(chip) AS share
    FROM public.scene, (SELECT ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
                        AS chip) AS chip_window
    WHERE kind = ANY(%(kinds)s) AND ST_Intersects(footprint, chip)
      AND obstime >= %(start)s::date AND obstime < %(end)s::date + 1"""

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ChipScene:
    """A scene of the catalogue, as chips need it.

    Attributes:
        obsid: its key.
        reference: the product's name.
        obstime: start of sensing, UTC.
        acquisition: equal for all scenes of one overpass.
        unit: of its values.
        baseline: processing baseline, as it is compared.
        produced_at: when the product was made, if known.
        bands: their files, by name.
        share: of the window within its footprint, 0 to 1.
    """

    obsid: int
    reference: str
    obstime: datetime
    acquisition: str
    unit: str
    baseline: str
    produced_at: datetime | None
    bands: dict[str, BandSource]
    share: float = 1.0

    @property
    def label(self) -> str:
        """The time of sensing as the JRC's clients know it."""
        return f"{self.obstime:%Y%m%dT%H%M%S}"

    @property
    def file_label(self) -> str:
        """The product's name as the first part of a file's: without dots, which clients cut at."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.reference)


Acquisition = Sequence[ChipScene]
"""The scenes of one overpass that show a window, best first."""


def find_acquisitions(
    conn: db.Connection, window: ChipWindow, bands: BandSet, start: date, end: date
) -> list[Acquisition]:
    """The acquisitions that show a window, by time.

    Args:
        conn: an open connection.
        window: the ground to show.
        bands: that the scenes need to have.
        start: first day, UTC.
        end: last day, included.

    Raises:
        NotFoundError: there are scenes, but none has all the bands; names those that there are.
    """
    west, south, east, north = window.box_degrees
    box = {"west": west, "south": south, "east": east, "north": north}
    params = box | {"kinds": list(bands.kinds), "start": start, "end": end}
    scenes = [_scene(row) for row in db.fetch_all(conn, _BY_WINDOW, params)]
    complete = [scene for scene in scenes if scene.bands.keys() >= set(bands.names)]
    if scenes and not complete:
        known = ", ".join(sorted(set().union(*(scene.bands for scene in scenes))))
        raise NotFoundError(f"no scene there has {', '.join(bands.names)}; there are {known}")
    return rank_acquisitions(complete)


def rank_acquisitions(scenes: Iterable[ChipScene]) -> list[Acquisition]:
    """The scenes by acquisition, best first: largest share of the window, then newest product.

    Shares are compared in hundredths: footprints are not exact to the pixel, and a newer baseline
    is worth more than a metre.
    """
    ranks: dict[str, list[ChipScene]] = {}
    for scene in sorted(scenes, key=_rank, reverse=True):
        ranks.setdefault(scene.acquisition, []).append(scene)
    return sorted(ranks.values(), key=lambda scenes: (scenes[0].obstime, scenes[0].obsid))


def _rank(scene: ChipScene) -> tuple[Any, ...]:
    return round(scene.share, 2), scene.baseline, scene.produced_at or _NEVER, scene.obsid


def scenes_by_reference(
    conn: db.Connection, references: Sequence[str], kinds: Sequence[str]
) -> list[ChipScene]:
    """The scenes with some references, in their order.

    Raises:
        NotFoundError: one is not in the catalogue.
    """
    rows = db.fetch_all(
        conn,
        f"SELECT {_COLUMNS} FROM public.scene WHERE reference = ANY(%s) AND kind = ANY(%s)",
        (list(references), list(kinds)),
    )
    by_name = {row.reference: _scene(row) for row in rows}
    if missing := [name for name in references if name not in by_name]:
        raise NotFoundError(f"not in the catalogue: {', '.join(missing)}")
    return [by_name[name] for name in references]


def scene_by_obsid(conn: db.Connection, obsid: int) -> ChipScene:
    """The scene with an obsid.

    Raises:
        NotFoundError: it is not in the catalogue any more.
    """
    row = db.fetch_one(conn, f"SELECT {_COLUMNS} FROM public.scene WHERE obsid = %s", (obsid,))
    if row is None:
        raise NotFoundError("the scene is not in the catalogue any more")
    return _scene(row)


def _scene(row: Any) -> ChipScene:
    facts = row._asdict()
    bands = {name: BandSource(**source) for name, source in facts.pop("bands").items()}
    return ChipScene(**facts, bands=bands)
