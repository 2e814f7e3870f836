"""Tables encoded as CSV, JSON, Arrow (an IPC stream) or Parquet, at once or as a stream."""

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

from app.http.response import to_json
from app.query.columns import Columns

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
SUFFIXES = {"csv": "csv", "arrow": "arrows", "parquet": "parquet"}

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
    "px": pa.int32(),
    "valid": pa.float32(),
    "flags": pa.int16(),
    "layover": pa.float32(),
    "shadow": pa.float32(),
    "meteo_date": pa.string(),
    **{name: pa.float32() for name in ("tmin", "tmax", "tmean", "prec")},
}
"""Types of the columns of all tables."""

_BLOCK_BYTES = 4 << 20
"""CSV that becomes one batch of rows."""

_GROUP_ROWS = 1 << 17
"""Rows of one Parquet row group, at least."""

_NO_VALUE = frozenset({"", "NaN", "Infinity", "-Infinity"})
"""PostgreSQL's words for values that JSON does not have."""

_WORDS = frozenset({"band", "reference"})
"""Columns whose cells are texts; those of all others are JSON as PostgreSQL writes them."""


def encode_table(table: Columns, form: str) -> bytes:
    """Columns as CSV, Arrow or Parquet; objects in them are JSON."""
    if form == "csv":
        return _encode_csv(table)
    columns = {
        name: [json.dumps(cell) if isinstance(cell, dict) else cell for cell in cells]
        for name, cells in table.items()
    }
    schema = pa.schema([(name, TYPES[name]) for name in columns])
    batch = pa.RecordBatch.from_pydict(columns, schema)
    return b"".join(_encode([batch], schema, form))


def _encode_csv(table: Columns) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow(to_json(cell).decode() if isinstance(cell, dict) else cell for cell in row)
    return text.getvalue().encode()


def encode_stream(
    rows: Generator[bytes, None, None], form: str, types: Types
) -> Generator[bytes, None, None]:
    """Arrow or Parquet out of a stream of CSV without a header, in bounded memory.

    Args:
        rows: pieces of whole lines.
        form: arrow or parquet.
        types: of the columns.
    """
    schema = pa.schema(list(types.items()))
    yield from _encode(_batches(rows, schema), schema, form)


def encode_by_key(
    rows: Generator[bytes, None, None], types: Types, keys: Collection[str], wanted: Collection[str]
) -> Generator[bytes, None, None]:
    """A JSON object, key -> its columns, out of a stream of CSV without a header.

    Only one key's columns are in memory.

    Args:
        rows: pieces of whole lines; those of a key follow each other, which is their first cell.
        types: of the columns, by name in their order.
        keys: all of them; those without rows come last.
        wanted: columns to write.
    """
    positions = [(name, at) for at, name in enumerate(types) if name in wanted]
    without_rows = dict.fromkeys(keys)
    separator = b"{"
    for key, lines in groupby(csv.reader(_lines(rows)), itemgetter(0)):
        del without_rows[key]
        cells = list(zip(*lines, strict=True))
        yield separator + _member(key, ((name, cells[at]) for name, at in positions))
        separator = b","
    empty = b",".join(_member(key, ((name, ()) for name, _ in positions)) for key in without_rows)
    yield (separator + empty if empty or separator == b"{" else b"") + b"}"


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    for piece in pieces:
        yield from io.StringIO(piece.decode(), newline="")


def _member(key: str, columns: Iterable[tuple[str, Iterable[str]]]) -> bytes:
    lists = (
        f'"{name}":[{",".join(map(json.dumps if name in _WORDS else _json_value, cells))}]'
        for name, cells in columns
    )
    return f"{json.dumps(key)}:{{{','.join(lists)}}}".encode()


def _json_value(cell: str) -> str:
    return "null" if cell in _NO_VALUE else cell


def _batches(
    rows: Generator[bytes, None, None], schema: pa.Schema
) -> Generator[pa.RecordBatch, None, None]:
    block = bytearray()
    for piece in rows:
        block += piece
        if len(block) >= _BLOCK_BYTES:
            yield from _parse(block, schema)
            block = bytearray()
    if block:
        yield from _parse(block, schema)


def _parse(block: bytearray, schema: pa.Schema) -> list[pa.RecordBatch]:
    table = pa.csv.read_csv(
        pa.py_buffer(block),
        pa.csv.ReadOptions(use_threads=False, column_names=schema.names),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(column_types=schema, null_values=["", "NaN"]),
    )
    batches: list[pa.RecordBatch] = table.combine_chunks().to_batches()
    return batches


def _encode(batches: Any, schema: pa.Schema, form: str) -> Generator[bytes, None, None]:
    buffer = _OutputBuffer()
    if form == "arrow":
        with pa.ipc.new_stream(buffer, schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
                yield buffer.drain()
    else:
        with pq.ParquetWriter(buffer, schema, compression="zstd") as file:
            for group in _groups(batches):
                file.write_table(pa.Table.from_batches(group, schema))
                yield buffer.drain()
    yield buffer.drain()


def _groups(batches: Any) -> Generator[list[pa.RecordBatch], None, None]:
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if sum(part.num_rows for part in group) >= _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


class _OutputBuffer(io.BytesIO):
    """A file in memory whose content can be drained while it is written."""

    _drained = 0

    def tell(self) -> int:
        return self._drained + super().tell()

    def drain(self) -> bytes:
        piece = self.getvalue()
        self._drained += len(piece)
        self.seek(0)
        self.truncate()
        return piece
