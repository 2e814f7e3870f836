"""Pairs of SLC products for coherence: a product and its predecessor on the same track."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from store.inputs import InputProduct
from store.kinds import COHERENCE_DAYS

INTERVALS_D = tuple(COHERENCE_DAYS.values())

_TANDEM = {"S1C", "S1D"}
_BURST = timedelta(seconds=2.7)
"""Shortest overlap of use: an IW burst lasts 2.76 s."""


@dataclass(frozen=True)
class Pair:
    """An SLC and what was seen of its ground before.

    Attributes:
        product: the later acquisition.
        predecessors: the slices of the earlier one that share ground with it, in order of time.
        days: between the two.
        bursts: ids of the bursts that both have; empty where they are not known.
    """

    product: InputProduct
    predecessors: tuple[InputProduct, ...]
    days: int
    bursts: tuple[str, ...] = ()


def find_pairs(
    products: Iterable[InputProduct], intervals_d: Sequence[int] = INTERVALS_D
) -> list[Pair]:
    """All pairs among SLC products, in order of the later one's time, then of the interval.

    Passes of one relative orbit repeat to within seconds, whichever satellite flies them, so the
    earlier slices are laid over the later one by whole days. Slices of two passes are cut
    differently: one product may have several predecessors.

    Args:
        products: others than SLC are left out, and so are those that are absent.
        intervals_d: days to look back.
    """
    tracks: dict[int, list[InputProduct]] = defaultdict(list)
    there = (one for one in products if one.level == "SLC" and one.state != "absent")
    for product in latest_of_slices(there):
        tracks[product.relative_orbit].append(product)
    found = [
        pair
        for track in tracks.values()
        for later in track
        for days in intervals_d
        if (pair := _pair(later, track, days))
    ]
    return sorted(found, key=lambda pair: (pair.product.sensing_start, pair.days))


def latest_of_slices(products: Iterable[InputProduct]) -> list[InputProduct]:
    """One product of each slice, where some were processed twice; in order of time.

    It is one that is online if there is such a one, and then the one named last.
    """
    slices: dict[tuple[str, int, str], InputProduct] = {}
    for product in sorted(products, key=lambda one: (one.state == "online", one.reference)):
        start = f"{product.sensing_start:%Y%m%dT%H%M%S}"
        slices[product.platform, product.orbit_number, start] = product
    return sorted(slices.values(), key=lambda one: one.sensing_start)


def _pair(later: InputProduct, track: Sequence[InputProduct], days: int) -> Pair | None:
    earlier = [one for one in track if _is_predecessor(one, later, days)]
    if not earlier:
        return None
    if not later.bursts or not all(one.bursts for one in earlier):
        return Pair(later, tuple(earlier), days)
    shared = [one for one in earlier if set(one.bursts) & set(later.bursts)]
    bursts = {burst for one in shared for burst in one.bursts} & set(later.bursts)
    return Pair(later, tuple(shared), days, tuple(sorted(bursts))) if shared else None


def _is_predecessor(earlier: InputProduct, later: InputProduct, days: int) -> bool:
    if days == 1 and {earlier.platform, later.platform} != _TANDEM:
        return False
    shift = timedelta(days=days)
    start = max(earlier.sensing_start + shift, later.sensing_start)
    stop = min(earlier.sensing_stop + shift, later.sensing_stop)
    return stop - start >= _BURST
