"""Facts in raster files: bands, CRS, data type, nodata, outline."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from card.find.facts import (
    DECIBELS,
    BandFacts,
    Facts,
    combine,
    direction_of,
    finest,
    refuse_rivals,
)
from card.find.footprint import from_bounds
from store.errors import SceneError
from store.grid import Extent, Grid
from store.kinds import MASK, bands_by_stac_name
from store.raster import dataset_grid, has_mask, open_dataset
from store.units import UNITS

SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".img", ".vrt"})
"""Endings of files that may be rasters; a VRT is refused by name when it is opened."""

_SAMPLE_PX = 1024
"""Rows and columns of a sample, at most; overviews make it quick."""

_WINDOWS, _WINDOW_PX = 4, 256
"""Windows per side, and their pixels per side, of a sample of a raster without overviews."""

_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?P<s2>B\d{1,2}A?|SCL)|(?:(?P<calibration>gamma0|sigma0|coh)_)?(?P<s1>VV|VH)"
    r"(?P<db>_db)?)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_OTHER_QUANTITY = re.compile(
    r"beta0|amplitude|intensity|phase|ifg|i|q|real|imag|std|stdev|stddev|var|variance|unc|error|"
    r"noise|np|angle|incidence|toa|qa|qi|quality|flags?|count|weights?|msk|\w*mask",
    re.IGNORECASE,
)
"""Words beside a band's name that make it something else: of SNAP, of NRB products, of masks."""

_WORD_ENDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])")

_DECIBELS = frozenset({DECIBELS, "[db]", "decibel", "decibels", "intensity_db"})
"""Units of decibels as tools write them; the last is SNAP's."""

_OTHER_UNITS = ("amplitude", "beta", "phase", "rad", "deg", "percent", "%")
"""Beginnings of the units of other quantities than reflectance, power and coherence."""

_RESOLUTION = re.compile(r"_(\d+)m$")


def band_name(text: str) -> str | None:
    """The band that a description or file stem names: B04 (also B4), SCL, VV ...; None if none.

    A text that names several bands names none; nor does one that says that it is something else of
    the band, such as its mask.
    """
    if text in bands_by_stac_name().values():
        return text
    if any(map(_OTHER_QUANTITY.fullmatch, _WORD_ENDS.split(text))):
        return None
    names = {_normal(match) for match in _TOKEN.finditer(text)}
    return names.pop() if len(names) == 1 else None


def without_band(stem: str) -> str:
    """A file stem without its band and resolution, common to the files of one scene."""
    return _TOKEN.sub("", _RESOLUTION.sub("", stem)).strip("_-. ")


def unit_of(text: str) -> str | None:
    """The unit that a band name of SNAP's implies: Gamma0_VV is linear, Sigma0_VH_db in dB."""
    match = next((m for m in _TOKEN.finditer(text) if m["calibration"]), None)
    if match is None:
        return None
    if match["calibration"].lower() == "coh":
        return "coherence"
    return f"{match['calibration'].lower()}_{'db' if match['db'] else 'linear'}"


def facts(
    sources: Iterable[Path | str], order: tuple[str, ...] = (), extent: Extent | None = None
) -> Facts:
    """The facts of all files of one scene; each band at its finest resolution.

    Args:
        sources: raster files, or GDAL's names of remote ones; one band each or several.
        order: names of the bands in a file, where a description states them; else the files'
            band descriptions count, and the file name of a file with one band.
        extent: where files lie that do not say so themselves.

    Raises:
        SceneError: a file cannot be opened or used, has another number of bands than `order`, or
            files differ in CRS, or hold one band twice.
        ObjectStoreError: a file cannot be reached.
    """
    read = [_file_facts(source, order, extent) for source in sources]
    systems = {facts.epsg for facts in read} - {None}
    if len(systems) > 1:
        raise SceneError(f"files of one scene differ in CRS: {systems}")
    known = [pair for facts in read for pair in facts.bands.items()]
    refuse_rivals(known)
    return combine(Facts(bands=finest(known)), *(replace(s, bands={}) for s in read))


def is_georeferenced(path: Path) -> bool:
    """Whether a file says where its pixels lie.

    Raises:
        SceneError: GDAL cannot open it.
    """
    with open_dataset(str(path)) as dataset:
        return bool(dataset.crs)


def _file_facts(path: Path | str, order: tuple[str, ...], extent: Extent | None) -> Facts:
    with open_dataset(str(path)) as dataset:
        placed = dataset.crs or extent or dataset.gcps[0]
        grid = dataset_grid(str(path), dataset, extent) if placed else None
        named = [
            (name, _band_facts(path, dataset, index, text, grid))
            for index, text in enumerate(_texts(path, dataset, order), start=1)
            if (name := MASK if order and text == MASK else band_name(text))
        ]
        refuse_rivals(named)
        bands = dict(named)
        if extent is not None and not dataset.crs:
            bands = {name: replace(band, extent=extent) for name, band in bands.items()}
        return Facts(
            epsg=grid.epsg if grid else None,
            footprint=from_bounds(grid.epsg, *grid.bounds_m) if grid else None,
            orbit_direction=direction_of(dataset.tags().get("PASS", "")),
            bands=bands,
        )


def _band_facts(
    path: Path | str, dataset: DatasetReader, index: int, text: str, grid: Grid | None
) -> BandFacts:
    at = index - 1
    scale, offset = dataset.scales[at], dataset.offsets[at]
    coded = (scale, offset) != (1.0, 0.0)
    return BandFacts(
        href=str(path.absolute()) if isinstance(path, Path) else path,
        index=index,
        dtype=dataset.dtypes[at],
        nodata=dataset.nodatavals[at],
        unit=stated_unit(path, dataset.units[at], unit_of(text) or unit_of(Path(path).stem)),
        scale=scale if coded else None,
        # In the file's own unit; GDAL adds it after the scale. A zero is also GDAL's "not stated".
        offset=offset / scale if offset and scale else None,
        res_m=grid.res_m if grid else None,
        grid=grid,
        masked=has_mask(dataset, index) and _says_more(path, dataset, index),
        sample=_sample(path, dataset, index) if isinstance(path, Path) else None,
    )


def stated_unit(where: Path | str, text: str | None, named: str | None) -> str | None:
    """The unit of a band by a text that states one, and by the name of the band.

    Returns:
        The unit; `facts.DECIBELS` where only that is stated; None where nothing is.

    Raises:
        SceneError: it is of another quantity.
    """
    word = (text or "").strip().lower()
    if word in UNITS:
        return word
    if word.startswith(_OTHER_UNITS):
        raise SceneError(
            f"{where}: its values are amplitudes or another quantity ({text}): export reflectance, "
            "coherence, or the calibrated intensity (gamma0 or sigma0), which statistics are of"
        )
    if word not in _DECIBELS:
        return named
    return UNITS[named].in_decibels or named if named in UNITS else DECIBELS


def _says_more(path: Path | str, dataset: DatasetReader, index: int) -> bool:
    """Whether a mask leaves out pixels of other values than the file's "no data"; of windows."""
    nodata = dataset.nodatavals[index - 1]
    if nodata is None or not isinstance(path, Path):
        return nodata is None
    for window in _windows(*dataset.shape):
        masked = dataset.read_masks(index, window=window) == 0
        values = dataset.read(index, window=window)[masked]
        if not np.array_equal(values, np.full_like(values, nodata), equal_nan=True):
            return True
    return False


def _sample(path: Path, dataset: DatasetReader, index: int) -> npt.NDArray[Any]:
    """Finite values from all of a raster's area, one-dimensional, as stored.

    Raises:
        SceneError: the file is damaged.
    """
    try:
        values = _thinned(dataset, index).ravel()
    except RasterioIOError as error:
        raise SceneError(f"{path}: damaged: {error}") from error
    if values.dtype.kind == "c":
        raise SceneError(f"{path} has {values.dtype} pixels: only real numbers are reduced")
    finite: npt.NDArray[Any] = values[np.isfinite(values)]
    return finite


def _thinned(dataset: DatasetReader, index: int) -> npt.NDArray[Any]:
    height, width = dataset.shape
    step = max(height, width) / _SAMPLE_PX
    if step <= 1 or dataset.overviews(index):
        shape = (max(1, round(height / max(step, 1))), max(1, round(width / max(step, 1))))
        values: npt.NDArray[Any] = dataset.read(index, out_shape=shape)
        return values
    pieces = [dataset.read(index, window=window).ravel() for window in _windows(height, width)]
    return np.concatenate(pieces)


def _windows(height: int, width: int) -> Iterator[Window]:
    """Squares on a regular grid over a raster, corners included."""
    rows, cols = (min(_WINDOW_PX, size) for size in (height, width))
    for row in np.linspace(0, height - rows, _WINDOWS).astype(int).tolist():
        for col in np.linspace(0, width - cols, _WINDOWS).astype(int).tolist():
            yield Window(col, row, cols, rows)


def _texts(source: Path | str, src: DatasetReader, order: tuple[str, ...]) -> list[str]:
    """A text per band that may name it."""
    if order and len(order) != src.count:
        raise SceneError(f"{source}: described with {len(order)} bands, but has {src.count}")
    texts = list(order) or [text or "" for text in src.descriptions]
    if src.count == 1 and not band_name(texts[0]):
        return [Path(source).stem]
    return texts


def _normal(match: re.Match[str]) -> str:
    name: str = (match["s2"] or match["s1"]).upper()
    digits = re.fullmatch(r"B(\d)(A?)", name)
    return f"B0{digits[1]}" if digits and not digits[2] else name
