"""Rows in PostgreSQL's binary COPY format, from arrays or one by one.

Format: a header; per row the number of its fields (int16), and per field its length in bytes
(int32, -1 for NULL) and value, big-endian; a trailer. Source: PostgreSQL's documentation of COPY,
section "Binary Format".
"""

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = -1


@dataclass(frozen=True)
class Fields:
    """One or several neighbouring columns of k rows.

    Attributes:
        values: [k] or [k, columns] numbers.
        dtype: big-endian numpy type of the columns, such as >i4 for integer.
    """

    values: npt.NDArray[Any]
    dtype: str

    @property
    def columns(self) -> int:
        """Number of columns."""
        return 1 if self.values.ndim == 1 else int(self.values.shape[1])


@dataclass(frozen=True)
class Nulls:
    """Neighbouring columns that are NULL in all rows.

    Attributes:
        columns: number of columns.
    """

    columns: int


def stream(rows: Iterable[bytes]) -> IO[bytes]:
    """A readable stream of encoded rows, for `db.copy_binary`."""
    return io.BytesIO(b"".join((_HEADER, *rows, _TRAILER)))


def encode_rows(fields: Sequence[Fields | Nulls], k: int) -> bytes:
    """Encode k rows of fixed columns, as one array of big-endian structs."""
    layout: list[Any] = [("columns", ">i2")]
    for n, field in enumerate(fields):
        item = ">i4" if isinstance(field, Nulls) else [("length", ">i4"), ("value", field.dtype)]
        layout.append((f"{n}", item, (field.columns,)))
    row = np.zeros(1, np.dtype(layout))
    row["columns"] = sum(field.columns for field in fields)
    for n, field in enumerate(fields):
        if isinstance(field, Nulls):
            row[f"{n}"] = _NULL
        else:
            row[f"{n}"]["length"] = np.dtype(field.dtype).itemsize
    rows = np.repeat(row, k)
    for n, field in enumerate(fields):
        if isinstance(field, Fields):
            rows[f"{n}"]["value"] = field.values.reshape(k, field.columns)
    return rows.tobytes()


def encode_row(*values: bytes | None) -> bytes:
    """Encode one row of values that are bytes already; None for NULL."""
    parts = [struct.pack(">h", len(values))]
    for value in values:
        if value is None:
            parts.append(struct.pack(">i", _NULL))
        else:
            parts += (struct.pack(">i", len(value)), value)
    return b"".join(parts)


def bigint(value: int) -> bytes:
    """A bigint's bytes, for `encode_row`."""
    return struct.pack(">q", value)
