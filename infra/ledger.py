"""Ledger of an appliance: cost per parcel and year by what it pays for, and the public price.

Planned it comes from `fab plan`, actual from what the cloud's own records say was used.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.cloud import CloudResource, ServerUsage
from infra.cost import HOURS_A_YEAR, PriceTable, hours_since
from infra.database import query_json
from infra.kinds import WORKER
from infra.remote import run_remotely
from infra.settings import StackSettings

PARTS = ("statistics", "CARD making", "storage", "API")
"""What money is spent for: extraction with the queue's manager; making Sentinel-1 CARD; the
database with its volumes and backups; what answers users."""

KIND_PARTS = {
    "database": "storage",
    "manager": "statistics",
    "worker": "statistics",
    "api": "API",
    "hub": "API",
}
"""By the first kind of a host. Workers are divided by the CPU time of both queues."""

PUBLIC_PRICE = "Sen4CAP as a service"
PUBLIC_PRICES = {
    "an input product, basic markers": "0.50 EUR",
    "an input product, Sentinel-1": "1.00 EUR",
    "a marker, a tile and month": "15 to 18 EUR",
    "the Netherlands, a parcel-year": "2.9 ct, of which 0.4 ct for statistics",
}
"""The one price list of such a service that is public."""
PUBLIC_CENTS = {"statistics": 0.4, "all": 2.9}
"""Cents (EUR) a parcel-year for the Netherlands, of that list."""

PUBLISH_TIMEOUT_S = 120
# The program sees the folder that it is called in.
_PUBLISH = "cd /var/empty && cbm-store cost publish"

_FACTS = """
SELECT json_build_object(
    'parcels', (SELECT coalesce(sum(s.parcels), 0) FROM public.parcel_set s
                JOIN public.campaign c ON c.id = s.campaign_id WHERE c.state = 'open'),
    'extraction_cpu_s', (SELECT coalesce(sum(cpu_s), 0) FROM public.work),
    'making_cpu_s', (SELECT coalesce(sum(cpu_s), 0) FROM public.making))"""


@dataclass(frozen=True)
class CostLedger:
    """Cost of a year by what it pays for.

    Attributes:
        title: whose.
        currency: of all amounts.
        parcels: that the year is for.
        parts: amount of a year, by `PARTS`.
        remarks: a sentence each on what the amounts lack.
    """

    title: str
    currency: str
    parcels: int
    parts: Mapping[str, float]
    remarks: tuple[str, ...] = ()

    @property
    def year(self) -> float:
        """Amount of a year, of all parts."""
        return sum(self.parts.values())

    @property
    def per_parcel(self) -> dict[str, float]:
        """Amount of a parcel-year by part, and of `all`."""
        return {name: amount / self.parcels for name, amount in self._rows()}

    def _rows(self) -> list[tuple[str, float]]:
        return [*self.parts.items(), ("all", self.year)]


@dataclass(frozen=True)
class LedgerFacts:
    """Facts of a stack's database that a ledger divides by.

    Attributes:
        parcels: of all open campaigns.
        extraction_cpu_s: CPU seconds of all extraction.
        making_cpu_s: CPU seconds of all CARD making.
    """

    parcels: int
    extraction_cpu_s: float = 0.0
    making_cpu_s: float = 0.0


def read_facts(folder: Path) -> LedgerFacts:
    """The facts of a stack's database.

    Args:
        folder: of the stack's inventory.

    Raises:
        InfraError: the database does not answer.
    """
    return LedgerFacts(**query_json(folder, _FACTS))


def build_ledger(
    settings: StackSettings,
    resources: Iterable[CloudResource],
    usage: Iterable[ServerUsage],
    period_h: float,
    facts: LedgerFacts,
    table: PriceTable,
    now: datetime,
) -> CostLedger:
    """The ledger of a stack: its cost in a period, as if all the year were like it.

    Args:
        settings: of the stack.
        resources: of the stack, which run now.
        usage: hours of its servers in the period, of those that are gone as well.
        period_h: hours that the usage is of.
        facts: of its database.
        table: of prices.
        now: timezone-aware.
    """
    parts = dict.fromkeys(PARTS, 0.0)
    remarks = set()
    for server in usage:
        kind = server_kind(server.name, settings)
        if server.flavor not in table.flavors:
            remarks.add(f"flavor {server.flavor} has no price")
            continue
        amount = server.hours * table.flavors[server.flavor]
        making = amount * _making_share(facts) if kind == WORKER else 0.0
        parts[KIND_PARTS[kind]] += amount - making
        parts["CARD making"] += making
    # All else is free, and the cloud may not know its age.
    for resource in resources:
        if resource.kind not in ("Volume", "FloatingIp"):
            continue
        hours = min(period_h, hours_since(resource, now))
        if resource.kind == "Volume":
            size, kind = resource.properties["size"], resource.properties["volumeType"]
            parts["storage"] += hours * size * table.volume_gb_hour(kind)
        else:
            parts["API"] += hours * table.floating_ip_hour
    year = {name: amount * HOURS_A_YEAR / period_h for name, amount in parts.items()}
    period = f"a year as the last {period_h / 24:.1f} days were"
    title = f"stack {settings.stack}"
    return CostLedger(title, table.currency, facts.parcels, year, (period, *sorted(remarks)))


def _making_share(facts: LedgerFacts) -> float:
    cpu_s = facts.extraction_cpu_s + facts.making_cpu_s
    return facts.making_cpu_s / cpu_s if cpu_s else 0.0


def format_ledger(ledger: CostLedger) -> str:
    """A ledger as text, beside the public price."""
    head = f"{'':12} {ledger.currency + ' a year':>14} {'ct a parcel-year':>17} {PUBLIC_PRICE:>21}"
    amounts = dict(ledger.parts) | {"all": ledger.year}
    rows = [
        f"{name:12} {amounts[name]:14,.0f} {100 * each:17.3f} {_public(name):>21}"
        for name, each in ledger.per_parcel.items()
    ]
    title = f"{ledger.title}: {ledger.parcels:,} parcels"
    return "\n".join([title, head, *rows, *ledger.remarks, format_public_prices()])


def _public(name: str) -> str:
    return f"{PUBLIC_CENTS[name]:.1f} ct" if name in PUBLIC_CENTS else "-"


def format_public_prices() -> str:
    """The public price list as text."""
    lines = [f"  {what:34} {price}" for what, price in PUBLIC_PRICES.items()]
    return "\n".join([f"{PUBLIC_PRICE}, the one public price", *lines])


def dump_ledger(ledger: CostLedger) -> str:
    """A ledger as JSON, for a panel: amounts of a year and of a parcel-year by part."""
    return json.dumps(ledger_fields(ledger), indent=2)


def ledger_fields(ledger: CostLedger) -> dict[str, Any]:
    """A ledger as what JSON is made of."""
    return {
        "title": ledger.title,
        "currency": ledger.currency,
        "parcels": ledger.parcels,
        "year": dict(ledger.parts) | {"all": ledger.year},
        "parcel_year": ledger.per_parcel,
        "public_price": {"of": PUBLIC_PRICE, "currency": "EUR", "cents": PUBLIC_CENTS},
        "remarks": list(ledger.remarks),
    }


def publish_ledger(folder: Path, ledger: CostLedger) -> str:
    """Show a ledger to operators on the status page, by `cbm-store` on the manager.

    Args:
        folder: of the stack's inventory, such as inventory/nl.
        ledger: of the stack.

    Returns:
        The program's report, a line.

    Raises:
        InfraError: there is no manager, or it does not answer, or does not take the ledger.
    """
    document, failure = dump_ledger(ledger), "the ledger was not published"
    return run_remotely(folder, "card", _PUBLISH, document, PUBLISH_TIMEOUT_S, failure).strip()


def server_kind(name: str, settings: StackSettings) -> str:
    """The kind of host that a server's cost is booked under: the first one of its pool.

    Args:
        name: of the server, in the cloud.
        settings: of its stack; of a pool that they no longer have a server counts as a worker.
    """
    pool = name.removeprefix(f"{settings.prefix}-").partition("-")[0]
    return settings.hosts[pool].kinds[0] if pool in settings.hosts else WORKER
