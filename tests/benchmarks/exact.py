"""exactextract's way: weights by covered area, the peer that is compiled."""

from collections.abc import Mapping
from typing import Any

from exactextract import exact_extract  # type: ignore[import-untyped]
from exactextract.raster import NumPyRasterSource  # type: ignore[import-untyped]
from numpy.typing import NDArray

from store.grid import Grid

OPS = [
    "count",
    "mean",
    "stdev",
    "min",
    "max",
    "quantile(q=0.25)",
    "quantile(q=0.5)",
    "quantile(q=0.75)",
]
STRATEGIES = ("feature-sequential", "raster-sequential")


def statistics(
    collection: dict[str, Any], bands: Mapping[str, NDArray[Any]], grid: Grid, strategy: str
) -> Any:
    """The same eight statistics of all parcels, over one or several bands of one grid.

    Args:
        collection: GeoJSON features.
        bands: pixels by name, (row, col), 0 is nodata.
        grid: of all of them.
        strategy: one of STRATEGIES.
    """
    west, south, east, north = grid.bounds_m
    sources = [
        NumPyRasterSource(
            pixels,
            xmin=west,
            ymin=south,
            xmax=east,
            ymax=north,
            nodata=pixels.dtype.type(0),
            name=name,
        )
        for name, pixels in bands.items()
    ]
    return exact_extract(
        sources,
        collection["features"],
        OPS,
        strategy=strategy,
        output="pandas",
        include_cols=["pid"],
    )
