"""Two passes of SLC over one track: which bursts belong together, and whether they may.

Bursts of repeated passes begin at the same places of the orbit. From IPF 3.40 they have ids;
before, the time after the ascending node pairs them. Slices of two passes are cut differently, so a
pass may be several products.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from card.make import annotation, burst_kernels, geometry
from card.make.annotation import Annotation, Burst
from card.make.orbit import Orbit
from card.make.products import Level1, refuse_lost
from store.errors import CallerError, MissingFactError, SceneError
from store.kinds import COHERENCE_DAYS

Floats = npt.NDArray[np.float64]

OrbitSource = Callable[[Annotation], Orbit]
"""Gives the orbit over an image's lines."""

DAYS = tuple(COHERENCE_DAYS.values())
_LARGE_SHIFT_LINES = 20.0
"""Bursts of a pair begin within a few lines of one another."""

_ANTENNA_PHASE_IPF = (2, 43)
"""From here on the antenna pattern's phase is corrected; it cancels between products without."""
_DAY = timedelta(days=1)
_ORBIT_S = 12 * 86400 / 175
_MAX_APART = 0.5
"""Of the time from burst to burst; beyond, another burst is nearer."""


@dataclass(frozen=True, eq=False)
class PassImage:
    """One sub-swath of a product, its polarisations on one geometry.

    Attributes:
        reference: the product's name.
        annotation: of its first polarisation; their geometry is the same.
        measurements: the pixels, by band.
        orbit: over its lines.
    """

    reference: str
    annotation: Annotation
    measurements: tuple[Path, ...]
    orbit: Orbit

    def line_of(self, burst: Burst) -> float:
        """Line at which a burst begins, counted in zero-Doppler time from the product's first."""
        return burst.t_s / self.annotation.line_interval_s

    def corners(self, burst: Burst) -> tuple[Floats, Floats]:
        """Longitudes and latitudes along a burst's first and last line, as the grid has them."""
        grid, described = self.annotation.grid, self.annotation
        last_s = burst.t_s + described.lines_per_burst * described.line_interval_s
        places = []
        for pixel in np.unique(grid.pixel):
            column = np.flatnonzero(grid.pixel == pixel)
            column = column[np.argsort(grid.t_s[column])]
            places += [
                [
                    np.interp(t_s, grid.t_s[column], of[column])
                    for of in (grid.lon_deg, grid.lat_deg)
                ]
                for t_s in (burst.t_s, last_s)
            ]
        lon, lat = np.array(places).T
        return lon, lat

    @property
    def ground_spacings_m(self) -> tuple[float, float]:
        """Metres on level ground from line to line, and from sample to sample at mid-swath."""
        slope = np.sin(np.radians(self.annotation.grid.incidence_deg.mean()))
        return self.annotation.azimuth_spacing_m, float(self.annotation.range_spacing_m / slope)


@dataclass(frozen=True)
class BurstPair:
    """A burst of the reference and the one of the other pass that saw the same ground.

    Attributes:
        image: the sub-swath of the reference.
        index: number of the burst in it, from 0.
        partner: the sub-swath of the other pass.
        partner_index: number of the burst in that.
    """

    image: PassImage
    index: int
    partner: PassImage
    partner_index: int

    @property
    def name(self) -> str:
        """Such as `IW1 110431`."""
        return burst_name(self.image, self.index)

    @property
    def burst(self) -> Burst:
        """The burst of the reference."""
        return self.image.annotation.bursts[self.index]

    @property
    def partner_burst(self) -> Burst:
        """The other one."""
        return self.partner.annotation.bursts[self.partner_index]

    @cached_property
    def shift_lines(self) -> float:
        """By how many lines more of the other burst than of this lie before the same ground.

        Mean over points of the annotation's grid, at its heights.
        """
        grid, described = self.image.annotation.grid, self.image.annotation
        lasts_s = described.lines_per_burst * described.line_interval_s
        near = (grid.t_s >= self.burst.t_s - lasts_s) & (grid.t_s <= self.burst.t_s + 2 * lasts_s)
        places = geometry.to_earth_fixed(
            grid.lon_deg[near], grid.lat_deg[near], grid.height_m[near]
        )
        line, other = (
            geometry.zero_doppler_s(image.orbit, places) / image.annotation.line_interval_s
            - image.line_of(burst)
            for image, burst in ((self.image, self.burst), (self.partner, self.partner_burst))
        )
        return float((other - line).mean())


@dataclass(frozen=True)
class SlcPasses:
    """Two passes over one track, their bursts paired.

    Attributes:
        reference: the later product, whose bursts are the pattern.
        partners: the slices of the earlier pass.
        bands: polarisations that all have, VV first.
        days: from the earlier pass to the later.
        pairs: bursts that belong together.
        missed: bursts of the reference without a partner, such as `IW1 110431`.
    """

    reference: Level1
    partners: tuple[Level1, ...]
    bands: tuple[str, ...]
    days: int
    pairs: tuple[BurstPair, ...]
    missed: tuple[str, ...]

    @property
    def image(self) -> PassImage:
        """The first sub-swath of the reference."""
        return self.pairs[0].image

    @cached_property
    def start(self) -> datetime:
        """Time of the reference's first line."""
        return min(pair.image.annotation.epoch for pair in self.pairs)

    @cached_property
    def stop(self) -> datetime:
        """Time of the reference's last line."""
        ends = (pair.image.annotation for pair in self.pairs)
        return max(each.epoch + timedelta(seconds=each.last_s) for each in ends)

    @cached_property
    def looks(self) -> float | None:
        """Independent looks in a window of the middle sub-swath; None if no band is annotated."""
        described = self.pairs[len(self.pairs) // 2].image.annotation
        along, across = described.azimuth_band, described.range_band
        if along is None or across is None:
            return None
        return along.looks(
            burst_kernels.WINDOW_LINES, 1 / described.line_interval_s
        ) * across.looks(burst_kernels.WINDOW_SAMPLES, described.range_sampling_hz)

    @cached_property
    def outline(self) -> list[tuple[float, float]]:
        """The convex outline of the paired bursts: longitudes and latitudes."""
        corners = [np.stack(pair.image.corners(pair.burst), axis=1) for pair in self.pairs]
        hull = shapely.get_exterior_ring(shapely.MultiPoint(np.concatenate(corners)).convex_hull)
        return [(float(lon), float(lat)) for lon, lat in shapely.get_coordinates(hull)[:-1]]

    @property
    def shift_lines(self) -> float:
        """Mean of the bursts' shifts."""
        return float(np.mean([pair.shift_lines for pair in self.pairs]))

    @property
    def warnings(self) -> list[str]:
        """What a user should hear of the pair, although it can be made."""
        if abs(self.shift_lines) <= _LARGE_SHIFT_LINES:
            return []
        return [f"bursts of the passes begin {self.shift_lines:.1f} lines apart on the ground"]

    @cached_property
    def baseline_m(self) -> float:
        """Perpendicular baseline at the middle of the paired bursts; above 0 away from the ground.

        The other pass' distance from the line of sight, in the plane across the flight.
        """
        pair = self.pairs[len(self.pairs) // 2]
        lon, lat = (np.array(of.mean()) for of in pair.image.corners(pair.burst))
        place = geometry.to_earth_fixed(
            lon, lat, np.array(pair.image.annotation.grid.height_m.mean())
        )
        (satellite, velocity), (other, _) = (
            (image.orbit.position_m(t_s), image.orbit.velocity_m_s(t_s))
            for image in (pair.image, pair.partner)
            for t_s in [geometry.zero_doppler_s(image.orbit, place)]
        )
        across = np.cross(place - satellite, velocity)
        across *= np.sign(across @ satellite) / np.linalg.norm(across)
        return float((other - satellite) @ across)


def read_products(
    reference: Level1, partners: Sequence[Level1], orbit_of: OrbitSource
) -> SlcPasses:
    """Read the metadata of two passes and pair their bursts.

    Args:
        reference: the later product.
        partners: the slices of the earlier pass that share ground with it.
        orbit_of: gives the orbit over an image's lines.

    Raises:
        CallerError: they are no pair for CARD-COH; says why.
        SceneError: a product cannot be used.
        MissingFactError: pixels were not delivered.
    """
    for product in (reference, *partners):
        _refuse_unusable(product)
    _refuse_mixed(reference, partners)
    common = set.intersection(*({*product.polarisations} for product in (reference, *partners)))
    bands = tuple(band for band in reference.polarisations if band in common)
    if not bands:
        raise CallerError(f"{reference.reference} and its pair have no polarisation in common")
    images = list(_images(reference, bands, orbit_of))
    others = [image for product in partners for image in _images(product, bands, orbit_of)]
    pairs, missed = pair_bursts(images, others)
    if not pairs:
        raise CallerError(
            f"no burst of {reference.reference} has a partner in "
            f"{', '.join(product.reference for product in partners)}: the slices lie apart"
        )
    passes = SlcPasses(reference, tuple(partners), bands, _days(pairs), tuple(pairs), tuple(missed))
    _refuse_shifted(passes)
    return passes


def pair_bursts(
    images: Iterable[PassImage], others: Sequence[PassImage]
) -> tuple[list[BurstPair], list[str]]:
    """The bursts that belong together, and the names of those of the first without a partner."""
    pairs, missed = [], []
    for image in images:
        for index, burst in enumerate(image.annotation.bursts):
            candidates = [
                (apart, BurstPair(image, index, other, number))
                for other in others
                if other.annotation.swath == image.annotation.swath
                for number, partner in enumerate(other.annotation.bursts)
                if (apart := _apart(image.annotation, burst, partner)) is not None
            ]
            if candidates:
                pairs.append(min(candidates, key=lambda candidate: candidate[0])[1])
            else:
                missed.append(burst_name(image, index))
    return pairs, missed


def burst_name(image: PassImage, index: int) -> str:
    """Sub-swath and id of a burst, or its number in the product, from 1, where it has no id."""
    known = image.annotation.bursts[index].id
    return f"{image.annotation.swath} {known or f'number {index + 1}'}"


def _apart(described: Annotation, burst: Burst, partner: Burst) -> float | None:
    """Seconds by which bursts begin apart on their orbits; None if they are others."""
    between = (partner.since_node_s - burst.since_node_s + _ORBIT_S / 2) % _ORBIT_S - _ORBIT_S / 2
    if burst.id is not None and partner.id is not None:
        return abs(between) if burst.id == partner.id else None
    cycle_s = described.lines_per_burst * described.line_interval_s
    if len(described.bursts) > 1:
        cycle_s = float(np.median(np.diff([each.t_s for each in described.bursts])))
    return abs(between) if abs(between) < _MAX_APART * cycle_s else None


def _refuse_unusable(product: Level1) -> None:
    if product.type != "SLC":
        raise SceneError(f"{product.folder}: CARD-COH is made of SLC, not of a {product.type}")
    present = {channel.polarisation for channel in product.channels if channel.measurement}
    lost = {*product.polarisations} - present
    lost |= {channel.polarisation for channel in product.channels if not channel.measurement}
    refuse_lost(product, lost)


def _refuse_mixed(reference: Level1, partners: Sequence[Level1]) -> None:
    for partner in partners:
        if partner.relative_orbit != reference.relative_orbit:
            raise CallerError(
                f"{reference.reference} is of relative orbit {reference.relative_orbit}, "
                f"{partner.reference} of {partner.relative_orbit}: only one track has coherence"
            )
        if (partner.ipf < _ANTENNA_PHASE_IPF) != (reference.ipf < _ANTENNA_PHASE_IPF):
            raise CallerError(
                f"{reference.reference} and {partner.reference}: one was made before IPF 2.43, "
                "without the antenna pattern's phase, one after; get one of them reprocessed"
            )


def _images(product: Level1, bands: Sequence[str], orbit_of: OrbitSource) -> Iterator[PassImage]:
    """The sub-swaths of a product in order, where all bands are there."""
    for swath in sorted({channel.swath for channel in product.channels}):
        channels = {c.polarisation: c for c in product.channels if c.swath == swath}
        if lost := sorted({*bands} - {*channels}):
            raise MissingFactError(
                f"{product.folder}: {swath} lacks {'/'.join(lost)}: copy all of it"
            )
        described = [annotation.read(channels[band].annotation) for band in bands]
        _refuse_differing(described)
        first = described[0]
        if not first.bursts or not first.doppler or not first.fm_rates:
            raise SceneError(f"{first.path}: it has no bursts, Doppler centroids or FM rates")
        paths = tuple(p for band in bands if (p := channels[band].measurement))
        yield PassImage(product.reference, first, paths, orbit_of(first))


def _refuse_differing(described: Sequence[Annotation]) -> None:
    first = described[0]
    for other in described[1:]:
        same = (
            (other.lines, other.samples, other.epoch, other.near_slant_time_s)
            == (first.lines, first.samples, first.epoch, first.near_slant_time_s)
            and [burst.t_s for burst in other.bursts] == [burst.t_s for burst in first.bursts]
        )  # fmt: skip
        if not same:
            raise SceneError(f"{other.path}: its geometry is not that of {first.path.name}")


def _days(pairs: Sequence[BurstPair]) -> int:
    """Days between passes.

    Raises:
        CallerError: they are none of `DAYS`, differ, or the reference is the earlier.
    """
    apart = {
        round((_begin(p.image, p.burst) - _begin(p.partner, p.partner_burst)) / _DAY) for p in pairs
    }
    names = f"{pairs[0].image.reference} and {pairs[0].partner.reference}"
    days, *others = sorted(apart)
    if others:
        raise CallerError(f"{names} and the rest: the slices are of several passes, {apart} days")
    if -days in DAYS:
        raise CallerError(
            f"{pairs[0].image.reference} is the earlier pass: name the later one first"
        )
    if days not in DAYS:
        raise CallerError(f"{names} are {abs(days)} days apart: CARD-COH is of 1, 6 or 12 days")
    return days


def _begin(image: PassImage, burst: Burst) -> datetime:
    return image.annotation.epoch + timedelta(seconds=burst.t_s)


def _refuse_shifted(passes: SlcPasses) -> None:
    limit = passes.image.annotation.lines_per_burst / 2
    if abs(passes.shift_lines) > limit:
        raise CallerError(
            f"{passes.reference.reference}: its bursts begin {passes.shift_lines:.0f} lines from "
            f"their partners' on the ground, more than half a burst: no coherence on such a day"
        )
