"""What `cbm-card` prints: for people in lines, for programs in JSON."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from card.find.following import DayReport
from card.find.orbits import OrbitReport
from card.find.scan_result import ScanResult
from store.catalogue import RegisterReport
from store.inputs import InputReport
from store.listings import GAPS, STATES

_T = TypeVar("_T", RegisterReport, InputReport)
Registered = tuple[RegisterReport | None, InputReport | None]


def add_registered(done: Registered, more: Registered) -> Registered:
    """What two batches did together."""
    (scenes, products), (more_scenes, more_products) = done, more
    return _added(scenes, more_scenes), _added(products, more_products)


def _added(first: _T | None, second: _T | None) -> _T | None:
    if first is None or second is None:
        return first or second
    counts = zip(asdict(first).items(), asdict(second).values(), strict=True)
    return type(first)(**{name: one + other for (name, one), other in counts})


def scan_json(found: ScanResult, done: Registered) -> dict[str, Any]:
    """A scan, and what registering it did."""
    scenes, inputs = done
    return {
        "scenes": [asdict(scene) for scene in found.scenes],
        "inputs": [asdict(product) for product in found.inputs],
        "problems": [asdict(problem) for problem in found.problems],
        "others": found.others,
        "registered": asdict(scenes) if scenes else None,
        "registered_inputs": asdict(inputs) if inputs else None,
    }


def scan_lines(found: ScanResult, done: Registered) -> Iterator[str]:
    """A scan, and what registering it did, in lines."""
    for scene in found.scenes:
        yield (
            f"{scene.obstime:%Y-%m-%d %H:%M}  {scene.kind:3}  {scene.unit:13}  "
            f"{scene.reference}  {','.join(scene.bands)}"
        )
    for product in found.inputs:
        yield (
            f"{product.sensing_start:%Y-%m-%d %H:%M}  {product.level:3}  {'input':13}  "
            f"{product.reference}  R{product.relative_orbit:03d}"
        )
    for problem in found.problems:
        yield f"PROBLEM  {problem.what}: {problem.why}"
    kinds = Counter(scene.kind for scene in found.scenes)
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    yield (
        f"{len(found.scenes)} scenes{f' ({counts})' if counts else ''}, "
        f"{len(found.problems)} problems, {found.others} other files."
    )
    if found.inputs:
        yield (
            f"{len(found.inputs)} Level-1 products, not analysis-ready: make CARD from them "
            "with cbm-card make."
        )
    yield from _registered_lines(done)


def _registered_lines(done: Registered) -> Iterator[str]:
    scenes, inputs = done
    if scenes:
        for reference, reason in scenes.refused:
            yield f"PROBLEM  {reference}: {reason}"
        yield (
            f"Registered: {scenes.added} added, {scenes.changed} changed, {scenes.unchanged} known "
            f"already; {scenes.queued} pieces of work queued."
        )
    if inputs:
        yield (
            f"Registered inputs: {inputs.added} added, {inputs.changed} changed, "
            f"{inputs.unchanged} known already."
        )


def day_lines(report: DayReport, number: int, of: int) -> Iterator[str]:
    """What reading a day of a source brought, with how far the reading is."""
    for problem in report.problems:
        yield f"PROBLEM  {problem.what}: {problem.why}"
    parts = [f"{report.listed} listed", f"{report.added} added", f"{report.changed} changed"]
    parts += [
        f"{count} {state}"
        for state in ("offline", "absent", "unusable")
        if (count := getattr(report, state))
    ]
    rest = "" if report.complete else "; not all of the day was given, it is read again next time"
    yield f"{report.day}  {', '.join(parts)}  [{number}/{of}]{rest}"


def sync_json(done: Sequence[DayReport], due: int) -> dict[str, int]:
    """A round of reading a source, summed over its days."""
    names = ("listed", "added", "changed", "queued", "offline", "absent", "unusable")
    sums = {name: sum(getattr(day, name) for day in done) for name in names}
    incomplete = sum(not day.complete for day in done)
    return {"days": len(done), "due": due, "incomplete": incomplete, **sums}


def sync_line(summary: dict[str, int], where: str) -> str:
    """A round of reading a source, in a line."""
    names = ("listed", "added", "changed", "offline", "absent", "unusable")
    counts = ", ".join(f"{summary[name]} {name}" for name in names)
    return (
        f"Read {summary['days']} of {summary['due']} days of {where}: {counts}; "
        f"{summary['queued']} pieces of work queued."
    )


def gap_lines(rows: Sequence[Any]) -> Iterator[str]:
    """The table of gaps by month and place; states that nothing is in are left out."""
    states = [state for state in STATES if any(getattr(row, state) for row in rows)]
    yield "  ".join(["kind", "month  ", "place", "expected", *states])
    for row in rows:
        cells = [f"{row.kind:4}", row.month, f"{row.place:5}", f"{row.expected:8}"]
        cells += [f"{getattr(row, state) or '':>{len(state)}}" for state in states]
        yield "  ".join(cells).rstrip()
    expected = sum(row.expected for row in rows)
    gaps = {state: sum(getattr(row, state) for row in rows) for state in GAPS}
    share = 100 * sum(gaps.values()) / expected if expected else 0
    listed = ", ".join(f"{count} {state}" for state, count in gaps.items() if count)
    total = f"Expected {expected}; gaps {sum(gaps.values())} ({share:.1f} %)"
    yield f"{total}{f': {listed}' if listed else ''}."


def gap_product_lines(products: Sequence[Any]) -> Iterator[str]:
    """The products that make the gaps."""
    for row in products:
        name = row.reference or "(no source lists it)"
        where = f"{row.day}  {row.kind:4}  {row.place:5}  {row.state:9}"
        yield f"{where}  {name}  {row.reason or ''}".rstrip()


def gap_json(rows: Sequence[Any], products: Sequence[Any]) -> dict[str, Any]:
    """The table of gaps, and the products that make them."""
    return {
        "table": [row._asdict() for row in rows],
        "gaps": [row._asdict() for row in products],
    }


def orbit_json(done: OrbitReport) -> dict[str, Any]:
    """What fetching orbit files did."""
    return asdict(done)


def orbit_lines(done: OrbitReport) -> Iterator[str]:
    """What fetching orbit files did, in lines."""
    for name in done.fetched:
        yield f"fetched  {name}"
    for reference in done.missing:
        yield f"MISSING  {reference}: no orbit file covers it yet; its own orbit would be used"
    yield (
        f"Fetched {len(done.fetched)} files; {done.precise} products with a precise orbit, "
        f"{done.restituted} with a restituted one, {len(done.missing)} without."
    )
