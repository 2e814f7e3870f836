"""Reading the bands of scenes by windows, wherever GDAL can read them from.

A reader belongs to the thread that opened it; so does the setting up of GDAL (`gdal_env`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio._err as gdal_errors
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.session import DummySession
from rasterio.windows import Window

from store.errors import (
    BandMissingError,
    CbmError,
    MissingFactError,
    ObjectStoreError,
    SceneError,
)
from store.grid import Grid

__all__ = ["BandReader", "gdal_env", "open_band"]

_CACHE_MB = 64
"""GDAL's block cache. Each block is read once, so it only has to hold what one read passes."""

_CHUNK_BYTES = 8 * 2**20
"""What is read at once of a raster without tiles."""

_GONE = (gdal_errors.CPLE_AWSBucketNotFoundError, gdal_errors.CPLE_AWSObjectNotFoundError)
_GONE_FROM_THE_WEB = {"HTTP response code: 404", "HTTP response code: 410"}
_AWAY = (
    gdal_errors.CPLE_AWSAccessDeniedError,
    gdal_errors.CPLE_AWSError,
    gdal_errors.CPLE_AWSInvalidCredentialsError,
    gdal_errors.CPLE_AWSSignatureDoesNotMatchError,
    gdal_errors.CPLE_HttpResponseError,
)


@dataclass(frozen=True)
class BandReader:
    """One band of an open raster.

    Attributes:
        path: as GDAL knows it.
        grid: where its pixels lie.
        dtype: type of its pixels, in native byte order.
        nodata: the file's own "no data" value, if it states one.
        block_shape_px: (rows, columns) of the blocks in which it is cheaply read: its tiles, or
            about 8 MiB of whole rows of a raster without tiles.
        description: the band's name in the file, '' if it has none.
        masked: a mask or an alpha band tells which pixels are valid, not a value of theirs.
    """

    path: str
    grid: Grid
    dtype: np.dtype[Any]
    nodata: float | None
    block_shape_px: tuple[int, int]
    description: str
    masked: bool
    _dataset: Any
    _index: int

    def read(self, row0: int, row1: int, col0: int, col1: int) -> npt.NDArray[Any]:
        """Read the pixels of a window, ends excluded.

        Returns:
            values[row1 - row0, col1 - col0], C-contiguous, of the band's dtype.

        Raises:
            IndexError: the window is empty or not inside the raster.
            SceneError: the file is damaged.
            ObjectStoreError: the file cannot be reached any more. The reader is then of no use.
        """
        if not (0 <= row0 < row1 <= self.grid.height_px and 0 <= col0 < col1 <= self.grid.width_px):
            raise IndexError(f"{self.path} has no window {row0}:{row1}, {col0}:{col1}")
        window = Window(col0, row0, col1 - col0, row1 - row0)
        try:
            values: npt.NDArray[Any] = self._dataset.read(self._index, window=window)
        except RasterioIOError as error:
            raise self._blamed(error) from error
        return values

    def _blamed(self, error: RasterioIOError) -> CbmError:
        """Tell a damaged file from a lost one, whose errors GDAL words alike, by opening it anew.

        GDAL forgets what it knows of a remote file once that is closed (see
        objects.gdal_options), so it has to ask again.
        """
        self._dataset.close()
        try:
            _open(self.path).close()
        except CbmError as reason:
            return reason
        return SceneError(f"{self.path} is damaged: {_innermost(error)}")


def gdal_env(options: Mapping[str, str] = MappingProxyType({})) -> rasterio.Env:
    """Set GDAL up for reading blocks once each: a context, to be entered by each reading thread.

    Args:
        options: GDAL's settings for the object store, from objects.gdal_options.
    """
    # Credentials are GDAL's own business: rasterio would ask boto3 for them, at a setting apart.
    return rasterio.Env(
        session=DummySession(),
        GDAL_CACHEMAX=_CACHE_MB,
        # Workers are spread over bands and scenes; decoders with threads of their own would
        # fight for the same cores.
        GDAL_NUM_THREADS=1,
        **options,
    )


@contextmanager
def open_band(path: str, index: int = 1) -> Iterator[BandReader]:
    """Open one band of a raster, within `gdal_env`.

    Args:
        path: as GDAL knows it: a local path, or what objects.gdal_path makes of an address.
        index: 1-based number of the band.

    Raises:
        BandMissingError: there is no such file, though its archive is there.
        MissingFactError: the file does not say where its pixels lie.
        SceneError: it is no raster, or not one of north-up square pixels in a metric CRS.
        ObjectStoreError: the file cannot be reached.
    """
    with _open(path) as dataset:
        if not 1 <= index <= dataset.count:
            raise SceneError(f"{path} has {dataset.count} bands, no band {index}")
        dtype = _dtype(path, dataset.dtypes[index - 1])
        block_shape = dataset.block_shapes[index - 1]
        yield BandReader(
            path=path,
            grid=_grid(path, dataset),
            dtype=dtype,
            nodata=dataset.nodatavals[index - 1],
            block_shape_px=_cheap_block(dataset.shape, block_shape, dtype.itemsize),
            description=dataset.descriptions[index - 1] or "",
            masked=MaskFlags.per_dataset in dataset.mask_flag_enums[index - 1],
            _dataset=dataset,
            _index=index,
        )


def _open(path: str) -> Any:
    # Of a remote file GDAL may answer from before its store went away; the second time it asks.
    for last in (not path.startswith("/vsi"), True):
        try:
            return rasterio.open(path)
        except RasterioIOError as error:
            reason = _translated(path, error)
            if last or type(reason) is not SceneError:
                raise reason from error
    raise AssertionError("the second try returns or raises")


def _translated(path: str, error: RasterioIOError) -> CbmError:
    reason = error.__context__
    if isinstance(reason, _GONE) or str(error) in _GONE_FROM_THE_WEB:
        return BandMissingError(f"{path} is not there: {error}")
    if isinstance(reason, _AWAY):
        return ObjectStoreError(
            f"{path} cannot be read from the object store: {error}; check AWS_ENDPOINT_URL, "
            "AWS_CA_BUNDLE, the credentials and the network"
        )
    if not path.startswith("/vsi") and (flaw := _local_flaw(path)):
        return flaw
    return SceneError(f"{path} cannot be read as a raster: {error}")


def _local_flaw(path: str) -> CbmError | None:
    """What keeps a file from being read at all, which GDAL does not tell."""
    file = path.removeprefix("vrt://").partition("?")[0] if path.startswith("vrt://") else path
    try:
        Path(file).open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        if empty := _empty_folder_above(Path(file)):
            return ObjectStoreError(f"{file} is not there, and {empty} is empty: is it mounted?")
        return BandMissingError(f"{file} is not there")
    except IsADirectoryError:
        return SceneError(f"{file} is a folder, not a raster")
    except OSError as error:
        return ObjectStoreError(f"{file} cannot be read: {error.strerror}")
    return None


def _empty_folder_above(file: Path) -> Path | None:
    """The nearest folder above a missing file, if it holds nothing: an archive that is away."""
    nearest = next(folder for folder in file.absolute().parents if folder.exists())
    return nearest if nearest.is_dir() and not any(nearest.iterdir()) else None


def _innermost(error: BaseException) -> BaseException:
    """The first thing that went wrong, which GDAL's later messages hide."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error


def _dtype(path: str, name: str) -> np.dtype[Any]:
    if name.startswith("complex"):
        raise SceneError(f"{path} has {name} pixels; only integers and real numbers are reduced")
    return np.dtype(name)


def _grid(path: str, dataset: Any) -> Grid:
    if not dataset.crs:
        raise MissingFactError(f"{path} does not say its CRS")
    if dataset.transform.is_identity:
        raise MissingFactError(f"{path} does not say where its pixels lie")
    try:
        epsg = _epsg(dataset.crs)
        return Grid.from_transform(epsg, tuple(dataset.transform)[:6], *dataset.shape)
    except SceneError as error:
        raise type(error)(f"{path}: {error}") from error


def _epsg(crs: CRS) -> int:
    """Code of a CRS; rasterio also finds it for nameless ones, such as "WGS84 / Auto UTM"."""
    if not crs.is_projected or crs.linear_units_factor[1] != 1.0:
        raise SceneError(f"its CRS is not a projected one in metres but {crs}; reproject it")
    code: int | None = crs.to_epsg()
    if code is None:
        raise SceneError(f"its CRS has no EPSG code: {crs}; reproject it")
    return code


def _cheap_block(
    shape: tuple[int, int], block_shape: tuple[int, int], itemsize: int
) -> tuple[int, int]:
    (height, width), (rows, columns) = shape, block_shape
    if columns < width:
        return rows, columns
    strips = max(1, _CHUNK_BYTES // (rows * width * itemsize))
    return min(height, rows * strips), width
