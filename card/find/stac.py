"""STAC Items as descriptions of scenes."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import shapely
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from card.find import facts, rasters
from card.find.facts import BandFacts, Facts
from card.find.footprint import from_bounds, is_near, tidy
from store import products
from store.catalogue import Scene
from store.errors import MissingFactError, SceneError
from store.grid import Extent
from store.kinds import KINDS, MASK, SCL, bands_by_stac_name

Item = Mapping[str, Any]
"""A STAC Item as parsed JSON (STAC 1.0 or 1.1)."""

_NOT_BANDS = {"visual", "thumbnail", "overview", "metadata"}
_PLATFORM = re.compile(r"(?:sentinel-|S)([12])([A-D])", re.IGNORECASE)
_DATATAKE = re.compile(r"GS2[A-D]_(\d{8}T\d{6})_")
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
              shapely.errors.ShapelyError)  # fmt: skip
_FILES = ("", "file")
"""Schemes of addresses that are files."""

_KEY_ENDING = re.compile(r"(_\d+m|-jp2|-cog)+$")


@dataclass(frozen=True)
class _Asset:
    """An asset that may hold bands.

    Attributes:
        key: its name in the item.
        fields: its JSON.
        href: address of its file; of a file at hand its absolute path.
        path: the file at hand, if it is one.
        extent: where it lies, of a file that does not say so itself.
    """

    key: str
    fields: Item
    href: str
    path: Path | None = None
    extent: Extent | None = None


def scene_from_item(item: Item, base: Path | str = ".", files: tuple[Path, ...] = ()) -> Scene:
    """The scene that a STAC Item describes.

    Files beside the item win over remote assets: if there are any, the scene consists of them.
    Of several assets with one band the finest is used, GeoTIFF before JPEG 2000.
    `earthsearch:boa_offset_applied` wins over an offset in `raster:bands`: that tells how the
    archive's JP2 are coded, not the COGs made of them.

    Args:
        item: the item, parsed.
        base: folder the item lies in; or its address, for an item that was read from the net.
        files: rasters the item describes, if its own assets don't lead to them.

    Raises:
        MissingFactError: names each missing fact and the property that would state it.
        SceneError: the item contradicts itself or its files, or is no item.
        ProductNameError: the item is of a product that is not analysis-ready.
    """
    where = _where(item, base)
    if found := flaw(item):
        raise SceneError(f"{where}: {found}")
    try:
        assets = _local_assets(item, base, files) or _remote_assets(item, base)
        known = facts.combine(_name_facts(item), _item_facts(item), _assets_facts(item, assets))
    except _MALFORMED as error:
        raise SceneError(f"{where}: not a usable STAC Item: {error!r}") from error
    return facts.scene(known, where)


def is_item(parsed: object) -> bool:
    """Whether parsed JSON is a STAC Item, and not some other file."""
    return (
        isinstance(parsed, dict)
        and parsed.get("type") == "Feature"
        and isinstance(parsed.get("properties"), dict)
        and ("stac_version" in parsed or "assets" in parsed)
    )


def flaw(item: Item) -> str | None:
    """A sentence on an item whose parts have other types than STAC's; None for a sound one."""
    try:
        if not isinstance(item.get("id"), str):
            return f"not a usable STAC Item: its id is {item.get('id')!r}"
        for key, asset in _candidates(item):
            urlsplit(asset["href"])
            _names(key, asset)
    except _MALFORMED as error:
        return f"not a usable STAC Item: {error!r}"
    return None


def local_files(item: Item, base: Path) -> dict[str, Path]:
    """The item's assets that are files: where the href leads, else of that name beside it."""
    files: dict[str, Path] = {}
    for key, asset in _candidates(item):
        place = next((place for place in _places(asset["href"], str(base)) if _is_file(place)), "")
        if place and Path(place).absolute() not in files.values():
            files[key] = Path(place).absolute()
    return files


def _places(href: str, base: str) -> Iterator[str]:
    """Where an asset's file may lie: at the address, if it is a path; else of its name beside."""
    address = urlsplit(href)
    path = unquote(address.path)
    if not address.scheme or address.scheme == "file":
        own = path if address.scheme else unquote(href)
        yield own if own.startswith("/") else f"{base}/{own}"
    yield f"{base}/{path.rpartition('/')[2]}"


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def is_remote(item: Item) -> bool:
    """Whether an item's bands lie at addresses of their own (https, s3)."""
    return any(
        urlsplit(asset["href"]).scheme and _names(key, asset) for key, asset in _candidates(item)
    )


def _where(item: Item, base: Path | str) -> str:
    name = item.get("id", "without id")
    return f"{base}: item {name}" if isinstance(base, Path) else f"item {name}"


def _candidates(item: Item) -> Iterator[tuple[str, Item]]:
    for key, asset in (item.get("assets") or {}).items():
        if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
            continue
        if not _NOT_BANDS & set(asset.get("roles") or ()) and asset.get("href"):
            yield key, asset


def _local_assets(item: Item, base: Path | str, files: tuple[Path, ...]) -> list[_Asset]:
    local = local_files(item, base) if isinstance(base, Path) else {}
    assets = item.get("assets") or {}
    if local:
        there = [_located(item, key, assets[key], path) for key, path in local.items()]
        return [*there, *_awaited(item, Path(base), there)]
    return [_described(item, path) for path in files]


def _awaited(item: Item, base: Path, there: list[_Asset]) -> Iterator[_Asset]:
    """Files that an item names beside those at hand, for bands that these lack: they may come."""
    known = {name for a in there for name in _names(a.key, a.fields, item["properties"])}
    for key, asset in missing_files(item, base).items():
        if known.isdisjoint(_names(key, item["assets"][key])):
            extent = next((a.extent for a in there if a.extent), None)
            yield _Asset(key, item["assets"][key], str(asset), extent=extent)


def missing_files(item: Item, base: Path) -> dict[str, Path]:
    """By key of the asset, the files of bands that an item names and that are not there."""
    there = local_files(item, base)
    return {
        key: Path(next(_places(asset["href"], str(base)))).absolute()
        for key, asset in _candidates(item)
        if key not in there and _names(key, asset) and urlsplit(asset["href"]).scheme in _FILES
    }


def _described(item: Item, path: Path) -> _Asset:
    """The file as the asset of its band, else as the item's only asset, else on its own."""
    assets = list(_candidates(item))
    name = rasters.band_name(path.stem)
    same = [(key, asset) for key, asset in assets if name and _names(key, asset) == (name,)]
    if not same and len(assets) == 1:
        same = assets
    key, asset = same[0] if same else (path.stem, {})
    return _located(item, key, asset, path)


def _remote_assets(item: Item, base: Path | str) -> list[_Asset]:
    api = "" if isinstance(base, Path) else base
    return [
        _Asset(key, asset, _address(key, asset["href"], api))
        for key, asset in _candidates(item)
        if _names(key, asset)
    ]


def _address(key: str, href: str, api: str) -> str:
    """The address of a remote asset.

    Args:
        key: the asset's name, for messages.
        href: as the item has it.
        api: address of the item; '' for an item in a file.

    Raises:
        SceneError: it leads to local files, or to a host that a remote item has no business with.
    """
    address = urljoin(api, href)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "s3") or not parts.netloc:
        raise SceneError(
            f"asset {key} lies at {address[:200]}: an item may name files beside it, and addresses "
            "that begin with https, http or s3"
        )
    if parts.scheme != "s3" and _is_inner(parts.hostname) and parts.netloc != urlsplit(api).netloc:
        raise SceneError(f"asset {key} lies at {address[:200]}, an address of this machine")
    return address


def _is_inner(host: str | None) -> bool:
    """Whether a host is this machine, or one that only it can reach."""
    host = (host or "localhost").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ip_address(host)
    except ValueError:
        return host.isdigit() or host.startswith("0x")  # other spellings of an IPv4 address
    return ip.is_loopback or ip.is_link_local or ip.is_unspecified


def _located(item: Item, key: str, asset: Item, path: Path) -> _Asset:
    """A file at hand; with CRS and corners where only the item knows them.

    A file may be coarser than the asset it was made from (a thinned copy), so the corners come
    from the item and the pixel size from the file.
    """
    if rasters.is_georeferenced(path):
        return _Asset(key, asset, str(path.absolute()), path)
    epsg, corners = _epsg(item, asset), _corners(item, asset)
    if epsg is None or corners is None:
        raise MissingFactError(
            f"{path}: not georeferenced, and the STAC Item does not say where it lies: state "
            "proj:code with proj:bbox, or with proj:transform and proj:shape"
        )
    _refuse_elsewhere(item, epsg, corners)
    return _Asset(key, asset, str(path.absolute()), path, Extent(epsg, *corners))


def _refuse_elsewhere(item: Item, epsg: int, corners: tuple[float, float, float, float]) -> None:
    """Refuse corners that are not where the item's own outline is: nothing else places the file.

    Raises:
        SceneError: names both.
    """
    stated = _outline(item)
    if not np.isfinite(corners).all() or not is_near(stated, None):
        return
    placed = from_bounds(epsg, *corners)
    if not is_near(stated, placed):
        lon, lat = placed.centroid.coords[0]
        raise SceneError(
            f"proj:bbox or proj:transform, in EPSG:{epsg}, lays the file at longitude {lon:.2f}, "
            f"latitude {lat:.2f}, which is outside the item's geometry: state in metres of "
            "proj:code, x before y, where it lies"
        )


def _corners(item: Item, asset: Item) -> tuple[float, float, float, float] | None:
    """West, south, east and north of an asset, in its CRS."""
    bbox = _property(item, asset, "proj:bbox")
    if bbox:
        west, south, east, north = map(float, (*bbox[:2], *bbox[len(bbox) // 2 :][:2]))
        if not (west < east and south < north):
            raise SceneError(f"proj:bbox {bbox} is not west, south, east, north")
        return (west, south, east, north)
    transform, size = _property(item, asset, "proj:transform"), _property(item, asset, "proj:shape")
    if not transform or not size:
        return None
    across, b, west, d, down, north = map(float, transform[:6])
    if across <= 0 or down >= 0 or b or d:
        raise SceneError(
            f"proj:transform {transform} is not (pixel width, 0, west, 0, -pixel height, north): "
            "GDAL's geotransform has another order; state it in STAC's"
        )
    rows, columns = map(int, size)
    return (west, north + down * rows, west + across * columns, north)


def _name_facts(item: Item) -> Facts:
    """Facts in the product's name, if the item holds one: the same from every provider."""
    properties = item["properties"]
    for text in (*(_product(properties, n) for n in ("product_uri", "product_id")), item.get("id")):
        product = products.find(str(text or ""))
        if product:
            return facts.of_product(product)
    return Facts()


def _product(properties: Item, name: str) -> Any:
    """A property of Sentinel-2's extension, also by the prefixes that older items have."""
    found = (properties.get(f"{prefix}:{name}") for prefix in ("s2", "sentinel2", "sentinel"))
    return next((value for value in found if value is not None), None)


def _item_facts(item: Item) -> Facts:
    properties = item["properties"]
    platform = _platform(properties.get("platform"))
    relative_orbit = properties.get("sat:relative_orbit")
    cloud = properties.get("eo:cloud_cover")
    return Facts(
        reference=item.get("id"),
        kind=_kind(properties),
        platform=platform,
        obstime=_moment(properties.get("start_datetime") or properties.get("datetime")),
        acquisition=_acquisition(properties, platform, relative_orbit),
        orbit_direction=facts.direction_of(properties.get("sat:orbit_state") or ""),
        relative_orbit=None if relative_orbit is None else int(relative_orbit),
        tile=_tile(properties),
        baseline=_baseline(properties),
        produced_at=_moment(
            _product(properties, "generation_time") or properties.get("processing:datetime")
        ),
        cloud_cover_pct=None if cloud is None or math.isnan(float(cloud)) else float(cloud),
        footprint=_outline(item),
    )


def _kind(properties: Item) -> str | None:
    product_type = properties.get("product:type") or _product(properties, "product_type")
    if product_type == "S2MSI1C":
        raise SceneError("Level-1C is not analysis-ready: take the Level-2A item")
    level = str(product_type).replace("_", "-")
    return next((kind.name for kind in KINDS.values() if level in kind.stac_types), None)


def _platform(text: str | None) -> str | None:
    match = _PLATFORM.fullmatch(text or "")
    return f"S{match[1]}{match[2].upper()}" if match else None


def _acquisition(properties: Item, platform: str | None, relative_orbit: Any) -> str | None:
    """The overpass, in the form that product names give it (`store.products.Product`)."""
    absolute_orbit = properties.get("sat:absolute_orbit")
    if platform and platform.startswith("S1") and absolute_orbit is not None:
        return f"{platform}_{int(absolute_orbit):06d}"
    datatake = _product(properties, "datatake_id") or properties.get("eopf:datatake_id")
    match = _DATATAKE.match(datatake or "")
    if platform and match and relative_orbit is not None:
        return f"{platform}_{match[1]}_R{int(relative_orbit):03d}"
    return None


def _moment(text: Any) -> datetime | None:
    return None if text is None else facts.utc_time(text)


def _tile(properties: Item) -> str | None:
    code = str(properties.get("grid:code") or _product(properties, "mgrs_tile") or "")
    match = re.fullmatch(r"(?:MGRS-)?T?(\d{2}[A-Z]{3})", code)
    return match[1] if match else None


def _baseline(properties: Item) -> str | None:
    text = _product(properties, "processing_baseline") or properties.get("processing:version")
    return text if re.fullmatch(r"\d{2}\.\d{2}", str(text)) else None


def _outline(item: Item) -> BaseGeometry | None:
    bbox = item.get("bbox")
    if item.get("geometry"):
        outline = shapely.force_2d(shape(item["geometry"]))
    elif bbox:
        outline = box(*bbox[:2], *bbox[len(bbox) // 2 :][:2])
    else:
        return None
    return tidy(outline) if outline.area else None


def _epsg(item: Item, asset: Item) -> int | None:
    code = _property(item, asset, "proj:code") or _property(item, asset, "proj:epsg")
    match = re.fullmatch(r"(?:EPSG:)?(\d+)", str(code))
    return int(match[1]) if match else None


def _property(item: Item, asset: Item, name: str, band: int = 0) -> Any:
    """A property of a band: stated in the band, else in the asset, else in the item."""
    entries = [asset.get(key) or [] for key in ("raster:bands", "bands")]
    levels = [entry[band] for entry in entries if band < len(entry)]
    for level in (*levels, asset, item["properties"]):
        for key in (name, f"raster:{name}"):
            if level.get(key) is not None:
                return level[key]
    return None


def _names(key: str, asset: Item, properties: Item | None = None) -> tuple[str, ...]:
    """Names of an asset's bands in the file's order: as it, its key or the item lists them."""
    entries = asset.get("bands") or asset.get("eo:bands")
    if not entries and _band(key):
        entries = [{"name": key}]
    if not entries and properties:
        entries = properties.get("bands") or properties.get("eo:bands")
    return tuple(MASK if _is_mask(entry) else _name(entry) for entry in entries or ())


def _name(entry: Item) -> str:
    text = str(entry.get("name") or entry.get("eo:common_name"))
    return _band(text) or text


def _is_mask(entry: Item) -> bool:
    """Whether a band's bits are stated to be those of `store.kinds.MASK`."""
    fields = entry.get("classification:bitfields") or ()
    places = {field.get("name"): (field.get("offset"), field.get("length")) for field in fields}
    return (places.get("layover"), places.get("shadow")) == ((0, 1), (1, 1))


def _band(text: str) -> str | None:
    short = _KEY_ENDING.sub("", text)
    return bands_by_stac_name().get(short.lower()) or rasters.band_name(short)


def _assets_facts(item: Item, assets: list[_Asset]) -> Facts:
    """Facts of all assets; a file's own CRS counts more than the item's."""
    ranked = sorted(assets, key=lambda asset: asset.fields.get("type") == "image/jp2")
    known = [_asset_facts(item, asset) for asset in ranked]
    bands = facts.finest(pair for each in known for pair in each.bands.items())
    others = (replace(each, bands={}) for each in known)
    return facts.combine(Facts(bands=bands), _facts_of_awaited(bands), *others)


def _facts_of_awaited(bands: Mapping[str, BandFacts]) -> Facts:
    """Where some bands' files are at hand, those of the others will be coded as they are."""
    first = next((band for name, band in bands.items() if band.grid and name != SCL), None)
    if first is None:
        return Facts()
    coded = BandFacts(dtype=first.dtype, nodata=first.nodata, unit=first.unit, scale=first.scale,
                      offset=first.offset)  # fmt: skip
    return Facts(bands={name: coded for name, band in bands.items() if not band.grid})


def _asset_facts(item: Item, asset: _Asset) -> Facts:
    names = _names(asset.key, asset.fields, item["properties"])
    described = Facts(epsg=_epsg(item, asset.fields))
    if asset.path is None:
        bands = {
            name: replace(_band_facts(item, asset, index, asset.href), extent=asset.extent)
            for index, name in enumerate(names)
        }
        return replace(described, bands=bands)
    read = rasters.facts([asset.path], names, asset.extent)
    bands = {n: _facts_of_file(item, asset, band) for n, band in read.bands.items()}
    joined = facts.combine(Facts(bands=bands), read)
    return facts.combine(Facts(epsg=read.epsg), joined, described)


def _facts_of_file(item: Item, asset: _Asset, read: BandFacts) -> BandFacts:
    """What an item says of a band in a file at hand.

    Where it states integers and the file holds floating-point numbers, or the other way round, its
    numbers are those of the file that this one was made from, and say nothing of it.
    """
    index = (read.index or 1) - 1
    described = _band_facts(item, asset, index, None, read.unit)
    stated = _property(item, asset.fields, "data_type", index)
    if stated and str(stated).startswith("float") != str(read.dtype).startswith("float"):
        return replace(described, nodata=None, nodata_stated=None, scale=None, offset=None)
    return described


def _band_facts(
    item: Item, asset: _Asset, index: int, href: str | None, named: str | None = None
) -> BandFacts:
    nodata, scale = (_property(item, asset.fields, name, index) for name in ("nodata", "scale"))
    unit = _property(item, asset.fields, "unit", index)
    return BandFacts(
        href=href,
        index=index + 1,
        dtype=_data_type(_property(item, asset.fields, "data_type", index)) if href else None,
        nodata=None if nodata is None else float(nodata),
        nodata_stated=None if nodata is None else True,
        unit=None if unit is None else rasters.stated_unit(asset.href, str(unit), named),
        scale=None if scale is None else float(scale),
        offset=_offset(item, asset, index, scale),
        res_m=_resolution(item, asset, index) if href else None,
    )


def _data_type(stated: Any) -> str | None:
    """A data type of STAC's raster extension, which for real numbers are numpy's names."""
    return None if stated is None else np.dtype(str(stated)).name


def _offset(item: Item, asset: _Asset, index: int, scale: Any) -> float | None:
    """Offset in the file's own unit: STAC gives it in the physical one."""
    if _applied(item) and not asset.key.endswith("-jp2"):
        return 0.0
    offset = _property(item, asset.fields, "offset", index)
    if offset is None:
        return None
    factor = float(1 if scale is None else scale)
    return round(float(offset) / factor, 6) if factor else math.nan


def _applied(item: Item) -> bool:
    """Whether the provider applied the offset already (earthsearch:boa_offset_applied)."""
    return any(
        value is True
        for name, value in item["properties"].items()
        if name.rsplit(":", 1)[-1] == "boa_offset_applied"
    )


def _resolution(item: Item, asset: _Asset, index: int) -> float | None:
    transform = asset.fields.get("proj:transform")
    named = [transform[0] if transform else None]
    named += [_property(item, asset.fields, name, index) for name in ("spatial_resolution", "gsd")]
    return next((float(value) for value in named if value), None)
