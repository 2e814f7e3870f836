"""CARD as files: a COG of the values, a COG of the mask, a STAC Item that says how they were made.

A product is made in a hidden folder beside its place and appears there by one rename, whole. It
holds no time of making, so that a rerun gives the same bytes.
"""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window
from shapely import Polygon
from shapely.geometry import mapping
from shapely.geometry.polygon import orient

from card.make import backscatter, kernels
from card.make.annotation import Annotation
from card.make.backscatter import BackscatterPlan, BackscatterTile, Tile, all_tiles
from card.make.dem import Dem
from store import raster
from store.errors import ConflictError, SceneError
from store.grid import Grid

UNITS: Mapping[str, str] = MappingProxyType(
    {"gamma0": "gamma0_terrain_linear", "gamma0_ellipsoid": "gamma0_ellipsoid_linear"}
)
"""Units of the radiometries, as scene rows state them."""

_SOFTWARE = "cbm-appliance"
_EXTENSIONS = (
    "classification/v2.0.0", "file/v2.1.0", "processing/v1.2.0", "projection/v2.0.0",
    "raster/v1.1.0", "sar/v1.0.0", "sat/v1.0.0",
)  # fmt: skip
_BLOCK_PX = 512
_TEMPORARY = {"driver": "GTiff", "tiled": True, "sparse_ok": True, "bigtiff": "YES"}
_COG = {
    "driver": "COG", "compress": "ZSTD", "level": 1, "blocksize": _BLOCK_PX, "bigtiff": "IF_SAFER",
    "sparse_ok": True, "copy_src_overviews": True,
}  # fmt: skip
_COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
_MASK_BITS = {
    "layover": kernels.LAYOVER, "shadow": kernels.SHADOW, "border": kernels.BORDER,
    "no_height": kernels.NO_HEIGHT,
}  # fmt: skip


@dataclass
class PixelCounts:
    """What a product is made of, counted while it is written.

    Attributes:
        valid: pixels with a value, by band.
        negative: of them below 0, where the noise was more than the signal.
        flagged: pixels with each bit of the mask.
    """

    valid: dict[str, int]
    negative: dict[str, int]
    flagged: dict[str, int]

    @classmethod
    def of(cls, bands: Iterable[str]) -> "PixelCounts":
        """Nothing counted yet."""
        names = list(bands)
        return cls(dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(_MASK_BITS, 0))

    def add(self, made: BackscatterTile) -> None:
        """Count a tile."""
        for name, values in zip(self.valid, made.values, strict=True):
            self.valid[name] += int(np.count_nonzero(~np.isnan(values)))
            self.negative[name] += int(np.count_nonzero(values < 0))
        for name, bit in _MASK_BITS.items():
            self.flagged[name] += int(np.count_nonzero(made.flags & bit))


def product_name(reference: str) -> str:
    """Name of the CARD-BS made of a GRD."""
    return f"{reference}_CARD_BS"


def write(
    order: BackscatterPlan, tiles: Iterable[BackscatterTile], into: Path, *, replace: bool = False
) -> Path:
    """Write CARD-BS from its tiles.

    Args:
        order: what is made.
        tiles: all of the plan's, in any order.
        into: folder in which the product becomes a folder of its own.
        replace: take away what is there under its name.

    Returns:
        The product's folder.

    Raises:
        SceneError: no pixel has a value.
        ConflictError: meanwhile somebody else put a product of that name there.
    """
    name = product_name(order.product.reference)
    with temporary_folder(into, name) as folder:
        counts = _write_rasters(order, tiles, folder, name)
        if not any(counts.valid.values()):
            raise SceneError(f"{order.product.folder}: no pixel of it lies on known terrain")
        outline = backscatter.footprint(order.images)
        properties, assets = _properties(order, counts), _assets(order, folder, name)
        write_item(folder, stac_item(name, outline, properties, assets))
        return publish(folder, into / name, replace=replace)


def write_item(folder: Path, item: Mapping[str, Any]) -> None:
    """Write a STAC Item beside its assets."""
    path = folder / f"{item['id']}.json"
    path.write_text(json.dumps(item, indent=1) + "\n", encoding="utf-8")


@contextmanager
def temporary_folder(into: Path, name: str) -> Iterator[Path]:
    """A hidden folder for a product in the making; gone at the end unless it was published.

    It is locked as long as this process lives, so that others can tell it from a dead one's.
    """
    into.mkdir(parents=True, exist_ok=True)
    sweep(into, name)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=into))
    folder.chmod(0o755)
    opened = _open_locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if opened is not None:
            os.close(opened)


def sweep(into: Path, name: str) -> None:
    """Remove what killed processes left of a product; one that was being replaced is put back.

    Where a file system has no locks on folders (NFS), the living look as the dead do, and
    nothing is removed.
    """
    for left in into.glob(f".{glob.escape(name)}.*"):
        if (opened := _open_locked(left)) is None:
            continue
        try:
            if (left / name).is_dir() and not (into / name).exists():
                (left / name).rename(into / name)
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(opened)


def _open_locked(folder: Path) -> int | None:
    """A descriptor through which others find a folder locked; None if it cannot be locked."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened


def publish(folder: Path, place: Path, *, replace: bool = False) -> Path:
    """Put a finished folder in its place, in one step; `replace` moves aside what is there.

    Raises:
        ConflictError: something is there already.
    """
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sweep(place.parent, place.name)
    if replace and place.exists():
        with temporary_folder(place.parent, place.name) as old:
            place.rename(old / place.name)
            folder.rename(place)
        return place
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise ConflictError(f"{place} is there already") from None
    return place


def version(ipf: tuple[int, int]) -> str:
    """A version of ESA's processor as it is written, such as 3.40."""
    return f"{ipf[0]}.{ipf[1]:02d}"


def inputs(order: BackscatterPlan) -> dict[str, Any]:
    """What a product is a function of; two with the same inputs have the same bytes."""
    settings = order.settings
    return {
        "cbm:source": order.product.reference,
        "cbm:orbit_file": order.orbit.source,
        "cbm:radiometry": settings.radiometry,
        "cbm:area_smoothing": settings.smoothing,
        "cbm:ground_range_update": "nearest" if settings.nearest_update else "linear",
        "cbm:negative_values": "clipped" if settings.clip else "kept",
    } | map_inputs(order.dem, order.grid)


def map_inputs(terrain: Dem, grid: Grid) -> dict[str, Any]:
    """The inputs that products of all kinds have: terrain, output grid and this software."""
    return {
        "cbm:dem": terrain.name,
        "cbm:dem_key": terrain.key,
        "cbm:geoid": terrain.geoid.name if terrain.geoid else None,
        "proj:code": f"EPSG:{grid.epsg}",
        "gsd": grid.res_m,
        "processing:software": {_SOFTWARE: metadata.version(_SOFTWARE)},
    }


def differences(wanted: Mapping[str, Any], place: Path) -> list[str] | None:
    """How a product that is there differs from wanted inputs; None where none is there."""
    path = place / f"{place.name}.json"
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["properties"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{path} cannot be read"]
    return [
        f"{name} was {known.get(name)!r} and is {value!r}"
        for name, value in wanted.items()
        if known.get(name) != value
    ]


def _write_rasters(
    order: BackscatterPlan, tiles: Iterable[BackscatterTile], folder: Path, name: str
) -> PixelCounts:
    counts = PixelCounts.of(order.bands)
    values, masks = folder / "values.tif", folder / "mask.tif"
    with (
        raster.gdal_env(),
        create_raster(values, order.grid, "float32", np.nan, order.bands) as out,
        create_raster(
            masks, order.grid, "uint8", None, ("mask", "local_incidence_angle")
        ) as mask_out,
    ):
        out.units = [UNITS[order.settings.radiometry]] * len(order.bands)
        out.update_tags(PASS=order.images[0].annotation.orbit_direction.upper())
        for tile in {*all_tiles(order.grid, order.settings.tile_px)} - {*order.tiles}:
            _fill(mask_out, tile, kernels.BORDER, 255)
        for made in tiles:
            counts.add(made)
            window = window_of(made.tile)
            if not np.isnan(made.values).all():
                out.write(made.values, window=window)
            mask_out.write(np.stack([made.flags, made.angles]), window=window)
    with raster.gdal_env():
        # Predictor 3 orders the bytes of floats, 2 takes differences of integers.
        for source, to, predictor, averaging in (
            (values, folder / f"{name}.tif", 3, "AVERAGE"),
            (masks, folder / f"{name}_mask.tif", 2, "NEAREST"),
        ):
            write_cog(source, to, predictor, averaging)
    return counts


def write_cog(source: Path, to: Path, predictor: int, averaging: str) -> None:
    """Make a COG of a raster, and take that away."""
    rasterio.shutil.copy(source, to, predictor=predictor, overview_resampling=averaging, **_COG)
    source.unlink()


def _fill(out: Any, tile: Tile, *values: int) -> None:
    shape = tile.row1 - tile.row0, tile.col1 - tile.col0
    bands = np.stack([np.full(shape, value, np.uint8) for value in values])
    out.write(bands, window=window_of(tile))


def window_of(tile: Tile) -> Window:
    """A tile as rasterio has it."""
    return Window(tile.col0, tile.row0, tile.col1 - tile.col0, tile.row1 - tile.row0)


@contextmanager
def create_raster(
    path: Path, grid: Grid, dtype: str, nodata: float | None, bands: tuple[str, ...]
) -> Iterator[Any]:
    """A new raster, to be written by windows, in a form that `write_cog` takes."""
    with rasterio.open(
        path, "w", dtype=dtype, nodata=nodata, count=len(bands), crs=f"EPSG:{grid.epsg}",
        height=grid.height_px, width=grid.width_px, transform=_affine(grid),
        blockxsize=_BLOCK_PX, blockysize=_BLOCK_PX, interleave="band", **_TEMPORARY,
    ) as out:  # fmt: skip
        out.descriptions = bands
        yield out


def _affine(grid: Grid) -> rasterio.Affine:
    return rasterio.Affine(grid.res_m, 0, grid.west_m, 0, -grid.res_m, grid.north_m)


def stac_item(
    name: str, outline: list[tuple[float, float]], properties: dict[str, Any],
    assets: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """A STAC Item; the outline is longitudes and latitudes."""
    shape = orient(Polygon(outline))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            f"https://stac-extensions.github.io/{each}/schema.json" for each in _EXTENSIONS
        ],
        "id": name,
        "geometry": mapping(shape),
        "bbox": [round(bound, 6) for bound in shape.bounds],
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def _properties(order: BackscatterPlan, counts: PixelCounts) -> dict[str, Any]:
    image = order.images[0].annotation
    noisy = [one.polarisation for one in order.images if one.noise.is_zero]
    end = image.epoch + timedelta(seconds=image.last_s)
    return (
        sensing_facts(image, (image.epoch, end), order.product.relative_orbit, order.bands)
        | {
            "product:type": "CARD-BS",
            "sar:product_type": "RTC" if order.settings.radiometry == "gamma0" else "GTC",
            "processing:lineage": _lineage(order, noisy),
            "cbm:ipf": version(order.product.ipf),
            "cbm:orbit_residual_m": float(f"{order.orbit.residual_m:.3g}"),
            "cbm:noise": "not removed" if noisy else "removed",
            "cbm:speckle_filter": None,
            "cbm:valid_pixels": counts.valid,
            "cbm:negative_pixels": counts.negative,
            "cbm:flagged_pixels": counts.flagged,
        }
        | inputs(order)
    )


def sensing_facts(
    image: Annotation, span: tuple[datetime, datetime], relative_orbit: int, bands: Iterable[str]
) -> dict[str, Any]:
    """Properties of an Item that say when and by what its scene was seen, first and last time."""
    return {
        "datetime": iso_time(span[0]),
        "start_datetime": iso_time(span[0]),
        "end_datetime": iso_time(span[1]),
        "platform": f"sentinel-{image.platform[1:].lower()}",
        "constellation": "sentinel-1",
        "instruments": ["c-sar"],
        "sar:instrument_mode": image.mode,
        "sar:frequency_band": "C",
        "sar:center_frequency": image.frequency_hz / 1e9,
        "sar:polarizations": list(bands),
        "sar:observation_direction": "right",
        "sat:orbit_state": image.orbit_direction,
        "sat:absolute_orbit": image.orbit_number,
        "sat:relative_orbit": relative_orbit,
        "processing:level": "L2",
    }


def _lineage(order: BackscatterPlan, noisy: list[str]) -> str:
    flat = order.settings.radiometry == "gamma0_ellipsoid"
    noise = (
        f"thermal noise not removed from {'/'.join(noisy)}, for the product states none"
        if noisy else "thermal noise removed"
    )  # fmt: skip
    return (
        f"Sentinel-1 GRD; {noise}; gamma0 {'on the ellipsoid' if flat else 'terrain-flattened'}; "
        f"geocoded with {order.orbit.source} and {order.dem.name}, bilinear; no speckle filter"
    )


def _assets(order: BackscatterPlan, folder: Path, name: str) -> dict[str, Any]:
    mask = folder / f"{name}_mask.tif"
    return {
        "values": values_asset(
            folder / f"{name}.tif", order.grid, order.bands, UNITS[order.settings.radiometry]
        ),
        "mask": {
            "href": mask.name,
            "type": _COG_TYPE,
            "roles": ["data-mask"],
            "description": "; ".join(f"{bit} {flag}" for flag, bit in _MASK_BITS.items()),
            "bands": [
                {"name": "mask", "data_type": "uint8", "classification:bitfields": _bit_fields()},
                {"name": "local_incidence_angle", "data_type": "uint8", "nodata": 255,
                 "unit": "deg"},
            ],
            **_grid_facts(order.grid),
            **_file_facts(mask),
        },
    }  # fmt: skip


def _bit_fields() -> list[dict[str, Any]]:
    return [
        {
            "name": flag,
            "offset": bit.bit_length() - 1,
            "length": 1,
            "classes": [{"value": 0, "name": "clear"}, {"value": 1, "name": flag}],
        }
        for flag, bit in _MASK_BITS.items()
    ]


def values_asset(path: Path, grid: Grid, bands: Iterable[str], unit: str) -> dict[str, Any]:
    """The asset of an Item that holds a product's values."""
    return {
        "href": path.name,
        "type": _COG_TYPE,
        "roles": ["data"],
        "bands": [
            {"name": band, "data_type": "float32", "nodata": "nan", "unit": unit} for band in bands
        ],
        **_grid_facts(grid),
        **_file_facts(path),
    }


def _grid_facts(grid: Grid) -> dict[str, Any]:
    return {
        "proj:shape": [grid.height_px, grid.width_px],
        "proj:transform": list(_affine(grid))[:6],
        "proj:bbox": list(grid.bounds_m),
    }


def _file_facts(path: Path) -> dict[str, Any]:
    """Size and checksum as a multihash: sha2-256 (12), 32 bytes (20)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file:size": path.stat().st_size, "file:checksum": f"1220{digest}"}


def iso_time(moment: datetime) -> str:
    """A time in UTC as Items state it."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
