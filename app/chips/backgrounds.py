"""Backgrounds: images of the ground from sources that the operator names, none built in."""

import json
import math
import re
from collections.abc import Mapping
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
from pyproj import Transformer
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile
from rasterio.warp import reproject, transform_bounds
from rasterio.windows import Window, from_bounds

from app.chips import looks, outline
from app.errors import ParameterError
from store import objects
from store.errors import ConfigError, NotFoundError, ObjectStoreError
from store.grid import Grid

_MERCATOR = 3857
_MERCATOR_EDGE_M = 20037508.342789244
_MOST_PX = 8192
"""Sides of what is read of a source at once; only one without overviews has more for an image."""

_DEFAULT_WORD = "google"
"""What the client cbm asks for where its user says nothing: it means the operator's default."""

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
class Source:
    """Where backgrounds come from.

    Attributes:
        name: as users ask for it.
        dataset: as GDAL opens it.
        attribution: whose images they are.
    """

    name: str
    dataset: str
    attribution: str


@dataclass(frozen=True)
class Sources:
    """All sources of an operator.

    Attributes:
        default: name of the one that is taken where none is asked for; '' without any.
        known: by name.
    """

    default: str = ""
    known: Mapping[str, Source] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path | None) -> "Sources":
        """Read them from a JSON file; None has none.

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
            known = {name: _source(name, facts) for name, facts in content["sources"].items()}
            default = content.get("default") or next(iter(known))
            known[default]
        except (OSError, ValueError, AttributeError, TypeError, StopIteration) as error:
            raise ConfigError(f"CBM_BACKGROUNDS={file} cannot be used: {error!r}") from error
        except KeyError as error:
            raise ConfigError(f"CBM_BACKGROUNDS={file}: {error} is missing") from error
        return cls(default, known)

    @property
    def names(self) -> list[str]:
        """Of all sources, the default one first."""
        return sorted(self.known, key=lambda name: name != self.default)

    def choose(self, asked: str) -> Source:
        """The source that a user means.

        Raises:
            NotFoundError: there is none of that name, or none at all.
        """
        name = asked.lower()
        if not self.known:
            raise NotFoundError("this server has no backgrounds: its operator has named no source")
        if name == _DEFAULT_WORD and name not in self.known:
            name = self.default
        if name not in self.known:
            raise NotFoundError(
                f"tms: there is no source {asked!r}; known: {', '.join(self.names)}"
            )
        return self.known[name]


def _source(name: str, facts: Mapping[str, Any]) -> Source:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        raise ValueError(f"{name!r} is no name of a source: small letters, digits and -")
    kinds = facts.keys() & _DATASETS.keys()
    if len(kinds) != 1:
        raise ValueError(f"source {name} needs one of {', '.join(_DATASETS)}")
    return Source(name, _DATASETS[kinds.pop()](facts), str(facts.get("attribution", "")))


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
class Background:
    """An image of a square of ground, in Web Mercator (EPSG:3857).

    Attributes:
        source: where it comes from.
        lon: of its centre, degrees.
        lat: the same.
        size_px: length of its sides.
        extent_m: the same on the ground, metres.
        form: png or tif.
        parcel: polygons in EPSG:4326 to draw into a png, if any.
    """

    source: Source
    lon: float
    lat: float
    size_px: int
    extent_m: float
    form: str
    parcel: shapely.Geometry | None = None

    @property
    def key(self) -> str:
        """All that it depends on."""
        parcel = shapely.to_wkb(self.parcel, hex=True) if self.parcel else ""
        place = f"{self.lon} {self.lat} {self.size_px} {self.extent_m}"
        return f"1 background {self.source} {place} {self.form} {parcel}"

    @property
    def grid(self) -> Grid:
        """Where its pixels lie. A metre on the ground is 1 / cos(latitude) metres in Mercator."""
        x, y = _to_mercator.transform(self.lon, self.lat)
        side_m = self.extent_m / math.cos(math.radians(self.lat))
        res_m = side_m / self.size_px
        return Grid(_MERCATOR, res_m, x - side_m / 2, y + side_m / 2, self.size_px, self.size_px)

    def make(self) -> bytes | None:
        """Make the file; None where the source shows nothing.

        Raises:
            ObjectStoreError: the source does not answer.
        ParameterError: the source is too fine for so much ground.
        """
        pixels = _read(self.source, self.grid)
        if not pixels.any():
            return None
        if self.form == "tif":
            return _geotiff(pixels, self.grid, self.source.attribution)
        image = Image.fromarray(np.moveaxis(pixels, 0, 2))
        if self.parcel is not None:
            image = outline.drawn(image, self.grid, self.parcel)
        return looks.png(image)


_to_mercator = Transformer.from_crs(4326, _MERCATOR, always_xy=True)


def _read(source: Source, grid: Grid) -> npt.NDArray[np.uint8]:
    """Red, green and blue of a grid: uint8[3, row, col]."""
    try:
        with rasterio.open(source.dataset) as finest:
            level = _level(finest, grid)
        # An overview is opened as such: GDAL's own choice, when it warps, asks for tiles again
        # and again, of the finest zoom.
        with rasterio.open(source.dataset, **level) as dataset:
            return _warped(dataset, grid)
    except (RasterioError, CPLE_BaseError) as error:
        raise ObjectStoreError(f"background source {source.name}: {error}") from error


def _level(finest: Any, grid: Grid) -> dict[str, int]:
    """The coarsest overview that is as fine as a grid; none if the raster itself is not finer."""
    west, _, east, _ = transform_bounds(grid.epsg, finest.crs, *grid.bounds_m)
    wanted = (east - west) / grid.width_px * 1.01
    factors = [factor for factor in finest.overviews(1) if finest.res[0] * factor <= wanted]
    return {"overview_level": len(factors) - 1} if factors else {}


def _warped(dataset: Any, grid: Grid) -> npt.NDArray[np.uint8]:
    """What a raster shows of a grid, read at once, so that each tile is fetched once."""
    pixels = np.zeros((3, grid.height_px, grid.width_px), np.uint8)
    bounds = transform_bounds(grid.epsg, dataset.crs, *grid.bounds_m)
    wanted = from_bounds(*bounds, transform=dataset.transform)
    row, col = math.floor(wanted.row_off) - 1, math.floor(wanted.col_off) - 1
    bottom, right = row + math.ceil(wanted.height) + 3, col + math.ceil(wanted.width) + 3
    top, left = max(row, 0), max(col, 0)
    height, width = min(bottom, dataset.height) - top, min(right, dataset.width) - left
    if height <= 0 or width <= 0:
        return pixels
    if max(height, width) > _MOST_PX:
        raise ParameterError("extend: the source has no image of so much ground; ask for less")
    window = Window(left, top, width, height)
    bands = (1, 2, 3) if dataset.count >= 3 else (1, 1, 1)
    reproject(
        dataset.read(bands, window=window),
        pixels,
        src_transform=dataset.window_transform(window),
        src_crs=dataset.crs,
        dst_transform=looks.raster_profile(grid)["transform"],
        dst_crs=grid.epsg,
        resampling=Resampling.bilinear,
    )
    return pixels


def _geotiff(pixels: npt.NDArray[np.uint8], grid: Grid, attribution: str) -> bytes:
    profile = looks.raster_profile(grid) | {"count": 3, "dtype": "uint8", "photometric": "RGB"}
    with MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(pixels)
            raster.update_tags(TIFFTAG_COPYRIGHT=attribution)
        return bytes(memory.read())
