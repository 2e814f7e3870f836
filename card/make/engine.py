"""Engines that make CARD: each gives one answer, a product's folder that card.find can read."""

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from card.make import (
    backscatter,
    burst_pairs,
    coherence,
    coherence_item,
    dem,
    item,
    orbit,
    products,
    snap,
)
from card.make.annotation import Annotation
from card.make.backscatter import BackscatterPlan, BackscatterSettings, BackscatterTile
from card.make.coherence import CoherencePlan, CoherenceSettings
from card.make.dem import Dem
from card.make.orbit import Orbit, StateVectors
from card.make.products import Level1
from card.make.snap import SnapRun
from store.errors import CallerError, ConflictError
from store.grid import Grid

Progress = Callable[[int, int], None]
"""Receives the number of tiles done and of all."""

_AROUND_DEG = 0.35
"""Terrain beyond the outline that may lie over the scene in the radar image."""
CPU_S_PER_MPX = 0.35
"""Of output, both polarisations, from pixels to files; measured on a product of real size."""
CPU_NS_PER_SAMPLE = 60
"""Of a polarisation of the reference, both made together; measured on bursts of real size."""
BYTES_PER_PX = 2.3 * 4 / 3
"""Of a band, with overviews."""
_COVERED = 0.6
"""Share of the box around a scene that the scene fills."""


@dataclass(frozen=True)
class BackscatterJob:
    """One CARD-BS to be made.

    Attributes:
        source: the GRD's folder.
        terrain: the terrain model, a raster or a folder.
        into: folder in which the product becomes a folder of its own.
        geoid: what heights stand on: a grid's path, `ellipsoid`, or None where the files say it.
        orbits: folder of orbit files; None uses the orbit of the annotation.
        settings: how.
        replace: make it again where a product of other inputs is there.
    """

    source: Path
    terrain: Path
    into: Path
    geoid: str | None = None
    orbits: Path | None = None
    settings: BackscatterSettings = field(default_factory=BackscatterSettings)
    replace: bool = False


@dataclass(frozen=True)
class CoherenceJob:
    """One CARD-COH to be made.

    Attributes:
        source: folder of the later SLC.
        pair: folders of the earlier pass' slices that share ground with it.
        terrain: the terrain model, a raster or a folder.
        into: folder in which the product becomes a folder of its own.
        geoid: as in BackscatterJob.
        orbits: as in BackscatterJob.
        settings: how.
        replace: make it again where a product of other inputs is there.
    """

    source: Path
    pair: tuple[Path, ...]
    terrain: Path
    into: Path
    geoid: str | None = None
    orbits: Path | None = None
    settings: CoherenceSettings = field(default_factory=CoherenceSettings)
    replace: bool = False


Job = BackscatterJob | CoherenceJob


class Engine(Protocol):
    """Makes CARD-BS of a GRD, and CARD-COH of SLC.

    Attributes:
        repeatable: a rerun gives the same bytes.
    """

    repeatable: ClassVar[bool]

    def describe(self, job: Job) -> Mapping[str, str]:
        """What `make` would take and write, in words, for a dry run; raises as `make` does."""
        ...

    def make(self, job: Job, progress: Progress) -> Path:
        """The product's folder; one that is there with the same inputs is not made again."""
        ...


class OwnEngine:
    """Makes CARD on this machine, by card.make.backscatter and card.make.coherence."""

    repeatable: ClassVar[bool] = True

    def describe(self, job: Job) -> Mapping[str, str]:
        """See Engine."""
        run = _run(job)
        return {**run.description, "writes": f"{run.place} ({run.state})"}

    def make(self, job: Job, progress: Progress) -> Path:
        """See Engine."""
        run = _run(job)
        if run.state == _KNOWN:
            return run.place
        if run.state != _NEW and not job.replace:
            raise ConflictError(
                f"{run.place} is there already, made otherwise: {run.state}. Move it away, or "
                "replace it with --replace"
            )
        return run.write(progress)


class SnapEngine:
    """Makes CARD-BS by SNAP's `gpt`, with our own graph (card.make.snap); untried with SNAP itself.

    CBM_GPT names the program.
    """

    repeatable: ClassVar[bool] = False

    def describe(self, job: Job) -> Mapping[str, str]:
        """See Engine."""
        product, run = _plan_snap(job, job.into)
        return {
            "product": f"{product.reference}, IPF {item.version(product.ipf)}",
            "graph": str(run.graph),
            "command": " ".join(run.command),
            "orbit": "SNAP fetches it itself; --orbits is not used",
            "writes": f"{job.into / item.product_name(product.reference)} (BEAM-DIMAP)",
        }

    def make(self, job: Job, progress: Progress) -> Path:
        """See Engine."""
        name = item.product_name(products.read(job.source).reference)
        if (job.into / name).exists() and not job.replace:
            return job.into / name
        with item.temporary_folder(job.into, name) as folder:
            snap.run(_plan_snap(job, folder)[1], lambda: progress(0, 1))
            progress(1, 1)
            return item.publish(folder, job.into / name, replace=job.replace)


def _plan_snap(job: Job, into: Path) -> tuple[Level1, SnapRun]:
    if not isinstance(job, BackscatterJob):
        raise CallerError("SNAP's graph is for CARD-BS; coherence is made by --engine own")
    product = products.read(job.source)
    return product, snap.plan(product, job.terrain, job.geoid, job.settings, into)


ENGINES: Mapping[str, Engine] = MappingProxyType({"own": OwnEngine(), "snap": SnapEngine()})
"""By name."""

_NEW, _KNOWN = "new", "is there already, with the same inputs"


@dataclass(frozen=True)
class _Run:
    """A job, its inputs read.

    Attributes:
        place: where the product belongs.
        inputs: what it is a function of.
        description: what is taken, in words.
        write: makes it.
    """

    place: Path
    inputs: Mapping[str, Any]
    description: Mapping[str, str]
    write: Callable[[Progress], Path]

    @property
    def state(self) -> str:
        """What is there."""
        if not self.place.exists():
            return _NEW
        differing = item.differences(self.inputs, self.place)
        return _KNOWN if not differing else "; ".join(differing)


def _run(job: Job) -> _Run:
    return _run_backscatter(job) if isinstance(job, BackscatterJob) else _run_coherence(job)


def _run_backscatter(job: BackscatterJob) -> _Run:
    plan = prepare(job)

    def write(progress: Progress) -> Path:
        tiles = _counted(backscatter.make_tiles(plan), len(plan.tiles), progress)
        return item.write(plan, tiles, job.into, replace=job.replace)

    place = job.into / item.product_name(plan.product.reference)
    return _Run(place, item.inputs(plan), _describe_backscatter(plan), write)


def _describe_backscatter(plan: BackscatterPlan) -> Mapping[str, str]:
    grid, image = plan.grid, plan.images[0].annotation
    megapixels = grid.height_px * grid.width_px * _COVERED / 1e6
    return {
        "product": f"{plan.product.reference}, IPF {item.version(plan.product.ipf)}",
        "bands": ", ".join(plan.bands),
        "noise": "not stated by the product"
        if any(one.noise.is_zero for one in plan.images) else "removed",
        "orbit": f"{plan.orbit.source}, residual {plan.orbit.residual_m:.2g} m",
        **_describe_terrain(plan.dem),
        "radiometry": plan.settings.radiometry,
        "radar image": f"{image.lines} lines x {image.samples} pixels",
        "output": _describe_grid(grid, len(plan.tiles)),
        "about": f"{megapixels * CPU_S_PER_MPX / 60:.1f} CPU minutes, "
        f"{megapixels * len(plan.bands) * BYTES_PER_PX / 1e3:.1f} GB",
    }  # fmt: skip


def _run_coherence(job: CoherenceJob) -> _Run:
    plan = prepare_coherence(job)

    def write(progress: Progress) -> Path:
        done = itertools.count(1)
        tiles = coherence.make_tiles(
            plan, job.into, lambda: progress(next(done), plan.steps)
        )  # fmt: skip
        return coherence_item.write(plan, tiles, job.into, replace=job.replace)

    place = job.into / coherence_item.product_name(plan.passes)
    return _Run(place, coherence_item.inputs(plan), _describe_coherence(plan), write)


def _describe_coherence(plan: CoherencePlan) -> Mapping[str, str]:
    passes, grid = plan.passes, plan.grid
    samples = sum(
        pair.image.annotation.lines_per_burst * pair.image.annotation.samples
        for pair in passes.pairs
    )
    of_pair = ", ".join(
        f"{product.reference}, IPF {item.version(product.ipf)}" for product in passes.partners
    )
    megapixels = grid.height_px * grid.width_px * _COVERED / 1e6
    return {
        "product": f"{passes.reference.reference}, IPF {item.version(passes.reference.ipf)}",
        "pair": of_pair,
        "bands": ", ".join(passes.bands),
        "baseline": f"{passes.days} days, {passes.baseline_m:.1f} m perpendicular",
        "bursts": f"{len(passes.pairs)} pairs, {passes.shift_lines:.2f} lines apart",
        "missed": ", ".join(passes.missed) or "none",
        "warnings": "; ".join(passes.warnings) or "none",
        "orbit": f"{passes.image.orbit.source}, residual {passes.image.orbit.residual_m:.2g} m",
        **_describe_terrain(plan.dem),
        "output": _describe_grid(grid, len(plan.tiles)),
        "about": f"{samples * len(passes.bands) * CPU_NS_PER_SAMPLE / 60e9:.1f} CPU minutes, "
        f"{megapixels * len(passes.bands) * BYTES_PER_PX / 1e3:.1f} GB, "
        f"{samples * len(passes.bands) / 1e9:.1f} GB of scratch while it runs",
    }  # fmt: skip


def _describe_terrain(terrain: Dem) -> Mapping[str, str]:
    return {
        "DEM": f"{terrain.name}, {len(terrain.files)} files",
        "geoid": str(terrain.geoid or "none: heights are above the ellipsoid"),
    }


def _describe_grid(grid: Grid, tiles: int) -> str:
    return (
        f"EPSG:{grid.epsg}, {grid.res_m:g} m, {grid.height_px} x {grid.width_px} px, {tiles} tiles"
    )


def prepare(job: BackscatterJob) -> BackscatterPlan:
    """Read the metadata of a job's inputs and lay out its output.

    Raises:
        NotFoundError: an input is not there.
        CallerError: inputs do not fit one another.
        SceneError: the product cannot be used.
    """
    product = products.read(job.source)
    images = backscatter.read_images(product)
    fitted = _fit(images[0].annotation, job.orbits)
    terrain = dem.find(job.terrain, job.geoid, _box(job.source, backscatter.footprint(images)))
    return backscatter.plan(product, images, fitted, terrain, job.settings)


def prepare_coherence(job: CoherenceJob) -> CoherencePlan:
    """Read the metadata of a job's inputs, pair the bursts and lay out the output.

    Raises:
        NotFoundError: an input is not there.
        CallerError: inputs do not fit one another.
        SceneError: a product cannot be used.
    """
    passes = burst_pairs.read_products(
        products.read(job.source),
        [products.read(folder) for folder in job.pair],
        lambda described: _fit(described, job.orbits),
    )
    terrain = dem.find(job.terrain, job.geoid, _box(job.source, passes.outline))
    return coherence.plan(passes, terrain, job.settings)


def _fit(described: Annotation, orbits: Path | None) -> Orbit:
    """The orbit over an image: of the best file that reaches over it, else annotated."""
    return orbit.fit(_vectors(described, orbits), 0.0, described.last_s)


def _vectors(described: Annotation, orbits: Path | None) -> StateVectors:
    if orbits is None:
        return described.vectors
    last = described.epoch + timedelta(seconds=described.last_s)
    path = orbit.choose(orbits, described.platform, described.epoch, last)
    return orbit.read_file(path, described.epoch, described.last_s) if path else described.vectors


def _box(source: Path, outline: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    lon, lat = [point[0] for point in outline], [point[1] for point in outline]
    if max(lon) - min(lon) > 180:
        raise CallerError(f"{source}: scenes across the antimeridian are not processed")
    return (
        min(lon) - _AROUND_DEG, min(lat) - _AROUND_DEG,
        max(lon) + _AROUND_DEG, max(lat) + _AROUND_DEG,
    )  # fmt: skip


def _counted(
    tiles: Generator[BackscatterTile, None, None], total: int, progress: Progress
) -> Iterator[BackscatterTile]:
    with closing(tiles):  # progress may raise: files and GDAL's settings are closed here
        for done, tile in enumerate(tiles, start=1):
            yield tile
            progress(done, total)
