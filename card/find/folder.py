"""Finding scenes in a folder: products, rasters, and STAC Items for them."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from card.find import stac
from card.find.groups import RasterGroup, group_rasters, pair, read_group
from card.find.scan_result import Problem, ScanResult, collect
from card.find.survey import ItemDescription, ProductLayout, Survey, survey
from store.catalogue import Scene
from store.errors import CallerError, SceneError, WorldError
from store.inputs import InputProduct

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reader:
    """A kind of sources of scenes in a folder.

    Attributes:
        find: takes the sources of this kind out of a survey: each as its place for messages and
            the arguments of `read`, or a problem in its stead.
        read: the scene of one source; raises SceneError or CallerError.
    """

    find: Callable[[Survey], Iterable[tuple[Path, tuple[Any, ...]] | Problem]]
    read: Callable[..., Scene | InputProduct]

    def scenes(self, listed: Survey) -> Iterator[Scene | InputProduct | Problem]:
        """Scenes of the survey's sources of this kind, and the problems with the others."""
        for source in self.find(listed):
            if isinstance(source, Problem):
                yield source
                continue
            place, arguments = source
            try:
                scene = self.read(*arguments)
            except (SceneError, CallerError) as error:
                yield Problem(str(place), str(error).removeprefix(f"{place}: "))
                continue
            except WorldError:
                raise
            except Exception as error:
                _log.exception("event=unreadable place=%s", place)
                yield Problem(str(place), f"not readable, in a way nobody foresaw: {error!r}")
                continue
            listed.references.add(scene.reference)
            yield scene


def scan(folder: Path, describe: Path | None = None) -> ScanResult:
    """Find all scenes below a folder.

    Products with metadata of their own (SAFE, BEAM-DIMAP) are read by these. Other rasters are
    scenes by the product name in their file's or folder's name and by their own header; other
    facts come from a STAC Item of that name beside them or in `describe`.

    Args:
        folder: where to look, with all folders below.
        describe: folder with descriptions, if they don't lie beside the files.

    Raises:
        CallerError: one of the folders does not exist.
    """
    for place in filter(None, (folder, describe)):
        if not place.is_dir():
            raise CallerError(f"{place} is not a folder")
    listed = survey(folder, describe)
    results = [result for reader in READERS for result in reader.scenes(listed)]
    results += [Problem(str(place), reason) for place, reason in listed.unsupported.items()]
    return collect([*listed.problems, *results], listed.others)


def _find_products(listed: Survey) -> Iterator[tuple[Path, tuple[Path, ProductLayout]]]:
    return ((product[0], product) for product in listed.products)


def _read_product(folder: Path, layout: ProductLayout) -> Scene | InputProduct:
    return layout.read(folder)


def _find_items_with_files(listed: Survey) -> Iterator[tuple[Path, tuple[stac.Item, Path]]]:
    """STAC Items whose assets are files of the folder; those of scenes read before are left."""
    described = [each for each in listed.items if not each.names & listed.references]
    listed.items = []
    for description in described:
        base = _base(description, listed)
        if base is None:
            listed.items.append(description)
            continue
        own = {path.resolve() for path in stac.local_files(description.item, base).values()}
        listed.set_described(path for path in listed.rasters if path.resolve() in own)
        listed.rasters = [path for path in listed.rasters if path.resolve() not in own]
        yield description.path, (description.item, base)


def _base(description: ItemDescription, listed: Survey) -> Path | None:
    """The folder in which an item's assets are files: its own, or its counterpart's."""
    here = description.path.parent
    bases = [here, listed.folder]
    if listed.describe and here.is_relative_to(listed.describe):
        bases.insert(1, listed.folder / here.relative_to(listed.describe))
    return next((base for base in bases if stac.local_files(description.item, base)), None)


def _find_groups(
    listed: Survey,
) -> Iterator[tuple[Path, tuple[RasterGroup, ItemDescription | None]] | Problem]:
    """Loose rasters by scene, each group with the item that describes it."""
    groups, refused = group_rasters(listed.folder, listed.rasters)
    yield from refused
    described = pair(groups, listed.items)
    used = {description.path for description in described.values()}
    listed.items = [each for each in listed.items if each.path not in used]
    for number in described:
        listed.set_described(groups[number].files)
    for number, group in enumerate(groups):
        if number in described or not listed.unsupported_of(group.files):
            yield group.place, (group, described.get(number))


def _find_remote_items(listed: Survey) -> Iterator[tuple[Path, tuple[stac.Item, Path]] | Problem]:
    """STAC Items of rasters elsewhere; items without any raster are problems."""
    for each in listed.items:
        if stac.is_remote(each.item) and each.path.is_relative_to(listed.folder):
            yield each.path, (each.item, each.path.parent)
        else:
            yield Problem(str(each.path), _why_unused(each, listed.folder))


def _why_unused(description: ItemDescription, folder: Path) -> str:
    missing = stac.missing_files(description.item, description.path.parent)
    if not missing:
        return f"describes no file in {folder}: name it like its scene"
    names = ", ".join(path.name for path in missing.values())
    return f"the files that it names are not there ({names}): copy them and register again"


READERS = (
    Reader(_find_products, _read_product),
    Reader(_find_items_with_files, stac.scene_from_item),
    Reader(_find_groups, read_group),
    Reader(_find_remote_items, stac.scene_from_item),
)
"""The kinds of sources, in this order: an item of a scene that is read already is not used."""
