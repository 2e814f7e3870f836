"""The geometry of a tile: what is smooth in place and height, on nodes, for the kernels.

Line, slant range and the look direction are smooth functions of easting, northing and height. On
nodes every 32 cells each is solved exactly at three heights and kept as a quadratic; bilinear
between nodes it is within 0.001 pixel, for a tenth of what solving every cell takes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from card.make import geometry, kernels
from card.make.annotation import Annotation
from card.make.dem import Heights, transformer
from card.make.geometry import PixelConversions, dot
from card.make.orbit import Orbit
from store.grid import Grid

Floats = npt.NDArray[np.float64]

_LEAST_HALF_M = 50.0
_SLACK_M = 50.0


@dataclass(frozen=True)
class NodeGrid:
    """Nodes at whole multiples of `step` cells of an output grid, around a rectangle of cells.

    Attributes:
        grid: the output grid.
        step: cells between nodes.
        row0: first row of the rectangle; may be negative.
        col0: first column.
        shape: its (rows, columns).
    """

    grid: Grid
    step: int
    row0: int
    col0: int
    shape: tuple[int, int]

    @property
    def shift(self) -> tuple[int, int]:
        """(rows, columns) from the first node to the first cell."""
        return self.row0 % self.step, self.col0 % self.step

    @property
    def east_m(self) -> Floats:
        """Eastings of the node columns: centres of cells."""
        return self.grid.west_m + self.grid.res_m * (0.5 + self._indices(self.col0, self.shape[1]))

    @property
    def north_m(self) -> Floats:
        """Northings of the node rows."""
        return self.grid.north_m - self.grid.res_m * (0.5 + self._indices(self.row0, self.shape[0]))

    def _indices(self, start: int, count: int) -> Floats:
        first, last = start // self.step, (start + count - 1) // self.step + 1
        return np.arange(first, last + 1, dtype=np.float64) * self.step


@dataclass(frozen=True)
class GeometryLattice:
    """The geometry of one image over a rectangle of cells.

    Attributes:
        nodes: what it stands on.
        coefficients: float64[node rows, node columns, 5, 3], see card.make.kernels.
        middle_m: height at which the quadratics' argument is 0.
        half_m: it is (height - middle_m) / half_m.
        conversions: from slant range to pixels.
        metric: float64[node rows, node columns, 3], squared ground metres of a map metre east, the
            product of those east and north (0 where the CRS keeps angles), squared ones north.
    """

    nodes: NodeGrid
    coefficients: Floats
    middle_m: float
    half_m: float
    conversions: PixelConversions
    metric: Floats

    def scaled(self, heights_m: Heights) -> Heights:
        """Heights as the kernels take them."""
        return (heights_m - np.float32(self.middle_m)) / np.float32(self.half_m)

    @property
    def turn(self) -> float:
        """Sign of the Jacobian from (row, column) to (line, pixel) on level ground."""
        line, slant = (
            self.coefficients[..., kernels.LINE, 0],
            self.coefficients[..., kernels.SLANT, 0],
        )
        by_row = (line[-1, 0] - line[0, 0]), (slant[-1, 0] - slant[0, 0])
        by_column = (line[0, -1] - line[0, 0]), (slant[0, -1] - slant[0, 0])
        return float(np.sign(by_column[1] * by_row[0] - by_row[1] * by_column[0]))

    @property
    def looks(self) -> tuple[Floats, Floats, Floats]:
        """(east, north, up) parts[node rows, node columns] of the unit vector to the satellite."""
        up, east, north = (
            self.coefficients[..., q, 0] for q in (kernels.UP, kernels.EAST, kernels.NORTH)
        )
        return -east, -north, up

    def azimuth_spacing_m(self, pixels: Floats) -> Floats:
        """Distance between lines on level ground at pixels[...].

        The annotated spacing of a GRD is nominal: 10 m stand for 10.15, and flattened images were
        0.07 dB too dark with it. This is the ground that the nodes say a line covers.
        """
        line, slant = (self.coefficients[..., q, 0] for q in (kernels.LINE, kernels.SLANT))
        (line_r, line_c), (slant_r, slant_c) = np.gradient(line), np.gradient(slant)
        # The step on the map, in cells, to the next line at the same slant range.
        cells = self.nodes.step / (line_c * slant_r - line_r * slant_c)
        east_m, north_m = (cells * part * self.nodes.grid.res_m for part in (slant_r, slant_c))
        east2, mixed, north2 = np.moveaxis(self.metric, -1, 0)
        spacing_m = np.sqrt(east2 * east_m**2 + 2 * mixed * east_m * north_m + north2 * north_m**2)
        slant_m = self.conversions.middle_m + slant * self.conversions.half_m
        at = self.conversions.pixels(line, slant_m)
        slope, start = np.polyfit(at.ravel(), spacing_m.ravel(), 1)
        return np.asarray(start + slope * pixels)

    def bounds(
        self, part: NodeGrid, low_m: float, high_m: float
    ) -> tuple[float, float, float, float]:
        """(first line, last line, first pixel, last pixel) of a part of it, between two heights."""
        row0 = part.row0 // part.step - self.nodes.row0 // part.step
        col0 = part.col0 // part.step - self.nodes.col0 // part.step
        nodes = self.coefficients[row0 : row0 + part.north_m.size, col0 : col0 + part.east_m.size]
        levels = (np.linspace(low_m, high_m, 3) - self.middle_m) / self.half_m
        line, slant = (
            nodes[..., q, :] @ np.vander(levels, 3, increasing=True).T
            for q in (kernels.LINE, kernels.SLANT)
        )
        slant_m = self.conversions.middle_m + slant * self.conversions.half_m
        pixel = self.conversions.pixels(line, slant_m)
        return float(line.min()), float(line.max()), float(pixel.min()), float(pixel.max())


def build(
    nodes: NodeGrid, annotation: Annotation, orbit: Orbit, low_m: float, high_m: float,
    *, nearest: bool = False,
) -> GeometryLattice:  # fmt: skip
    """Solve the geometry on nodes.

    Args:
        nodes: where.
        annotation: of the image.
        orbit: of the image.
        low_m: lowest height on the rectangle.
        high_m: highest.
        nearest: as in PixelConversions.

    Raises:
        SceneError: the orbit does not pass there.
    """
    middle, half = (low_m + high_m) / 2, max((high_m - low_m) / 2, _LEAST_HALF_M)
    solved = [_level(nodes, annotation, orbit, middle + k * half) for k in (-1, 0, 1)]
    levels = [quantities for quantities, _ in solved]
    below, at, above = levels
    quadratics = np.stack([at, (above - below) / 2, (above + below) / 2 - at], axis=-1)
    slant_m = np.stack(levels)[..., kernels.SLANT]
    lines = np.stack(levels)[..., kernels.LINE]
    conversions = geometry.pixel_conversions(
        annotation, slant_m.min() - _SLACK_M, slant_m.max() + _SLACK_M,
        (lines.min(), lines.max()), nearest=nearest,
    )  # fmt: skip
    quadratics[..., kernels.SLANT, 0] -= conversions.middle_m
    quadratics[..., kernels.SLANT, :] /= conversions.half_m
    return GeometryLattice(nodes, quadratics, middle, half, conversions, solved[1][1])


def _level(
    nodes: NodeGrid, annotation: Annotation, orbit: Orbit, height_m: float
) -> tuple[Floats, Floats]:
    """Quantities[node rows, node columns, 5] at a height, SLANT in metres; and the metric."""
    spacing_m = nodes.step * nodes.grid.res_m
    # A ring of nodes around, so that the tangents are central differences everywhere.
    east = np.pad(nodes.east_m, 1, "reflect", reflect_type="odd")
    north = np.pad(nodes.north_m, 1, "reflect", reflect_type="odd")
    lon, lat = transformer(nodes.grid.epsg, "EPSG:4326").transform(*np.meshgrid(east, north))
    places = geometry.to_earth_fixed(lon, lat, np.full(lon.shape, height_m))
    e = (places[1:-1, 2:] - places[1:-1, :-2]) / (2 * spacing_m)
    n = (places[:-2, 1:-1] - places[2:, 1:-1]) / (2 * spacing_m)
    u = geometry.normals(lon[1:-1, 1:-1], lat[1:-1, 1:-1])
    t_s, slant_m, look = geometry.look(orbit, places[1:-1, 1:-1])
    triples = [_triple(e, n, look), _triple(u, n, look), _triple(e, u, look)]
    quantities = np.stack([t_s / annotation.line_interval_s, slant_m, *triples], axis=-1)
    return quantities, np.stack([dot(e, e), dot(e, n), dot(n, n)], axis=-1)


def _triple(a: Floats, b: Floats, c: Floats) -> Floats:
    return np.asarray(np.einsum("...i,...i->...", np.cross(a, b), c))
