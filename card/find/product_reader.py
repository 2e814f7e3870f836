"""Products of an archive, described by their own metadata, read where they lie."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

from card.find import dimap, facts, level1, rasters, safe
from card.find.facts import Facts
from card.find.scan_result import Problem
from store import products
from store.catalogue import Scene
from store.errors import CallerError, ConfigError, NotFoundError, SceneError
from store.inputs import InputProduct
from store.kinds import COHERENCE_DAYS, INPUT_LEVELS, KINDS, L2A
from store.objects import gdal_options, gdal_path, list_objects, read_object
from store.products import Product
from store.raster import gdal_env

READERS = 8
"""Products that are read at once: their metadata are small, and the store answers slowly."""


def read(href: str) -> Scene | InputProduct:
    """The scene or input that a product's folder holds.

    Args:
        href: the folder: an absolute path or s3://bucket/prefix, its last part the product's name.

    Raises:
        NotFoundError: there is no such product in the store, or its metadata are missing.
        ProductNameError: it is not called as a product.
        SceneError: its metadata cannot be used.
        ObjectStoreError: the store is away or refuses us.
    """
    product = products.parse(href)
    if product.level in INPUT_LEVELS:
        return level1.of_manifest(product, href, read_object(f"{href}/{level1.MANIFEST}"))
    if product.level == L2A:
        return safe.read_product(href)
    return _read_rasters(product, href)


def read_all(hrefs: Sequence[str]) -> list[Scene | InputProduct | Problem]:
    """What several products hold; one that cannot be used is a problem.

    Raises:
        ConfigError: the store's settings are wrong.
        ObjectStoreError: the store is away or refuses us.
    """
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(_attempt, hrefs))


def _attempt(href: str) -> Scene | InputProduct | Problem:
    try:
        return read(href)
    except ConfigError:
        raise
    except (SceneError, CallerError) as error:
        return Problem(href, str(error).removeprefix(f"{href}: "))


def _read_rasters(product: Product, href: str) -> Scene:
    """The scene of a Sentinel-1 CARD: its rasters, and the header of BEAM-DIMAP if there is one."""
    files = [found.href for found in list_objects(href)]
    if not files:
        raise NotFoundError(f"{href} does not exist")
    images = [file for file in files if PurePosixPath(file).suffix.lower() in rasters.SUFFIXES]
    if not images:
        raise SceneError(f"{href}: no raster in it")
    header = next((file for file in files if file.endswith(".dim")), None)
    read = _raster_facts(product, images)
    stated = dimap.header_facts(header, read_object(header), read) if header else Facts()
    return facts.scene(facts.combine(facts.of_product(product), stated, read), href)


def _raster_facts(product: Product, hrefs: list[str]) -> Facts:
    places = {gdal_path(href): href for href in hrefs}
    with gdal_env(gdal_options()):
        read = rasters.facts(places)
        if not read.bands and product.kind in COHERENCE_DAYS:
            # Coherence products hold the bands in the order of their kind.
            read = rasters.facts(places, KINDS[product.kind].band_names)
    bands = {
        name: replace(band, href=places.get(str(band.href), band.href))
        for name, band in read.bands.items()
    }
    return replace(read, bands=bands)
