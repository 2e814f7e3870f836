"""Capacity that a campaign needs: workers, hours, volumes, cost; and a configuration.

Times come from `make bench` on hardware like the workers'; without, from the defaults below, which
were measured on two cores of an AMD EPYC (Zen 4). The granule they are for has 40,000 parcels and
seven layers (six bands and SCL).
"""

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from infra import layout
from infra.cost import HOURS_A_YEAR, PriceTable
from infra.errors import InfraError
from infra.ledger import KIND_PARTS, PARTS, CostLedger
from infra.settings import StackSettings

PARCELS_OF_BENCH = 40_000
OBSERVATIONS_A_YEAR = 150
"""Sentinel-2 observations of a parcel in a year, the upper end of the Netherlands' 73 to 150."""
BANDS = 7
"""Values stored of an observation, SCL's histogram counted as plan."""
SLICES = 1080
"""Sentinel-1 slices a year over the Netherlands: as many as the public price of statistics leaves
for them, 0.4 ct of 770,000 parcels less 4,000 granules at 0.50 EUR."""
RADAR_OBSERVATIONS = 135
"""Sentinel-1 observations of a parcel in a year: 4 to 5 tracks over the Netherlands, in 12 days."""
RADAR_BANDS = 4
"""VV and VH, of backscatter and of coherence."""
RADAR_DECODE_CPU_S = 4.0
"""CPU seconds of decoding a slice's two bands as zstd COG: 0.55 s a band of 120 million pixels, for
the 420 million of a slice."""
SPARE = 2.0
"""Volumes are this much larger than the tables: WAL, indexes being built, a second campaign."""
BACKUPS = 2.0
"""Full backups kept, in sizes of the database's volume."""
BUSY = 0.7
"""Share of a worker's cores that is at work, downloads and ends of queues counted out."""
GRANULE_GB = 0.5
"""Download of a granule's seven layers."""
EU = 100
"""All of the EU in sizes of the Netherlands, the JRC's figure."""


@dataclass(frozen=True)
class MeasuredRates:
    """Cost of a granule in CPU time and bytes, with the source of the figures.

    Attributes:
        decode_cpu_s: CPU seconds of decoding all pixels of a JPEG 2000 granule's layers; where
            parcels are few, workers decode less.
        reduce_cpu_s: CPU seconds of all else, for `PARCELS_OF_BENCH` parcels.
        signature_bytes: on disk, indexes included.
        signatures_per_s: that one database takes in.
        make_cpu_s: CPU seconds of making a CARD product of a whole IW slice, two polarisations: the
            mean of backscatter (GRD) and coherence (a pair of SLC).
        source: file or module of these figures.
    """

    decode_cpu_s: float
    reduce_cpu_s: float
    signature_bytes: float
    signatures_per_s: float
    make_cpu_s: float
    source: str


DEFAULTS = MeasuredRates(64.9, 0.8, 46.0, 0.8e6, 180.0, "defaults of infra/capacity.py")


@dataclass(frozen=True)
class WorkerFlavor:
    """A flavor of workers: its name, vCPUs and price of an hour."""

    flavor: str
    cores: int
    price_hour: float


@dataclass(frozen=True)
class WorkerPool:
    """A stack's workers: what their names begin with, and the price of an hour with the cache."""

    prefix: str
    host_hour: float
    currency: str


@dataclass(frozen=True)
class CapacityPlan:
    """Capacity and cost of a year of a campaign.

    Attributes:
        parcels: how many.
        granules: Sentinel-2 granules a year.
        slices: Sentinel-1 slices a year, of each CARD-BS and CARD-COH is made.
        deadline_h: hours in which a whole year must be extracted again.
        cpu_h: CPU hours of that, making of CARD counted in.
        making_cpu_h: CPU hours of making CARD.
        workers: how many, of the flavor.
        hours: how long they take together.
        signatures: rows times bands of a year.
        database_gb: size of the database's volume.
        backup_gb: size of the backups' volume.
        ledger: workers for the hours, the other hosts and volumes for the year.
        rates: the figures that this is computed from.
    """

    parcels: int
    granules: int
    slices: int
    deadline_h: float
    worker: WorkerFlavor
    cpu_h: float
    making_cpu_h: float
    workers: int
    hours: float
    signatures: int
    database_gb: int
    backup_gb: int
    ledger: CostLedger
    rates: MeasuredRates

    @property
    def database_h(self) -> float:
        """Hours for which one database is at work storing the year."""
        return self.signatures / self.rates.signatures_per_s / 3600


def read_rates(bench: Path) -> MeasuredRates:
    """The rates that `make bench` measured on this machine, and defaults for the others.

    Raises:
        InfraError: the file is there but is no result of `make bench`.
    """
    if not bench.is_file():
        return DEFAULTS
    try:
        details = {result["id"]: result["details"] for result in json.loads(bench.read_text())}
        return _measured(details, bench)
    except (ValueError, KeyError, TypeError) as error:
        raise InfraError(f"{bench} is not a result of `make bench`: {error!r}") from error


def _measured(details: Mapping[str, Any], bench: Path) -> MeasuredRates:
    found = {name: _at(details, path) for name, path in _MEASURED.items() if path[0] in details}
    if not found:
        return DEFAULTS
    goals = ", ".join(path[0] for name, path in _MEASURED.items() if name in found)
    rest = "" if len(found) == len(_MEASURED) else f", what those lack from {DEFAULTS.source}"
    return replace(DEFAULTS, **found, source=f"{goals} of {bench}{rest}")


def _at(details: Any, path: Sequence[str]) -> float:
    for step in path:
        details = details[step]
    return float(details)


_MEASURED: Mapping[str, tuple[str, ...]] = {
    "decode_cpu_s": ("P6", "jp2 decode all", "cpu_s"),
    "reduce_cpu_s": ("P3", "ours, spans cached", "cpu_s"),
    "signature_bytes": ("P10", "bytes_per_signature"),
    "signatures_per_s": ("P8", "ours", "signatures_per_wall_s"),
}
"""Where each rate stands in the results of `make bench`: the goal, and the way into its details."""


def read_worker(settings: StackSettings, table: PriceTable) -> WorkerPool:
    """The stack's pool of workers.

    Raises:
        InfraError: it has none, or its flavor has no price.
    """
    name = layout.worker_pool(settings)
    if name is None:
        raise InfraError(
            f"Pulumi.{settings.stack}.yaml has no pool of kinds [worker] alone: add it"
        )
    cache = settings.volumes.cache
    cache_hour = cache.size_gb * table.volume_gb_hour(cache.type) if cache else 0.0
    return WorkerPool(
        f"{settings.prefix}-{name}",
        hourly_price(table, settings.hosts[name].flavor) + cache_hour,
        table.currency,
    )


def host_rates(cores: int, measured: MeasuredRates) -> dict[str, float]:
    """Pieces of each queue that a host does in an hour, as far as no record of the stack says.

    Args:
        cores: vCPUs of the host.
        measured: CPU time of a granule and of a CARD product.
    """
    busy_s = cores * BUSY * 3600
    return {
        "extraction": busy_s / (measured.decode_cpu_s + measured.reduce_cpu_s),
        "making": busy_s / measured.make_cpu_s,
    }


def plan_year(
    parcels: int,
    granules: int,
    slices: int,
    deadline_h: float,
    worker: WorkerFlavor,
    table: PriceTable,
    measured: MeasuredRates,
) -> CapacityPlan:
    """CapacityPlan a year.

    Raises:
        InfraError: a number is not above 0, or the price of a fixed host is missing.
    """
    if min(parcels, granules, deadline_h) <= 0 or slices < 0:
        raise InfraError("parcels, granules and deadline must be above 0, slices not below")
    rows = parcels * OBSERVATIONS_A_YEAR
    values = rows * BANDS + (parcels * RADAR_OBSERVATIONS * RADAR_BANDS if slices else 0)
    making_cpu_h = 2 * slices * measured.make_cpu_s / 3600
    reduce_cpu_s = (rows * BANDS + values) / 2 / BANDS / PARCELS_OF_BENCH * measured.reduce_cpu_s
    decode_cpu_s = granules * measured.decode_cpu_s + 2 * slices * RADAR_DECODE_CPU_S
    cpu_h = (decode_cpu_s + reduce_cpu_s) / 3600 + making_cpu_h
    busy_cores = worker.cores * BUSY
    workers = math.ceil(cpu_h / busy_cores / deadline_h)
    hours = cpu_h / busy_cores / workers
    database_gb = _tens(values * measured.signature_bytes / 1e9 * SPARE)
    backup_gb = _tens(database_gb * BACKUPS)
    worker_cost = workers * hours * worker.price_hour
    parts = _yearly_parts(table, database_gb, backup_gb)
    parts["CARD making"] = worker_cost * making_cpu_h / cpu_h
    parts["statistics"] += worker_cost - parts["CARD making"]
    return CapacityPlan(
        parcels,
        granules,
        slices,
        deadline_h,
        worker,
        cpu_h,
        making_cpu_h,
        workers,
        hours,
        values,
        database_gb,
        backup_gb,
        CostLedger("a year as planned", table.currency, parcels, parts),
        measured,
    )


def _yearly_parts(table: PriceTable, database_gb: int, backup_gb: int) -> dict[str, float]:
    """Cost of a year of what always runs, by the ledger's parts."""
    parts = dict.fromkeys(PARTS, 0.0)
    for kind, flavor in FIXED.items():
        parts[KIND_PARTS[kind]] += hourly_price(table, flavor) * HOURS_A_YEAR
    gb_hour = database_gb * table.volume_gb_hour("ssd") + backup_gb * table.volume_gb_hour("hdd")
    parts["storage"] += gb_hour * HOURS_A_YEAR
    parts["API"] += FLOATING_IPS * table.floating_ip_hour * HOURS_A_YEAR
    return parts


FIXED = {"database": "hm.xlarge", "manager": "eo2.large", "api": "eo2.large"}
"""Flavors of the hosts that always run."""
FLOATING_IPS = 2
"""Of the bastion and of the API."""


def hourly_price(table: PriceTable, flavor: str) -> float:
    """The price of an hour of a flavor.

    Raises:
        InfraError: the table has none.
    """
    if flavor not in table.flavors:
        raise InfraError(f"the price table has no flavor {flavor}: add its price of an hour")
    return table.flavors[flavor]


def _tens(gb: float) -> int:
    return max(10, math.ceil(gb / 10) * 10)


_HOURS = {"d": 24.0, "h": 1.0, "m": 1 / 60}


def parse_hours(text: str) -> float:
    """The hours of a time such as 7d, 36h or 15m.

    Raises:
        InfraError: it is not a time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([dhm])", text)
    if not found:
        raise InfraError(f"{text!r} is no time: give days, hours or minutes, as 7d, 36h or 15m")
    return float(found[1]) * _HOURS[found[2]]


def format_plan(plan: CapacityPlan) -> str:
    """A plan as text."""
    title = (
        f"{plan.parcels:,} parcels, {plan.granules:,} granules and {plan.slices:,} slices a year"
    )
    return _paragraphs(
        title,
        {
            "rates": f"{plan.rates.decode_cpu_s:.1f} CPU s to decode one, "
            f"{plan.rates.reduce_cpu_s:.2f} s to reduce and store {PARCELS_OF_BENCH:,} parcels; "
            f"{plan.rates.signature_bytes:.0f} bytes a signature; from {plan.rates.source}",
            "a year": f"{plan.cpu_h:,.0f} CPU hours, {plan.making_cpu_h:,.0f} of them making CARD; "
            f"{plan.signatures / 1e6:,.0f} million "
            "signatures",
            "workers": f"{plan.workers} x {plan.worker.flavor} ({plan.worker.cores} vCPUs): "
            f"{plan.hours:,.1f} h; the deadline is {plan.deadline_h:,.0f} h",
            "database": f"volumes of {plan.database_gb:,} GB, and {plan.backup_gb:,} GB for "
            f"backups; {plan.database_h:,.1f} h of storing",
        },
    )


def format_assumptions(plan: CapacityPlan) -> str:
    """The assumptions of a plan's ledger, as a table."""
    flavors = ", ".join(f"{kind} {flavor}" for kind, flavor in FIXED.items())
    rows = {
        "observations": f"{OBSERVATIONS_A_YEAR} of Sentinel-2 a parcel, {BANDS} values each"
        + (f"; {RADAR_OBSERVATIONS} of Sentinel-1, {RADAR_BANDS} values" if plan.slices else ""),
        "decoding": f"{plan.rates.decode_cpu_s:.1f} CPU s a granule, parcels all over it; "
        f"{RADAR_DECODE_CPU_S:.0f} CPU s a CARD product of Sentinel-1",
        "making": f"{plan.rates.make_cpu_s:.0f} CPU s a product, CARD-BS and -COH of each slice",
        "workers": f"{BUSY:.0%} of their time at work, paid for no other",
        "always on": f"{flavors}; {FLOATING_IPS} floating IPs; paid for the whole year",
        "volumes": f"{SPARE:g} times the tables as ssd, that {BACKUPS:g} times as hdd for backups",
        "not in it": "people, traffic, a copy of the archive: workers read scenes where they lie",
    }
    return _paragraphs("assumptions", rows)


def format_eu(plan: CapacityPlan, eu: CapacityPlan) -> str:
    """Why a single appliance would not serve the EU, in figures."""
    download_gbit_s = eu.granules * GRANULE_GB * 8 / eu.deadline_h / 3600
    return _paragraphs(
        f"All of the EU, {EU} times as much, in one appliance",
        {
            "workers": f"{eu.workers} would take {eu.hours:,.0f} h. They pull work, so more of "
            f"them is all it takes; {_decoding(eu):.0%} of their time is decoding JPEG 2000, which "
            "COGs, or a decoded copy kept for the next time, would save.",
            "database": f"{eu.database_gb:,} GB, and {eu.database_h:,.0f} h of storing at "
            f"{eu.rates.signatures_per_s:,.0f} signatures/s: {_databases(eu)}",
            "network": f"{eu.granules * GRANULE_GB / 1000:,.0f} TB of granules, "
            f"{download_gbit_s:,.1f} Gbit/s until the deadline: workers belong to the scenes.",
            "so": "one appliance per Member State, as this is built: "
            f"{EU} of {plan.database_gb:,} GB, of which none waits for another, each restored by "
            "itself, and each agency's data its own.",
        },
    )


def _paragraphs(title: str, rows: Mapping[str, str]) -> str:
    text = [
        textwrap.fill(sentence, 96, initial_indent=f"  {name:14}", subsequent_indent=" " * 16)
        for name, sentence in rows.items()
    ]
    return "\n".join([title, *text])


def _decoding(plan: CapacityPlan) -> float:
    return plan.granules * plan.rates.decode_cpu_s / 3600 / plan.cpu_h


def _databases(plan: CapacityPlan) -> str:
    if plan.database_h <= plan.deadline_h:
        return "one would keep up, but be too large to be backed up and restored in a day."
    return f"{math.ceil(plan.database_h / plan.deadline_h)} databases would be needed."


def format_configuration(plan: CapacityPlan) -> str:
    """A stack's configuration to start from: the sizes are the plan's, the names yours to check."""
    return f"""\
config:
  cbm:image: Debian 12
  cbm:operators: [192.0.2.0/24]
  cbm:network: {{cidr: 10.20.0.0/24, external: external}}
  cbm:hosts:
    database: {{kinds: [database], flavor: {FIXED["database"]}}}
    manager: {{kinds: [manager], flavor: {FIXED["manager"]}}}
    worker: {{kinds: [worker], flavor: {plan.worker.flavor}, count: {plan.workers}}}
    api: {{kinds: [api], flavor: {FIXED["api"]}}}
  cbm:volumes:
    database: {{size_gb: {plan.database_gb}, type: ssd}}
    backup: {{size_gb: {plan.backup_gb}, type: hdd}}
"""
