"""`cbm-card make`: CARD from Level-1 products."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import click

from card.make.backscatter import BackscatterSettings, Radiometry
from card.make.coherence import CoherenceSettings
from card.make.engine import ENGINES, BackscatterJob, CoherenceJob, Engine, Job, Progress
from store import products
from store.errors import NotFoundError

_log = logging.getLogger(__name__)
_PATH = click.Path(path_type=Path)
_LOGGED_STEPS = 10
_Command = Callable[..., None]


_SHARED = (
    click.option(
        "--products",
        "archive",
        type=_PATH,
        envvar="CBM_LEVEL1",
        metavar="DIR",
        help="Where a REFERENCE is looked for: itself, or in the archive's folders by date.",
    ),
    click.option(
        "--dem",
        "terrain",
        type=_PATH,
        envvar="CBM_DEM",
        required=True,
        metavar="PATH",
        help="Terrain: a raster, or a folder such as Copernicus DEM tiles.",
    ),
    click.option(
        "--geoid",
        envvar="CBM_GEOID",
        metavar="PATH|ellipsoid",
        help="Grid of the geoid that the heights stand on; needed unless the DEM says `ellipsoid`.",
    ),
    click.option(
        "--orbits",
        type=_PATH,
        envvar="CBM_ORBITS",
        metavar="DIR",
        help="Orbit files; POEORB before RESORB before the orbit of the annotation.",
    ),
    click.option(
        "--out",
        "into",
        type=_PATH,
        envvar="CBM_CARD_DIR",
        default=".",
        show_default=True,
        metavar="DIR",
        help="Where the product becomes a folder.",
    ),
    click.option("--epsg", type=int, help="CRS of the output; the scene's UTM zone if not given."),
    click.option("--replace", is_flag=True, help="Make it again if one of other inputs is there."),
    click.option(
        "--engine",
        "name",
        type=click.Choice(sorted(ENGINES)),
        default="own",
        show_default=True,
        help="What makes it.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be taken and written."),
)


@click.group("make")
def make_group() -> None:
    """Make CARD of Level-1 products, where no archive has it."""


def _options(command: _Command) -> _Command:
    """Options that all products have."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


@make_group.command("bs")
@click.argument("source", metavar="REFERENCE_OR_PATH")
@click.option(
    "--radiometry",
    type=click.Choice(get_args(Radiometry)),
    default="gamma0",
    show_default=True,
    help="gamma0 is terrain-flattened; gamma0_ellipsoid continues series of the JRC's CARD-BS.",
)
@click.option(
    "--ground-range",
    type=click.Choice(["linear", "nearest"]),
    default="linear",
    show_default=True,
    help="How pixels between two ground range polynomials of the product are placed.",
)
@click.option(
    "--smoothing/--no-smoothing",
    default=True,
    show_default=True,
    help="Smooth the areas of flattening as wide as the radar's response.",
)
@click.option("--clip", is_flag=True, help="Set negative values to 0: for viewers, not for means.")
@_options
def bs_command(
    source: str, radiometry: Radiometry, ground_range: str, smoothing: bool, clip: bool,
    archive: Path | None, terrain: Path, geoid: str | None, orbits: Path | None, into: Path,
    epsg: int | None, replace: bool, name: str, dry_run: bool,
) -> None:  # fmt: skip
    """Make CARD-BS (gamma0, VV and VH, 10 m) of a Sentinel-1 IW GRD."""
    job = BackscatterJob(
        source=find_product(source, archive),
        terrain=terrain,
        into=into,
        geoid=geoid,
        orbits=orbits,
        settings=BackscatterSettings(
            radiometry=radiometry, epsg=epsg, smoothing=smoothing,
            nearest_update=ground_range == "nearest", clip=clip,
        ),
        replace=replace,
    )  # fmt: skip
    _run(ENGINES[name], job, dry_run)


@make_group.command("coh")
@click.argument("source", metavar="REFERENCE_OR_PATH")
@click.argument("pair", metavar="REFERENCE2_OR_PATH...", nargs=-1, required=True)
@click.option(
    "--res",
    "res_m",
    type=click.Choice(["10", "20"]),
    default="20",
    show_default=True,
    help="Pixel size in metres; the windows of coherence are about 42 x 37 m.",
)
@_options
def coh_command(
    source: str, pair: tuple[str, ...], res_m: str, archive: Path | None, terrain: Path,
    geoid: str | None, orbits: Path | None, into: Path, epsg: int | None, replace: bool,
    name: str, dry_run: bool,
) -> None:  # fmt: skip
    """Make CARD-COH1, -COH6 or -COH12 (coherence, VV and VH, 20 m) of Sentinel-1 IW SLC.

    The first product is the later, the others are the slices of the pass 6 or 12 days before.
    """
    job = CoherenceJob(
        source=find_product(source, archive),
        pair=tuple(find_product(each, archive) for each in pair),
        terrain=terrain,
        into=into,
        geoid=geoid,
        orbits=orbits,
        settings=CoherenceSettings(res_m=float(res_m), epsg=epsg),
        replace=replace,
    )
    _run(ENGINES[name], job, dry_run)


def _run(engine: Engine, job: Job, dry_run: bool) -> None:
    if dry_run:
        for what, value in engine.describe(job).items():
            click.echo(f"{what:12} {value}")
        return
    with _progress() as progress:
        place = engine.make(job, progress)
    click.echo(f"{place}\nRegister it: cbm-card register {job.into}")


def find_product(source: str, archive: Path | None) -> Path:
    """The folder of a product, given as a path or by its name.

    Raises:
        NotFoundError: there is none.
        ProductNameError: it is neither a path nor a product's name.
    """
    if Path(source).is_dir():
        return Path(source)
    product = products.parse(source)
    places = [] if archive is None else [archive]
    found = [
        folder
        for place in places
        for name in ("", *products.key_prefixes(product))
        for folder in (
            place / name,
            place / name.removeprefix("Sentinel-1/"),
            place / name / f"{product.reference}.SAFE",
            place / name / f"{product.reference}_COG.SAFE",
        )
        if folder.name.startswith(product.reference) and folder.is_dir()
    ]
    if not found:
        where = (
            f"in {archive}" if archive else "here: name its folder, or the archive's by --products"
        )
        raise NotFoundError(f"there is no {product.reference}.SAFE {where}")
    return found[0]


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal; lines in a log elsewhere."""
    if not sys.stderr.isatty():
        yield _log_progress
        return
    with click.progressbar(length=1, label="steps", file=sys.stderr, show_pos=True) as bar:

        def advance(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield advance


def _log_progress(done: int, total: int) -> None:
    if done * _LOGGED_STEPS // total != (done - 1) * _LOGGED_STEPS // total:
        _log.info("event=progress done=%d total=%d", done, total)
