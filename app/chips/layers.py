"""Reading the pixels of a chip, straight from where a scene lies."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.chips.place import Place, chip_grid, coarsest_cell_m
from app.chips.scenes import ChipScene
from store import objects
from store.catalogue import BandSource
from store.grid import Grid
from store.products import SCL
from store.raster import BandReader, open_band

_NODATA_SHIFTED = -9999
"""Beside values with an offset, where 0 may be a value; an offset is -1000 at most so far."""


@dataclass(frozen=True)
class Layer:
    """One band of a chip.

    Attributes:
        band: its name.
        grid: where its pixels lie.
        values: [row, col], with the offset; nodata where not valid.
        valid: [row, col], where there are data.
        nodata: value that says there are none; None where all are valid and the file knows none.
    """

    band: str
    grid: Grid
    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    nodata: float | None


def read_layers(scene: ChipScene, bands: Sequence[str], place: Place) -> list[Layer] | None:
    """Read bands of one scene, all of the same ground, each on its own pixels.

    Returns:
        A layer per band, or None if the scene has no data there in any of them.

    Raises:
        SceneError: a band cannot be read, or is not there.
        ObjectStoreError: the object store does not answer.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(_opened(scene.bands[band])) for band in bands]
        cell_m = coarsest_cell_m(*(reader.grid.res_m for reader in readers))
        layers = []
        for band, reader in zip(bands, readers, strict=True):
            grid = chip_grid(place, reader.grid, cell_m)
            if grid is None:
                return None
            layers.append(_layer(band, reader, scene.bands[band], grid))
    return layers if any(layer.valid.any() for layer in layers) else None


def _opened(source: BandSource) -> Any:
    return open_band(objects.gdal_path(source.href), source.index)


def _layer(band: str, reader: BandReader, source: BandSource, grid: Grid) -> Layer:
    nodata = reader.nodata if source.nodata is None else source.nodata
    if nodata is None and band == SCL:
        nodata = 0.0  # class 0 of ESA's scene classification is "no data"
    values, valid = _window(reader, grid)
    valid &= ~np.isnan(values)
    if nodata is not None:
        valid &= values != nodata
    return Layer(band, grid, *_shifted(values, valid, nodata, source.offset))


def _window(reader: BandReader, grid: Grid) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Values of a chip, zero outside the raster, and where it is inside."""
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


def _shifted(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], nodata: float | None, offset: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], float | None]:
    """Add the offset in a type that loses nothing, and put nodata where there are no data."""
    floats = values.dtype.kind == "f"
    if offset and not floats and float(offset).is_integer():
        values, nodata = values.astype(np.int32) + np.int32(offset), _NODATA_SHIFTED
    elif offset:
        wide = values.dtype if floats else np.dtype(np.float32)
        values, nodata = (values + offset).astype(wide), np.nan
    elif nodata is None and not valid.all():
        nodata = np.nan if floats else 0
    if nodata is not None:
        values[~valid] = nodata
    return values, valid, nodata
