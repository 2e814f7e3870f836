"""STAC Items as descriptions of scenes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import shapely
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from card import facts, rasters
from card.facts import BandFacts, Facts
from card.footprint import tidy
from store import products
from store.catalogue import Scene
from store.errors import MissingFactError, SceneError
from store.products import SCL

Item = Mapping[str, Any]
"""A STAC Item as parsed JSON (STAC 1.0 or 1.1)."""

# Names that STAC APIs give Sentinel-2's bands; rededge alone would be ambiguous.
_BAND_NAMES = {
    "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06",
    "rededge3": "B07", "nir": "B08", "nir08": "B8A", "swir16": "B11", "swir22": "B12",
    "scl": SCL, "vv": "VV", "vh": "VH",
}  # fmt: skip
_KINDS = {"S2MSI2A": "s2", "CARD-BS": "bs", "CARD-COH6": "c6", "CARD-COH12": "c12"}
_NOT_BANDS = {"visual", "thumbnail", "overview", "metadata"}
_PLATFORM = re.compile(r"(?:sentinel-|S)([12])([A-D])", re.IGNORECASE)
_DATATAKE = re.compile(r"GS2[A-D]_(\d{8}T\d{6})_")
_KEY_ENDING = re.compile(r"(_\d+m|-jp2|-cog)+$")


@dataclass(frozen=True)
class _Asset:
    """An asset that may hold bands: its key, its JSON, and the file or address to read."""

    key: str
    said: Item
    href: str


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
    try:
        assets = _local_assets(item, base, files) or _remote_assets(item, base)
        said = facts.combine(_name_facts(item), _item_facts(item), _assets_facts(item, assets))
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise SceneError(f"{where}: not a usable STAC Item: {error!r}") from error
    return facts.scene(said, where)


def is_item(parsed: object) -> bool:
    """Whether parsed JSON is a STAC Item, and not some other file."""
    return (
        isinstance(parsed, dict)
        and parsed.get("type") == "Feature"
        and isinstance(parsed.get("properties"), dict)
        and ("stac_version" in parsed or "assets" in parsed)
    )


def local_files(item: Item, base: Path) -> dict[str, Path]:
    """The item's assets that are files: where the href leads, else of that name beside it."""
    found: dict[str, Path] = {}
    for key, asset in _candidates(item):
        address = urlsplit(asset["href"])
        path = Path(unquote(address.path if address.scheme == "file" else asset["href"]))
        places = (base / path, base / Path(unquote(address.path)).name)
        place = next((p for p in places if p.is_file()), None)
        if place is not None and place not in found.values():
            found[key] = place.absolute()
    return found


def is_remote(item: Item) -> bool:
    """Whether an item's bands lie at addresses of their own (https, s3)."""
    return any(_is_absolute(asset["href"]) and _names(k, asset) for k, asset in _candidates(item))


def _where(item: Item, base: Path | str) -> str:
    name = item.get("id", "without id")
    return f"{base}: item {name}" if isinstance(base, Path) else f"item {name}"


def _candidates(item: Item) -> Iterator[tuple[str, Item]]:
    for key, asset in (item.get("assets") or {}).items():
        if not _NOT_BANDS & set(asset.get("roles") or ()) and asset.get("href"):
            yield key, asset


def _local_assets(item: Item, base: Path | str, files: tuple[Path, ...]) -> list[_Asset]:
    local = local_files(item, base) if isinstance(base, Path) else {}
    assets = item.get("assets") or {}
    if local:
        return [_Asset(k, assets[k], _located(item, assets[k], p)) for k, p in local.items()]
    return [_described(item, path) for path in files]


def _described(item: Item, path: Path) -> _Asset:
    """The file as the asset of its band, else as the item's only asset, else on its own."""
    assets = list(_candidates(item))
    name = rasters.band_name(path.stem)
    same = [(key, asset) for key, asset in assets if name and _names(key, asset) == (name,)]
    if not same and len(assets) == 1:
        same = assets
    key, asset = same[0] if same else (path.stem, {})
    return _Asset(key, asset, _located(item, asset, path))


def _remote_assets(item: Item, base: Path | str) -> list[_Asset]:
    address = "" if isinstance(base, Path) else base
    return [
        _Asset(key, asset, asset["href"] if _is_absolute(asset["href"])
               else urljoin(address, asset["href"]))
        for key, asset in _candidates(item)
        if _names(key, asset)
    ]  # fmt: skip


def _is_absolute(href: str) -> bool:
    return bool(urlsplit(href).scheme)


def _located(item: Item, asset: Item, path: Path) -> str:
    """The file's path; as GDAL's vrt:// with CRS and corners where only the item knows them.

    A file may be coarser than the asset it was made from (a thinned copy), so the corners come
    from the item and the pixel size from the file.
    """
    with rasters.open_raster(path) as src:
        if src.crs:
            return str(path.absolute())
    epsg, corners = _epsg(item, asset), _corners(item, asset)
    if epsg is None or corners is None:
        raise MissingFactError(
            f"{path}: not georeferenced, and the STAC Item does not say where it lies: state "
            "proj:code with proj:bbox, or with proj:transform and proj:shape"
        )
    if "?" in str(path.absolute()):
        raise SceneError(f"{path}: not georeferenced, and GDAL cannot be told with a ? in its path")
    west, south, east, north = corners
    ullr = f"{west:.10g},{north:.10g},{east:.10g},{south:.10g}"
    return f"vrt://{path.absolute()}?a_srs=EPSG:{epsg}&a_ullr={ullr}"


def _corners(item: Item, asset: Item) -> tuple[float, float, float, float] | None:
    bbox = _said(item, asset, "proj:bbox")
    if bbox:
        return (bbox[0], bbox[1], bbox[2], bbox[3])
    transform, size = _said(item, asset, "proj:transform"), _said(item, asset, "proj:shape")
    if not transform or not size:
        return None
    a, _, west, _, e, north = transform[:6]
    return (west, north + e * size[0], west + a * size[1], north)


def _name_facts(item: Item) -> Facts:
    """What the product's name says, if the item holds one: it is the same from every provider."""
    for text in (item["properties"].get("s2:product_uri"), item.get("id")):
        product = products.find(text or "")
        if product:
            return facts.of_product(product)
    return Facts()


def _item_facts(item: Item) -> Facts:
    properties = item["properties"]
    platform = _platform(properties.get("platform"))
    relative_orbit = properties.get("sat:relative_orbit")
    cloud = properties.get("eo:cloud_cover")
    return Facts(
        reference=item.get("id"),
        kind=_kind(properties),
        platform=platform,
        obstime=_time(properties, "start_datetime", "datetime"),
        acquisition=_acquisition(properties, platform, relative_orbit),
        orbit_direction=facts.direction_of(properties.get("sat:orbit_state") or ""),
        relative_orbit=None if relative_orbit is None else int(relative_orbit),
        tile=_tile(properties),
        baseline=_baseline(properties),
        produced_at=_time(properties, "s2:generation_time", "processing:datetime"),
        cloud_cover_pct=None if cloud is None else float(cloud),
        footprint=_outline(item),
    )


def _kind(properties: Item) -> str | None:
    said = properties.get("product:type") or properties.get("s2:product_type")
    if said == "S2MSI1C":
        raise SceneError("Level-1C is not analysis-ready: take the Level-2A item")
    return _KINDS.get(str(said).replace("_", "-"))


def _platform(said: str | None) -> str | None:
    match = _PLATFORM.fullmatch(said or "")
    return f"S{match[1]}{match[2].upper()}" if match else None


def _acquisition(properties: Item, platform: str | None, relative_orbit: Any) -> str | None:
    """The overpass, in the form that product names give it (`store.products.Product`)."""
    absolute_orbit = properties.get("sat:absolute_orbit")
    if platform and platform.startswith("S1") and absolute_orbit is not None:
        return f"{platform}_{int(absolute_orbit):06d}"
    datatake = properties.get("s2:datatake_id") or properties.get("eopf:datatake_id")
    match = _DATATAKE.match(datatake or "")
    if platform and match and relative_orbit is not None:
        return f"{platform}_{match[1]}_R{int(relative_orbit):03d}"
    return None


def _time(properties: Item, *names: str) -> datetime | None:
    text = next((properties[name] for name in names if properties.get(name)), None)
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _tile(properties: Item) -> str | None:
    code = str(properties.get("grid:code") or properties.get("s2:mgrs_tile") or "")
    match = re.fullmatch(r"(?:MGRS-)?T?(\d{2}[A-Z]{3})", code)
    return match[1] if match else None


def _baseline(properties: Item) -> str | None:
    said = properties.get("s2:processing_baseline") or properties.get("processing:version")
    return said if re.fullmatch(r"\d{2}\.\d{2}", str(said)) else None


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
    code = _said(item, asset, "proj:code") or _said(item, asset, "proj:epsg")
    match = re.fullmatch(r"(?:EPSG:)?(\d+)", str(code))
    return int(match[1]) if match else None


def _said(item: Item, asset: Item, name: str, band: int = 0) -> Any:
    """What an item says of a band: in the band, else in the asset, else in the properties."""
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
    texts = [str(entry.get("name") or entry.get("eo:common_name")) for entry in entries or ()]
    return tuple(_band(text) or text for text in texts)


def _band(text: str) -> str | None:
    short = _KEY_ENDING.sub("", text)
    return _BAND_NAMES.get(short.lower()) or rasters.band_name(short)


def _assets_facts(item: Item, assets: list[_Asset]) -> Facts:
    """What the assets say together; a file's own CRS counts more than the item's."""
    ranked = sorted(assets, key=lambda asset: asset.said.get("type") == "image/jp2")
    said = [_asset_facts(item, asset) for asset in ranked]
    bands = facts.finest(pair for one in said for pair in one.bands.items())
    return facts.combine(replace(Facts(), bands=bands), *(replace(one, bands={}) for one in said))


def _asset_facts(item: Item, asset: _Asset) -> Facts:
    names = _names(asset.key, asset.said, item["properties"])
    described = Facts(epsg=_epsg(item, asset.said))
    if not _is_local(asset.href):
        bands = {n: _band_facts(item, asset, i, asset.href) for i, n in enumerate(names)}
        return replace(described, bands=bands)
    read = rasters.facts([_source(asset.href)], names)
    bands = {n: _band_facts(item, asset, (b.index or 1) - 1, None) for n, b in read.bands.items()}
    joined = facts.combine(Facts(bands=bands), read)
    return facts.combine(Facts(epsg=read.epsg), joined, described)


def _is_local(href: str) -> bool:
    return href.startswith(("/", "vrt://"))


def _source(href: str) -> Path | str:
    return Path(href) if href.startswith("/") else href


def _band_facts(item: Item, asset: _Asset, index: int, href: str | None) -> BandFacts:
    nodata, scale = (_said(item, asset.said, name, index) for name in ("nodata", "scale"))
    unit = _said(item, asset.said, "unit", index)
    return BandFacts(
        href=href,
        index=index + 1,
        dtype=_said(item, asset.said, "data_type", index) if href else None,
        nodata=None if nodata is None else float(nodata),
        unit=None if unit is None else str(unit).lower(),
        scale=None if scale is None else float(scale),
        offset=_offset(item, asset, index, scale),
        res_m=_resolution(item, asset, index) if href else None,
    )


def _offset(item: Item, asset: _Asset, index: int, scale: Any) -> float | None:
    """Offset in the file's own unit: STAC gives it in the physical one."""
    if _applied(item) and not asset.key.endswith("-jp2"):
        return 0.0
    offset = _said(item, asset.said, "offset", index)
    return None if offset is None else round(float(offset) / float(scale or 1), 6)


def _applied(item: Item) -> bool:
    """Whether the provider applied the offset already (earthsearch:boa_offset_applied)."""
    return any(
        value is True
        for name, value in item["properties"].items()
        if name.rsplit(":", 1)[-1] == "boa_offset_applied"
    )


def _resolution(item: Item, asset: _Asset, index: int) -> float | None:
    transform = asset.said.get("proj:transform")
    said = transform[0] if transform else _said(item, asset.said, "spatial_resolution", index)
    return float(said) if said else _said(item, asset.said, "gsd", index)
