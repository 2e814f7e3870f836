"""Where the parcels of a delivery lie, and in which format: only known ones are opened.

GDAL would open whatever a file holds, whatever it is called, and some of its formats lead on to
other files and addresses. So the beginning of a file is looked at before GDAL sees it.
"""

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any
from xml.parsers import expat

from store.errors import ParcelFileError

DRIVERS = ("GPKG", "ESRI Shapefile", "GeoJSON", "GML", "FlatGeobuf", "OpenFileGDB")
"""The formats that GDAL may read; GeoParquet is read without it."""

_GML = (".gml", ".xml")
_GEODATABASE = ".gdb"
_PARQUET = (".parquet", ".geoparquet", ".pq")
_VECTOR = (".gpkg", ".shp", ".gml", ".geojson", ".fgb", *_PARQUET)
_PERHAPS_VECTOR = (".xml", ".json")
_UNPACK_FIRST = (".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz")

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing that GDAL reads."""

_HEAD_BYTES = 1 << 20
_AGAIN = "copy it again"
_MAGIC = {b"SQLite format 3\0": "GPKG", b"\0\0\x27\x0a": "ESRI Shapefile", b"fgb\3": "FlatGeobuf"}
_TEXT = {b"{": "GeoJSON", b"<": "GML"}
_LEADS_ON = re.compile(
    rb"<\s*(OGRVRT|OGRWFS|OGRSXF|VRTDataset|WFS_Capabilities|GDAL_|OWS|Capabilities)"
    rb"|gdal_streamed_alg|<!ENTITY",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Delivery:
    """The one place in a delivery that may hold parcels.

    Attributes:
        path: as GDAL takes it; of GeoParquet the file's own.
        is_parquet: whether it is GeoParquet.
        held: keeps an unpacked file there as long as this exists.
    """

    path: str
    is_parquet: bool = False
    held: Any = None


def locate(file: Path) -> Delivery:
    """Find what may hold the parcels in a file, a zip archive, a folder or a geodatabase.

    Raises:
        ParcelFileError: there is nothing of a known format, or more than one.
    """
    if not file.exists():
        raise ParcelFileError(f"there is no file {file}")
    if file.is_dir():
        return _of_folder(file)
    packed = [suffix for suffix in file.suffixes if suffix.lower() in _UNPACK_FIRST]
    if packed:
        raise ParcelFileError(
            f"{file.name} is an archive of a kind that is not read here "
            f"({packed[0]}): unpack it and import the file inside"
        )
    if file.suffix.lower() in _PARQUET:
        return Delivery(str(file), is_parquet=True)
    if zipfile.is_zipfile(file):
        return _of_archive(file)
    with file.open("rb") as stream:
        _refuse_unknown(file.name, stream)
    path = str(file.resolve())
    # Seen through a window, so that GDAL writes no .gfs file beside the user's.
    return Delivery(f"/vsisubfile/0_,{path}" if file.suffix.lower() in _GML else path)


def _of_folder(folder: Path) -> Delivery:
    if folder.suffix.lower() == _GEODATABASE:
        if not any(path.suffix == ".gdbtable" for path in folder.iterdir()):
            raise ParcelFileError(f"{folder.name} holds no tables of a geodatabase")
        return Delivery(str(folder.resolve()))
    inside = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))]
    return locate(folder / _only(folder.name, inside))


def _of_archive(file: Path) -> Delivery:
    try:
        with zipfile.ZipFile(file) as archive:
            return _in_archive(file, archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, OSError) as error:
        # RuntimeError is of an encrypted member, NotImplementedError of an unknown method.
        raise ParcelFileError(
            f"{file.name} cannot be unpacked here ({error}): unpack it and import the file inside"
        ) from error


def _in_archive(file: Path, archive: zipfile.ZipFile) -> Delivery:
    name = _only(file.name, [n for n in archive.namelist() if not n.startswith("__MACOSX/")])
    if name.lower().endswith(_PARQUET):
        held = tempfile.NamedTemporaryFile(suffix=".parquet")  # noqa: SIM115 - it stays open
        with archive.open(name) as packed:
            shutil.copyfileobj(packed, held, 1 << 20)
        held.flush()
        return Delivery(held.name, is_parquet=True, held=held)
    member = archive.NameToInfo.get(name)
    if (member and member.compress_type not in _METHODS) or "\\" in name:
        raise NotImplementedError(f"{name} is packed in an unusual way")
    if not name.lower().endswith(_GEODATABASE):
        with archive.open(name) as packed:
            _refuse_unknown(name, packed)
    path = str(file.resolve())
    # GDAL finds the archive's end by the braces, or by .zip where its name has braces itself.
    return Delivery(f"/vsizip/{path}/{name}" if "}" in path else f"/vsizip/{{{path}}}/{name}")


def _only(container: str, inside: list[str]) -> str:
    """The one name that may hold parcels."""
    databases = list(dict.fromkeys(filter(None, map(_geodatabase, inside))))
    outside = [name for name in inside if not _geodatabase(name)]
    # Metadata beside a shapefile are .xml too, so these count only where nothing else is.
    found = [*databases, *_ending(outside, _VECTOR)] or _ending(outside, _PERHAPS_VECTOR)
    if not found:
        known = ", ".join((*_VECTOR, _GEODATABASE, *_PERHAPS_VECTOR))
        raise ParcelFileError(f"{container} holds no file that could be parcels ({known})")
    if len(found) > 1:
        raise ParcelFileError(
            f"{container} holds {', '.join(found)}: unpack it and import one of them"
        )
    return found[0]


def _geodatabase(name: str) -> str | None:
    """The geodatabase that a file is a table of."""
    folder = PurePosixPath(name).parent
    return str(folder) if folder.suffix.lower() == _GEODATABASE else None


def _ending(names: list[str], suffixes: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.lower().endswith(suffixes)]


def _refuse_unknown(name: str, stream: IO[bytes]) -> None:
    """Refuse a file of no known format, one that leads on to others, and damaged text.

    GDAL reads damaged text up to the damage, without a word.
    """
    head = b"".join(_pieces(stream))
    if any(head.startswith(magic) for magic in _MAGIC):
        return
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = head.decode("utf-16", "ignore").encode() if wide else head
    if head.startswith(b"PK\3\4"):
        raise ParcelFileError(f"{name} is an archive that ends early: copy it whole")
    begin = text.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if begin not in _TEXT:
        known = ", ".join((*DRIVERS, "GeoParquet"))
        raise ParcelFileError(f"{name} cannot be read: its format is none of {known}")
    if found := _LEADS_ON.search(text):
        raise ParcelFileError(
            f"{name} is no parcel file but leads on to others "
            f"({found[0].decode('ascii', 'replace')}): import what it leads to"
        )
    rest = chain([head], iter(lambda: stream.read(_HEAD_BYTES), b""))
    if _TEXT[begin] == "GML":
        _refuse_broken_xml(name, rest)
    elif not wide and any(b"\0" in piece for piece in rest):
        raise ParcelFileError(f"{name} is damaged: it has zero bytes within its text: {_AGAIN}")


def _refuse_broken_xml(name: str, pieces: Iterator[bytes]) -> None:
    parser = expat.ParserCreate()
    try:
        for piece in pieces:
            parser.Parse(piece)
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise ParcelFileError(f"{name} is damaged: {error}: {_AGAIN}") from error


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """The beginning of a stream, which may give less than requested."""
    left = _HEAD_BYTES
    while left > 0 and (piece := stream.read(left)):
        yield piece
        left -= len(piece)
