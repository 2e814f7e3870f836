"""What an image is made of: enough to make it, and to know it again."""

from dataclasses import dataclass
from typing import Protocol

import shapely

from app.chips import looks, outline
from app.chips.layers import read_layers
from app.chips.looks import Lut
from app.chips.place import Place
from app.chips.scenes import ChipScene

_VERSION = 1
"""To be raised when the same picture is to look otherwise, so that kept images are made anew."""


class Picture(Protocol):
    """An image that can be made."""

    @property
    def key(self) -> str:
        """All that it depends on, as a text."""

    def make(self) -> bytes | None:
        """Make the file; None where there is nothing to see."""


@dataclass(frozen=True)
class RawChip:
    """The values of one band of a scene, as a GeoTIFF.

    Attributes:
        scene: what to cut out of.
        place: what to show.
        band: as the catalogue calls it.
    """

    scene: ChipScene
    place: Place
    band: str

    @property
    def key(self) -> str:
        """All that it depends on."""
        scene, source = self.scene, self.scene.bands[self.band]
        return f"{_VERSION} raw {scene.reference} {scene.unit} {self.band} {source} {self.place}"

    def make(self) -> bytes | None:
        """Make the GeoTIFF; None without data there."""
        layers = read_layers(self.scene, (self.band,), self.place)
        if layers is None:
            return None
        return looks.geotiff(layers[0], self.scene.unit, self.scene.reference, self.scene.obstime)


@dataclass(frozen=True)
class ShownChip:
    """One or three bands of a scene, as a PNG for people.

    Attributes:
        scene: what to cut out of.
        place: what to show.
        bands: as the catalogue calls them.
        lut: from values to brightness.
        parcel: polygons in EPSG:4326 to draw, if any.
    """

    scene: ChipScene
    place: Place
    bands: tuple[str, ...]
    lut: Lut
    parcel: shapely.Geometry | None = None

    @property
    def key(self) -> str:
        """All that it depends on."""
        sources = [self.scene.bands[band] for band in self.bands]
        parcel = shapely.to_wkb(self.parcel, hex=True) if self.parcel else ""
        return (
            f"{_VERSION} shown {self.scene.reference} {self.scene.unit} {self.bands} {sources} "
            f"{self.place} {self.lut} {parcel}"
        )

    def make(self) -> bytes | None:
        """Make the PNG; None without a pixel that has data in all bands."""
        layers = read_layers(self.scene, self.bands, self.place)
        image = looks.composite(layers, self.scene.unit, self.lut) if layers else None
        if image is None or layers is None:
            return None
        if self.parcel is not None:
            finest = min(layers, key=lambda layer: layer.grid.res_m).grid
            image = outline.drawn(image, finest, self.parcel)
        return looks.png(image)
