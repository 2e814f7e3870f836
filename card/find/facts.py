"""Facts about a scene from its sources, and the scene that follows when none is missing.

A product name, a product's metadata, the rasters and a STAC Item each give `Facts`, with None for
unknown ones. `combine` takes each from the first source that has it; `scene` demands the needed.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, TypeVar

import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from card.find import checks
from card.find.footprint import from_bounds, is_near, multipolygon_wkt
from store.catalogue import BandSource, Scene
from store.errors import MissingFactError, SceneError
from store.grid import Extent, Grid
from store.kinds import COUNTED, KINDS, MASK, SCL, unit_of_level
from store.products import Product
from store.units import UNITS

_T = TypeVar("_T")

DECIBELS = "db"
"""A band's unit where only that is stated: the product says of what."""


@dataclass(frozen=True)
class BandFacts:
    """The facts of one source about one band; None for unknown ones.

    Attributes:
        href: absolute local path or address.
        index: 1-based number in that file.
        dtype: name of the pixels' data type, such as uint16.
        nodata: value that means "no data"; NaN is a statement too.
        nodata_stated: a description says so, not a tag of the file.
        unit: as in `store.catalogue.Scene`.
        scale: physical value = value * scale, once the offset is added.
        offset: to be added to values, in the file's own unit.
        res_m: pixel size in metres; the finest source of a band is used.
        grid: where the pixels of a file at hand lie.
        extent: where they lie, of a file that does not say so itself.
        masked: a mask or an alpha band marks pixels as invalid that have no value which says so.
        sample: finite values of the file as stored, one-dimensional, from all of its area.
    """

    href: str | None = None
    index: int | None = None
    dtype: str | None = None
    nodata: float | None = None
    nodata_stated: bool | None = None
    unit: str | None = None
    scale: float | None = None
    offset: float | None = None
    res_m: float | None = None
    grid: Grid | None = None
    extent: Extent | None = None
    masked: bool | None = None
    sample: npt.NDArray[Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Facts:
    """The facts of one source about a scene; None for unknown ones.

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


def utc_time(text: str) -> datetime:
    """A time in ISO 8601; one without a zone is UTC already.

    Raises:
        ValueError: it is none.
    """
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def direction_of(text: str) -> str | None:
    """The orbit direction (ascending, descending), where a text is one; else None."""
    word = text.strip().lower()
    return word if word in ("ascending", "descending") else None


def of_product(product: Product) -> Facts:
    """The facts in a product name."""
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
        unit=unit_of_level(product.level),
    )


def combine(*sources: Facts) -> Facts:
    """Every fact from the first source that has it; bands are joined by name."""
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


def refuse_rivals(bands: Iterable[tuple[str, BandFacts]]) -> None:
    """Refuse two sources of one band, resolution and unit: nothing says which is meant.

    Files that differ in their ending alone hold the same pixels.

    Raises:
        SceneError: names band and files.
    """
    first: dict[tuple[str, float | None, str | None], BandFacts] = {}
    for name, band in bands:
        other = first.setdefault((name, band.res_m, band.unit), band)
        if _stem(other) != _stem(band):
            raise SceneError(
                f"{name} is in {_place(other)} and in {_place(band)}, and nothing says which is "
                "meant: keep one, or describe it in a STAC Item"
            )


def _stem(band: BandFacts) -> tuple[str, int]:
    return str(PurePath(band.href or "").with_suffix("")), band.index or 1


def _place(band: BandFacts) -> str:
    return f"{band.href} (band {band.index or 1})"


def scene(facts: Facts, where: str) -> Scene:
    """The scene that follows from the facts.

    Surface reflectance of integer type needs its BOA_ADD_OFFSET stated: neither a date nor a
    baseline proves whether a provider applied it already. Where a scale is stated, values are
    coded, whatever their type. A sample of the values of files at hand has to be possible in the
    unit, and free of usual fill values that nobody states.

    Args:
        facts: of all sources.
        where: file or item the facts are of, for messages.

    Raises:
        MissingFactError: names every missing fact and the STAC property that would state it.
        SceneError: facts contradict one another, or cannot be used.
    """
    kind = facts.kind or _kind(facts)
    bands = {n: facts.bands[n] for n in _names(kind) if n in facts.bands and facts.bands[n].href}
    facts = replace(facts, footprint=_outline(facts, bands))
    units = {n: _unit(kind, band, facts.unit) for n, band in bands.items() if n not in COUNTED}
    scales = {n: bands[n].scale if unit == "dn" else None for n, unit in units.items()}
    missing = [*_missing_of_scene(facts), *_missing_of_bands(facts, kind, units)]
    if missing:
        raise MissingFactError(f"{where}: not stated: {'; '.join(missing)}")
    sources = {n: _source(n, band, units.get(n)) for n, band in bands.items()}
    checks.refuse_grids(where, facts.epsg, {n: band.grid for n, band in bands.items()})
    checks.refuse_zone(where, facts.tile, _own_grid(bands))
    for name, band in bands.items():
        checks.refuse_numbers(where, name, band.scale, band.offset)
        if name != MASK:
            checks.refuse_values(where, name, band, sources[name], units.get(name))
    return Scene(
        reference=str(facts.reference),
        kind=str(kind),
        platform=str(facts.platform),
        obstime=_given(facts.obstime),
        acquisition=facts.acquisition or _acquisition(facts),
        unit=str(_agreed(where, "units", units)),
        epsg=_given(facts.epsg),
        footprint_wkt=multipolygon_wkt(_given(facts.footprint)),
        bands=sources,
        scale=_agreed(where, "scales", scales),
        orbit_direction=facts.orbit_direction,
        relative_orbit=facts.relative_orbit,
        tile=facts.tile,
        baseline=facts.baseline or "",
        produced_at=facts.produced_at,
        cloud_cover_pct=facts.cloud_cover_pct,
    )


def _first(cls: type[_T], sources: Iterable[_T]) -> _T:
    known = [{f.name: getattr(s, f.name) for f in fields(cls)} for s in sources]  # type: ignore[arg-type]
    return cls(
        **{
            key: next((facts[key] for facts in known if facts[key] is not None), None)
            for key in (f.name for f in fields(cls))  # type: ignore[arg-type]
        }
    )


def _given(value: _T | None) -> _T:
    if value is None:
        raise AssertionError("missing facts are refused before a scene is made")
    return value


def _acquisition(facts: Facts) -> str:
    """Key of one satellite's overpass at one time on one orbit; mosaics differ by direction."""
    orbit = f"R{facts.relative_orbit:03d}" if facts.relative_orbit else facts.orbit_direction
    return "_".join(filter(None, (facts.platform, f"{facts.obstime:%Y%m%dT%H%M%S}", orbit)))


def _kind(facts: Facts) -> str | None:
    """The CARD kind that platform, band names and units leave no doubt about."""
    if (facts.platform or "").startswith("S2") or set(facts.bands) & set(_names("s2")) - {SCL}:
        return "s2"
    units = {band.unit for band in facts.bands.values()} - {None}
    return "bs" if units and units <= set(_units("bs")) else None


def _names(kind: str | None) -> tuple[str, ...]:
    return KINDS[kind].rasters if kind in KINDS else ()


def _units(kind: str | None) -> tuple[str, ...]:
    return KINDS[kind].units if kind in KINDS else ()


def _unit(kind: str | None, band: BandFacts, defined: str | None) -> str | None:
    if kind == "s2" and band.scale not in (None, 1):
        return "dn"  # coded reflectance: its scale and offset stand on the scene
    stated = band.unit
    if stated == DECIBELS and defined:
        stated = UNITS[defined].in_decibels
    units = [unit for unit in (stated, defined) if unit in _units(kind)]
    if units:
        return units[0]
    if kind != "s2" or band.dtype is None:
        return None
    return "reflectance" if band.dtype.startswith("float") else "dn"


def _outline(facts: Facts, bands: Mapping[str, BandFacts]) -> BaseGeometry | None:
    """The stated outline, if it may be of rasters at hand and lies on the globe; else theirs."""
    grid = _own_grid(bands)
    own = from_bounds(grid.epsg, *grid.bounds_m) if grid else None
    return facts.footprint if is_near(facts.footprint, own) else own


def _own_grid(bands: Mapping[str, BandFacts]) -> Grid | None:
    """The grid of a raster at hand."""
    return next((band.grid for band in bands.values() if band.grid), None)


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
            "unit, and with it the CARD kind (of Sentinel-2: properties.platform, such as "
            "sentinel-2a; of Sentinel-1: unit of the band or in properties: "
            f"{', '.join(_units('bs'))}; or properties.product:type: CARD-COH1, CARD-COH6 or "
            "CARD-COH12)"
        )
    names = [name for name in _names(kind) or _all_names() if name != MASK]
    if not set(facts.bands) & set(names) - {SCL}:
        yield (
            "which band is which (bands[].name of the STAC Item's asset, in the file's order, or "
            f"band descriptions in the file: {', '.join(names)})"
        )
    for unit in dict.fromkeys(units.values()):
        names = [name for name in units if units[name] == unit]
        yield from _missing_of_unit(unit, kind, {name: facts.bands[name] for name in names})
    yield from _missing_of_nodata(facts, units)


def _all_names() -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for kind in KINDS for name in _names(kind)))


def _missing_of_nodata(facts: Facts, units: Mapping[str, str | None]) -> Iterator[str]:
    """Bands whose "no data" nobody states, and no custom tells."""
    bands = {name: facts.bands[name] for name in units}
    if masked := [n for n, band in bands.items() if band.masked and not band.nodata_stated]:
        yield (
            f"no-data value of {'/'.join(masked)}, whose valid pixels are marked by a mask that is "
            "not read (raster:bands nodata: the value of the others)"
        )
    signed = [
        name
        for name, band in bands.items()
        if units[name] == "dn" and (band.dtype or "").startswith("int") and band.nodata is None
    ]
    if signed:
        yield (
            f"no-data value of {'/'.join(signed)}, which are signed integers (raster:bands nodata, "
            "such as -10000 of MAJA's products)"
        )
    for name, band in bands.items():
        if not checks.can_hold(band.dtype, band.nodata):
            yield (
                f"no-data value of {name}: {band.nodata:g} is stated, which {band.dtype} cannot "
                "hold (raster:bands nodata)"
            )


def _missing_of_unit(
    unit: str | None, kind: str | None, bands: Mapping[str, BandFacts]
) -> Iterator[str]:
    which = "/".join(bands)
    if unit is None and kind == "s2":
        yield f"data type of {which} (data_type of the band)"
    elif unit is None:
        words = ", ".join(_units(kind))
        yield f"unit of {which} (unit of the band or in properties: {words})"
    if unit == "dn" and any(band.offset is None for band in bands.values()):
        yield (
            f"BOA_ADD_OFFSET of {which}, which are integers (raster:offset beside raster:scale, "
            "of the band or in properties, 0 if it was applied already; "
            "or properties.earthsearch:boa_offset_applied: true)"
        )
    if unit == "dn" and any(band.scale is None for band in bands.values()):
        yield f"scale of {which} (raster:scale of the band or in properties, such as 0.0001)"


def _agreed(where: str, what: str, values: Mapping[str, _T]) -> _T:
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{name}: {value}" for name, value in values.items())
        raise SceneError(f"{where}: the bands have different {what} ({listed})")
    return next(iter(values.values()))


def _source(name: str, band: BandFacts, unit: str | None) -> BandSource:
    place = band.extent
    source = BandSource(
        href=_given(band.href),
        index=band.index or 1,
        epsg=place.epsg if place else None,
        bounds_m=(place.west_m, place.south_m, place.east_m, place.north_m) if place else None,
    )
    if name in COUNTED:  # a class of its own says "no data", and is counted like the others
        return source
    nodata = UNITS[str(unit)].fill if band.nodata is None else band.nodata
    return replace(
        source,
        offset=band.offset or 0.0,
        factor=1.0 if unit == "dn" or band.scale is None else band.scale,
        nodata=nodata if nodata is not None and math.isfinite(nodata) else None,
        nodata_stated=bool(band.nodata_stated),
    )
