"""Terrain: heights above the ellipsoid on the cells of an output grid, from any raster."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from card.make import kernels
from card.make.datasets import open_dataset
from store.errors import CallerError, ConfigError, NotFoundError, SceneError
from store.grid import Grid

Floats = npt.NDArray[np.float64]
Heights = npt.NDArray[np.float32]

DRIVERS = ["GTiff", "VRT", "SRTMHGT", "DTED", "HFA", "AAIGrid", "JP2OpenJPEG", "ENVI"]
"""What a terrain model may be; anything else that GDAL knows could reach beyond the file."""
GEOID_DRIVERS = ["GTX", "GTiff", "BYN", "NGSGEOID", "AAIGrid"]
ELLIPSOID = "ellipsoid"

_COPERNICUS = re.compile(
    r"Copernicus_DSM_(?:COG_)?(?:10|30)_(?P<ns>[NS])(?P<lat>\d{2})_00_(?P<ew>[EW])(?P<lon>\d{3})_00"
    r"_DEM\.tif"
)
_COPERNICUS_DATUM = "EGM2008"
_MAX_FILES = 10_000
_SUFFIXES = {".tif", ".tiff", ".vrt", ".hgt", ".dt0", ".dt1", ".dt2", ".img", ".asc", ".jp2"}
_AROUND_PX = 3
"""Cubic convolution reaches two pixels."""
_LOWEST_M, _HIGHEST_M = -500.0, 9000.0
"""Of land: what lies outside is a mistake in the model or its nodata value, such as -9999."""
_HIGHEST_GEOID_M = 120.0
_MAX_SOURCE_PX = 400_000_000


@dataclass(frozen=True)
class DemFile:
    """One raster of a terrain model.

    Attributes:
        path: where it lies.
        bounds: (west, south, east, north) in its CRS.
        size_px: (columns, rows).
        crs_wkt: its CRS.
        nodata: value of missing heights, if it states one.
        size_bytes: of the file.
    """

    path: Path
    bounds: tuple[float, float, float, float]
    size_px: tuple[int, int]
    crs_wkt: str
    nodata: float | None
    size_bytes: int


@dataclass(frozen=True)
class Dem:
    """A terrain model, its vertical datum settled.

    Attributes:
        name: what it is called in products made with it.
        files: its rasters.
        sea: places without a file are sea at height 0 (Copernicus' layout), not missing.
        geoid: grid of the geoid that heights stand on; None where they stand on the ellipsoid.
    """

    name: str
    files: tuple[DemFile, ...]
    sea: bool
    geoid: Path | None

    @cached_property
    def crs(self) -> CRS:
        """The horizontal CRS of its rasters."""
        crs = CRS.from_wkt(self.files[0].crs_wkt)
        return crs.sub_crs_list[0] if crs.is_compound else crs

    @property
    def key(self) -> str:
        """What tells it from another terrain model: names and sizes of its files and its geoid."""
        lines = sorted(f"{file.path.name} {file.size_bytes}" for file in self.files)
        lines += [self.geoid.name] if self.geoid else []
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def within(self, bounds_deg: tuple[float, float, float, float]) -> "Dem":
        """The part of it that meets a box of longitudes and latitudes.

        Raises:
            CallerError: there is none.
        """
        to_crs = Transformer.from_crs(4326, self.crs, always_xy=True)
        west, south, east, north = to_crs.transform_bounds(*bounds_deg)
        files = tuple(
            file
            for file in self.files
            if file.bounds[0] < east and file.bounds[2] > west
            and file.bounds[1] < north and file.bounds[3] > south
        )  # fmt: skip
        if not files:
            raise CallerError(
                f"DEM {self.name} has no heights at longitude {bounds_deg[0]:.1f} to "
                f"{bounds_deg[2]:.1f}, latitude {bounds_deg[1]:.1f} to {bounds_deg[3]:.1f}"
            )
        return replace(self, files=files)


def find(place: Path, geoid: str | None, bounds_deg: tuple[float, float, float, float]) -> Dem:
    """Find a terrain model and settle what its heights stand on.

    Args:
        place: a raster, or a folder of them: tiles in Copernicus' layout, or any of one CRS.
        geoid: path of the geoid's grid, `ellipsoid`, or None where the files say it themselves.
        bounds_deg: box of longitudes and latitudes that it is needed for.

    Raises:
        NotFoundError: there is no such file or folder, or no raster in it.
        CallerError: it says nothing of its vertical datum, or something else than `geoid`; or it
            has no heights there.
    """
    if not place.exists():
        raise NotFoundError(f"DEM: there is no {place}")
    copernicus, paths = _rasters(place, bounds_deg)
    files = tuple(_describe(path) for path in paths)
    if len({file.crs_wkt for file in files}) > 1:
        raise CallerError(f"DEM {place}: its files differ in CRS")
    grid = _geoid(place, geoid, _COPERNICUS_DATUM if copernicus else _datum(files[0]))
    return Dem(place.stem, files, copernicus, grid).within(bounds_deg)


@contextmanager
def open_terrain(dem: Dem) -> Iterator["Terrain"]:
    """Open a terrain model for reading, within `store.raster.gdal_env`; one for each thread.

    Raises:
        SceneError: a file cannot be read.
    """
    west = min(file.bounds[0] for file in dem.files)
    north = max(file.bounds[3] for file in dem.files)
    with open_dataset(_source(dem, west, north), DRIVERS) as dataset:
        yield Terrain(dem, dataset)


class Terrain:
    """An open terrain model."""

    def __init__(self, dem: Dem, dataset: Any) -> None:
        """Take an open dataset that holds the model's files."""
        self._dem = dem
        self._dataset = dataset

    def heights(
        self, grid: Grid, east_m: Floats, north_m: Floats, step: int, shift: tuple[int, int],
        shape: tuple[int, int],
    ) -> Heights:  # fmt: skip
        """Heights above the ellipsoid at cell centres.

        Args:
            grid: the cells' CRS and size.
            east_m: float64[node columns], x of the nodes that span the cells.
            north_m: float64[node rows], y of them.
            step: cells between nodes.
            shift: (rows, columns) from the first node to the first cell.
            shape: (rows, columns) of cells.

        Returns:
            float32[shape], metres; NaN where the model has no height.

        Raises:
            SceneError: a file cannot be read.
            CallerError: the model is too fine to be read at once.
        """
        x, y = np.meshgrid(east_m, north_m)
        to_dem = transformer(grid.epsg, self._dem.crs.to_wkt())
        at_x, at_y = to_dem.transform(x, y)
        offsets = self._undulations(grid, x, y)
        source, columns, rows = self._read(np.asarray(at_x), np.asarray(at_y), step)
        out = np.empty(shape, np.float32)
        kernels.resample_heights(source, columns, rows, offsets, step, *shift, out)
        return out

    def _undulations(self, grid: Grid, x: Floats, y: Floats) -> Floats:
        if self._dem.geoid is None:
            return np.zeros(x.shape)
        lon, lat = transformer(grid.epsg, "EPSG:4326").transform(x, y)
        return undulations_m(self._dem.geoid, np.asarray(lon), np.asarray(lat))

    def _read(self, x: Floats, y: Floats, step: int) -> tuple[Heights, Floats, Floats]:
        """The source around nodes, and their columns and rows in it; averaged where it is finer."""
        inverse = ~self._dataset.transform
        columns, rows = inverse.a * x + inverse.c - 0.5, inverse.e * y + inverse.f - 0.5
        cell_px = min(abs(columns[0, 1] - columns[0, 0]), abs(rows[1, 0] - rows[0, 0])) / step
        factor = max(1, int(cell_px))
        col0, width = _interval(columns, factor)
        row0, height = _interval(rows, factor)
        if width * height > _MAX_SOURCE_PX:
            raise CallerError(f"DEM {self._dem.name} is too fine: {width} x {height} px for a tile")
        source = self._window(row0, col0, height, width, factor)
        return source, (columns - col0 + 0.5) / factor - 0.5, (rows - row0 + 0.5) / factor - 0.5

    def _window(self, row0: int, col0: int, height: int, width: int, factor: int) -> Heights:
        """A window that may reach beyond the model; missing heights are NaN, or 0 at sea."""
        out = np.full((height // factor, width // factor), np.nan, np.float32)
        top, left = max(row0, 0), max(col0, 0)
        bottom = min(row0 + height, self._dataset.height // factor * factor)
        right = min(col0 + width, self._dataset.width // factor * factor)
        if top < bottom and left < right:
            shape = ((bottom - top) // factor, (right - left) // factor)
            part = self._pixels(Window(left, top, right - left, bottom - top), shape)
            at = (top - row0) // factor, (left - col0) // factor
            out[at[0] : at[0] + shape[0], at[1] : at[1] + shape[1]] = part
        if self._dem.sea:
            self._fill_sea(out, row0, col0, factor)
        return out

    def _pixels(self, window: Window, shape: tuple[int, int]) -> Heights:
        try:
            read = self._dataset.read(
                1, window=window, out_shape=shape, masked=True, resampling=Resampling.average
            )
        except RasterioError as error:
            raise SceneError(f"DEM {self._dem.name} is damaged: {error}") from error
        heights: Heights = read.astype(np.float32).filled(np.nan)
        heights[~((heights > _LOWEST_M) & (heights < _HIGHEST_M))] = np.nan
        return heights

    def _fill_sea(self, heights: Heights, row0: int, col0: int, factor: int) -> None:
        """Give height 0 to what no file covers."""
        inverse = ~self._dataset.transform
        sea = np.ones(heights.shape, bool)
        for west, south, east, north in (file.bounds for file in self._dem.files):
            left, top = inverse @ (west, north)
            right, bottom = inverse @ (east, south)
            rows = slice(*(max(0, round((at - row0) / factor)) for at in (top, bottom)))
            columns = slice(*(max(0, round((at - col0) / factor)) for at in (left, right)))
            sea[rows, columns] = False
        heights[sea] = 0.0


def undulations_m(geoid: Path, lon_deg: Floats, lat_deg: Floats) -> Floats:
    """Heights[...] of a geoid above the ellipsoid, bilinear in its grid.

    Args:
        geoid: grid in longitudes (from -180 or 0) and latitudes, as PROJ's and GDAL's are.
        lon_deg: longitudes[...].
        lat_deg: latitudes[...].

    Raises:
        ConfigError: it cannot be read, or does not reach there.
    """
    try:
        with open_dataset(str(geoid), GEOID_DRIVERS) as dataset:
            inverse = ~dataset.transform
            lon = dataset.bounds.left + (lon_deg - dataset.bounds.left) % 360
            columns, rows = inverse.a * lon + inverse.c - 0.5, inverse.e * lat_deg + inverse.f - 0.5
            col0, row0 = int(np.floor(columns.min())), int(np.floor(rows.min()))
            window = Window(col0, row0, int(columns.max()) + 2 - col0, int(rows.max()) + 2 - row0)
            grid = dataset.read(1, window=window, boundless=True, masked=True)
    except (SceneError, RasterioError) as error:
        raise ConfigError(f"geoid {geoid} cannot be read: {error}") from error
    x, y = columns - col0, rows - row0
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    v, u = y - i, x - j
    upper = grid[i, j] * (1 - u) + grid[i, j + 1] * u
    lower = grid[i + 1, j] * (1 - u) + grid[i + 1, j + 1] * u
    values = np.ma.filled((upper * (1 - v) + lower * v).astype(np.float64), np.nan)
    if not (np.abs(values) < _HIGHEST_GEOID_M).all():
        raise ConfigError(f"geoid {geoid} has no value somewhere in the scene")
    return np.asarray(values)


def _rasters(place: Path, bounds_deg: tuple[float, float, float, float]) -> tuple[bool, list[Path]]:
    """Whether they are in Copernicus' layout, and the rasters of a folder, or the one."""
    if place.is_file():
        return bool(_COPERNICUS.fullmatch(place.name)), [place]
    paths = sorted(path for path in place.rglob("*") if path.suffix.lower() in _SUFFIXES)
    tiles = {path: match for path in paths if (match := _COPERNICUS.fullmatch(path.name))}
    near = [path for path, match in tiles.items() if _meets(match, bounds_deg)] or list(tiles)[:1]
    paths = near if tiles else paths
    if not paths or len(paths) > _MAX_FILES:
        raise NotFoundError(
            f"DEM {place}: {len(paths)} rasters are in it, 1 to {_MAX_FILES} needed"
        )
    return bool(tiles), paths


def _meets(match: re.Match[str], bounds_deg: tuple[float, float, float, float]) -> bool:
    south = int(match["lat"]) * (1 if match["ns"] == "N" else -1)
    west = int(match["lon"]) * (1 if match["ew"] == "E" else -1)
    return (
        west - 1 < bounds_deg[2] and west + 2 > bounds_deg[0]
        and south - 1 < bounds_deg[3] and south + 2 > bounds_deg[1]
    )  # fmt: skip


def _describe(path: Path) -> DemFile:
    try:
        with open_dataset(str(path), DRIVERS) as dataset:
            a, b, _, d, e, *_ = dataset.transform
            if not dataset.crs or b or d or a <= 0 or e >= 0:
                raise CallerError(f"DEM {path}: it is not a north-up raster with a CRS")
            return DemFile(
                path.absolute(),
                tuple(dataset.bounds),
                (dataset.width, dataset.height),
                dataset.crs.to_wkt(),
                dataset.nodata,
                path.stat().st_size,
            )
    except SceneError as error:
        raise CallerError(f"DEM: {error}") from error


def _datum(file: DemFile) -> str | None:
    """What a file's CRS says of its heights: a datum's name, `ellipsoid`, or None."""
    try:
        crs = CRS.from_wkt(file.crs_wkt)
    except CRSError as error:
        raise CallerError(f"DEM {file.path}: its CRS cannot be used: {error}") from error
    if crs.is_compound:
        return str(crs.sub_crs_list[1].name)
    return ELLIPSOID if len(crs.axis_info) == 3 else None


def _geoid(place: Path, geoid: str | None, stated: str | None) -> Path | None:
    """The grid to be added to heights; None where they are above the ellipsoid already."""
    if geoid is None and stated is None:
        raise CallerError(
            f"DEM {place} does not say what its heights stand on: name its geoid's grid with "
            f"--geoid, or --geoid {ELLIPSOID} if they are above the ellipsoid. Heights taken for "
            "others shift images by tens of metres"
        )
    if geoid is None and stated != ELLIPSOID:
        raise CallerError(
            f"DEM {place} has heights above {stated}: name that geoid's grid with --geoid, such as "
            "us_nga_egm08_25.tif, or egm96_15.gtx of the package proj-data"
        )
    if geoid is not None and stated is not None and (geoid == ELLIPSOID) != (stated == ELLIPSOID):
        raise CallerError(f"DEM {place} has heights above {stated}, so --geoid {geoid} is wrong")
    if geoid in (None, ELLIPSOID):
        return None
    if not Path(str(geoid)).is_file():
        raise NotFoundError(f"geoid: there is no {geoid}")
    return Path(str(geoid)).absolute()


def _source(dem: Dem, west: float, north: float) -> str:
    """The one file, or a VRT of all of them on the grid of the finest."""
    if len(dem.files) == 1:
        return str(dem.files[0].path)
    steps = [
        ((f.bounds[2] - f.bounds[0]) / f.size_px[0], (f.bounds[3] - f.bounds[1]) / f.size_px[1])
        for f in dem.files
    ]
    dx, dy = min(step[0] for step in steps), min(step[1] for step in steps)
    width = round((max(file.bounds[2] for file in dem.files) - west) / dx)
    height = round((north - min(file.bounds[1] for file in dem.files)) / dy)
    parts = "".join(_vrt_source(file, west, north, dx, dy) for file in dem.files)
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
        f"<SRS>{escape(dem.files[0].crs_wkt)}</SRS>"
        f"<GeoTransform>{west!r}, {dx!r}, 0, {north!r}, 0, {-dy!r}</GeoTransform>"
        f'<VRTRasterBand dataType="Float32" band="1"><NoDataValue>nan</NoDataValue>{parts}'
        "</VRTRasterBand></VRTDataset>"
    )


def _vrt_source(file: DemFile, west: float, north: float, dx: float, dy: float) -> str:
    (columns, rows), (left, bottom, right, top) = file.size_px, file.bounds
    nodata = "" if file.nodata is None else f"<NODATA>{file.nodata!r}</NODATA>"
    return (
        f'<ComplexSource resampling="cubic"><SourceFilename>{escape(str(file.path))}'
        f'</SourceFilename><SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="{columns}" '
        f'ySize="{rows}"/><DstRect xOff="{(left - west) / dx:.6f}" yOff="{(north - top) / dy:.6f}" '
        f'xSize="{(right - left) / dx:.6f}" ySize="{(top - bottom) / dy:.6f}"/>{nodata}'
        "</ComplexSource>"
    )


def _interval(positions: Floats, factor: int) -> tuple[int, int]:
    """Start and size in pixels around positions, both multiples of a factor."""
    around = _AROUND_PX * factor
    start = int(np.floor(positions.min()) - around) // factor * factor
    stop = -(-int(np.ceil(positions.max()) + around + 1) // factor) * factor
    return start, stop - start


@cache
def transformer(epsg: int, to: str) -> Transformer:
    """From a CRS to another; made once, for making one takes long."""
    return Transformer.from_crs(epsg, to, always_xy=True)
