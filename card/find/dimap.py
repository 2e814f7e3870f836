"""Sentinel-1 CARD in SNAP's BEAM-DIMAP layout: one ENVI raster per band in a .data folder."""

import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from card.find import facts, rasters
from card.find.facts import BandFacts, Facts
from store import products
from store.catalogue import Scene
from store.errors import UNREADABLE_XML, ProductNameError, SceneError

_FLATTENED = {"gamma0_linear": "gamma0_terrain_linear", "gamma0_db": "gamma0_terrain_db"}


def is_product(folder: Path, file_names: Collection[str]) -> bool:
    """Whether a folder is the .data folder of a product in this layout."""
    return folder.suffix.lower() == ".data" and any(map(_is_image, file_names))


def _is_image(name: str) -> bool:
    return name.lower().endswith(".img")


def read(folder: Path) -> Scene:
    """The scene in a .data folder, such as <product>/<product>.data with Gamma0_VV.img.

    Raises:
        ProductNameError: neither its name nor that of the folder above is a product's.
        MissingFactError: the rasters lack a needed fact.
        SceneError: a raster cannot be read, or none is there.
    """
    product = products.find(folder.name) or products.find(folder.absolute().parent.name)
    if product is None:
        raise ProductNameError(f"{folder}: no product name in its name or the folder above")
    named = [path for path in sorted(folder.iterdir()) if _is_image(path.name)]
    images = [path for path in named if rasters.band_name(path.stem)]
    if not images:
        there = ", ".join(path.name for path in named)
        raise SceneError(
            f"{folder}: no .img of VV or VH that is calibrated (Gamma0_VV or Sigma0_VV; there are "
            f"{there}): copy the whole product"
        )
    read = rasters.facts(images)
    known = facts.combine(facts.of_product(product), _header(folder, read), read)
    return facts.scene(known, str(folder))


def _header(folder: Path, read: Facts) -> Facts:
    """What the .dim file beside the folder says, if there is one."""
    beside = sorted(folder.absolute().parent.iterdir())
    path = next((p for p in beside if p.name.lower() == f"{folder.stem}.dim".lower()), None)
    try:
        return header_facts(str(path), path.read_bytes(), read) if path else Facts()
    except OSError:
        return Facts()


def header_facts(path: str, header: bytes, read: Facts) -> Facts:
    """What a header of BEAM-DIMAP says, which the rasters do not.

    It may be damaged: the values themselves are looked at all the same.

    Args:
        path: its name, for messages.
        header: its content.
        read: the facts of the rasters.

    Raises:
        SceneError: it states numbers that are none, or values that cannot be used.
    """
    try:
        document = ElementTree.fromstring(header)  # noqa: S314 -- expat bounds entity expansion
    except UNREADABLE_XML:
        return Facts()
    described = {
        info.findtext("BAND_NAME", "").strip(): info for info in document.iter("Spectral_Band_Info")
    }
    bands = {
        name: _band_facts(path, name, band, described[Path(str(band.href)).stem])
        for name, band in read.bands.items()
        if Path(str(band.href)).stem in described
    }
    if _is_terrain_flattened(document):
        for name, band in read.bands.items():
            unit = _FLATTENED.get(band.unit or "")
            bands[name] = replace(bands.get(name, BandFacts()), unit=unit)
    direction = document.findtext(".//MDATTR[@name='PASS']", "")
    return Facts(orbit_direction=facts.direction_of(direction), bands=bands)


def _is_terrain_flattened(document: ElementTree.Element) -> bool:
    """Whether SNAP flattened the values by the terrain: their names say Gamma0 either way."""
    operators = document.iterfind(".//MDElem[@name='Processing_Graph']//MDATTR[@name='operator']")
    return any(one.text == "Terrain-Flattening" for one in operators)


def _band_facts(path: str, name: str, band: BandFacts, info: ElementTree.Element) -> BandFacts:
    """What SNAP says of a band: raw = what the file holds, value = raw * factor + offset."""
    if info.findtext("LOG10_SCALED", "").strip().lower() == "true":
        raise SceneError(f"{path}: {name} holds logarithms (LOG10_SCALED): export it unscaled")
    factor, offset = (_number(path, info, f"SCALING_{tag}") for tag in ("FACTOR", "OFFSET"))
    used = info.findtext("NO_DATA_VALUE_USED", "").strip().lower() == "true"
    nodata = _number(path, info, "NO_DATA_VALUE") if used else None
    masked = info.findtext("VALID_MASK_TERM", "").strip()
    coded = factor not in (None, 1.0) or offset not in (None, 0.0)
    return BandFacts(
        nodata=nodata,
        nodata_stated=True if nodata is not None and math.isfinite(nodata) else None,
        unit=rasters.stated_unit(path, info.findtext("PHYSICAL_UNIT"), band.unit),
        scale=(1.0 if factor is None else factor) if coded else None,
        offset=offset / (factor or 1.0) if coded and offset is not None else None,
        masked=True if masked and nodata is None and band.nodata is None else None,
    )


def _number(path: str, info: ElementTree.Element, tag: str) -> float | None:
    text = info.findtext(tag, "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise SceneError(f"{path}: {tag} is {text!r}, which is no number") from None
