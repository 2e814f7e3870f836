"""Sentinel-1 CARD in SNAP's BEAM-DIMAP layout: one ENVI raster per band in a .data folder."""

from pathlib import Path

from card import facts, rasters
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
    said = facts.combine(facts.of_product(product), rasters.facts(images))
    return facts.scene(said, str(folder))
