"""`cbm-standalone`: data for one machine without a cloud."""

import sys
from pathlib import Path

import click

from standalone.synthetic.state import make_state
from store.command import CliGroup

_FOLDER = click.Path(path_type=Path)


@click.group(cls=CliGroup)
def main() -> None:
    """Try the appliance out on this machine; `make demo` calls this."""


@main.command()
@click.argument("place", metavar="DIR", type=_FOLDER)
@click.option("--seed", default=1, show_default=True, help="Of everything that is random.")
@click.option("--parcels", default=3000, show_default=True, help="How many.")
@click.option(
    "--level1",
    is_flag=True,
    help="Sentinel-1 Level-1 products over hills (DIR/level1) and a DEM (DIR/dem) instead of the "
    "CARD-BS of their days.",
)
def synthesize(place: Path, seed: int, parcels: int, level1: bool) -> None:
    """Make a small synthetic Member State in DIR: parcels, and a season of scenes."""
    with click.progressbar(length=1, label="Making scenes", file=sys.stderr) as bar:

        def show(done: int, steps: int, _what: str) -> None:
            bar.length = steps
            bar.update(done - bar.pos)

        make_state(place, seed=seed, parcels=parcels, level1=level1, progress=show)


if __name__ == "__main__":
    main()
