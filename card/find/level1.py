"""Level-1 products of Sentinel-1 as inputs of CARD: what names, catalogues and manifests say."""

import re
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from shapely.geometry.base import BaseGeometry

from card.find import facts
from card.find.candidate import known_orbit
from card.find.footprint import from_ring, multipolygon_wkt
from store import products
from store.errors import UNREADABLE_XML, ProductNameError, SceneError
from store.inputs import InputProduct
from store.kinds import INPUT_LEVELS
from store.products import Product

MANIFEST = "manifest.safe"
_POLARISATION = re.compile(r"_1S(\w\w)_")
_UNFIT = "CARD is made from IW products with VV, or VV and VH"


def input_product(
    product: Product,
    href: str,
    footprint: BaseGeometry | None,
    *,
    start: datetime | None = None,
    stop: datetime | None = None,
    relative_orbit: int | None = None,
    orbit_direction: str | None = None,
    size_bytes: int | None = None,
) -> InputProduct:
    """The input that a product is; what is not given comes from its name.

    Raises:
        SceneError: no CARD can be made from it, or its outline is not known.
    """
    refuse_unfit(product)
    if footprint is None:
        raise SceneError(f"{product.reference}: its source states no outline")
    return InputProduct(
        reference=product.reference,
        level=product.level,
        product_type=product.product_type,
        platform=product.platform,
        sensing_start=start or product.sensing_start,
        sensing_stop=stop or product.sensing_stop or product.sensing_start,
        orbit_number=product.orbit_number or 0,
        relative_orbit=relative_orbit or product.relative_orbit or 0,
        footprint_wkt=multipolygon_wkt(footprint),
        href=href,
        orbit_direction=orbit_direction,
        size_bytes=size_bytes,
    )


def is_product(folder: Path, file_names: Collection[str]) -> bool:
    """Whether a folder is a Level-1 product in the SAFE layout."""
    return MANIFEST in file_names and _level1_name(folder) is not None


def read(folder: Path) -> InputProduct:
    """The input in a .SAFE folder.

    Raises:
        SceneError: its manifest cannot be used, or no CARD can be made from it.
    """
    manifest = (folder / MANIFEST).read_bytes()
    return of_manifest(products.parse(folder.name), str(folder.absolute()), manifest)


def _level1_name(folder: Path) -> Product | None:
    try:
        product = products.parse(folder.name)
    except ProductNameError:
        return None
    return product if product.level in INPUT_LEVELS else None


def refuse_unfit(product: Product) -> None:
    """Refuse modes and polarisations that no CARD is made from.

    Raises:
        SceneError: names what is unfit.
    """
    mode = product.product_type.partition("_")[0]
    if mode != "IW":
        raise SceneError(f"{product.reference}: mode {mode}; {_UNFIT}")
    found = _POLARISATION.search(product.reference)
    if found is None or found[1] not in ("SV", "DV", "VV"):
        raise SceneError(f"{product.reference}: polarisation {found and found[1]}; {_UNFIT}")


def of_manifest(product: Product, href: str, manifest: bytes) -> InputProduct:
    """The input that a manifest.safe describes.

    Args:
        product: what the name says.
        href: folder of the product.
        manifest: the file's bytes.

    Raises:
        SceneError: it is no manifest of a Level-1 product, or of none that CARD is made from.
    """
    try:
        root = ElementTree.fromstring(manifest)  # noqa: S314 -- expat bounds entity expansion
        text = _Texts(root)
        return input_product(
            product,
            href,
            _outline(text),
            start=facts.utc_time(text.first("startTime")),
            stop=facts.utc_time(text.first("stopTime")),
            relative_orbit=known_orbit(int(text.first("relativeOrbitNumber"))),
            orbit_direction=facts.direction_of(text.first("pass")),
        )
    except UNREADABLE_XML as error:
        raise SceneError(f"{href}/{MANIFEST}: not a Level-1 manifest: {error}") from error


class _Texts:
    """Texts of an XML document by the local names of its elements."""

    def __init__(self, root: ElementTree.Element) -> None:
        self._root = root

    def all(self, name: str) -> Iterator[str]:
        for element in self._root.iter():
            if element.tag.rpartition("}")[2] == name and element.text and element.text.strip():
                yield element.text.strip()

    def first(self, name: str) -> str:
        found = next(self.all(name), None)
        if found is None:
            raise LookupError(f"it states no {name}")
        return found


def _outline(text: _Texts) -> BaseGeometry:
    pairs = [pair.split(",") for pair in text.first("coordinates").split()]
    return from_ring([(float(lon), float(lat)) for lat, lon in pairs])
