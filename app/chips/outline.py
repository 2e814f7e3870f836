"""Drawing a parcel's outline into an image."""

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw
from pyproj import Transformer

from store.grid import Grid

_YELLOW = (255, 255, 0, 255)


def drawn(image: Image.Image, grid: Grid, parcel: shapely.Geometry) -> Image.Image:
    """Draw a parcel in yellow.

    Args:
        image: that shows the grid.
        grid: where its pixels lie.
        parcel: polygons in EPSG:4326.

    Returns:
        The image in colours, with the outline.
    """
    to_grid = Transformer.from_crs(4326, grid.epsg, always_xy=True).transform

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = to_grid(points[:, 0], points[:, 1])
        return np.column_stack([x - grid.west_m, grid.north_m - y]) / grid.res_m

    lines = shapely.transform(shapely.boundary(parcel), to_pixels)
    result = image.convert("RGBA")
    pen = ImageDraw.Draw(result)
    for line in shapely.get_parts(lines):
        pen.line([tuple(point) for point in shapely.get_coordinates(line)], _YELLOW, width=1)
    return result
