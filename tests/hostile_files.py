"""Files and addresses that would lead their reader on: to another file, or to another host."""

import zipfile
from pathlib import Path

import rasterio
from rasterio.transform import from_origin

from tests.integration.small_state import EPSG, NORTH_M, WEST_M

_VRT = """<VRTDataset rasterXSize="5" rasterYSize="4"><SRS>EPSG:32631</SRS>
<GeoTransform>500000, 10, 0, 5700000, 0, -10</GeoTransform>
<VRTRasterBand dataType="Byte" band="1" {raw}><SimpleSource>
<SourceFilename>{{source}}</SourceFilename>
</SimpleSource><SourceFilename>{{source}}</SourceFilename></VRTRasterBand></VRTDataset>"""
_WARPED = """<VRTDataset rasterXSize="5" rasterYSize="4" subClass="VRTWarpedDataset">
<GDALWarpOptions><SourceDataset>{source}</SourceDataset></GDALWarpOptions></VRTDataset>"""
_WMS = """<GDAL_WMS><Service name="TMS"><ServerUrl>{source}</ServerUrl></Service><DataWindow>
<SizeX>5</SizeX><SizeY>4</SizeY></DataWindow><BandsCount>1</BandsCount></GDAL_WMS>"""

RASTERS = {
    "a VRT": _VRT.format(raw=""),
    "a raw VRT": _VRT.format(raw='subClass="VRTRawRasterBand"'),
    "a warped VRT": _WARPED,
    "a tile service": _WMS,
    "a web coverage service": "<WCS_GDAL><ServiceURL>{source}</ServiceURL></WCS_GDAL>",
    "a pipeline": '{{"type": "gdal_streamed_alg", "command_line": "gdal raster pipeline ! read '
    '{source}"}}',
    "a tile index": "<GDALTileIndexDataset><IndexDataset>{source}</IndexDataset>"
    "</GDALTileIndexDataset>",
}
"""Texts of rasters that lead to {source}."""

RASTER_NAMES = ("B04.jp2", "B04.tif", "B04.img", "B04.vrt")

_ENVI = """ENVI
samples = 5
lines = 4
bands = 1
header offset = 0
file type = ENVI Standard
data type = 1
interleave = bsq
byte order = 0
map info = {UTM, 1, 1, 500000, 5700000, 10, 10, 31, North, WGS-84}
"""


def write_raster(folder: Path, name: str, text: str, source: str) -> Path:
    """A file of a name that leads to a source."""
    path = folder / name
    path.write_text(text.format(source=source))
    return path


def link_envi(folder: Path, source: str, name: str = "B04") -> Path:
    """A raster of raw bytes that is a link to a source, with a header of its own."""
    path = folder / f"{name}.img"
    path.symlink_to(source)
    path.with_suffix(".hdr").write_text(_ENVI)
    return path


def write_bomb(path: Path) -> Path:
    """A small file whose only tile takes 1.7 GB once it is decoded, where scenes of tests lie."""
    side = {"width": 30_000, "height": 30_000, "blockxsize": 30_016, "blockysize": 30_016}
    rasterio.open(
        path, "w", driver="GTiff", count=1, dtype="uint16", crs=EPSG, tiled=True, sparse_ok=True,
        transform=from_origin(WEST_M, NORTH_M, 10, 10), compress="deflate", **side,
    ).close()  # fmt: skip
    return path


ADDRESSES_OF_GDAL = (
    "b.jp2", "ftp://host/b.jp2", "s3://", "", "vrt://b.jp2", "vrt:///data/b.jp2",
    "/vsicurl/http://10.0.0.1/b.jp2", "//VSIzip/a.zip/b.jp2", "file:///data/b.jp2",
    "GTIFF_DIR:1:/data/b.tif", "J2K_SUBFILE:0,9,/data/b.jp2", "/vsisubfile/0_9,/data/b.tif",
    "<VRTDataset/>", "CSV:/etc/passwd", "PG:host=127.0.0.1", "WMS:http://127.0.0.1/",
)  # fmt: skip
"""That no band of a scene may have."""

ADDRESSES_OF_THIS_MACHINE = (
    "http://127.0.0.1:{port}/x.tif", "http://localhost:{port}/x.tif", "http://LOCALHOST:{port}/x",
    "https://127.0.0.1:{port}/x.tif", "http://[::ffff:127.0.0.1]:{port}/x.tif",
    "http://2130706433:{port}/x.tif", "http://0x7f.1:{port}/x.tif", "http://0:{port}/x.tif",
    "http://data.example@127.0.0.1:{port}/x.tif", "http://127.0.0.1:{port}\\@data.example/x.tif",
)  # fmt: skip
"""Of a server that an API without CBM_SCENE_HOSTS has no business with."""

ADDRESSES_OF_ITEMS = (
    "file:///etc/passwd", "vrt:///data/B04.tif?a_srs=EPSG:32631", "/vsicurl/http://10.0.0.1/x.tif",
    "/etc/passwd", "ftp://example.org/x.tif", "s3:///x.tif", "data:text/plain,x", "\\\\host\\x.tif",
    "http://localhost/x.tif", "https://127.0.0.1:9200/x.tif", "http://[::1]/x.tif",
    "http://169.254.169.254/latest/meta-data", "http://2130706433/x.tif", "http://0x7f000001/x.tif",
    "HTTP://LOCALHOST./x.tif",
)  # fmt: skip
"""That a remote item may not lead to."""

_OTHER = "<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>{}</SrcDataSource>{}"
_END = "</OGRVRTLayer></OGRVRTDataSource>"
PARCELS = {
    "another file": _OTHER.format("{source}", _END),
    "with a declaration": '<?xml version="1.0"?>\n' + _OTHER.format("{source}", _END),
    "behind a comment": "<!-- parcels -->\n" + _OTHER.format("{source}", _END),
    "an address": _OTHER.format("/vsicurl/{address}x.csv", _END),
    "a csv": _OTHER.format("CSV:/etc/passwd", _END),
    "a database": _OTHER.format("PG:host=127.0.0.1", _END),
    "in a comment of GML": '<gml:x xmlns:gml="http://www.opengis.net/gml"/><!-- '
    + _OTHER.format("{source}", _END) + " -->",
    "in JSON": '{{"type": "FeatureCollection", "x": "' + _OTHER.format("{source}", _END) + '"}}',
    "a pipeline": '{{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read '
    '{source}"}}',
    "a service": "<OGRWFSDataSource><URL>{address}</URL></OGRWFSDataSource>",
    "entities": '<!DOCTYPE x [<!ENTITY y SYSTEM "{source}">]><x>&y;</x>',
    "comma separated": "id,WKT\n1,POINT(0 0)\n",
    "CSV:": "CSV:/etc/passwd",
}  # fmt: skip
"""Texts that are no parcels; most lead to {source}, a file, or {address}, of a server."""

PARCEL_NAMES = (
    "p.gpkg", "p.shp", "p.geojson", "p.gml", "p.fgb", "p.json", "p.xml", "p", "in.zip"
)  # fmt: skip


def write_parcels(folder: Path, name: str, text: str, source: str, address: str) -> Path:
    """A file of a name, or an archive of one, that leads to a source or an address."""
    path, content = folder / name, text.format(source=source, address=address)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("p.geojson", content)
    else:
        path.write_text(content)
    return path
