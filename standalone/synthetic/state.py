"""The whole synthetic Member State in one folder: parcels.gpkg and scenes/; level1/ and dem/.

Level-1 products lie beside scenes/, which holds what can be registered as it is. On days of
Level-1 products there is no CARD-BS.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from pyogrio.errors import DataSourceError
from rasterio.errors import RasterioError

from standalone.synthetic import level1 as radar
from standalone.synthetic import parcels as lpis
from standalone.synthetic import sentinel1, sentinel2
from standalone.synthetic.landscape import Landscape, landscape
from store.errors import CallerError, ConflictError
from store.grid import Grid

AOI = "demo"
"""Region code of the synthetic Member State."""

YEAR = 2024
"""Year of its one campaign."""

PARCELS_FILE = "parcels.gpkg"
SCENES_FOLDER = "scenes"

Progress = Callable[[int, int, str], None]
Step = Callable[[], object]

_MARK = "state.json"
_FARMED = 0.62
_OVERLAP = 0.5
_PARCELS_PER_PLACE = 250
_EDGE_M = 150.0
_STEP_PX = 6
_LARGEST_PX = 1500
_NORTH_M = 5250000
_BYTES_PER_PX = 160
_LEVEL1_BYTES = 40_000_000
_THREADS = 4


@dataclass(frozen=True)
class Recipe:
    """What a state is made of; equal recipes make equal states.

    Attributes:
        seed: of everything that is random.
        parcels: how many.
        sources: digest of the program text that makes it.
        level1: with Level-1 products and a DEM.
    """

    seed: int
    parcels: int
    sources: str
    level1: bool = False


@dataclass(frozen=True)
class Ground:
    """Where the scenes lie.

    Attributes:
        whole: all ground that is seen, 10 m.
        windows: by MGRS tile, the part of it that the tile's products hold.
    """

    whole: Grid
    windows: dict[str, Grid]


def make_state(
    folder: Path,
    *,
    seed: int = 1,
    parcels: int = 3000,
    level1: bool = False,
    progress: Progress = lambda *_: None,
) -> None:
    """Make a synthetic Member State, or find it made.

    A finished state of the same seed, size and program is left as it is; an unfinished or
    different one is replaced.

    Args:
        folder: its folder: new, empty, or an earlier state's.
        seed: of everything that is random.
        parcels: number of parcels; the scenes' size follows from it.
        level1: also write Level-1 products over hills, and a DEM.
        progress: called with (steps done, steps in all, name of the step).

    Raises:
        CallerError: too many or too few parcels, too little space on the disk, or the folder
            cannot be written.
        ConflictError: the folder holds something else.
    """
    recipe = Recipe(seed, parcels, _sources(), level1)
    if _is_made(folder, recipe):
        progress(1, 1, "nothing to make")
        return
    ground = ground_of(parcels)
    try:
        _clear(folder, recipe, ground)
        _run(_steps(folder, recipe, ground), progress)
        _write_mark(folder, recipe, finished=True)
    except (OSError, RasterioError, DataSourceError) as error:
        raise CallerError(f"cannot write a synthetic state to {folder}: {error}") from error


def ground_of(parcels: int) -> Ground:
    """Windows of the two tiles, large enough for a number of parcels.

    Both windows are square; the western one ends at its tile's edge and the eastern one begins
    within it, so that half of either is seen by both.

    Raises:
        CallerError: there are none, or the windows would become larger than 1 500 pixels.
    """
    per_px2 = _FARMED * (2 - _OVERLAP) / lpis.MEAN_AREA_HA / 100
    most = int(_LARGEST_PX**2 * per_px2)
    if not 1 <= parcels <= most:
        raise CallerError(f"a synthetic state has 1 to {most} parcels, not {parcels}")
    side_px = math.ceil((parcels / per_px2) ** 0.5 / _STEP_PX) * _STEP_PX
    shared_px = int(side_px * _OVERLAP) // 2 * 2
    edge = lpis.TILES["32TMT"][0] + 10 * lpis.TILE_PX
    west, shared_west = edge - side_px * 10, edge - shared_px * 10
    width_px = 2 * side_px - shared_px
    return Ground(
        whole=Grid(lpis.EPSG, 10, west, _NORTH_M, side_px, width_px),
        windows={
            "32TMT": Grid(lpis.EPSG, 10, west, _NORTH_M, side_px, side_px),
            "32TNT": Grid(lpis.EPSG, 10, shared_west, _NORTH_M, side_px, side_px),
        },
    )


def parcels_of(seed: int, count: int) -> lpis.Parcels:
    """The parcels of a state; those at its border reach beyond the scenes."""
    west, south, east, north = ground_of(count).whole.bounds_m
    extent = (west - _EDGE_M, south - _EDGE_M, east + _EDGE_M, north + _EDGE_M)
    return lpis.make_parcels(extent, count, 1 + count // _PARCELS_PER_PLACE, seed)


def _steps(folder: Path, recipe: Recipe, ground: Ground) -> list[tuple[str, Step]]:
    """Everything that is to be made: what it is called, and how it is made."""
    seed, scenes, whole = recipe.seed, folder / SCENES_FOLDER, ground.whole
    parcels = parcels_of(seed, recipe.parcels)
    land = landscape(parcels, whole, seed)
    radar_land = {
        layout: landscape(parcels, sentinel1.grid_of(whole, layout), seed)
        for layout in (sentinel1.DIMAP, sentinel1.COG)
    }
    return [
        (PARCELS_FILE, partial(lpis.write_geopackage, parcels, folder / PARCELS_FILE)),
        *(
            (
                f"Sentinel-2 {overpass.start:%Y-%m-%d}",
                partial(_make_overpass, scenes, overpass, land, ground.windows, seed),
            )
            for overpass in sentinel2.SEASON
        ),
        *(
            (
                f"Sentinel-1 {scene.start:%Y-%m-%d}",
                partial(_make_radar_scene, scenes, scene, radar_land[scene.layout], seed),
            )
            for scene in sentinel1.SEASON
            # Of these days there are Level-1 products in its place: CARD is to be made of them.
            if not (recipe.level1 and scene in radar.GRD_SCENES)
        ),
        *(radar.steps(folder, land, seed) if recipe.level1 else ()),
    ]


def _make_overpass(
    scenes: Path, overpass: sentinel2.Overpass, land: Landscape, windows: dict[str, Grid], seed: int
) -> None:
    seen = sentinel2.view(land, overpass, seed)
    for product in sentinel2.products(overpass, windows):
        sentinel2.write_product(scenes, product, seen, land.grid)


def _make_radar_scene(
    scenes: Path, scene: sentinel1.RadarScene, land: Landscape, seed: int
) -> None:
    bands = sentinel1.view(land, scene, seed)
    sentinel1.write_scene(scenes, scene, bands, land.grid)


def _run(steps: list[tuple[str, Step]], progress: Progress) -> None:
    """Run steps on all cores (encoding releases the interpreter); the first error ends it."""
    progress(0, len(steps), "starting")
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as pool:
        names = {pool.submit(step): what for what, step in steps}
        try:
            for done, future in enumerate(as_completed(names), start=1):
                future.result()
                progress(done, len(steps), names[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _clear(folder: Path, recipe: Recipe, ground: Ground) -> None:
    """Make room for a state: take away an earlier one, never anything else."""
    if folder.exists() and _read_mark(folder) is None and any(folder.iterdir()):
        raise ConflictError(
            f"{folder} holds something other than a synthetic state: "
            "name another folder, or empty it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_mark(folder, recipe, finished=False)
    (folder / PARCELS_FILE).unlink(missing_ok=True)
    for part in (SCENES_FOLDER, radar.FOLDER, radar.DEM_FOLDER):
        shutil.rmtree(folder / part, ignore_errors=True)
    needed = ground.whole.height_px * ground.whole.width_px * _BYTES_PER_PX
    needed += _LEVEL1_BYTES if recipe.level1 else 0
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CallerError(
            f"a state of {recipe.parcels} parcels takes {needed >> 20} MB, and "
            f"{folder} has {free >> 20} MB left: free some space, or ask for fewer"
        )
    (folder / SCENES_FOLDER).mkdir()


def _is_made(folder: Path, recipe: Recipe) -> bool:
    """Whether a folder holds this very state, finished, and nobody took away its parts."""
    marked = _read_mark(folder) == {**asdict(recipe), "finished": True}
    parts = [PARCELS_FILE, SCENES_FOLDER]
    parts += [radar.FOLDER, radar.DEM_FOLDER] if recipe.level1 else []
    return marked and all((folder / part).exists() for part in parts)


def _read_mark(folder: Path) -> dict[str, object] | None:
    try:
        mark = json.loads((folder / _MARK).read_text())
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None


def _write_mark(folder: Path, recipe: Recipe, *, finished: bool) -> None:
    fresh = folder / f"{_MARK}.new"
    fresh.write_text(json.dumps({**asdict(recipe), "finished": finished}))
    fresh.replace(folder / _MARK)


def _sources() -> str:
    """Digest of this package's program text: what a change of it made is made again."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
