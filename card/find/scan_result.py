"""The result of a scan or a search: scenes, inputs, and problems with what should be one."""

from collections.abc import Iterable
from dataclasses import dataclass

from store.catalogue import Scene
from store.inputs import InputProduct


@dataclass(frozen=True)
class Problem:
    """A file, folder or item that should be a scene and cannot be one.

    Attributes:
        what: path of the file or folder, or name of the item.
        why: the reason and the remedy, in a sentence.
    """

    what: str
    why: str


@dataclass(frozen=True)
class ScanResult:
    """The scenes, inputs and problems of a folder or a search.

    Attributes:
        scenes: by time, then reference; references are unique.
        problems: in the order they were met.
        others: number of files of other kinds.
        inputs: Level-1 products, likewise.
    """

    scenes: tuple[Scene, ...]
    problems: tuple[Problem, ...]
    others: int = 0
    inputs: tuple[InputProduct, ...] = ()


def collect(results: Iterable[Scene | InputProduct | Problem], others: int = 0) -> ScanResult:
    """The sorted result; of those with one reference the first stays, the rest are problems."""
    scenes: dict[str, Scene] = {}
    inputs: dict[str, InputProduct] = {}
    problems = []
    for each in results:
        if isinstance(each, Problem):
            problems.append(each)
        elif each.reference in scenes or each.reference in inputs:
            kept = scenes.get(each.reference) or inputs[each.reference]
            why = f"found twice: {_place(each)} is left out for {_place(kept)}"
            problems.append(Problem(each.reference, why))
        elif isinstance(each, Scene):
            scenes[each.reference] = each
        else:
            inputs[each.reference] = each
    return ScanResult(
        tuple(sorted(scenes.values(), key=lambda scene: (scene.obstime, scene.reference))),
        tuple(problems),
        others,
        tuple(sorted(inputs.values(), key=lambda one: (one.sensing_start, one.reference))),
    )


def _place(found: Scene | InputProduct) -> str:
    return found.href if isinstance(found, InputProduct) else next(iter(found.bands.values())).href
