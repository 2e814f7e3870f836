"""What sources say of a scene, and the scene that follows when nothing needed is missing.

A product name, a product's metadata, the rasters and a STAC Item each give `Facts`, silent where
they know nothing. `combine` lets the first that speaks win; `scene` demands what is needed.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import TypeVar

from shapely.geometry.base import BaseGeometry

from card.footprint import multipolygon_wkt
from store.catalogue import BandSource, Scene
from store.errors import MissingFactError, SceneError
from store.products import BANDS, CARD_BS, SCL, Product

S1_UNITS = ("gamma0_linear", "sigma0_linear", "gamma0_db", "sigma0_db")
_DEFINED_UNITS = {
    CARD_BS: "gamma0_linear", "CARD-COH6": "coherence", "CARD-COH12": "coherence",
}  # fmt: skip
_UNITS = {"s2": ("dn", "reflectance"), "bs": S1_UNITS, "c6": ("coherence",), "c12": ("coherence",)}
_FILL = dict.fromkeys(("dn", "gamma0_linear", "sigma0_linear", "coherence"), 0.0)
"""Fill value where no source states one: Level-2A's own, and what SNAP writes off the swath."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class BandFacts:
    """What one source says of one band; None where it is silent.

    Attributes:
        href: absolute local path or address.
        index: 1-based number in that file.
        dtype: name of the pixels' data type, such as uint16.
        nodata: value that means "no data"; NaN is a statement too.
        unit: as in `store.catalogue.Scene`.
        scale: physical value = value * scale, once the offset is added.
        offset: to be added to values, in the file's own unit.
        res_m: pixel size in metres; the finest source of a band is used.
    """

    href: str | None = None
    index: int | None = None
    dtype: str | None = None
    nodata: float | None = None
    unit: str | None = None
    scale: float | None = None
    offset: float | None = None
    res_m: float | None = None


@dataclass(frozen=True)
class Facts:
    """What one source says of a scene; None where it is silent.

    Fields as in `Scene`; `unit` is what a product type defines, for bands that state none.
    """

    reference: str | None = None
    kind: str | None = None
    platform: str | None = None
    obstime: datetime | None = None
    acquisition: str | None = None
    epsg: int | None = None
    footprint: BaseGeometry | None = None
    orbit_direction: str | None = None
    relative_orbit: int | None = None
    tile: str | None = None
    baseline: str | None = None
    produced_at: datetime | None = None
    cloud_cover_pct: float | None = None
    unit: str | None = None
    bands: Mapping[str, BandFacts] = field(default_factory=dict)


def direction_of(text: str) -> str | None:
    """The orbit direction (ascending, descending), where a text is one; else None."""
    word = text.strip().lower()
    return word if word in ("ascending", "descending") else None


def of_product(product: Product) -> Facts:
    """What a product name says."""
    return Facts(
        reference=product.reference,
        kind=product.kind,
        platform=product.platform,
        obstime=product.sensing_start,
        acquisition=product.acquisition,
        relative_orbit=product.relative_orbit,
        tile=product.tile,
        baseline=product.baseline or None,
        produced_at=product.produced_at,
        unit=_DEFINED_UNITS.get(product.level),
    )


def combine(*sources: Facts) -> Facts:
    """For every fact, what the first source that knows it says; bands are joined by name."""
    names = {name: None for source in sources for name in source.bands}
    bands = {n: _first(BandFacts, [s.bands[n] for s in sources if n in s.bands]) for n in names}
    return replace(_first(Facts, sources), bands=bands)


def finest(bands: Iterable[tuple[str, BandFacts]]) -> dict[str, BandFacts]:
    """One source per band name: the finest resolution, then the first given."""
    best: dict[str, BandFacts] = {}
    for name, band in bands:
        if name not in best or (band.res_m or math.inf) < (best[name].res_m or math.inf):
            best[name] = band
    return best


def scene(facts: Facts, where: str) -> Scene:
    """The scene that follows from the facts.

    Surface reflectance of integer type needs its BOA_ADD_OFFSET stated: neither a date nor a
    baseline proves whether a provider applied it already. Float values are used as delivered.

    Args:
        facts: all that is known.
        where: file or item the facts are of, for messages.

    Raises:
        MissingFactError: names every missing fact and the STAC property that would state it.
        SceneError: facts contradict one another, or cannot be used.
    """
    kind = facts.kind or _kind(facts)
    bands = {n: facts.bands[n] for n in _names(kind) if n in facts.bands and facts.bands[n].href}
    units = {n: _unit(kind, band, facts.unit) for n, band in bands.items() if n != SCL}
    scales = {n: bands[n].scale if unit == "dn" else None for n, unit in units.items()}
    missing = [*_missing_of_scene(facts), *_missing_of_bands(facts, kind, units)]
    if missing:
        raise MissingFactError(f"{where}: not stated: {'; '.join(missing)}")
    _refuse_coded(where, kind, bands)
    return Scene(
        reference=str(facts.reference),
        kind=str(kind),
        platform=str(facts.platform),
        obstime=_given(facts.obstime),
        acquisition=facts.acquisition or _acquisition(facts),
        unit=str(_agreed(where, "units", units)),
        epsg=_given(facts.epsg),
        footprint_wkt=multipolygon_wkt(_given(facts.footprint)),
        bands={n: _source(n, band, units.get(n)) for n, band in bands.items()},
        scale=_agreed(where, "scales", scales),
        orbit_direction=facts.orbit_direction,
        relative_orbit=facts.relative_orbit,
        tile=facts.tile,
        baseline=facts.baseline or "",
        produced_at=facts.produced_at,
        cloud_cover_pct=facts.cloud_cover_pct,
    )


def _first(cls: type[_T], sources: Iterable[_T]) -> _T:
    said = [{f.name: getattr(s, f.name) for f in fields(cls)} for s in sources]  # type: ignore[arg-type]
    return cls(
        **{
            key: next((facts[key] for facts in said if facts[key] is not None), None)
            for key in (f.name for f in fields(cls))  # type: ignore[arg-type]
        }
    )


def _given(value: _T | None) -> _T:
    if value is None:
        raise AssertionError("missing facts are refused before a scene is made")
    return value


def _acquisition(facts: Facts) -> str:
    """Equal for what one satellite saw at one time on one orbit; mosaics differ by direction."""
    orbit = f"R{facts.relative_orbit:03d}" if facts.relative_orbit else facts.orbit_direction
    return "_".join(filter(None, (facts.platform, f"{facts.obstime:%Y%m%dT%H%M%S}", orbit)))


def _kind(facts: Facts) -> str | None:
    """The CARD kind that platform, band names and units leave no doubt about."""
    if (facts.platform or "").startswith("S2") or set(facts.bands) & set(BANDS["s2"]):
        return "s2"
    units = {band.unit for band in facts.bands.values()} - {None}
    return "bs" if units and units <= set(S1_UNITS) else None


def _names(kind: str | None) -> tuple[str, ...]:
    known = BANDS.get(kind or "", ())
    return (*known, SCL) if kind == "s2" else known


def _unit(kind: str | None, band: BandFacts, defined: str | None) -> str | None:
    said = [unit for unit in (band.unit, defined) if unit in _UNITS.get(kind or "", ())]
    if said:
        return said[0]
    if kind != "s2" or band.dtype is None:
        return None
    return "reflectance" if band.dtype.startswith("float") else "dn"


def _missing_of_scene(facts: Facts) -> Iterator[str]:
    for name, value, statement in (
        ("product name", facts.reference, "in the file's or folder's name, or as a STAC Item's id"),
        ("platform", facts.platform, "properties.platform, such as sentinel-2a"),
        ("time of sensing", facts.obstime, "properties.datetime"),
        ("CRS", facts.epsg, "properties.proj:code, such as EPSG:32632"),
        ("outline", facts.footprint, "geometry"),
    ):
        if value is None:
            yield f"{name} ({statement})"


def _missing_of_bands(
    facts: Facts, kind: str | None, units: Mapping[str, str | None]
) -> Iterator[str]:
    if kind is None:
        yield (
            "unit, and with it the CARD kind (unit of the band or in properties: "
            f"{', '.join(S1_UNITS)}; or properties.product:type: CARD-COH6 or CARD-COH12)"
        )
    if not set(facts.bands) & set(_names(kind) or BANDS["bs"]) - {SCL}:
        yield (
            "which band is which (bands[].name of the STAC Item's asset, in the file's order, or "
            f"band descriptions in the file: {', '.join(_names(kind) or BANDS['bs'])})"
        )
    for unit in dict.fromkeys(units.values()):
        names = [name for name in units if units[name] == unit]
        yield from _missing_of_unit(unit, kind, {name: facts.bands[name] for name in names})


def _missing_of_unit(
    unit: str | None, kind: str | None, bands: Mapping[str, BandFacts]
) -> Iterator[str]:
    which = "/".join(bands)
    if unit is None and kind == "s2":
        yield f"data type of {which} (data_type of the band)"
    elif unit is None:
        words = ", ".join(_UNITS[str(kind)])
        yield f"unit of {which} (unit of the band or in properties: {words})"
    if unit == "dn" and any(band.offset is None for band in bands.values()):
        yield (
            f"BOA_ADD_OFFSET of {which}, which are integers (raster:offset beside raster:scale, "
            "of the band or in properties, 0 if it was applied already; "
            "or properties.earthsearch:boa_offset_applied: true)"
        )
    if unit == "dn" and any(band.scale is None for band in bands.values()):
        yield f"scale of {which} (raster:scale of the band or in properties, such as 0.0001)"


def _refuse_coded(where: str, kind: str | None, bands: Mapping[str, BandFacts]) -> None:
    if kind == "s2":
        return
    for name, band in bands.items():
        if band.scale not in (None, 1) or band.offset not in (None, 0):
            raise SceneError(
                f"{where}: {name} holds coded values (scale {band.scale}, offset {band.offset}); "
                "Sentinel-1 is used as delivered: convert it to physical values"
            )


def _agreed(where: str, what: str, values: Mapping[str, _T]) -> _T:
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{name}: {value}" for name, value in values.items())
        raise SceneError(f"{where}: the bands have different {what} ({listed})")
    return next(iter(values.values()))


def _source(name: str, band: BandFacts, unit: str | None) -> BandSource:
    if name == SCL:  # a class of its own says "no data", and is counted like the others
        return BandSource(_given(band.href), band.index or 1)
    nodata = _FILL.get(str(unit)) if band.nodata is None else band.nodata
    return BandSource(
        href=_given(band.href),
        index=band.index or 1,
        offset=_given(band.offset) if unit == "dn" else 0.0,
        nodata=None if nodata is None or math.isnan(nodata) else nodata,
    )
