"""Sentinel-2 Level-2A products in the SAFE layout, as ESA delivers them."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from card.find import facts, rasters
from card.find.facts import BandFacts, Facts
from card.find.footprint import from_ring
from store import products
from store.catalogue import Scene
from store.errors import (
    UNREADABLE_XML,
    MissingFactError,
    ObjectStoreError,
    ProductNameError,
    SceneError,
)
from store.kinds import GRD, KINDS
from store.objects import gdal_options, gdal_path, list_objects, read_object
from store.raster import gdal_env

METADATA = "MTD_MSIL2A.xml"

_IMAGE = re.compile(
    r"GRANULE/[^/]+/IMG_DATA/(?:.*/)?[^/]*_(?P<band>B\d[\dA]|SCL)_(?P<res>\d+)m"
    rf"(?:{'|'.join(map(re.escape, sorted(rasters.SUFFIXES)))})",
    re.IGNORECASE,
)
_TILE_METADATA = re.compile(r"GRANULE/[^/]+/MTD_TL\.xml", re.IGNORECASE)

_LOCAL = "99.99"
"""Baseline that Sen2Cor states where somebody runs it, whatever its version."""

# BOA_ADD_OFFSET counts the instrument's 13 bands in the order of their wavelengths.
_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11",
             "B12")  # fmt: skip


def is_product(folder: Path, file_names: Collection[str]) -> bool:
    """Whether a folder is a product in this layout."""
    return folder.suffix.lower() == ".safe" or METADATA.lower() in map(str.lower, file_names)


def read(folder: Path) -> Scene:
    """The scene in a .SAFE folder; its metadata count, never its date.

    Raises:
        MissingFactError: the folder holds no Level-2A metadata, or they lack a needed fact.
        SceneError: the metadata cannot be read, or no image is there.
        ProductNameError: the product is of another level.
    """
    if not is_product(Path(), [path.name for path in folder.iterdir()]):
        raise _without_metadata(folder)
    try:
        return read_product(str(folder.absolute()), str(folder), look=True)
    except ObjectStoreError as error:  # a file of this product alone: others can be read
        raise SceneError(str(error)) from error


def read_product(href: str, place: str | None = None, *, look: bool = False) -> Scene:
    """The scene in a product's folder, on disk or in a bucket.

    Args:
        href: the folder: an absolute path or s3://bucket/prefix.
        place: its name for messages, if another one; its last part is the product's name.
        look: also at the images, which are on disk: their grids, and samples of their values.

    Raises:
        NotFoundError: there is no such folder, or no Level-2A metadata in it.
        CbmError: else as `read`.
    """
    place = place or href
    files = _Files(href, tuple(found.href for found in list_objects(href)))
    product = _parse(files.metadata)
    if not files.images:
        raise SceneError(f"{place}: no image in GRANULE/*/IMG_DATA: copy the whole product")
    try:
        stated = facts.combine(_name_facts(product, Path(place)), _metadata_facts(product, files))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise SceneError(f"{files.metadata}: not usable metadata: {error!r}") from error
    return facts.scene(facts.combine(stated, _raster_facts(stated, look)), place)


@dataclass(frozen=True)
class _Files:
    """The files of a product.

    Attributes:
        folder: where it is.
        hrefs: of all its files.
    """

    folder: str
    hrefs: tuple[str, ...]

    @cached_property
    def images(self) -> tuple[tuple[str, float, str], ...]:
        """Band, resolution in metres and address of each image."""
        found = ((_IMAGE.fullmatch(self.key(href)), href) for href in sorted(self.hrefs))
        named = ((m["band"].upper(), float(m["res"]), href) for m, href in found if m)
        return tuple(image for image in named if image[0] in KINDS["s2"].layers)

    @property
    def metadata(self) -> str:
        """Address of the product's metadata, whatever the case of their name."""
        named = (href for href in self.hrefs if self.key(href).lower() == METADATA.lower())
        return next(named, f"{self.folder}/{METADATA}")

    def key(self, href: str) -> str:
        """The path of a file within the product."""
        return href.removeprefix(f"{self.folder}/")


def _without_metadata(folder: Path) -> Exception:
    name = products.parse(folder.name)  # raises when the level is wrong
    if name.level == GRD:
        return ProductNameError(
            f"{folder}: a Level-1 GRD is not analysis-ready: get or make its CARD-BS product"
        )
    return MissingFactError(f"{folder}: {METADATA} is missing: copy the whole product")


def _parse(href: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(read_object(href))  # noqa: S314 -- expat bounds entities
    except UNREADABLE_XML as error:
        raise SceneError(f"{href}: not readable XML: {error}") from error


def _name_facts(product: ElementTree.Element, folder: Path) -> Facts:
    """Facts in the name; the folder's own wins, for a twin's metadata name the original."""
    for name in (folder.name, _text(product, "PRODUCT_URI") or ""):
        try:
            return facts.of_product(products.parse(name))
        except ProductNameError:
            continue
    raise ProductNameError(f"{folder}: neither the folder nor PRODUCT_URI holds a product name")


def _metadata_facts(product: ElementTree.Element, files: _Files) -> Facts:
    cloud = _text(product, "Cloud_Coverage_Assessment")
    return Facts(
        baseline=_text(product, "PROCESSING_BASELINE"),
        produced_at=_time(_text(product, "GENERATION_TIME")),
        orbit_direction=facts.direction_of(_text(product, "SENSING_ORBIT_DIRECTION") or ""),
        cloud_cover_pct=float(cloud) if cloud and 0 <= float(cloud) <= 100 else None,
        epsg=_epsg(files),
        footprint=_footprint(product),
        bands=_bands(product, files),
    )


def _bands(product: ElementTree.Element, files: _Files) -> dict[str, BandFacts]:
    offsets = _offsets(product)
    quantification = _text(product, "BOA_QUANTIFICATION_VALUE")
    nodata = next(
        (
            _text(value, "SPECIAL_VALUE_INDEX")
            for value in product.iter("Special_Values")
            if _text(value, "SPECIAL_VALUE_TEXT") == "NODATA"
        ),
        None,
    )
    bands = [
        (
            name,
            BandFacts(
                href=href,
                index=1,
                nodata=float(nodata) if nodata else None,
                nodata_stated=True if nodata else None,
                scale=1 / float(quantification) if quantification else None,
                offset=0.0 if offsets is None else offsets.get(name),
                res_m=res_m,
            ),
        )
        for name, res_m, href in files.images
    ]
    facts.refuse_rivals(bands)
    return facts.finest(bands)


def _offsets(product: ElementTree.Element) -> dict[str, float] | None:
    """BOA_ADD_OFFSET by band; None in products older than these offsets.

    They came with baseline 04.00: a newer product that states none is incomplete.
    """
    elements = list(product.iter("BOA_ADD_OFFSET"))
    baseline = _text(product, "PROCESSING_BASELINE") or ""
    if not elements and (baseline == _LOCAL or "" < baseline < "04.00"):
        return None
    return {_BAND_IDS[_band_id(each)]: float(each.text or "") for each in elements}


def _band_id(element: ElementTree.Element) -> int:
    number = int(element.attrib["band_id"])
    if not 0 <= number < len(_BAND_IDS):
        raise ValueError(f"{number} is no band_id")
    return number


def _raster_facts(stated: Facts, look: bool) -> Facts:
    """Facts in all images; unless looked at, CRS and outline alone, where metadata lack them."""
    hrefs = sorted({str(band.href) for band in stated.bands.values()})
    if look:
        return rasters.facts(map(Path, hrefs))
    if stated.epsg and stated.footprint:
        return Facts()
    with gdal_env(gdal_options()):
        read = rasters.facts([gdal_path(hrefs[0])])
    return Facts(epsg=read.epsg, footprint=read.footprint)


def _epsg(files: _Files) -> int | None:
    for href in files.hrefs:
        if _TILE_METADATA.fullmatch(files.key(href)):
            code = _text(_parse(href), "HORIZONTAL_CS_CODE")
            if code:
                return int(code.upper().removeprefix("EPSG:"))
    return None


def _footprint(product: ElementTree.Element) -> BaseGeometry | None:
    """The outline; its points are latitude and longitude, of some processors also a height."""
    try:
        numbers = [float(text) for text in (_text(product, "EXT_POS_LIST") or "").split()]
        each = 3 if len(numbers) % 3 == 0 and numbers[:3] == numbers[-3:] else 2
        return from_ring(list(zip(numbers[1::each], numbers[::each], strict=False)))
    except (ValueError, ShapelyError):  # no outline: the rasters have one
        return None


def _text(element: ElementTree.Element, tag: str) -> str | None:
    first = next(element.iter(tag), None)
    return None if first is None or not first.text else first.text.strip()


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
