"""Product names, and the facts in them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from store.errors import ProductNameError
from store.kinds import CARD_BS, GRD, INPUT_LEVELS, L2A, SLC, kind_of_level


@dataclass(frozen=True)
class Product:
    """The facts in a product name.

    Attributes:
        reference: the name without path and .SAFE; a COG twin keeps its _COG.
        kind: CARD kind the product is, or is made into; of SLC c6, although with a predecessor of
            1 or 12 days it becomes c1d or c12.
        level: L2A, CARD-BS, CARD-COH1, CARD-COH6, CARD-COH12, GRD or SLC.
        platform: S2A, S1C ...
        sensing_start: of the datatake (S2) or slice (S1), whole seconds, UTC.
        product_type: as folders of the archives are called: L2A, IW_GRDH_1S, IW_SLC__1S ...
        discriminator: tells products of one sensing apart: S2's production time, S1's four digits.
        acquisition: equal for all products of one overpass: S2's platform, datatake and relative
            orbit; S1's platform and absolute orbit. Coherence names carry no orbit: sensing start.
        baseline: processing baseline such as 05.09, '' where the name has none.
        relative_orbit: relative orbit number, if known. Sentinel-1's is reckoned from the absolute
            one; where a manifest or catalogue states it, that counts more.
        orbit_number: absolute orbit number (S1), if the name has one.
        tile: MGRS tile such as 32TMT (S2).
        produced_at: when the product was made (S2), UTC.
        cog: whether it is the _COG twin of a product.
        sensing_stop: end of a Sentinel-1 slice, whole seconds, UTC.
    """

    reference: str
    kind: str
    level: str
    platform: str
    sensing_start: datetime
    product_type: str
    discriminator: str
    acquisition: str
    baseline: str = ""
    relative_orbit: int | None = None
    orbit_number: int | None = None
    tile: str | None = None
    produced_at: datetime | None = None
    cog: bool = False
    sensing_stop: datetime | None = None

    @property
    def is_card(self) -> bool:
        """Whether the product is analysis-ready as it is."""
        return self.level in kind_of_level(self.level).levels


_TIME = r"\d{8}T\d{6}"
_S2 = re.compile(
    rf"(?P<platform>S2[A-D])_MSI(?P<level>L1C|L2A)_(?P<start>{_TIME})_N(?P<baseline>\d{{4}})"
    rf"_R(?P<orbit>\d{{3}})_T(?P<tile>\d{{2}}[A-Z]{{3}})_(?P<discriminator>{_TIME})(?P<cog>_COG)?"
)
_S1 = re.compile(
    rf"(?P<platform>S1[A-D])_(?P<mode>IW|EW|WV|S[1-6])_(?P<type>GRD[FHM]|SLC_|OCN_|RAW_)"
    rf"_\dS(?:SH|SV|DH|DV|HH|HV|VV|VH)_(?P<start>{_TIME})_(?P<stop>{_TIME})"
    rf"_(?P<orbit>\d{{6}})_[0-9A-F]{{6}}_(?P<discriminator>[0-9A-F]{{4}})"
    rf"(?P<card>_CARD_BS)?(?P<cog>_COG)?"
)
_COHERENCE = re.compile(
    rf"(?P<platform>S1[A-D])_(?P<start>{_TIME})__1[A-D]__(?P<discriminator>{_TIME}_{_TIME})"
    rf"_CARD-COH(?P<days>1|6|12)(?P<cog>_COG)?"
)
_ARCHIVE = re.compile(r"(?:\.(?:SAFE|zip|data|dim|tar))+$")
_KNOWN = (
    "expected an S2A-D MSIL2A, S1A-D IW_GRDH (with or without _CARD_BS), S1A-D IW_SLC or "
    "S1A-D CARD-COH1/6/12 product name"
)
# Absolute orbits in which each satellite began a repeat cycle of 175 orbits (relative orbit 1), by
# the first day from which they count. S1A and S1B: ESA's published relations. S1C until June 2026:
# from catalogue entries that state both numbers; S1C since, when it was moved along its orbit, and
# S1D: isce-framework/isce2 pull requests 28123 and 28130.
_FIRST_CYCLE_ORBITS: dict[str, tuple[tuple[datetime, int], ...]] = {
    "S1A": ((datetime.min.replace(tzinfo=UTC), 73),),
    "S1B": ((datetime.min.replace(tzinfo=UTC), 27),),
    "S1C": ((datetime.min.replace(tzinfo=UTC), 172), (datetime(2026, 6, 24, tzinfo=UTC), 99)),
    "S1D": ((datetime.min.replace(tzinfo=UTC), 42),),
}
_ORBITS_PER_CYCLE = 175


def parse(name: str) -> Product:
    """Read a product name, as delivered or with .SAFE, _COG.SAFE, .zip or a path before it.

    Raises:
        ProductNameError: the name follows no known convention, or is no input of this software.
    """
    stem = _ARCHIVE.sub("", name.rstrip("/").rsplit("/", 1)[-1])
    product = find(stem)
    if product is None or product.reference != stem:
        raise ProductNameError(f"{name!r} is not a known product name: {_KNOWN}")
    return product


def find(text: str) -> Product | None:
    """Find the product name inside a file or folder name; None when there is none.

    Raises:
        ProductNameError: there is one, of a level that is never analysis-ready (L1C, SLC ...).
    """
    for pattern, read in ((_S2, _sentinel2), (_S1, _sentinel1), (_COHERENCE, _coherence)):
        match = re.search(rf"(?<![A-Za-z0-9])(?:{pattern.pattern})(?![A-Za-z0-9])", text)
        if match:
            return read(match)
    return None


def key_prefixes(product: Product) -> tuple[str, ...]:
    """Where the product may lie in CDSE's bucket: the old and new layouts, ending in /.

    Collection-1 reprocessings (baseline 05.00) have folders of their own; Sentinel-1 GRD moved
    from SAR/GRD to SAR/IW_GRDH_1S, and its COG twins lie in SAR/IW_GRDH_1S-COG; SLC likewise from
    SAR/SLC to SAR/IW_SLC__1S.
    """
    day = f"{product.sensing_start:%Y/%m/%d}/{product.reference}"
    if product.level == L2A:
        collections = ["L2A_N0500", "L2A"] if product.baseline == "05.00" else ["L2A"]
        return tuple(f"Sentinel-2/MSI/{folder}/{day}.SAFE/" for folder in collections)
    if product.level in INPUT_LEVELS:
        plain = [product.product_type, product.level]
        folders = [f"{product.product_type}-COG"] if product.cog else plain
        return tuple(f"Sentinel-1/SAR/{folder}/{day}.SAFE/" for folder in folders)
    return (f"Sentinel-1/SAR/{product.product_type}/{day}/",)


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise ProductNameError(f"{text!r} in a product name is not a date and time") from None


def _sentinel2(match: re.Match[str]) -> Product:
    if match["level"] == "L1C":
        raise ProductNameError(
            f"{match[0]} is Level-1C, which is not analysis-ready: get its MSIL2A product"
        )
    return Product(
        reference=match[0],
        kind=kind_of_level(L2A).name,
        level=L2A,
        platform=match["platform"],
        sensing_start=_time(match["start"]),
        product_type="L2A",
        discriminator=match["discriminator"],
        acquisition=f"{match['platform']}_{match['start']}_R{match['orbit']}",
        baseline=f"{match['baseline'][:2]}.{match['baseline'][2:]}",
        relative_orbit=int(match["orbit"]),
        tile=match["tile"],
        produced_at=_time(match["discriminator"]),
        cog=bool(match["cog"]),
    )


def _sentinel1(match: re.Match[str]) -> Product:
    kind = match["type"].rstrip("_")
    if kind in ("OCN", "RAW") or (match["card"] and kind == SLC):
        raise ProductNameError(
            f"{match[0]} is a {kind} product, which no CARD is made from: get its GRD or SLC"
        )
    level = CARD_BS if match["card"] else SLC if kind == SLC else GRD
    platform, orbit, start = match["platform"], int(match["orbit"]), _time(match["start"])
    return Product(
        reference=match[0],
        kind=kind_of_level(level).name,
        level=level,
        platform=platform,
        sensing_start=start,
        product_type=CARD_BS if match["card"] else f"{match['mode']}_{match['type']}_1S",
        discriminator=match["discriminator"],
        acquisition=f"{platform}_{orbit:06d}",
        relative_orbit=_relative_orbit(platform, orbit, start),
        orbit_number=orbit,
        cog=bool(match["cog"]),
        sensing_stop=_time(match["stop"]),
    )


def _relative_orbit(platform: str, orbit: int, at: datetime) -> int:
    firsts = [first for since, first in _FIRST_CYCLE_ORBITS[platform] if at >= since]
    return (orbit - firsts[-1]) % _ORBITS_PER_CYCLE + 1


def _coherence(match: re.Match[str]) -> Product:
    level = f"CARD-COH{match['days']}"
    return Product(
        reference=match[0],
        kind=kind_of_level(level).name,
        level=level,
        platform=match["platform"],
        sensing_start=_time(match["start"]),
        product_type=level,
        discriminator=match["discriminator"],
        acquisition=f"{match['platform']}_{match['start']}",
        cog=bool(match["cog"]),
    )
