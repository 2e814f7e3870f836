"""The annotation of one image: orbit, timing, geolocation, conversion, bursts, Doppler."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.polynomial import Polynomial

from standalone.synthetic.radar import document
from standalone.synthetic.radar.document import Attributed, Content, Items
from standalone.synthetic.radar.geometry import GridPoint, GroundRange, RangeAxis, Raster
from standalone.synthetic.radar.orbit import C_M_S, FlownOrbit
from standalone.synthetic.radar.product import AnnotationLut, Block, BlockLut, Level1Product
from standalone.synthetic.radar.projection import A_M, B_M, Floats, Ints

RANGE_RATE_HZ = 6.434523812571428e07
"""Range sampling rate of IW."""

FREQUENCY_HZ = 5.405000454334350e09
"""Carrier frequency."""

STEERING_DEG_S = {"IW1": 1.590368784, "IW2": 9.798633249999998e-01, "IW3": 1.397440818}
"""Antenna steering rates as annotated in real products (IW3: by Park et al. 2018)."""

AZIMUTH_RATE_HZ = 4.864863102995529e02
"""Lines per second of SLC images; GRD annotations state it, too."""

_VECTOR_STEP_S = {True: 10.0, False: 1.0}
_DEGREE = {True: 8, False: 4}
_FIT_MARGIN_M = 20_000.0
_OLD_VECTORS = 28


@dataclass(frozen=True, eq=False)
class BurstRecord:
    """One burst of a sub-swath.

    Attributes:
        first_s: zero-Doppler time of its first line, seconds of the orbit.
        sensing_s: time its first echo was sensed.
        byte_offset: of its first line in the measurement file.
        first_valid: (lines,) first valid sample of each line, -1 for none.
        last_valid: (lines,) last valid sample.
        number: relative burst id; 0 where the layout has none.
        absolute: absolute burst id.
    """

    first_s: float
    sensing_s: float
    byte_offset: int
    first_valid: Ints
    last_valid: Ints
    number: int
    absolute: int


@dataclass(frozen=True, eq=False)
class RangeRecord:
    """A polynomial of slant range time: an azimuth FM rate or a Doppler centroid.

    Attributes:
        t_s: azimuth time it is made for, seconds of the orbit.
        t0_s: two-way slant range time it counts from.
        coefficients: (3,) of powers 0 to 2, Hz/s or Hz.
    """

    t_s: float
    t0_s: float
    coefficients: Floats

    def at(self, slant_m: Floats) -> Floats:
        """Values at slant ranges."""
        return np.asarray(Polynomial(self.coefficients)(2 * slant_m / C_M_S - self.t0_s))


@dataclass(frozen=True, eq=False)
class AnnotationWriter:
    """What the annotation of an image says.

    Attributes:
        product: it belongs to.
        polarisation: VV or VH.
        swath: IW, or IW1 .. IW3.
        number: of the image in the product, from 1.
        raster: its lines and pixels.
        vectors: orbit whose vectors are annotated; not always the true one.
        grid: geolocation grid.
        near_m: slant range of pixel 0.
        spacing_m: of pixels and lines, metres (range, azimuth).
        blocks: parts of a GRD by sub-swath.
        fm_rates: azimuth FM rates of an SLC.
        centroids: Doppler centroids of an SLC.
        bursts: of an SLC.
    """

    product: Level1Product
    polarisation: str
    swath: str
    number: int
    raster: Raster[RangeAxis]
    vectors: FlownOrbit
    grid: Sequence[GridPoint]
    near_m: float
    spacing_m: tuple[float, float]
    blocks: Sequence[Block] = ()
    fm_rates: Sequence[RangeRecord] = ()
    centroids: Sequence[RangeRecord] = ()
    bursts: Sequence[BurstRecord] = ()

    @property
    def file_name(self) -> str:
        """Name of the image's files, without what comes before and after."""
        span = (self.raster.first_s, self.raster.last_s)
        return self.product.file_name(self.swath, self.polarisation, self.number, span)

    @property
    def lines(self) -> int:
        """Lines of the file: of an SLC those of all bursts, also where they overlap."""
        return sum(len(b.first_valid) for b in self.bursts) or self.raster.lines

    def header(self) -> Content:
        """The adsHeader that begins each of the image's documents."""
        utc, product = self.raster.orbit.utc, self.product
        return {
            "missionId": product.flight.platform,
            "productType": product.kind,
            "polarisation": self.polarisation,
            "mode": "IW",
            "swath": self.swath,
            "startTime": utc(self.raster.first_s),
            "stopTime": utc(self.raster.last_s),
            "absoluteOrbitNumber": product.flight.absolute_orbit,
            "missionDataTakeId": product.take,
            "imageNumber": f"{self.number:03d}",
        }

    def content(self) -> Content:
        """Content of the document whose root is called product."""
        return {
            "adsHeader": self.header(),
            "generalAnnotation": self._general(),
            "imageAnnotation": {
                "imageInformation": self._image(),
                "processingInformation": self._processing(),
            },
            "dopplerCentroid": {"dcEstimateList": Items("dcEstimate", self._centroids())},
            "swathTiming": {
                "linesPerBurst": len(self.bursts[0].first_valid) if self.bursts else 0,
                "samplesPerBurst": self.raster.samples if self.bursts else 0,
                "burstList": Items("burst", [self._burst(b) for b in self.bursts]),
            },
            "geolocationGrid": {
                "geolocationGridPointList": Items("geolocationGridPoint", self._grid())
            },
            "coordinateConversion": {
                "coordinateConversionList": Items("coordinateConversion", self._conversions())
            },
            "swathMerging": {"swathMergeList": Items("swathMerge", self._merge())},
        }

    def calibration(self, beta: AnnotationLut) -> Content:
        """Content of the calibration file of a betaNought table."""
        row = [p for p in self.grid if p.line == self.grid[0].line]
        view = np.radians(
            np.interp(beta.pixels, [p.pixel for p in row], [p.incidence_deg for p in row])
        )
        vectors: list[Content] = [
            {
                **self._vector_head(line, beta.pixels),
                "sigmaNought": values / np.sqrt(np.sin(view)),
                "betaNought": values,
                "gamma": values / np.sqrt(np.tan(view)),
                "dn": values,
            }
            for line, values in zip(beta.lines.tolist(), beta.values, strict=True)
        ]
        return {
            "adsHeader": self.header(),
            "calibrationInformation": {"absoluteCalibrationConstant": 1.0},
            "calibrationVectorList": Items("calibrationVector", vectors),
        }

    def noise(self, across: AnnotationLut, along: Sequence[BlockLut]) -> Content:
        """Content of the noise file; before IPF 2.90 only the range table goes into it."""
        late = self.product.denoised
        name, table = ("noiseRangeVector", "noiseRangeLut") if late else ("noiseVector", "noiseLut")
        vectors: list[Content] = [
            {**self._vector_head(line, across.pixels), table: values}
            for line, values in zip(across.lines.tolist(), across.values, strict=True)
        ]
        content: dict[str, Content] = {
            "adsHeader": self.header(),
            f"{name}List": Items(name, vectors),
        }
        if late:
            blocks: list[Content] = [
                {
                    "swath": part.block.swath,
                    "firstAzimuthLine": part.block.first_line,
                    "firstRangeSample": part.block.first_sample,
                    "lastAzimuthLine": part.block.last_line,
                    "lastRangeSample": part.block.last_sample,
                    "line": part.lines,
                    "noiseAzimuthLut": part.values,
                }
                for part in along
            ]
            content["noiseAzimuthVectorList"] = Items("noiseAzimuthVector", blocks)
        return content

    def _vector_head(self, line: int, pixels: Ints) -> dict[str, Content]:
        raster = self.raster
        time = raster.orbit.utc(raster.first_s + line * raster.line_s)
        return {"azimuthTime": time, "line": line, "pixel": pixels}

    def _general(self) -> Content:
        product = self.product
        swath = "IW1" if self.swath == "IW" else self.swath
        position, velocity = self.raster.orbit.state(np.zeros(1))
        east = np.cross([0.0, 0.0, 1.0], position[0])
        north = np.cross(position[0], east) / np.linalg.norm(position[0])
        heading = np.degrees(np.arctan2(velocity[0] @ east, velocity[0] @ north))
        return {
            "productInformation": {
                "pass": product.flight.direction.title(),
                "timelinessCategory": "Fast-24h",
                "platformHeading": float(heading),
                "projection": "Slant Range" if self.bursts else "Ground Range",
                "rangeSamplingRate": RANGE_RATE_HZ,
                "radarFrequency": FREQUENCY_HZ,
                "azimuthSteeringRate": STEERING_DEG_S[swath],
            },
            "orbitList": Items("orbit", self._vectors()),
            "azimuthFmRateList": Items("azimuthFmRate", self._fm_rates()),
        }

    def _vectors(self) -> list[Content]:
        """Annotated vectors, whose number and distance follow the layout."""
        step = _VECTOR_STEP_S[self.product.denoised]
        if self.product.denoised:
            first, last = self.raster.first_s - 60, self.raster.last_s + 60
        else:
            first = self.raster.first_s - 2
            last = max(first + _OLD_VECTORS - 1, self.raster.last_s + 1)
        times = np.round(first, 6) + step * np.arange(int((last - first) / step) + 1)
        return [
            vector(self.raster.orbit, float(t), s, v)
            for t, s, v in zip(times, *self.vectors.state(times), strict=True)
        ]

    def _image(self) -> Content:
        raster, utc = self.raster, self.raster.orbit.utc
        middle = [p for p in self.grid if p.line == self.grid[0].line]
        return {
            "productFirstLineUtcTime": utc(raster.first_s),
            "productLastLineUtcTime": utc(raster.last_s),
            "ascendingNodeTime": utc(raster.orbit.node_s),
            "anchorTime": utc(raster.first_s),
            "productComposition": "Individual",
            "sliceNumber": 0,
            "slantRangeTime": 2 * self.near_m / C_M_S,
            "pixelValue": "Complex" if self.bursts else "Detected",
            "outputPixels": "16 bit Signed Integer" if self.bursts else "16 bit Unsigned Integer",
            "rangePixelSpacing": self.spacing_m[0],
            "azimuthPixelSpacing": self.spacing_m[1],
            "azimuthTimeInterval": raster.line_s,
            "azimuthFrequency": AZIMUTH_RATE_HZ,
            "numberOfSamples": raster.samples,
            "numberOfLines": self.lines,
            "zeroDopMinusAcqTime": 0.0,
            "incidenceAngleMidSwath": middle[len(middle) // 2].incidence_deg,
        }

    def _processing(self) -> Content:
        return {
            "rangeSpreadingLossCompensationApplied": True,
            "srgrConversionApplied": not self.bursts,
            "detectionPerformed": not self.bursts,
            "thermalNoiseCorrectionPerformed": False,
            "referenceRange": 8.0e5,
            "ellipsoidName": "WGS84",
            "ellipsoidSemiMajorAxis": A_M,
            "ellipsoidSemiMinorAxis": B_M,
            "bistaticDelayCorrectionApplied": True,
            "topsFilterConvention": "Only Echo Lines",
            "orbitSource": "Auxiliary",
        }

    def _fm_rates(self) -> list[Content]:
        rows: list[Content] = []
        for rate in self.fm_rates:
            head: dict[str, Content] = {
                "azimuthTime": self.raster.orbit.utc(rate.t_s),
                "t0": rate.t0_s,
            }
            if self.product.denoised:
                rows.append({**head, "azimuthFmRatePolynomial": rate.coefficients})
            else:
                parts = {f"c{i}": float(c) for i, c in enumerate(rate.coefficients)}
                rows.append({**head, **parts})
        return rows

    def _centroids(self) -> list[Content]:
        return [
            {
                "azimuthTime": self.raster.orbit.utc(centroid.t_s),
                "t0": centroid.t0_s,
                "geometryDcPolynomial": centroid.coefficients,
                "dataDcPolynomial": centroid.coefficients,
                "dataDcRmsError": 1.0,
                "dataDcRmsErrorAboveThreshold": False,
            }
            for centroid in self.centroids
        ]

    def _burst(self, burst: BurstRecord) -> Content:
        orbit = self.raster.orbit
        content: dict[str, Content] = {
            "azimuthTime": orbit.utc(burst.first_s),
            "azimuthAnxTime": burst.first_s - orbit.node_s,
            "sensingTime": orbit.utc(burst.sensing_s),
            "byteOffset": burst.byte_offset,
            "firstValidSample": burst.first_valid,
            "lastValidSample": burst.last_valid,
        }
        if burst.number:
            content["burstId"] = Attributed(burst.number, {"absolute": str(burst.absolute)})
        return content

    def _grid(self) -> list[Content]:
        return [
            {
                "azimuthTime": self.raster.orbit.utc(p.t_s),
                "slantRangeTime": 2 * p.slant_m / C_M_S,
                "line": p.line,
                "pixel": p.pixel,
                "latitude": p.lat_deg,
                "longitude": p.lon_deg,
                "height": p.height_m,
                "incidenceAngle": p.incidence_deg,
                "elevationAngle": p.elevation_deg,
            }
            for p in self.grid
        ]

    def _conversions(self) -> list[Content]:
        axis = self.raster.axis
        if not isinstance(axis, GroundRange):
            return []
        width = self.raster.samples * self.spacing_m[0]
        ground = np.linspace(-_FIT_MARGIN_M, width + _FIT_MARGIN_M, 400)
        rows: list[Content] = []
        for number, t in enumerate(axis.update_s.tolist()):
            slant = axis.at_update(number).slant(ground / axis.spacing_m, np.full(len(ground), t))
            degree = _DEGREE[self.product.denoised]
            to_ground = Polynomial.fit(slant - self.near_m, ground, degree)
            to_slant = Polynomial.fit(ground, slant, degree)
            rows.append(
                {
                    "azimuthTime": self.raster.orbit.utc(t),
                    "slantRangeTime": 2 * self.near_m / C_M_S,
                    "sr0": self.near_m,
                    "srgrCoefficients": np.asarray(to_ground.convert().coef, dtype=np.float64),
                    "gr0": 0.0,
                    "grsrCoefficients": np.asarray(to_slant.convert().coef, dtype=np.float64),
                }
            )
        return rows

    def _merge(self) -> list[Content]:
        by_swath: dict[str, list[Content]] = {}
        for block in self.blocks:
            by_swath.setdefault(block.swath, []).append(
                {
                    "azimuthTime": self.raster.orbit.utc(
                        self.raster.first_s + block.first_line * self.raster.line_s
                    ),
                    "firstAzimuthLine": block.first_line,
                    "firstRangeSample": block.first_sample,
                    "lastAzimuthLine": block.last_line,
                    "lastRangeSample": block.last_sample,
                }
            )
        return [
            {"swath": swath, "swathBoundsList": Items("swathBounds", parts)}
            for swath, parts in by_swath.items()
        ]


def write(
    home: Path,
    annotation: AnnotationWriter,
    beta: AnnotationLut,
    across: AnnotationLut,
    along: Sequence[BlockLut],
) -> None:
    """Write the annotation, calibration and noise files of an image.

    Args:
        home: the .SAFE folder.
        annotation: of the image.
        beta: its betaNought table.
        across: its noise over range.
        along: its noise over azimuth, by block.
    """
    name, folder = annotation.file_name, home / "annotation"
    tables = folder / "calibration"
    document.write(folder / f"{name}.xml", "product", annotation.content())
    calibration = annotation.calibration(beta)
    document.write(tables / f"calibration-{name}.xml", "calibration", calibration)
    document.write(tables / f"noise-{name}.xml", "noise", annotation.noise(across, along))


def vector(orbit: FlownOrbit, t_s: float, position: Floats, velocity: Floats) -> Content:
    """An annotated state vector."""
    return {
        "time": orbit.utc(t_s),
        "frame": "Earth Fixed",
        "position": dict(zip("xyz", position.tolist(), strict=True)),
        "velocity": dict(zip("xyz", velocity.tolist(), strict=True)),
    }
