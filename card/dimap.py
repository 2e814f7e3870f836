"""Sentinel-1 CARD in SNAP's BEAM-DIMAP layout: one ENVI raster per band in a .data folder."""

from pathlib import Path
from xml.etree import ElementTree

from card import facts, rasters
from card.facts import Facts
from store import products
from store.catalogue import Scene
from store.errors import ProductNameError, SceneError


def read(folder: Path) -> Scene:
    """The scene in a .data folder, such as <product>/<product>.data with Gamma0_VV.img.

    Raises:
        ProductNameError: neither it nor the folder above is called as a product.
        MissingFactError: the rasters lack a needed fact.
        SceneError: a raster cannot be read, or none is there.
    """
    product = products.find(folder.name) or products.find(folder.absolute().parent.name)
    if product is None:
        raise ProductNameError(f"{folder}: no product name in its name or the folder above")
    images = [path for path in folder.glob("*.img") if rasters.band_name(path.stem)]
    if not images:
        raise SceneError(f"{folder}: no .img of VV or VH: copy the whole product")
    said = facts.combine(facts.of_product(product), _header(folder), rasters.facts(images))
    return facts.scene(said, str(folder))


def _header(folder: Path) -> Facts:
    """What the .dim file beside the folder says, which the name does not; it may be missing."""
    path = folder.with_suffix(".dim")
    try:
        document = ElementTree.parse(path)  # noqa: S314 -- expat bounds entity expansion
    except (OSError, ElementTree.ParseError):
        return Facts()
    said = document.findtext(".//MDATTR[@name='PASS']", "")
    return Facts(orbit_direction=facts.direction_of(said))
