"""The report of an import: numbers, repairs and refusals, for people and for programs."""

import json
from collections import Counter
from dataclasses import asdict, dataclass

_SHOWN = 10
"""Reasons, and features of each, listed for people; programs get all of them as JSON."""


@dataclass(frozen=True)
class Case:
    """One feature of the file that did not simply become a parcel.

    Attributes:
        fid: the layer's own feature id.
        code: the parcel's id, None where it has none.
        reason: of the repair, merging or refusal.
    """

    fid: int
    code: str | None
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """Where every feature of a file went: read = new + changed + unchanged + merged + refused.

    Attributes:
        campaign: its name.
        file: name of the file.
        layer: the layer that was read.
        srid: EPSG code of the stored geometries.
        extent_deg: west, south, east, north of the parcels' centres, degrees.
        dry_run: nothing was written.
        read: features in the layer.
        new: parcels whose code the campaign did not have.
        changed: parcels whose geometry changed; they got a new pid and lost their signatures.
        unchanged: parcels that kept pid and signatures.
        vanished: parcels of the campaign that are no longer there; they lost everything.
        repaired: features whose geometry was repaired and is used.
        merged: features that repeat another one's code and geometry.
        refused: features that are not in the campaign now.
        notes: sentences on ids, CRS, curves and remarks of the reading library.
    """

    campaign: str
    file: str
    layer: str
    srid: int
    extent_deg: tuple[float, float, float, float]
    dry_run: bool
    read: int
    new: int
    changed: int
    unchanged: int
    vanished: int
    repaired: tuple[Case, ...]
    merged: tuple[Case, ...]
    refused: tuple[Case, ...]
    notes: tuple[str, ...]

    @property
    def imported(self) -> int:
        """Parcels the campaign has now."""
        return self.new + self.changed + self.unchanged

    def as_json(self) -> str:
        """All of it as one JSON object."""
        return json.dumps({**asdict(self), "imported": self.imported}, ensure_ascii=False, indent=2)

    def __str__(self) -> str:
        """Several lines for people: the numbers, then the reasons and some of their features."""
        west, south, east, north = self.extent_deg
        where = (
            f"centres of parcels between {west:.3f} and {east:.3f} degrees east, {south:.3f} "
            f"and {north:.3f} north; stored in EPSG:{self.srid}"
        )
        lines = [
            f"{self.file}, layer {self.layer}, into campaign {self.campaign}"
            + (" (dry run: nothing was written)" if self.dry_run else ""),
            *(f"  {name:<10}{count:>9,}" for name, count in self._counts()),
            f"  {where}",
            *(f"  Note: {note}" for note in self.notes),
        ]
        for title in ("refused", "repaired", "merged"):
            lines.extend(_listed(title, getattr(self, title)))
        return "\n".join(lines)

    def _counts(self) -> list[tuple[str, int]]:
        return [
            ("read", self.read),
            ("new", self.new),
            ("changed", self.changed),
            ("unchanged", self.unchanged),
            ("vanished", self.vanished),
            ("repaired", len(self.repaired)),
            ("merged", len(self.merged)),
            ("refused", len(self.refused)),
        ]


def _listed(title: str, cases: tuple[Case, ...]) -> list[str]:
    lines = []
    for reason, count in Counter(case.reason for case in cases).most_common(_SHOWN):
        alike = [case for case in cases if case.reason == reason][:_SHOWN]
        named = ", ".join(
            f"{case.fid} ({'no id' if case.code is None else case.code})" for case in alike
        )
        more = f" and {count - len(alike):,} more" if count > len(alike) else ""
        lines.append(f"  {title.capitalize()}: {reason}: feature {named}{more}")
    hidden = len({case.reason for case in cases}) - len(lines)
    return (
        [*lines, f"  {title.capitalize()} for {hidden:,} other reasons: see the JSON report"]
        if hidden
        else lines
    )


def most_common(cases: tuple[Case, ...]) -> str:
    """The reason most cases share, for a one-line message."""
    reason, count = Counter(case.reason for case in cases).most_common(1)[0]
    return f"{reason} ({count:,} of {len(cases):,})"
