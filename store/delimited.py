"""Rows of CSV files: every line as long as the header, numbers as they are written there.

Commas or semicolons separate; with semicolons numbers may have decimal commas, as offices write
them.
"""

import csv
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.errors import CallerError


@dataclass(frozen=True)
class DelimitedRow:
    """A line of a file.

    Attributes:
        place: the file and the line's number, for messages.
        cells: texts by column, without blanks around them.
        decimal_comma: whether numbers may have one.
    """

    place: str
    cells: dict[str, str]
    decimal_comma: bool

    def number(self, column: str) -> float | None:
        """The finite number in a column; None where it is empty or there is no such column.

        Raises:
            CallerError: it is none.
        """
        text = self.cells.get(column, "")
        if not text:
            return None
        plain = text.replace(",", ".") if self.decimal_comma and text.count(",") == 1 else text
        try:
            value = float(plain.replace("_", "?"))  # Python's own separator of thousands
        except ValueError:
            raise CallerError(f"{self.place}: {column} is {text!r}, which is no number") from None
        if not math.isfinite(value):
            raise CallerError(f"{self.place}: {column} is {value:g}, which is not finite")
        return value


@contextmanager
def open_rows(file: Path) -> Iterator[tuple[frozenset[str], Iterator[DelimitedRow]]]:
    """Open a file: names of its columns, and its rows, read one by one.

    Raises:
        CallerError: it cannot be read, has a column twice, or a line with too many or too few
            cells.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            header = lines.readline()
            delimiter = ";" if ";" in header else ","
            columns = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
            if twice := sorted({name for name in columns if columns.count(name) > 1}):
                raise CallerError(f"{file} has the column {twice[0]!r} twice")
            yield frozenset(columns), _rows(file, columns, csv.reader(lines, delimiter=delimiter))
    except UnicodeDecodeError as error:
        raise CallerError(f"cannot read {file}: save it as UTF-8 ({error})") from None
    except (OSError, csv.Error) as error:
        raise CallerError(f"cannot read {file}: {error}") from None


def _rows(file: Path, columns: list[str], reader: Any) -> Iterator[DelimitedRow]:
    for cells in filter(None, reader):
        place = f"{file}, line {reader.line_num + 1}"
        if len(cells) != len(columns):
            raise CallerError(
                f"{place}: {len(cells)} cells, but the header has {len(columns)}: is there a "
                "separator too many or too few, or a decimal comma?"
            )
        texts = dict(zip(columns, map(str.strip, cells), strict=True))
        yield DelimitedRow(place, texts, reader.dialect.delimiter == ";")
