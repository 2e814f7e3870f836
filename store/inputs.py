"""Level-1 products of Sentinel-1: what CARD is made from."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from store import db
from store.errors import NotFoundError


@dataclass(frozen=True)
class InputProduct:
    """A Level-1 product as the catalogue keeps it.

    Attributes:
        reference: the provider's product name without .SAFE, unique.
        level: GRD or SLC.
        product_type: as folders of the archives are called: IW_GRDH_1S, IW_SLC__1S.
        platform: S1A ... S1D.
        sensing_start: of the slice, timezone-aware UTC.
        sensing_stop: of the slice, timezone-aware UTC.
        orbit_number: absolute orbit.
        relative_orbit: 1 to 175.
        footprint_wkt: MULTIPOLYGON in EPSG:4326.
        href: folder of the product: absolute path or s3://bucket/prefix.
        orbit_direction: ascending or descending, if known.
        size_bytes: of the product, if known.
        state: online, offline (to be ordered) or absent (listed, but not in the store).
        bursts: ids of an SLC's bursts, where they are known.
    """

    reference: str
    level: str
    product_type: str
    platform: str
    sensing_start: datetime
    sensing_stop: datetime
    orbit_number: int
    relative_orbit: int
    footprint_wkt: str
    href: str
    orbit_direction: str | None = None
    size_bytes: int | None = None
    state: str = "online"
    bursts: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputReport:
    """What registering inputs did.

    Attributes:
        added: new products.
        changed: known ones whose description changed.
        unchanged: known ones.
    """

    added: int
    changed: int
    unchanged: int


_COLUMNS = (
    "level",
    "product_type",
    "platform",
    "sensing_start",
    "sensing_stop",
    "orbit_number",
    "relative_orbit",
    "orbit_direction",
    "href",
    "state",
)
_VALUES = (
    f"{', '.join(f'%({name})s' for name in _COLUMNS)}, "
    "ST_Multi(ST_GeomFromText(%(footprint_wkt)s, 4326))"
)

# A source that knows neither bursts nor size takes nothing away from what another one stated.
_MERGED = """
    size_bytes = coalesce(%(size_bytes)s, size_bytes),
    bursts = CASE WHEN %(bursts)s::text[] = '{}' THEN bursts ELSE %(bursts)s END"""

_SEEN = f"""
    UPDATE input_product SET seen_at = now(), {_MERGED}
    WHERE reference = %(reference)s
    RETURNING ({", ".join(_COLUMNS)}, footprint) IS DISTINCT FROM ({_VALUES}) AS differs"""

_UPDATE = f"""
    UPDATE input_product SET ({", ".join(_COLUMNS)}, footprint) = ROW ({_VALUES})
    WHERE reference = %(reference)s"""

_SELECT = (
    f"SELECT reference, {', '.join(_COLUMNS)}, size_bytes, bursts, "
    "ST_AsText(footprint) AS footprint_wkt FROM input_product"
)

_INSERT = f"""
    INSERT INTO input_product ({", ".join(_COLUMNS)}, footprint, reference, size_bytes, bursts)
    VALUES ({_VALUES}, %(reference)s, %(size_bytes)s, %(bursts)s)
    ON CONFLICT (reference) DO NOTHING"""


def register_inputs(conn: db.Connection, products: Iterable[InputProduct]) -> InputReport:
    """Put Level-1 products into the catalogue; idempotent.

    Raises:
        DatabaseError: the database is away; nothing was registered.
    """
    done = {"added": 0, "changed": 0, "unchanged": 0}
    with db.transaction(conn):
        for product in sorted(products, key=lambda product: product.reference):
            done[_store(conn, product)] += 1
    return InputReport(**done)


def _store(conn: db.Connection, product: InputProduct) -> str:
    row = asdict(product) | {"bursts": list(product.bursts)}
    known = db.fetch_one(conn, _SEEN, row)
    if known is None:
        if db.execute(conn, _INSERT, row):
            return "added"
        known = db.fetch_one(conn, _SEEN, row)  # another registration was quicker
    if not known.differs:
        return "unchanged"
    db.execute(conn, _UPDATE, row)
    return "changed"


def find_inputs(
    conn: db.Connection,
    level: str | None = None,
    start: datetime | None = None,
    stop: datetime | None = None,
    relative_orbit: int | None = None,
) -> list[InputProduct]:
    """Level-1 products, in the order of their sensing.

    Args:
        conn: an open connection.
        level: GRD or SLC; None for both.
        start: only those sensed at or after it.
        stop: only those sensed before it.
        relative_orbit: only those of it.
    """
    rows = db.fetch_all(
        conn,
        f"{_SELECT} "
        "WHERE (%(level)s IS NULL OR level = %(level)s) "
        "AND (%(start)s::timestamptz IS NULL OR sensing_start >= %(start)s) "
        "AND (%(stop)s::timestamptz IS NULL OR sensing_start < %(stop)s) "
        "AND (%(orbit)s::integer IS NULL OR relative_orbit = %(orbit)s) "
        "ORDER BY sensing_start, reference",
        {"level": level, "start": start, "stop": stop, "orbit": relative_orbit},
    )
    return [_product(row) for row in rows]


def read_inputs(conn: db.Connection, references: Sequence[str]) -> list[InputProduct]:
    """The Level-1 products of these names, in this order.

    Raises:
        NotFoundError: one of them is not registered.
    """
    rows = db.fetch_all(conn, f"{_SELECT} WHERE reference = ANY(%s)", (list(references),))
    known = {row.reference: _product(row) for row in rows}
    if unknown := [name for name in references if name not in known]:
        raise NotFoundError(f"no Level-1 product {', '.join(unknown)} is registered")
    return [known[name] for name in references]


def _product(row: Any) -> InputProduct:
    return InputProduct(**row._asdict() | {"bursts": tuple(row.bursts)})
