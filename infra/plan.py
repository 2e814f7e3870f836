"""How much of a cloud a campaign needs: workers, hours, volumes, money; and a configuration.

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

from infra.cost import HOURS_A_YEAR, Prices
from infra.errors import InfraError

PARCELS_OF_BENCH = 40_000
OBSERVATIONS_A_YEAR = 150
"""Sentinel-2 observations of a parcel in a year, the upper end of the Netherlands' 73 to 150."""
BANDS = 7
"""Values stored of an observation, SCL's histogram counted as one."""
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
class Rates:
    """What a granule costs, and where that is known from.

    Attributes:
        decode_cpu_s: CPU seconds of decoding all pixels of a JPEG 2000 granule's layers; where
            parcels are few, workers decode less.
        reduce_cpu_s: CPU seconds of all else, for `PARCELS_OF_BENCH` parcels.
        signature_bytes: on disk, indexes included.
        signatures_per_s: that one database takes in.
        source: where these are from.
    """

    decode_cpu_s: float
    reduce_cpu_s: float
    signature_bytes: float
    signatures_per_s: float
    source: str


DEFAULTS = Rates(64.9, 0.8, 46.0, 0.8e6, "defaults of infra/plan.py")


@dataclass(frozen=True)
class Worker:
    """A flavor of workers: its name, vCPUs and price of an hour."""

    flavor: str
    cores: int
    price_hour: float


@dataclass(frozen=True)
class Plan:
    """What a year of a campaign takes.

    Attributes:
        parcels: how many.
        granules: Sentinel-2 granules a year.
        deadline_h: hours in which a whole year must be extracted anew.
        cpu_h: CPU hours of that.
        workers: how many, of the flavor.
        hours: how long they take together.
        signatures: rows times bands of a year.
        database_gb: size of the database's volume.
        backup_gb: size of the backups' volume.
        year_cost: workers for the hours, the other hosts and volumes for the year.
        rates: what this stands on.
    """

    parcels: int
    granules: int
    deadline_h: float
    worker: Worker
    cpu_h: float
    workers: int
    hours: float
    signatures: int
    database_gb: int
    backup_gb: int
    year_cost: float
    rates: Rates

    @property
    def per_parcel_year(self) -> float:
        """Cost of one parcel for a year."""
        return self.year_cost / self.parcels

    @property
    def database_h(self) -> float:
        """Hours for which one database is at work storing the year."""
        return self.signatures / self.rates.signatures_per_s / 3600


def rates(bench: Path) -> Rates:
    """What `make bench` measured on this machine; the defaults for what it did not.

    Raises:
        InfraError: the file is there but is no result of `make bench`.
    """
    if not bench.is_file():
        return DEFAULTS
    try:
        details = {one["id"]: one["details"] for one in json.loads(bench.read_text())}
        return _measured(details, bench)
    except (ValueError, KeyError, TypeError) as error:
        raise InfraError(f"{bench} is not a result of `make bench`: {error!r}") from error


def _measured(details: Mapping[str, Any], bench: Path) -> Rates:
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


def plan(
    parcels: int,
    granules: int,
    deadline_h: float,
    worker: Worker,
    table: Prices,
    measured: Rates,
) -> Plan:
    """Plan a year.

    Raises:
        InfraError: a number is not above 0, or the price of a fixed host is missing.
    """
    if min(parcels, granules, deadline_h) <= 0:
        raise InfraError("parcels, granules and deadline must be above 0")
    rows = parcels * OBSERVATIONS_A_YEAR
    cpu_h = (
        granules * measured.decode_cpu_s + rows / PARCELS_OF_BENCH * measured.reduce_cpu_s
    ) / 3600
    busy_cores = worker.cores * BUSY
    workers = math.ceil(cpu_h / busy_cores / deadline_h)
    hours = cpu_h / busy_cores / workers
    tables_gb = rows * BANDS * measured.signature_bytes / 1e9
    database_gb = _tens(tables_gb * SPARE)
    backup_gb = _tens(database_gb * BACKUPS)
    fixed = sum(price(table, flavor) for flavor in FIXED.values())
    storage = database_gb * table.volume_gb_hour("ssd") + backup_gb * table.volume_gb_hour("hdd")
    return Plan(
        parcels,
        granules,
        deadline_h,
        worker,
        cpu_h,
        workers,
        hours,
        rows * BANDS,
        database_gb,
        backup_gb,
        workers * hours * worker.price_hour + (fixed + storage) * HOURS_A_YEAR,
        measured,
    )


FIXED = {"database": "hm.xlarge", "manager": "eo2.large", "api": "eo2.large"}
"""Flavors of the hosts that always run."""


def price(table: Prices, flavor: str) -> float:
    """The price of an hour of a flavor.

    Raises:
        InfraError: the table has none.
    """
    if flavor not in table.flavors:
        raise InfraError(f"the price table has no flavor {flavor}: add its price of an hour")
    return table.flavors[flavor]


def _tens(gb: float) -> int:
    return max(10, math.ceil(gb / 10) * 10)


def hours(text: str) -> float:
    """The hours of a deadline such as 7d or 36h.

    Raises:
        InfraError: it is not one.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text)
    if not found:
        raise InfraError(f"deadline {text!r}: give days or hours, such as 7d or 36h")
    return float(found[1]) * (24 if found[2] == "d" else 1)


def report(one: Plan, currency: str) -> str:
    """A plan as text."""
    title = f"{one.parcels:,} parcels, {one.granules:,} granules a year"
    return _paragraphs(
        title,
        {
            "rates": f"{one.rates.decode_cpu_s:.1f} CPU s to decode one, "
            f"{one.rates.reduce_cpu_s:.2f} s to reduce and store {PARCELS_OF_BENCH:,} parcels; "
            f"{one.rates.signature_bytes:.0f} bytes a signature; from {one.rates.source}",
            "a year": f"{one.cpu_h:,.0f} CPU hours; {one.signatures / 1e6:,.0f} million signatures "
            f"({OBSERVATIONS_A_YEAR} observations a parcel, {BANDS} values each)",
            "workers": f"{one.workers} x {one.worker.flavor} ({one.worker.cores} vCPUs): "
            f"{one.hours:,.1f} h; the deadline is {one.deadline_h:,.0f} h",
            "database": f"volumes of {one.database_gb:,} GB, and {one.backup_gb:,} GB for backups; "
            f"{one.database_h:,.1f} h of storing",
            "cost": f"{one.year_cost:,.0f} {currency} a year, "
            f"{one.per_parcel_year:.4f} {currency} a parcel",
        },
    )


def whole_eu(one: Plan, eu: Plan) -> str:
    """What would have to change if one appliance were to serve the EU, and why."""
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
            f"{EU} of {one.database_gb:,} GB, of which none waits for another, each restored by "
            "itself, and each agency's data its own.",
        },
    )


def _paragraphs(title: str, rows: Mapping[str, str]) -> str:
    text = [
        textwrap.fill(sentence, 96, initial_indent=f"  {name:10}", subsequent_indent=" " * 12)
        for name, sentence in rows.items()
    ]
    return "\n".join([title, *text])


def _decoding(one: Plan) -> float:
    return one.granules * one.rates.decode_cpu_s / 3600 / one.cpu_h


def _databases(one: Plan) -> str:
    if one.database_h <= one.deadline_h:
        return "one would keep up, but be too large to be backed up and restored in a day."
    return f"{math.ceil(one.database_h / one.deadline_h)} databases would be needed."


def configuration(one: Plan) -> str:
    """A stack's configuration to start from: the sizes are the plan's, the names yours to check."""
    flavors = FIXED
    return f"""\
config:
  cbm:image: Debian 12
  cbm:operators: [192.0.2.0/24]
  cbm:network: {{cidr: 10.20.0.0/24, external: external}}
  cbm:hosts:
    database: {{kinds: [database], flavor: {flavors["database"]}}}
    manager: {{kinds: [manager], flavor: {flavors["manager"]}}}
    worker: {{kinds: [worker], flavor: {one.worker.flavor}, count: {one.workers}}}
    api: {{kinds: [api], flavor: {flavors["api"]}}}
  cbm:volumes:
    database: {{size_gb: {one.database_gb}, type: ssd}}
    backup: {{size_gb: {one.backup_gb}, type: hdd}}
"""
