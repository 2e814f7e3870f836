"""`make bench`: measures the goals, prints a table and keeps it in build/bench.json.

`--only P1,P5` (or ONLY in the environment) picks goals; the others' last results stay in the file.
"""

import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from tests.benchmarks import (
    api,
    api_contract,
    country,
    make_card,
    make_coherence,
    make_geometry,
    make_simulated,
    memory,
    queries,
    queue,
    remote,
    results,
    season,
    storing,
    whole,
    zonal,
    zonal_gdal,
)
from tests.benchmarks.context import Bench, Part

PARTS: Sequence[Part] = (
    zonal.PART,
    zonal_gdal.PART,
    whole.PART,
    storing.PART,
    queries.PART,
    memory.PART,
    remote.PART,
    season.PART,
    queue.PART,
    country.PART,
    api.PART,
    api_contract.PART,
    make_geometry.PART,
    make_card.PART,
    make_coherence.PART,
    make_simulated.PART,
)

_BUILD = Path(__file__).parents[2] / "build"


@click.command()
@click.option("--only", envvar="ONLY", default="", help="Goals to measure, such as P1,P5; all.")
@click.option(
    "--full",
    envvar="BENCH_FULL",
    is_flag=True,
    help="P10 with 255 million values (needs 20 GB), not 28.",
)
@click.option(
    "--build",
    type=click.Path(path_type=Path),
    default=_BUILD,
    help="Where inputs are kept and bench.json is written.",
)
def main(only: str, full: bool, build: Path) -> None:
    """Measure ours beside the JRC's way and exactextract."""
    chosen = _chosen(only)
    out = build / "bench.json"
    (build / "bench").mkdir(parents=True, exist_ok=True)
    bench = Bench(build / "bench", full)
    try:
        broken = run(bench, PARTS, chosen, out)
    finally:
        bench.close()
    entries = [entry for entry in results.load(out) if entry["id"] in chosen]
    print(f"\n{results.table(entries)}\n\n{results.machine()}; all results: {out}")
    failed = [entry["id"] for entry in entries if not entry["holds"]]
    if failed or broken:
        sys.exit("; ".join([f"{goal} does not hold" for goal in failed] + broken))


def run(bench: Bench, parts: Iterable[Part], chosen: frozenset[str], out: Path) -> list[str]:
    """Measure the chosen goals; a part that breaks loses only its own.

    Returns:
        A sentence for each part that broke.
    """
    broken = []
    for part in parts:
        wanted = part.goals & chosen
        if not wanted:
            continue
        try:
            for result in part.run(bench, wanted):
                results.save(out, result)
                bench.say(
                    f"{result.id}: {result.measured} (gate {result.gate}) "
                    f"{'holds' if result.holds else 'DOES NOT HOLD'}"
                )
        except Exception as error:
            traceback.print_exc()
            broken.append(f"{'/'.join(sorted(wanted))} broke: {error}")
    return broken


def _chosen(only: str) -> frozenset[str]:
    known = frozenset().union(*(part.goals for part in PARTS))
    by_name = {goal.upper(): goal for goal in known}
    wanted = frozenset(
        by_name.get(name.strip().upper(), name) for name in only.split(",") if name.strip()
    )
    if wanted - known:
        listed = ", ".join(sorted(known, key=results.order))
        raise click.UsageError(
            f"no such goal: {', '.join(sorted(wanted - known))}; there are {listed}"
        )
    return wanted or known


if __name__ == "__main__":
    main()
