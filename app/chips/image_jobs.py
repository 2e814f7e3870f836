"""Jobs of the image service: a request with all that its image depends on."""

from dataclasses import dataclass

import shapely

from app.chips import rendering
from app.chips.backgrounds import BackgroundJob
from app.chips.chip_request import ChipRequest
from app.chips.layers import read_layers
from app.chips.outline import draw_outline
from app.chips.scenes import ChipScene
from store.errors import NotFoundError

_VERSION = 3
"""To be raised when the same request is to look otherwise, so that kept images are not used."""


@dataclass(frozen=True)
class ChipJob:
    """A chip to be made.

    Attributes:
        request: of the chip.
        scene: with its obsid.
        outline: polygons in EPSG:4326 to draw, if any.
    """

    request: ChipRequest
    scene: ChipScene
    outline: shapely.Geometry | None = None

    def __post_init__(self) -> None:
        """Refuse bands that the scene lacks.

        Raises:
            NotFoundError: the scene has not all bands.
        """
        if missing := [band for band in self.request.bands if band not in self.scene.bands]:
            raise NotFoundError(f"{self.scene.reference} has no {', '.join(missing)}")

    @property
    def key(self) -> str:
        """Key of the cache: the request, the scene's facts, the outline."""
        scene, request = self.scene, self.request
        files = [scene.bands[band] for band in request.bands]
        outline = shapely.to_wkb(self.outline, hex=True) if self.outline else ""
        facts = f"{scene.reference} {scene.unit} {files}"
        return f"{_VERSION} {request.identity} {facts} {outline}"

    @property
    def addresses(self) -> list[str]:
        """Of the files of its bands."""
        return [self.scene.bands[band].href for band in self.request.bands]

    def make(self) -> bytes | None:
        """The GeoTIFF or PNG; None without a pixel that has data in all bands."""
        scene, request = self.scene, self.request
        layers = read_layers(scene, request.bands, request.window, delivered=request.delivered)
        if not layers:
            return None
        if request.lut is None:
            return rendering.to_geotiff(layers[0], scene.unit, scene.reference, scene.obstime)
        image = rendering.composite(layers, scene.unit, request.lut)
        if image is None:
            return None
        if self.outline is not None:
            finest = min(layers, key=lambda layer: layer.grid.res_m).grid
            image = draw_outline(image, finest, self.outline)
        return rendering.to_png(image)


ImageJob = ChipJob | BackgroundJob
"""An image that can be made."""
