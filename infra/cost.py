"""Cost of a stack, from the resources that run and a price table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from infra.cloud import CloudResource
from infra.errors import InfraError

HOURS_A_MONTH = 730.0
HOURS_A_YEAR = 8760.0


@dataclass(frozen=True)
class PriceTable:
    """A price table.

    Attributes:
        currency: of all prices.
        flavors: an hour of a server, by flavor.
        volume_gb_month: a GB for a month, by volume type; `default` for those without an entry.
        floating_ip_hour: an hour of an address.
    """

    currency: str
    flavors: Mapping[str, float]
    volume_gb_month: Mapping[str, float]
    floating_ip_hour: float

    def volume_gb_hour(self, volume_type: str | None) -> float:
        """The price of a GB for an hour."""
        month = self.volume_gb_month.get(volume_type or "", self.volume_gb_month["default"])
        return month / HOURS_A_MONTH


@dataclass(frozen=True)
class CostLine:
    """Resources of one kind that run: how many, since when, and their cost.

    Attributes:
        label: a flavor, a volume type, or floating IPs.
        count: how many; of volumes their GB.
        since: creation of the oldest.
        per_hour: of all, now; None if the price is not in the table.
        so_far: of all that run now, since the creation of each; None likewise.
    """

    label: str
    count: int
    since: datetime
    per_hour: float | None
    so_far: float | None


def read_prices(path: Path) -> PriceTable:
    """Read a price table; infra/prices.example.yaml shows its form.

    Raises:
        InfraError: there is none, or something in it is missing or no price.
    """
    try:
        table: Mapping[str, Any] = yaml.safe_load(path.read_text())
        return PriceTable(
            str(table["currency"]),
            _numbers(table["flavors"]),
            {"default": 0.0} | _numbers(table["volume_gb_month"]),
            float(table["floating_ip_hour"]),
        )
    except FileNotFoundError as error:
        raise InfraError(
            f"there is no price table {path}: copy infra/prices.example.yaml and put your "
            "provider's prices in"
        ) from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InfraError(f"{path} is not a price table: {error!r}") from error


def _numbers(table: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(price) for name, price in table.items()}


def cost_lines(
    resources: Iterable[CloudResource], table: PriceTable, now: datetime
) -> list[CostLine]:
    """A line for each kind of resource that runs.

    Args:
        resources: of one stack.
        table: of prices.
        now: timezone-aware.
    """
    priced: dict[str, list[tuple[int, datetime, float | None]]] = {}
    for resource in resources:
        if resource.kind in ("Instance", "Volume", "FloatingIp"):
            label, units, price = _price(resource, table)
            priced.setdefault(label, []).append((units, _time(resource.created_at), price))
    return [_line(label, priced[label], now) for label in sorted(priced)]


def _price(resource: CloudResource, table: PriceTable) -> tuple[str, int, float | None]:
    if resource.kind == "Instance":
        flavor = resource.properties["flavorName"]
        return f"server {flavor}", 1, table.flavors.get(flavor)
    if resource.kind == "Volume":
        kind = resource.properties["volumeType"]
        return f"volume {kind} (GB)", resource.properties["size"], table.volume_gb_hour(kind)
    return "floating IP", 1, table.floating_ip_hour


def _line(label: str, rows: list[tuple[int, datetime, float | None]], now: datetime) -> CostLine:
    known = [(units * price, made) for units, made, price in rows if price is not None]
    complete = len(known) == len(rows)
    return CostLine(
        label,
        sum(units for units, _, _ in rows),
        min(made for _, made, _ in rows),
        sum(price for price, _ in known) if complete else None,
        sum(price * (now - made).total_seconds() / 3600 for price, made in known)
        if complete
        else None,
    )


def hours_since(resource: CloudResource, now: datetime) -> float:
    """Hours since a resource was created."""
    return (now - _time(resource.created_at)).total_seconds() / 3600


def _time(text: str) -> datetime:
    """A time of the API; it is UTC whether it says so or not."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def format_table(rows: Iterable[CostLine], currency: str) -> str:
    """The lines and their sum, as text; a line without a price says so."""
    rows = list(rows)
    text = [f"{'resource':28} {'number':>8}  {'since (UTC)':16} {'per hour':>10} {'so far':>12}"]
    text += [
        f"{row.label:28} {row.count:8d}  {row.since:%Y-%m-%d %H:%M} "
        f"{_money(row.per_hour, 4):>10} {_money(row.so_far, 2):>12}"
        for row in rows
    ]
    hour, total = sum(row.per_hour or 0 for row in rows), sum(row.so_far or 0 for row in rows)
    text.append(f"{f'sum in {currency}':54} {_money(hour, 4):>10} {_money(total, 2):>12}")
    if any(row.per_hour is None for row in rows):
        text.append("the sum lacks resources that have no price in the table")
    return "\n".join(text)


def _money(value: float | None, digits: int) -> str:
    return "no price" if value is None else f"{value:.{digits}f}"
