"""What the benchmark found: one entry per goal, kept in build/bench.json over several runs."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_VERSIONS_OF = ("numpy", "numba", "rasterio", "rasterstats", "exactextract", "pandas")


@dataclass(frozen=True)
class Figure:
    """One measured number and its bound.

    Attributes:
        value: as measured.
        gate: the bound.
        at_least: True where more is better.
        label: what tells it from the goal's other figures.
        unit: written behind both numbers.
    """

    value: float
    gate: float
    at_least: bool
    label: str = ""
    unit: str = "x"

    @property
    def holds(self) -> bool:
        """Whether the number keeps its bound; NaN never does."""
        return self.value >= self.gate if self.at_least else self.value <= self.gate

    @property
    def measured_text(self) -> str:
        """Such as "joint 41x"."""
        return f"{self.label} {_short(self.value)}{self.unit}".strip()

    @property
    def gate_text(self) -> str:
        """Such as ">= 25x"."""
        return f"{'>=' if self.at_least else '<='} {_short(self.gate)}{self.unit}"


@dataclass(frozen=True)
class Result:
    """One goal, measured.

    Attributes:
        id: P1, P2 ... P6r ...
        what: the goal in words.
        measured: its figures as text.
        gate: their bounds as text.
        holds: whether all of them keep their bounds.
        details: what the figures were made of, and samples where not all was measured.
    """

    id: str
    what: str
    measured: str
    gate: str
    holds: bool
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, goal: str, what: str, figures: Sequence[Figure], details: dict[str, Any] | None = None
    ) -> "Result":
        """Put the figures of a goal together."""
        return cls(
            goal,
            what,
            "; ".join(f.measured_text for f in figures),
            "; ".join(f.gate_text for f in figures),
            all(f.holds for f in figures),
            details or {},
        )


def load(path: Path) -> list[dict[str, Any]]:
    """The entries of a bench.json, in the order of the goals; none if there is no file."""
    return list(json.loads(path.read_text())) if path.exists() else []


def save(path: Path, result: Result) -> None:
    """Put one result into a bench.json: the other goals' entries stay, the file is never half."""
    entry = asdict(result) | {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
    }
    entries = [old for old in load(path) if old["id"] != result.id] + [entry]
    entries.sort(key=lambda each: order(each["id"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".new")
    half.write_text(json.dumps(entries, indent=1) + "\n")
    half.replace(path)


def order(goal: str) -> tuple[bool, str, int]:
    """What goals are sorted by: P1, P2 ... with P6r behind P6, then the others."""
    return goal[0] != "P", goal[0], int(goal[1:].rstrip("r"))


def table(entries: Sequence[dict[str, Any]]) -> str:
    """The entries as a Markdown table, which reads as well in a terminal."""
    lines = [("Goal", "What", "Measured", "Gate", "Holds")]
    lines += [
        (e["id"], e["what"], e["measured"], e["gate"], "yes" if e["holds"] else "**no**")
        for e in entries
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    padded = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    ]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join([f"| {padded[0]} |", f"|{rule}|", *(f"| {line} |" for line in padded[1:])])


def machine() -> str:
    """Processor, cores and memory of this machine."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory_gb:.0f} GB"


def versions() -> dict[str, str]:
    """Of Python and the packages whose speed is measured."""
    return {"python": platform.python_version()} | {n: metadata.version(n) for n in _VERSIONS_OF}


def _short(value: float) -> str:
    """Four digits, so that rounding never hides which side of a bound a number is on."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
