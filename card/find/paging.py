"""Reading all pages of a search, from servers that repeat themselves or change meanwhile."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from card.find.transport import ArchiveRequest

Entry = Mapping[str, Any]

_PASSES = 3
_PAGES = 1000
_BARREN = 3


@dataclass(frozen=True)
class Page:
    """A page of a search.

    Attributes:
        entries: what it lists.
        following: the request for the next page; None at the end.
        matched: how many entries the whole search has, where the server says so.
    """

    entries: Sequence[Entry]
    following: ArchiveRequest | None = None
    matched: int | None = None


@dataclass(frozen=True)
class Harvest:
    """All entries of a search.

    Attributes:
        entries: each once.
        complete: whether the server gave them all, as far as can be known.
    """

    entries: tuple[Entry, ...]
    complete: bool


def harvest(
    first: ArchiveRequest, read: Callable[[ArchiveRequest], Page], identify: Callable[[Entry], str]
) -> Harvest:
    """Read a search to its end.

    Where pages are counted from the start, an entry that appears or vanishes meanwhile shifts the
    others, and one may be passed over. So a search of several pages is read again until nothing
    new appears, unless the server states one and the same count on all of them and gave as many.

    Args:
        first: the request for the first page.
        read: gets a page.
        identify: what tells entries apart.

    Raises:
        CbmError: whatever `read` raises.
    """
    entries: dict[str, Entry] = {}
    for _ in range(_PASSES):
        known = len(entries)
        walk = _Walk(first, read)
        for entry in walk.entries(identify):
            entries.setdefault(identify(entry), entry)
        settled = walk.pages <= 1 or len(entries) == known
        if walk.is_counted or (walk.ended and settled and not walk.is_short):
            return Harvest(tuple(entries.values()), True)
    return Harvest(tuple(entries.values()), False)


class _Walk:
    """One pass over the pages.

    Attributes:
        pages: read so far.
        ended: whether the last page was reached, and not a page that was read before.
    """

    def __init__(self, first: ArchiveRequest, read: Callable[[ArchiveRequest], Page]) -> None:
        self.pages = 0
        self._seen: set[str] = set()
        self._counts: set[int | None] = set()
        self.ended = False
        self._next: ArchiveRequest | None = first
        self._read = read

    @property
    def is_counted(self) -> bool:
        """Whether all pages stated one count, and as many entries were on them."""
        return self._counts == {len(self._seen)}

    @property
    def is_short(self) -> bool:
        """Whether a page stated more entries than were on all of them."""
        return max((count or 0 for count in self._counts), default=0) > len(self._seen)

    def entries(self, identify: Callable[[Entry], str]) -> Iterator[Entry]:
        requested: set[str] = set()
        barren = 0
        while self._next is not None and self.pages < _PAGES and barren < _BARREN:
            requested.add(self._next.key)
            page = self._read(self._next)
            self.pages += 1
            self._counts.add(page.matched)
            fresh = {identify(entry) for entry in page.entries} - self._seen
            barren = 0 if fresh else barren + 1
            self._seen |= fresh
            yield from page.entries
            self._next = page.following
            if self._next is not None and self._next.key in requested:
                self.ended = not page.entries  # some link their empty last page to itself
                return
        self.ended = self._next is None


def known_object(value: Any) -> Mapping[str, Any]:
    """A JSON object as a source states it; an empty one if it is none."""
    return value if isinstance(value, dict) else {}
