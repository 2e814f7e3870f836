"""Finding scenes in a folder: SAFE and BEAM-DIMAP products, rasters, and STAC Items for them."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from card import dimap, facts, rasters, safe, stac
from card.facts import Facts
from card.found import Found, Problem, collect
from store import products
from store.catalogue import Scene
from store.errors import CallerError, MissingFactError, ProductNameError, SceneError
from store.products import BANDS, Product


@dataclass
class _Survey:
    """All files of a folder by what they may be."""

    safes: list[Path] = field(default_factory=list)
    dimaps: list[Path] = field(default_factory=list)
    rasters: list[Path] = field(default_factory=list)
    jsons: list[Path] = field(default_factory=list)
    archives: list[Path] = field(default_factory=list)
    others: int = 0


@dataclass(frozen=True)
class _Description:
    """A STAC Item in a file."""

    path: Path
    item: stac.Item

    @property
    def names(self) -> frozenset[str]:
        """What a scene may be called to be the one described: file stem, id, product name."""
        stem = self.path.stem
        bare = Path(stem).stem if Path(stem).suffix.lower() in rasters.SUFFIXES else stem
        names = {stem, bare, str(self.item.get("id"))}
        return frozenset(names | {r for r in map(_reference, names) if r})


@dataclass(frozen=True)
class _Group:
    """Rasters of one scene: by the product name they carry, else by folder and common stem."""

    product: Product | None
    home: Path
    stem: str
    files: tuple[Path, ...]

    @property
    def names(self) -> set[str]:
        """What a description of the scene may be called."""
        reference = {self.product.reference} if self.product else set()
        return {path.stem for path in self.files} | {self.stem or self.home.name} | reference


def scan(folder: Path, describe: Path | None = None) -> Found:
    """Find all scenes below a folder.

    Products with metadata of their own (SAFE, BEAM-DIMAP) speak for themselves. Other rasters are
    scenes by the product name in their file's or folder's name and by what they say themselves;
    what they don't say comes from a STAC Item of that name beside them or in `describe`.

    Args:
        folder: where to look, with all folders below.
        describe: folder with descriptions, if they don't lie beside the files.

    Raises:
        CallerError: one of the folders does not exist.
    """
    for place in filter(None, (folder, describe)):
        if not place.is_dir():
            raise CallerError(f"{place} is not a folder")
    survey = _survey(folder)
    if describe and not describe.resolve().is_relative_to(folder.resolve()):
        survey.jsons += _survey(describe).jsons
    items, broken, strangers = _descriptions(survey.jsons)
    yielded = [*broken, *_scenes(folder, describe, survey, items)]
    return collect(yielded, survey.others + strangers)


def _survey(folder: Path) -> _Survey:
    found = _Survey()
    for at, folders, files in os.walk(folder):
        here = Path(at)
        if here.suffix == ".SAFE" or safe.METADATA in files:
            found.safes.append(here)
            folders.clear()
        elif here.suffix == ".data" and any(name.endswith(".img") for name in files):
            found.dimaps.append(here)
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            _sort_files(found, here, files)
    return found


def _sort_files(found: _Survey, here: Path, files: Iterable[str]) -> None:
    for path in (here / name for name in sorted(files)):
        suffix = path.suffix.lower()
        if suffix in rasters.SUFFIXES:
            found.rasters.append(path)
        elif suffix == ".json":
            found.jsons.append(path)
        elif suffix in (".zip", ".tar") and _reference(path.stem):
            found.archives.append(path)
        else:
            found.others += 1


def _descriptions(paths: Iterable[Path]) -> tuple[list[_Description], list[Problem], int]:
    """The STAC Items among JSON files, files that are broken, and the number of others."""
    items, broken, strangers = [], [], 0
    for path in paths:
        try:
            parsed = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            broken.append(Problem(str(path), f"not readable JSON: {error}"))
            continue
        if stac.is_item(parsed):
            items.append(_Description(path, parsed))
        else:
            strangers += 1
    return items, broken, strangers


def _scenes(
    folder: Path, describe: Path | None, survey: _Survey, items: list[_Description]
) -> Iterator[Scene | Problem]:
    own = [_attempt(path, partial(safe.read, path)) for path in survey.safes]
    own += [_attempt(path, partial(dimap.read, path)) for path in survey.dimaps]
    yield from own
    for path in survey.archives:
        yield Problem(str(path), "an archive: unpack it, images are read where they lie")
    done = {one.reference for one in own if isinstance(one, Scene)}
    rest: list[_Description] = []
    taken: set[Path] = set()
    for one in (item for item in items if not item.names & done):
        base = _base(one, folder, describe)
        if base is None:
            rest.append(one)
            continue
        taken.update(path.resolve() for path in stac.local_files(one.item, base).values())
        yield _attempt(one.path, partial(stac.scene_from_item, one.item, base))
    groups, refused = _groups(folder, [p for p in survey.rasters if p.resolve() not in taken])
    yield from refused
    yield from _of_groups(groups, rest, folder)


def _base(one: _Description, folder: Path, describe: Path | None) -> Path | None:
    """The folder in which an item's assets are files: its own, or its counterpart's."""
    here = one.path.parent
    bases = [here, folder]
    if describe and here.is_relative_to(describe):
        bases.insert(1, folder / here.relative_to(describe))
    return next((base for base in bases if stac.local_files(one.item, base)), None)


def _of_groups(
    groups: list[_Group], items: list[_Description], folder: Path
) -> Iterator[Scene | Problem]:
    """Scenes of rasters with the items called like them, and of items that stand alone."""
    described = _pairs(groups, items)
    for number, group in enumerate(groups):
        one = described.get(number)
        if one is None:
            make = partial(_of_rasters, group)
        else:
            make = partial(stac.scene_from_item, one.item, one.path.parent, group.files)
        yield _attempt(_what(group), make)
    used = {one.path for one in described.values()}
    for one in (item for item in items if item.path not in used):
        if stac.is_remote(one.item) and one.path.is_relative_to(folder):
            yield _attempt(one.path, partial(stac.scene_from_item, one.item, one.path.parent))
        else:
            yield Problem(str(one.path), f"describes no file in {folder}: name it like its scene")


def _pairs(groups: list[_Group], items: list[_Description]) -> dict[int, _Description]:
    """By number of the group, the item called like it; else the only one beside it alone."""
    called = {name: item for item in reversed(items) for name in item.names}
    groups_in = Counter(group.home for group in groups)
    items_in = Counter(item.path.parent for item in items)
    beside = {item.path.parent: item for item in items if items_in[item.path.parent] == 1}
    pairs = {}
    for number, group in enumerate(groups):
        named = next((called[name] for name in sorted(group.names) if name in called), None)
        alone = beside.get(group.home) if groups_in[group.home] == 1 else None
        if one := named or alone:
            pairs[number] = one
    return pairs


def _groups(folder: Path, paths: Iterable[Path]) -> tuple[list[_Group], list[Problem]]:
    """Rasters by scene, and those whose name says that they can be none."""
    members: dict[tuple[Path, str], list[Path]] = {}
    known: dict[tuple[Path, str], Product | None] = {}
    refused: dict[Path, Problem] = {}
    for path in paths:
        try:
            product, home = _named(path, folder)
        except ProductNameError as error:
            refused[path.parent] = Problem(str(path.parent), str(error))
            continue
        stem = rasters.without_band(path.stem) if rasters.band_name(path.stem) else path.stem
        key = (home, product.reference if product else stem)
        known[key] = product
        members.setdefault(key, []).append(path)
    groups = [_Group(known[k], k[0], k[1], tuple(files)) for k, files in members.items()]
    return groups, list(refused.values())


def _named(path: Path, folder: Path) -> tuple[Product | None, Path]:
    """The product a file belongs to, by its own name or a folder's above; and its home."""
    product = products.find(path.stem)
    if product:
        return product, path.parent
    for above in (place for place in path.parents if place.is_relative_to(folder)):
        product = products.find(above.absolute().name)
        if product:
            return product, above
    return None, path.parent


def _of_rasters(group: _Group) -> Scene:
    """The scene of rasters that nothing describes."""
    said = rasters.facts(group.files)
    if not said.bands and group.product and group.product.kind in ("c6", "c12"):
        said = rasters.facts(group.files, BANDS[group.product.kind])  # the product's own order
    named = facts.of_product(group.product) if group.product else Facts()
    try:
        return facts.scene(facts.combine(named, said), str(_what(group)))
    except MissingFactError as error:
        name = f"{group.stem or group.home.name}.json"
        raise MissingFactError(f"{error}. Say it in a STAC Item called {name}") from None


def _what(group: _Group) -> Path:
    return group.files[0] if len(group.files) == 1 else group.home / group.stem


def _attempt(what: Path, make: Callable[[], Scene]) -> Scene | Problem:
    try:
        return make()
    except (SceneError, CallerError) as error:
        return Problem(str(what), str(error).removeprefix(f"{what}: "))


def _reference(name: str) -> str | None:
    try:
        product = products.find(name)
    except ProductNameError:
        return name
    return product.reference if product else None
