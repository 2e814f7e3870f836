"""Orbit files of Sentinel-1: which products need which, and fetching them from OData."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from card.find.odata import find_products, odata_time, product_type_is
from card.find.sources import Source
from card.find.transport import ArchiveRequest, Transport
from store.errors import ConfigError, NotFoundError, WorldError
from store.inputs import InputProduct
from store.objects import list_objects, put_object

PRECISE, RESTITUTED = "POEORB", "RESORB"
MARGIN = timedelta(seconds=35)
"""State vectors that the orbit's polynomial wants before and behind a product."""

_NAME = re.compile(
    r"(?P<platform>S1[A-D])_OPER_AUX_(?P<kind>POEORB|RESORB)_OPOD_(?P<made>\d{8}T\d{6})"
    r"_V(?P<start>\d{8}T\d{6})_(?P<stop>\d{8}T\d{6})\.EOF"
)


@dataclass(frozen=True)
class ListedOrbit:
    """An orbit file, by its name.

    Attributes:
        name: with .EOF.
        platform: S1A ... S1D.
        kind: POEORB (precise, some 20 days later) or RESORB (restituted, some hours later).
        made_at: when it was made, UTC.
        start: of its validity, UTC.
        stop: of its validity, UTC.
    """

    name: str
    platform: str
    kind: str
    made_at: datetime
    start: datetime
    stop: datetime

    def covers(self, product: InputProduct) -> bool:
        """Whether it says where the satellite was all along a product."""
        return (
            self.platform == product.platform
            and self.start <= product.sensing_start - MARGIN
            and self.stop >= product.sensing_stop + MARGIN
        )


@dataclass(frozen=True)
class OrbitReport:
    """What fetching orbit files did.

    Attributes:
        fetched: names of the new files.
        precise: products with a precise orbit now.
        restituted: products with a restituted one only; the precise one is still to come.
        missing: references of products without any.
    """

    fetched: tuple[str, ...]
    precise: int
    restituted: int
    missing: tuple[str, ...]


def parse_orbit(name: str) -> ListedOrbit | None:
    """The orbit file of a name; None if it is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        made, start, stop = (
            datetime.strptime(match[part], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
            for part in ("made", "start", "stop")
        )
    except ValueError:
        return None
    return ListedOrbit(name, match["platform"], match["kind"], made, start, stop)


def sync_orbits(
    products: Iterable[InputProduct], folder: str, source: Source, transport: Transport
) -> OrbitReport:
    """Fetch the orbit files that products need and a folder lacks: precise, else restituted.

    Safe to be killed in and to be repeated: each file appears whole, and is fetched once.

    Args:
        products: of Sentinel-1.
        folder: where orbit files are kept: a path or s3://bucket/prefix.
        source: an OData source with a download address.
        transport: signs in to it.

    Raises:
        ConfigError: the source has no download address, or refuses our sign-in.
        WorldError: source or folder do not answer, or a file is no orbit file.
    """
    if source.protocol != "odata" or not source.download:
        raise ConfigError(f"the source {source.name} has no downloads by OData: take cdse-odata")
    held = _held(folder)
    fetched: list[str] = []
    kinds: dict[str, str | None] = {}
    for product in products:
        kinds[product.reference] = None
        for kind in (PRECISE, RESTITUTED):
            if _best(held, product, kind) is None:
                entry = _look_up(product, kind, source, transport)
                if entry is None:
                    continue
                orbit = _fetch(entry, folder, source, transport)
                held.append(orbit)
                fetched.append(orbit.name)
            kinds[product.reference] = kind
            break
    found = list(kinds.values())
    return OrbitReport(
        tuple(fetched),
        found.count(PRECISE),
        found.count(RESTITUTED),
        tuple(reference for reference, kind in kinds.items() if kind is None),
    )


def _held(folder: str) -> list[ListedOrbit]:
    try:
        names = [found.href.rpartition("/")[2] for found in list_objects(folder)]
    except NotFoundError:  # the first file makes the folder
        return []
    return [orbit for name in names if (orbit := parse_orbit(name))]


def orbits_for(folder: str, product: InputProduct) -> list[str]:
    """Addresses of the files in a folder that say where the satellite was all along a product."""
    names = [orbit.name for orbit in _held(folder) if orbit.covers(product)]
    return [f"{folder.rstrip('/')}/{name}" for name in names]


def _best(held: Iterable[ListedOrbit], product: InputProduct, kind: str) -> ListedOrbit | None:
    """The newest file of a kind that covers a product."""
    covering = [orbit for orbit in held if orbit.kind == kind and orbit.covers(product)]
    return max(covering, key=lambda orbit: orbit.made_at, default=None)


def _look_up(
    product: InputProduct, kind: str, source: Source, transport: Transport
) -> Mapping[str, Any] | None:
    """The catalogue's entry of the newest file of a kind that covers a product."""
    conditions = (
        "Collection/Name eq 'SENTINEL-1'",
        product_type_is(f"AUX_{kind}"),
        f"startswith(Name,'{product.platform}')",
        f"ContentDate/Start le {odata_time(product.sensing_start - MARGIN)}",
        f"ContentDate/End ge {odata_time(product.sensing_stop + MARGIN)}",
    )
    entries = find_products(source, " and ".join(conditions), transport).entries
    named = {str(entry.get("Name")): entry for entry in entries}
    orbits = [orbit for name in named if (orbit := parse_orbit(name))]
    best = _best(orbits, product, kind)
    return None if best is None else named[best.name]


def _fetch(
    entry: Mapping[str, Any], folder: str, source: Source, transport: Transport
) -> ListedOrbit:
    orbit = parse_orbit(str(entry.get("Name")))
    key = str(entry.get("Id"))
    if orbit is None or not re.fullmatch(r"[0-9A-Za-z-]{1,64}", key):
        raise WorldError(f"{source.name} lists an orbit file without name or id: {entry}")
    url = f"{source.download.rstrip('/')}/Products({key})/$value"
    content = transport.get_bytes(ArchiveRequest(url))
    _check_content(orbit, content, entry.get("Checksum"))
    put_object(f"{folder.rstrip('/')}/{orbit.name}", content)
    return orbit


def _check_content(orbit: ListedOrbit, content: bytes, checksums: Any) -> None:
    """Refuse what is not the whole file, by its first and last tag and the archive's checksum."""
    ends = b"<Earth_Explorer_File" in content[:1000] and content.rstrip().endswith(
        b"</Earth_Explorer_File>"
    )
    if not ends or orbit.name.removesuffix(".EOF").encode() not in content:
        raise WorldError(f"{orbit.name}: its download is not that orbit file, or not all of it")
    for stated in checksums if isinstance(checksums, list) else ():
        if isinstance(stated, dict) and stated.get("Algorithm") == "MD5":
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if digest != str(stated.get("Value")).lower():
                raise WorldError(f"{orbit.name}: its download has another MD5 than the catalogue's")
