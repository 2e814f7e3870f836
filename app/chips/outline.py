"""A parcel's outline in an image."""

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw

from app.chips.window import from_degrees
from store.grid import Grid

_YELLOW = (255, 255, 0, 255)


def draw_outline(image: Image.Image, grid: Grid, parcel: shapely.Geometry) -> Image.Image:
    """The image with a parcel's outline in yellow.

    Args:
        image: of the grid.
        grid: of the image's pixels.
        parcel: polygons in EPSG:4326.

    Returns:
        A new image, RGBA.
    """
    to_grid = from_degrees(grid.epsg).transform

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = to_grid(points[:, 0], points[:, 1])
        return np.column_stack([x - grid.west_m, grid.north_m - y]) / grid.res_m

    lines = shapely.transform(shapely.boundary(parcel), to_pixels)
    result = image.convert("RGBA")
    pen = ImageDraw.Draw(result)
    for line in shapely.get_parts(lines):
        pen.line([tuple(point) for point in shapely.get_coordinates(line)], _YELLOW, width=1)
    return result
