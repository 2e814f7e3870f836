"""Delivery of a finished product: whole in its place or not there, in a folder or a bucket."""

import filecmp
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from card.find import folder as folders
from card.make import item
from store import objects
from store.catalogue import Scene
from store.errors import ConflictError, NotFoundError, SceneError

_DESCRIPTIONS = (".json", ".dim")


@dataclass(frozen=True)
class CardDelivery:
    """A product and where it goes.

    Attributes:
        folder: the finished product on this machine, called by its name.
        shelf: where products lie: a folder on the same file system, or s3://bucket/prefix.
        replace: take away a product made otherwise.
        repeatable: the engine gives the same bytes each time, so that others are a conflict.
    """

    folder: Path
    shelf: str
    replace: bool
    repeatable: bool

    @property
    def place(self) -> str:
        """Where the product belongs."""
        return f"{self.shelf.rstrip('/')}/{self.folder.name}"

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in _files(self.folder))

    def scene(self) -> Scene:
        """The product as catalogue row, its bands where they will lie.

        Raises:
            SceneError: it is no scene that can be read.
        """
        found = folders.scan(self.folder)
        if len(found.scenes) != 1 or found.problems:
            reasons = "; ".join(problem.why for problem in found.problems) or "no scene in it"
            raise SceneError(f"{self.folder.name} was made, but cannot be read: {reasons}")
        scene, here = found.scenes[0], f"{self.folder.absolute()}/"
        bands = {
            name: replace(source, href=f"{self.place}/{source.href.removeprefix(here)}")
            for name, source in scene.bands.items()
        }
        return replace(scene, bands=bands)

    def deliver(self, lock: Callable[[], AbstractContextManager[None]]) -> None:
        """Put the product in its place.

        A folder appears by one rename. In a bucket each object appears whole, the description last:
        a product without one is not finished.

        Args:
            lock: holds our claim on the product, for the step that publishes it.

        Raises:
            ConflictError: a product of that name is there, made otherwise.
        """
        if self.shelf.startswith("s3://"):
            self._upload(lock)
            return
        place = Path(self.place)
        with lock():
            if self.replace or not self._is_there(place):
                item.publish(self.folder, place, replace=self.replace)

    def _is_there(self, place: Path) -> bool:
        """Whether the same product is there already; one made otherwise is a conflict."""
        if not place.exists():
            return False
        if self.repeatable and not _same(self.folder, place):
            raise _conflict(self.place)
        return True

    def _upload(self, lock: Callable[[], AbstractContextManager[None]]) -> None:
        *others, last = sorted(_files(self.folder), key=lambda path: (self._is_last(path), path))
        if self.repeatable and not self.replace:
            known = _read(self._href(last))
            if known is not None and known != last.read_bytes():
                raise _conflict(self.place)
        for path in others:
            objects.put_object(self._href(path), path)
        with lock():
            objects.put_object(self._href(last), last)

    def _is_last(self, path: Path) -> bool:
        return path.parent == self.folder and path.suffix in _DESCRIPTIONS

    def _href(self, path: Path) -> str:
        return f"{self.place}/{path.relative_to(self.folder)}"


def _conflict(place: str) -> ConflictError:
    return ConflictError(
        f"{place} is there already, made otherwise: move it away, or queue it with --replace"
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names = [sorted(path.relative_to(each) for path in _files(each)) for each in (one, other)]
    return names[0] == names[1] and all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names[0]
    )


def _read(href: str) -> bytes | None:
    try:
        return objects.read_object(href)
    except NotFoundError:
        return None
