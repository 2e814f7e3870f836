"""TIFF files of a few tiles: what parcels need of a remote band, still a valid TIFF.

The head of the file is kept, and the tiles lie behind it in the order they were fetched; only the
places in the list of tiles are others. So GDAL decodes whatever it decodes of the whole file. Tiles
that were not fetched lie beyond the end of the small file, and cannot be read.

After TIFF 6.0 and, for BigTIFF, libtiff's description of it. A file whose list of tiles is not near
its beginning (a COG has it there) is refused, and read by GDAL.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from extraction.codestream import TileParts, UnsuitedError
from extraction.ranges import ByteSource, parse_head

_WIDTH, _HEIGHT, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 277, 322, 323
_PLACES, _LENGTHS = 324, 325
_STRIPS = {273, 279}
"""Places and lengths of strips, which libtiff also takes for those of tiles."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
"""Bytes of a value, by its type."""
_UNSIGNED = {3: "H", 4: "I", 16: "Q"}

_LAYOUT = b"GDAL_STRUCTURAL_METADATA_SIZE"
"""Begins GDAL's promise of how the tiles of a COG lie, which the small file does not keep."""


@dataclass(frozen=True)
class TiffHeader:
    """The head of a tiled file, of its first image.

    Attributes:
        head: the file's first bytes, without a next image.
        shape_px: rows and columns of the image.
        tile_px: rows and columns of a tile.
        parts: where tiles lie, row by row.
        places: where in the head their places stand, and the struct format of one.
    """

    head: bytes
    shape_px: tuple[int, int]
    tile_px: tuple[int, int]
    parts: TileParts
    places: tuple[int, str]


@dataclass(frozen=True)
class _Field:
    """Values of a tag: their type, how many, and where they stand."""

    kind: int
    count: int
    place: int


def read_header(source: ByteSource) -> TiffHeader:
    """Read a file up to the end of its list of tiles.

    Raises:
        UnsuitedError: it is no tiled TIFF, or its list of tiles is not near its beginning.
    """
    header = parse_head(source, _header)
    if header is None:
        raise UnsuitedError("its list of tiles is not at its beginning")
    return header


def _header(head: bytes) -> TiffHeader:
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack_from(f"{order}H", head, 2)[0] if order else 0
    if version not in {42, 43}:
        raise UnsuitedError("it is no TIFF file")
    fields, end = _fields(head, order, big=version == 43)

    def values(tag: int) -> list[int]:
        field = fields.get(tag)
        if field is None or field.kind not in _UNSIGNED or not field.count:
            raise UnsuitedError(f"tag {tag} is not as a tiled file has it")
        dtype = np.dtype(order + _UNSIGNED[field.kind])
        found: list[int] = np.frombuffer(head, dtype, field.count, field.place).tolist()
        return found

    height, width, rows, columns = (
        values(tag)[0] for tag in (_HEIGHT, _WIDTH, _TILE_HEIGHT, _TILE_WIDTH)
    )
    samples = values(_SAMPLES)[0] if _SAMPLES in fields else 1
    if _STRIPS & fields.keys():
        raise UnsuitedError("it has strips and tiles")
    parts = TileParts(tuple(values(_PLACES)), tuple(values(_LENGTHS)))
    if not rows * columns or len(parts.starts) != -(-height // rows) * -(-width // columns):
        raise UnsuitedError("its tiles are not those of one image")
    if max(parts.lengths) > 8 * rows * columns * samples + 2**16:
        raise UnsuitedError("a tile that is longer than any can be")
    only = bytearray(head.replace(_LAYOUT, b"_" * len(_LAYOUT), 1))
    only[end : end + (8 if version == 43 else 4)] = bytes(8 if version == 43 else 4)
    places = fields[_PLACES]
    return TiffHeader(
        bytes(only),
        (height, width),
        (rows, columns),
        parts,
        (places.place, order + _UNSIGNED[places.kind]),
    )


def _fields(head: bytes, order: str, *, big: bool) -> tuple[dict[int, _Field], int]:
    """Fields of the first image by tag, and where the place of the next image stands.

    Raises:
        IndexError, struct.error: the head is too short.
    """
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
    count_format, entry_format, word = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    if start > len(head):
        raise IndexError
    (entries,) = struct.unpack_from(order + count_format, head, start)
    step, inline = struct.calcsize(f"<{entry_format}{word}"), struct.calcsize(f"<{word}")
    first = start + struct.calcsize(f"<{count_format}")
    end = first + entries * step
    if end + inline > len(head):
        raise IndexError
    fields: dict[int, _Field] = {}
    for entry in range(first, end, step):
        tag, kind, count = struct.unpack_from(order + entry_format, head, entry)
        place, size = entry + step - inline, count * _SIZES.get(kind, 1)
        if size > inline:
            (place,) = struct.unpack_from(order + word, head, place)
        if place + size > len(head):
            raise IndexError
        fields.setdefault(tag, _Field(kind, count, place))  # the first counts, as in libtiff
    return fields, end


def assemble(header: TiffHeader, tiles: Mapping[int, bytes]) -> bytes:
    """A file of some of the tiles.

    Raises:
        UnsuitedError: a place is too large for the file's numbers.
    """
    head, (first, word) = bytearray(header.head), header.places
    end = len(head)
    for number, tile in tiles.items():
        try:
            struct.pack_into(word, head, first + number * struct.calcsize(word), end)
        except struct.error as error:
            raise UnsuitedError(f"tile {number} lies too far behind: {error}") from error
        end += len(tile)
    return b"".join([head, *tiles.values()])
