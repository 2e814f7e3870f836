"""Which scenes show a place: of each acquisition the best, and what stands in for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from app.chips.bands import BandSet
from app.chips.place import Place
from store import db
from store.catalogue import BandSource
from store.errors import NotFoundError

_COLUMNS = "obsid, reference, obstime, acquisition, unit, baseline, produced_at, bands"

_SHOWING = f"""
    SELECT {_COLUMNS}, ST_Area(ST_Intersection(footprint, chip)) / ST_Area(chip) AS share
    FROM public.scene, (SELECT ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
                        AS chip) AS place
    WHERE kind = ANY(%(kinds)s) AND ST_Intersects(footprint, chip)
      AND obstime >= %(start)s::date AND obstime < %(end)s::date + 1"""

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ChipScene:
    """What the catalogue knows of a scene that a chip needs.

    Attributes:
        obsid: its key.
        reference: the product's name.
        obstime: start of sensing, UTC.
        acquisition: equal for all scenes of one overpass.
        unit: of its values.
        baseline: processing baseline.
        produced_at: when the product was made, if known.
        bands: where they lie.
        share: of the place within its footprint, 0 to 1.
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


Acquisition = Sequence[ChipScene]
"""The scenes of one overpass that show a place, best first."""


def showing(
    conn: db.Connection, place: Place, bands: BandSet, start: date, end: date
) -> list[Acquisition]:
    """The acquisitions that show a place, by time.

    Args:
        conn: an open connection.
        place: what to show.
        bands: that the scenes need to have.
        start: first day, UTC.
        end: last day, included.

    Raises:
        NotFoundError: there are scenes, but none has all the bands; says which there are.
    """
    west, south, east, north = place.box_degrees
    box = {"west": west, "south": south, "east": east, "north": north}
    params = box | {"kinds": list(bands.kinds), "start": start, "end": end}
    found = [_scene(row) for row in db.rows(conn, _SHOWING, params)]
    able = [scene for scene in found if scene.bands.keys() >= set(bands.names)]
    if found and not able:
        known = ", ".join(sorted(set().union(*(scene.bands for scene in found))))
        raise NotFoundError(f"no scene there has {', '.join(bands.names)}; there are {known}")
    return acquisitions(able)


def acquisitions(scenes: Iterable[ChipScene]) -> list[Acquisition]:
    """Put the scenes of each acquisition in order: covers most of the place, is newest made.

    Shares are compared in hundredths: footprints are not exact to the pixel, and a newer baseline
    is worth more than a metre.
    """
    found: dict[str, list[ChipScene]] = {}
    for scene in sorted(scenes, key=_rank, reverse=True):
        found.setdefault(scene.acquisition, []).append(scene)
    return sorted(found.values(), key=lambda ranks: (ranks[0].obstime, ranks[0].obsid))


def _rank(scene: ChipScene) -> tuple[Any, ...]:
    return round(scene.share, 2), scene.baseline, scene.produced_at or _NEVER, scene.obsid


def named(conn: db.Connection, references: Sequence[str], kinds: Sequence[str]) -> list[ChipScene]:
    """The scenes with some product names, in the order of the names.

    Raises:
        NotFoundError: one is not in the catalogue.
    """
    found = db.rows(
        conn,
        f"SELECT {_COLUMNS} FROM public.scene WHERE reference = ANY(%s) AND kind = ANY(%s)",
        (list(references), list(kinds)),
    )
    by_name = {row.reference: _scene(row) for row in found}
    if missing := [name for name in references if name not in by_name]:
        raise NotFoundError(f"not in the catalogue: {', '.join(missing)}")
    return [by_name[name] for name in references]


def numbered(conn: db.Connection, obsid: int) -> ChipScene:
    """The scene with a key.

    Raises:
        NotFoundError: it is not in the catalogue any more.
    """
    row = db.one(conn, f"SELECT {_COLUMNS} FROM public.scene WHERE obsid = %s", (obsid,))
    if row is None:
        raise NotFoundError("the scene is not in the catalogue any more")
    return _scene(row)


def _scene(row: Any) -> ChipScene:
    facts = row._asdict()
    bands = {name: BandSource(**source) for name, source in facts.pop("bands").items()}
    return ChipScene(**facts, bands=bands)
