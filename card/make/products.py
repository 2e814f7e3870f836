"""Level-1 products as files: a SAFE folder, plain or with COG measurements, and what is needed."""

import re
from dataclasses import dataclass
from pathlib import Path

from card.make import xmlfile
from store.errors import MissingFactError, NotFoundError, SceneError

MANIFEST = "manifest.safe"
_FILE = re.compile(
    r"s1[a-d]-(?P<swath>iw[123]?|ew[1-5]?|s[1-6]|wv[12])-(?P<type>grd|slc)-(?P<polarisation>[hv]{2})"
    r"-(?P<start>\d{8}t\d{6})-\d{8}t\d{6}-\d{6}-[0-9a-f]{6}-(?P<number>\d{3})(?P<cog>-cog)?"
)
_POLARISATIONS = ("VV", "VH")


@dataclass(frozen=True)
class Channel:
    """The files of one image: one polarisation of one (sub-)swath.

    Attributes:
        swath: IW for a GRD, IW1 ... for an SLC.
        polarisation: VV or VH.
        annotation: its annotation file.
        calibration: its calibration file.
        noise: its noise file.
        measurement: its pixels; None where they were not delivered.
    """

    swath: str
    polarisation: str
    annotation: Path
    calibration: Path
    noise: Path
    measurement: Path | None


@dataclass(frozen=True)
class Level1:
    """A Level-1 product.

    Attributes:
        folder: where it lies.
        reference: its name, without .SAFE and without _COG.
        type: GRD or SLC.
        ipf: version of ESA's processor, such as (3, 40).
        relative_orbit: as the product states it.
        polarisations: those of VV and VH that it states to have.
        channels: VV before VH, by sub-swath.
    """

    folder: Path
    reference: str
    type: str
    ipf: tuple[int, int]
    relative_orbit: int
    polarisations: tuple[str, ...]
    channels: tuple[Channel, ...]


def read(folder: Path) -> Level1:
    """Find the files of a product.

    Raises:
        NotFoundError: there is no such folder.
        SceneError: it is no product of IW with VV or VH, or files of it are missing.
    """
    if not folder.is_dir():
        raise NotFoundError(f"there is no product {folder}")
    manifest = xmlfile.read(folder / MANIFEST)
    reference = folder.absolute().name.removesuffix(".SAFE").removesuffix("_COG")
    annotations = sorted((folder / "annotation").glob("*.xml"))
    found = {path: match for path in annotations if (match := _FILE.fullmatch(path.stem))}
    if not found:
        raise SceneError(f"{folder}: no annotation of an image in it: copy the whole product")
    _refuse_others(folder, found)
    channels = [
        _channel(folder, path, match)
        for path, match in found.items()
        if match["polarisation"].upper() in _POLARISATIONS
    ]
    channels.sort(key=lambda one: (_POLARISATIONS.index(one.polarisation), one.swath))
    return Level1(
        folder=folder,
        reference=reference,
        type=next(iter(found.values()))["type"].upper(),
        ipf=_version(manifest),
        relative_orbit=_relative_orbit(manifest),
        polarisations=_polarisations(manifest),
        channels=tuple(channels),
    )


def refuse_lost(product: Level1, polarisations: set[str]) -> None:
    """Refuse a product that was not copied as a whole.

    Args:
        product: it is.
        polarisations: whose pixels are missing.

    Raises:
        MissingFactError: there are some.
    """
    if polarisations:
        raise MissingFactError(
            f"{product.folder}: the product has {'/'.join(sorted(polarisations))}, but the files "
            "of it are not all there: copy the whole product"
        )


def _refuse_others(folder: Path, found: dict[Path, re.Match[str]]) -> None:
    modes = {re.sub(r"(?<=[iew]w)\d", "", match["swath"]).upper() for match in found.values()}
    if modes != {"IW"}:
        raise SceneError(f"{folder}: mode {'/'.join(sorted(modes))} is not processed, only IW is")
    polarisations = {match["polarisation"].upper() for match in found.values()}
    if not polarisations & set(_POLARISATIONS):
        raise SceneError(
            f"{folder}: polarisation {'/'.join(sorted(polarisations))} is not processed, only VV "
            "and VH are"
        )


def _channel(folder: Path, path: Path, match: re.Match[str]) -> Channel:
    name = path.stem.removesuffix("-cog")
    calibration, noise = (
        _first_file(folder / "annotation" / "calibration" / f"{kind}-{name}", (".xml",))
        for kind in ("calibration", "noise")
    )
    if not calibration or not noise:
        raise SceneError(f"{folder}: calibration or noise of {name} is missing: copy all of it")
    return Channel(
        swath=match["swath"].upper(),
        polarisation=match["polarisation"].upper(),
        annotation=path,
        calibration=calibration,
        noise=noise,
        measurement=_first_file(folder / "measurement" / name, (".tiff", ".tif")),
    )


def _first_file(stem: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The file of a name; files of a COG twin may be called so."""
    names = (f"{stem}{cog}{suffix}" for cog in ("", "-cog") for suffix in suffixes)
    return next((path for path in map(Path, names) if path.is_file()), None)


def _version(manifest: xmlfile.XmlNode) -> tuple[int, int]:
    """Version of the processor, from its name in the manifest: `Sentinel-1 IPF`, 003.40."""
    for element in manifest.element.iter("software"):
        match = re.fullmatch(r"(\d+)\.(\d+)", element.get("version", ""))
        if element.get("name") == "Sentinel-1 IPF" and match:
            return int(match[1]), int(match[2])
    raise SceneError(f"{manifest.path}: it does not state the version of Sentinel-1 IPF")


def _polarisations(manifest: xmlfile.XmlNode) -> tuple[str, ...]:
    stated = {e.text for e in manifest.element.iter("transmitterReceiverPolarisation")}
    return tuple(name for name in _POLARISATIONS if name in stated)


def _relative_orbit(manifest: xmlfile.XmlNode) -> int:
    text = next((e.text or "" for e in manifest.element.iter("relativeOrbitNumber")), "").strip()
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 175:
        raise SceneError(f"{manifest.path}: {text[:20]!r} is no relative orbit number")
    return int(text)
