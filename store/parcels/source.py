"""Parcel files: finding the layer, its columns and CRS, and reading it in batches."""

import codecs
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError

from store.errors import ParcelFileError
from store.parcels.formats import DRIVERS, Delivery, locate

BATCH = 5_000
"""Features read at a time; bounds memory whatever the size of the file."""

_AREAL = ("Polygon", "Unknown", "GeometryCollection")
_EXACT = {16: 2**11, 32: 2**24, 64: 2**53}
"""By their bits: from here on floating-point numbers have gaps between integers."""

_MISREAD = re.compile("[\x80-\x9f]")
"""Control characters of ISO-8859-1 that no text has: letters of CP1252 or CP1250, misread. An id
with one of them is refused on its own."""

_CURVED_WKB = range(8, 13)
_WKB_HEAD = 5
_BROKEN = (DataSourceError, DataLayerError, pa.ArrowException, OSError)


@dataclass(frozen=True)
class Batch:
    """Some consecutive features.

    Attributes:
        fids: int64[n], the layer's own feature ids.
        wkb: n geometries, None where there is none.
        columns: the wanted columns by name, n texts each, None where empty.
        kept: n JSON objects of the columns to keep; None where none was to be kept.
        unreadable: columns to keep that hold no plain values, or texts in another encoding.
    """

    fids: npt.NDArray[np.int64]
    wkb: list[bytes | None]
    columns: dict[str, list[str | None]]
    kept: list[str] | None = None
    unreadable: frozenset[str] = frozenset()


class ParcelSource(Protocol):
    """A layer of parcels, opened."""

    @property
    def layer(self) -> str:
        """Name of the layer."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns, without geometry."""

    @property
    def fid_column(self) -> str:
        """Name of the feature ids' column, '' if it has none."""

    @property
    def crs(self) -> CRS | None:
        """CRS that the file states."""

    @property
    def features(self) -> int:
        """Number of features; -1 where the format does not say."""

    def batches(
        self, columns: Sequence[str], ids: Collection[str] = (), kept: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Read all features, in order.

        Args:
            columns: to read as texts.
            ids: those of them that are ids, whose every digit counts.
            kept: to read as values of JSON.
        """


def open_source(file: Path, layer: str | None = None, encoding: str | None = None) -> ParcelSource:
    """Find the one layer of a file that holds parcels.

    Args:
        file: GeoPackage, shapefile, GML, GeoJSON, FlatGeobuf, file geodatabase or GeoParquet; or a
            zip archive or folder with one of them.
        layer: its name; needed where several layers have areas.
        encoding: of the texts, for shapefiles that state none or a wrong one.

    Raises:
        ParcelFileError: the file cannot be read, or the layer is missing or not chosen.
    """
    delivery = locate(file)
    if delivery.is_parquet:
        if layer is not None:
            raise ParcelFileError(f"{file.name} has no layers to choose from: leave --layer out")
        return ParquetSource.open(file, delivery)
    return GdalSource.open(file, delivery.path, layer, encoding)


@dataclass(frozen=True)
class GdalSource:
    """A layer read through GDAL.

    Attributes:
        path: as GDAL takes it.
        layer: name of the layer.
        columns: names of its columns, the feature id's own one included where it has a name.
        fid_column: name of the feature id's column, '' if it has none.
        crs: CRS the file states, if any.
        features: number of features; -1 where the format does not say.
        encoding: of the texts, where the user knows better than the file.
        driver: GDAL's name of the format.
    """

    path: str
    layer: str
    columns: tuple[str, ...]
    fid_column: str
    crs: CRS | None
    features: int
    encoding: str | None
    driver: str

    @classmethod
    def open(cls, file: Path, path: str, layer: str | None, encoding: str | None) -> "GdalSource":
        """Choose the layer and read its columns and CRS; see open_source."""
        _check_encoding(encoding)
        # GML has no types; guessing them would turn the id 007 into 7. GeoJSON has no dates;
        # guessing them would turn the id 2024/01/02 into 2024-01-02.
        pyogrio.set_gdal_config_options(
            {"GML_FIELDTYPES": "ALWAYS_STRING", "OGR_GEOJSON_DATE_AS_STRING": "YES"}
        )
        with _explained(file.name):
            name = _choose(file.name, path, layer, encoding)
            info = pyogrio.read_info(path, layer=name, encoding=encoding)
        if info["driver"] not in DRIVERS:
            raise ParcelFileError(
                f"{file.name} is read as {info['driver']}: only {', '.join(DRIVERS)} and Parquet "
                "are"
            )
        fields = tuple(map(str, info["fields"]))
        # GeoJSON's feature ids may be a column as well; there only the column is as it was written.
        fid_column = "" if info["fid_column"] in fields else info["fid_column"] or ""
        return cls(
            path,
            name,
            (*((fid_column,) if fid_column else ()), *fields),
            fid_column,
            _stated_crs(info["crs"]),
            int(info["features"]),
            encoding,
            info["driver"],
        )

    def batches(
        self, columns: Sequence[str], ids: Collection[str] = (), kept: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Read all features in order, curves as lines; see ParcelSource."""
        fields = [n for n in dict.fromkeys((*columns, *kept)) if n != self.fid_column]
        with (
            _explained(self.layer),
            pyogrio.raw.open_arrow(
                self.path,
                layer=self.layer,
                encoding=self.encoding,
                columns=fields,
                return_fids=True,
                use_pyarrow=True,
                batch_size=BATCH,
            ) as (_, reader),
        ):
            start = end = 0
            for records in reader:
                # Feature ids first, the geometry last; a column may be called as one of them.
                first, *names, _ = records.schema.names
                wkb = records.column(len(names) + 1).to_pylist()
                if any(map(_is_curved, wkb)):
                    wkb = self._straightened(start, len(wkb))
                places = {self.fid_column or first: 0} | {
                    name: place for place, name in enumerate(names, 1)
                }
                arrays = {name: records.column(place) for name, place in places.items()}
                batch = _batch(records.column(0).to_numpy(), wkb, arrays, columns, ids, kept)
                yield batch
                start, end = start + len(wkb), int(batch.fids[-1]) + 1 if len(wkb) else end
            # Of a shapefile, records that are marked as deleted are counted too.
            self._refuse_short(end if self.driver == "ESRI Shapefile" else start)

    def _refuse_short(self, read: int) -> None:
        """Refuse a file that ends before its last feature: GDAL stops there without a word."""
        if read < self.features:
            raise ParcelFileError(
                f"{self.layer} is damaged: it says that it has {self.features:,} features, of "
                f"which only {read:,} can be read: copy it again, or make it again (ogr2ogr)"
            )

    def _straightened(self, start: int, count: int) -> list[bytes | None]:
        # GDAL's arrow stream hands curves through; its feature reader makes lines of them.
        return list(
            pyogrio.raw.read(
                self.path,
                layer=self.layer,
                encoding=self.encoding,
                columns=[],
                skip_features=start,
                max_features=count,
            )[2]
        )


@dataclass(frozen=True)
class ParquetSource:
    """A GeoParquet file; it has no feature ids, so rows count from 0.

    Attributes:
        file: as the user calls it.
        delivery: where it is.
        columns: names of its columns without the geometry.
        geometry: name of the geometry column.
        crs: CRS the file states; longitude and latitude where it leaves it out.
        features: number of rows.
    """

    file: Path
    delivery: Delivery
    columns: tuple[str, ...]
    geometry: str
    crs: CRS | None
    features: int

    @property
    def layer(self) -> str:
        """The file's own name."""
        return self.file.stem

    @property
    def fid_column(self) -> str:
        """None: rows are counted."""
        return ""

    @classmethod
    def open(cls, file: Path, delivery: Delivery) -> "ParquetSource":
        """Read the "geo" metadata (GeoParquet 1.1, section "File metadata"); see open_source."""
        with _explained(file.name):
            parquet = pq.ParquetFile(delivery.path)
        geometry, described = _described(parquet)
        if geometry not in parquet.schema_arrow.names:
            raise ParcelFileError(
                f"{file.name} is Parquet without a GeoParquet description of "
                "its geometry column: write it with a tool that makes GeoParquet"
            )
        if described.get("encoding") != "WKB":
            raise ParcelFileError(
                f"{file.name} keeps geometries as {described.get('encoding')}: "
                "only the encoding WKB is read"
            )
        crs = described.get("crs", "OGC:CRS84")
        names = tuple(name for name in parquet.schema_arrow.names if name != geometry)
        return cls(
            file,
            delivery,
            names,
            geometry,
            _stated_crs(crs),
            parquet.metadata.num_rows,
        )

    def batches(
        self, columns: Sequence[str], ids: Collection[str] = (), kept: Sequence[str] = ()
    ) -> Iterator[Batch]:
        """Read all rows in order; see ParcelSource."""
        start = 0
        fields = list(dict.fromkeys((*columns, *kept)))
        with _explained(self.file.name), pq.ParquetFile(self.delivery.path) as parquet:
            for records in parquet.iter_batches(BATCH, columns=[self.geometry, *fields]):
                count = records.num_rows
                wkb = _plain(records.column(self.geometry)).to_pylist()
                arrays = {name: records.column(name) for name in fields}
                yield _batch(np.arange(start, start + count), wkb, arrays, columns, ids, kept)
                start += count


def resolve(source: ParcelSource, column: str) -> str:
    """Return a column's name as the file spells it (accents may be composed differently).

    Raises:
        ParcelFileError: there is no such column, or more than one; names those there are.
    """
    wanted = unicodedata.normalize("NFC", column)
    found = [name for name in source.columns if unicodedata.normalize("NFC", name) == wanted]
    if len(found) > 1:
        raise ParcelFileError(
            f"the layer {source.layer} has {len(found)} columns that are called {column!r}: rename "
            "one of them"
        )
    if found:
        return found[0]
    raise ParcelFileError(
        f"the layer {source.layer} has no column {column!r}; "
        f"it has {', '.join(source.columns) or 'none'}"
    )


def as_text(array: Any, column: str, *, is_id: bool = False) -> list[str | None]:
    """Turn a column into texts: blanks around them go, integral numbers lose their ".0".

    Args:
        array: a pyarrow array of text, numbers, dates or booleans.
        column: its name, for the message.
        is_id: refuse floating-point numbers with fractions, too: 12.1 may have been 12.10.

    Raises:
        ParcelFileError: the column holds something that has no plain text.
    """
    plain = _plain(array)
    kind = plain.type
    if not _is_plain(kind):
        raise ParcelFileError(f"the column {column} holds {kind}, which is neither text nor number")
    if pa.types.is_floating(kind):
        _refuse_lost_digits(plain, column, fractions=is_id)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        stored = np.float32 if pa.types.is_float32(kind) else lambda value: value
        return [
            None if value is None or value != value else _number(stored(value))  # noqa: PLR0124 - NaN
            for value in plain.to_pylist()
        ]
    try:
        texts = [
            str(value).replace("\0", "").strip(" ") or None if value is not None else None
            for value in plain.to_pylist()
        ]
        if not is_id and any(_MISREAD.search(text) for text in texts if text):
            raise ValueError("it has control characters, which are letters of Windows")
    except ValueError as error:  # not decodable, too
        raise ParcelFileError(
            f"the column {column} is not in the encoding the file states: "
            "give the right one (--encoding, such as CP1252)"
        ) from error
    return texts


def _refuse_lost_digits(array: Any, column: str, *, fractions: bool) -> None:
    """Refuse floating-point numbers whose digits are not those of what they stand for."""
    exact = _EXACT[array.type.bit_width]
    lost = (
        value
        for value in map(float, filter(None, array.to_pylist()))
        if abs(value) >= exact or (fractions and value % 1 > 0)
    )
    if number := next(lost, None):
        raise ParcelFileError(
            f"the column {column} holds numbers such as {_number(number)} that its file gives with "
            "rounded digits: deliver it as text"
        )


def _batch(
    fids: npt.NDArray[np.int64],
    wkb: list[bytes | None],
    arrays: Mapping[str, Any],
    columns: Sequence[str],
    ids: Collection[str],
    kept: Sequence[str],
) -> Batch:
    texts = {name: as_text(arrays[name], name, is_id=name in ids) for name in columns}
    values = {name: _as_values(arrays[name]) for name in kept}
    readable = {name: column for name, column in values.items() if column is not None}
    return Batch(
        fids,
        wkb,
        texts,
        _as_json(readable, len(fids)) if kept else None,
        frozenset(values) - frozenset(readable),
    )


def _as_values(array: Any) -> list[Any] | None:
    """A column as values that JSON has, or None; None of a column that cannot be."""
    plain = _plain(array)
    if not _is_plain(plain.type):
        return None
    try:
        values: list[Any] = plain.to_pylist()
    except UnicodeDecodeError:
        return None
    if pa.types.is_float32(plain.type):
        values = [None if value is None else float(str(np.float32(value))) for value in values]
    if pa.types.is_floating(plain.type):
        return [value if value is not None and math.isfinite(value) else None for value in values]
    return [value.replace("\0", "") if isinstance(value, str) else value for value in values]


def _as_json(columns: Mapping[str, list[Any]], count: int) -> list[str]:
    """A JSON object of each row, without its empty values."""
    rows = zip(*columns.values(), strict=True) if columns else [()] * count
    return [
        json.dumps(
            {name: value for name, value in zip(columns, row, strict=True) if value is not None},
            ensure_ascii=False,
            default=str,  # dates, decimal numbers
        )
        for row in rows
    ]


def _is_plain(kind: Any) -> bool:
    return not (
        pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )


def _number(value: Any) -> str:
    return str(int(value)) if value % 1 == 0 else str(value)


def _plain(array: Any) -> Any:
    if isinstance(array, pa.ExtensionArray):
        return array.storage
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def _is_curved(wkb: bytes | None) -> bool:
    if wkb is None or len(wkb) < _WKB_HEAD:
        return False
    kind = int.from_bytes(wkb[1:5], "little" if wkb[0] else "big")
    return (kind & 0x0FFFFFFF) % 1000 in _CURVED_WKB


def _choose(file: str, path: str, wanted: str | None, encoding: str | None) -> str:
    layers = {str(name): str(kind or "") for name, kind in pyogrio.list_layers(path)}
    if wanted is not None:
        if wanted not in layers:
            raise ParcelFileError(f"{file} has no layer {wanted!r}; it has {', '.join(layers)}")
        return wanted
    counts = {
        name: int(pyogrio.read_info(path, layer=name, encoding=encoding)["features"])
        for name, kind in layers.items()
        if any(areal in kind for areal in _AREAL)
    }
    chosen = [name for name, count in counts.items() if count] or list(counts)
    if not chosen:
        raise ParcelFileError(
            f"{file} has no layer with polygons; it has {', '.join(layers) or 'no layers'}"
        )
    if len(chosen) > 1:
        listed = ", ".join(f"{name} ({counts[name]} features)" for name in chosen)
        raise ParcelFileError(
            f"{file} has several layers with polygons, choose one with --layer: {listed}"
        )
    return chosen[0]


def _check_encoding(encoding: str | None) -> None:
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise ParcelFileError(
            f"there is no encoding {encoding!r}: try CP1252, ISO-8859-1 or UTF-8"
        ) from None


def _described(parquet: pq.ParquetFile) -> tuple[str, Mapping[str, Any]]:
    """Name and description of the geometry column of GeoParquet; '' where there is none."""
    try:
        geo = json.loads((parquet.schema_arrow.metadata or {})[b"geo"])
        name = geo["primary_column"]
        return str(name), dict(geo["columns"][name])
    except (LookupError, TypeError, ValueError):
        return "", {}


def _stated_crs(stated: Any) -> CRS | None:
    try:
        crs = CRS.from_user_input(stated) if stated else None
    except CRSError:
        return None
    return None if crs is None or crs.is_engineering or "ndefined" in crs.name else crs


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ParcelFileError(
            f"{name} holds names or texts that are not in the encoding it "
            "states: give the right one (--encoding)"
        ) from error
    except _BROKEN as error:
        raise ParcelFileError(f"{name} cannot be read: {error}") from error
