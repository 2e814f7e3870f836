"""Small TIFF files of some tiles: their pixels are the whole file's, as GDAL codes it."""

import struct
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.windows import Window

from extraction import tiff
from extraction.codestream import UnsuitedError
from tests.jp2 import noise

TILE_PX = 64
SHAPE = (150, 200)
CODINGS = {
    "cog": {"driver": "COG", "compress": "zstd", "blocksize": 128, "predictor": "yes"},
    "deflate": {"compress": "deflate", "predictor": 2},
    "plain, big-endian": {"endianness": "big"},
    "big": {"compress": "zstd", "bigtiff": "yes"},
    "big, big-endian": {"compress": "lzw", "bigtiff": "yes", "endianness": "big"},
    "floats": {"compress": "zstd", "predictor": 3, "dtype": "float32"},
    "two bands": {"compress": "zstd", "count": 2, "interleave": "pixel"},
    "one tile": {"compress": "zstd", "height": 60, "width": 50},
}


@dataclass(frozen=True)
class Bytes:
    """A file in memory."""

    data: bytes
    remote: bool = True

    def read(self, start, length):
        return self.data[start : start + length]


def write(path, **options):
    profile = {"driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 1,
               "dtype": "uint16", "crs": "EPSG:32632"} | options  # fmt: skip
    if profile["driver"] == "GTiff":
        profile |= {"tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX}
    pixels = noise((profile["height"], profile["width"])).astype(profile["dtype"])
    with rasterio.open(path, "w", **profile) as out:
        for band in range(1, profile["count"] + 1):
            out.write(pixels + band, band)
    return path.read_bytes()


def some_tiles(data, numbers):
    """The small file of some tiles."""
    header = tiff.read_header(Bytes(data))
    tiles = {}
    for number in numbers:
        start, length = header.parts.starts[number], header.parts.lengths[number]
        tiles[number] = data[start : start + length]
    return header, tiff.assemble(header, tiles)


@pytest.mark.parametrize("coding", CODINGS)
def test_tiles_of_a_small_file_are_those_of_the_whole(tmp_path, coding):
    data = write(tmp_path / "band.tif", **CODINGS[coding])
    with rasterio.open(tmp_path / "band.tif") as whole:
        blocks = [window for _, window in whole.block_windows(1)]
        chosen = sorted({len(blocks) - 1, 0, len(blocks) // 2})
        header, small = some_tiles(data, chosen)
        assert header.shape_px == whole.shape
        assert header.tile_px == whole.block_shapes[0]
        with MemoryFile(small) as memory, memory.open(driver="GTiff") as part:
            for number in chosen:
                there = part.read(window=blocks[number])
                np.testing.assert_array_equal(there, whole.read(window=blocks[number]))
            assert part.overviews(1) == []
            assert (part.crs, part.nodata) == (whole.crs, whole.nodata)


def test_a_tile_that_was_not_fetched_cannot_be_read(tmp_path):
    _, small = some_tiles(write(tmp_path / "band.tif", compress="zstd"), [0])
    with (
        MemoryFile(small) as memory,
        memory.open(driver="GTiff") as part,
        pytest.raises(rasterio.errors.RasterioIOError),
    ):
        part.read(1, window=Window(TILE_PX, TILE_PX, 8, 8))


def test_a_long_list_of_tiles_is_read_in_two_steps(tmp_path):
    path = tmp_path / "long.tif"
    with rasterio.open(path, "w", driver="GTiff", height=800, width=800, count=1, dtype="uint8",
                       tiled=True, blockxsize=16, blockysize=16) as out:  # fmt: skip
        out.write(np.ones((800, 800), np.uint8), 1)
    assert len(tiff.read_header(Bytes(path.read_bytes())).parts.starts) == 2500


@pytest.mark.parametrize(
    "options",
    [
        {"tiled": False},
        {"count": 2, "interleave": "band", "tiled": True, "blockxsize": 64, "blockysize": 64},
    ],
)
def test_strips_and_bands_apart_are_refused(tmp_path, options):
    path = tmp_path / "band.tif"
    profile = {"driver": "GTiff", "height": 150, "width": 200, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **(profile | options)) as out:
        out.write(np.ones((out.count, 150, 200), np.uint8))
    with pytest.raises(UnsuitedError):
        tiff.read_header(Bytes(path.read_bytes()))


@pytest.mark.parametrize(
    "data", [b"", b"II", b"MM\0*\0\0", b"\0\0\0\x0cjP  \r\n\x87\n", b"II*\0" * 99]
)
def test_what_is_no_tiff_is_refused(data):
    with pytest.raises(UnsuitedError):
        tiff.read_header(Bytes(data))


@pytest.mark.parametrize("coding", ["cog", "big, big-endian"])
def test_damaged_heads_are_refused_or_read_and_nothing_else(tmp_path, coding):
    data = write(tmp_path / "band.tif", **CODINGS[coding])
    end = min(tiff.read_header(Bytes(data)).parts.starts)
    rng = np.random.default_rng(3)
    refused = 0
    for number in range(2000):
        broken = np.frombuffer(data, np.uint8).copy()
        at = rng.integers(0, end, rng.integers(1, 6))
        broken[at] = rng.choice([0, 1, 255, int(rng.integers(0, 256))], at.size)
        if number % 5 == 0:
            broken = broken[: rng.integers(0, end)]
        try:
            some_tiles(broken.tobytes(), [0])
        except UnsuitedError:
            refused += 1
    assert refused > 50


def test_a_place_beyond_all_bounds_is_refused():
    huge = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**64 - 1)
    with pytest.raises(UnsuitedError):
        tiff.read_header(Bytes(huge + bytes(64)))


def edited(data, edit):
    """A little-endian file whose first list of tags is edited and put behind the rest."""
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    step = struct.calcsize("<HHII")
    tags = [data[first + 2 + step * n :][:step] for n in range(count)]
    tags = edit(tags)
    listed = struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)
    # The tiles follow the head at a distance, so that there is space for the list.
    end = min(tiff.read_header(Bytes(data)).parts.starts)
    assert end + len(listed) < MOVED
    out = bytearray(data[:end]) + listed
    out = out.ljust(MOVED, b"\0") + data[end:]
    struct.pack_into("<I", out, 4, end)
    (count, place), *_ = [
        struct.unpack_from("<II", tag, 4) for tag in tags if tag[:2] == struct.pack("<H", 324)
    ]
    for at in range(place, place + 4 * count, 4):
        (start,) = struct.unpack_from("<I", out, at)
        struct.pack_into("<I", out, at, start + MOVED - end)
    return bytes(out)


MOVED = 2**12


def other_places(number):
    """A tag of places of tiles that are others: the file's own, of which libtiff ignores one."""

    def edit(tags):
        (at,) = (n for n, tag in enumerate(tags) if tag[:2] == struct.pack("<H", 324))
        lengths = next(tag for tag in tags if tag[:2] == struct.pack("<H", 325))
        tags.insert(at + 1, struct.pack("<H", number) + lengths[2:])
        return tags

    return edit


def test_of_two_lists_of_tiles_the_one_counts_that_libtiff_reads(tmp_path):
    path = tmp_path / "band.tif"
    path.write_bytes(edited(write(path), other_places(324)))
    with rasterio.open(path) as whole:
        pixels = whole.read(1)
    _, small = some_tiles(path.read_bytes(), [1])
    with MemoryFile(small) as memory, memory.open(driver="GTiff") as part:
        there = part.read(1, window=Window(TILE_PX, 0, TILE_PX, TILE_PX))
    np.testing.assert_array_equal(there, pixels[:TILE_PX, TILE_PX : 2 * TILE_PX])


def test_places_of_strips_beside_those_of_tiles_are_refused(tmp_path):
    with pytest.raises(UnsuitedError, match="strips"):
        tiff.read_header(Bytes(edited(write(tmp_path / "band.tif"), other_places(273))))


def test_a_tile_beyond_the_numbers_of_its_file_is_refused(tmp_path):
    header = tiff.read_header(Bytes(write(tmp_path / "band.tif")))
    short = replace(header, places=(header.places[0], "<H"))
    with pytest.raises(UnsuitedError, match="too far"):
        tiff.assemble(short, {0: bytes(2**16), 1: b"1"})
