"""Reducing one scene: all its bands for all parcels of some sets, as signatures."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from extraction import reduction, spans
from extraction.codestream import TileParts, UnsuitedError
from extraction.kernels.statistics import N_CLASSES
from extraction.ranges import Sources
from extraction.spans import JointSpans, ParcelSpans, ReadPlan, SpanIndex
from extraction.thinning import SceneThinning, ThinnedBand, ThinningFlawError
from store import objects, raster, units
from store.catalogue import BandSource, Scene
from store.errors import (
    BandMissingError,
    ImplausibleValueError,
    MissingFactError,
    SceneError,
    UnitMismatchError,
)
from store.grid import Grid
from store.kinds import COUNTED, KINDS, MASK, SCL
from store.signatures import CUT_BY_EDGE, MASKED, Signatures, mask_flags

_log = logging.getLogger("cbm.scene")

_MAX_VALUES = 64 * 2**20
"""Pixels gathered at once: 128 MB of uint16, 256 MB of float32."""

_MAX_PARCELS = 80_000
"""Parcels on a scene that are reduced at once, of several sets; one set is not divided. Of a
Sentinel-2 granule each takes 2.6 kB: so a worker stays below 0.5 GB (P12)."""

_VALUES = [1, 3, 4, 5, 6, 7]
_MIN, _MAX = 3, 7
"""Columns of a table of statistics: values that an offset moves; the smallest, the largest."""

_SATURATED = 65535
"""Level-2A's special value SATURATED (Sentinel-2 Products Specification Document)."""

_CONSTANT_PX = 9
"""So many pixels of a parcel that all have one usual fill value are no measurement."""

_CLASS_SHARE = 0.5
"""At least this share of the pixels in scene classes has to be classes."""


@dataclass(frozen=True)
class SetOutcome:
    """The result of reducing a scene for a set of n parcels.

    Attributes:
        signatures: of the parcels with at least one valid pixel, or a scene class.
        outside: parcels without a pixel on the raster.
        nodata: parcels on the raster without a valid pixel in any band.
    """

    signatures: Signatures
    outside: int
    nodata: int


@dataclass(frozen=True)
class Outcome:
    """The result of reducing a scene for some parcel sets.

    Attributes:
        sets: in the order they were given; without the last ones, if those are too many at once.
        absent: bands of the kind that the product lacks.
        tile_parts: where tiles lie in its remote files, by href.
        thinning_flaw: why GDAL read its blocks whole, where thinned ones gave other pixels.
    """

    sets: tuple[SetOutcome, ...]
    absent: tuple[str, ...]
    missing: tuple[str, ...] = ()
    tile_parts: Mapping[str, TileParts] = field(default_factory=dict)
    thinning_flaw: str | None = None


@dataclass(frozen=True)
class _Band:
    grid: Grid
    index: SpanIndex
    members: npt.NDArray[np.int64]
    inside_px: npt.NDArray[np.int64]
    table: npt.NDArray[Any]

    def between(self, first: int, last: int) -> slice:
        """Rows of the parcels at positions first to last of the index, end excluded."""
        return slice(*np.searchsorted(self.members, (first, last)))


def conversion(scene: Scene, unit: str) -> float:
    """Factor that turns a scene's values into a campaign's unit.

    Raises:
        UnitMismatchError: the units differ, and the scene declares no scale between them.
    """
    if scene.unit == unit:
        return 1.0
    if scene.scale is not None and (scene.unit, unit) == ("dn", "reflectance"):
        return scene.scale
    if scene.scale is not None and (scene.unit, unit) == ("reflectance", "dn"):
        return 1.0 / scene.scale
    raise UnitMismatchError(
        f"{scene.reference} is in {scene.unit}, its campaign's {scene.kind} signatures are in "
        f"{unit}, and no scale between them is declared: declare the scene's scale, or put it "
        "into a campaign of its own"
    )


def reduce_scene(
    scene: Scene,
    sets: Sequence[ParcelSpans],
    *,
    factors: Sequence[float] = (),
    threads: int = 1,
    checkpoint: Callable[[], None] = lambda: None,
    accept_missing: bool = True,
    sources: Sources | None = None,
    tile_parts: Mapping[str, TileParts] = MappingProxyType({}),
) -> Outcome:
    """Reduce every band of a scene for some parcel sets, each block read once.

    Memory grows with the parcels: sets that are too many at once are left for another time.

    Args:
        scene: where its bands lie.
        sets: spans of each parcel set.
        factors: multiply every value of each set, after its offset (see `conversion`); all 1 if
            none are given.
        threads: kernels at work at once.
        checkpoint: called before each block is read; may raise to stop.
        accept_missing: do without files that are not there.
        sources: opens the bands' files to read no more of JPEG 2000 than the parcels need; None
            to have GDAL read whole blocks.
        tile_parts: of an earlier outcome of the scene.

    Raises:
        BandMissingError: a file is not there, and that is not accepted; or none is there.
        SceneError: a band cannot be read or used.
    """
    reduction_of = partial(
        _reduce,
        scene,
        JointSpans(sets, _MAX_PARCELS),
        factors or [1.0] * len(sets),
        threads,
        checkpoint,
        accept_missing,
    )
    if sources is None:
        return reduction_of(None)
    with SceneThinning(sources, scene.reference, tile_parts) as thinning:
        try:
            return replace(reduction_of(thinning), tile_parts=thinning.tile_parts)
        except ThinningFlawError as error:
            _log.error("event=thinning_flaw scene=%s reason=%s", scene.reference, error)
            return replace(reduction_of(None), thinning_flaw=str(error))
        except UnsuitedError as error:
            _log.warning("event=not_compared scene=%s reason=%s", scene.reference, error)
            return reduction_of(None)


def _reduce(
    scene: Scene,
    parcels: JointSpans,
    factors: Sequence[float],
    threads: int,
    checkpoint: Callable[[], None],
    accept_missing: bool,
    thinning: SceneThinning | None,
) -> Outcome:
    found: dict[str, _Band] = {}
    missing = _MissingBands(accept_missing)
    with closing(_open_ahead(scene, _Plans(parcels), thinning, missing)) as bands:
        for band in bands:
            with missing.noting(band.name):
                found[band.name] = _reduce_band(scene, band, parcels, threads, checkpoint)
    if thinning:
        thinning.check()
    names = [name for name in KINDS[scene.kind].band_names if name in found]
    if not names:
        raise BandMissingError(
            f"{scene.reference}: none of its bands is there "
            f"({', '.join(sorted(scene.bands)) or 'the catalogue names none'})"
        )
    _refuse_empty_classes(scene, found, names, parcels.ends)
    rows = _Rows.of(scene.kind, found, names)
    return Outcome(
        tuple(
            rows.of_set(first, last, factor)
            for (first, last), factor in zip(pairwise(parcels.ends), factors, strict=False)
        ),
        tuple(
            name
            for name in KINDS[scene.kind].rasters
            if name in missing.reasons or (name not in COUNTED and name not in found)
        ),
        tuple(missing.reasons.values()),
    )


@dataclass(frozen=True)
class _MissingBands:
    """Bands of a scene whose files are not there, with the reason of each.

    Attributes:
        accepted: go on without them.
        reasons: by band, one sentence each.
    """

    accepted: bool
    reasons: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Note a band whose file turns out to be missing, where that is accepted."""
        try:
            yield
        except BandMissingError as error:
            if not self.accepted:
                raise
            self.reasons[name] = f"{name}: {error}"


@dataclass(frozen=True)
class _SceneBand:
    """A band that is open, and what to read of it.

    Attributes:
        name: of the band.
        source: where it lies.
        reader: reads any of its pixels.
        index: spans on its lattice.
        parts: plans that fit into memory each.
        thinning: how to read no more than a plan needs.
        first: the first part's pixels on their way, if they can be had so.
        opened: closes it all.
    """

    name: str
    source: BandSource
    reader: raster.BandReader
    index: SpanIndex
    parts: list[ReadPlan]
    thinning: SceneThinning | None
    first: ThinnedBand | None
    opened: ExitStack

    def values(self, number: int, checkpoint: Callable[[], None]) -> npt.NDArray[Any]:
        """Pixels of a part, as few decoded as can be."""
        plan, href = self.parts[number], self.source.href
        thinned = self.first
        if self.thinning and number:
            thinned = self.thinning.open(href, self.reader, plan)
        if self.thinning and thinned:
            try:
                with closing(thinned):
                    values = reduction.read_values(thinned, plan, checkpoint)
                self.thinning.keep_sample(href, self.reader, plan, values)
            except UnsuitedError as error:
                self.thinning.forget(href)
                _log.debug("event=read_whole file=%s reason=%s", href, error)
            else:
                return values
        return reduction.read_values(self.reader, plan, checkpoint)


def _open_ahead(
    scene: Scene, plans: "_Plans", thinning: SceneThinning | None, missing: _MissingBands
) -> Generator[_SceneBand, None, None]:
    """The bands that are there, in turn; the next one's pixels are on their way meanwhile."""
    with ExitStack() as opened:
        waiting: _SceneBand | None = None
        for name in KINDS[scene.kind].rasters:
            if name not in scene.bands:
                continue
            with missing.noting(name):
                band = _open(name, scene.bands[name], plans, thinning)
                opened.enter_context(band.opened)
                if waiting:
                    yield waiting
                    waiting.opened.close()
                waiting = band
        if waiting:
            yield waiting


def _open(
    name: str, source: BandSource, plans: "_Plans", thinning: SceneThinning | None
) -> _SceneBand:
    with ExitStack() as opened:
        reader = opened.enter_context(
            raster.open_band(objects.gdal_path(source.href), source.index, source.extent)
        )
        index, parts = plans.of(reader)
        first = thinning.open(source.href, reader, parts[0]) if thinning else None
        if first:
            opened.callback(first.close)
        return _SceneBand(name, source, reader, index, parts, thinning, first, opened.pop_all())


class _Plans:
    """Plans of one scene: bands on the same grid and blocks share theirs."""

    def __init__(self, parcels: JointSpans) -> None:
        self._parcels = parcels
        self._plans: dict[tuple[Grid, tuple[int, int]], list[ReadPlan]] = {}

    def of(self, reader: reduction.OpenBand) -> tuple[SpanIndex, list[ReadPlan]]:
        index = self._parcels.on(reader.grid)
        key = (reader.grid, reader.block_shape_px)
        if key not in self._plans:
            self._plans[key] = [
                spans.plan_reads(index, *key, members) for members in _groups(index, reader.grid)
            ]
        return index, self._plans[key]


def _groups(index: SpanIndex, grid: Grid) -> Iterator[npt.NDArray[np.int64]]:
    """The parcels on a raster, in groups whose pixels fit into memory."""
    members = index.members(grid)
    total = np.cumsum(index.px[members], dtype=np.int64)
    parts = int(total[-1] // _MAX_VALUES) + 1 if total.size else 1
    edges = np.searchsorted(total, np.arange(1, parts) * (total[-1] / parts if total.size else 0))
    yield from np.split(members, edges)


def _reduce_band(
    scene: Scene,
    band: _SceneBand,
    parcels: JointSpans,
    threads: int,
    checkpoint: Callable[[], None],
) -> _Band:
    """Statistics of a band in the scene's unit, or its classes' counts."""
    reader, source = band.reader, band.source
    if reader.grid.epsg != scene.epsg:
        raise SceneError(
            f"{source.href} is in EPSG:{reader.grid.epsg}, its scene in EPSG:{scene.epsg}: warp "
            "its bands to one CRS"
        )
    nodata = None if band.name in COUNTED else _no_data(source, reader)
    tables: list[npt.NDArray[Any]] = []
    for number, part in enumerate(band.parts):
        values = band.values(number, checkpoint)
        if band.name == SCL:
            tables.append(reduction.count_classes(values, part.starts))
            _refuse_no_classes(source, values, reader.nodata, part, parcels.ends)
            continue
        if band.name == MASK:
            tables.append(reduction.count_bits(values, part.starts))
            continue
        _drop_saturated(source, values)
        fill = _unstated_fill(source, values, nodata)
        table = reduction.reduce_values(values, part.starts, nodata, threads)
        if fill is None:
            fill = _constant_fill(source, table, nodata)
        table[:, _VALUES] += source.offset
        table[:, 1:] *= source.factor
        _refuse_impossible(scene, band, table, parcels, part.members)
        _refuse_fill(source, fill)
        tables.append(table)
    return _Band(
        reader.grid,
        band.index,
        np.concatenate([part.members for part in band.parts]),
        np.concatenate([part.inside_px for part in band.parts]),
        np.concatenate(tables),
    )


@dataclass(frozen=True)
class _Rows:
    """The bands of a scene, which may lie on grids of their own, on one list of m parcels.

    Attributes:
        kind: CARD kind.
        index: on the finest grid.
        members: int64[m], positions in the index of the parcels on any band's raster.
        stats: by band: float64[m, 8].
        classes: int64[m, 12], or None without a scene classification.
        flags: int16[m].
        seen: bool[m], parcels with at least one valid pixel, or a scene class.
    """

    kind: str
    index: SpanIndex
    members: npt.NDArray[np.int64]
    stats: dict[str, npt.NDArray[np.float64]]
    classes: npt.NDArray[np.int64] | None
    flags: npt.NDArray[np.int16]
    seen: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, kind: str, found: dict[str, _Band], names: list[str]) -> "_Rows":
        members = _all_members(found.values())
        stats = {name: _spread(found[name], members) for name in names}
        classes = _spread(found[SCL], members) if SCL in found else None
        seen = np.any([table[:, 0] > 0 for table in stats.values()], axis=0)
        if classes is not None:
            seen |= classes[:, 1:].any(axis=1)
        finest = min(found.values(), key=lambda band: band.grid.res_m)
        flags = _flags(found, finest, members)
        if MASK in found:
            flags |= mask_flags(_spread(found[MASK], members), found[MASK].index.px[members])
            seen |= flags >= MASKED
        return cls(kind, finest.index, members, stats, classes, flags, seen)

    def of_set(self, first: int, last: int, factor: float) -> SetOutcome:
        """The parcels at positions first to last of the index."""
        begin, end = np.searchsorted(self.members, (first, last))
        seen = self.seen[begin:end]
        # The usual case copies nothing.
        kept: Any = slice(begin, end) if seen.all() else begin + np.flatnonzero(seen)
        at = self.members[kept]
        signatures = Signatures(
            self.kind,
            self.index.pids[at],
            self.index.px[at],
            self.flags[kept],
            {name: _scaled(table[kept], factor) for name, table in self.stats.items()},
            self.classes[kept] if self.classes is not None else None,
        )
        return SetOutcome(signatures, last - first - seen.size, int((~seen).sum()))


def _scaled(table: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
    """The table with all but its counts multiplied."""
    return table if factor == 1.0 else table * np.array([1.0, *[factor] * 7])


def _no_data(source: BandSource, reader: raster.BandReader) -> float | None:
    """The value of pixels without data.

    Raises:
        MissingFactError: a mask says which they are, or no pixel can have the stated one.
    """
    nodata = source.no_data(reader.nodata)
    if nodata is None and reader.masked:
        raise MissingFactError(
            f"{source.href} marks valid pixels by a mask, which is not read: state the value of "
            "the others as its nodata (raster:bands nodata in its STAC Item)"
        )
    if nodata is not None and not units.holds(reader.dtype, nodata):
        raise MissingFactError(
            f"{source.href} has the no-data value {nodata:g}, which {reader.dtype} "
            "cannot hold: state the right one (raster:bands nodata in its STAC Item)"
        )
    return nodata


def _drop_saturated(source: BandSource, values: npt.NDArray[Any]) -> None:
    """Give saturated pixels of Level-2A, which measure nothing, the value without data."""
    described = source.nodata_stated and source.nodata is not None
    if described and values.dtype == np.uint16 and values.size and values.max() == _SATURATED:
        values[values == _SATURATED] = source.nodata


def _unstated_fill(
    source: BandSource, values: npt.NDArray[Any], nodata: float | None
) -> float | None:
    """The usual fill value that many pixels have, where nobody states what means "no data"."""
    return None if _fill_known(source, nodata) else units.unstated_fill(values)


def _constant_fill(
    source: BandSource, table: npt.NDArray[Any], nodata: float | None
) -> float | None:
    """The usual fill value that all pixels of some parcel have, where nobody states it."""
    if _fill_known(source, nodata):
        return None
    same = (table[:, _MIN] == table[:, _MAX]) & (table[:, 0] >= _CONSTANT_PX)
    return next((float(v) for v in np.unique(table[same, _MIN]) if units.is_fill(v)), None)


def _fill_known(source: BandSource, nodata: float | None) -> bool:
    return source.nodata_stated or (nodata is not None and not np.isnan(nodata))


def _refuse_fill(source: BandSource, fill: float | None) -> None:
    if fill is not None:
        raise MissingFactError(
            f"{source.href}: many pixels of parcels are {fill:g}, and nothing says whether that "
            'means "no data": state it (raster:bands nodata in its STAC Item; nan if it is a value)'
        )


def _refuse_impossible(
    scene: Scene,
    band: _SceneBand,
    table: npt.NDArray[Any],
    parcels: JointSpans,
    members: npt.NDArray[np.int64],
) -> None:
    """Refuse a band of which a parcel has a value that the scene's unit cannot have."""
    low, high = units.bounds(scene.unit, scene.scale)
    wrong = np.flatnonzero((table[:, _MIN] < low) | (table[:, _MAX] > high))
    if not wrong.size:
        return
    row = table[wrong[0]]
    value = float(row[_MIN] if row[_MIN] < low else row[_MAX])
    position = int(members[wrong[0]])
    raise ImplausibleValueError(
        f"{band.name} of {scene.reference}: {units.impossible(value, scene.unit, scene.scale)}",
        int(band.index.pids[position]),
        bisect_right(parcels.ends, position) - 1,
    )


def _refuse_no_classes(
    source: BandSource,
    values: npt.NDArray[Any],
    nodata: float | None,
    part: ReadPlan,
    ends: Sequence[int],
) -> None:
    """Refuse pixels of any parcel set that are no scene classes.

    NaN and the file's own value are "no data".
    """
    for first, last in pairwise(np.searchsorted(part.members, ends)):
        stated = values[part.starts[first] : part.starts[last]]
        stated = stated if values.dtype.kind in "iu" else stated[~np.isnan(stated)]
        if nodata is not None:
            stated = stated[stated != nodata]
        wrong = stated[(stated < 0) | (stated >= N_CLASSES)]
        if wrong.size > (1 - _CLASS_SHARE) * stated.size:
            raise SceneError(
                f"{source.href}: of {stated.size} pixels of parcels, {wrong.size} are no scene "
                f"class (0 to 11) but values such as {wrong[0]:g}: leave {SCL} out, or give the "
                "right file"
            )


def _refuse_empty_classes(
    scene: Scene, found: dict[str, _Band], bands: list[str], ends: Sequence[int]
) -> None:
    """Refuse scene classes that are nowhere in a parcel set, where bands have data.

    Parcels that the edge cuts do not count: coarser pixels may all lie beyond it.
    """
    if SCL not in found:
        return
    for first, last in pairwise(ends):
        classes = found[SCL].table[found[SCL].between(first, last)]
        if not classes.any() and any(_sees_whole(found[name], first, last) for name in bands):
            raise SceneError(
                f"{scene.reference}: {SCL} has no data in any parcel, though the bands have: leave "
                "it out, or give the right file"
            )


def _sees_whole(band: _Band, first: int, last: int) -> bool:
    """Whether a band has data in a parcel at positions first to last that lies on it wholly."""
    own = band.between(first, last)
    whole = band.inside_px[own] == band.index.px[band.members[own]]
    return bool((whole & (band.table[own, 0] > 0)).any())


def _all_members(bands: Iterable[_Band]) -> npt.NDArray[np.int64]:
    """Positions of the parcels with a pixel on any band's raster."""
    bands = list(bands)
    there = np.zeros(bands[0].index.pids.size, bool)
    for band in bands:
        there[band.members] = True
    return np.flatnonzero(there)


def _spread(band: _Band, members: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """A band's table on a longer list of parcels; those it lacks have count 0."""
    if band.members.size == members.size:
        return band.table
    table = np.zeros((members.size, band.table.shape[1]), band.table.dtype)
    if table.dtype.kind == "f":
        table[:, 1:] = np.nan
    table[np.searchsorted(members, band.members)] = band.table
    return table


def _flags(
    results: dict[str, _Band], finest: _Band, members: npt.NDArray[np.int64]
) -> npt.NDArray[np.int16]:
    """Rules of the finest grid, of a coarser one (bit 2), and the cut by any raster's edge."""
    flags = finest.index.rules[members].astype(np.int16)
    for band in results.values():
        if band.grid.res_m > finest.grid.res_m:
            coarser = band.index.rules[members].astype(np.int16)
            flags |= (coarser & spans.Rule.TOUCHED) << 1 | coarser & spans.Rule.UNBUFFERED
        inside = np.zeros(members.size, np.int64)
        inside[np.searchsorted(members, band.members)] = band.inside_px
        flags[inside < band.index.px[members]] |= CUT_BY_EDGE
    return flags
