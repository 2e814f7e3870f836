"""What the XML files of a Level-1 product state, in numbers: annotation, calibration and noise.

Names and meanings are those of ESA's product specification (S1-RS-MDA-52-7441). All times are
seconds after the product's first line, float64.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from card.make import orbit, xmlfile
from card.make.orbit import StateVectors
from card.make.xmlfile import XmlNode
from store.errors import SceneError

Floats = npt.NDArray[np.float64]

SPEED_OF_LIGHT_M_S = 299792458.0
_ORBIT_FIELDS = ("time", *(f"{what}/{axis}" for what in ("position", "velocity") for axis in "xyz"))
_OLD_NOISE_IPF, _OLD_NOISE_UNSCALED_IPF, _NOISE_LINEAR_IPF = (2, 90), (2, 50), (2, 34)
_BAND_NODES = 401
_OLD_NOISE_SCALE = 75088.7
"""Of IW before IPF 2.5: ESA's note MPC-0392, as pyroSAR applies it."""


@dataclass(frozen=True)
class RangeConversions:
    """Polynomials from ground to slant range, and when they were updated.

    Attributes:
        t_s: float64[n], increasing.
        ground0_m: float64[n], gr0: the polynomials are in (ground range - gr0).
        coefficients_m: float64[n, k], grsrCoefficients, lowest power first.
    """

    t_s: Floats
    ground0_m: Floats
    coefficients_m: Floats


@dataclass(frozen=True)
class RangePolynomial:
    """A polynomial in two-way slant range time minus its own t0, valid about one azimuth time.

    Attributes:
        t_s: azimuth time.
        t0_s: slant range time at which its argument is 0.
        coefficients: lowest power first; Hz, or Hz/s for FM rates.
    """

    t_s: float
    t0_s: float
    coefficients: Floats


@dataclass(frozen=True)
class FrequencyBand:
    """A processed band of frequencies, weighted by a Hamming window.

    Attributes:
        width_hz: its width.
        window: coefficient; 1 is no window.
    """

    width_hz: float
    window: float

    def looks(self, pixels: int, sampling_hz: float) -> float:
        """Independent looks in a row of pixels: n^2 over the sum of their squared correlations."""
        cycles = np.linspace(-0.5, 0.5, _BAND_NODES)
        power = (self.window + (1 - self.window) * np.cos(2 * np.pi * cycles)) ** 2
        apart = (
            np.subtract.outer(np.arange(pixels), np.arange(pixels)) * self.width_hz / sampling_hz
        )
        waves = np.cos(2 * np.pi * apart[..., None] * cycles)
        correlation = waves @ power / power.sum()
        return float(pixels**2 / (correlation**2).sum())


@dataclass(frozen=True)
class Burst:
    """One burst of a TOPS sub-swath.

    Attributes:
        t_s: azimuth time of its first line.
        since_node_s: time after the ascending node, which pairs bursts of two passes.
        sensing_s: sensing time of its first line.
        id: relative burst id, from IPF 3.40; None before.
        first_valid_px: int32[lines], first valid sample of each line, -1 where none is.
        last_valid_px: int32[lines], the last valid sample.
    """

    t_s: float
    since_node_s: float
    sensing_s: float
    id: int | None
    first_valid_px: npt.NDArray[np.int32]
    last_valid_px: npt.NDArray[np.int32]


@dataclass(frozen=True)
class GeolocationGrid:
    """Points that the processor located: heights are terrain's, 10 to 25 km apart.

    Attributes:
        t_s: float64[n], azimuth time.
        slant_time_s: float64[n], two-way.
        line: float64[n].
        pixel: float64[n].
        lat_deg: float64[n].
        lon_deg: float64[n].
        height_m: float64[n], above the ellipsoid.
        incidence_deg: float64[n].
    """

    t_s: Floats
    slant_time_s: Floats
    line: Floats
    pixel: Floats
    lat_deg: Floats
    lon_deg: Floats
    height_m: Floats
    incidence_deg: Floats


@dataclass(frozen=True)
class Annotation:
    """The annotation of one image of a product: one polarisation, one sub-swath.

    Attributes:
        path: the file.
        platform: S1A, S1B ...
        product_type: GRD or SLC.
        mode: IW, EW, WV, S1 ... S6.
        swath: IW for a GRD, IW1 ... for an SLC.
        polarisation: VV, VH, HH or HV.
        orbit_number: absolute.
        orbit_direction: ascending or descending.
        epoch: time of the first line, UTC; every time here counts from it.
        last_s: time of the last line.
        lines: number of lines.
        samples: number of pixels in a line.
        line_interval_s: time between lines.
        azimuth_spacing_m: distance between lines on the ground.
        range_spacing_m: between pixels: ground range of a GRD, slant range of an SLC.
        near_slant_time_s: two-way time to the first pixel.
        range_sampling_hz: of an SLC's pixels.
        frequency_hz: of the carrier.
        steering_rate_deg_s: of the antenna in azimuth.
        range_band: processed band of the sub-swath in range; None where not annotated.
        azimuth_band: the same in azimuth.
        vectors: state vectors of the orbit.
        conversions: ground to slant range; None for an SLC.
        doppler: data Doppler centroids.
        fm_rates: azimuth FM rates.
        bursts: none in a GRD.
        lines_per_burst: 0 in a GRD.
        grid: the geolocation grid.
    """

    path: Path
    platform: str
    product_type: str
    mode: str
    swath: str
    polarisation: str
    orbit_number: int
    orbit_direction: str
    epoch: datetime
    last_s: float
    lines: int
    samples: int
    line_interval_s: float
    azimuth_spacing_m: float
    range_spacing_m: float
    near_slant_time_s: float
    range_sampling_hz: float
    frequency_hz: float
    steering_rate_deg_s: float
    range_band: FrequencyBand | None
    azimuth_band: FrequencyBand | None
    vectors: StateVectors
    conversions: RangeConversions | None
    doppler: tuple[RangePolynomial, ...]
    fm_rates: tuple[RangePolynomial, ...]
    bursts: tuple[Burst, ...]
    lines_per_burst: int
    grid: GeolocationGrid


@dataclass(frozen=True)
class LookupTable:
    """Values on lines and pixels of an image, bilinear between, the nearest beyond.

    Attributes:
        lines: float64[n], increasing; may begin before the image.
        pixels: float64[m], increasing.
        values: float64[n, m].
    """

    lines: Floats
    pixels: Floats
    values: Floats

    def window(
        self, line0: int, line1: int, pixel0: int, pixel1: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """What a loop over a window needs, ends excluded.

        Returns:
            (profiles float32[k, pixels], index int64[lines], weight float32[lines]): the value at a
            line is profiles[index] + weight * (profiles[index + 1] - profiles[index]).
        """
        lines = np.clip(np.arange(line0, line1, dtype=np.float64), self.lines[0], self.lines[-1])
        index = np.clip(np.searchsorted(self.lines, lines, "right") - 1, 0, self.lines.size - 2)
        first, last = int(index[0]), int(index[-1]) + 2
        weight = (lines - self.lines[index]) / (self.lines[index + 1] - self.lines[index])
        pixels = np.arange(pixel0, pixel1)
        rows = [np.interp(pixels, self.pixels, row) for row in self.values[first:last]]
        return np.array(rows, np.float32), index - first, weight.astype(np.float32)


@dataclass(frozen=True)
class NoiseBlock:
    """A factor on the noise along lines, for a rectangle of the image.

    Attributes:
        swath: the sub-swath it belongs to.
        line0: first line of the rectangle.
        line1: the line after its last.
        pixel0: first pixel.
        pixel1: the pixel after its last.
        lines: float64[n], increasing.
        factors: float64[n].
    """

    swath: str
    line0: int
    line1: int
    pixel0: int
    pixel1: int
    lines: Floats
    factors: Floats


@dataclass(frozen=True)
class Calibration:
    """Calibration tables of one image: squared pixel value / squared table is a coefficient.

    Attributes:
        beta: for beta0.
        gamma: for gamma0 on the ellipsoid.
        dn: float, A_dn at the image's first pixel, which scales old noise.
    """

    beta: LookupTable
    gamma: LookupTable
    dn: float


@dataclass(frozen=True)
class Noise:
    """Thermal noise of one image, in squared pixel values.

    Attributes:
        range: along range.
        blocks: factors along azimuth, from IPF 2.90; none before.
    """

    range: LookupTable
    blocks: tuple[NoiseBlock, ...]

    @property
    def is_zero(self) -> bool:
        """Whether the product states no noise at all, as IPF 2.36 does."""
        return not self.range.values.any()

    def factors(self, line0: int, line1: int, pixel0: int, pixel1: int) -> npt.NDArray[np.float32]:
        """Factors float32[line1 - line0, pixel1 - pixel0] on the noise along range."""
        factors = np.ones((line1 - line0, pixel1 - pixel0), np.float32)
        for block in self.blocks:
            rows = slice(max(block.line0 - line0, 0), max(block.line1 - line0, 0))
            columns = slice(max(block.pixel0 - pixel0, 0), max(block.pixel1 - pixel0, 0))
            part = factors[rows, columns]
            lines = line0 + rows.start + np.arange(part.shape[0])
            part[:] = np.interp(lines, block.lines, block.factors)[:, None]
        return factors


def read(path: Path) -> Annotation:
    """Read an annotation file.

    Raises:
        SceneError: it lacks something, or contradicts itself; says what.
    """
    root = xmlfile.read(path)
    header, image = root.node("adsHeader"), root.node("imageAnnotation/imageInformation")
    general = root.node("generalAnnotation")
    product = general.node("productInformation")
    epoch = image.time("productFirstLineUtcTime")
    annotation = Annotation(
        path=path,
        platform=header.text("missionId"),
        product_type=header.text("productType"),
        mode=header.text("mode"),
        swath=header.text("swath"),
        polarisation=header.text("polarisation"),
        orbit_number=header.count("absoluteOrbitNumber"),
        orbit_direction=product.text("pass").lower(),
        epoch=epoch,
        last_s=_seconds(image, "productLastLineUtcTime", epoch),
        lines=image.count("numberOfLines"),
        samples=image.count("numberOfSamples"),
        line_interval_s=image.number("azimuthTimeInterval"),
        azimuth_spacing_m=image.number("azimuthPixelSpacing"),
        range_spacing_m=image.number("rangePixelSpacing"),
        near_slant_time_s=image.number("slantRangeTime"),
        range_sampling_hz=product.number("rangeSamplingRate"),
        frequency_hz=product.number("radarFrequency"),
        steering_rate_deg_s=product.number("azimuthSteeringRate"),
        range_band=_band(root, "rangeProcessing"),
        azimuth_band=_band(root, "azimuthProcessing"),
        vectors=orbit.from_nodes(
            general.nodes("orbitList/orbit"), epoch, _ORBIT_FIELDS, "annotation"
        ),
        conversions=_conversions(root, epoch),
        doppler=_doppler(root, epoch),
        fm_rates=_fm_rates(general, epoch),
        bursts=_bursts(root.node("swathTiming"), epoch),
        lines_per_burst=int(root.node("swathTiming").number("linesPerBurst")),
        grid=_grid(root, epoch),
    )
    _refuse_nonsense(annotation)
    return annotation


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        SceneError: it lacks something, or a table holds a value that is not above 0.
    """
    vectors = xmlfile.read(path).nodes("calibrationVectorList/calibrationVector")
    beta, gamma = (_table(path, vectors, name) for name in ("betaNought", "gamma"))
    if not (beta.values > 0).all() or not (gamma.values > 0).all():
        raise SceneError(f"{path}: a calibration table holds a value that is not above 0")
    return Calibration(beta, gamma, float(vectors[0].numbers("dn")[0]))


def read_noise(path: Path, ipf: tuple[int, int], dn: float) -> Noise:
    """Read a noise file, of the layout that the processor's version wrote.

    Args:
        path: the file.
        ipf: version of ESA's processor, such as (3, 40).
        dn: A_dn of the calibration: until IPF 2.5 tables are in units of their own.

    Raises:
        SceneError: it lacks something.
    """
    root = xmlfile.read(path)
    if root.has("noiseVectorList"):
        table = _table(path, root.nodes("noiseVectorList/noiseVector"), "noiseLut")
        return Noise(replace(table, values=table.values * _old_scale(ipf, dn)), ())
    table = _table(path, root.nodes("noiseRangeVectorList/noiseRangeVector"), "noiseRangeLut")
    blocks = [
        _noise_block(node) for node in root.nodes("noiseAzimuthVectorList/noiseAzimuthVector")
    ]
    return Noise(table, tuple(close_gaps(blocks)))


def _old_scale(ipf: tuple[int, int], dn: float) -> float:
    if ipf > _OLD_NOISE_UNSCALED_IPF:
        return 1.0
    return _OLD_NOISE_SCALE * (dn if ipf < _NOISE_LINEAR_IPF else dn**2)


def _seconds(node: XmlNode, where: str, epoch: datetime) -> float:
    return (node.time(where) - epoch).total_seconds()


def _band(root: XmlNode, processing: str) -> FrequencyBand | None:
    """The first sub-swath's; an SLC has one."""
    where = (
        f"imageAnnotation/processingInformation/swathProcParamsList/swathProcParams/{processing}"
    )
    if not root.has(where):
        return None
    node = root.node(where)
    return FrequencyBand(node.number("processingBandwidth"), node.number("windowCoefficient"))


def _conversions(root: XmlNode, epoch: datetime) -> RangeConversions | None:
    nodes = root.nodes("coordinateConversion/coordinateConversionList/coordinateConversion")
    if not nodes:
        return None
    polynomials = [node.numbers("grsrCoefficients") for node in nodes]
    coefficients = np.zeros((len(nodes), max(each.size for each in polynomials)))
    for row, each in zip(coefficients, polynomials, strict=True):
        row[: each.size] = each
    times = np.array([_seconds(node, "azimuthTime", epoch) for node in nodes])
    if (np.diff(times) <= 0).any():
        raise SceneError(f"{root.path}: the times of coordinate conversions do not increase")
    return RangeConversions(times, np.array([node.number("gr0") for node in nodes]), coefficients)


def _doppler(root: XmlNode, epoch: datetime) -> tuple[RangePolynomial, ...]:
    return tuple(
        RangePolynomial(
            _seconds(node, "azimuthTime", epoch), node.number("t0"),
            node.numbers("dataDcPolynomial"),
        )
        for node in root.nodes("dopplerCentroid/dcEstimateList/dcEstimate")
    )  # fmt: skip


def _fm_rates(general: XmlNode, epoch: datetime) -> tuple[RangePolynomial, ...]:
    """FM rates; products of 2014 and 2015 name the coefficients c0, c1, c2."""
    return tuple(
        RangePolynomial(
            _seconds(node, "azimuthTime", epoch),
            node.number("t0"),
            node.numbers("azimuthFmRatePolynomial")
            if node.has("azimuthFmRatePolynomial")
            else np.array([node.number(name) for name in ("c0", "c1", "c2")]),
        )
        for node in general.nodes("azimuthFmRateList/azimuthFmRate")
    )


def _bursts(timing: XmlNode, epoch: datetime) -> tuple[Burst, ...]:
    return tuple(
        Burst(
            t_s=_seconds(node, "azimuthTime", epoch),
            since_node_s=node.number("azimuthAnxTime"),
            sensing_s=_seconds(node, "sensingTime", epoch),
            id=node.count("burstId") if node.has("burstId") else None,
            first_valid_px=node.numbers("firstValidSample").astype(np.int32),
            last_valid_px=node.numbers("lastValidSample").astype(np.int32),
        )
        for node in timing.nodes("burstList/burst")
    )


def _grid(root: XmlNode, epoch: datetime) -> GeolocationGrid:
    nodes = root.nodes("geolocationGrid/geolocationGridPointList/geolocationGridPoint")
    if not nodes:
        raise SceneError(f"{root.path}: its geolocation grid is empty")
    names = ("slantRangeTime", "line", "pixel", "latitude", "longitude", "height", "incidenceAngle")
    columns = [np.array([node.number(name) for node in nodes]) for name in names]
    times = np.array([_seconds(node, "azimuthTime", epoch) for node in nodes])
    return GeolocationGrid(times, *columns)


def _refuse_nonsense(annotation: Annotation) -> None:
    """Numbers that the geometry divides by, or that say two things."""
    where = annotation.path
    for name in ("line_interval_s", "azimuth_spacing_m", "range_spacing_m", "near_slant_time_s"):
        if not getattr(annotation, name) > 0:
            raise SceneError(f"{where}: {name} is {getattr(annotation, name)}, not above 0")
    expected_s = (annotation.lines - 1) * annotation.line_interval_s
    if not annotation.bursts and abs(annotation.last_s - expected_s) > annotation.line_interval_s:
        raise SceneError(
            f"{where}: {annotation.lines} lines take {expected_s:.3f} s, not the "
            f"{annotation.last_s:.3f} s between its first and last"
        )
    if annotation.product_type == "GRD" and annotation.conversions is None:
        raise SceneError(f"{where}: it has no conversion between ground and slant range")
    if any(burst.first_valid_px.size != annotation.lines_per_burst for burst in annotation.bursts):
        raise SceneError(f"{where}: a burst has not {annotation.lines_per_burst} lines")


def _table(path: Path, nodes: list[XmlNode], name: str) -> LookupTable:
    """Vectors by line as one table; those of 2015 to 2017 differ in length."""
    if not nodes:
        raise SceneError(f"{path}: it has no vectors of {name}")
    pixels = [node.numbers("pixel") for node in nodes]
    values = [node.numbers(name) for node in nodes]
    for where, of in zip(pixels, values, strict=True):
        if where.size != of.size or (np.diff(where) <= 0).any():
            raise SceneError(f"{path}: a vector of {name} does not fit its pixels")
    lines, order = np.unique([node.number("line") for node in nodes], return_index=True)
    axis = np.unique(np.concatenate(pixels))
    rows = np.array([np.interp(axis, pixels[i], values[i]) for i in order])
    if lines.size == 1:  # one vector says the same everywhere; a table needs two
        return LookupTable(np.array([lines[0], lines[0] + 1]), axis, np.vstack([rows, rows]))
    return LookupTable(lines.astype(np.float64), axis, rows)


def _noise_block(node: XmlNode) -> NoiseBlock:
    lines, factors = node.numbers("line"), node.numbers("noiseAzimuthLut")
    if lines.size != factors.size or (np.diff(lines) <= 0).any():
        raise SceneError(f"{node.path}: a noiseAzimuthLut does not fit its lines")
    bounds = (
        int(node.number("firstAzimuthLine")), int(node.number("lastAzimuthLine")) + 1,
        int(node.number("firstRangeSample")), int(node.number("lastRangeSample")) + 1,
    )  # fmt: skip
    return NoiseBlock(node.text("swath"), *bounds, lines, factors)


def close_gaps(blocks: Iterable[NoiseBlock]) -> Iterator[NoiseBlock]:
    """The blocks of each sub-swath, reaching to the middle between them and over all lines."""
    swaths: dict[str, list[NoiseBlock]] = {}
    for block in blocks:
        swaths.setdefault(block.swath, []).append(block)
    ends = np.iinfo(np.int32)
    for swath in swaths.values():
        swath.sort(key=lambda block: block.line0)
        limits = [(a.line1 + b.line0) // 2 for a, b in pairwise(swath)]
        for block, start, stop in zip(swath, [ends.min, *limits], [*limits, ends.max], strict=True):
            yield replace(block, line0=start, line1=stop)
