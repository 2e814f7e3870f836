"""All files of a folder by the kind of source that they may be."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from card.find import dimap, level1, rasters, safe, stac
from card.find.scan_result import Problem
from store import products
from store.catalogue import Scene
from store.errors import ProductNameError
from store.inputs import InputProduct


@dataclass(frozen=True)
class ProductLayout:
    """A layout of folders that hold one product each, with metadata of its own.

    Attributes:
        find: whether a folder, with these names of files in it, is such a product.
        read: the scene or input in it.
    """

    find: Callable[[Path, Collection[str]], bool]
    read: Callable[[Path], Scene | InputProduct]


LAYOUTS = (
    ProductLayout(level1.is_product, level1.read),
    ProductLayout(safe.is_product, safe.read),
    ProductLayout(dimap.is_product, dimap.read),
)
"""The known layouts; a new one is a module with these two functions, and an entry here."""


_ARCHIVES = frozenset((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"))
_OTHER_FORMATS = frozenset((".nc", ".h5", ".hdf", ".he5", ".zarr", ".dat", ".bil", ".bsq", ".kea"))
_CONVERT = "a product in a format that is not read: convert it to GeoTIFF (gdal_translate)"

_MAJA = re.compile(
    r"SENTINEL2[A-D]_\d{8}-.*(_MTD_ALL\.xml|_[FS]RE_B\w+\.tif)|S2[A-D]_OPER_SSC_L2VALD_.*\.HDR",
    re.IGNORECASE,
)
_AWS_TILE = re.compile(r"tileInfo\.json", re.IGNORECASE)
_UNSUPPORTED = {
    _MAJA: "a MAJA product: not supported, because its layout and masks are not read: describe its "
    "FRE images in a STAC Item beside them (platform, datetime, raster:bands with scale 0.0001, "
    "offset 0, nodata -10000)",
    _AWS_TILE: "a tile in the layout of the AWS archives: not supported, because its metadata do "
    "not state BOA_ADD_OFFSET: describe it in a STAC Item, or take the product in the SAFE layout",
}
"""Layouts that are known and not read: a pattern of a file's name, and what to do."""


@dataclass(frozen=True)
class ItemDescription:
    """A STAC Item in a file."""

    path: Path
    item: stac.Item

    @property
    def names(self) -> frozenset[str]:
        """Names by which a scene is the described one: file stem, id, product name."""
        stem = self.path.stem
        bare = Path(stem).stem if Path(stem).suffix.lower() in rasters.SUFFIXES else stem
        names = {stem, bare, str(self.item.get("id"))}
        return frozenset(names | {r for r in map(reference_of, names) if r})


@dataclass
class Survey:
    """The files below a folder; readers take out of it what is theirs.

    Attributes:
        folder: the folder.
        describe: a second folder, of descriptions alone, if any.
        products: product folders with their layouts.
        rasters: raster files outside of them.
        items: STAC Items.
        unsupported: folders in a layout that is not read, with a sentence on what to do; those
            whose rasters an item describes are taken out.
        problems: files that would be sources and cannot be read.
        others: number of files that are nothing of these.
        references: of the scenes that were read so far.
    """

    folder: Path
    describe: Path | None = None
    products: list[tuple[Path, ProductLayout]] = field(default_factory=list)
    rasters: list[Path] = field(default_factory=list)
    items: list[ItemDescription] = field(default_factory=list)
    unsupported: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    others: int = 0
    references: set[str] = field(default_factory=set)

    def unsupported_of(self, files: Iterable[Path]) -> set[Path]:
        """The folders in a layout that is not read which hold some of these files."""
        return {folder for path in files for folder in path.parents if folder in self.unsupported}

    def set_described(self, files: Iterable[Path]) -> None:
        """Take the folders of these files out of those that are not read."""
        for folder in self.unsupported_of(files):
            del self.unsupported[folder]


def survey(folder: Path, describe: Path | None = None) -> Survey:
    """List all files below a folder, and the descriptions in a second one."""
    listed = Survey(folder, describe)
    _walk(listed, folder)
    if describe and not describe.resolve().is_relative_to(folder.resolve()):
        descriptions = Survey(describe)
        _walk(descriptions, describe)
        listed.items += descriptions.items
        listed.problems += descriptions.problems
    return listed


def reference_of(name: str) -> str | None:
    """The product name in a file's name; the name itself if its product is of a wrong level."""
    try:
        product = products.find(name)
    except ProductNameError:
        return name
    return product.reference if product else None


def _walk(listed: Survey, folder: Path) -> None:
    seen: set[tuple[int, int]] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        here = Path(at)
        stat = here.stat()
        if (stat.st_dev, stat.st_ino) in seen:  # by a link that leads to a folder above or beside
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        layout = next((layout for layout in LAYOUTS if layout.find(here, files)), None)
        if layout:
            listed.products.append((here, layout))
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if _is_entered(listed, here / name))
            reasons = (
                why for pattern, why in _UNSUPPORTED.items() if any(map(pattern.fullmatch, files))
            )
            if reason := next(reasons, None):
                listed.unsupported[here] = reason
            _sort_files(listed, here, files)


def _is_entered(listed: Survey, folder: Path) -> bool:
    """Whether a folder is walked into; links are followed where they are called as a product."""
    if folder.name.startswith("."):
        return False
    is_product = reference_of(folder.name) is not None
    if is_product and folder.suffix.lower() in _OTHER_FORMATS:
        listed.problems.append(Problem(str(folder), _CONVERT))
        return False
    if folder.is_symlink() and not is_product:
        why = f"a link to another folder: register that ({folder.resolve()})"
        listed.problems.append(Problem(str(folder), why))
        return False
    return True


def _sort_files(listed: Survey, here: Path, files: Iterable[str]) -> None:
    for path in (here / name for name in sorted(files)):
        suffix = path.suffix.lower()
        if suffix in rasters.SUFFIXES:
            listed.rasters.append(path)
        elif suffix == ".json":
            _sort_json(listed, path)
        elif suffix in _ARCHIVES and reference_of(path.name):
            why = "an archive: unpack it, images are read where they lie"
            listed.problems.append(Problem(str(path), why))
        elif suffix in _OTHER_FORMATS and reference_of(path.name):
            listed.problems.append(Problem(str(path), _CONVERT))
        else:
            listed.others += 1


def _sort_json(listed: Survey, path: Path) -> None:
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        listed.problems.append(Problem(str(path), f"not readable JSON: {error}"))
        return
    if not stac.is_item(parsed):
        listed.others += 1
    elif flaw := stac.flaw(parsed):
        listed.problems.append(Problem(str(path), flaw))
    else:
        listed.items.append(ItemDescription(path, parsed))
