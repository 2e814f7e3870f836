"""`cbm-card`: scenes into the catalogue, from folders, STAC APIs and the generator."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from card import folder
from card.found import Found, collect
from card.search import search
from card.synthetic.state import make_state
from store import db
from store.catalogue import Registered, register
from store.command import Program, log_to_stderr
from store.errors import NotFoundError

_DAY = click.DateTime(["%Y-%m-%d"])
_FOLDER = click.Path(path_type=Path)


@click.group(cls=Program)
@click.option("--verbose", is_flag=True, help="Log details.")
def main(verbose: bool) -> None:
    """Find analysis-ready scenes (CARD) and put them into the catalogue.

    The database is libpq's: PGHOST, PGDATABASE, PGUSER ...
    """
    log_to_stderr(verbose)
    if not verbose:  # GDAL's remarks on headers; what matters of them becomes a problem
        logging.getLogger("rasterio").setLevel(logging.ERROR)


@main.command("register")
@click.argument("place", metavar="DIR", type=_FOLDER)
@click.option("--describe", type=_FOLDER, metavar="DIR", help="STAC Items that describe the files.")
@click.option("--dry-run", is_flag=True, help="Show what was found, register nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def register_command(place: Path, describe: Path | None, dry_run: bool, as_json: bool) -> None:
    """Register all scenes below DIR: SAFE, BEAM-DIMAP, GeoTIFF and JPEG 2000."""
    _put(folder.scan(place, describe), str(place), dry_run, as_json)


@main.command()
@click.option("--stac", "url", required=True, metavar="URL", help="Root of a STAC API.")
@click.option("--collection", required=True, help="Such as sentinel-2-l2a.")
@click.option("--bbox", required=True, metavar="W,S,E,N", help="In degrees.")
@click.option("--start", required=True, type=_DAY, help="First day, UTC.")
@click.option("--end", required=True, type=_DAY, help="Last day, UTC.")
@click.option("--dry-run", is_flag=True, help="Show what was found, register nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sync(
    url: str,
    collection: str,
    bbox: str,
    start: datetime,
    end: datetime,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Register the scenes that a STAC API knows of a place and time."""
    first = start.replace(tzinfo=UTC)
    last = end.replace(tzinfo=UTC) + timedelta(days=1, seconds=-1)
    yielded = search(url, collection, _numbers(bbox), first, last)
    _put(collect(yielded), f"{collection} of {url}", dry_run, as_json)


@main.command()
@click.argument("place", metavar="DIR", type=_FOLDER)
@click.option("--seed", default=1, show_default=True, help="Of everything that is random.")
@click.option("--parcels", default=3000, show_default=True, help="How many.")
def synthesize(place: Path, seed: int, parcels: int) -> None:
    """Make a small synthetic Member State in DIR: parcels, and a season of scenes."""
    with click.progressbar(length=1, label="Making scenes", file=sys.stderr) as bar:

        def show(done: int, steps: int, _what: str) -> None:
            bar.length = steps
            bar.update(done - bar.pos)

        make_state(place, seed=seed, parcels=parcels, progress=show)


def _numbers(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise click.BadParameter(f"{text!r} is not W,S,E,N in degrees", param_hint="bbox") from None
    return west, south, east, north


def _put(found: Found, where: str, dry_run: bool, as_json: bool) -> None:
    """Register what was found, and say what that was; without any scene that is an error."""
    done = None
    if found.scenes and not dry_run:
        done = register(db.connect("cbm-card"), found.scenes)
    if as_json:
        click.echo(json.dumps(_report(found, done), indent=1, default=str))
    else:
        for line in _lines(found, done):
            click.echo(line)
    if not found.scenes:
        raise NotFoundError(f"no scene found in {where}; {len(found.problems)} problems are listed")


def _report(found: Found, done: Registered | None) -> dict[str, Any]:
    return {
        "scenes": [asdict(scene) for scene in found.scenes],
        "problems": [asdict(problem) for problem in found.problems],
        "others": found.others,
        "registered": asdict(done) if done else None,
    }


def _lines(found: Found, done: Registered | None) -> Iterator[str]:
    for scene in found.scenes:
        yield (
            f"{scene.obstime:%Y-%m-%d %H:%M}  {scene.kind:3}  {scene.unit:13}  "
            f"{scene.reference}  {','.join(scene.bands)}"
        )
    for problem in found.problems:
        yield f"PROBLEM  {problem.what}: {problem.why}"
    kinds = Counter(scene.kind for scene in found.scenes)
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    yield (
        f"Found {len(found.scenes)} scenes{f' ({counts})' if counts else ''}, "
        f"{len(found.problems)} problems, {found.others} other files."
    )
    if done:
        yield (
            f"Registered: {done.added} added, {done.changed} changed, {done.unchanged} known "
            f"already; {done.queued} pieces of work queued."
        )


if __name__ == "__main__":
    main()
