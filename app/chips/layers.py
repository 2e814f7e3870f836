"""The pixels of a chip, read straight from the scene's files."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.chips.scenes import ChipScene
from app.chips.window import CELL_M, ChipWindow, chip_grid
from store import objects, units
from store.catalogue import BandSource
from store.errors import ConfigError, SceneError
from store.grid import Grid
from store.kinds import SCL
from store.raster import BandReader, open_band

_MAX_BLOCK_BYTES = 64 << 20
"""Several images are made at once, in a container that holds little more than their blocks."""

_NODATA_SHIFTED = -9999
"""Beside values with an offset, where 0 may be a value; an offset is -1000 at most so far."""


@dataclass(frozen=True)
class BandLayer:
    """The pixels of one band of a chip.

    Attributes:
        band: its name.
        grid: of the pixels.
        values: [row, col] in the scene's unit, nodata where not valid: int32 for integers of up to
            16 bits with the offset added (even 0), float32 for integers with a broken offset, else
            the file's dtype (float64 if the file states a scale); as delivered the file's own.
        valid: bool[row, col], True where there are data.
        nodata: value of pixels without data; None where all are valid and the file names none.
    """

    band: str
    grid: Grid
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    nodata: float | None


def read_layers(
    scene: ChipScene, bands: Sequence[str], window: ChipWindow, *, delivered: bool
) -> list[BandLayer] | None:
    """The bands of one scene, all of the same ground, each on its own pixels.

    Args:
        scene: of the catalogue.
        bands: names, in the order wanted.
        window: the ground to show.
        delivered: leave the product's offset out.

    Returns:
        A layer per band, or None if the scene has no data there in any of them.

    Raises:
        SceneError: a band cannot be read, or is not there.
        ObjectStoreError: the object store does not answer.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(_open(scene.bands[band])) for band in bands]
        cell_m = max(CELL_M, *(reader.grid.res_m for reader in readers))
        layers = []
        for band, reader in zip(bands, readers, strict=True):
            grid = chip_grid(window, reader.grid, cell_m)
            if grid is None:
                return None
            layers.append(_layer(band, reader, scene.bands[band], grid, delivered))
    return layers if any(layer.valid.any() for layer in layers) else None


def _open(source: BandSource) -> Any:
    try:
        path = objects.gdal_path(source.href)
    except ConfigError as error:
        raise SceneError(str(error)) from error  # one scene's address ends no other's image
    return open_band(path, source.index, source.extent, _MAX_BLOCK_BYTES)


def _layer(
    band: str, reader: BandReader, source: BandSource, grid: Grid, delivered: bool
) -> BandLayer:
    nodata = source.no_data(reader.nodata)
    if nodata is None and band == SCL:
        nodata = 0.0  # class 0 of ESA's scene classification is "no data"
    values, valid = _read(reader, grid)
    valid &= np.isfinite(values)
    if nodata is not None and units.holds(values.dtype, nodata):
        valid &= values != values.dtype.type(nodata)
    else:
        nodata = None
    if delivered or band == SCL:
        return BandLayer(band, grid, *_fill(values, valid, nodata))
    values, valid, nodata = _add_offset(values, valid, nodata, source.offset)
    if source.factor != 1:
        values, nodata = np.where(valid, values * source.factor, np.nan), np.nan
    return BandLayer(band, grid, values, valid, nodata)


def _read(reader: BandReader, grid: Grid) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Values of a chip, zero outside the raster; and bool[row, col], True inside it."""
    values = np.zeros((grid.height_px, grid.width_px), reader.dtype)
    inside = np.zeros(values.shape, bool)
    row = round((reader.grid.north_m - grid.north_m) / grid.res_m)
    col = round((grid.west_m - reader.grid.west_m) / grid.res_m)
    top, left = max(row, 0), max(col, 0)
    bottom = min(row + grid.height_px, reader.grid.height_px)
    right = min(col + grid.width_px, reader.grid.width_px)
    if top < bottom and left < right:
        part = slice(top - row, bottom - row), slice(left - col, right - col)
        values[part] = reader.read(top, bottom, left, right)
        inside[part] = True
    return values, inside


def _add_offset(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], nodata: float | None, offset: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], float | None]:
    """Values plus the offset in a dtype that loses nothing, nodata where not valid; and nodata."""
    floats = values.dtype.kind == "f"
    if not floats and values.dtype.itemsize <= 2 and float(offset).is_integer():
        return _fill(values.astype(np.int32) + np.int32(offset), valid, _NODATA_SHIFTED)
    if not offset:
        return _fill(values, valid, nodata)
    wide = values.dtype if floats else np.dtype(np.float32)
    return _fill((values + offset).astype(wide), valid, np.nan)


def _fill(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], nodata: float | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], float | None]:
    """Values with nodata where not valid; and nodata, 0 or NaN if pixels need one."""
    if nodata is None and not valid.all():
        nodata = np.nan if values.dtype.kind == "f" else 0
    if nodata is not None:
        values[~valid] = nodata
    return values, valid, nodata
