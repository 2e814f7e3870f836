"""A raster's grid as a value: CRS, resolution, origin and shape, and its zone-wide lattice."""

import math
from dataclasses import dataclass

from store.errors import SceneError


@dataclass(frozen=True)
class Lattice:
    """All pixels of one resolution in one CRS, over the whole plane.

    Pixel (row, col) covers x in [x0 + col*res, x0 + (col+1)*res) and y downwards from
    y0 - row*res, where 0 <= x0, y0 < res. Every Sentinel-2 tile of a UTM zone lies on the
    lattice with x0 = y0 = 0, so one index of a parcel's pixels serves all of them.

    Attributes:
        epsg: code of the projected CRS, metres.
        res_m: pixel size in metres.
        x0_m: offset of the pixel edges from multiples of res_m, eastwards, metres.
        y0_m: the same, northwards, metres.
    """

    epsg: int
    res_m: float
    x0_m: float = 0.0
    y0_m: float = 0.0

    @property
    def key(self) -> str:
        """Text that names the lattice and no other, fit for a file name."""
        return f"{self.epsg}_{self.res_m!r}m_{self.x0_m!r}_{self.y0_m!r}"


@dataclass(frozen=True)
class Extent:
    """Where a raster lies that does not say so itself.

    Attributes:
        epsg: code of the projected CRS, metres.
        west_m: x of its left edge, metres.
        south_m: y of its bottom edge, metres.
        east_m: x of its right edge, metres.
        north_m: y of its top edge, metres.
    """

    epsg: int
    west_m: float
    south_m: float
    east_m: float
    north_m: float


@dataclass(frozen=True)
class Grid:
    """A north-up raster of square pixels.

    Attributes:
        epsg: code of the projected CRS, metres.
        res_m: pixel size in metres.
        west_m: x of the left edge of column 0, metres.
        north_m: y of the top edge of row 0, metres.
        height_px: number of rows.
        width_px: number of columns.
    """

    epsg: int
    res_m: float
    west_m: float
    north_m: float
    height_px: int
    width_px: int

    @classmethod
    def from_transform(
        cls,
        epsg: int,
        transform: tuple[float, float, float, float, float, float],
        height_px: int,
        width_px: int,
    ) -> "Grid":
        """Build from an affine transform (a, b, c, d, e, f) as rasterio and STAC give it.

        Raises:
            SceneError: the raster is rotated, sheared, south-up or has oblong pixels.
        """
        a, b, c, d, e, f = transform
        if not all(map(math.isfinite, transform)):
            raise SceneError(f"its transform {transform} has parts that are no numbers")
        if b or d or a <= 0 or abs(a + e) > 1e-6 * a:
            raise SceneError(
                f"not a north-up raster of square pixels: transform {transform}; "
                "warp it (gdalwarp -tr 10 10)"
            )
        return cls(epsg, a, c, f, height_px, width_px)

    @classmethod
    def from_extent(cls, extent: Extent, height_px: int, width_px: int) -> "Grid":
        """Build from the corners of a raster and its shape.

        Raises:
            SceneError: its pixels would not be square, or the corners are in another order.
        """
        across_m = (extent.east_m - extent.west_m) / width_px
        down_m = (extent.north_m - extent.south_m) / height_px
        transform = (across_m, 0.0, extent.west_m, 0.0, -down_m, extent.north_m)
        return cls.from_transform(extent.epsg, transform, height_px, width_px)

    @property
    def lattice(self) -> Lattice:
        """The lattice whose pixels are this grid's, origins rounded to the millimetre."""
        x0 = round(self.west_m % self.res_m, 3) % self.res_m
        y0 = round(self.north_m % self.res_m, 3) % self.res_m
        return Lattice(self.epsg, self.res_m, x0, y0)

    @property
    def offset(self) -> tuple[int, int]:
        """Lattice (row, col) of this grid's pixel (0, 0)."""
        lattice = self.lattice
        return (
            round((lattice.y0_m - self.north_m) / self.res_m),
            round((self.west_m - lattice.x0_m) / self.res_m),
        )

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """(west, south, east, north) in metres."""
        return (
            self.west_m,
            self.north_m - self.height_px * self.res_m,
            self.west_m + self.width_px * self.res_m,
            self.north_m,
        )
