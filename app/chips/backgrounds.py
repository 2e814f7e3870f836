"""Backgrounds: images of the ground from the operator's sources; none is built in."""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window, from_bounds

from app.chips import rendering
from app.chips.chip_request import BackgroundRequest
from app.chips.outline import draw_outline
from app.chips.window import from_degrees
from app.http.errors import ParameterError
from store import objects
from store.errors import ConfigError, NotFoundError, ObjectStoreError
from store.grid import Grid

_MERCATOR = 3857
_MERCATOR_EDGE_M = 20037508.342789244
_MAX_PX = 8192
"""Sides of a read at once; only a source without overviews has more pixels for an image."""

# GDAL's own words for tiles by zoom, column and row; a tile that is not there is empty.
_TILES = """<GDAL_WMS><Service name="TMS"><ServerUrl>{url}</ServerUrl></Service>
<DataWindow><UpperLeftX>-{edge}</UpperLeftX><UpperLeftY>{edge}</UpperLeftY>
<LowerRightX>{edge}</LowerRightX><LowerRightY>-{edge}</LowerRightY>
<TileLevel>{zoom}</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>
<YOrigin>{origin}</YOrigin></DataWindow><Projection>EPSG:3857</Projection>
<BlockSizeX>{tile_px}</BlockSizeX><BlockSizeY>{tile_px}</BlockSizeY><BandsCount>3</BandsCount>
<ZeroBlockHttpCodes>204,404</ZeroBlockHttpCodes><Timeout>10</Timeout>
<MaxConnections>4</MaxConnections><UserAgent>cbm-appliance</UserAgent></GDAL_WMS>"""


@dataclass(frozen=True)
class BackgroundSource:
    """A source of backgrounds.

    Attributes:
        name: in requests.
        dataset: name for GDAL.
        attribution: the owner of the images.
    """

    name: str
    dataset: str
    attribution: str


@dataclass(frozen=True)
class BackgroundSources:
    """All background sources of an operator.

    Attributes:
        default: name of the source for requests without a name; '' without any.
        by_name: the sources.
    """

    default: str = ""
    by_name: Mapping[str, BackgroundSource] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path | None) -> "BackgroundSources":
        """The sources of a JSON file; none without a file.

        The file is {"default": name, "sources": {name: source}}, where a source is one of
        {"xyz": "https://host/{z}/{x}/{y}.png", "max_zoom": 19, "tile_px": 256},
        {"wmts": address of the capabilities, "layer": ..., "matrix_set": ...} and
        {"raster": path or address of a raster}, each with "attribution".

        Raises:
            ConfigError: the file cannot be read or used; says where.
        """
        if file is None:
            return cls()
        try:
            content = json.loads(file.read_text())
            sources = {name: _source(name, facts) for name, facts in content["sources"].items()}
            default = content.get("default") or next(iter(sources))
            sources[default]
        except (OSError, ValueError, AttributeError, TypeError, StopIteration) as error:
            raise ConfigError(f"CBM_BACKGROUNDS={file} cannot be used: {error!r}") from error
        except KeyError as error:
            raise ConfigError(f"CBM_BACKGROUNDS={file}: {error} is missing") from error
        return cls(default, sources)

    @property
    def names(self) -> list[str]:
        """Names of all sources, the default first."""
        return sorted(self.by_name, key=lambda name: name != self.default)

    def find(self, name: str, aliases: Collection[str] = ()) -> BackgroundSource:
        """The source of a name, in any case.

        Args:
            name: in requests.
            aliases: names of the default source, unless there is a source of that name.

        Raises:
            NotFoundError: there is none of that name, or none at all.
        """
        key = name.lower()
        if not self.by_name:
            raise NotFoundError("this server has no backgrounds: its operator has named no source")
        if key in aliases and key not in self.by_name:
            key = self.default
        if key not in self.by_name:
            known = ", ".join(self.names)
            raise NotFoundError(f"tms: there is no source {name!r}; known: {known}")
        return self.by_name[key]


def _source(name: str, facts: Mapping[str, Any]) -> BackgroundSource:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        raise ValueError(f"{name!r} is no name of a source: small letters, digits and -")
    kinds = facts.keys() & _DATASETS.keys()
    if len(kinds) != 1:
        raise ValueError(f"source {name} needs one of {', '.join(_DATASETS)}")
    return BackgroundSource(name, _DATASETS[kinds.pop()](facts), str(facts.get("attribution", "")))


def _tiles(facts: Mapping[str, Any]) -> str:
    url = _web_address(facts["xyz"])
    for word, ours in (("{z}", "${z}"), ("{x}", "${x}"), ("{y}", "${y}"), ("{-y}", "${y}")):
        url = url.replace(word, ours)
    if not all(word in url for word in ("${z}", "${x}", "${y}")):
        raise ValueError(f"{facts['xyz']} lacks one of {{z}}, {{x}} and {{y}}")
    return _TILES.format(
        url=escape(url),
        edge=_MERCATOR_EDGE_M,
        zoom=int(facts.get("max_zoom", 19)),
        origin="bottom" if "{-y}" in facts["xyz"] else "top",
        tile_px=int(facts.get("tile_px", 256)),
    ).replace("\n", "")


def _wmts(facts: Mapping[str, Any]) -> str:
    words = [f"WMTS:{_web_address(facts['wmts'])}", f"layer={facts['layer']}"]
    words += [f"tilematrixset={facts['matrix_set']}"] if "matrix_set" in facts else []
    return ",".join(words)


def _raster(facts: Mapping[str, Any]) -> str:
    return objects.gdal_path(facts["raster"])


_DATASETS = {"xyz": _tiles, "wmts": _wmts, "raster": _raster}


def _web_address(text: str) -> str:
    if urlsplit(text).scheme not in {"http", "https"}:
        raise ValueError(f"{text!r} is no web address")
    return text


@dataclass(frozen=True)
class BackgroundJob:
    """A background to be made.

    Attributes:
        request: of the background.
        source: of its name.
        outline: polygons in EPSG:4326 to draw into a png, if any.
    """

    request: BackgroundRequest
    source: BackgroundSource
    outline: shapely.Geometry | None = None

    @property
    def key(self) -> str:
        """Key of the cache: the request, the source's facts, the outline."""
        outline = shapely.to_wkb(self.outline, hex=True) if self.outline else ""
        return f"1 {self.request.identity} {self.source} {outline}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """None of the catalogue: the source is the operator's."""
        return ()

    @property
    def grid(self) -> Grid:
        """The pixels' grid. A metre on the ground is 1 / cos(latitude) metres in Mercator."""
        wanted = self.request
        x, y = from_degrees(_MERCATOR).transform(wanted.lon, wanted.lat)
        side_m = wanted.extent_m / math.cos(math.radians(wanted.lat))
        west_m, north_m = x - side_m / 2, y + side_m / 2
        size_px = wanted.size_px
        return Grid(_MERCATOR, side_m / size_px, west_m, north_m, size_px, size_px)

    def make(self) -> bytes | None:
        """The file; None where the source shows nothing.

        Raises:
            ObjectStoreError: the source does not answer.
            ParameterError: the source is too fine for so much ground.
        """
        pixels = _read(self.source, self.grid)
        if not pixels.any():
            return None
        if self.request.form == "tif":
            return _geotiff(pixels, self.grid, self.source.attribution)
        image = Image.fromarray(np.moveaxis(pixels, 0, 2))
        if self.outline is not None:
            image = draw_outline(image, self.grid, self.outline)
        return rendering.to_png(image)


def _read(source: BackgroundSource, grid: Grid) -> npt.NDArray[np.uint8]:
    """Red, green and blue of a grid: uint8[3, row, col]."""
    try:
        with rasterio.open(source.dataset) as finest:
            level = _level(finest, grid)
        # An overview is opened as such: GDAL's own choice, when it warps, fetches tiles again
        # and again, of the finest zoom.
        with rasterio.open(source.dataset, **level) as dataset:
            return _warp(dataset, grid)
    except (RasterioError, CPLE_BaseError) as error:
        raise ObjectStoreError(f"background source {source.name}: {error}") from error


def _level(finest: Any, grid: Grid) -> dict[str, int]:
    """The coarsest overview that is as fine as a grid; none if the raster itself is not finer."""
    west, _, east, _ = transform_bounds(grid.epsg, finest.crs, *grid.bounds_m)
    wanted = (east - west) / grid.width_px * 1.01
    factors = [factor for factor in finest.overviews(1) if finest.res[0] * factor <= wanted]
    return {"overview_level": len(factors) - 1} if factors else {}


def _warp(dataset: Any, grid: Grid) -> npt.NDArray[np.uint8]:
    """A raster's pixels on a grid, uint8[3, row, col]; one read, so each tile is fetched once."""
    pixels = np.zeros((3, grid.height_px, grid.width_px), np.uint8)
    bounds = transform_bounds(grid.epsg, dataset.crs, *grid.bounds_m)
    wanted = from_bounds(*bounds, transform=dataset.transform)
    row, col = math.floor(wanted.row_off) - 1, math.floor(wanted.col_off) - 1
    bottom, right = row + math.ceil(wanted.height) + 3, col + math.ceil(wanted.width) + 3
    top, left = max(row, 0), max(col, 0)
    height, width = min(bottom, dataset.height) - top, min(right, dataset.width) - left
    if height <= 0 or width <= 0:
        return pixels
    if max(height, width) > _MAX_PX:
        raise ParameterError("extend: the source has no image of so much ground; request less")
    window = Window(left, top, width, height)
    bands = (1, 2, 3) if dataset.count >= 3 else (1, 1, 1)
    reproject(
        dataset.read(bands, window=window),
        pixels,
        src_transform=dataset.window_transform(window),
        src_crs=dataset.crs,
        dst_transform=rendering.raster_profile(grid)["transform"],
        dst_crs=grid.epsg,
        resampling=Resampling.bilinear,
    )
    return pixels


def _geotiff(pixels: npt.NDArray[np.uint8], grid: Grid, attribution: str) -> bytes:
    profile = rendering.raster_profile(grid) | {"count": 3, "dtype": "uint8", "photometric": "RGB"}
    with MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(pixels)
            raster.update_tags(TIFFTAG_COPYRIGHT=attribution)
        return bytes(memory.read())
