"""Loose rasters grouped by scene, and the STAC Items that describe them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from card.find import facts, rasters, stac
from card.find.facts import Facts
from card.find.scan_result import Problem
from card.find.survey import ItemDescription
from store import products
from store.catalogue import Scene
from store.errors import MissingFactError, ProductNameError
from store.kinds import COHERENCE_DAYS, KINDS
from store.products import Product


@dataclass(frozen=True)
class RasterGroup:
    """Rasters of one scene: by the product name they carry, else by folder and common stem.

    Attributes:
        product: of the name, if it has one.
        home: folder of the files, or the one above with the product's name.
        stem: common part of the files' names.
        files: the rasters.
    """

    product: Product | None
    home: Path
    stem: str
    files: tuple[Path, ...]

    @property
    def names(self) -> set[str]:
        """Names that a description of the scene may have."""
        reference = {self.product.reference} if self.product else set()
        return {path.stem for path in self.files} | {self.stem or self.home.name} | reference

    @property
    def place(self) -> Path:
        """The file, or folder and stem of several."""
        return self.files[0] if len(self.files) == 1 else self.home / self.stem


def group_rasters(folder: Path, paths: Iterable[Path]) -> tuple[list[RasterGroup], list[Problem]]:
    """Rasters by scene, and a problem for each folder whose name is of a wrong product level."""
    members: dict[tuple[Path, str], list[Path]] = {}
    known: dict[tuple[Path, str], Product | None] = {}
    refused: dict[Path, Problem] = {}
    for path in paths:
        try:
            product, home = _product_of(path, folder)
        except ProductNameError as error:
            refused[path.parent] = Problem(str(path.parent), str(error))
            continue
        stem = rasters.without_band(path.stem) if rasters.band_name(path.stem) else path.stem
        key = (home, product.reference if product else stem)
        known[key] = product
        members.setdefault(key, []).append(path)
    groups = [RasterGroup(known[k], k[0], k[1], tuple(files)) for k, files in members.items()]
    return groups, list(refused.values())


def pair(groups: list[RasterGroup], items: list[ItemDescription]) -> dict[int, ItemDescription]:
    """By number of the group, the item of its name; else the only one beside it alone."""
    called = {name: item for item in reversed(items) for name in item.names}
    groups_in = Counter(group.home for group in groups)
    items_in = Counter(item.path.parent for item in items)
    beside = {item.path.parent: item for item in items if items_in[item.path.parent] == 1}
    pairs = {}
    for number, group in enumerate(groups):
        named = next((called[name] for name in sorted(group.names) if name in called), None)
        alone = beside.get(group.home) if groups_in[group.home] == 1 else None
        if description := named or alone:
            pairs[number] = description
    return pairs


def read_group(group: RasterGroup, description: ItemDescription | None) -> Scene:
    """The scene of some rasters, with its description if there is one.

    Raises:
        SceneError: a raster cannot be used, or a needed fact is stated nowhere.
    """
    if description:
        return stac.scene_from_item(description.item, description.path.parent, group.files)
    read = rasters.facts(group.files)
    if not read.bands and group.product and group.product.kind in COHERENCE_DAYS:
        # Coherence products hold the bands in the order of their kind.
        read = rasters.facts(group.files, KINDS[group.product.kind].band_names)
    named = facts.of_product(group.product) if group.product else Facts()
    try:
        return facts.scene(facts.combine(named, read), str(group.place))
    except MissingFactError as error:
        name = f"{group.stem or group.home.name}.json"
        raise MissingFactError(f"{error}. State it in a STAC Item called {name}") from None


def _product_of(path: Path, folder: Path) -> tuple[Product | None, Path]:
    """The product of a file, by its own name or that of a folder above; and its home."""
    product = products.find(path.stem)
    if product:
        return product, path.parent
    for above in (place for place in path.parents if place.is_relative_to(folder)):
        product = products.find(above.absolute().name)
        if product:
            return product, above
    return None, path.parent
