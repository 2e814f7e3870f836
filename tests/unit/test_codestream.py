"""Thinned codestreams: the pixels of a mask come out as from the whole file."""

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile
from rasterio.windows import Window

from extraction import codestream
from extraction.codestream import UnsuitedError
from tests.jp2 import noise, plan_of, random_mask, write_jp2

REAL_BANDS = [
    f"{product}_0_L2A/{band}.tif"
    for product in ("S2A_33TWL_20230815", "S2A_33TWM_20230815", "S2A_33TWM_20230818")
    for band in ("B02", "B03", "B04", "B08", "SCL")
]
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@dataclass(frozen=True)
class Bytes:
    """A file in memory."""

    data: bytes
    remote: bool = False

    def read(self, start, length):
        return self.data[start : start + length]


def thinned(data: bytes, mask: np.ndarray, keep=codestream.choose_blocks) -> tuple[bytes, list]:
    """The small file that a mask needs, and its tiles."""
    source = Bytes(data)
    header = codestream.read_header(source)
    parts = codestream.find_tile_parts(header, source)
    wanted = keep(header.coding, plan_of(mask, header.coding.tile_px[::-1]))
    tiles = {n: source.read(parts.starts[n], parts.lengths[n]) for n in wanted}
    return codestream.assemble(header, tiles, wanted), list(wanted)


def wrong_pixels(path: Path, mask: np.ndarray) -> int:
    """Pixels of a mask that come out otherwise than from the whole file."""
    file, tiles = thinned(path.read_bytes(), mask)
    with rasterio.open(path) as whole, MemoryFile(file) as memory, memory.open() as thin:
        wrong = 0
        rows, cols = whole.block_shapes[0]
        for number in tiles:
            row, col = divmod(number, -(-whole.width // cols))
            window = Window(
                col * cols,
                row * rows,
                min(cols, whole.width - col * cols),
                min(rows, whole.height - row * rows),
            )
            here = mask[window.toslices()]
            differs = thin.read(1, window=window) != whole.read(1, window=window)
            wrong += int((differs & here).sum())
        return wrong


CODINGS = {
    "tiles of 1024, cut at the edges": ((1100, 1500), 1024, "uint16", {}),
    "tiles of 640, cut at the edges": ((1000, 700), 640, "uint16", {"NBITS": 15}),
    "PLT and TLM": ((700, 900), 512, "uint16", {"PLT": "YES", "TLM": "YES"}),
    "8 bits": ((300, 300), 128, "uint8", {}),
    "without precincts": ((500, 400), 320, "uint16", {"PRECINCTS": None}),
    "9/7, lossy": ((600, 700), 256, "uint16", {"REVERSIBLE": "NO", "QUALITY": "20"}),
    "9/7, many resolutions": (
        (500, 500),
        256,
        "uint16",
        {"REVERSIBLE": "NO", "QUALITY": "20", "RESOLUTIONS": "7", "PRECINCTS": None},
    ),
    "no wavelet": ((200, 200), 100, "uint16", {"RESOLUTIONS": "1", "PRECINCTS": None}),
    "small blocks, odd tiles": (
        (333, 257),
        77,
        "uint16",
        {"CODEBLOCK_WIDTH": "16", "CODEBLOCK_HEIGHT": "32", "PRECINCTS": None},
    ),
    "smaller than a tile": ((120, 90), 128, "uint16", {}),
    "a bare codestream": ((300, 300), 200, "uint16", {"CODEC": "J2K"}),
}


@pytest.mark.parametrize("name", CODINGS)
def test_wanted_pixels_are_those_of_the_whole_file(tmp_path, name):
    shape, tile_px, dtype, options = CODINGS[name]
    path = write_jp2(tmp_path / "image.jp2", noise(shape, dtype=dtype), tile_px, **options)
    for seed, boxes in enumerate((1, 6, 40)):
        assert wrong_pixels(path, random_mask(shape, boxes, seed)) == 0
    assert wrong_pixels(path, np.ones(shape, bool)) == 0


def test_a_small_mask_leaves_most_bytes_out(tmp_path):
    shape = (1024, 1024)
    path = write_jp2(tmp_path / "image.jp2", noise(shape), 1024)
    mask = np.zeros(shape, bool)
    mask[300:310, 300:310] = True
    file, tiles = thinned(path.read_bytes(), mask)
    assert tiles == [0]
    assert len(file) < path.stat().st_size / 10


def test_a_tile_of_nodata_alone_has_empty_packets_and_stays_as_it_is(tmp_path):
    path = write_jp2(tmp_path / "image.jp2", np.zeros((256, 256), np.uint16), 128)
    file, _ = thinned(path.read_bytes(), np.ones((256, 256), bool))
    assert len(file) <= path.stat().st_size
    assert wrong_pixels(path, np.ones((256, 256), bool)) == 0


def test_original_masks_of_the_esa_come_out_the_same(shared_data):
    for name in ("MSK_DETFOO_B04", "MSK_DETFOO_B11"):
        path = shared_data / "s2_kakadu_masks" / f"{name}.jp2"
        with rasterio.open(path) as whole:
            shape = whole.shape
        for seed, boxes in enumerate((3, 40, 300)):
            assert wrong_pixels(path, random_mask(shape, boxes, seed)) == 0


def test_images_of_several_components_are_refused(shared_data):
    for name in ("MSK_QUALIT_B04", "MSK_CLASSI_B00"):
        data = (shared_data / "s2_kakadu_masks" / f"{name}.jp2").read_bytes()
        with pytest.raises(UnsuitedError):
            codestream.read_header(Bytes(data))


@pytest.mark.parametrize("name", REAL_BANDS)
def test_real_lossy_bands_come_out_the_same(shared_data, name):
    path = shared_data / "s2_l2a_products_120m" / name
    for seed, boxes in enumerate((1, 6)):
        assert wrong_pixels(path, random_mask((915, 915), boxes, seed)) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"PROGRESSION": "RPCL"},
        {"SOP": "YES"},
        {"EPH": "YES"},
        {"QUALITY": "20,100"},
    ],
)
def test_other_ways_of_coding_are_refused(tmp_path, options):
    path = write_jp2(tmp_path / "image.jp2", noise((200, 200)), 128, **options)
    with pytest.raises(UnsuitedError):
        codestream.read_header(Bytes(path.read_bytes()))


def test_tlm_says_what_the_walk_from_tile_to_tile_finds(tmp_path):
    path = write_jp2(tmp_path / "image.jp2", noise((300, 400)), 128, TLM="YES")
    source = Bytes(path.read_bytes())
    header = codestream.read_header(source)
    assert header.lengths is not None
    walked = codestream.find_tile_parts(
        codestream.Header(header.boxes, header.main, header.coding, header.first, None), source
    )
    assert codestream.find_tile_parts(header, source) == walked


def test_packets_that_do_not_end_where_the_tile_does_are_refused(tmp_path):
    path = write_jp2(tmp_path / "image.jp2", noise((128, 128)), 128)
    source = Bytes(path.read_bytes())
    header = codestream.read_header(source)
    parts = codestream.find_tile_parts(header, source)
    part = bytearray(source.read(parts.starts[0], parts.lengths[0]) + b"\0")
    part[6:10] = len(part).to_bytes(4, "big")
    wanted = codestream.choose_blocks(header.coding, plan_of(np.ones((128, 128), bool), (128, 128)))
    with pytest.raises(UnsuitedError, match="followed to their end"):
        codestream.assemble(header, {0: bytes(part)}, wanted)


def test_a_tile_that_is_not_where_it_was_is_refused(tmp_path):
    path = write_jp2(tmp_path / "image.jp2", noise((200, 200)), 128)
    source = Bytes(path.read_bytes())
    header = codestream.read_header(source)
    parts = codestream.find_tile_parts(header, source)
    with pytest.raises(UnsuitedError, match="not where it was"):
        codestream.assemble(header, {0: source.read(parts.starts[1], parts.lengths[1])}, None)
    with pytest.raises(UnsuitedError, match="ends before"):
        codestream.assemble(header, {0: b""}, None)


def damaged(data: bytes, number: int) -> bytes:
    """A file with some bits flipped, or cut short, with bytes of another place, or noise."""
    rng = np.random.default_rng(number)
    broken = np.frombuffer(data, np.uint8).copy()
    if number % 4 == 0:
        return data[: rng.integers(0, len(data))]
    if number % 4 == 1:
        packets = data.index(b"\xff\x93") + 2
        broken[packets : packets + 200] = rng.integers(0, 256, 200)
    elif number % 4 == 2:
        at = rng.integers(0, broken.size, rng.integers(1, 8))
        broken[at] ^= (1 << rng.integers(0, 8, at.size)).astype(np.uint8)
    else:
        a, b = rng.integers(0, broken.size - 16, 2)
        broken[a : a + 16] = broken[b : b + 16]
    return broken.tobytes()


def choose_within(coding, plan):
    """Choose blocks as SceneThinning does: never for an image of another shape."""
    if coding.shape_px != (90, 90) or coding.tile_px != (64, 64):
        raise UnsuitedError("another image")
    return codestream.choose_blocks(coding, plan)


@pytest.mark.timeout(60)
def test_damaged_files_are_refused_or_thinned_and_nothing_else(tmp_path):
    assert 500 < try_damaged_files(tmp_path, range(1500)) < 1500


def try_damaged_files(folder: Path, numbers: range) -> int:
    """Thin files damaged in many ways; returns how many were refused."""
    path = write_jp2(folder / "image.jp2", noise((90, 90)), 64, RESOLUTIONS=3, PRECINCTS=None)
    data, mask, refused = path.read_bytes(), random_mask((90, 90), 2, 0), 0
    for number in numbers:
        try:
            thinned(damaged(data, number), mask, choose_within)
        except UnsuitedError:
            refused += 1
    return refused


def test_no_damage_makes_the_kernels_leave_their_arrays(tmp_path):
    """The same without compilation, where numpy checks every index."""
    code = (
        "from pathlib import Path; from tests.unit.test_codestream import try_damaged_files; "
        f"print(try_damaged_files(Path({str(tmp_path)!r}), range(3000, 3300)))"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 100


def test_blocks_of_a_tile_are_each_in_one_packet(tmp_path):
    path = write_jp2(tmp_path / "image.jp2", noise((300, 300)), 200)
    coding = codestream.read_header(Bytes(path.read_bytes())).coding
    for number in range(4):
        layout = codestream.tile_layout(coding, coding.tile(number))
        assert sorted(layout.blocks) == list(range(layout.blocks.size))
        assert all(a[9] == b[8] for a, b in pairwise(layout.bands))
