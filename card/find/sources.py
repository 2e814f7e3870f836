"""The table of sources: catalogues and buckets, how each is read, what each calls the kinds."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from card.find.sign_in import SignIn, read_secret
from card.find.transport import check_address
from store.errors import ConfigError

KINDS = ("s2", "bs", "c6", "c12", "grd", "slc")
"""What can be looked for: the CARD kinds, and the inputs that CARD is made from."""

INPUT_KINDS = ("grd", "slc")
Protocol = Literal["stac", "odata", "opensearch", "bucket"]

_CDSE_STAC = {"s2": "sentinel-2-l2a", "grd": "sentinel-1-grd", "slc": "sentinel-1-slc"}
_CDSE_TYPES = {
    "s2": "S2MSI2A",
    "bs": "CARD-BS",
    "c6": "CARD-COH6",
    "c12": "CARD-COH12",
    "grd": "IW_GRDH_1S",
    "slc": "IW_SLC__1S",
}
_CDSE_FOLDERS = {kind: f"Sentinel-1/SAR/{name}/" for kind, name in _CDSE_TYPES.items()} | {
    "s2": "Sentinel-2/MSI/L2A/ Sentinel-2/MSI/L2A_N0500/"
}


@dataclass(frozen=True)
class Source:
    """A catalogue or bucket.

    Attributes:
        name: as --source takes it.
        title: for people.
        protocol: stac, odata, opensearch or bucket.
        url: root of a STAC API; of OData the address above Products; of OpenSearch the address
            above the collections; of a bucket s3://bucket, or the folder that it is mounted on.
        names: what the source calls each kind it has: a STAC collection, a product type, or the
            folders of a bucket above the year.
        store: where products lie whose path begins with /eodata: s3://eodata, or a mount.
        download: address above Products of OData downloads.
        orders: address above ProductionOrders, where products are made on demand.
    """

    name: str
    title: str
    protocol: Protocol
    url: str
    names: Mapping[str, str] = field(default_factory=dict)
    store: str = "s3://eodata"
    download: str = ""
    orders: str = ""

    def called(self, kind: str) -> str:
        """What the source calls a kind.

        Raises:
            ConfigError: it has none of the kind.
        """
        if kind not in self.names:
            raise ConfigError(
                f"the source {self.name} has no {kind}: it has {', '.join(self.names) or 'nothing'}"
            )
        return self.names[kind]


_CHECKED = TypeAdapter(Source)

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "cdse",
            "Copernicus Data Space, STAC",
            "stac",
            "https://stac.dataspace.copernicus.eu/v1",
            _CDSE_STAC,
        ),
        Source(
            "cdse-odata",
            "Copernicus Data Space, OData",
            "odata",
            "https://catalogue.dataspace.copernicus.eu/odata/v1",
            _CDSE_TYPES,
            download="https://download.dataspace.copernicus.eu/odata/v1",
            orders="https://odp.dataspace.copernicus.eu/odata/v1",
        ),
        Source(
            "cdse-opensearch",
            "Copernicus Data Space, OpenSearch (resto)",
            "opensearch",
            "https://catalogue.dataspace.copernicus.eu/resto/api/collections",
            _CDSE_TYPES,
        ),
        Source(
            "eodata", "the archive's own bucket or mount", "bucket", "s3://eodata", _CDSE_FOLDERS
        ),
        Source(
            "earthsearch",
            "Earth Search: Sentinel-2 as COG",
            "stac",
            "https://earth-search.aws.element84.com/v1",
            {"s2": "sentinel-2-l2a"},
        ),
        Source(
            "planetary",
            "Planetary Computer",
            "stac",
            "https://planetarycomputer.microsoft.com/api/stac/v1",
            {"s2": "sentinel-2-l2a"},
        ),
    )
}
"""Sources that everybody knows, by name; the file CBM_SOURCES changes them and adds others."""

_SIGN_IN_URL = (
    "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
)


def find_source(name: str, env: Mapping[str, str] = os.environ) -> Source:
    """The source of a name, as table and operator's file (CBM_SOURCES) describe it.

    Raises:
        ConfigError: there is none of that name, or the file cannot be used.
    """
    known = all_sources(env)
    if name not in known:
        raise ConfigError(f"no source is called {name!r}: there are {', '.join(known)}")
    return known[name]


def all_sources(env: Mapping[str, str] = os.environ) -> dict[str, Source]:
    """All sources by name.

    The file that CBM_SOURCES names is TOML, a table for each source with the attributes of
    `Source`; for a known source those that differ are enough.

    Raises:
        ConfigError: the file cannot be read, or describes something else.
    """
    known = dict(SOURCES)
    for name, described in _described(env.get("CBM_SOURCES")).items():
        known[name] = _source(name, described, known.get(name))
    return known


def _described(path: str | None) -> dict[str, Any]:
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"CBM_SOURCES={path} cannot be read: {error}") from error


def _source(name: str, described: Any, known: Source | None) -> Source:
    what = f"the source {name} of CBM_SOURCES"
    stated = {} if known is None else asdict(known)
    try:
        source = _CHECKED.validate_python({"title": name, **stated, **described, "name": name})
    except (TypeError, ValidationError) as error:
        raise ConfigError(f"{what} cannot be used: {error}") from error
    if strange := set(source.names) - set(KINDS):
        raise ConfigError(f"{what}: {', '.join(sorted(strange))} in names is none of {KINDS}")
    if source.protocol != "bucket":
        check_address(source.url)
    for address in filter(None, (source.download, source.orders)):
        check_address(address)
    return source


def default_source(kind: str, env: Mapping[str, str] = os.environ) -> Source:
    """The first source of the table that has a kind.

    Raises:
        ConfigError: none has it.
    """
    for source in all_sources(env).values():
        if kind in source.names:
            return source
    raise ConfigError(f"no source has {kind}")


def sign_in_of_cdse(env: Mapping[str, str] = os.environ) -> SignIn:
    """The user of the Copernicus Data Space, for downloads and orders.

    Of CBM_CDSE_USER and CBM_CDSE_PASSWORD, or the files CBM_CDSE_USER_FILE and
    CBM_CDSE_PASSWORD_FILE; CBM_CDSE_TOKEN_URL and CBM_CDSE_HOSTS lead elsewhere.

    Raises:
        ConfigError: one of them is not set, or cannot be read.
    """
    names = ("CBM_CDSE_USER", "CBM_CDSE_PASSWORD")
    user, password = (read_secret(env, name) for name in names)
    if not user or not password:
        missing = " and ".join(n for n, v in zip(names, (user, password), strict=True) if not v)
        raise ConfigError(
            f"{missing} (or the same with _FILE) are not set: downloads from the Copernicus Data "
            "Space need an account of https://dataspace.copernicus.eu"
        )
    url = env.get("CBM_CDSE_TOKEN_URL") or _SIGN_IN_URL
    check_address(url)
    hosts = (env.get("CBM_CDSE_HOSTS") or "dataspace.copernicus.eu").split()
    return SignIn(url, "cdse-public", user, password, tuple(hosts), names)
