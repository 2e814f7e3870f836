"""What a chip looks like: composites for people as PNG, values for programs as GeoTIFF."""

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

from app.chips.layers import Layer
from store.grid import Grid
from store.products import SCL

# Colours of the twelve classes as in ESA's legend of the scene classification.
_CLASS_COLOURS = (
    "000000 ff0000 2f2f2f 643200 00a000 ffe65a 0000ff 808080 c0c0c0 ffffff 64c8ff ff96ff"
)
_NUMBER = r"-?[0-9]{1,6}(?:\.[0-9]{1,6})?"
_LUT = re.compile(rf"{_NUMBER}_{_NUMBER}(?:(?:_{_NUMBER}){{4}})?")


@dataclass(frozen=True)
class Lut:
    """How values become brightness: two percentiles, or low and high of three bands.

    Attributes:
        limits: two percentiles, or low, high, low, high, low, high in the scene's unit (dB for
            backscatter).
    """

    limits: tuple[float, ...]

    @classmethod
    def read(cls, text: str) -> "Lut":
        """Read 5_95 or 0_2000_0_2000_0_4000.

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
        """As in a request, always the same for the same limits."""
        return "_".join(f"{limit:.10g}" for limit in self.limits)

    def range(self, position: int, values: npt.NDArray[Any]) -> tuple[float, float]:
        """What becomes black and what white in the band at a position (0 to 2)."""
        if len(self.limits) == 2:
            low, high = np.percentile(values, self.limits)
            return float(low), float(high)
        return self.limits[2 * position], self.limits[2 * position + 1]


DEFAULT_LUT = Lut((5.0, 95.0))


def composite(layers: Sequence[Layer], unit: str, lut: Lut) -> Image.Image | None:
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
    shown = [_in_db(_on(layer, finest), unit) for layer in layers]
    valid = np.logical_and.reduce([layer.valid for layer in shown])
    if not valid.any():
        return None
    bands = [_bytes(layer.values, valid, lut, n) for n, layer in enumerate(shown)]
    bands += [] if valid.all() else [valid.astype(np.uint8) * 255]
    # One band becomes mode L, two LA, three RGB, four RGBA.
    return Image.fromarray(np.dstack(bands) if len(bands) > 1 else bands[0])


def _on(layer: Layer, grid: Grid) -> Layer:
    if layer.grid == grid:
        return layer
    step = grid.res_m / layer.grid.res_m
    rows = ((np.arange(grid.height_px) + 0.5) * step).astype(int)
    cols = ((np.arange(grid.width_px) + 0.5) * step).astype(int)
    picked = np.ix_(rows, cols)
    return Layer(layer.band, grid, layer.values[picked], layer.valid[picked], layer.nodata)


def _in_db(layer: Layer, unit: str) -> Layer:
    if unit not in {"gamma0_linear", "sigma0_linear"}:
        return layer
    valid = layer.valid & (layer.values > 0)
    values = 10 * np.log10(np.where(valid, layer.values, 1))
    return Layer(layer.band, layer.grid, values, valid, None)


def _bytes(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], lut: Lut, position: int
) -> npt.NDArray[np.uint8]:
    low, high = lut.range(position, values[valid])
    scaled = np.where(valid, values, low).astype(np.float64) - low
    scaled *= 255 / max(high - low, 1e-12)
    return np.clip(scaled + 0.5, 0, 255).astype(np.uint8)


def _classes(layer: Layer) -> Image.Image | None:
    if not layer.valid.any():
        return None
    image = Image.fromarray(layer.values.astype(np.uint8), mode="P")
    image.putpalette(bytes.fromhex(_CLASS_COLOURS))
    image.info["transparency"] = 0
    return image


def png(image: Image.Image) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def geotiff(layer: Layer, unit: str, reference: str, obstime: datetime) -> bytes:
    """A GeoTIFF file of one band, that says what it is and where from."""
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
    """What rasterio needs to write a compressed GeoTIFF on a grid."""
    return {
        "driver": "GTiff",
        "height": grid.height_px,
        "width": grid.width_px,
        "crs": CRS.from_epsg(grid.epsg),
        "transform": Affine(grid.res_m, 0, grid.west_m, 0, -grid.res_m, grid.north_m),
        "compress": "deflate",
    }


def tidy(name: str) -> str:
    """A product name as the first part of a file name: without dots, which clients cut at."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)
