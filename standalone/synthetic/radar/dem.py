"""DEMs of an analytic terrain, with their vertical datum stated, and the geoid they need."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from rasterio.transform import Affine, from_origin

from standalone.synthetic.radar.projection import Floats, Ints
from standalone.synthetic.radar.terrain import AnalyticTerrain, Site

ELLIPSOID = "ellipsoid"
GEOID = "geoid"

UTM = "utm"
GEOGRAPHIC = "geographic"

DATUM_TAG = "VERTICAL_DATUM"
"""Tag of a DEM's file that repeats its vertical datum in words."""

_GEOID_EPSG = 3855
_WGS84_3D = 4979
_WGS84 = 4326
_STRIP = 256
_GEOID_STEP_DEG = 0.05
_GEOID_MARGIN_DEG = 0.5


@dataclass(frozen=True)
class SyntheticDem:
    """A DEM around a site.

    Attributes:
        site: its middle.
        terrain: heights above the ellipsoid.
        side_m: length and width of the area.
        res_m: cell size; a geographic grid has square cells of as many degrees of latitude.
        datum: ELLIPSOID, or GEOID: heights above an undulating surface that passes for EGM2008.
        grid: UTM (of the site's zone) or GEOGRAPHIC (latitude and longitude).
    """

    site: Site
    terrain: AnalyticTerrain
    side_m: float
    res_m: float = 10.0
    datum: str = ELLIPSOID
    grid: str = UTM


def write_dem(path: Path, dem: SyntheticDem) -> Path | None:
    """Write a DEM as GeoTIFF of float32 whose tag, and where possible CRS, states the datum.

    Args:
        path: of the file.
        dem: what it holds; heights are those at the cells' centres.

    Returns:
        For GEOID, a GeoTIFF beside it with the geoid's height above the ellipsoid; else None.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    transform, shape = _cells(dem)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=shape[0],
        width=shape[1],
        count=1,
        dtype="float32",
        crs=_crs(dem),
        transform=transform,
        compress="DEFLATE",
        predictor=3,
    ) as out:
        out.update_tags(**{DATUM_TAG: dem.datum})
        for top in range(0, shape[0], _STRIP):
            rows = np.arange(top, min(top + _STRIP, shape[0]))
            window = rasterio.windows.Window(0, top, shape[1], len(rows))
            out.write(_heights(dem, transform, rows, shape[1]).astype(np.float32), 1, window=window)
    return (
        _write_geoid(path.with_name(f"{path.stem}_geoid.tif"), dem.site)
        if dem.datum == GEOID
        else None
    )


def undulation(lat_deg: Floats, lon_deg: Floats) -> Floats:
    """Height of the invented geoid above the ellipsoid, metres: 42 to 54, as in central Europe."""
    waves = np.sin(np.radians(9.0 * lat_deg + 20)) + np.cos(np.radians(7.0 * lon_deg))
    return np.asarray(48 + 3 * waves)


def _crs(dem: SyntheticDem) -> str:
    """WKT of the CRS, horizontal and vertical.

    Heights above the ellipsoid on a UTM grid have no code that GeoTIFF can hold: there the tag
    alone states the datum.
    """
    flat = dem.site.epsg if dem.grid == UTM else _WGS84
    if dem.datum == GEOID:
        return pyproj.CRS(f"EPSG:{flat}+{_GEOID_EPSG}").to_wkt()
    return pyproj.CRS.from_epsg(flat if dem.grid == UTM else _WGS84_3D).to_wkt()


def _cells(dem: SyntheticDem) -> tuple[Affine, tuple[int, int]]:
    """Transform and shape of a grid whose edges are whole multiples of its cells."""
    half = dem.side_m / 2
    if dem.grid == UTM:
        res, x, y, reach_x, reach_y = dem.res_m, dem.site.east_m, dem.site.north_m, half, half
    else:
        lat, lon = (float(np.degrees(a)) for a in dem.site.geographic())
        degree = 111_320.0
        res, x, y = dem.res_m / degree, lon, lat
        reach_x, reach_y = half / degree / np.cos(np.radians(lat)), half / degree
    left, right = np.floor((x - reach_x) / res), np.ceil((x + reach_x) / res)
    bottom, top = np.floor((y - reach_y) / res), np.ceil((y + reach_y) / res)
    return from_origin(left * res, top * res, res, res), (int(top - bottom), int(right - left))


def _heights(dem: SyntheticDem, transform: Affine, rows: Ints, width: int) -> Floats:
    """Heights of some rows in the DEM's datum."""
    x, y = transform @ tuple(a + 0.5 for a in np.meshgrid(np.arange(width), rows))
    zone = dem.site.zone
    if dem.grid == UTM:
        east, north = x, y
        lat, lon = zone.to_geographic(east, north)
    else:
        lat, lon = np.radians(y), np.radians(x)
        east, north = zone.from_geographic(lat, lon)
    height = dem.terrain.height(east, north)
    if dem.datum == GEOID:
        height = height - undulation(np.degrees(lat), np.degrees(lon))
    return height


def _write_geoid(path: Path, site: Site) -> Path:
    """Write the geoid around a site, on latitudes and longitudes."""
    lat, lon = (float(np.degrees(a)) for a in site.geographic())
    count = round(2 * _GEOID_MARGIN_DEG / _GEOID_STEP_DEG) + 1
    steps = np.arange(count) * _GEOID_STEP_DEG - _GEOID_MARGIN_DEG
    lats, lons = np.meshgrid(lat - steps, lon + steps, indexing="ij")
    half = _GEOID_STEP_DEG / 2
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=count,
        width=count,
        count=1,
        dtype="float32",
        crs=f"EPSG:{_WGS84}",
        transform=from_origin(
            lon - _GEOID_MARGIN_DEG - half,
            lat + _GEOID_MARGIN_DEG + half,
            _GEOID_STEP_DEG,
            _GEOID_STEP_DEG,
        ),
    ) as out:
        out.write(undulation(lats, lons).astype(np.float32), 1)
    return path
