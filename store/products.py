"""CARD kinds and their bands; product names and what they say."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from store.errors import ProductNameError

BANDS: dict[str, tuple[str, ...]] = {
    "s2": ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    "bs": ("VV", "VH"),
    "c6": ("VV", "VH"),
    "c12": ("VV", "VH"),
}
"""Bands with signatures, by CARD kind, in the order of the columns (0002_signatures.sql)."""

SCL = "SCL"
"""Sentinel-2's scene class band: counted as a histogram of its 12 classes, never averaged."""

L2A, CARD_BS, GRD = "L2A", "CARD-BS", "GRD"
"""Product levels; the coherence products are called CARD-COH6 and CARD-COH12."""


@dataclass(frozen=True)
class Product:
    """What a product name says.

    Attributes:
        reference: the name without path and .SAFE; a COG twin keeps its _COG.
        kind: CARD kind the product is, or (GRD) is made into: s2, bs, c6 or c12.
        level: L2A, CARD-BS, CARD-COH6, CARD-COH12 or GRD.
        platform: S2A, S1C ...
        sensing_start: of the datatake (S2) or slice (S1), whole seconds, UTC.
        product_type: as folders of the archives are called: L2A, IW_GRDH_1S, CARD-BS ...
        discriminator: tells products of one sensing apart: S2's production time, S1's four digits.
        acquisition: equal for all products of one overpass: S2's platform, datatake and relative
            orbit; S1's platform and absolute orbit. Coherence names carry no orbit: sensing start.
        baseline: processing baseline such as 05.09, '' where the name has none.
        relative_orbit: relative orbit number, if known.
        orbit_number: absolute orbit number (S1), if the name has one.
        tile: MGRS tile such as 32TMT (S2).
        produced_at: when the product was made (S2), UTC.
        cog: whether it is the _COG twin of a product.
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

    @property
    def is_card(self) -> bool:
        """Whether the product is analysis-ready as it is."""
        return self.level != GRD


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
    rf"_CARD-COH(?P<days>6|12)(?P<cog>_COG)?"
)
_ARCHIVE = re.compile(r"(?:\.(?:SAFE|zip|data|dim|tar))+$")
_KNOWN = (
    "expected an S2A-D MSIL2A, S1A-D IW_GRDH (with or without _CARD_BS) or S1A-D CARD-COH6/12 "
    "product name"
)
# Absolute orbit in which each satellite began a repeat cycle of 175 orbits (relative orbit 1).
# S1A and S1B: ESA's published relations; S1C: from catalogue entries that state both numbers.
_FIRST_CYCLE_ORBIT = {"S1A": 73, "S1B": 27, "S1C": 172}
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
    from SAR/GRD to SAR/IW_GRDH_1S, and its COG twins lie in SAR/IW_GRDH_1S-COG.
    """
    day = f"{product.sensing_start:%Y/%m/%d}/{product.reference}"
    if product.level == L2A:
        collections = ["L2A_N0500", "L2A"] if product.baseline == "05.00" else ["L2A"]
        return tuple(f"Sentinel-2/MSI/{folder}/{day}.SAFE/" for folder in collections)
    if product.level == GRD:
        folders = [f"{product.product_type}-COG"] if product.cog else [product.product_type, "GRD"]
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
        kind="s2",
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
    if not match["type"].startswith("GRD"):
        raise ProductNameError(
            f"{match[0]} is a Level-{'2' if match['type'] == 'OCN_' else '1'} "
            f"{match['type'].rstrip('_')} product, which is not analysis-ready: "
            "get CARD-BS or CARD-COH made from it"
        )
    platform, orbit = match["platform"], int(match["orbit"])
    first = _FIRST_CYCLE_ORBIT.get(platform)
    return Product(
        reference=match[0],
        kind="bs",
        level=CARD_BS if match["card"] else GRD,
        platform=platform,
        sensing_start=_time(match["start"]),
        product_type=CARD_BS if match["card"] else f"{match['mode']}_{match['type']}_1S",
        discriminator=match["discriminator"],
        acquisition=f"{platform}_{orbit:06d}",
        relative_orbit=None if first is None else (orbit - first) % _ORBITS_PER_CYCLE + 1,
        orbit_number=orbit,
        cog=bool(match["cog"]),
    )


def _coherence(match: re.Match[str]) -> Product:
    level = f"CARD-COH{match['days']}"
    return Product(
        reference=match[0],
        kind=f"c{match['days']}",
        level=level,
        platform=match["platform"],
        sensing_start=_time(match["start"]),
        product_type=level,
        discriminator=match["discriminator"],
        acquisition=f"{match['platform']}_{match['start']}",
        cog=bool(match["cog"]),
    )
