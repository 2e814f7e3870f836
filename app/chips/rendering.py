"""Rendering of chips: composites for people as PNG, values for programs as GeoTIFF."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.io import MemoryFile

from app.chips.layers import BandLayer
from store.grid import Grid
from store.kinds import SCENE_CLASSES, SCL
from store.units import UNITS

_NUMBER = r"-?[0-9]{1,6}(?:\.[0-9]{1,6})?"
_LUT = re.compile(rf"{_NUMBER}_{_NUMBER}(?:(?:_{_NUMBER}){{4}})?")


@dataclass(frozen=True)
class Lut:
    """A stretch from values to brightness: two percentiles, or low and high of three bands.

    Attributes:
        limits: two percentiles, or low, high, low, high, low, high in the scene's unit (dB for
            backscatter).
    """

    limits: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Lut":
        """The stretch of a text such as 5_95 or 0_2000_0_2000_0_4000.

        Raises:
            ValueError: it is neither.
        """
        if text == "None":  # as the client cbm writes it where its user says nothing
            return DEFAULT_LUT
        if not _LUT.fullmatch(text):
            raise ValueError("is neither two percentiles (5_95) nor three pairs of low and high")
        limits = tuple(float(number) for number in text.split("_"))
        if any(low >= high for low, high in zip(limits[::2], limits[1::2], strict=True)):
            raise ValueError("has a low that is not below its high")
        if len(limits) == 2 and not (limits[0] >= 0 and limits[1] <= 100):
            raise ValueError("has percentiles that are not from 0 to 100")
        return cls(limits)

    @property
    def text(self) -> str:
        """The same in a request, equal for equal limits."""
        return "_".join(f"{limit:.10g}" for limit in self.limits)

    def range(self, position: int, values: npt.NDArray[Any]) -> tuple[float, float]:
        """The values of black and of white in the band at a position (0 to 2)."""
        if len(self.limits) == 2:
            low, high = np.percentile(values, self.limits)
            return float(low), float(high)
        return self.limits[2 * position], self.limits[2 * position + 1]


DEFAULT_LUT = Lut((5.0, 95.0))


def composite(layers: Sequence[BandLayer], unit: str, lut: Lut) -> Image.Image | None:
    """An image of one band in grey, of three in red, green and blue, or of scene classes.

    Coarser bands are brought to the finest by nearest neighbour; where a band lacks data, the image
    is transparent.

    Args:
        layers: one or three, of the same ground.
        unit: of the scene; backscatter is shown in dB.
        lut: from values to brightness.

    Returns:
        The image, or None where no pixel has data in all bands.
    """
    if [layer.band for layer in layers] == [SCL]:
        return _classes(layers[0])
    finest = min(layers, key=lambda layer: layer.grid.res_m).grid
    scaled = [_to_db(_resample(layer, finest), unit) for layer in layers]
    valid = np.logical_and.reduce([layer.valid for layer in scaled])
    if not valid.any():
        return None
    bands = [_bytes(layer.values, valid, lut, n) for n, layer in enumerate(scaled)]
    bands += [] if valid.all() else [valid.astype(np.uint8) * 255]
    # One band becomes mode L, two LA, three RGB, four RGBA.
    return Image.fromarray(np.dstack(bands) if len(bands) > 1 else bands[0])


def _resample(layer: BandLayer, grid: Grid) -> BandLayer:
    if layer.grid == grid:
        return layer
    step = grid.res_m / layer.grid.res_m
    rows = ((np.arange(grid.height_px) + 0.5) * step).astype(int)
    cols = ((np.arange(grid.width_px) + 0.5) * step).astype(int)
    nearest = np.ix_(rows, cols)
    return BandLayer(layer.band, grid, layer.values[nearest], layer.valid[nearest], layer.nodata)


def _to_db(layer: BandLayer, unit: str) -> BandLayer:
    if UNITS[unit].in_decibels is None:
        return layer
    valid = layer.valid & (layer.values > 0)
    values = 10 * np.log10(np.where(valid, layer.values, 1))
    return BandLayer(layer.band, layer.grid, values, valid, None)


def _bytes(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], lut: Lut, position: int
) -> npt.NDArray[np.uint8]:
    low, high = lut.range(position, values[valid])
    scaled = np.where(valid, values, low).astype(np.float64) - low
    scaled *= 255 / max(high - low, 1e-12)
    return np.clip(scaled + 0.5, 0, 255).astype(np.uint8)


def _classes(layer: BandLayer) -> Image.Image | None:
    known = layer.valid & (layer.values >= 0) & (layer.values < len(SCENE_CLASSES))
    if not known.any():
        return None
    image = Image.fromarray(np.where(known, layer.values, 0).astype(np.uint8), mode="P")
    image.putpalette(bytes.fromhex("".join(each.colour for each in SCENE_CLASSES)))
    image.info["transparency"] = 0
    return image


def to_png(image: Image.Image) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def to_geotiff(layer: BandLayer, unit: str, reference: str, obstime: datetime) -> bytes:
    """A GeoTIFF file of one band, with its product, unit and time in tags."""
    with MemoryFile() as memory:
        profile = raster_profile(layer.grid) | {"count": 1, "dtype": layer.values.dtype}
        predictor = 3 if layer.values.dtype.kind == "f" else 2
        with memory.open(**profile, nodata=layer.nodata, predictor=predictor) as raster:
            raster.write(layer.values, 1)
            raster.set_band_description(1, layer.band)
            raster.update_tags(
                TIFFTAG_DATETIME=f"{obstime:%Y:%m:%d %H:%M:%S}",
                TIFFTAG_COPYRIGHT=f"Contains modified Copernicus Sentinel data {obstime:%Y}",
                reference=reference,
                unit="class" if layer.band == SCL else unit,
            )
        return bytes(memory.read())


def raster_profile(grid: Grid) -> dict[str, Any]:
    """Rasterio's profile of a compressed GeoTIFF on a grid."""
    return {
        "driver": "GTiff",
        "height": grid.height_px,
        "width": grid.width_px,
        "crs": CRS.from_epsg(grid.epsg),
        "transform": Affine(grid.res_m, 0, grid.west_m, 0, -grid.res_m, grid.north_m),
        "compress": "deflate",
    }
