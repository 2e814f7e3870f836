"""Sentinel-1 CARD-BS over the synthetic Member State: terrain-flattened gamma0 as power, VV and VH.

Half of the scenes come as SNAP writes them (BEAM-DIMAP: a .dim file and a .data folder of
big-endian ENVI rasters, on a grid of their own), half as cloud-optimised GeoTIFF.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from standalone.synthetic.crops import S1_BANDS, backscatter
from standalone.synthetic.landscape import Landscape, Raster, stream
from store.grid import Grid

DIMAP = "dimap"
COG = "cog"

GRID_SHIFT_M = {DIMAP: (4.0, -7.0), COG: (0.0, 0.0)}
"""How far east and north each layout's grid lies off multiples of 10 m."""

_ANCHOR = (39156, 59, datetime(2021, 8, 9, 17, 39, 53, tzinfo=UTC))
"""A real pass of Sentinel-1A: absolute orbit, relative orbit, time."""

_ORBITS_PER_CYCLE = 175
_CYCLE_D = 12
_SLICE = timedelta(seconds=25)
_LOOKS = 4.4  # equivalent number of looks of IW GRDH products
_MOISTURE_DB = 0.6
_ASCENDING_DB = 0.4
_EMPTY_LINES = 2
_UNIT = "gamma0_terrain_linear"
"""Of GeoTIFF; BEAM-DIMAP says it by the operators that SNAP ran."""


@dataclass(frozen=True)
class RadarScene:
    """One CARD-BS scene.

    Attributes:
        start: start of sensing, UTC.
        relative_orbit: 15 (ascending) or 66 (descending).
        direction: ASCENDING or DESCENDING.
        layout: DIMAP or COG.
    """

    start: datetime
    relative_orbit: int
    direction: str
    layout: str

    @property
    def absolute_orbit(self) -> int:
        """Orbits since launch, reckoned from a real pass of the satellite."""
        absolute, relative, time = _ANCHOR
        cycles = (self.start - time) / timedelta(days=_CYCLE_D)
        ahead = self.relative_orbit - relative
        return absolute + ahead + _ORBITS_PER_CYCLE * round(cycles - ahead / _ORBITS_PER_CYCLE)

    @property
    def name(self) -> str:
        """Product name: that of the GRD it is made of, with _CARD_BS."""
        start, stop = (f"{t:%Y%m%dT%H%M%S}" for t in (self.start, self.start + _SLICE))
        orbit = self.absolute_orbit
        plain = f"S1A_IW_GRDH_1SDV_{start}_{stop}_{orbit:06d}_{_take(orbit):06X}"
        return f"{plain}_{zlib.crc32(plain.encode()) & 0xFFFF:04X}_CARD_BS"


def _scene(date: str, orbit: int, layout: str) -> RadarScene:
    time, direction = {15: ("17:14:12", "ASCENDING"), 66: ("05:34:03", "DESCENDING")}[orbit]
    start = datetime.fromisoformat(f"{date}T{time}+00:00").astimezone(UTC)
    return RadarScene(start, orbit, direction, layout)


SEASON = (
    _scene("2024-03-11", 15, DIMAP),
    _scene("2024-04-08", 66, COG),
    _scene("2024-05-10", 15, COG),
    _scene("2024-06-07", 66, DIMAP),
    _scene("2024-06-27", 15, DIMAP),
    _scene("2024-07-25", 66, COG),
    _scene("2024-08-14", 15, COG),
    _scene("2024-09-11", 66, DIMAP),
)
"""Dates on which Sentinel-1A passed in these orbits, reckoned by its 12-day cycle."""


def grid_of(whole: Grid, layout: str) -> Grid:
    """The grid of a layout's scenes, as large as `whole` and less than a pixel beside it."""
    east, north = GRID_SHIFT_M[layout]
    return replace(whole, west_m=whole.west_m + east, north_m=whole.north_m + north)


def view(land: Landscape, scene: RadarScene, seed: int) -> dict[str, Raster]:
    """Gamma0 with speckle, linear power, by band; 0 is no data.

    Scenes in BEAM-DIMAP have the empty lines that are left where two frames are joined.
    """
    rng = stream(seed, f"s1 {scene.start:%Y-%m-%d}")
    level = land.by_label(backscatter, scene.start.timetuple().tm_yday)
    level += rng.normal(0, _MOISTURE_DB)
    level += _ASCENDING_DB if scene.direction == "ASCENDING" else -_ASCENDING_DB
    power = (10 ** (level / 10)).astype(np.float32)
    bands = {}
    for i, band in enumerate(S1_BANDS):
        speckle = rng.standard_gamma(_LOOKS, land.label.shape, dtype=np.float32) / _LOOKS
        bands[band] = power[land.label, i] * speckle.astype(np.float32)
        if scene.layout == DIMAP:
            joint = land.grid.height_px // 3
            bands[band][joint : joint + _EMPTY_LINES] = 0
    return bands


def write_scene(folder: Path, scene: RadarScene, bands: Mapping[str, Raster], grid: Grid) -> Path:
    """Write a scene in its layout into a folder of its name, and return that folder."""
    home = folder / scene.name
    home.mkdir(parents=True)
    write = _write_dimap if scene.layout == DIMAP else _write_cog
    write(home, scene, bands, grid)
    return home


def _write_cog(home: Path, scene: RadarScene, bands: Mapping[str, Raster], grid: Grid) -> None:
    with rasterio.open(
        home / f"{scene.name}.tif",
        "w",
        driver="COG",
        height=grid.height_px,
        width=grid.width_px,
        count=len(bands),
        dtype="float32",
        crs=f"EPSG:{grid.epsg}",
        nodata=0,
        transform=from_origin(grid.west_m, grid.north_m, grid.res_m, grid.res_m),
        COMPRESS="DEFLATE",
        LEVEL="1",
        PREDICTOR="YES",
        OVERVIEWS="NONE",
    ) as out:
        out.update_tags(**_facts(scene))
        out.units = [_UNIT] * len(bands)
        for number, (band, values) in enumerate(bands.items(), start=1):
            out.write(values, number)
            out.set_band_description(number, band)


def _write_dimap(home: Path, scene: RadarScene, bands: Mapping[str, Raster], grid: Grid) -> None:
    data = home / f"{scene.name}.data"
    data.mkdir()
    for band, values in bands.items():
        values.astype(">f4").tofile(data / f"Gamma0_{band}.img")
        (data / f"Gamma0_{band}.hdr").write_text(_envi_header(band, grid))
    (home / f"{scene.name}.dim").write_text(_dim_xml(scene, list(bands), grid))


def _take(orbit: int) -> int:
    """A datatake number that goes with an orbit; invented."""
    return orbit * 8 + 0x1A2B


def _facts(scene: RadarScene) -> dict[str, str]:
    """What SNAP calls abstracted metadata, as far as it is needed."""
    form = "%d-%b-%Y %H:%M:%S.000000"
    return {
        "PRODUCT": scene.name,
        "PRODUCT_TYPE": "GRD",
        "MISSION": "SENTINEL-1A",
        "ACQUISITION_MODE": "IW",
        "PASS": scene.direction,
        "first_line_time": f"{scene.start:{form}}".upper(),
        "last_line_time": f"{scene.start + _SLICE:{form}}".upper(),
        "REL_ORBIT": str(scene.relative_orbit),
        "ABS_ORBIT": str(scene.absolute_orbit),
    }


def _wkt(grid: Grid) -> str:
    """The UTM zone under the name SNAP gives it, which no register knows."""
    zone = grid.epsg % 100
    return (
        'PROJCS["WGS84 / Auto UTM",GEOGCS["WGS84(DD)",DATUM["WGS84",'
        'SPHEROID["WGS84",6378137.0,298.257223563]],PRIMEM["Greenwich",0.0],'
        'UNIT["degree",0.017453292519943295]],PROJECTION["Transverse_Mercator"],'
        f'PARAMETER["central_meridian",{6 * zone - 183}.0],PARAMETER["latitude_of_origin",0.0],'
        'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000.0],'
        'PARAMETER["false_northing",0.0],UNIT["m",1.0]]'
    )


def _envi_header(band: str, grid: Grid) -> str:
    return f"""ENVI
description = {{Gamma0_{band} - Unit: intensity}}
samples = {grid.width_px}
lines = {grid.height_px}
bands = 1
header offset = 0
file type = ENVI Standard
data type = 4
interleave = bsq
byte order = 1
map info = {{WGS84 / Auto UTM, 1.0, 1.0, {grid.west_m}, {grid.north_m}, {grid.res_m}, \
{grid.res_m}, WGS84, units=Meters}}
coordinate system string = {{{_wkt(grid)}}}
band names = {{Gamma0_{band}}}
data ignore value = 0.0
"""


def _dim_xml(scene: RadarScene, bands: list[str], grid: Grid) -> str:
    files = "\n".join(
        f"""    <Data_File>
      <DATA_FILE_PATH href="{scene.name}.data/Gamma0_{band}.hdr"/>
      <BAND_INDEX>{i}</BAND_INDEX>
    </Data_File>"""
        for i, band in enumerate(bands)
    )
    described = "\n".join(
        f"""    <Spectral_Band_Info>
      <BAND_INDEX>{i}</BAND_INDEX>
      <BAND_NAME>Gamma0_{band}</BAND_NAME>
      <BAND_RASTER_WIDTH>{grid.width_px}</BAND_RASTER_WIDTH>
      <BAND_RASTER_HEIGHT>{grid.height_px}</BAND_RASTER_HEIGHT>
      <DATA_TYPE>float32</DATA_TYPE>
      <PHYSICAL_UNIT>intensity</PHYSICAL_UNIT>
      <LOG10_SCALED>false</LOG10_SCALED>
      <NO_DATA_VALUE_USED>true</NO_DATA_VALUE_USED>
      <NO_DATA_VALUE>0.0</NO_DATA_VALUE>
    </Spectral_Band_Info>"""
        for i, band in enumerate(bands)
    )
    facts = "\n".join(
        f'        <MDATTR name="{name}" type="ascii" mode="rw">{value}</MDATTR>'
        for name, value in _facts(scene).items()
    )
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<Dimap_Document name="{scene.name}.dim">
  <Metadata_Id>
    <METADATA_FORMAT version="2.12.1">DIMAP</METADATA_FORMAT>
    <METADATA_PROFILE>BEAM-DATAMODEL-V1</METADATA_PROFILE>
  </Metadata_Id>
  <Dataset_Id>
    <DATASET_SERIES>BEAM-PRODUCT</DATASET_SERIES>
    <DATASET_NAME>{scene.name}</DATASET_NAME>
  </Dataset_Id>
  <Production>
    <DATASET_PRODUCER_NAME />
    <PRODUCT_TYPE>GRD</PRODUCT_TYPE>
    <PRODUCT_SCENE_RASTER_START_TIME>{_facts(scene)["first_line_time"]}\
</PRODUCT_SCENE_RASTER_START_TIME>
    <PRODUCT_SCENE_RASTER_STOP_TIME>{_facts(scene)["last_line_time"]}\
</PRODUCT_SCENE_RASTER_STOP_TIME>
  </Production>
  <Coordinate_Reference_System>
    <WKT>{_wkt(grid)}</WKT>
  </Coordinate_Reference_System>
  <Geoposition>
    <IMAGE_TO_MODEL_TRANSFORM>{grid.res_m},0.0,0.0,-{grid.res_m},{grid.west_m},{grid.north_m}\
</IMAGE_TO_MODEL_TRANSFORM>
  </Geoposition>
  <Raster_Dimensions>
    <NCOLS>{grid.width_px}</NCOLS>
    <NROWS>{grid.height_px}</NROWS>
    <NBANDS>{len(bands)}</NBANDS>
  </Raster_Dimensions>
  <Data_Access>
    <DATA_FILE_FORMAT>ENVI</DATA_FILE_FORMAT>
    <DATA_FILE_FORMAT_DESC>ENVI File Format</DATA_FILE_FORMAT_DESC>
    <DATA_FILE_ORGANISATION>BAND_SEPARATE</DATA_FILE_ORGANISATION>
{files}
  </Data_Access>
  <Image_Interpretation>
{described}
  </Image_Interpretation>
  <Dataset_Sources>
    <MDElem name="metadata">
      <MDElem name="Abstracted_Metadata">
{facts}
      </MDElem>
      <MDElem name="Processing_Graph">
        <MDElem name="node.0">
          <MDATTR name="operator" type="ascii" mode="rw">Terrain-Flattening</MDATTR>
        </MDElem>
      </MDElem>
    </MDElem>
  </Dataset_Sources>
</Dimap_Document>
"""
