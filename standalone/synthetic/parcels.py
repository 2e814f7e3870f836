"""Parcels as a paying agency might declare them: irregular, adjoining, from slivers to big fields.

Farmland gathers around places. It is a set of convex blocks (Voronoi cells with tracks between);
each block is cut in two again and again until every piece has the area drawn for it. All cuts are
straight and are then bent together: the plane is warped like a rubber sheet that is linear on
each triangle of a lattice, and edges get a vertex wherever they cross a triangle's side. So
neighbours share their boundaries exactly, narrow strips stay strips, and nothing can fold.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import from_origin

from standalone.synthetic.crops import CROPS
from store.errors import CallerError
from store.grid import Grid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Extent = tuple[float, float, float, float]

TILES = {"32TMT": (399960, 5300040), "32TNT": (499980, 5300040)}
"""West and north edge in EPSG:32632 metres of the two real MGRS tiles; they overlap by 9 780 m."""

TILE_PX = 10980
"""Width and height of a tile in pixels of 10 m."""

EPSG = 32632
"""UTM zone of the tiles."""

MEAN_AREA_HA = 2.42
"""Mean parcel area, hectares."""

SMALL_HA = 0.3
"""Parcels below this area are small: the JRC's scripts leave them out."""

COLUMNS = ("code", "crop", "crop_code")
"""Columns of the parcel file: the agency's parcel id, the crop in words, the crop's code."""

NATIONAL_EPSG = 3035
"""CRS of the parcel file; not the scenes' UTM zone, so that reprojection is part of every run."""

_MEDIAN_HA = 1.12
_SIGMA = 1.33
_LARGEST_HA = 45.0
_BLOCK_M = 700.0
_TRACK_M = 5.0
_STRIP_SHARE = 0.05
_STRIP_M = (3.0, 7.0)
_CORNER_SHARE = 0.006
_CORNER_M = (4.0, 9.0)
_OFFCUT_FROM_HA = 0.4
_POND_SHARE = 0.02
_POND_FROM_HA = 1.2
_POND_M = (7.0, 24.0)
_POND_SIDES = 9
_MULTI_SHARE = 0.006
_OVERLAP_SHARE = 0.0015
_OVERLAP_M = 7.0
_WARP_CELL_M = 150.0
_WARP_M = 24.0
_NEAREST_M = 0.01
_BISECTIONS = 14


@dataclass(frozen=True, eq=False)
class Parcels:
    """A set of declared parcels.

    Attributes:
        geometry: (n,) shapely Polygons and a few MultiPolygons, metres in `epsg`.
        code: (n,) the agency's ids, text with leading zeros.
        crop: (n,) index into `crops.CROPS`.
        epsg: CRS of the geometries.
    """

    geometry: NDArray[np.object_]
    code: NDArray[np.str_]
    crop: Ints
    epsg: int = EPSG

    def __len__(self) -> int:
        """Number of parcels."""
        return len(self.geometry)


@dataclass(frozen=True, eq=False)
class _Rings:
    """Convex rings of unequal length in one array.

    Attributes:
        xy: (n, m, 2) vertices; those from `size` on mean nothing.
        size: (n,) number of vertices.
        block: (n,) which block a ring is part of.
    """

    xy: Floats
    size: Ints
    block: Ints

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "_Rings":
        return _Rings(self.xy[index], self.size[index], self.block[index])

    @property
    def valid(self) -> NDArray[np.bool_]:
        return np.asarray(np.arange(self.xy.shape[1]) < self.size[:, None])

    @property
    def following(self) -> Ints:
        """(n, m) index of the vertex after each."""
        after = np.arange(1, self.xy.shape[1] + 1)
        return np.where(after < self.size[:, None], after, 0)

    @property
    def ends(self) -> Floats:
        """(n, m, 2) end of the edge that begins at each vertex."""
        return np.take_along_axis(self.xy, self.following[:, :, None], axis=1)

    @property
    def area(self) -> Floats:
        """(n,) areas, square metres."""
        a, b = self.xy, self.ends
        cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        return np.asarray(np.abs(np.where(self.valid, cross, 0).sum(axis=1)) / 2)

    def span(self, normal: Floats) -> tuple[Floats, Floats]:
        """Least and greatest coordinate of each ring along its normal, (n,) each."""
        along = np.einsum("nmk,nk->nm", self.xy, normal)
        low = np.where(self.valid, along, np.inf).min(axis=1)
        return low, np.where(self.valid, along, -np.inf).max(axis=1)


def make_parcels(extent: Extent, count: int, clusters: int, seed: int) -> Parcels:
    """Make a set of parcels.

    The mean area is MEAN_AREA_HA whatever the extent: how full the land becomes follows from
    extent and count.

    Args:
        extent: (west, south, east, north), metres in EPSG:32632; no parcel leaves it.
        count: number of parcels.
        clusters: number of places around which farmland gathers; fewer are more clustered.
        seed: equal seeds make equal parcels.

    Raises:
        CallerError: the extent is too small for so many parcels.
    """
    rng = np.random.default_rng([seed, count, clusters])
    origin = np.array(extent[:2])
    rings = _divide(rng, _blocks(rng, extent, count, clusters))
    rings = _ordered(_with_offcuts(rng, rings), int(count * (1 + _MULTI_SHARE)) + 1)
    shells, holes, owner = _bent(rng, rings, _ponds(rng, rings))
    geometry = shapely.transform(_polygons(shells, holes, owner), lambda xy: xy + origin)
    geometry = _with_overlaps(rng, _with_multipolygons(rng, geometry, rings.block), extent)
    if len(geometry) < count:
        raise CallerError(f"{count} parcels do not fit into {extent}: {len(geometry)} do")
    geometry = geometry[:count]
    return Parcels(
        geometry,
        np.array([f"{i:08d}" for i in range(1, count + 1)]),
        _crops(rng, shapely.area(geometry)),
    )


def paint(parcels: Parcels, grid: Grid) -> NDArray[np.int32]:
    """Label raster of a parcel set: index of the last parcel at each pixel centre, or their number.

    Fit for drawing a landscape only: overlapping parcels lose pixels.
    """
    transform = from_origin(grid.west_m, grid.north_m, grid.res_m, grid.res_m)
    shapes = zip(parcels.geometry, range(len(parcels)), strict=True)
    label: NDArray[np.int32] = rasterize(
        shapes,
        out_shape=(grid.height_px, grid.width_px),
        fill=len(parcels),
        transform=transform,
        dtype="int32",
    )
    return label


def write_geopackage(parcels: Parcels, path: Path) -> None:
    """Write a parcel file: COLUMNS and the geometries in EPSG:3035.

    Raises:
        pyogrio.errors.DataSourceError: the file cannot be written.
    """
    project = pyproj.Transformer.from_crs(parcels.epsg, NATIONAL_EPSG, always_xy=True).transform
    geometry = shapely.transform(parcels.geometry, lambda xy: np.stack(project(*xy.T), axis=1))
    names = np.array([crop.name for crop in CROPS], dtype=object)[parcels.crop]
    codes = np.array([crop.code for crop in CROPS], dtype=object)[parcels.crop]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(geometry),
        [parcels.code.astype(object), names, codes],
        fields=list(COLUMNS),
        crs=f"EPSG:{NATIONAL_EPSG}",
        geometry_type="Unknown",
        layer="parcels",
        driver="GPKG",
    )


def _blocks(rng: np.random.Generator, extent: Extent, count: int, clusters: int) -> _Rings:
    """Convex blocks nearest to the places, enough for `count` parcels, in local metres."""
    width, height = extent[2] - extent[0], extent[3] - extent[1]
    cells = _cells(rng, width, height)
    middle = shapely.get_coordinates(shapely.centroid(cells))
    near = np.full(len(cells), np.inf)
    places = rng.uniform(0, (width, height), (clusters, 2))
    for place, size in zip(places, rng.uniform(0.75, 1.25, clusters), strict=True):
        near = np.minimum(near, np.hypot(*(middle - place).T) / size)
    near *= rng.uniform(0.85, 1.15, len(cells))
    cells = cells[np.argsort(near, kind="stable")]
    wanted = np.cumsum(shapely.area(cells)) < count * MEAN_AREA_HA * 1e4 * 1.4
    return _rings_of(cells[: int(wanted.sum()) + 1])


def _cells(rng: np.random.Generator, width: float, height: float) -> NDArray[np.object_]:
    """Voronoi cells of a jittered hexagonal grid over (0, 0, width, height), apart by a track."""
    rows, cols = int(height / _BLOCK_M) + 2, int(width / _BLOCK_M) + 2
    row, col = np.mgrid[0:rows, 0:cols]
    points = np.stack([col + 0.5 * (row % 2) - 0.5, row - 0.5], axis=-1).reshape(-1, 2)
    points = (points + rng.uniform(-0.38, 0.38, points.shape)) * _BLOCK_M
    frame = shapely.box(0, 0, width, height)
    mesh = shapely.voronoi_polygons(shapely.multipoints(points), extend_to=frame)
    cells = shapely.buffer(shapely.get_parts(mesh), -_TRACK_M / 2, join_style="mitre")
    cells = shapely.intersection(cells, frame)
    kept: NDArray[np.object_] = cells[shapely.area(cells) > 0]
    return kept


def _rings_of(polygons: NDArray[np.object_]) -> _Rings:
    coords, index = shapely.get_coordinates(shapely.get_exterior_ring(polygons), return_index=True)
    size = np.bincount(index) - 1
    xy = np.zeros((len(polygons), int(size.max()) + 1, 2))
    first = np.concatenate([[0], np.cumsum(size + 1)[:-1]])
    xy[index, np.arange(len(coords)) - first[index]] = coords
    return _Rings(xy, size, np.arange(len(polygons)))


def _divide(rng: np.random.Generator, blocks: _Rings) -> _Rings:
    """Cut blocks into pieces whose areas follow the drawn ones."""
    target, low, high = _targets(rng, blocks)
    total = np.concatenate([[0.0], np.cumsum(target)])
    tilt = rng.uniform(0, np.pi, len(blocks.size))
    rings, done = blocks.take(high > low), []
    low, high = low[high > low], high[high > low]
    while (several := high - low > 1).any():
        done.append(rings.take(~several))
        rings, low, high = rings.take(several), low[several], high[several]
        aim = total[low] + rng.uniform(0.35, 0.65, len(low)) * (total[high] - total[low])
        middle = np.clip(np.searchsorted(total, aim), low + 1, high - 1)
        share = (total[middle] - total[low]) / (total[high] - total[low])
        rings = _concat(_halves(rng, rings, share, tilt[rings.block]))
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
    return _concat([*done, rings])


def _targets(rng: np.random.Generator, blocks: _Rings) -> tuple[Floats, Ints, Ints]:
    """Areas to cut to, (k,) m2, and each block's range [low, high) of them, small ones first.

    Areas and blocks are laid along one line; an area belongs to the block its middle falls into.
    """
    bounds = np.cumsum(blocks.area)
    drawn = rng.lognormal(np.log(_MEDIAN_HA * 1e4), _SIGMA, int(bounds[-1] / _MEDIAN_HA / 5e3))
    drawn = drawn[drawn < _LARGEST_HA * 1e4]
    ends = np.cumsum(drawn)
    block = np.searchsorted(bounds, ends - drawn / 2)
    inside = block < len(bounds)
    drawn, block = drawn[inside], block[inside]
    drawn = drawn[np.lexsort((drawn, block))]
    every = np.arange(len(bounds))
    return drawn, np.searchsorted(block, every), np.searchsorted(block, every, side="right")


def _halves(rng: np.random.Generator, rings: _Rings, share: Floats, tilt: Floats) -> list[_Rings]:
    """Cut every ring in two, across its longer side as a rule, the first part of area `share`."""
    width = [np.subtract(*rings.span(_unit(tilt + turn))[::-1]) for turn in (0, np.pi / 2)]
    across = width[1] * rng.lognormal(0, 0.45, len(tilt)) > width[0]
    normal = _unit(tilt + np.where(across, np.pi / 2, 0) + rng.normal(0, 0.05, len(tilt)))
    low, high = rings.span(normal)
    wanted = share * rings.area
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        less = _clip(rings, normal, middle).area < wanted
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return [_clip(rings, normal, high), _clip(rings, -normal, -high)]


def _clip(rings: _Rings, normal: Floats, offset: Floats) -> _Rings:
    """Part of each ring where normal . xy <= offset; (n, 2) unit vectors and (n,) metres.

    Sutherland and Hodgman's algorithm for one half-plane, on all rings at once.
    """
    start, end, valid = rings.xy, rings.ends, rings.valid
    ahead = np.einsum("nmk,nk->nm", start, normal) - offset[:, None]
    ahead_end = np.take_along_axis(ahead, rings.following, axis=1)
    crosses = (ahead * ahead_end < 0) & valid
    part = np.where(crosses, ahead, 0) / np.where(crosses, ahead - ahead_end, 1)
    points = np.stack([start, start + part[..., None] * (end - start)], axis=2)
    slots = 2 * start.shape[1]
    kept = np.stack([(ahead <= 0) & valid, crosses], axis=2).reshape(-1, slots)
    size = kept.sum(axis=1)
    order = np.argsort(~kept, axis=1, kind="stable")[:, : size.max(initial=1)]
    points = np.take_along_axis(points.reshape(-1, slots, 2), order[..., None], axis=1)
    return _Rings(points, size, rings.block)


def _with_offcuts(rng: np.random.Generator, rings: _Rings) -> _Rings:
    """Cut strips off the longest sides of some rings, corners below a pixel off some others."""
    luck = rng.random(len(rings.size))
    luck[rings.area < _OFFCUT_FROM_HA * 1e4] = 1
    side = rings.take(luck < _STRIP_SHARE)
    edge = np.where(side.valid[..., None], side.ends - side.xy, 0)
    longest = np.hypot(edge[..., 0], edge[..., 1]).argmax(axis=1)[:, None, None]
    edge, start = (np.take_along_axis(a, longest, axis=1)[:, 0] for a in (edge, side.xy))
    strips = _cut_along(
        side,
        start,
        _unit(np.arctan2(edge[:, 1], edge[:, 0]) + np.pi / 2),
        rng.uniform(*_STRIP_M, len(start)),
    )
    bent = rings.take((luck >= _STRIP_SHARE) & (luck < _STRIP_SHARE + _CORNER_SHARE))
    tip = bent.xy[:, 0]
    last = np.take_along_axis(bent.xy, bent.size[:, None, None] - 1, axis=1)[:, 0]
    inward = sum(
        (arm / np.hypot(*arm.T)[:, None] for arm in (last - tip, bent.xy[:, 1] - tip)),
        np.zeros_like(tip),
    )
    corners = _cut_along(
        bent, tip, _unit(np.arctan2(inward[:, 1], inward[:, 0])), rng.uniform(*_CORNER_M, len(tip))
    )
    return _concat([rings.take(luck >= _STRIP_SHARE + _CORNER_SHARE), *strips, *corners])


def _cut_along(rings: _Rings, start: Floats, normal: Floats, depth: Floats) -> list[_Rings]:
    """Cut rings `depth` metres inwards of a boundary point, square to the normal."""
    middle = np.where(rings.valid[..., None], rings.xy, 0).sum(axis=1) / rings.size[:, None]
    normal = normal * np.sign(((middle - start) * normal).sum(axis=1))[:, None]
    offset = (start * normal).sum(axis=1) + depth
    return [_clip(rings, normal, offset), _clip(rings, -normal, -offset)]


def _concat(parts: list[_Rings]) -> _Rings:
    widest = max(part.xy.shape[1] for part in parts)
    padded = [np.pad(p.xy, ((0, 0), (0, widest - p.xy.shape[1]), (0, 0))) for p in parts]
    return _Rings(
        np.concatenate(padded),
        np.concatenate([p.size for p in parts]),
        np.concatenate([p.block for p in parts]),
    )


def _ordered(rings: _Rings, count: int) -> _Rings:
    """The first `count` rings, block by block, from north-west to south-east within a block."""
    return rings.take(np.lexsort((rings.xy[:, 0, 0] - rings.xy[:, 0, 1], rings.block))[:count])


def _unit(angle: Floats) -> Floats:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _ponds(rng: np.random.Generator, rings: _Rings) -> _Rings:
    """Round holes within some of the larger rings; their `block` is the ring they lie in."""
    large = np.flatnonzero(
        (rings.area > _POND_FROM_HA * 1e4) & (rng.random(len(rings.size)) < _POND_SHARE)
    )
    host = rings.take(large)
    middle = np.where(host.valid[..., None], host.xy, 0).sum(axis=1) / host.size[:, None]
    edge, arm = host.ends - host.xy, middle[:, None] - host.xy
    length = np.where(host.valid, np.hypot(edge[..., 0], edge[..., 1]), 1)
    apart = np.abs(edge[..., 0] * arm[..., 1] - edge[..., 1] * arm[..., 0]) / length
    room = np.where(host.valid, apart, np.inf).min(axis=1)
    radius = np.minimum(rng.uniform(*_POND_M, len(large)), 0.6 * room)[:, None]
    turn = np.linspace(0, 2 * np.pi, _POND_SIDES, endpoint=False)
    radius = radius * rng.uniform(0.7, 1.0, (len(large), _POND_SIDES))
    xy = middle[:, None] + radius[..., None] * _unit(turn)[None]
    return _Rings(xy, np.full(len(large), _POND_SIDES), large)


def _bent(
    rng: np.random.Generator, rings: _Rings, ponds: _Rings
) -> tuple[NDArray[np.object_], NDArray[np.object_], Ints]:
    """Warp all rings together: shells, holes, and the shell each hole lies in."""
    cells = np.ceil(rings.xy.reshape(-1, 2).max(axis=0) / _WARP_CELL_M).astype(int) + 2
    shift = rng.uniform(-_WARP_M, _WARP_M, (*cells, 2))
    return _warped(rings, shift), _warped(ponds, shift), ponds.block


def _warped(rings: _Rings, shift: Floats) -> NDArray[np.object_]:
    """Linear rings with a vertex at each side of the lattice's triangles, moved by the warp."""
    start, end, ring = rings.xy[rings.valid], rings.ends[rings.valid], np.nonzero(rings.valid)[0]
    edge, part = [np.arange(len(start))], [np.zeros(len(start))]
    for axis in ((1, 0), (0, 1), (1, 1)):
        a, b = (xy @ np.array(axis, dtype=float) / _WARP_CELL_M for xy in (start, end))
        first = np.floor(np.minimum(a, b)) + 1
        crossings = np.maximum(np.ceil(np.maximum(a, b)) - first, 0).astype(int)
        which = np.repeat(np.arange(len(start)), crossings)
        nth = np.arange(len(which)) - np.repeat(np.cumsum(crossings) - crossings, crossings)
        edge.append(which)
        part.append((first[which] + nth - a[which]) / (b - a)[which])
    edges, parts = np.concatenate(edge), np.concatenate(part)
    inside = np.minimum(parts, 1 - parts) * np.hypot(*(end - start).T)[edges] > _NEAREST_M
    order = np.flatnonzero(inside | (parts == 0))
    order = order[np.lexsort((parts[order], edges[order]))]
    edges, parts = edges[order], parts[order][:, None]
    points = start[edges] + parts * (end - start)[edges]
    moved = points + _shift_at(points, shift)
    return np.asarray(shapely.linearrings(moved, indices=ring[edges]))


def _shift_at(points: Floats, shift: Floats) -> Floats:
    """The warp at (n, 2) points: linear on the two triangles of each lattice cell."""
    cell = np.floor(points / _WARP_CELL_M).astype(int)
    fx, fy = (points / _WARP_CELL_M - cell).T[:, :, None]
    col, row = cell.T
    upper = fx + fy > 1
    corner = np.where(upper, shift[col + 1, row + 1], shift[col, row])
    fx, fy = np.where(upper, 1 - fx, fx), np.where(upper, 1 - fy, fy)
    beside = np.where(upper, shift[col, row + 1], shift[col + 1, row])
    above = np.where(upper, shift[col + 1, row], shift[col, row + 1])
    return np.asarray(corner + fx * (beside - corner) + fy * (above - corner))


def _polygons(
    shells: NDArray[np.object_], holes: NDArray[np.object_], owner: Ints
) -> NDArray[np.object_]:
    polygons = np.asarray(shapely.polygons(shells))
    if len(owner):
        polygons[owner] = shapely.polygons(shells[owner], holes=holes[:, None])
    return polygons


def _with_multipolygons(
    rng: np.random.Generator, geometry: NDArray[np.object_], block: Ints
) -> NDArray[np.object_]:
    """Declare some pairs of pieces of a block that do not touch as one parcel."""
    geometry = geometry.copy()
    step = 4
    first = np.flatnonzero(rng.random(max(len(geometry) - step, 0)) < _MULTI_SHARE)
    first = first[np.diff(first, prepend=-2 * step) > 2 * step]
    second = first + step
    apart = (shapely.distance(geometry[first], geometry[second]) > 1) & (
        block[first] == block[second]
    )
    first, second = first[apart], second[apart]
    pairs = np.stack([geometry[first], geometry[second]], axis=1)
    geometry[first] = shapely.multipolygons(pairs)
    return np.delete(geometry, second)


def _with_overlaps(
    rng: np.random.Generator, geometry: NDArray[np.object_], extent: Extent
) -> NDArray[np.object_]:
    """Let some parcels reach over their boundaries into their neighbours; all within the extent."""
    geometry = geometry.copy()
    greedy = rng.random(len(geometry)) < _OVERLAP_SHARE
    geometry[greedy] = shapely.simplify(shapely.buffer(geometry[greedy], _OVERLAP_M), 0.5)
    west, south, east, north = shapely.bounds(geometry).T
    leaving = (west < extent[0]) | (south < extent[1]) | (east > extent[2]) | (north > extent[3])
    geometry[leaving] = shapely.intersection(geometry[leaving], shapely.box(*extent))
    return geometry[~shapely.is_empty(geometry)]


def _crops(rng: np.random.Generator, area_m2: Floats) -> Ints:
    """A crop for each parcel; grass and fallow prevail on the small ones."""
    small = area_m2 < SMALL_HA * 1e4
    luck = rng.random(len(area_m2))
    usual, tiny = (
        np.cumsum([getattr(crop, name) for crop in CROPS])[:-1] for name in ("share", "share_small")
    )
    return np.where(small, np.searchsorted(tiny, luck), np.searchsorted(usual, luck))
