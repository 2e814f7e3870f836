"""A season's CARD to be made: which products, from what, and what that takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import shapely
from pyproj import Geod

from card.find.pairs import find_pairs, latest_of_slices
from card.make import item
from card.make.backscatter import BackscatterSettings
from card.make.coherence import CoherenceSettings
from card.make.engine import BYTES_PER_PX, CPU_NS_PER_SAMPLE, CPU_S_PER_MPX
from card.make.orders import PRODUCT_TYPES
from store import db, listings
from store.errors import CallerError, ConflictError
from store.inputs import InputProduct, find_inputs
from store.kinds import CARD_BS, COHERENCE_DAYS
from store.kinds import KINDS as KINDS_OF_CARD
from store.making import MakingOrder
from store.parcels.campaigns import Campaign

KINDS = tuple(PRODUCT_TYPES)
_BANDS = 2
_SLC_SAMPLES = 1.03e9
"""Of a polarisation of a whole IW slice, all sub-swaths."""

_MADE = """
    SELECT i.reference FROM input_product i
    WHERE i.reference = ANY(%(references)s) AND EXISTS (
        SELECT FROM scene s
        WHERE s.kind = %(kind)s AND s.platform = i.platform
          AND date_trunc('second', s.obstime) = date_trunc('second', i.sensing_start))"""

_UNIT = "SELECT units ->> %s AS unit FROM campaign WHERE id = %s"


@dataclass(frozen=True)
class SeasonPlan:
    """What is to be made for a campaign.

    Attributes:
        kind: CARD kind.
        engine: what makes it.
        orders: products to be made.
        made: references of Level-1 products whose CARD is a scene already.
        away: references of those that are offline or absent at their archive.
        cpu_hours: of our processors, reckoned; 0 where others make it.
        gigabytes: of products, reckoned.
    """

    kind: str
    engine: str
    orders: tuple[MakingOrder, ...]
    made: tuple[str, ...]
    away: tuple[str, ...]
    cpu_hours: float
    gigabytes: float

    def cost_eur(self, eur_per_cpu_hour: float) -> float:
        """What the processors cost."""
        return self.cpu_hours * eur_per_cpu_hour


def plan_season(
    conn: db.Connection,
    campaign: Campaign,
    kind: str,
    engine: str,
    settings: Mapping[str, Any],
    *,
    replace: bool = False,
) -> SeasonPlan:
    """Look up what a campaign needs made: each registered slice that meets its parcels, once.

    Args:
        conn: an open connection.
        campaign: whose dates and parcels count.
        kind: bs, c1d, c6 or c12.
        engine: own, snap or cdse.
        settings: how it is made; only what differs from the defaults.
        replace: plan what was made already, too.

    Raises:
        CallerError: the engine does not make the kind.
        ConflictError: the campaign has signatures in another unit than the products would have.
    """
    if kind != "bs" and settings.get("radiometry"):
        raise CallerError("coherence has no radiometry")
    if kind != "bs" and engine == "snap":
        raise CallerError("SNAP's graph is for CARD-BS; coherence is made by own or cdse")
    _refuse_mixing(conn, campaign, kind, engine, settings)
    wanted = _of_campaign(conn, campaign, kind)
    made = set() if replace else _made(conn, kind, [names[0].reference for names in wanted])
    to_make = [one for one in wanted if one[0].reference not in made]
    # An archive that makes products itself reaches those it keeps offline.
    reached = [one for one in to_make if engine == "cdse" or all(map(_is_online, one))]
    away = {
        product.reference
        for one in to_make if one not in reached
        for product in one if not _is_online(product)
    }  # fmt: skip
    orders = [
        MakingOrder(
            kind, tuple(p.reference for p in one), one[0].sensing_start, engine, dict(settings)
        )
        for one in reached
    ]
    res_m = BackscatterSettings().res_m if kind == "bs" else CoherenceSettings().res_m
    megapixels = sum(_megapixels(one[0], settings, res_m) for one in reached)
    return SeasonPlan(
        kind, engine, tuple(orders), tuple(sorted(made)), tuple(sorted(away)),
        0.0 if engine == "cdse" else _cpu_s(kind, len(orders), megapixels) / 3600,
        megapixels * _BANDS * BYTES_PER_PX / 1e3,
    )  # fmt: skip


def _is_online(product: InputProduct) -> bool:
    return product.state == "online"


def _of_campaign(
    conn: db.Connection, campaign: Campaign, kind: str
) -> list[tuple[InputProduct, ...]]:
    """The inputs of each product that meets the campaign's dates and parcels."""
    start, stop = _midnight(campaign.start), _midnight(campaign.end + timedelta(days=1))
    candidates: list[tuple[InputProduct, ...]]
    if kind == "bs":
        candidates = [(one,) for one in latest_of_slices(find_inputs(conn, "GRD", start, stop))]
    else:
        days = COHERENCE_DAYS[kind]
        before = find_inputs(conn, "SLC", start - timedelta(days=days + 1), stop)
        candidates = [
            (pair.product, *pair.predecessors)
            for pair in find_pairs(before, (days,))
            if pair.product.sensing_start >= start
        ]
    met = listings.meet_parcels(conn, campaign, [one[0].footprint_wkt for one in candidates])
    return [one for one, meets in zip(candidates, met, strict=True) if meets]


def _made(conn: db.Connection, kind: str, references: Sequence[str]) -> set[str]:
    rows = db.fetch_all(conn, _MADE, {"kind": kind, "references": list(references)})
    return {row.reference for row in rows}


def _refuse_mixing(
    conn: db.Connection, campaign: Campaign, kind: str, engine: str, settings: Mapping[str, Any]
) -> None:
    if kind != "bs":
        return
    unit = _unit(engine, settings.get("radiometry", BackscatterSettings().radiometry))
    known = db.fetch_one(conn, _UNIT, (kind, campaign.id)).unit
    if known not in (None, unit):
        raise ConflictError(
            f"the signatures of {campaign.name} are in {known}, these products would be in {unit}: "
            "one campaign has one unit, so choose the other radiometry or another campaign"
        )


def _unit(engine: str, radiometry: str) -> str | None:
    """Of CARD-BS; only our own engine writes one of its own for values on the ellipsoid."""
    if engine == "cdse" or (engine, radiometry) == ("snap", "gamma0_ellipsoid"):
        return KINDS_OF_CARD["bs"].levels[CARD_BS]
    return item.UNITS[radiometry]


def _megapixels(product: InputProduct, settings: Mapping[str, Any], default_m: float) -> float:
    """Size of a product's output."""
    res_m = float(settings.get("res_m", default_m))
    area_m2, _ = Geod(ellps="WGS84").geometry_area_perimeter(
        shapely.from_wkt(product.footprint_wkt)
    )
    return float(abs(area_m2) / res_m**2 / 1e6)


def _cpu_s(kind: str, products: int, megapixels: float) -> float:
    if kind == "bs":
        return megapixels * CPU_S_PER_MPX
    return products * _BANDS * _SLC_SAMPLES * CPU_NS_PER_SAMPLE / 1e9


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
