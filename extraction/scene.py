"""Reducing one scene: all its bands for all parcels of a set, as signatures."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from extraction import reduction, spans
from extraction.spans import Plan, SpanIndex
from store import objects, raster
from store.catalogue import BandSource, Scene
from store.errors import BandMissingError, MissingFactError, SceneError, UnitMismatchError
from store.grid import Grid, Lattice
from store.products import BANDS, SCL
from store.signatures import CUT_BY_EDGE, Signatures

_MAX_VALUES = 64 * 2**20
"""Pixels gathered at once: 128 MB of uint16, 256 MB of float32."""

IndexOf = Callable[[Lattice], SpanIndex]


@dataclass(frozen=True)
class Outcome:
    """What became of a set's n parcels on a scene.

    Attributes:
        signatures: of the parcels with at least one valid pixel, or a scene class.
        outside: parcels without a pixel on the raster.
        nodata: parcels on the raster without a valid pixel in any band.
        absent: bands of the kind that the product lacks.
    """

    signatures: Signatures
    outside: int
    nodata: int
    absent: tuple[str, ...]


@dataclass(frozen=True)
class _Band:
    grid: Grid
    index: SpanIndex
    members: npt.NDArray[np.int64]
    inside_px: npt.NDArray[np.int64]
    table: npt.NDArray[Any]


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
    index_of: IndexOf,
    *,
    factor: float = 1.0,
    threads: int = 1,
    checkpoint: Callable[[], None] = lambda: None,
) -> Outcome:
    """Reduce every band of a scene, each read once.

    Args:
        scene: where its bands lie.
        index_of: gives the spans of the parcel set on a lattice.
        factor: multiplies every value, after its offset (see `conversion`).
        threads: kernels at work at once.
        checkpoint: called before each block is read; may raise to stop.

    Raises:
        SceneError: no band is left, or one cannot be read.
    """
    plans = _Plans(index_of)
    found: dict[str, _Band] = {}
    for name in (SCL, *BANDS[scene.kind]):
        if name not in scene.bands:
            continue
        try:
            with _opened(scene.bands[name]) as reader:
                found[name] = _reduce_band(
                    name, reader, scene.bands[name], plans, factor, threads, checkpoint
                )
        except BandMissingError:
            continue
    bands = [name for name in BANDS[scene.kind] if name in found]
    if not bands:
        raise SceneError(
            f"{scene.reference}: none of its bands is there "
            f"({', '.join(sorted(scene.bands)) or 'the catalogue names none'})"
        )
    return _assembled(scene, found, bands)


class _Plans:
    """Plans of one scene: bands on the same grid and blocks share theirs."""

    def __init__(self, index_of: IndexOf) -> None:
        self._index_of = index_of
        self._indices: dict[Lattice, SpanIndex] = {}
        self._plans: dict[tuple[Grid, tuple[int, int]], list[Plan]] = {}

    def of(self, reader: reduction.Band) -> tuple[SpanIndex, list[Plan]]:
        lattice = reader.grid.lattice
        if lattice not in self._indices:
            self._indices[lattice] = self._index_of(lattice)
        index = self._indices[lattice]
        key = (reader.grid, reader.block_shape_px)
        if key not in self._plans:
            self._plans[key] = [
                spans.plan(index, *key, members) for members in _groups(index, reader.grid)
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
    name: str,
    reader: raster.BandReader,
    source: BandSource,
    plans: _Plans,
    factor: float,
    threads: int,
    checkpoint: Callable[[], None],
) -> _Band:
    index, parts = plans.of(reader)
    nodata = reader.nodata if source.nodata is None else source.nodata
    if nodata is None and reader.masked and name != SCL:
        raise MissingFactError(
            f"{source.href} marks valid pixels by a mask, which is not read: state the value of "
            "the others as its nodata (raster:bands nodata in its STAC Item)"
        )
    tables: list[npt.NDArray[Any]] = []
    for part in parts:
        values = reduction.read_values(reader, part, checkpoint)
        if name == SCL:
            tables.append(reduction.count_classes(values, part.starts))
            continue
        table = reduction.reduce_values(values, part.starts, nodata, threads)
        table[:, [1, 3, 4, 5, 6, 7]] += source.offset
        table[:, 1:] *= factor
        tables.append(table)
    return _Band(
        reader.grid,
        index,
        np.concatenate([part.members for part in parts]),
        np.concatenate([part.inside_px for part in parts]),
        np.concatenate(tables),
    )


def _assembled(scene: Scene, found: dict[str, _Band], bands: list[str]) -> Outcome:
    """Put the bands, which may lie on grids of their own, on one list of parcels."""
    members = _all_members(found.values())
    stats = {name: _spread(found[name], members) for name in bands}
    classes = _spread(found[SCL], members) if SCL in found else None
    seen = np.any([table[:, 0] > 0 for table in stats.values()], axis=0)
    if classes is not None:
        seen |= classes[:, 1:].any(axis=1)
    kept = slice(None) if seen.all() else seen  # the usual case copies nothing
    finest = min(found.values(), key=lambda band: band.grid.res_m)
    signatures = Signatures(
        scene.kind,
        finest.index.pids[members][kept],
        finest.index.px[members][kept],
        _flags(found, finest, members)[kept],
        {name: table[kept] for name, table in stats.items()},
        classes[kept] if classes is not None else None,
    )
    return Outcome(
        signatures,
        finest.index.pids.size - members.size,
        int((~seen).sum()),
        tuple(name for name in BANDS[scene.kind] if name not in found),
    )


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
    found: dict[str, _Band], finest: _Band, members: npt.NDArray[np.int64]
) -> npt.NDArray[np.int16]:
    """Rules of the finest grid, of a coarser one (bit 2), and the cut by the raster's edge."""
    flags = finest.index.rules[members].astype(np.int16)
    for band in found.values():
        if band.grid.res_m > finest.grid.res_m:
            coarser = band.index.rules[members].astype(np.int16)
            flags |= (coarser & spans.Rule.TOUCHED) << 1 | coarser & spans.Rule.UNBUFFERED
    inside = np.zeros(members.size, np.int64)
    inside[np.searchsorted(members, finest.members)] = finest.inside_px
    flags[inside < finest.index.px[members]] |= CUT_BY_EDGE
    return flags


@contextmanager
def _opened(source: BandSource) -> Iterator[raster.BandReader]:
    with raster.open_band(objects.gdal_path(source.href), source.index) as reader:
        yield reader
