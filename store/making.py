"""The queue of CARD to be made from Level-1 products, a table beside `work`.

Life of a product: pending, claimed (with lease and fence), then done; back to pending when
released or failed; dead after too many failures or lost leases.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from store import db, leases
from store.catalogue import SOFTWARE
from store.errors import ConflictError, LostLeaseError, NotFoundError

_SHOWN = 3
"""Products that a message names."""


@dataclass(frozen=True)
class MakingOrder:
    """A product to be made.

    Attributes:
        kind: CARD kind: bs, c1d, c6 or c12.
        inputs: references of the Level-1 products, of a pair the later acquisition first.
        sensed_at: start of sensing of the first, timezone-aware UTC.
        engine: own, snap or cdse.
        settings: how it is made, as JSON; only those that differ from the engine's defaults.
    """

    kind: str
    inputs: tuple[str, ...]
    sensed_at: datetime
    engine: str = "own"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of engine and settings."""
        text = json.dumps([self.engine, dict(self.settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class EnqueueReport:
    """What queueing orders did.

    Attributes:
        added: new ones.
        again: known ones that are made again.
        unchanged: known ones.
    """

    added: int
    again: int
    unchanged: int


@dataclass(frozen=True)
class MakingClaim:
    """A product in one processor's hands.

    Attributes:
        id: its key in the queue.
        fence: number of this claim; a later claim or a withdrawal has a higher one.
        order: what to make.
        replace: take away a product made otherwise.
        queued_at: when it was queued or put back by hand.
    """

    id: int
    fence: int
    order: MakingOrder
    replace: bool
    queued_at: datetime

    def __str__(self) -> str:
        """For logs."""
        return f"{self.order.kind}:{'+'.join(self.order.inputs)}"


@dataclass(frozen=True)
class MakingResult:
    """A product that was made.

    Attributes:
        product: reference of its scene.
        size_bytes: of its files.
        cpu_s: processor seconds it took.
    """

    product: str
    size_bytes: int
    cpu_s: float


_AGAIN = """
    state = 'pending', fence = fence + 1, failures = 0, lost_leases = 0, lease_until = NULL,
    not_before = '-infinity', reason = NULL, tiles_done = NULL, tiles = NULL,
    queued_at = now(), changed_at = now()"""

_KNOWN = "SELECT id, state, digest FROM making WHERE kind = %(kind)s AND inputs = %(inputs)s"

_INSERT = """
    INSERT INTO making (kind, inputs, sensed_at, engine, settings, digest, replace)
    VALUES (%(kind)s, %(inputs)s, %(sensed_at)s, %(engine)s, %(settings)s, %(digest)s, %(replace)s)
    ON CONFLICT (kind, inputs) DO NOTHING"""

_CHANGE = f"""
    UPDATE making SET engine = %(engine)s, settings = %(settings)s, digest = %(digest)s,
           replace = true, {_AGAIN}
    WHERE id = %(id)s"""

_BURY = leases.bury_sql("making")

_CLAIM = """
    WITH next AS (
        SELECT id FROM making
        WHERE state IN ('pending', 'claimed')
          AND (state = 'pending' AND not_before <= now() OR lease_until < now())
        ORDER BY sensed_at DESC, id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    )
    UPDATE making m SET
        state = 'claimed', fence = fence + 1, holder = %(holder)s, software = %(software)s,
        lease_until = now() + make_interval(secs => %(lease_s)s), changed_at = now(),
        lost_leases = lost_leases + (state = 'claimed')::int, tiles_done = 0, tiles = NULL
    FROM next WHERE m.id = next.id
    RETURNING m.*"""

_OURS = "id = %(id)s AND fence = %(fence)s AND state = 'claimed'"

_RENEW = f"""
    UPDATE making SET lease_until = now() + make_interval(secs => %(lease_s)s),
           tiles_done = %(tiles_done)s, tiles = %(tiles)s
    WHERE {_OURS}"""

_LOCK_CLAIM = f"SELECT FROM making WHERE {_OURS} FOR UPDATE"

_FINISH = f"""
    UPDATE making SET
        state = 'done', lease_until = NULL, reason = NULL, failures = 0, replace = false,
        tiles_done = tiles, product = %(product)s, size_bytes = %(size_bytes)s, cpu_s = %(cpu_s)s,
        changed_at = now()
    WHERE {_OURS}"""

_RELEASE = leases.release_sql("making", _OURS)
_POSTPONE = leases.postpone_sql("making", _OURS)
_FAIL = leases.fail_sql("making", _OURS)

_NAMED = "(%(reference)s IS NULL OR product = %(reference)s OR %(reference)s = ANY(inputs))"

_REQUEUE = f"UPDATE making SET {_AGAIN} WHERE state = %(state)s AND {_NAMED}"

_PROGRESS = """
    SELECT kind, to_char(sensed_at, 'YYYY-MM') AS month, state, count(*) AS products,
           coalesce(sum(size_bytes), 0)::bigint AS size_bytes, coalesce(sum(cpu_s), 0) AS cpu_s
    FROM making GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""

_NOTED = """
    SELECT kind, inputs, state, holder, tiles_done, tiles, failures, lost_leases, reason
    FROM making WHERE state = 'claimed' OR reason IS NOT NULL
    ORDER BY state, kind, inputs"""


def enqueue(
    conn: db.Connection, orders: Iterable[MakingOrder], *, replace: bool = False
) -> EnqueueReport:
    """Queue products, in one transaction; idempotent.

    Args:
        conn: an open connection.
        orders: what to make.
        replace: make again what was made, or queued to be made, otherwise; else that is refused.

    Raises:
        ConflictError: products are queued or were made with other settings; nothing was queued.
    """
    done = {"added": 0, "again": 0, "unchanged": 0}
    differing: list[str] = []
    with db.transaction(conn):
        for order in sorted(orders, key=lambda one: (one.kind, one.inputs)):
            outcome = _store(conn, order, replace)
            if outcome is None:
                differing.append(order.inputs[0])
            else:
                done[outcome] += 1
        if differing:
            more = ", ..." if len(differing) > _SHOWN else ""
            raise ConflictError(
                f"{len(differing)} products were queued or made by another engine or with other "
                f"settings ({', '.join(differing[:_SHOWN])}{more}): a season is made one way, "
                "so give the same settings, or replace them all"
            )
    return EnqueueReport(**done)


def _store(conn: db.Connection, order: MakingOrder, replace: bool) -> str | None:
    row = asdict(order) | {
        "inputs": list(order.inputs),
        "settings": db.Json(dict(order.settings)),
        "digest": order.digest,
        "replace": replace,
    }
    if db.execute(conn, _INSERT, row):
        return "added"
    known = db.fetch_one(conn, f"{_KNOWN} FOR UPDATE", row)
    if known.digest == order.digest and (not replace or known.state in ("pending", "claimed")):
        return "unchanged"
    if not replace:
        return None
    db.execute(conn, _CHANGE, row | {"id": known.id})
    return "again"


def claim(
    conn: db.Connection, holder: str, lease_s: float, max_lost_leases: int
) -> MakingClaim | None:
    """Take the product sensed last that is pending, or whose lease ran out; None if none is.

    Args:
        conn: autocommit connection.
        holder: name of the processor, for people to read.
        lease_s: seconds until the claim may be taken over, unless extended.
        max_lost_leases: lost leases after which a product goes to dead letter.
    """
    params = {
        "holder": holder, "lease_s": lease_s, "max": max_lost_leases, "software": SOFTWARE,
    }  # fmt: skip
    db.execute(conn, _BURY, params)
    row = db.fetch_one(conn, _CLAIM, params)
    if row is None:
        return None
    order = MakingOrder(row.kind, tuple(row.inputs), row.sensed_at, row.engine, row.settings)
    return MakingClaim(row.id, row.fence, order, row.replace, row.queued_at)


def renew_lease(
    conn: db.Connection, held: MakingClaim, lease_s: float, tiles_done: int, tiles: int | None
) -> bool:
    """Extend a lease and write down how far the product is; False when it is no longer ours."""
    params = _key(held) | {"lease_s": lease_s, "tiles_done": tiles_done, "tiles": tiles}
    return db.execute(conn, _RENEW, params) == 1


def lock_claim(conn: db.Connection, held: MakingClaim) -> None:
    """Lock the row inside a transaction, so that nobody takes the claim over meanwhile.

    Raises:
        LostLeaseError: somebody else claimed the product, or it was withdrawn.
    """
    if not db.fetch_all(conn, _LOCK_CLAIM, _key(held)):
        raise LostLeaseError("the claim was lost")


def finish(conn: db.Connection, held: MakingClaim, made: MakingResult) -> None:
    """Mark a product done.

    Raises:
        LostLeaseError: the claim was lost meanwhile.
    """
    if not db.execute(conn, _FINISH, _key(held) | asdict(made)):
        raise LostLeaseError("the claim was lost")


def release(
    conn: db.Connection, held: MakingClaim, reason: str | None = None, delay_s: float = 0.0
) -> None:
    """Give a product back unfinished, without blame; others may claim it after delay_s."""
    db.execute(conn, _RELEASE, _key(held) | {"reason": reason, "delay_s": delay_s})


def postpone(
    conn: db.Connection, held: MakingClaim, reason: str, max_times: int, delay_s: float
) -> None:
    """Give a product back after a fault of the world; the pause doubles, up to 128 times."""
    params = _key(held) | {"reason": reason, "max": max_times, "delay_s": delay_s}
    db.execute(conn, _POSTPONE, params)


def fail(
    conn: db.Connection, held: MakingClaim, reason: str, max_failures: int, delay_s: float
) -> None:
    """Count a failure; after max_failures the product goes to dead letter with its reason."""
    params = _key(held) | {"reason": reason, "max": max_failures, "delay_s": delay_s}
    db.execute(conn, _FAIL, params)


def _key(held: MakingClaim) -> dict[str, Any]:
    return {"id": held.id, "fence": held.fence}


def requeue(conn: db.Connection, state: str, reference: str | None = None) -> int:
    """Put dead ('dead') or stuck ('claimed') products back into the queue; returns how many.

    Args:
        conn: an open connection.
        state: dead or claimed.
        reference: of a product, or of a Level-1 product that it is made of; None for all.

    Raises:
        NotFoundError: nothing of that name is in the queue.
    """
    params = {"state": state, "reference": reference}
    if reference and not db.fetch_all(conn, f"SELECT FROM making WHERE {_NAMED}", params):
        raise NotFoundError(f"{reference} is neither made nor waits to be made")
    return db.execute(conn, _REQUEUE, params)


def progress(conn: db.Connection) -> list[Any]:
    """Rows (kind, month, state, products, size_bytes, cpu_s), in that order."""
    return db.fetch_all(conn, _PROGRESS)


def notes(conn: db.Connection) -> list[Any]:
    """Rows of products in processors' hands, and of those with a reason.

    Rows (kind, inputs, state, holder, tiles_done, tiles, failures, lost_leases, reason).
    """
    return db.fetch_all(conn, _NOTED)


def count_open(conn: db.Connection) -> int:
    """Products that are pending or claimed."""
    return int(
        db.fetch_one(
            conn, "SELECT count(*) AS n FROM making WHERE state IN ('pending', 'claimed')"
        ).n
    )
