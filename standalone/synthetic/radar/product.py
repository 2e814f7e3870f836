"""A Level-1 product as a .SAFE folder: names, measurement files, calibration, manifest."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.io import DatasetWriter

from standalone.synthetic.radar import document
from standalone.synthetic.radar.document import Attributed, Content
from standalone.synthetic.radar.geometry import GridPoint
from standalone.synthetic.radar.orbit import FlownOrbit, Pass
from standalone.synthetic.radar.projection import Floats, Ints

GRD = "GRD"
SLC = "SLC"

_DENOISED = (2, 90)
_SAFE = "http://www.esa.int/safe/sentinel-1.0"
_NAMESPACES = {
    "xmlns:gml": "http://www.opengis.net/gml",
    "xmlns:xfdu": "urn:ccsds:schema:xfdu:1",
    "xmlns:safe": _SAFE,
    "xmlns:s1": f"{_SAFE}/sentinel-1",
    "xmlns:s1sarl1": f"{_SAFE}/sentinel-1/sar/level-1",
}
_FOLDERS = {
    "annotation/": ("product", "s1Level1ProductSchema", "text/xml"),
    "annotation/calibration/noise-": ("noise", "s1Level1NoiseSchema", "text/xml"),
    "annotation/calibration/calibration-": (
        "calibration",
        "s1Level1CalibrationSchema",
        "text/xml",
    ),
    "measurement/": ("", "s1Level1MeasurementSchema", "application/octet-stream"),
}


def version(ipf: str) -> tuple[int, int]:
    """Version of ESA's processor as numbers: (3, 40) of 003.40."""
    major, minor = ipf.split(".")
    return int(major), int(minor)


@dataclass(frozen=True, eq=False)
class Level1Product:
    """A product's identity.

    Attributes:
        flight: the overpass.
        kind: GRD or SLC.
        ipf: version of ESA's processor it passes for, such as 003.40.
        polarisations: VV, VH or both.
        orbit: of the satellite.
        start_s: first zero-Doppler time, seconds of the orbit.
        stop_s: last zero-Doppler time.
    """

    flight: Pass
    kind: str
    ipf: str
    polarisations: tuple[str, ...]
    orbit: FlownOrbit
    start_s: float
    stop_s: float

    @property
    def start(self) -> datetime:
        """Time of the first line, UTC."""
        return self.orbit.utc(self.start_s)

    @property
    def stop(self) -> datetime:
        """Time of the last line, UTC."""
        return self.orbit.utc(self.stop_s)

    @property
    def take(self) -> int:
        """Number of the data take; invented."""
        return self.flight.absolute_orbit * 8 + 0x1A2B

    @property
    def name(self) -> str:
        """Product name without .SAFE."""
        kind = {GRD: "GRDH", SLC: "SLC_"}[self.kind]
        polarisation = "DV" if len(self.polarisations) > 1 else "SV"
        start, stop = (f"{t:%Y%m%dT%H%M%S}" for t in (self.start, self.stop))
        head = f"{self.flight.platform}_IW_{kind}_1S{polarisation}_{start}_{stop}"
        plain = f"{head}_{self.flight.absolute_orbit:06d}_{self.take:06X}"
        return f"{plain}_{zlib.crc32(f'{plain}{self.ipf}'.encode()) & 0xFFFF:04X}"

    @property
    def denoised(self) -> bool:
        """Whether the layout is that of IPF 2.90 and later: clear border, noise in two vectors."""
        return version(self.ipf) >= _DENOISED

    def file_name(
        self, swath: str, polarisation: str, number: int, span_s: tuple[float, float]
    ) -> str:
        """Name of an image's files, without what comes before and after.

        Args:
            swath: IW for a GRD, IW1 .. IW3 for an SLC.
            polarisation: VV or VH.
            number: of the image in the product, from 1.
            span_s: its first and last time, seconds of the orbit.
        """
        start, stop = (f"{self.orbit.utc(t):%Y%m%dt%H%M%S}" for t in span_s)
        head = f"{self.flight.platform}-{swath}-{self.kind}-{polarisation}-{start}-{stop}"
        return f"{head}-{self.flight.absolute_orbit:06d}-{self.take:06x}-{number:03d}".lower()


@dataclass(frozen=True, eq=False)
class AnnotationLut:
    """Values on a grid of lines and pixels, bilinear in between.

    Attributes:
        lines: (k,) of the vectors.
        pixels: (m,) of each vector's values.
        values: (k, m).
    """

    lines: Ints
    pixels: Ints
    values: Floats

    def raster(self, lines: int, samples: int) -> Floats:
        """Values at every pixel, (lines, samples)."""
        across = np.stack([np.interp(np.arange(samples), self.pixels, v) for v in self.values])
        at = np.interp(np.arange(lines), self.lines, np.arange(len(self.lines)))
        low = np.minimum(at.astype(int), max(len(self.lines) - 2, 0))
        high = np.minimum(low + 1, len(self.lines) - 1)
        part = (at - low)[:, None]
        return np.asarray(across[low] * (1 - part) + across[high] * part)


@dataclass(frozen=True)
class Block:
    """A part of an image that comes from one sub-swath; limits are included.

    Attributes:
        swath: IW1 .. IW3.
        first_line: its first line.
        first_sample: its first sample.
        last_line: its last line.
        last_sample: its last sample.
    """

    swath: str
    first_line: int
    first_sample: int
    last_line: int
    last_sample: int


@dataclass(frozen=True, eq=False)
class BlockLut:
    """Values along the lines of a block, linear in between.

    Attributes:
        block: for whose samples they hold.
        lines: (k,) of the values.
        values: (k,).
    """

    block: Block
    lines: Ints
    values: Floats


def write_grd_tiff(path: Path, pixels: NDArray[np.uint16], grid: Sequence[GridPoint]) -> None:
    """Write a detected image, with the geolocation grid as ground control points."""
    with _create_tiff(path, pixels.shape, "uint16", grid) as out:
        out.write(pixels, 1)


def write_slc_tiff(path: Path, samples: NDArray[np.complex64], grid: Sequence[GridPoint]) -> int:
    """Write a complex image as 16-bit integers, and return the byte at which its lines begin."""
    rounded = np.rint(samples.real) + 1j * np.rint(samples.imag)
    with _create_tiff(path, samples.shape, "complex_int16", grid) as out:
        out.write(rounded.astype(np.complex64), 1)
    with rasterio.open(path) as src:
        return int(src.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))


def _create_tiff(
    path: Path, shape: tuple[int, ...], dtype: str, grid: Sequence[GridPoint]
) -> DatasetWriter:
    """A new uncompressed GeoTIFF, whose lines follow one another, to be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    points = [GroundControlPoint(p.line, p.pixel, p.lon_deg, p.lat_deg, p.height_m) for p in grid]
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=shape[0],
        width=shape[1],
        count=1,
        dtype=dtype,
        gcps=points,
        crs=CRS.from_epsg(4326),
    )


def write_manifest(home: Path, product: Level1Product, grid: Sequence[GridPoint]) -> None:
    """Write manifest.safe of a product whose other files are there.

    Args:
        home: the .SAFE folder.
        product: what it is.
        grid: geolocation grid of one image, whose corners are the footprint.
    """
    kind = product.kind.lower()
    content: list[tuple[str, Content]] = [
        (
            "informationPackageMap",
            {
                "xfdu:contentUnit": Attributed(
                    None,
                    {
                        "unitType": "SAFE Archive Information Package",
                        "textInfo": f"Sentinel-1 IW Level-1 {product.kind} Product",
                    },
                )
            },
        ),
        ("metadataSection", [("metadataObject", part) for part in _metadata(product, grid)]),
        ("dataObjectSection", [("dataObject", part) for part in _files(home)]),
    ]
    root = Attributed(
        content,
        {
            **_NAMESPACES,
            "version": f"esa/safe/sentinel-1.0/sentinel-1/sar/level-1/{kind}/standard/iwdp",
        },
    )
    document.write(home / "manifest.safe", "xfdu:XFDU", root)


def _metadata(product: Level1Product, grid: Sequence[GridPoint]) -> list[Content]:
    flight, node = product.flight, product.orbit.utc(product.orbit.node_s)
    start_ms, stop_ms = (
        1000 * (t - product.orbit.node_s) for t in (product.start_s, product.stop_s)
    )
    polarisations: list[tuple[str, Content]] = [
        ("s1sarl1:transmitterReceiverPolarisation", p) for p in product.polarisations
    ]
    software = Attributed(None, {"name": "Sentinel-1 IPF", "version": product.ipf})
    facility = Attributed({"safe:software": software}, {"name": "Synthetic Member State"})
    processing = Attributed(
        {"safe:facility": facility},
        {"name": f"{product.kind} Processing", "start": f"{product.stop:%Y-%m-%dT%H:%M:%S.%f}"},
    )
    mode = {"s1sarl1:mode": "IW", "s1sarl1:swath": "IW"}
    return [
        _wrap("processing", "PROVENANCE", {"safe:processing": processing}),
        _wrap(
            "platform",
            "DESCRIPTION",
            {
                "safe:platform": {
                    "safe:nssdcIdentifier": "0000-000A",
                    "safe:familyName": "SENTINEL-1",
                    "safe:number": flight.platform[-1],
                    "safe:instrument": {
                        "safe:familyName": Attributed(
                            "Synthetic Aperture Radar", {"abbreviation": "SAR"}
                        ),
                        "safe:extension": {"s1sarl1:instrumentMode": mode},
                    },
                }
            },
        ),
        _wrap(
            "measurementOrbitReference",
            "DESCRIPTION",
            {
                "safe:orbitReference": [
                    *_both("safe:orbitNumber", flight.absolute_orbit),
                    *_both("safe:relativeOrbitNumber", flight.relative_orbit),
                    ("safe:cycleNumber", 1 + flight.absolute_orbit // 175),
                    (
                        "safe:extension",
                        {
                            "s1:orbitProperties": {
                                "s1:pass": flight.direction,
                                "s1:ascendingNodeTime": node,
                            }
                        },
                    ),
                ]
            },
        ),
        _wrap(
            "generalProductInformation",
            "DESCRIPTION",
            {
                "s1sarl1:standAloneProductInformation": [
                    ("s1sarl1:missionDataTakeID", product.take),
                    *polarisations,
                    ("s1sarl1:productClass", "S"),
                    ("s1sarl1:productComposition", "Individual"),
                    ("s1sarl1:productType", product.kind),
                    ("s1sarl1:productTimelinessCategory", "Fast-24h"),
                    ("s1sarl1:sliceProductFlag", False),
                ],
            },
        ),
        _wrap(
            "acquisitionPeriod",
            "DESCRIPTION",
            {
                "safe:acquisitionPeriod": {
                    "safe:startTime": product.start,
                    "safe:stopTime": product.stop,
                    "safe:extension": {
                        "s1:timeANX": {
                            "s1:startTimeANX": f"{start_ms:.6e}",
                            "s1:stopTimeANX": f"{stop_ms:.6e}",
                        }
                    },
                }
            },
        ),
        _wrap(
            "measurementFrameSet",
            "DESCRIPTION",
            {
                "safe:frameSet": {
                    "safe:frame": {
                        "safe:footPrint": Attributed(
                            {"gml:coordinates": _footprint(grid)},
                            {"srsName": "http://www.opengis.net/gml/srs/epsg.xml#4326"},
                        ),
                    }
                }
            },
        ),
    ]


def _wrap(name: str, classification: str, content: Content) -> Content:
    wrap = Attributed({"xmlData": content}, {"mimeType": "text/xml", "vocabularyName": "SAFE"})
    category = "PDI" if classification == "PROVENANCE" else "DMD"
    return Attributed(
        {"metadataWrap": wrap},
        {"ID": name, "classification": classification, "category": category},
    )


def _both(name: str, number: int) -> list[tuple[str, Content]]:
    return [(name, Attributed(number, {"type": end})) for end in ("start", "stop")]


def _footprint(grid: Sequence[GridPoint]) -> str:
    """Last line from the first to the last pixel, then the first line back: as ESA orders it."""
    lines, pixels = ({getattr(p, name) for p in grid} for name in ("line", "pixel"))
    at = {(p.line, p.pixel): f"{p.lat_deg:.6f},{p.lon_deg:.6f}" for p in grid}
    last, first, left, right = max(lines), min(lines), min(pixels), max(pixels)
    return " ".join(at[c] for c in ((last, left), (last, right), (first, right), (first, left)))


def _files(home: Path) -> list[Content]:
    """A data object for every file that is there."""
    parts: list[Content] = []
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        href = path.relative_to(home).as_posix()
        prefix = max((f for f in _FOLDERS if href.startswith(f)), key=len, default="")
        if not prefix:
            continue
        kind, schema, mime = _FOLDERS[prefix]
        stem = path.stem.removeprefix(f"{kind}-").replace("-", "")
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        stream = Attributed(
            {
                "fileLocation": Attributed(None, {"locatorType": "URL", "href": f"./{href}"}),
                "checksum": Attributed(digest, {"checksumName": "MD5"}),
            },
            {"mimeType": mime, "size": str(path.stat().st_size)},
        )
        parts.append(Attributed({"byteStream": stream}, {"ID": f"{kind}{stem}", "repID": schema}))
    return parts
