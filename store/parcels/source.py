"""Parcel files: finding the layer, its columns and CRS, and reading it in batches."""

import codecs
import json
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
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

BATCH = 5_000
"""Features read at a time; bounds memory whatever the size of the file."""

_GML = (".gml", ".xml")
_VECTOR = (".gpkg", ".shp", ".gml", ".geojson", ".fgb")
_PERHAPS_VECTOR = (".xml", ".json")
_PARQUET = (".parquet", ".geoparquet", ".pq")
_UNPACK_FIRST = (".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_AREAL = ("Polygon", "Unknown", "GeometryCollection")
_CURVED_WKB = range(8, 13)
_WKB_HEAD = 5
_BROKEN = (DataSourceError, DataLayerError, pa.ArrowException, OSError)


@dataclass(frozen=True)
class Batch:
    """Some consecutive features.

    Attributes:
        fids: int64[n], the layer's own feature ids.
        wkb: n geometries, None where there is none.
        columns: the columns asked for by name, n texts each, None where empty.
    """

    fids: npt.NDArray[np.int64]
    wkb: list[bytes | None]
    columns: dict[str, list[str | None]]


class Source(Protocol):
    """A layer of parcels, opened."""

    @property
    def layer(self) -> str:
        """Name of the layer."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns, without geometry."""

    @property
    def crs(self) -> CRS | None:
        """CRS that the file states."""

    @property
    def features(self) -> int:
        """Number of features; -1 where the format does not say."""

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Read all features, in order."""


def open_source(file: Path, layer: str | None = None, encoding: str | None = None) -> Source:
    """Find the one layer of a file that holds parcels.

    Args:
        file: GeoPackage, shapefile, GML, GeoJSON or any other format GDAL knows, also inside a
            zip archive; or GeoParquet.
        layer: its name; needed where several layers have areas.
        encoding: of the texts, for shapefiles that state none or a wrong one.

    Raises:
        ParcelFileError: the file cannot be read, or the layer is not found or not chosen.
    """
    if not file.exists():
        raise ParcelFileError(f"there is no file {file}")
    packed = [suffix for suffix in file.suffixes if suffix.lower() in _UNPACK_FIRST]
    if packed:
        raise ParcelFileError(
            f"{file.name} is an archive of a kind that is not read here "
            f"({packed[0]}): unpack it and import the file inside"
        )
    if file.suffix.lower() in _PARQUET:
        if layer is not None:
            raise ParcelFileError(f"{file.name} has no layers to choose from: leave --layer out")
        return ParquetSource.open(file)
    return GdalSource.open(file, layer, encoding)


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
    """

    path: str
    layer: str
    columns: tuple[str, ...]
    fid_column: str
    crs: CRS | None
    features: int
    encoding: str | None

    @classmethod
    def open(cls, file: Path, layer: str | None, encoding: str | None) -> "GdalSource":
        """Choose the layer and read what the file says of it; see open_source."""
        _check_encoding(encoding)
        # GML has no types; guessing them would turn the id 007 into 7.
        pyogrio.set_gdal_config_options({"GML_FIELDTYPES": "ALWAYS_STRING"})
        path = _gdal_path(file)
        with _explained(file.name):
            name = _choose(file.name, path, layer, encoding)
            info = pyogrio.read_info(path, layer=name, encoding=encoding)
        fid_column = info["fid_column"] or ""
        own = (fid_column,) if fid_column else ()
        return cls(
            path,
            name,
            (*own, *map(str, info["fields"])),
            fid_column,
            _stated_crs(info["crs"]),
            int(info["features"]),
            encoding,
        )

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Read all features in order, curves as lines, the columns as text."""
        fields = [name for name in columns if name != self.fid_column]
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
            ) as (meta, reader),
        ):
            start = 0
            for records in reader:
                fids = records.column(meta["fid_column"])
                wkb = records.column(meta["geometry_name"] or "wkb_geometry").to_pylist()
                if any(map(_is_curved, wkb)):
                    wkb = self._straightened(start, len(wkb))
                texts = {name: as_text(records.column(name), name) for name in fields}
                if self.fid_column in columns:
                    texts[self.fid_column] = as_text(fids, self.fid_column)
                yield Batch(fids.to_numpy(), wkb, texts)
                start += len(wkb)

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
        file: where it is.
        columns: names of its columns without the geometry.
        geometry: name of the geometry column.
        crs: CRS the file states; longitude and latitude where it leaves it out.
        features: number of rows.
    """

    file: Path
    columns: tuple[str, ...]
    geometry: str
    crs: CRS | None
    features: int

    @property
    def layer(self) -> str:
        """The file's own name."""
        return self.file.stem

    @classmethod
    def open(cls, file: Path) -> "ParquetSource":
        """Read the "geo" metadata (GeoParquet 1.1, section "File metadata"); see open_source."""
        with _explained(file.name):
            parquet = pq.ParquetFile(file)
            geo = json.loads((parquet.schema_arrow.metadata or {}).get(b"geo", b"{}"))
        geometry = geo.get("primary_column")
        if geometry not in parquet.schema_arrow.names:
            raise ParcelFileError(
                f"{file.name} is Parquet without a GeoParquet description of "
                "its geometry column: write it with a tool that makes GeoParquet"
            )
        described = geo["columns"][geometry]
        if described.get("encoding") != "WKB":
            raise ParcelFileError(
                f"{file.name} keeps geometries as {described.get('encoding')}: "
                "only the encoding WKB is read"
            )
        crs = described.get("crs", "OGC:CRS84")
        names = tuple(name for name in parquet.schema_arrow.names if name != geometry)
        return cls(
            file,
            names,
            geometry,
            CRS.from_user_input(crs) if crs else None,
            parquet.metadata.num_rows,
        )

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Read all rows in order, the columns as text."""
        start = 0
        with _explained(self.file.name), pq.ParquetFile(self.file) as parquet:
            for records in parquet.iter_batches(BATCH, columns=[self.geometry, *columns]):
                count = records.num_rows
                yield Batch(
                    np.arange(start, start + count),
                    _plain(records.column(self.geometry)).to_pylist(),
                    {name: as_text(records.column(name), name) for name in columns},
                )
                start += count


def resolve(source: Source, column: str) -> str:
    """Return a column's name as the file spells it (accents may be composed differently).

    Raises:
        ParcelFileError: there is no such column; names those there are.
    """
    wanted = unicodedata.normalize("NFC", column)
    for name in source.columns:
        if unicodedata.normalize("NFC", name) == wanted:
            return name
    raise ParcelFileError(
        f"the layer {source.layer} has no column {column!r}; "
        f"it has {', '.join(source.columns) or 'none'}"
    )


def as_text(array: Any, column: str) -> list[str | None]:
    """Turn a column into texts: blanks around them go, integral numbers lose their ".0".

    Args:
        array: a pyarrow array of text, numbers, dates or booleans.
        column: its name, for the message.

    Raises:
        ParcelFileError: the column holds something that has no plain text.
    """
    plain = _plain(array)
    kind = plain.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise ParcelFileError(f"the column {column} holds {kind}, which is neither text nor number")
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return [
            None if value is None or value != value else _number(value)  # noqa: PLR0124 - NaN
            for value in plain.to_pylist()
        ]
    try:
        return [
            str(value).strip().replace("\0", "") or None if value is not None else None
            for value in plain.to_pylist()
        ]
    except UnicodeDecodeError as error:
        raise ParcelFileError(
            f"the column {column} is not in the encoding the file states: "
            "give the right one (--encoding)"
        ) from error


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


def _gdal_path(file: Path) -> str:
    path = str(file.resolve())
    if file.suffix.lower() in _GML:
        # Seen through a window, so that GDAL writes no .gfs file beside the user's.
        return f"/vsisubfile/0_,{path}"
    if not zipfile.is_zipfile(file):
        return path
    with zipfile.ZipFile(file) as archive:
        inside = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    # Metadata beside a shapefile are .xml too, so these count only where nothing else is.
    found = _ending(inside, _VECTOR) or _ending(inside, _PERHAPS_VECTOR)
    if not found:
        raise ParcelFileError(
            f"{file.name} holds no file that could be parcels "
            f"({', '.join(_VECTOR + _PERHAPS_VECTOR)})"
        )
    if len(found) > 1:
        raise ParcelFileError(
            f"{file.name} holds {', '.join(found)}: unpack it and import one of them"
        )
    return f"/vsizip/{{{path}}}/{found[0]}"


def _ending(names: list[str], suffixes: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.lower().endswith(suffixes)]


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


def _stated_crs(text: str | None) -> CRS | None:
    try:
        crs = CRS.from_user_input(text) if text else None
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
