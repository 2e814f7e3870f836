"""Rows as CSV, JSON, Arrow (an IPC stream) or Parquet: at once, or piece by piece as they come."""

import csv
import io
import json
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from app.columns import Columns

CSV = "text/csv; charset=utf-8"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"

MEDIA_TYPES = {"csv": CSV, "arrow": ARROW, "parquet": PARQUET}
ENDINGS = {"csv": "csv", "arrow": "arrows", "parquet": "parquet"}

Types = Mapping[str, pa.DataType]

TYPES: Types = {
    "pid": pa.string(),
    "date_part": pa.float64(),
    "band": pa.string(),
    "count": pa.int32(),
    **{name: pa.float32() for name in ("mean", "std", "min", "p25", "p50", "p75", "max")},
    "hist": pa.string(),
    "obsid": pa.int32(),
    "reference": pa.string(),
    "meteo_date": pa.string(),
    **{name: pa.float32() for name in ("tmin", "tmax", "tmean", "prec")},
}
"""Of the columns that answers have."""

_BLOCK_BYTES = 4 << 20
"""CSV that is turned into one batch of rows."""

_GROUP_ROWS = 1 << 17
"""Rows of one Parquet row group, at least."""

_NO_VALUE = frozenset({"", "NaN", "Infinity", "-Infinity"})
"""What PostgreSQL writes for values that JSON does not have."""

_WORDS = frozenset({"band", "reference"})
"""Columns whose cells are texts; those of all others are JSON as PostgreSQL writes them."""


def whole(table: Columns, form: str) -> bytes:
    """Columns as Arrow or Parquet; objects in them are JSON."""
    columns = {
        name: [json.dumps(cell) if isinstance(cell, dict) else cell for cell in cells]
        for name, cells in table.items()
    }
    schema = pa.schema([(name, TYPES[name]) for name in columns])
    batch = pa.RecordBatch.from_pydict(columns, schema)
    return b"".join(_written([batch], schema, form))


def converted(
    rows: Generator[bytes, None, None], form: str, types: Types
) -> Generator[bytes, None, None]:
    """Turn CSV without a header into Arrow or Parquet as it comes, in bounded memory.

    Args:
        rows: pieces of whole lines.
        form: arrow or parquet.
        types: of the columns.
    """
    schema = pa.schema(list(types.items()))
    yield from _written(_batches(rows, schema), schema, form)


def nested(
    rows: Generator[bytes, None, None],
    types: Types,
    keys: Collection[str],
    wanted: Collection[str],
) -> Generator[bytes, None, None]:
    """Turn CSV without a header into a JSON object: key -> its columns; one key in memory.

    Args:
        rows: pieces of whole lines; those of a key follow each other, which is their first cell.
        types: of the columns, by name in their order.
        keys: all that there may be; those without rows come last.
        wanted: columns to write.
    """
    places = [(name, place) for place, name in enumerate(types) if name in wanted]
    without_rows = dict.fromkeys(keys)
    separator = b"{"
    for key, found in groupby(csv.reader(_lines(rows)), itemgetter(0)):
        del without_rows[key]
        cells = list(zip(*found, strict=True))
        yield separator + _member(key, ((name, cells[place]) for name, place in places))
        separator = b","
    empty = b",".join(_member(key, ((name, ()) for name, _ in places)) for key in without_rows)
    yield (separator + empty if empty or separator == b"{" else b"") + b"}"


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    for piece in pieces:
        yield from io.StringIO(piece.decode(), newline="")


def _member(key: str, columns: Iterable[tuple[str, Iterable[str]]]) -> bytes:
    lists = (
        f'"{name}":[{",".join(map(json.dumps if name in _WORDS else _bare, cells))}]'
        for name, cells in columns
    )
    return f"{json.dumps(key)}:{{{','.join(lists)}}}".encode()


def _bare(cell: str) -> str:
    return "null" if cell in _NO_VALUE else cell


def _batches(
    rows: Generator[bytes, None, None], schema: pa.Schema
) -> Generator[pa.RecordBatch, None, None]:
    block = bytearray()
    for piece in rows:
        block += piece
        if len(block) >= _BLOCK_BYTES:
            yield from _parsed(block, schema)
            block = bytearray()
    if block:
        yield from _parsed(block, schema)


def _parsed(block: bytearray, schema: pa.Schema) -> list[pa.RecordBatch]:
    table = pa.csv.read_csv(
        pa.py_buffer(block),
        pa.csv.ReadOptions(use_threads=False, column_names=schema.names),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(column_types=schema, null_values=["", "NaN"]),
    )
    batches: list[pa.RecordBatch] = table.combine_chunks().to_batches()
    return batches


def _written(batches: Any, schema: pa.Schema, form: str) -> Generator[bytes, None, None]:
    drain = _Drain()
    if form == "arrow":
        with pa.ipc.new_stream(drain, schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
                yield drain.taken()
    else:
        with pq.ParquetWriter(drain, schema, compression="zstd") as file:
            for group in _groups(batches):
                file.write_table(pa.Table.from_batches(group, schema))
                yield drain.taken()
    yield drain.taken()


def _groups(batches: Any) -> Generator[list[pa.RecordBatch], None, None]:
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(part.num_rows for part in group) >= _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


class _Drain(io.RawIOBase):
    """A file to write to, from which what was written is taken away."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._gone = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._kept += piece
        return len(piece)

    def tell(self) -> int:
        return self._gone + len(self._kept)

    def taken(self) -> bytes:
        piece, self._kept = bytes(self._kept), bytearray()
        self._gone += len(piece)
        return piece
