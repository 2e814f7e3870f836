"""JPEG 2000 files of a few tiles and code blocks: what parcels need of a band, still a valid JP2.

Decoding costs by the code block, and GDAL decodes whole tiles. So a tile's packets are written
again with only the code blocks that some pixels depend on, and GDAL decodes that small file: those
pixels come out as from the whole file, **all others wrong**. Nothing but the reduction of the
same pixels may ever see such a file.

After ISO/IEC 15444-1, annexes A (markers), B (geometry, packets) and I (boxes). Only what the
coders of Sentinel-2 use is known here; anything else is refused, and read whole.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from extraction.kernels import packets
from extraction.ranges import ByteSource, parse_head
from extraction.spans import ReadPlan
from store.errors import SceneError

_SOC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
_SIZ, _COD, _QCD, _COM, _TLM, _PLT = 0xFF51, 0xFF52, 0xFF5C, 0xFF64, 0xFF55, 0xFF58
_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_SOT_BYTES = 12
_TILE_HEAD_BYTES = _SOT_BYTES + 2

_MAX_TILES = 2**12
_MAX_BLOCKS = 2**16
"""Per tile, and precincts too. Sentinel-2 has 121 tiles of some 340 blocks."""

_MARGINS = {0: 4, 1: 2}
"""Coefficients on each side that the inverse of the 9/7 (0) and the 5/3 wavelet (1) may reach for.

By the lifting steps of annex F, over any number of levels, a sample at x needs coefficients n
around x >> level: of the 9/7 low-pass -2 to +4 and high-pass -3 to +4, of the 5/3 low-pass 0 to +2
and high-pass -1 to +2.
"""


class UnsuitedError(SceneError):
    """A file cannot be thinned, or is damaged: GDAL has to read it, or refuse it."""


@dataclass(frozen=True)
class Coding:
    """How an image is divided and coded: the facts of SIZ and COD.

    Attributes:
        image: x0, y0, x1, y1 on the reference grid, ends excluded.
        tile_px: (columns, rows) of a tile; the first one begins where the image does.
        levels: wavelet decompositions.
        block: width and height of a code block, as powers of two.
        precincts: width and height of a precinct at each resolution, as powers of two.
        transform: 0 for the 9/7 wavelet, 1 for the 5/3.
    """

    image: tuple[int, int, int, int]
    tile_px: tuple[int, int]
    levels: int
    block: tuple[int, int]
    precincts: tuple[tuple[int, int], ...]
    transform: int

    @property
    def tiles(self) -> tuple[int, int]:
        """Tiles per row, and rows of them."""
        x0, y0, x1, y1 = self.image
        return _up(x1 - x0, self.tile_px[0]), _up(y1 - y0, self.tile_px[1])

    @property
    def shape_px(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        x0, y0, x1, y1 = self.image
        return y1 - y0, x1 - x0

    def tile(self, number: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of a tile on the reference grid, ends excluded."""
        down, across = divmod(number, self.tiles[0])
        x0, y0 = self.image[0] + across * self.tile_px[0], self.image[1] + down * self.tile_px[1]
        return (
            x0,
            y0,
            min(x0 + self.tile_px[0], self.image[2]),
            min(y0 + self.tile_px[1], self.image[3]),
        )


@dataclass(frozen=True)
class Header:
    """What comes before the first tile.

    Attributes:
        boxes: the file's boxes before the codestream; empty for a bare codestream.
        main: main header without TLM.
        coding: what it says.
        first: place of the first tile-part in the file.
        lengths: of the tile-parts in the order of tiles, where TLM states them.
    """

    boxes: bytes
    main: bytes
    coding: Coding
    first: int
    lengths: tuple[int, ...] | None


@dataclass(frozen=True)
class TileParts:
    """Where each tile lies in the file: place and bytes of its only tile-part, by tile."""

    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what is no such list."""
        if len(self.starts) != len(self.lengths):
            raise UnsuitedError("a list of tiles that contradicts itself")


@dataclass(frozen=True)
class TileLayout:
    """Bands, precincts and code blocks of one tile, as the kernels want them.

    Attributes:
        bands: int64[b, 10], see packets.mark_blocks.
        packet_grids: int64[packets + 1].
        grids: int64[g, 3].
        blocks: int64[n], position among the bands' blocks of each block in the order of packets.
    """

    bands: npt.NDArray[np.int64]
    packet_grids: npt.NDArray[np.int64]
    grids: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.int64]


def read_header(source: ByteSource) -> Header:
    """Read a file up to its first tile.

    Raises:
        UnsuitedError: it is no JPEG 2000 file, or not of the kind that can be thinned.
    """
    header = parse_head(source, _header)
    if header is None:
        raise UnsuitedError("its header has no end")
    return header


def _header(head: bytes) -> Header:
    start = _codestream_start(head)
    (soc,) = struct.unpack_from(">H", head, start)
    if soc != _SOC:
        raise UnsuitedError("no codestream begins where it should")
    main, facts, tlm = [head[start : start + 2]], dict[int, bytes](), list[bytes]()
    place = start + 2
    while (marker := struct.unpack_from(">H", head, place)[0]) != _SOT:
        (length,) = struct.unpack_from(">H", head, place + 2)
        segment = head[place : place + 2 + length]
        if length < 2 or len(segment) < 2 + length:
            raise IndexError
        if marker not in {_SIZ, _COD, _QCD, _COM, _TLM} or marker in facts:
            raise UnsuitedError(f"marker {marker:X} in its main header")
        if marker == _TLM:
            tlm.append(segment[4:])
        else:
            main.append(segment)
            if marker != _COM:
                facts[marker] = segment[4:]
        place += 2 + length
    if facts.keys() != {_SIZ, _COD, _QCD}:
        raise UnsuitedError("its main header lacks a marker")
    coding = _coding(facts[_SIZ], facts[_COD])
    lengths = _stated_lengths(tlm, coding.tiles[0] * coding.tiles[1])
    return Header(_boxes(head, start), b"".join(main), coding, place, lengths)


def _codestream_start(head: bytes) -> int:
    """Place of SOC, behind the boxes before it."""
    if head[:2] == b"\xff\x4f":
        return 0
    if head[: len(_SIGNATURE)] != _SIGNATURE:
        raise UnsuitedError("it is no JPEG 2000 file")
    place = 0
    while True:
        length, kind = struct.unpack_from(">I4s", head, place)
        size = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", head, place + 8)
            size = 16
        if kind == b"jp2c":
            return place + size
        if length < size:
            raise UnsuitedError("a box without an end before its codestream")
        place += length


def _boxes(head: bytes, start: int) -> bytes:
    """The boxes before a codestream that begins at start, and the head of one without an end."""
    if not start:
        return b""
    size = 16 if head[start - 16 : start - 8] == b"\0\0\0\x01jp2c" else 8
    return head[: start - size] + struct.pack(">I4s", 0, b"jp2c")


def _coding(siz: bytes, cod: bytes) -> Coding:
    """Facts of the two markers.

    Raises:
        UnsuitedError: what is coded in another way than can be thinned.
    """
    profile, x1, y1, x0, y0, width, height, tile_x0, tile_y0, components = struct.unpack_from(
        ">H8IH", siz
    )
    style, order, layers, _, levels, wide, high, block_style, transform = struct.unpack_from(
        ">BBHBBBBBB", cod
    )
    sizes = cod[10:] if style & 1 else bytes([0xFF] * (levels + 1))
    suited = (
        profile <= 2
        and components == 1
        and siz[37:] == b"\x01\x01"  # not subsampled
        and (tile_x0, tile_y0) == (x0, y0)
        and x0 < x1
        and y0 < y1
        and min(width, height) > 0
        and style <= 1  # no SOP, no EPH
        and (order, layers, block_style) == (0, 1, 0)
        and levels <= 32
        and len(sizes) == levels + 1
        and wide <= 8
        and high <= 8
        and wide + high <= 8
        and transform in _MARGINS
        and all(size & 15 and size >> 4 for size in sizes[1:])
    )
    if not suited:
        raise UnsuitedError("it is coded in another way than Sentinel-2's bands")
    precincts = tuple((size & 15, size >> 4) for size in sizes)
    image = (x0, y0, x1, y1)
    coding = Coding(image, (width, height), levels, (wide + 2, high + 2), precincts, transform)
    if coding.tiles[0] * coding.tiles[1] > _MAX_TILES:
        raise UnsuitedError("it has too many tiles")
    return coding


def _stated_lengths(segments: list[bytes], tiles: int) -> tuple[int, ...] | None:
    """Lengths of the tile-parts by TLM, if it states one for each tile in turn."""
    lengths: list[int] = []
    for segment in sorted(segments):
        size = segment[1]
        index_bytes, length_format = size >> 4 & 3, ">I" if size >> 6 & 1 else ">H"
        step = index_bytes + struct.calcsize(length_format)
        for place in range(2, len(segment) - step + 1, step):
            number = int.from_bytes(segment[place : place + index_bytes], "big")
            if index_bytes and number != len(lengths):
                return None
            lengths.append(struct.unpack_from(length_format, segment, place + index_bytes)[0])
    return tuple(lengths) if len(lengths) == tiles else None


def find_tile_parts(header: Header, source: ByteSource) -> TileParts:
    """Where each tile lies: as TLM states it, else by a walk from tile-part to tile-part.

    Raises:
        UnsuitedError: a tile is missing, or has several tile-parts.
    """
    if header.lengths is not None:
        starts = np.cumsum((header.first, *header.lengths[:-1]))
        return _sensible(header.coding, TileParts(tuple(starts.tolist()), header.lengths))
    tiles = header.coding.tiles[0] * header.coding.tiles[1]
    found: dict[int, tuple[int, int]] = {}
    place = header.first
    while len(found) < tiles:
        tile, length = _tile_part(source.read(place, _SOT_BYTES))
        if tile >= tiles or tile in found:
            raise UnsuitedError("a tile of several parts, or of another image")
        found[tile] = place, length
        place += length
    if source.read(place, 2) != struct.pack(">H", _EOC):
        raise UnsuitedError("it does not end behind its last tile")
    starts_of, lengths_of = zip(*(found[tile] for tile in range(tiles)), strict=True)
    return _sensible(header.coding, TileParts(starts_of, lengths_of))


def _sensible(coding: Coding, parts: TileParts) -> TileParts:
    """Refuse lengths that no tile has: so much would be fetched of a damaged file."""
    most = 8 * coding.tile_px[0] * coding.tile_px[1] + 2**16
    if not _TILE_HEAD_BYTES <= min(parts.lengths) <= max(parts.lengths) <= most:
        raise UnsuitedError("a tile that is longer or shorter than any can be")
    return parts


def _tile_part(sot: bytes) -> tuple[int, int]:
    """Tile and bytes of a tile-part that is a tile's only one."""
    if len(sot) < _SOT_BYTES:
        raise UnsuitedError("it ends before its last tile")
    marker, size, tile, length, number, of = struct.unpack_from(">HHHIBB", sot)
    if (marker, size, number) != (_SOT, 10, 0) or of > 1 or length < _TILE_HEAD_BYTES:
        raise UnsuitedError("no tile begins where one should, or it has several parts")
    return tile, length


@lru_cache(maxsize=512)
def tile_layout(coding: Coding, tile: tuple[int, int, int, int]) -> TileLayout:
    """The code blocks of a tile (x0, y0, x1, y1 on the reference grid), after B.5 to B.7 and B.9.

    Raises:
        UnsuitedError: they are too many.
    """
    bands, total = list[tuple[int, ...]](), 0
    packet_grids, grids, blocks = [0], list[tuple[int, int, int]](), list[npt.NDArray[np.int64]]()
    for resolution in range(coding.levels + 1):
        area = tuple(_up(edge, 1 << coding.levels - resolution) for edge in tile)
        precinct = coding.precincts[resolution]
        # A band's coordinates are half of its resolution's, but for the lowest.
        half = min(resolution, 1)
        block = tuple(min(coding.block[k], precinct[k] - half) for k in (0, 1))
        first_band = len(bands)
        for kind in (1, 2, 3) if resolution else (0,):
            level = coding.levels - resolution + half
            bands.append(_band(tile, level, kind, block, bands[-1][9] if bands else 0))
        for window in _precinct_windows(area, precinct):
            if len(packet_grids) > _MAX_BLOCKS or bands[-1][9] > _MAX_BLOCKS:
                raise UnsuitedError("a tile has too many precincts or code blocks")
            for band in bands[first_band:]:
                grid = _block_grid(band, [edge >> half for edge in window])
                grids.append((*grid.shape, total))
                blocks.append(grid.ravel())
                total += grid.size
            packet_grids.append(len(grids))
    return TileLayout(
        np.array(bands, np.int64),
        np.array(packet_grids, np.int64),
        np.array(grids, np.int64).reshape(-1, 3),
        np.concatenate(blocks) if blocks else np.empty(0, np.int64),
    )


def _band(
    tile: tuple[int, ...], level: int, kind: int, block: tuple[int, ...], first: int
) -> tuple[int, ...]:
    """A row of `bands`; kind's bits tell the high-pass directions: 1 across, 2 down."""
    x_high, y_high = kind & 1, kind >> 1
    half = 1 << level >> 1
    u0, u1 = (_up(edge - x_high * half, 1 << level) for edge in tile[::2])
    v0, v1 = (_up(edge - y_high * half, 1 << level) for edge in tile[1::2])
    if u0 >= u1 or v0 >= v1:
        return level, u0, v0, u1, v1, *block, 0, first, first
    across = _up(u1, 1 << block[0]) - (u0 >> block[0])
    down = _up(v1, 1 << block[1]) - (v0 >> block[1])
    return level, u0, v0, u1, v1, *block, across, first, first + across * down


def _precinct_windows(
    area: tuple[int, ...], precinct: tuple[int, int]
) -> Iterable[tuple[int, int, int, int]]:
    """x0, y0, x1, y1 of a resolution's precincts, row by row, uncut."""
    x0, y0, x1, y1 = area
    if x0 >= x1 or y0 >= y1:
        return
    wide, high = precinct
    for v in range(y0 >> high, _up(y1, 1 << high)):
        for u in range(x0 >> wide, _up(x1, 1 << wide)):
            yield u << wide, v << high, (u + 1) << wide, (v + 1) << high


def _block_grid(band: tuple[int, ...], window: list[int]) -> npt.NDArray[np.int64]:
    """int64[rows, columns]: positions of a band's blocks within a precinct."""
    _, u0, v0, u1, v1, wide, high, across, first, _ = band
    left, top, right, bottom = (
        max(window[0], u0),
        max(window[1], v0),
        min(window[2], u1),
        min(window[3], v1),
    )
    if left >= right or top >= bottom:
        return np.empty((0, 0), np.int64)
    columns = np.arange(left >> wide, _up(right, 1 << wide)) - (u0 >> wide)
    rows = np.arange(top >> high, _up(bottom, 1 << high)) - (v0 >> high)
    return first + rows[:, None] * across + columns


def choose_blocks(coding: Coding, plan: ReadPlan) -> Mapping[int, npt.NDArray[np.bool_]]:
    """The code blocks that a plan's pixels depend on, by tile; a plan's blocks are the tiles.

    Raises:
        UnsuitedError: a tile has too many blocks.
    """
    chosen = {}
    for number in np.flatnonzero(np.diff(plan.block_ends)).tolist():
        layout = tile_layout(coding, coding.tile(number))
        chosen[number] = np.zeros(layout.blocks.size, np.bool_)
        packets.mark_blocks(
            plan.row,
            plan.col,
            plan.length,
            plan.block_ends[number],
            plan.block_ends[number + 1],
            *coding.image[:2],
            _MARGINS[coding.transform],
            layout.bands,
            chosen[number],
        )
    return chosen


def assemble(
    header: Header, tiles: Mapping[int, bytes], wanted: Mapping[int, npt.NDArray[np.bool_]] | None
) -> bytes:
    """Make a JP2 file of a few tiles.

    Args:
        header: of the file they come from.
        tiles: tile-parts as they are in that file, by tile.
        wanted: their code blocks to keep; None for all.

    Raises:
        UnsuitedError: a tile-part is not what the header lets expect.
    """
    head = header.boxes + header.main
    out = np.empty(
        len(head) + sum(len(part) + _TILE_HEAD_BYTES for part in tiles.values()) + 2, np.uint8
    )
    out[: len(head)] = np.frombuffer(head, np.uint8)
    place = len(head)
    for number, part in tiles.items():
        if _tile_part(part) != (number, len(part)):
            raise UnsuitedError(f"tile {number} is not where it was")
        if wanted is None:
            out[place : place + len(part)] = np.frombuffer(part, np.uint8)
            place += len(part)
        else:
            place = _write_tile(header.coding, number, part, wanted[number], out, place)
    out[place : place + 2] = 0xFF, 0xD9
    return out[: place + 2].tobytes()


def _write_tile(
    coding: Coding,
    number: int,
    part: bytes,
    wanted: npt.NDArray[np.bool_],
    out: npt.NDArray[np.uint8],
    place: int,
) -> int:
    """Write a tile-part with the wanted blocks alone; returns where it ends."""
    layout = tile_layout(coding, coding.tile(number))
    end: Any = packets.thin_packets(
        np.frombuffer(part, np.uint8),
        _packets_start(part),
        len(part),
        layout.packet_grids,
        layout.grids,
        layout.blocks,
        wanted,
        out,
        place + _TILE_HEAD_BYTES,
    )
    if end < 0:
        raise UnsuitedError(f"the packets of tile {number} cannot be followed to their end")
    head = struct.pack(">HHHIBBH", _SOT, 10, number, int(end) - place, 0, 1, _SOD)
    out[place : place + len(head)] = np.frombuffer(head, np.uint8)
    return int(end)


def _packets_start(part: bytes) -> int:
    """Place behind SOD; the markers before it must not change how the tile is coded."""
    place = _SOT_BYTES
    try:
        while (marker := struct.unpack_from(">H", part, place)[0]) != _SOD:
            (length,) = struct.unpack_from(">H", part, place + 2)
            if marker not in {_PLT, _COM} or length < 2:
                raise UnsuitedError(f"marker {marker:X} in a tile's header")
            place += 2 + length
    except struct.error:
        raise UnsuitedError("a tile's header has no end") from None
    return place + 2


def _up(value: int, by: int) -> int:
    """The quotient, rounded up."""
    return -(-value // by)
