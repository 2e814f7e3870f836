"""What a folder or a search yields: scenes, and what should be one and is not."""

from collections.abc import Iterable
from dataclasses import dataclass

from store.catalogue import Scene


@dataclass(frozen=True)
class Problem:
    """Something that should be a scene and is not one.

    Attributes:
        what: the file, folder or item.
        why: a sentence with what is wrong and what would help.
    """

    what: str
    why: str


@dataclass(frozen=True)
class Found:
    """The yield of a folder or a search.

    Attributes:
        scenes: by time, then reference; references are unique.
        problems: in the order they were met.
        others: number of files that have nothing to do with scenes.
    """

    scenes: tuple[Scene, ...]
    problems: tuple[Problem, ...]
    others: int = 0


def collect(yielded: Iterable[Scene | Problem], others: int = 0) -> Found:
    """Gather a yield; of scenes with one reference the first stays, the rest are problems."""
    scenes: dict[str, Scene] = {}
    problems = []
    for one in yielded:
        if isinstance(one, Problem):
            problems.append(one)
        elif one.reference in scenes:
            problems.append(_twice(one, scenes[one.reference]))
        else:
            scenes[one.reference] = one
    ordered = sorted(scenes.values(), key=lambda scene: (scene.obstime, scene.reference))
    return Found(tuple(ordered), tuple(problems), others)


def _twice(again: Scene, kept: Scene) -> Problem:
    places = [next(iter(scene.bands.values())).href for scene in (again, kept)]
    return Problem(again.reference, f"found twice: {places[0]} is left out for {places[1]}")
