"""Rasters opened by GDAL with the drivers that are meant, and no other."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rasterio.env import ensure_env
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from card.make.annotation import Annotation
from store.errors import SceneError

_open: Callable[..., DatasetReader] = ensure_env(DatasetReader)
"""The class itself registers no driver of GDAL's, unlike rasterio.open, which takes one only."""


def open_dataset(name: str, drivers: Sequence[str]) -> DatasetReader:
    """Open a raster for reading, georeferenced or not.

    Args:
        name: a path, or the text of a VRT that this program wrote.
        drivers: GDAL's drivers that may open it; others could reach beyond the file.

    Raises:
        SceneError: none of them can.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return _open(name, driver=list(drivers))
    except RasterioError as error:
        raise SceneError(f"{name[:200]} cannot be read as a raster: {error}") from error


@contextmanager
def open_measurement(
    path: Path, described: Annotation, dtype: str, words: str
) -> Iterator[DatasetReader]:
    """Open the pixels of a Level-1 product.

    Args:
        path: a TIFF.
        described: its annotation.
        dtype: with which the name of the pixels' type must begin.
        words: what such pixels are called in messages.

    Raises:
        SceneError: it has other pixels, or not all of them.
    """
    with open_dataset(str(path), ["GTiff"]) as dataset:
        shape = described.lines, described.samples
        if dataset.shape != shape or not str(dataset.dtypes[0]).startswith(dtype):
            raise SceneError(
                f"{path} has {dataset.height} x {dataset.width} {dataset.dtypes[0]} pixels, its "
                f"annotation says {described.lines} x {described.samples} {words}"
            )
        _refuse_truncated(path, dataset)
        yield dataset


def _refuse_truncated(path: Path, dataset: DatasetReader) -> None:
    """Compare a TIFF's size with where its last pixel lies.

    GDAL reads pixels beyond the end of an uncompressed file as whatever is in memory.

    Raises:
        SceneError: it ends before.
    """
    rows, columns = dataset.block_shapes[0]
    last = f"{(dataset.width - 1) // columns}_{(dataset.height - 1) // rows}"
    offset, size = (
        int(dataset.get_tag_item(f"BLOCK_{what}_{last}", "TIFF", bidx=1) or 0)
        for what in ("OFFSET", "SIZE")
    )
    if offset + size > path.stat().st_size:
        raise SceneError(f"{path} is damaged: it ends before its last pixel")
