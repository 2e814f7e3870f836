"""Sentinel-2 L2A products as ESA lays them out: names, folders and metadata.

The metadata hold what readers use, in the elements where ESA's own files have it (product
specification PSD-14); angles, spectral responses, auxiliary data and quality masks are left out.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from store.grid import Grid

OFFSET_SINCE = "04.00"
"""First processing baseline whose products carry BOA_ADD_OFFSET."""

BOA_OFFSET = -1000
"""The offset of those baselines: reflectance = (DN + BOA_OFFSET) / QUANTIFICATION."""

QUANTIFICATION = 10_000

_ANCHORS = {
    "S2A": (42640, 29, datetime(2023, 8, 21, 22, 19, 41, tzinfo=UTC)),
    "S2B": (26649, 25, datetime(2022, 4, 13, 15, 7, 59, tzinfo=UTC)),
}
"""A real pass of each satellite: absolute orbit, relative orbit, time."""

_ORBITS_PER_CYCLE = 143
_CYCLE_D = 10
_BAND_COUNT = 13
_NAMESPACES = (
    'xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/{0}" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="https://psd-14.sentinel2.eo.esa.int/PSD/{0}"'
)


@dataclass(frozen=True)
class SafeProduct:
    """One granule product.

    Attributes:
        platform: S2A or S2B.
        start: start of the datatake's sensing, UTC.
        relative_orbit: 1 .. 143.
        tile: MGRS tile, such as 32TMT.
        baseline: processing baseline, such as 05.10.
        made: time of processing, UTC.
        grid: its 10 m pixels; a window of the tile's grid.
    """

    platform: str
    start: datetime
    relative_orbit: int
    tile: str
    baseline: str
    made: datetime
    grid: Grid

    @property
    def name(self) -> str:
        """Product name without .SAFE."""
        return (
            f"{self.platform}_MSIL2A_{_stamp(self.start)}_N{self.baseline.replace('.', '')}_"
            f"R{self.relative_orbit:03d}_T{self.tile}_{_stamp(self.made)}"
        )

    @property
    def offset_dn(self) -> int:
        """What has to be added to its DN; 0 before OFFSET_SINCE."""
        return BOA_OFFSET if self.baseline >= OFFSET_SINCE else 0

    @property
    def absolute_orbit(self) -> int:
        """Orbits since launch, reckoned from a real pass of the satellite."""
        absolute, relative, time = _ANCHORS[self.platform]
        cycles = (self.start - time) / timedelta(days=_CYCLE_D)
        ahead = self.relative_orbit - relative
        return absolute + ahead + _ORBITS_PER_CYCLE * round(cycles - ahead / _ORBITS_PER_CYCLE)

    @property
    def granule(self) -> str:
        """Folder of the granule within the product."""
        return f"L2A_T{self.tile}_A{self.absolute_orbit:06d}_{_stamp(self.start)}"

    def image(self, band: str, res_m: int) -> str:
        """Path of a band within the product, without .jp2."""
        return (
            f"GRANULE/{self.granule}/IMG_DATA/R{res_m}m/"
            f"T{self.tile}_{_stamp(self.start)}_{band}_{res_m}m"
        )


def write_metadata(
    folder: Path,
    product: SafeProduct,
    images: list[str],
    footprint: BaseGeometry,
    classes_pct: Mapping[int, float],
) -> None:
    """Write MTD_MSIL2A.xml, MTD_TL.xml and manifest.safe of a product whose images are there.

    Args:
        folder: the .SAFE folder.
        product: what it is.
        images: paths of its bands, as SafeProduct.image gives them.
        footprint: polygon without holes where it has data, metres in the product's CRS.
        classes_pct: share of each SCL class in its valid pixels, per cent.
    """
    cloud_pct = sum(classes_pct.get(c, 0.0) for c in (8, 9, 10))
    (folder / "MTD_MSIL2A.xml").write_text(
        _product_xml(product, images, _positions(footprint, product.grid.epsg), cloud_pct)
    )
    (folder / "GRANULE" / product.granule / "MTD_TL.xml").write_text(
        _tile_xml(product, cloud_pct, classes_pct)
    )
    (folder / "manifest.safe").write_text(_manifest(folder))


def _stamp(time: datetime) -> str:
    return f"{time:%Y%m%dT%H%M%S}"


def _iso(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.024Z"


def _positions(footprint: BaseGeometry, epsg: int) -> str:
    """Ring of the footprint as ESA writes it: lat lon lat lon ..., closed."""
    to_wgs84 = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform
    ring = (to_wgs84(x, y) for x, y in shapely.get_coordinates(footprint))
    return " ".join(f"{lat:.10f} {lon:.10f}" for lon, lat in ring) + " "


def _product_xml(product: SafeProduct, images: list[str], positions: str, cloud_pct: float) -> str:
    sat = f"Sentinel-{product.platform[1:]}"
    take = (
        f"G{product.platform}_{_stamp(product.start)}_{product.absolute_orbit:06d}_"
        f"N{product.baseline}"
    )
    files = "\n".join(f"            <IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product {_NAMESPACES.format("User_Product_Level-2A.xsd")}>
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{_iso(product.start)}</PRODUCT_START_TIME>
      <PRODUCT_STOP_TIME>{_iso(product.start)}</PRODUCT_STOP_TIME>
      <PRODUCT_URI>{product.name}.SAFE</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI2A</PRODUCT_TYPE>
      <PROCESSING_BASELINE>{product.baseline}</PROCESSING_BASELINE>
      <GENERATION_TIME>{_iso(product.made)}</GENERATION_TIME>
      <PREVIEW_IMAGE_URL>Not applicable</PREVIEW_IMAGE_URL>
      <PREVIEW_GEO_INFO>Not applicable</PREVIEW_GEO_INFO>
      <Datatake datatakeIdentifier="{take}">
        <SPACECRAFT_NAME>{sat}</SPACECRAFT_NAME>
        <DATATAKE_TYPE>INS-NOBS</DATATAKE_TYPE>
        <DATATAKE_SENSING_START>{_iso(product.start)}</DATATAKE_SENSING_START>
        <SENSING_ORBIT_NUMBER>{product.relative_orbit}</SENSING_ORBIT_NUMBER>
        <SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>
      </Datatake>
      <Query_Options completeSingleTile="true">
        <PRODUCT_FORMAT>SAFE_COMPACT</PRODUCT_FORMAT>
      </Query_Options>
      <Product_Organisation>
        <Granule_List>
          <Granule datastripIdentifier="{_id(product, "DS")}" granuleIdentifier="\
{_id(product, "TL")}" imageFormat="JPEG2000">
{files}
          </Granule>
        </Granule_List>
      </Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT>
        <SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">{QUANTIFICATION}</BOA_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>
{_offsets(product)}    </Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Geometric_Info>
    <Product_Footprint>
      <Product_Footprint>
        <Global_Footprint>
          <EXT_POS_LIST>{positions}</EXT_POS_LIST>
        </Global_Footprint>
      </Product_Footprint>
      <RASTER_CS_TYPE>POINT</RASTER_CS_TYPE>
      <PIXEL_ORIGIN>1</PIXEL_ORIGIN>
    </Product_Footprint>
    <Coordinate_Reference_System>
      <GEO_TABLES version="1">EPSG</GEO_TABLES>
      <HORIZONTAL_CS_TYPE>GEOGRAPHIC</HORIZONTAL_CS_TYPE>
    </Coordinate_Reference_System>
  </n1:Geometric_Info>
  <n1:Quality_Indicators_Info>
    <Cloud_Coverage_Assessment>{cloud_pct:.6f}</Cloud_Coverage_Assessment>
  </n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>
"""


def _id(product: SafeProduct, part: str) -> str:
    where = (
        f"A{product.absolute_orbit:06d}_T{product.tile}"
        if part == "TL"
        else f"S{_stamp(product.start)}"
    )
    return (
        f"{product.platform}_OPER_MSI_L2A_{part}_2BPS_{_stamp(product.made)}_{where}_"
        f"N{product.baseline}"
    )


def _offsets(product: SafeProduct) -> str:
    if not product.offset_dn:
        return ""
    values = "\n".join(
        f'        <BOA_ADD_OFFSET band_id="{band}">{product.offset_dn}</BOA_ADD_OFFSET>'
        for band in range(_BAND_COUNT)
    )
    return f"      <BOA_ADD_OFFSET_VALUES_LIST>\n{values}\n      </BOA_ADD_OFFSET_VALUES_LIST>\n"


_CLASSES = {
    "DARK_FEATURES": 2,
    "CLOUD_SHADOW": 3,
    "VEGETATION": 4,
    "NOT_VEGETATED": 5,
    "WATER": 6,
    "UNCLASSIFIED": 7,
    "MEDIUM_PROBA_CLOUDS": 8,
    "HIGH_PROBA_CLOUDS": 9,
    "THIN_CIRRUS": 10,
    "SNOW_ICE": 11,
}


def _tile_xml(product: SafeProduct, cloud_pct: float, classes_pct: Mapping[int, float]) -> str:
    grid = product.grid
    zone = f"{grid.epsg % 100:02d}N"
    sizes = "\n".join(
        f"""      <Size resolution="{res}">
        <NROWS>{grid.height_px * 10 // res}</NROWS>
        <NCOLS>{grid.width_px * 10 // res}</NCOLS>
      </Size>"""
        for res in (10, 20)
    )
    places = "\n".join(
        f"""      <Geoposition resolution="{res}">
        <ULX>{grid.west_m:.0f}</ULX>
        <ULY>{grid.north_m:.0f}</ULY>
        <XDIM>{res}</XDIM>
        <YDIM>-{res}</YDIM>
      </Geoposition>"""
        for res in (10, 20)
    )
    shares = "\n".join(
        f"      <{name}_PERCENTAGE>{classes_pct.get(c, 0.0):.6f}</{name}_PERCENTAGE>"
        for name, c in _CLASSES.items()
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_Tile_ID {_NAMESPACES.format("S2_PDI_Level-2A_Tile_Metadata.xsd")}>
  <n1:General_Info>
    <TILE_ID metadataLevel="Brief">{_id(product, "TL")}</TILE_ID>
    <DATASTRIP_ID metadataLevel="Standard">{_id(product, "DS")}</DATASTRIP_ID>
    <DOWNLINK_PRIORITY metadataLevel="Standard">NOMINAL</DOWNLINK_PRIORITY>
    <SENSING_TIME metadataLevel="Standard">{_iso(product.start)}</SENSING_TIME>
  </n1:General_Info>
  <n1:Geometric_Info>
    <Tile_Geocoding metadataLevel="Brief">
      <HORIZONTAL_CS_NAME>WGS84 / UTM zone {zone}</HORIZONTAL_CS_NAME>
      <HORIZONTAL_CS_CODE>EPSG:{grid.epsg}</HORIZONTAL_CS_CODE>
{sizes}
{places}
    </Tile_Geocoding>
  </n1:Geometric_Info>
  <n1:Quality_Indicators_Info metadataLevel="Standard">
    <Image_Content_QI>
      <CLOUDY_PIXEL_PERCENTAGE>{cloud_pct:.6f}</CLOUDY_PIXEL_PERCENTAGE>
      <NODATA_PIXEL_PERCENTAGE>{classes_pct.get(0, 0.0):.6f}</NODATA_PIXEL_PERCENTAGE>
{shares}
    </Image_Content_QI>
  </n1:Quality_Indicators_Info>
</n1:Level-2A_Tile_ID>
"""


def _manifest(folder: Path) -> str:
    """List all files of a product with size and MD5, as SAFE asks for."""
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.safe"):
        data = path.read_bytes()
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        entries.append(f"""    <dataObject ID="{path.stem}">
      <byteStream mimeType="application/octet-stream" size="{len(data)}">
        <fileLocation href="./{path.relative_to(folder).as_posix()}" locatorType="URL"/>
        <checksum checksumName="MD5">{digest}</checksum>
      </byteStream>
    </dataObject>""")
    listed = "\n".join(entries)
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" \
version="esa/safe/sentinel/1.1/sentinel-2/msi/archive_l2a_user_product">
  <dataObjectSection>
{listed}
  </dataObjectSection>
</xfdu:XFDU>
"""
