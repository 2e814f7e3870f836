"""Sentinel-2 Level-2A products in the SAFE layout, as ESA delivers them."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from shapely.geometry.base import BaseGeometry

from card import facts, rasters
from card.facts import BandFacts, Facts
from card.footprint import from_ring
from store import products
from store.catalogue import Scene
from store.errors import MissingFactError, ProductNameError, SceneError

METADATA = "MTD_MSIL2A.xml"

_IMAGE = re.compile(r"_(?P<band>B\d[\dA]|SCL)_(?P<res>\d+)m$")
# BOA_ADD_OFFSET counts the instrument's 13 bands in the order of their wavelengths.
_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11",
             "B12")  # fmt: skip


def read(folder: Path) -> Scene:
    """The scene in a .SAFE folder; what its metadata says counts, never its date.

    Raises:
        MissingFactError: the folder holds no Level-2A metadata, or they lack a needed fact.
        SceneError: the metadata cannot be read, or no image is there.
        ProductNameError: the product is of another level.
    """
    path = folder / METADATA
    if not path.is_file():
        raise _without_metadata(folder)
    product = _parse(path)
    said = facts.combine(
        _name_facts(product, folder), _metadata_facts(product, folder), _raster_facts(folder)
    )
    return facts.scene(said, str(folder))


def _without_metadata(folder: Path) -> Exception:
    name = products.parse(folder.name)  # says so itself when the level is wrong
    if name.level == products.GRD:
        return ProductNameError(
            f"{folder}: a Level-1 GRD is not analysis-ready: get or make its CARD-BS product"
        )
    return MissingFactError(f"{folder}: {METADATA} is missing: copy the whole product")


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()  # noqa: S314 -- expat bounds entity expansion
    except (ElementTree.ParseError, OSError) as error:
        raise SceneError(f"{path}: not readable XML: {error}") from error


def _name_facts(product: ElementTree.Element, folder: Path) -> Facts:
    """What the name says; the folder's own name wins, for a twin's metadata name the original."""
    for name in (folder.name, _text(product, "PRODUCT_URI") or ""):
        try:
            return facts.of_product(products.parse(name))
        except ProductNameError:
            continue
    raise ProductNameError(f"{folder}: neither the folder nor PRODUCT_URI holds a product name")


def _metadata_facts(product: ElementTree.Element, folder: Path) -> Facts:
    cloud = _text(product, "Cloud_Coverage_Assessment")
    return Facts(
        baseline=_text(product, "PROCESSING_BASELINE"),
        produced_at=_time(_text(product, "GENERATION_TIME")),
        orbit_direction=facts.direction_of(_text(product, "SENSING_ORBIT_DIRECTION") or ""),
        cloud_cover_pct=float(cloud) if cloud else None,
        epsg=_epsg(folder),
        footprint=_footprint(product),
        bands=_bands(product, folder),
    )


def _bands(product: ElementTree.Element, folder: Path) -> dict[str, BandFacts]:
    offsets = {
        _BAND_IDS[int(element.attrib["band_id"])]: float(element.text or 0)
        for element in product.iter("BOA_ADD_OFFSET")
    }
    quantification = _text(product, "BOA_QUANTIFICATION_VALUE")
    nodata = next(
        (
            _text(value, "SPECIAL_VALUE_INDEX")
            for value in product.iter("Special_Values")
            if _text(value, "SPECIAL_VALUE_TEXT") == "NODATA"
        ),
        None,
    )
    return facts.finest(
        (
            name,
            BandFacts(
                href=str(path.absolute()),
                index=1,
                dtype="uint16",
                nodata=float(nodata) if nodata else None,
                scale=1 / float(quantification) if quantification else None,
                offset=offsets.get(name, 0.0),
                res_m=res_m,
            ),
        )
        for name, res_m, path in _images(folder)
    )


def _images(folder: Path) -> Iterator[tuple[str, float, Path]]:
    for path in sorted(folder.glob("GRANULE/*/IMG_DATA/**/*")):
        match = _IMAGE.search(path.stem)
        if match and path.suffix.lower() in rasters.SUFFIXES:
            yield match["band"], float(match["res"]), path


def _raster_facts(folder: Path) -> Facts:
    """CRS and outline from an image, for products whose metadata keep silent."""
    first = next((path for _, _, path in _images(folder)), None)
    if first is None:
        raise SceneError(f"{folder}: no image in GRANULE/*/IMG_DATA: copy the whole product")
    said = rasters.facts([first])
    return Facts(epsg=said.epsg, footprint=said.footprint)


def _epsg(folder: Path) -> int | None:
    for path in folder.glob("GRANULE/*/MTD_TL.xml"):
        code = _text(_parse(path), "HORIZONTAL_CS_CODE")
        if code:
            return int(code.removeprefix("EPSG:"))
    return None


def _footprint(product: ElementTree.Element) -> BaseGeometry | None:
    numbers = [float(text) for text in (_text(product, "EXT_POS_LIST") or "").split()]
    if len(numbers) < 8:
        return None
    return from_ring(list(zip(numbers[1::2], numbers[::2], strict=False)))


def _text(element: ElementTree.Element, tag: str) -> str | None:
    found = next(element.iter(tag), None)
    return None if found is None or not found.text else found.text.strip()


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
