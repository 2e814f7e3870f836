"""Compiled loops over JPEG 2000 packets: which code blocks pixels need, and packets of those alone.

Of tiles of one component and one layer, code block style 0, without SOP and EPH markers (see
`extraction.codestream`). After ISO/IEC 15444-1, annexes B.9 and B.10. A tile-part may hold any
bytes: every read and write has an end.
"""

import numpy as np
from numba import njit

BAND_COLUMNS = 10
"""Of `bands` in `mark_blocks`: level, u0, v0, u1, v1, width and height of a block (as powers of
two), blocks per row, the band's first block, and 1 more than the band's last."""

MALFORMED, TOO_LONG = -1, -2

_MAX_ZERO_PLANES = 80
_MAX_LENGTH_BITS = 31
_UNKNOWN = 2**30
_POSITION, _BYTE, _BITS, _BROKEN = 0, 1, 2, 3


@njit(nogil=True, cache=True)
def mark_blocks(row, col, length, begin, end, x0, y0, margin, bands, wanted):  # type: ignore[no-untyped-def]
    """Mark the code blocks of a tile that pieces of raster rows depend on.

    Args:
        row: int32[p], row on the raster of each piece; all of them lie in the tile.
        col: int32[p], its first column.
        length: int32[p], its pixels.
        begin: first piece.
        end: the one after the last.
        x0: column of the raster's first pixel on the reference grid.
        y0: its row.
        margin: coefficients on each side that the inverse wavelet may reach for at any level.
        bands: int64[b, BAND_COLUMNS].
        wanted: bool[n], set to True for blocks that are needed.
    """
    for p in range(begin, end):
        for b in range(bands.shape[0]):
            level, u0, v0, u1, v1 = bands[b, 0], bands[b, 1], bands[b, 2], bands[b, 3], bands[b, 4]
            if u0 >= u1 or v0 >= v1:
                continue
            across, down = bands[b, 5], bands[b, 6]
            y, x, last = y0 + row[p], x0 + col[p], x0 + col[p] + length[p] - 1
            top = (max((y >> level) - margin, v0) >> down) - (v0 >> down)
            bottom = (min((y >> level) + margin, v1 - 1) >> down) - (v0 >> down)
            left = (max((x >> level) - margin, u0) >> across) - (u0 >> across)
            right = (min((last >> level) + margin, u1 - 1) >> across) - (u0 >> across)
            for i in range(top, bottom + 1):
                first = bands[b, 8] + i * bands[b, 7]
                for j in range(max(left, 0), right + 1):
                    if bands[b, 8] <= first + j < bands[b, 9]:
                        wanted[first + j] = True


@njit(nogil=True, cache=True)
def thin_packets(data, begin, end, packet_grids, grids, blocks, wanted, out, place):  # type: ignore[no-untyped-def]
    """Write a tile's packets again, with the code blocks that are wanted alone.

    Args:
        data: uint8[], the packets lie at begin to end.
        begin: where the first packet begins.
        end: where the last one should end.
        packet_grids: int64[packets + 1], the grids of blocks of each packet.
        grids: int64[g, 3], rows, columns and first block of each: a band within a precinct.
        blocks: int64[n], position in `wanted` of each block, in the order of packets.
        wanted: bool[n].
        out: uint8[], filled from `place`.
        place: where to begin.

    Returns:
        Where the packets written end; MALFORMED where data are not packets of this tile that end
        exactly at its end, TOO_LONG where `out` is too short.
    """
    most = 1
    for g in range(grids.shape[0]):
        most = max(most, grids[g, 0] * grids[g, 1])
    nodes = 2 * most + 64
    old, new = np.empty((2, 2, nodes), np.int32), np.empty((2, 2, nodes), np.int32)
    known = np.empty((2, nodes), np.bool_)
    facts = np.zeros((max(wanted.size, 1), 5), np.int64)
    source, sink = np.zeros(4, np.int64), np.zeros(4, np.int64)
    source[_POSITION] = begin
    sink[_POSITION] = place
    for packet in range(packet_grids.size - 1):
        first, last = packet_grids[packet], packet_grids[packet + 1]
        if not _read_header(data, end, source, grids, first, last, old, facts):
            return MALFORMED
        if not _find_bodies(end, source, grids, first, last, facts):
            return MALFORMED
        _write_header(out, sink, grids, first, last, blocks, wanted, facts, new, known)
        if sink[_BROKEN]:
            return TOO_LONG
        if not _copy_bodies(data, out, sink, grids, first, last, blocks, wanted, facts):
            return TOO_LONG
    return sink[_POSITION] if source[_POSITION] == end else MALFORMED


_PASSES, _PLANES, _INCREMENT, _LENGTH, _BODY = 0, 1, 2, 3, 4


@njit(nogil=True, cache=True)
def _read_header(data, end, source, grids, first, last, trees, facts):  # type: ignore[no-untyped-def]
    """Read a packet's header into facts; whether it could be read."""
    source[_BYTE] = source[_BITS] = source[_BROKEN] = 0
    filled = _get(data, end, source)
    for g in range(first, last):
        rows, cols, block = grids[g, 0], grids[g, 1], grids[g, 2]
        _reset(trees, rows, cols)
        for i in range(rows):
            for j in range(cols):
                facts[block, _PASSES] = 0
                if filled and not _read_block(
                    data, end, source, trees, rows, cols, i, j, facts[block]
                ):
                    return False
                block += 1
    if source[_BYTE] == 0xFF:  # a bit is stuffed after it, and with it a byte
        source[_POSITION] += 1
    return source[_BROKEN] == 0 and source[_POSITION] <= end


@njit(nogil=True, cache=True)
def _read_block(data, end, source, trees, rows, cols, i, j, fact):  # type: ignore[no-untyped-def]
    if _read_tree(data, end, source, trees[0], rows, cols, i, j, 1) >= 1:
        return source[_BROKEN] == 0
    planes = _read_tree(data, end, source, trees[1], rows, cols, i, j, _MAX_ZERO_PLANES)
    passes = _read_passes(data, end, source)
    increment = 0
    while _get(data, end, source):
        increment += 1
        if increment > _MAX_LENGTH_BITS:
            return False
    bits = 3 + increment + _log2(passes)
    if source[_BROKEN] or planes >= _MAX_ZERO_PLANES or bits > _MAX_LENGTH_BITS:
        return False
    fact[_PASSES], fact[_PLANES], fact[_INCREMENT] = passes, planes, increment
    fact[_LENGTH] = _get_number(data, end, source, bits)
    return source[_BROKEN] == 0


@njit(nogil=True, cache=True)
def _find_bodies(end, source, grids, first, last, facts):  # type: ignore[no-untyped-def]
    """Set where each block's bytes begin, and the source behind them; False beyond the end."""
    place = source[_POSITION]
    for g in range(first, last):
        for block in range(grids[g, 2], grids[g, 2] + grids[g, 0] * grids[g, 1]):
            if facts[block, _PASSES]:
                facts[block, _BODY] = place
                place += facts[block, _LENGTH]
                if place > end:
                    return False
    source[_POSITION] = place
    return True


@njit(nogil=True, cache=True)
def _write_header(out, sink, grids, first, last, blocks, wanted, facts, trees, known):  # type: ignore[no-untyped-def]
    sink[_BYTE], sink[_BITS], sink[_BROKEN] = 0, 8, 0
    filled = False
    for g in range(first, last):
        for block in range(grids[g, 2], grids[g, 2] + grids[g, 0] * grids[g, 1]):
            if not wanted[blocks[block]]:
                facts[block, _PASSES] = 0
            filled |= facts[block, _PASSES] > 0
    _put(out, sink, 1 if filled else 0)
    if filled:
        for g in range(first, last):
            rows, cols, block = grids[g, 0], grids[g, 1], grids[g, 2]
            _fill(trees, known, rows, cols, facts, block)
            for i in range(rows):
                for j in range(cols):
                    _write_block(out, sink, trees, known, rows, cols, i, j, facts[block])
                    block += 1
    _flush(out, sink)


@njit(nogil=True, cache=True)
def _write_block(out, sink, trees, known, rows, cols, i, j, fact):  # type: ignore[no-untyped-def]
    _write_tree(out, sink, trees[0], known[0], rows, cols, i, j, 1)
    if not fact[_PASSES]:
        return
    _write_tree(out, sink, trees[1], known[1], rows, cols, i, j, fact[_PLANES] + 1)
    _write_passes(out, sink, fact[_PASSES])
    for _ in range(fact[_INCREMENT]):
        _put(out, sink, 1)
    _put(out, sink, 0)
    _put_number(out, sink, fact[_LENGTH], 3 + fact[_INCREMENT] + _log2(fact[_PASSES]))


@njit(nogil=True, cache=True)
def _copy_bodies(data, out, sink, grids, first, last, blocks, wanted, facts):  # type: ignore[no-untyped-def]
    place = sink[_POSITION]
    for g in range(first, last):
        for block in range(grids[g, 2], grids[g, 2] + grids[g, 0] * grids[g, 1]):
            if facts[block, _PASSES] and wanted[blocks[block]]:
                length, body = facts[block, _LENGTH], facts[block, _BODY]
                if place + length > out.size:
                    return False
                out[place : place + length] = data[body : body + length]
                place += length
    sink[_POSITION] = place
    return True


# Tag trees: [values, lower bounds], level by level from the leaves, each row by row.


@njit(nogil=True, cache=True)
def _levels(rows, cols):  # type: ignore[no-untyped-def]
    levels = 1
    while rows > 1 or cols > 1:
        rows, cols = (rows + 1) >> 1, (cols + 1) >> 1
        levels += 1
    return levels


@njit(nogil=True, cache=True)
def _node(rows, cols, i, j, level):  # type: ignore[no-untyped-def]
    """Position of a leaf's ancestor on a level; level 0 is the leaf."""
    start = 0
    for _ in range(level):
        start += rows * cols
        rows, cols = (rows + 1) >> 1, (cols + 1) >> 1
    return start + (i >> level) * cols + (j >> level)


@njit(nogil=True, cache=True)
def _size(rows, cols):  # type: ignore[no-untyped-def]
    return _node(rows, cols, 0, 0, _levels(rows, cols) - 1) + 1 if rows * cols else 0


@njit(nogil=True, cache=True)
def _reset(trees, rows, cols):  # type: ignore[no-untyped-def]
    size = _size(rows, cols)
    trees[:, 0, :size] = _UNKNOWN
    trees[:, 1, :size] = 0


@njit(nogil=True, cache=True)
def _fill(trees, known, rows, cols, facts, block):  # type: ignore[no-untyped-def]
    """Values of both trees from the facts of a grid's blocks: each node the least below it."""
    _reset(trees, rows, cols)
    known[:, : _size(rows, cols)] = False
    for level in range(_levels(rows, cols)):
        for i in range(rows):
            for j in range(cols):
                fact = facts[block + i * cols + j]
                node = _node(rows, cols, i, j, level)
                included = fact[_PASSES] > 0
                trees[0, 0, node] = min(trees[0, 0, node], 0 if included else 1)
                if included:
                    trees[1, 0, node] = min(trees[1, 0, node], fact[_PLANES])


@njit(nogil=True, cache=True)
def _read_tree(data, end, source, tree, rows, cols, i, j, threshold):  # type: ignore[no-untyped-def]
    """A leaf's value if it is below the threshold, else something that is not."""
    low = 0
    for level in range(_levels(rows, cols) - 1, -1, -1):
        node = _node(rows, cols, i, j, level)
        low = max(low, tree[1, node])
        while low < threshold and low < tree[0, node]:
            if _get(data, end, source):
                tree[0, node] = low
            else:
                low += 1
        tree[1, node] = low
    return tree[0, _node(rows, cols, i, j, 0)]


@njit(nogil=True, cache=True)
def _write_tree(out, sink, tree, known, rows, cols, i, j, threshold):  # type: ignore[no-untyped-def]
    low = 0
    for level in range(_levels(rows, cols) - 1, -1, -1):
        node = _node(rows, cols, i, j, level)
        low = max(low, tree[1, node])
        while low < threshold and low < tree[0, node]:
            _put(out, sink, 0)
            low += 1
        if low < threshold and not known[node]:
            _put(out, sink, 1)
            known[node] = True
        tree[1, node] = low


# Numbers of coding passes (table B.4).


@njit(nogil=True, cache=True)
def _read_passes(data, end, source):  # type: ignore[no-untyped-def]
    if not _get(data, end, source):
        return 1
    if not _get(data, end, source):
        return 2
    number = _get_number(data, end, source, 2)
    if number < 3:
        return 3 + number
    number = _get_number(data, end, source, 5)
    if number < 31:
        return 6 + number
    return 37 + _get_number(data, end, source, 7)


@njit(nogil=True, cache=True)
def _write_passes(out, sink, passes):  # type: ignore[no-untyped-def]
    if passes == 1:
        _put(out, sink, 0)
    elif passes == 2:
        _put_number(out, sink, 0b10, 2)
    elif passes < 6:
        _put_number(out, sink, 0b1100 | (passes - 3), 4)
    elif passes < 37:
        _put_number(out, sink, 0b111100000 | (passes - 6), 9)
    else:
        _put_number(out, sink, 0b1111111110000000 | (passes - 37), 16)


@njit(nogil=True, cache=True)
def _log2(number):  # type: ignore[no-untyped-def]
    power = 0
    while number > 1:
        number >>= 1
        power += 1
    return power


# Bits, of which one 0 is stuffed after each byte 0xFF. States: position, byte in hand, bits left
# in it, whether there was anything wrong.


@njit(nogil=True, cache=True)
def _get(data, end, source):  # type: ignore[no-untyped-def]
    if source[_BITS] == 0:
        if source[_POSITION] >= end:
            source[_BROKEN] = 1
            return 0
        stuffed = source[_BYTE] == 0xFF
        source[_BYTE] = data[source[_POSITION]]
        source[_POSITION] += 1
        source[_BITS] = 7 if stuffed else 8
        if stuffed and source[_BYTE] > 0x8F:  # a marker, which no packet holds
            source[_BROKEN] = 1
    source[_BITS] -= 1
    return (source[_BYTE] >> source[_BITS]) & 1


@njit(nogil=True, cache=True)
def _get_number(data, end, source, bits):  # type: ignore[no-untyped-def]
    number = 0
    for _ in range(bits):
        number = number << 1 | _get(data, end, source)
    return number


@njit(nogil=True, cache=True)
def _put(out, sink, bit):  # type: ignore[no-untyped-def]
    sink[_BITS] -= 1
    sink[_BYTE] |= bit << sink[_BITS]
    if sink[_BITS] == 0:
        _emit(out, sink)


@njit(nogil=True, cache=True)
def _put_number(out, sink, number, bits):  # type: ignore[no-untyped-def]
    for shift in range(bits - 1, -1, -1):
        _put(out, sink, (number >> shift) & 1)


@njit(nogil=True, cache=True)
def _flush(out, sink):  # type: ignore[no-untyped-def]
    """End a header; it must not end with 0xFF, so the byte stuffed after that belongs to it."""
    if sink[_BITS] < 8:
        _emit(out, sink)


@njit(nogil=True, cache=True)
def _emit(out, sink):  # type: ignore[no-untyped-def]
    if sink[_POSITION] >= out.size:
        sink[_BROKEN] = 1
        sink[_BYTE], sink[_BITS] = 0, 8
        return
    out[sink[_POSITION]] = sink[_BYTE]
    sink[_POSITION] += 1
    sink[_BITS] = 7 if sink[_BYTE] == 0xFF else 8
    sink[_BYTE] = 0
