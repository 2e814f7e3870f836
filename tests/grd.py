"""Small GRD products for tests: a corner of a real product's metadata, with pixels of our own.

The corner is the first cell of the geolocation grid, so that outline, geometry and tables stay the
real ones.
"""

import shutil
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

NAME = "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371"
OLD_NAME = "S1A_IW_GRDH_1SDV_20150222T170725_20150222T170750_004739_005DD8_CEAB"


@dataclass(frozen=True)
class Corner:
    """A small product, as pixels are made for it.

    Attributes:
        lines: number of lines.
        samples: number of pixels in a line.
        incidence_deg: float64[lines, samples], on the ellipsoid, from the geolocation grid.
        beta: float64[lines, samples], table of beta0.
        gamma: float64[lines, samples], table of gamma0 on the ellipsoid, whose angles are others.
        noise: float64[lines, samples], in squared pixel values.
    """

    lines: int
    samples: int
    incidence_deg: NDArray[np.float64]
    beta: NDArray[np.float64]
    gamma: NDArray[np.float64]
    noise: NDArray[np.float64]


def unpack(shared_data: Path, into: Path, name: str) -> Path:
    """Real metadata of a product."""
    archive = next((shared_data / "s1_metadata").glob(f"{name}*.zip"))
    with zipfile.ZipFile(archive) as file:
        file.extractall(into)
    return into / f"{name}.SAFE"


def make(
    shared_data: Path, into: Path, pixels: Callable[[Corner], NDArray[np.floating]],
    name: str = NAME, polarisations: tuple[str, ...] = ("vv", "vh"), **profile: object,
) -> Path:  # fmt: skip
    """A product of one grid cell, the same metadata for each polarisation.

    Args:
        shared_data: the folder of real sample data.
        into: where it is made.
        pixels: makes the pixels of a corner, rounded here.
        name: of the real product.
        polarisations: images to make.
        profile: of the TIFF, such as compress.
    """
    safe = unpack(shared_data, into, name)
    (safe / "measurement").mkdir(exist_ok=True)
    source = {kind: next(safe.glob(f"annotation/{at}*-vv-*.xml"))
              for kind, at in (("", ""), ("calibration-", "calibration/calibration-"),
                               ("noise-", "calibration/noise-"))}  # fmt: skip
    texts = {kind: path.read_text() for kind, path in source.items()}
    stem = source[""].stem
    for old in [*safe.glob("annotation/*.xml"), *safe.glob("annotation/calibration/*.xml")]:
        old.unlink()
    shutil.rmtree(safe / "annotation" / "rfi", ignore_errors=True)
    cut, corner = _cut(texts[""], texts["calibration-"], texts["noise-"])
    values = np.clip(np.round(pixels(corner)), 0, 65535).astype(np.uint16)
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    for number, polarisation in enumerate(polarisations, start=1):
        new = f"{stem[:-3].replace('-vv-', f'-{polarisation}-')}{number:03d}"
        (safe / "annotation" / f"{new}.xml").write_text(_named(cut, polarisation))
        for kind in ("calibration-", "noise-"):
            path = safe / "annotation" / "calibration" / f"{kind}{new}.xml"
            path.write_text(_named(texts[kind], polarisation))
        with rasterio.open(
            safe / "measurement" / f"{new}.tiff", "w", driver="GTiff", dtype="uint16", count=1,
            height=corner.lines, width=corner.samples, **profile,
        ) as out:  # fmt: skip
            out.write(values, 1)
    manifest = safe / "manifest.safe"
    text = manifest.read_text()
    for unused in {"VV", "VH"} - {each.upper() for each in polarisations}:
        tag = "s1sarl1:transmitterReceiverPolarisation"
        text = text.replace(f"<{tag}>{unused}</{tag}>", "")
    manifest.write_text(text)
    return safe


def _named(text: str, polarisation: str) -> str:
    return text.replace(
        "<polarisation>VV</polarisation>", f"<polarisation>{polarisation.upper()}</polarisation>"
    )


def _cut(text: str, calibration: str, noise: str) -> tuple[str, Corner]:
    root = ElementTree.fromstring(text)
    points = root.find("geolocationGrid/geolocationGridPointList")
    lines = sorted({int(point.findtext("line")) for point in points})[:2]
    pixels = sorted({int(point.findtext("pixel")) for point in points})[:2]
    angles = _angles(list(points), lines, pixels)
    for point in list(points):
        if int(point.findtext("line")) not in lines or int(point.findtext("pixel")) not in pixels:
            points.remove(point)
    image = root.find("imageAnnotation/imageInformation")
    height, width = lines[1] + 1, pixels[1] + 1
    interval = float(image.findtext("azimuthTimeInterval"))
    first = datetime.fromisoformat(image.findtext("productFirstLineUtcTime"))
    last = first + timedelta(seconds=(height - 1) * interval)
    image.find("productLastLineUtcTime").text = last.isoformat(timespec="microseconds")
    image.find("numberOfLines").text, image.find("numberOfSamples").text = str(height), str(width)
    beta, gamma = (
        _plane(calibration, "calibrationVector", name, height, width)
        for name in ("betaNought", "gamma")
    )
    plain = np.zeros((height, width))
    if "noiseRangeLut" in noise:
        plain = _plane(noise, "noiseRangeVector", "noiseRangeLut", height, width)
        node = next(ElementTree.fromstring(noise).iter("noiseAzimuthVector"))
        at, factors = (_floats(node, name) for name in ("line", "noiseAzimuthLut"))
        plain *= np.interp(np.arange(height), at, factors)[:, None]
    corner = Corner(height, width, angles, beta, gamma, plain)
    return ElementTree.tostring(root, encoding="unicode"), corner


def _angles(
    points: list[ElementTree.Element], lines: list[int], pixels: list[int]
) -> NDArray[np.float64]:
    """Incidence at every pixel of the first cell: cubic across range, linear along the track."""
    rows = []
    for line in lines:
        near = [point for point in points if int(point.findtext("line")) == line][:5]
        at = [float(point.findtext("pixel")) for point in near]
        angle = [float(point.findtext("incidenceAngle")) for point in near]
        cubic = np.polynomial.Polynomial.fit(at, angle, 3)
        rows.append(cubic(np.arange(pixels[1] + 1.0)))
    share = np.linspace(0, 1, lines[1] + 1)[:, None]
    return rows[0] * (1 - share) + rows[1] * share


def _plane(text: str, vector: str, name: str, height: int, width: int) -> NDArray[np.float64]:
    """A table at every pixel."""
    nodes = list(ElementTree.fromstring(text).iter(vector))
    lines = [float(node.findtext("line")) for node in nodes]
    rows = np.array(
        [np.interp(np.arange(width), _floats(node, "pixel"), _floats(node, name)) for node in nodes]
    )
    along = np.arange(height)
    return np.stack([np.interp(along, lines, column) for column in rows.T], axis=1)


def _floats(node: ElementTree.Element, name: str) -> NDArray[np.float64]:
    return np.array(node.findtext(name).split(), float)


def terrain(
    path: Path, heights: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.floating]],
    west: float = 14.9, north: float = 42.6, size_deg: float = 0.6, step_deg: float = 1 / 3600,
    crs: str = "EPSG:4979", **profile: object,
) -> Path:  # fmt: skip
    """A terrain model in degrees; heights are a function of longitudes and latitudes."""
    n = round(size_deg / step_deg)
    lon = west + (np.arange(n) + 0.5) * step_deg
    lat = north - (np.arange(n) + 0.5) * step_deg
    with rasterio.open(
        path, "w", driver="GTiff", dtype="float32", count=1, height=n, width=n, crs=crs,
        transform=rasterio.Affine(step_deg, 0, west, 0, -step_deg, north), **profile,
    ) as out:  # fmt: skip
        out.write(np.broadcast_to(heights(*np.meshgrid(lon, lat)), (n, n)).astype(np.float32), 1)
    return path
