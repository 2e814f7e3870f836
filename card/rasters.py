"""What raster files say of themselves: bands, CRS, data type, nodata, outline."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from card.facts import BandFacts, Facts, combine, direction_of, finest
from card.footprint import from_bounds
from store.errors import SceneError

SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".img", ".vrt"})

_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?P<s2>B\d{1,2}A?|SCL)|(?:(?P<calibration>gamma0|sigma0|coh)_)?(?P<s1>VV|VH)"
    r"(?P<db>_db)?)(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_RESOLUTION = re.compile(r"_(\d+)m$")


def band_name(text: str) -> str | None:
    """The band that a description or file stem names: B04 (also B4), SCL, VV ...; None if none.

    A text that names several bands names none.
    """
    found = {_normal(match) for match in _TOKEN.finditer(text)}
    return found.pop() if len(found) == 1 else None


def without_band(stem: str) -> str:
    """A file stem without its band and resolution: what the files of one scene share."""
    return _TOKEN.sub("", _RESOLUTION.sub("", stem)).strip("_-. ")


def unit_of(text: str) -> str | None:
    """The unit that a band name of SNAP's implies: Gamma0_VV is linear, Sigma0_VH_db in dB."""
    match = next((m for m in _TOKEN.finditer(text) if m["calibration"]), None)
    if match is None:
        return None
    if match["calibration"].lower() == "coh":
        return "coherence"
    return f"{match['calibration'].lower()}_{'db' if match['db'] else 'linear'}"


def facts(sources: Iterable[Path | str], order: tuple[str, ...] = ()) -> Facts:
    """What the files of one scene say together; each band at its finest resolution.

    Args:
        sources: raster files, or GDAL's names of datasets; one band each or several.
        order: names of the bands in a file, where a description states them; else the files'
            band descriptions count, and the file name of a file with one band.

    Raises:
        SceneError: a file cannot be opened, has another number of bands than `order`, or files
            differ in CRS.
    """
    said = [_file_facts(source, order) for source in sources]
    systems = {facts.epsg for facts in said} - {None}
    if len(systems) > 1:
        raise SceneError(f"files of one scene differ in CRS: {systems}")
    bands = finest(pair for facts in said for pair in facts.bands.items())
    return combine(Facts(bands=bands), *(replace(s, bands={}) for s in said))


def open_raster(path: Path | str) -> DatasetReader:
    """Open a raster for reading.

    Raises:
        SceneError: GDAL cannot.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # looked at by the caller
            return rasterio.open(path)
    except RasterioError as error:
        raise SceneError(f"{path}: not a readable raster: {error}") from error


def _file_facts(source: Path | str, order: tuple[str, ...]) -> Facts:
    with open_raster(source) as src:
        epsg = src.crs.to_epsg() if src.crs else None
        stem = Path(source).stem
        texts = _texts(source, src, order)
        return Facts(
            epsg=epsg,
            footprint=from_bounds(epsg, *src.bounds) if epsg else None,
            orbit_direction=direction_of(src.tags().get("PASS", "")),
            bands={
                name: BandFacts(
                    href=str(source.absolute()) if isinstance(source, Path) else source,
                    index=index,
                    dtype=src.dtypes[index - 1],
                    nodata=src.nodatavals[index - 1],
                    unit=unit_of(text) or unit_of(stem),
                    res_m=abs(src.transform.a) if src.crs else None,
                )
                for index, text in enumerate(texts, start=1)
                if (name := band_name(text))
            },
        )


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
