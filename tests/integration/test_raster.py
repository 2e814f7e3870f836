"""Reading bands by windows: every layout products come in, locally and from a real S3 server."""

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.transform import Affine, from_origin

from store import objects, raster
from store.errors import BandMissingError, MissingFactError, ObjectStoreError, SceneError
from store.grid import Extent, Grid
from tests.beds.s3.door import counting
from tests.beds.s3.server import Endpoint, S3Server
from tests.hostile_files import RASTER_NAMES, RASTERS, link_envi, write_raster

UTM31 = from_origin(500_000, 5_000_000, 10, 10)
ENVI_HEADER = """ENVI
samples = {width}
lines = {height}
bands = 1
header offset = 0
file type = ENVI Standard
data type = 4
interleave = bsq
byte order = 1
band names = {{ Gamma0_VV }}
{place}
"""
AUTO_UTM = (
    "map info = {WGS84 / Auto UTM, 1.0, 1.0, 500000.0, 5000000.0, 10.0, 10.0, WGS84, units=Meters}"
    '\ncoordinate system string = {PROJCS["WGS84 / Auto UTM",GEOGCS["WGS84(DD)",DATUM["WGS84",'
    'SPHEROID["WGS84",6378137.0,298.257223563]],PRIMEM["Greenwich",0.0],'
    'UNIT["degree",0.017453292519943295],AXIS["Geodetic longitude",EAST],'
    'AXIS["Geodetic latitude",NORTH]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["central_meridian",MERIDIAN],PARAMETER["latitude_of_origin",0.0],'
    'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000.0],'
    'PARAMETER["false_northing",NORTHING],UNIT["m",1.0],AXIS["Easting",EAST],'
    'AXIS["Northing",NORTH]]}'
)


@pytest.fixture(autouse=True)
def gdal() -> Iterator[None]:
    with raster.gdal_env():
        yield


def write(path: Path, values: npt.NDArray, **profile: object) -> Path:
    """Write values[band, row, col] as GDAL's driver does."""
    settings = {"driver": "GTiff", "crs": "EPSG:32631", "transform": UTM31, **profile}
    count, height, width = values.shape
    with rasterio.open(
        path, "w", count=count, height=height, width=width, dtype=values.dtype, **settings
    ) as out:
        out.write(values)
    return path


def write_envi(
    path: Path, values: npt.NDArray, meridian: float = 3.0, northing: float = 0.0
) -> Path:
    """Write values[row, col] as SNAP does: big-endian floats and a header beside them."""
    values.astype(">f4").tofile(path)
    height, width = values.shape
    place = AUTO_UTM.replace("MERIDIAN", str(meridian)).replace("NORTHING", str(northing))
    path.with_suffix(".hdr").write_text(ENVI_HEADER.format(width=width, height=height, place=place))
    return path


def ramp(bands: int, height: int, width: int, dtype: str = "uint16") -> npt.NDArray:
    rng = np.random.default_rng(7)
    return rng.integers(1, 10_000, (bands, height, width)).astype(dtype)


def read_by_blocks(band: raster.BandReader) -> npt.NDArray:
    """The whole band, put together from its blocks."""
    rows, columns = band.block_shape_px
    height, width = band.grid.height_px, band.grid.width_px
    whole = np.empty((height, width), band.dtype)
    for row in range(0, height, rows):
        for col in range(0, width, columns):
            window = (row, min(row + rows, height), col, min(col + columns, width))
            whole[window[0] : window[1], window[2] : window[3]] = band.read(*window)
    return whole


def opening(path: str | Path, index: int = 1, extent: Extent | None = None) -> None:
    """Open a band that is expected not to open."""
    with raster.open_band(str(path), index, extent):
        pass


TILED = {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "deflate"}
JP2 = {
    "driver": "JP2OpenJPEG",
    "blockxsize": 64,
    "blockysize": 64,
    "REVERSIBLE": "YES",
    "QUALITY": "100",
}


# What a file says


def test_a_tiled_geotiff_says_what_it_is_and_reads_by_tile(tmp_path):
    values = ramp(2, 100, 150)
    path = write(tmp_path / "a.tif", values, nodata=0, **TILED)
    with rasterio.open(path, "r+") as out:
        out.set_band_description(2, "B04")

    with raster.open_band(str(path), 2) as band:
        assert band.grid == Grid(32631, 10.0, 500_000.0, 5_000_000.0, 100, 150)
        assert (band.dtype, band.nodata, band.description) == (np.dtype("uint16"), 0, "B04")
        assert band.block_shape_px == (32, 64)
        np.testing.assert_array_equal(read_by_blocks(band), values[1])


def test_a_jp2_reads_by_tile_whatever_its_name(tmp_path):
    values = ramp(1, 150, 100)
    path = write(tmp_path / "B04.jp2", values, **JP2)
    misnamed = Path(shutil.copy(path, tmp_path / "B04.tif"))
    for name in (path, misnamed):
        with raster.open_band(str(name)) as band:
            assert band.block_shape_px == (64, 64)
            assert (band.nodata, band.description) == (None, "")
            np.testing.assert_array_equal(read_by_blocks(band), values[0])


def test_strips_are_read_many_at_once_up_to_8_mib(tmp_path):
    values = ramp(1, 3000, 2000)  # 4000 bytes a row: 2097 rows are 8 MiB
    path = write(tmp_path / "a.tif", values, blockysize=10)
    with raster.open_band(str(path)) as band:
        assert band.block_shape_px == (2090, 2000)
        np.testing.assert_array_equal(read_by_blocks(band), values[0])


@pytest.mark.parametrize(
    "blocks",
    [
        {"width": 30_000, "height": 30_000} | {"blockxsize": 30_016, "blockysize": 30_016},
        {"width": 30_000, "height": 30_000} | {"blockysize": 30_000, "tiled": False},
        {"count": 3000, "interleave": "pixel"} | {"blockxsize": 512, "blockysize": 512},
    ],
    ids=["tile", "strip", "bands"],
)
def test_a_file_whose_blocks_would_take_gigabytes_is_refused_before_it_is_read(tmp_path, blocks):
    path = tmp_path / "bomb.tif"
    profile = {"driver": "GTiff", "width": 512, "height": 512, "count": 1, "dtype": "uint16",
               "crs": 32631, "transform": from_origin(500_000, 5_000_000, 10, 10),
               "tiled": True, "compress": "deflate"}  # fmt: skip
    rasterio.open(path, "w", **profile | blocks, sparse_ok=True).close()
    assert path.stat().st_size < 1 << 20
    with pytest.raises(SceneError, match="MiB each when they are decoded"):
        opening(path)


def test_decoding_jpeg_2000_takes_more_than_its_pixels(tmp_path):
    blocks = {"blockxsize": 512, "blockysize": 512}
    path = str(write(tmp_path / "a.jp2", ramp(1, 600, 512), **JP2 | blocks))
    with raster.open_band(path, max_block_bytes=512 * 512 * 6):
        pass
    refusal = pytest.raises(SceneError, match="decoded")
    with refusal, raster.open_band(path, max_block_bytes=512 * 512 * 6 - 1):
        pass


def test_a_small_raster_is_one_block(tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 90, 90), blockysize=2)
    with raster.open_band(str(path)) as band:
        assert band.block_shape_px == (90, 90)


def test_a_big_endian_envi_raster_gives_native_floats(tmp_path):
    values = np.linspace(-1, 1, 70_000, dtype="float32").reshape(200, 350)
    with raster.open_band(str(write_envi(tmp_path / "Gamma0_VV.img", values))) as band:
        assert band.dtype == np.dtype("float32")
        assert band.dtype.isnative
        assert band.description == "Gamma0_VV"
        assert band.block_shape_px == (200, 350)
        window = band.read(10, 20, 5, 9)
    assert window.dtype.isnative
    assert window.flags.c_contiguous
    np.testing.assert_array_equal(window, values[10:20, 5:9])


@pytest.mark.parametrize(
    ("meridian", "northing", "epsg"), [(3.0, 0.0, 32631), (9.0, 0.0, 32632), (-3.0, 1e7, 32730)]
)
def test_a_nameless_utm_is_recognised_by_its_parameters(tmp_path, meridian, northing, epsg):
    values = np.ones((4, 5), "float32")
    with raster.open_band(str(write_envi(tmp_path / "VV.img", values, meridian, northing))) as band:
        assert band.grid.epsg == epsg


def test_a_sidecar_file_is_heeded(tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 4, 5))
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>42</NoDataValue></PAMRasterBand>'
        "</PAMDataset>"
    )
    with raster.open_band(str(path)) as band:
        assert band.nodata == 42


@pytest.mark.parametrize("window", [(0, 5, 0, 1), (0, 1, -1, 2), (2, 2, 0, 1), (0, 1, 4, 6)])
def test_only_windows_inside_the_raster_are_read(tmp_path, window):
    with raster.open_band(str(write(tmp_path / "a.tif", ramp(1, 4, 5)))) as band:
        assert band.read(0, 4, 0, 5).shape == (4, 5)
        with pytest.raises(IndexError):
            band.read(*window)


# What cannot be used


@pytest.mark.parametrize(
    ("profile", "error", "message"),
    [
        ({"crs": None}, MissingFactError, "CRS"),
        ({"transform": Affine.identity()}, MissingFactError, "where its pixels lie"),
        ({"crs": "EPSG:4326", "transform": from_origin(3, 45, 0.1, 0.1)}, SceneError, "metres"),
        ({"crs": "EPSG:2263"}, SceneError, "metres"),
        ({"crs": "+proj=laea +lat_0=1 +lon_0=2 +units=m"}, SceneError, "no EPSG code"),
        ({"transform": UTM31 @ Affine.rotation(10)}, SceneError, "north-up"),
        ({"transform": from_origin(0, 0, 10, 20)}, SceneError, "square"),
        ({"transform": Affine(10, 0, 0, 0, 10, 0)}, SceneError, "north-up"),
    ],
    ids=["no CRS", "no place", "geographic", "feet", "no code", "rotated", "oblong", "south-up"],
)
def test_a_raster_that_no_parcel_can_be_laid_on_is_refused(tmp_path, profile, error, message):
    path = write(tmp_path / "a.tif", ramp(1, 4, 5), **profile)
    with pytest.raises(error, match=f"a.tif.*{message}"), raster.open_band(str(path)):
        pass


def test_complex_pixels_are_refused(tmp_path):
    path = write(tmp_path / "slc.tif", np.ones((1, 4, 5), "complex64"))
    with pytest.raises(SceneError, match="complex64"), raster.open_band(str(path)):
        pass


def test_a_band_number_beyond_the_file_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", ramp(2, 4, 5))
    for index in (0, 3):
        with pytest.raises(SceneError, match=f"2 bands, no band {index}"):
            opening(path, index)


@pytest.mark.parametrize("name", RASTER_NAMES)
@pytest.mark.parametrize("text", RASTERS.values(), ids=RASTERS.keys())
def test_a_file_that_leads_to_another_one_is_no_raster_whatever_its_name(tmp_path, name, text):
    secret = write(tmp_path / "secret.tif", ramp(1, 4, 5))
    path = write_raster(tmp_path, name, text, str(secret))
    with pytest.raises(SceneError, match=name):
        opening(path)


@pytest.mark.parametrize("secret", ["secret", "/proc/self/environ"])
def test_a_link_makes_no_raster_of_a_file_that_is_none(tmp_path, secret):
    source = tmp_path / "elsewhere" / secret
    if not source.exists():
        source.parent.mkdir()
        source.write_bytes(bytes(20))
    path = link_envi(tmp_path, str(source))
    with pytest.raises(SceneError, match="is a link to a file that has no ENVI header"):
        opening(path)


def test_a_link_to_a_raster_is_that_raster(tmp_path):
    values = ramp(1, 4, 5)[0]
    write_envi(tmp_path / "real.img", values)
    for name in ("real.img", "real.hdr"):
        (tmp_path / name.replace("real", "link")).symlink_to(tmp_path / name)
    with raster.open_band(str(tmp_path / "link.img")) as reader:
        assert np.array_equal(reader.read(0, 4, 0, 5), values)


def test_overviews_and_masks_in_other_files_are_not_followed(tmp_path):
    secret = write(tmp_path / "secret.tif", ramp(1, 4, 5))
    tagged = write(tmp_path / "tagged.tif", ramp(1, 4, 5))
    with rasterio.open(tagged, "r+") as out:
        out.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(secret))
    beside = write(tmp_path / "beside.tif", ramp(1, 4, 5))
    write_raster(tmp_path, "beside.tif.ovr", RASTERS["a VRT"], str(secret))
    for path in (tagged, beside):
        with pytest.raises(SceneError, match="another file"):
            opening(path)


def test_a_missing_file_is_a_missing_band(tmp_path):
    (tmp_path / "other.jp2").touch()
    with pytest.raises(BandMissingError, match=r"nowhere/B04\.jp2 is not there"):
        opening(tmp_path / "nowhere" / "B04.jp2")


@pytest.mark.parametrize("name", ["B04.jp2", "2024/04/nowhere/B04.jp2"])
def test_a_file_of_an_archive_that_is_not_mounted_is_the_worlds_fault(tmp_path, name):
    with pytest.raises(ObjectStoreError, match=f"{tmp_path} is empty: is it mounted"):
        opening(tmp_path / name)


def test_a_missing_or_damaged_file_shows_through_its_description(tmp_path):
    there = Extent(32631, 0, 0, 100, 100)
    (tmp_path / "other.tif").touch()
    with pytest.raises(BandMissingError, match=r"none\.tif is not there"):
        opening(tmp_path / "none.tif", extent=there)
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(SceneError, match=r"text\.tif") as caught:
        opening(tmp_path / "text.tif", extent=there)
    assert not isinstance(caught.value, BandMissingError)


def test_a_file_that_the_system_refuses_to_read_is_the_worlds_fault(tmp_path):
    path = tmp_path / "circle.tif"
    path.symlink_to(path)
    with pytest.raises(ObjectStoreError, match="symbolic links"):
        opening(path)


def test_a_folder_and_a_file_of_something_else_are_no_rasters(tmp_path):
    text = tmp_path / "B04.jp2"
    text.write_text("<html>503 Service Unavailable</html>")
    for path, message in ((tmp_path, "folder"), (text, "B04.jp2")):
        with pytest.raises(SceneError, match=message) as caught:
            opening(path)
        assert not isinstance(caught.value, BandMissingError)


@pytest.mark.parametrize(("name", "profile"), [("a.tif", TILED), ("a.jp2", JP2)])
def test_a_file_cut_short_is_a_damaged_scene(tmp_path, name, profile):
    path = write(tmp_path / name, ramp(1, 300, 300), **profile)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SceneError, match=name), raster.open_band(str(path)) as band:
        read_by_blocks(band)


# Memory


def test_a_3_gb_raster_is_read_in_less_than_100_mb(tmp_path):
    """A process of its own, as only its peak tells; the file is a hole, so costs no disk."""
    path = write_envi(tmp_path / "VV.img", np.zeros((1, 24_027), "float32"))
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("lines = 1", "lines = 31185"))
    with path.open("r+b") as file:
        file.truncate(24_027 * 31_185 * 4)
    program = textwrap.dedent("""
        import json, resource, sys
        from store import raster
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        with raster.gdal_env(), raster.open_band(sys.argv[1]) as band:
            rows, width = band.block_shape_px
            for row in range(0, 31_185 - rows, 40 * rows):
                band.read(row, row + rows, 0, width)
        print(json.dumps([rows, width, peak() - before]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    rows, width, grown_kb = json.loads(done.stdout)
    assert (rows, width) == (87, 24_027)
    assert grown_kb < 100_000


# Real files


def test_real_sentinel_2_time_series_say_their_bands(shared_data):
    folder = shared_data / "ch_strickhof_s2_2022" / "s2"
    path = sorted(folder.glob("*.tiff"))[0]
    with rasterio.open(path) as dataset:
        expected = dataset.read(3)
    with raster.open_band(str(path), 3) as band:
        assert band.grid == Grid(32632, 10.0, 475_780.0, 5_255_000.0, 90, 90)
        assert (band.dtype, band.nodata, band.description) == (np.dtype("float32"), 0, "B04")
        np.testing.assert_array_equal(read_by_blocks(band), expected)


def test_real_jpeg_2000_called_tif_without_a_place_is_asked_for_it(shared_data):
    path = shared_data / "s2_l2a_products_120m" / "S2A_33TWM_20230815_0_L2A" / "B04.tif"
    with pytest.raises(MissingFactError, match="CRS"):
        opening(path)


def test_real_jpeg_2000_without_a_place_is_read_where_its_description_lays_it(shared_data):
    path = shared_data / "s2_l2a_products_120m" / "S2A_33TWM_20230815_0_L2A" / "B04.tif"
    there = Extent(32633, 499_980, 5_090_220, 609_780, 5_200_020)
    with raster.open_band(str(path), extent=there) as band:
        assert band.grid == Grid(32633, 120.0, 499_980.0, 5_200_020.0, 915, 915)
        assert band.block_shape_px == (512, 512)
        with rasterio.open(path) as plain:
            np.testing.assert_array_equal(read_by_blocks(band), plain.read(1))


def test_real_sentinel_1_is_read_with_its_nodata(shared_data):
    path = next((shared_data / "s1_raster").glob("*.tif"))
    with raster.open_band(str(path)) as band:
        assert (band.grid.epsg, band.grid.res_m, band.nodata) == (32631, 20.0, -99)
        assert band.grid.height_px * band.grid.width_px == 217 * 268
        assert np.isfinite(read_by_blocks(band)).all()


# From S3


def use(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    for name, value in endpoint.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def put(s3: S3Server, monkeypatch) -> Callable[[Path], str]:
    """A function that puts a file into a bucket and gives its name for GDAL."""
    use(s3.http, monkeypatch)
    folder = f"s3://{s3.new_bucket()}/scene"

    def put_file(path: Path) -> str:
        objects.put_object(f"{folder}/{path.name}", path)
        return objects.gdal_path(f"{folder}/{path.name}")

    return put_file


@pytest.mark.parametrize("door", ["http", "https"])
@pytest.mark.parametrize(("name", "profile"), [("a.tif", TILED), ("a.jp2", JP2), ("b.tif", {})])
def test_windows_through_s3_equal_the_local_file(
    s3, put, tmp_path, monkeypatch, door, name, profile
):
    path = write(tmp_path / name, ramp(1, 300, 250), **profile)
    remote_path = put(path)
    use(getattr(s3, door), monkeypatch)

    with (
        raster.gdal_env(objects.gdal_options()),
        raster.open_band(remote_path) as remote,
        raster.open_band(str(path)) as local,
    ):
        assert remote.grid == local.grid
        assert remote.block_shape_px == local.block_shape_px
        assert remote.nodata == local.nodata
        np.testing.assert_array_equal(read_by_blocks(remote), read_by_blocks(local))


@pytest.mark.parametrize(("name", "profile"), [("a.tif", TILED), ("b.tif", {}), ("a.jp2", JP2)])
def test_a_file_in_s3_is_opened_alone_without_listing_or_looking_for_others(
    s3, put, tmp_path, monkeypatch, name, profile
):
    path = put(write(tmp_path / name, ramp(1, 300, 250), **profile))
    for other in range(3):  # which a listing would find
        put(write(tmp_path / f"other {other}.tif", ramp(1, 4, 5)))
    with counting(s3.http.url) as (url, count):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        with raster.gdal_env(objects.gdal_options()), raster.open_band(path) as band:
            opened = list(count.lines)
            band.read(0, 10, 0, 10)
    own = path.removeprefix("/vsis3")
    assert {line.split()[1] for line in count.lines} == {own}, count.lines
    assert len(opened) <= 3, opened


def test_an_envi_raster_and_its_header_are_found_in_s3(put, tmp_path):
    values = ramp(1, 20, 30, "float32")[0]
    path = write_envi(tmp_path / "Gamma0_VV.img", values)
    remote = put(path)
    with raster.gdal_env(objects.gdal_options()):
        with pytest.raises(SceneError):  # the header is not there yet
            opening(remote)
        put(path.with_suffix(".hdr"))
        with raster.open_band(remote) as band:
            assert band.grid.epsg == 32631
            np.testing.assert_array_equal(read_by_blocks(band), values)


def test_the_key_of_the_store_may_lie_in_a_file(s3, put, tmp_path, monkeypatch):
    remote = put(write(tmp_path / "a.tif", ramp(1, 4, 5)))
    use(s3.https, monkeypatch)
    lines = [
        "[default]",
        f"aws_access_key_id = {s3.https.access_key}",
        f"aws_secret_access_key = {s3.https.secret_key}",
    ]
    (tmp_path / "aws").write_text("\n".join(lines))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    with raster.gdal_env(objects.gdal_options()):
        opening(remote)


def test_an_authority_that_is_not_ours_is_not_trusted(s3, put, tmp_path, monkeypatch):
    remote = put(write(tmp_path / "a.tif", ramp(1, 4, 5)))
    use(s3.https, monkeypatch)
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with (
        raster.gdal_env(objects.gdal_options()),
        pytest.raises(ObjectStoreError, match="certificate"),
    ):
        opening(remote)


def test_an_object_that_is_not_there_is_a_missing_band_until_it_comes(put, tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 4, 5))
    remote = put(path)
    missing = remote.replace("a.tif", "later.tif")
    with raster.gdal_env(objects.gdal_options()):
        for absent in (missing, "/vsis3/no-such-bucket/a.tif"):
            with pytest.raises(BandMissingError, match=absent):
                opening(absent)
        put(path.rename(tmp_path / "later.tif"))
        with raster.open_band(missing) as band:
            assert band.grid.width_px == 5


def test_a_replaced_object_is_read_anew(put, tmp_path):
    with raster.gdal_env(objects.gdal_options()):
        for values in (ramp(1, 4, 5), ramp(1, 6, 7)):
            with raster.open_band(put(write(tmp_path / "a.tif", values))) as band:
                np.testing.assert_array_equal(read_by_blocks(band), values[0])


def test_wrong_credentials_are_the_worlds_fault(put, tmp_path, monkeypatch):
    remote = put(write(tmp_path / "a.tif", ramp(1, 4, 5)))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with (
        raster.gdal_env(objects.gdal_options()),
        pytest.raises(ObjectStoreError, match="signature"),
    ):
        opening(remote)


@pytest.mark.parametrize("server", ["http", "object"], ids=["refused", "503"])
def test_a_store_that_goes_away_is_the_worlds_fault(s3, put, tmp_path, server):
    remote = put(write(tmp_path / "a.tif", ramp(1, 500, 500), **TILED))
    options = {**objects.gdal_options(), "GDAL_HTTP_RETRY_DELAY": "0.01"}
    with raster.gdal_env(options):
        with raster.open_band(remote) as band:
            band.read(0, 32, 0, 64)
            with s3.without(server):
                with pytest.raises(ObjectStoreError, match="cannot be read from the object store"):
                    band.read(400, 500, 400, 500)
                with pytest.raises(ObjectStoreError):
                    opening(remote)
        with raster.open_band(remote) as band:
            assert band.read(400, 500, 400, 500).shape == (100, 100)


def test_a_store_that_never_answers_is_given_up(s3, put, tmp_path):
    remote = put(write(tmp_path / "a.tif", ramp(1, 4, 5)))
    options = {
        **objects.gdal_options(),
        "GDAL_HTTP_TIMEOUT": "0.3",
        "GDAL_HTTP_RETRY_DELAY": "0.01",
    }
    with (
        raster.gdal_env(options),
        s3.frozen("http"),
        pytest.raises(ObjectStoreError, match="timed out"),
    ):
        opening(remote)


def test_an_object_cut_short_is_a_damaged_scene(put, tmp_path):
    path = write(tmp_path / "a.tif", ramp(1, 500, 500), **TILED)
    path.write_bytes(path.read_bytes()[:100_000])
    with (
        raster.gdal_env(objects.gdal_options()),
        raster.open_band(put(path)) as band,
        pytest.raises(SceneError, match="damaged"),
    ):
        read_by_blocks(band)


# From the web


def test_a_raster_is_read_from_a_plain_web_address(s3, tmp_path, monkeypatch):
    """As open data lie on the web: Swift's own address of a bucket that everybody may read."""
    use(s3.http, monkeypatch)
    bucket = s3.new_bucket()
    objects._client().put_bucket_acl(Bucket=bucket, ACL="public-read")
    values = ramp(1, 100, 150)
    objects.put_object(f"s3://{bucket}/a+b c.jp2", write(tmp_path / "a.jp2", values, **JP2))
    folder = f"{s3.http.url}/v1/AUTH_cbm/{bucket}"

    with raster.gdal_env(objects.gdal_options()):
        with raster.open_band(objects.gdal_path(f"{folder}/a+b%20c.jp2")) as band:
            np.testing.assert_array_equal(read_by_blocks(band), values[0])
        with pytest.raises(BandMissingError, match=r"b\.jp2"):
            opening(objects.gdal_path(f"{folder}/b.jp2"))
        with s3.without("object"), pytest.raises(ObjectStoreError, match="503"):
            opening(objects.gdal_path(f"{folder}/a+b%20c.jp2"))
