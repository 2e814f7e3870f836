"""Requests of images: values out of which addresses, cache keys and jobs are made.

In an address a request is a path, {subject}/{name}. Subjects are c_{obsid}_{lon}_{lat}_{size} for
chips, the same with d_ for values as delivered, b_{source}_{lon}_{lat}_{pixels}_{extent} for
backgrounds, and _{campaign}_{pid} for a parcel whose outline is drawn. Names are
{label}.{band}.tif for the values of a band, {label}.{bands}.{lut}.png for a rendering and
{label}.{form} for a background; the label is for people and means nothing.
"""

import re
from dataclasses import dataclass

from app.chips.rendering import Lut
from app.chips.window import ChipWindow
from store.errors import NotFoundError

_NUMBER = r"-?[0-9.]{1,30}(?:e[+-]?[0-9]{1,3})?"
_WHERE = rf"(?P<lon>{_NUMBER})_(?P<lat>{_NUMBER})"
_PARCEL = r"(?:_(?P<campaign_id>[0-9]{1,18})_(?P<pid>[0-9]{1,18}))?"
_LABEL = r"(?P<label>[A-Za-z0-9_-]+)"
_CHIP = re.compile(
    rf"(?P<offset>[cd])_(?P<obsid>[0-9]{{1,18}})_{_WHERE}_(?P<size_m>{_NUMBER}){_PARCEL}"
    rf"/{_LABEL}\.(?:(?P<band>[A-Z0-9]+)\.tif|(?P<bands>[A-Z0-9_]+)\.(?P<lut>[0-9._-]+)\.png)"
)
_BACKGROUND = re.compile(
    rf"b_(?P<source>[a-z0-9-]+)_{_WHERE}_(?P<size_px>[0-9]{{1,9}})_(?P<extent_m>{_NUMBER}){_PARCEL}"
    rf"/{_LABEL}\.(?P<form>tif|png)"
)


@dataclass(frozen=True)
class ParcelKey:
    """The parcel whose outline is drawn.

    Attributes:
        campaign_id: key of its campaign.
        pid: its key.
    """

    campaign_id: int
    pid: int


@dataclass(frozen=True)
class ChipRequest:
    """A chip: the values of a band as GeoTIFF, or a rendering of one or three bands as PNG.

    Attributes:
        obsid: of the scene.
        window: the ground to show.
        bands: as the catalogue names them.
        lut: from values to brightness; None for the values themselves.
        parcel: to draw, if any.
        label: first part of the file's name.
        delivered: the values as in the product's files, its offset not added.
    """

    obsid: int
    window: ChipWindow
    bands: tuple[str, ...]
    lut: Lut | None = None
    parcel: ParcelKey | None = None
    label: str = "chip"
    delivered: bool = False

    @property
    def form(self) -> str:
        """Form of the file: tif or png."""
        return "png" if self.lut else "tif"

    @property
    def identity(self) -> str:
        """The request without its label: equal for equal images."""
        return f"{self._subject}/{self._rendering}"

    @property
    def signed_text(self) -> str:
        """The parts of an address that its signature covers.

        The JRC's documented scripts make a sibling's address by replacing the band in the name
        (B08.tif by B04.tif, VV by VH); so the band of a GeoTIFF is not among them.
        """
        return self.identity if self.lut else f"{self._subject}/tif"

    def to_path(self) -> str:
        """The request in an address; `parse_path` reads it."""
        return f"{self._subject}/{self.label}.{self._rendering}"

    @property
    def _subject(self) -> str:
        at, letter = self.window, "d" if self.delivered else "c"
        where = f"{at.lon!r}_{at.lat!r}_{at.size_m!r}"
        return f"{letter}_{self.obsid}_{where}{_parcel_suffix(self.parcel)}"

    @property
    def _rendering(self) -> str:
        bands = "_".join(self.bands)
        return f"{bands}.{self.lut.text}.png" if self.lut else f"{bands}.tif"


@dataclass(frozen=True)
class BackgroundRequest:
    """A background: a square of ground in Web Mercator.

    Attributes:
        source: name of the background source.
        lon: of its centre, degrees.
        lat: of its centre, degrees.
        size_px: length of its sides in pixels.
        extent_m: length of its sides on the ground, metres.
        form: png or tif.
        parcel: to draw into a png, if any.
        label: first part of the file's name.
    """

    source: str
    lon: float
    lat: float
    size_px: int
    extent_m: float
    form: str
    parcel: ParcelKey | None = None
    label: str = "background"

    @property
    def identity(self) -> str:
        """The request without its label: equal for equal images."""
        return f"{self._subject}/.{self.form}"

    @property
    def signed_text(self) -> str:
        """The parts of an address that its signature covers."""
        return self.identity

    def to_path(self) -> str:
        """The request in an address; `parse_path` reads it."""
        return f"{self._subject}/{self.label}.{self.form}"

    @property
    def _subject(self) -> str:
        size = f"{self.size_px}_{self.extent_m!r}{_parcel_suffix(self.parcel)}"
        return f"b_{self.source}_{self.lon!r}_{self.lat!r}_{size}"


ImageRequest = ChipRequest | BackgroundRequest


def parse_path(path: str) -> ImageRequest:
    """The request in an address.

    Raises:
        NotFoundError: it is no path of an image.
    """
    try:
        if chip := _CHIP.fullmatch(path):
            return _chip(**chip.groupdict())
        if background := _BACKGROUND.fullmatch(path):
            return _background(**background.groupdict())
    except ValueError:
        pass
    raise NotFoundError("there is no such image")


def _chip(obsid: str, lon: str, lat: str, size_m: str, label: str, **rest: str) -> ChipRequest:
    window = ChipWindow(float(lon), float(lat), float(size_m))
    bands = (rest["band"] or rest["bands"]).split("_")
    lut = Lut.parse(rest["lut"]) if rest["lut"] else None
    delivered = rest["offset"] == "d"
    return ChipRequest(int(obsid), window, tuple(bands), lut, _parcel_key(**rest), label, delivered)


def _background(source: str, lon: str, lat: str, form: str, **rest: str) -> BackgroundRequest:
    size = int(rest["size_px"]), float(rest["extent_m"])
    parcel = _parcel_key(**rest)
    return BackgroundRequest(source, float(lon), float(lat), *size, form, parcel, rest["label"])


def _parcel_key(campaign_id: str | None, pid: str | None, **_: str) -> ParcelKey | None:
    return ParcelKey(int(campaign_id), int(pid)) if campaign_id and pid else None


def _parcel_suffix(parcel: ParcelKey | None) -> str:
    return f"_{parcel.campaign_id}_{parcel.pid}" if parcel else ""
