"""What is checked of a scene's files at registration: numbers, grids, and a sample of values."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from card.find.tile import TILE_M, tile_corner
from store import units
from store.catalogue import BandSource
from store.errors import MissingFactError, SceneError
from store.grid import Grid

_CLASSES = 12
_CLASS_SHARE = 0.5
"""At least this share of a scene class band has to be classes: lossy coding makes up others."""


class CheckedBand(Protocol):
    """What is needed of a band: see `card.find.facts.BandFacts`."""

    @property
    def scale(self) -> float | None:
        """Of digital numbers."""

    @property
    def nodata(self) -> float | None:
        """Value that means "no data"."""

    @property
    def sample(self) -> npt.NDArray[Any] | None:
        """Values as stored, of a file at hand."""


def can_hold(dtype: str | None, nodata: float | None) -> bool:
    """Whether a no-data value can occur in a type of pixels; true where either is unknown."""
    if dtype is None or nodata is None:
        return True
    return dtype.startswith("complex") or units.holds(np.dtype(dtype), nodata)


def refuse_numbers(where: str, name: str, scale: float | None, offset: float | None) -> None:
    """Refuse a scale or offset that is none.

    Raises:
        SceneError: names band and number.
    """
    if scale is not None and not 0 < scale < math.inf:
        raise SceneError(
            f"{where}: {name} is stated to have the scale {scale:g}: a scale is a positive number, "
            "state the right one (raster:scale in a STAC Item)"
        )
    if offset is not None and not math.isfinite(offset):
        raise SceneError(
            f"{where}: {name} is stated to have the offset {offset:g}: state the right one "
            "(raster:offset in a STAC Item)"
        )


def refuse_grids(where: str, epsg: int | None, grids: Mapping[str, Grid | None]) -> None:
    """Refuse bands that do not lie on the same ground in the scene's CRS.

    Edges may differ by one pixel of the coarsest band.

    Raises:
        SceneError: names both bands.
    """
    known = {name: grid for name, grid in grids.items() if grid is not None}
    if not known:
        return
    first = min(known, key=lambda name: known[name].res_m)
    tolerance_m = max(grid.res_m for grid in known.values())
    for name, grid in known.items():
        if grid.epsg != epsg:
            raise SceneError(
                f"{where}: {name} is in EPSG:{grid.epsg}, the scene in EPSG:{epsg}: warp its bands "
                "to one CRS"
            )
        apart_m = np.abs(np.subtract(grid.bounds_m, known[first].bounds_m)).max()
        if apart_m > tolerance_m:
            raise SceneError(
                f"{where}: {name} covers other ground than {first}, their edges are up to "
                f"{apart_m:g} m apart: copy the whole files, or warp the bands to one extent"
            )


def refuse_zone(where: str, tile: str | None, grid: Grid | None) -> None:
    """Refuse a raster with the coordinates of the Sentinel-2 tile of its name in another CRS.

    Raises:
        SceneError: names both CRSs.
    """
    corner = tile_corner(tile) if tile else None
    if corner is None or grid is None:
        return
    epsg, west_m, north_m = corner
    west, south, east, north = grid.bounds_m
    inside = (
        west < west_m + TILE_M and east > west_m and south < north_m and north > north_m - TILE_M
    )
    if inside and grid.epsg != epsg:
        raise SceneError(
            f"{where}: its coordinates are those of tile {tile}, which is in EPSG:{epsg}, but the "
            f"files say EPSG:{grid.epsg}: correct that (gdal_edit.py -a_srs EPSG:{epsg})"
        )


def refuse_values(
    where: str, name: str, band: CheckedBand, source: BandSource, unit: str | None
) -> None:
    """Refuse a band whose sample its unit cannot have, or that has a fill value nobody states.

    Args:
        where: file or item, for messages.
        name: of the band.
        band: with a sample, if the file is at hand.
        source: what will be done to its values.
        unit: of the values then; None for scene classes.

    Raises:
        MissingFactError: a fill value is not stated.
        SceneError: values are impossible.
    """
    if band.sample is None:
        return
    if unit is None:
        _refuse_classes(where, name, band.sample[band.sample != band.nodata])
        return
    stored = band.sample
    if source.nodata is not None:
        stored = stored[stored != stored.dtype.type(source.nodata)]
    scale = band.scale if unit == "dn" else None
    values = (stored.astype(np.float64) + source.offset) * source.factor
    if reason := units.impossible_among(values, unit, scale):
        raise SceneError(f"{where}: {name}: {reason}")
    fill = None if source.nodata_stated or not stored.size else units.unstated_fill(stored)
    if fill is not None:
        share = np.count_nonzero(stored == stored.dtype.type(fill)) / stored.size
        raise MissingFactError(
            f'{where}: not stated: whether {fill:g} means "no data" in {name}, which {share:.1%} '
            "of its pixels have (raster:bands nodata in a STAC Item; nan if it is a value)"
        )
    if reason := units.unusual(values, unit, scale):
        raise SceneError(f"{where}: {name}: {reason}")


def _refuse_classes(where: str, name: str, sample: npt.NDArray[Any]) -> None:
    if not sample.size:
        raise SceneError(f"{where}: {name} has no data anywhere: leave it out, or mend it")
    classes = (sample >= 0) & (sample < _CLASSES) & (sample == np.floor(sample))
    if classes.mean() < _CLASS_SHARE:
        raise SceneError(
            f"{where}: {name} holds no scene classes (0 to {_CLASSES - 1}) but values such as "
            f"{sample[~classes][0]:g}: leave it out, or give the right file"
        )
