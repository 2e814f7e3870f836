"""CARD-BS by ESA's SNAP: our own graph for its program `gpt`.

Untried with SNAP itself, which no package registry has: tests hold the graph and the arguments
against a stand-in. The operators and parameters are those that SNAP's `gpt OPERATOR -h` lists.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from card.make import item
from card.make.backscatter import BackscatterSettings
from card.make.products import MANIFEST, Level1
from store.errors import CallerError, ConfigError, SceneError

GRAPHS = Path(__file__).with_name("graphs")
_LOOK_EVERY_S = 1.0
_SHOWN = 500
"""Characters of gpt's last words in a message."""


@dataclass(frozen=True)
class SnapRun:
    """One run of gpt.

    Attributes:
        graph: the graph's file.
        command: program and arguments.
        output: the .dim that it writes.
    """

    graph: Path
    command: tuple[str, ...]
    output: Path


def plan(
    product: Level1, terrain: Path, geoid: str | None, settings: BackscatterSettings, into: Path
) -> SnapRun:
    """Lay out a run.

    Args:
        product: the GRD.
        terrain: the terrain model, one raster.
        geoid: `ellipsoid`, or a grid of EGM96, which SNAP brings itself.
        settings: how; SNAP has radiometry, pixel size and CRS alone.
        into: folder of the product.

    Raises:
        CallerError: SNAP cannot do it so.
        ConfigError: there is no gpt.
    """
    kept = replace(
        BackscatterSettings(),
        radiometry=settings.radiometry, res_m=settings.res_m, epsg=settings.epsg,
    )  # fmt: skip
    if settings != kept:
        raise CallerError("SNAP's chain has settings for radiometry, pixel size and CRS alone")
    if not terrain.is_file():
        raise CallerError(f"{terrain} is no file: SNAP reads a terrain model of one raster")
    graph = GRAPHS / f"card_bs_{settings.radiometry}.xml"
    output = into / f"{item.product_name(product.reference)}.dim"
    parameters = {
        "input": product.folder.absolute() / MANIFEST,
        "output": output.absolute(),
        "dem": terrain.absolute(),
        "egm": str(_applies_egm96(geoid)).lower(),
        "crs": f"EPSG:{settings.epsg}" if settings.epsg else "AUTO:42001",
        "spacing": f"{settings.res_m:g}",
    }
    arguments = (f"-P{name}={value}" for name, value in parameters.items())
    return SnapRun(graph, (_program(os.environ), str(graph), *arguments), output)


def run(planned: SnapRun, check: Callable[[], None]) -> None:
    """Run gpt to its end.

    Args:
        planned: the run.
        check: called every second; what it raises ends gpt.

    Raises:
        SceneError: gpt fails, or writes nothing.
    """
    log = planned.output.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 -- the operator's own program, no shell
            planned.command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            while not _ended(process):
                check()
        except BaseException:
            process.kill()
            process.wait()
            raise
    words = log.read_text(errors="replace").strip()[-_SHOWN:]
    log.unlink()
    if process.returncode != 0 or not planned.output.is_file():
        raise SceneError(f"gpt ended with status {process.returncode}: {words or 'no word'}")


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_LOOK_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _applies_egm96(geoid: str | None) -> bool:
    """Whether SNAP has to add its geoid to the heights."""
    if geoid == "ellipsoid":
        return False
    if geoid and "egm96" in Path(geoid).name.lower():
        return True
    raise CallerError(
        "SNAP knows heights above the ellipsoid and above EGM96: state one of them by --geoid"
    )


def _program(env: Mapping[str, str]) -> str:
    program = shutil.which(env.get("CBM_GPT") or "gpt")
    if program is None:
        raise ConfigError(
            f"there is no program {env.get('CBM_GPT') or 'gpt'}: install SNAP and name its gpt by "
            "CBM_GPT, or take --engine own"
        )
    return program
