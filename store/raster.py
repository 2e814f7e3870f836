"""Reading the bands of scenes by windows, wherever GDAL can read them from.

A reader belongs to the thread that opened it; so does the setting up of GDAL (`gdal_env`).
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio._err as gdal_errors
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.session import DummySession
from rasterio.windows import Window

from store.errors import (
    BandMissingError,
    CbmError,
    MissingFactError,
    ObjectStoreError,
    SceneError,
)
from store.grid import Extent, Grid

DRIVERS = ("GTiff", "JP2OpenJPEG", "ENVI")
"""The only formats of scenes (COG is GTiff's). GDAL would open whatever a file holds, and some of
its formats lead on to other files and addresses."""

_ALONE = frozenset({".tif", ".tiff", ".jp2"})
"""Endings of files that need none beside them; ENVI's rasters have a header."""

_CACHE_MB = 64
"""GDAL's block cache. Each block is read once, so it only has to hold what one read passes."""

_CHUNK_BYTES = 8 * 2**20
"""What is read at once of a raster without tiles."""

_MAX_BLOCK_BYTES = 1 << 29
"""Of a block once it is decoded. GDAL makes room for a whole one, whatever is read of it; a file of
a megabyte may have a block of gigabytes."""

_DECODER_BYTES = {"JP2OpenJPEG": 4}
"""That a decoder takes for each pixel, beside the pixel itself."""

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
        driver: GDAL's name of its format.
    """

    path: str
    grid: Grid
    dtype: np.dtype[Any]
    nodata: float | None
    block_shape_px: tuple[int, int]
    description: str
    masked: bool
    driver: str
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
        """The error of a damaged or lost file, whose errors GDAL words alike, by opening it again.

        GDAL keeps nothing of a remote file once that is closed (see objects.gdal_options), so it
        reads it again.
        """
        self._dataset.close()
        try:
            open_dataset(self.path).close()
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
def open_band(
    path: str,
    index: int = 1,
    extent: Extent | None = None,
    max_block_bytes: int = _MAX_BLOCK_BYTES,
) -> Iterator[BandReader]:
    """Open one band of a raster, within `gdal_env`.

    Args:
        path: as GDAL knows it: a local path, or what objects.gdal_path makes of an address.
        index: 1-based number of the band.
        extent: where it lies, of a file that does not say so itself.
        max_block_bytes: of a block of the file once it is decoded.

    Raises:
        BandMissingError: there is no such file, though its archive is there.
        MissingFactError: the file does not say where its pixels lie.
        SceneError: it is no raster, or not one of north-up square pixels in a metric CRS, or its
            blocks are too large.
        ObjectStoreError: the file cannot be reached.
    """
    with open_dataset(path) as dataset:
        if not 1 <= index <= dataset.count:
            raise SceneError(f"{path} has {dataset.count} bands, no band {index}")
        dtype = _dtype(path, dataset.dtypes[index - 1])
        block_shape = dataset.block_shapes[index - 1]
        _refuse_blocks(path, dataset, block_shape, dtype.itemsize, max_block_bytes)
        yield BandReader(
            path=path,
            grid=dataset_grid(path, dataset, extent),
            dtype=dtype,
            nodata=dataset.nodatavals[index - 1],
            block_shape_px=_cheap_block(dataset.shape, block_shape, dtype.itemsize),
            description=dataset.descriptions[index - 1] or "",
            masked=has_mask(dataset, index),
            driver=dataset.driver,
            _dataset=dataset,
            _index=index,
        )


@contextmanager
def open_copy(reader: BandReader, file: bytes) -> Iterator[BandReader]:
    """Read a band's pixels from another file of the same raster and format, in memory.

    Raises:
        SceneError: it cannot be opened, or is not of the same shape and type.
    """
    with ExitStack() as opened:
        try:
            memory = opened.enter_context(MemoryFile(file))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # its grid is the reader's
                dataset = opened.enter_context(memory.open(driver=reader.driver))
        except RasterioIOError as error:
            raise SceneError(f"a copy of {reader.path} cannot be read: {error}") from error
        if dataset.shape != (reader.grid.height_px, reader.grid.width_px):
            raise SceneError(f"a copy of {reader.path} has another shape: {dataset.shape}")
        if dataset.dtypes[reader._index - 1 :][:1] != (reader.dtype.name,):
            raise SceneError(f"a copy of {reader.path} has other pixels: {dataset.dtypes}")
        yield replace(reader, _dataset=dataset)


def has_mask(dataset: Any, index: int) -> bool:
    """Whether a mask or an alpha band of an open raster tells which pixels of a band are valid.

    To GDAL an alpha band of floating-point numbers is no mask.
    """
    flagged = MaskFlags.per_dataset in dataset.mask_flag_enums[index - 1]
    return flagged or ColorInterp.alpha in dataset.colorinterp


def open_dataset(path: str) -> Any:
    """Open a raster of one of `DRIVERS`; no folder is listed, and beside a remote one none is read.

    Raises:
        BandMissingError, SceneError, ObjectStoreError: as `open_band`.
    """
    # Of a remote file GDAL may answer from before its store went away; the second time it asks.
    for last in (not path.startswith("/vsi"), True):
        try:
            return _checked(path, _opened(path))
        except RasterioIOError as error:
            reason = _translated(path, error)
            if last or type(reason) is not SceneError:
                raise reason from error
    raise AssertionError("the second try returns or raises")


def _opened(path: str) -> Any:
    alone = path.startswith("/vsi") and PurePath(unquote(path)).suffix.lower() in _ALONE
    beside = "EMPTY_DIR" if alone else "TRUE"
    env = rasterio.Env(session=DummySession(), GDAL_DISABLE_READDIR_ON_OPEN=beside)
    with env, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `dataset_grid` looks at that
        # rasterio.open takes one driver only.
        return DatasetReader(path, driver=list(DRIVERS))


def _checked(path: str, dataset: Any) -> Any:
    """Refuse a raster that would lead GDAL on to another file, for overviews or for a mask."""
    named = dataset.tags(ns="OVERVIEWS") or dataset.tags(ns="ProxyOverviewRequest")
    if named or not all(map(_is_tiff, (f"{path}.ovr", f"{path}.msk"))):
        dataset.close()
        raise SceneError(f"{path} leads on to another file for its overviews or mask: remove that")
    if dataset.driver == "ENVI" and not path.startswith("/vsi") and not _has_header(path):
        dataset.close()
        raise SceneError(f"{path} is a link to a file that has no ENVI header beside it: remove it")
    return dataset


def _has_header(path: str) -> bool:
    """Whether the file that a local path ends at has a header: else a link made it a raster."""
    file = Path(path).resolve()
    names = {f"{file.name}.hdr".lower(), f"{file.stem}.hdr".lower()}
    return any(other.name.lower() in names for other in file.parent.iterdir())


def _is_tiff(path: str) -> bool:
    """Whether a local file is a TIFF, or not there."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return True


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
    return SceneError(f"{path}: not a readable raster: {error}")


def _local_flaw(path: str) -> CbmError | None:
    """What keeps a file from being read at all, which GDAL does not tell."""
    try:
        Path(path).open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        if empty := _empty_folder_above(Path(path)):
            return ObjectStoreError(f"{path} is not there, and {empty} is empty: is it mounted?")
        return BandMissingError(f"{path} is not there")
    except IsADirectoryError:
        return SceneError(f"{path} is a folder, not a raster")
    except (OSError, ValueError) as error:
        return ObjectStoreError(f"{path} cannot be read: {getattr(error, 'strerror', error)}")
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


def dataset_grid(path: str, dataset: Any, extent: Extent | None = None) -> Grid:
    """Where the pixels of an open raster lie.

    Args:
        path: its name, for messages.
        dataset: what `open_dataset` opened.
        extent: where it lies, if it does not say so itself.

    Raises:
        MissingFactError: neither says so.
        SceneError: its grid is not one of north-up square pixels in a metric CRS with a code.
    """
    if not dataset.crs and dataset.gcps[0]:
        raise SceneError(
            f"{path} is placed by ground control points alone: warp it (gdalwarp -t_srs EPSG:326xx)"
        )
    if not dataset.crs and extent is None:
        raise MissingFactError(f"{path} does not say its CRS")
    if dataset.crs and dataset.transform.is_identity:
        raise MissingFactError(f"{path} does not say where its pixels lie")
    try:
        if extent and not dataset.crs:
            return Grid.from_extent(extent, *dataset.shape)
        epsg = _epsg(dataset.crs)
        return Grid.from_transform(epsg, tuple(dataset.transform)[:6], *dataset.shape)
    except SceneError as error:
        raise type(error)(f"{path}: {error}") from error


def _epsg(crs: CRS) -> int:
    """Code of a CRS; rasterio also finds it for nameless ones, such as "WGS84 / Auto UTM"."""
    if not crs.is_projected or crs.linear_units_factor[1] != 1.0:
        raise SceneError(
            f"its CRS is not a projected one in metres but {crs}: reproject it, such as to the UTM "
            "zone (gdalwarp -t_srs EPSG:326xx; in SNAP, choose UTM / WGS 84 as map projection)"
        )
    code: int | None = crs.to_epsg()
    if code is None:
        raise SceneError(f"its CRS has no EPSG code: {crs}; reproject it")
    return code


def _refuse_blocks(
    path: str, dataset: Any, shape: tuple[int, int], itemsize: int, max_bytes: int
) -> None:
    rows, columns = shape
    bands = dataset.count if dataset.interleaving is Interleaving.pixel else 1
    decoded = rows * columns * bands * (itemsize + _DECODER_BYTES.get(dataset.driver, 0))
    if decoded > max_bytes:
        raise SceneError(
            f"{path} has blocks of {columns} x {rows} pixels and {bands} bands, which take "
            f"{decoded >> 20} MiB each when they are decoded, and {max_bytes >> 20} MiB are the "
            "most: tile the file (gdal_translate -co TILED=YES, or -of COG)"
        )


def _cheap_block(
    shape: tuple[int, int], block_shape: tuple[int, int], itemsize: int
) -> tuple[int, int]:
    (height, width), (rows, columns) = shape, block_shape
    if columns < width:
        return rows, columns
    strips = max(1, _CHUNK_BYTES // (rows * width * itemsize))
    return min(height, rows * strips), width
